"""What an emulated cloud is told to do wrong or late, what it was asked, and what is due when."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

_ZONE = re.compile("[a-z]|-[a-z0-9]")
"""What follows a region in the name of one of its zones."""


class Refused(Exception):
    """A call that the cloud does not carry out, with the code and the HTTP status it gives.

    Attributes:
        retry_after_seconds: Sent as a header, where the cloud names one.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Call:
    """One call that came, whether it was carried out or not.

    Attributes:
        where: Zone or region; empty for one that belongs to neither.
    """

    operation: str
    where: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class Fault:
    """What a test wants to go wrong.

    Attributes:
        left: How many more times; None is always.
        late: The call is accepted, and its operation fails.
        is_lost: The call is carried out, and its answer does not arrive.
    """

    code: str
    where: str
    left: int | None
    late: bool
    message: str
    status: int | None
    retry_after_seconds: int | None
    is_lost: bool = False

    @property
    def is_refused(self) -> bool:
        """Nothing is carried out."""
        return not self.late and not self.is_lost

    def refusal(self, statuses: Mapping[str, int], default: int) -> Refused:
        """The error that the cloud gives for it."""
        status = self.status or statuses.get(self.code, default)
        return Refused(
            status, self.code, self.message, retry_after_seconds=self.retry_after_seconds
        )


@dataclass
class Script:
    """What goes wrong in one cloud, and the calls that came.

    Args:
        operations: All that the cloud knows; a script for another one is an error.

    Attributes:
        asked: Every call so far, in order.
    """

    operations: Collection[str]
    asked: list[Call] = field(default_factory=list)
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _delays: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def calls(self) -> Counter[str]:
        """How often each operation was asked for."""
        return Counter(call.operation for call in list(self.asked))

    def fail(
        self,
        operation: str,
        code: str,
        *,
        times: int | None = 1,
        where: str = "",
        late: bool = False,
        message: str = "",
        status: int | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        """Refuse the next ``times`` calls of ``operation`` with the cloud's ``code``.

        Args:
            times: None for every call from now on.
            where: Only in this zone, or in this region and its zones.
            late: The call is accepted, and its operation fails.
            status: Another HTTP status than the cloud's own for this code.
        """
        self._check(operation)
        text = message or f"{code}: as the test's script says"
        fault = Fault(code, where, times, late, text, status, retry_after_seconds)
        with self._lock:
            self._faults.setdefault(operation, []).append(fault)

    def lose(self, operation: str, *, times: int | None = 1, where: str = "") -> None:
        """Carry out the next ``times`` calls of ``operation``, and cut off their answers."""
        self._check(operation)
        fault = Fault("", where, times, False, "", None, None, is_lost=True)
        with self._lock:
            self._faults.setdefault(operation, []).append(fault)

    def delay(self, operation: str, seconds: float, *, where: str = "") -> None:
        """Let every ``operation`` from now on take ``seconds``; the last word counts."""
        self._check(operation)
        with self._lock:
            self._delays.setdefault(operation, []).insert(0, (where, seconds))

    def enter(self, operation: str, where: str, body: Mapping[str, Any]) -> Fault | None:
        """Count a call, and take the fault that it meets."""
        with self._lock:
            self.asked.append(Call(operation, where, body))
            for fault in self._faults.get(operation, []):
                if lies_in(where, fault.where) and fault.left != 0:
                    if fault.left is not None:
                        fault.left -= 1
                    return fault
        return None

    def seconds(self, operation: str, where: str) -> float:
        """How long ``operation`` takes there; 0 where no script says."""
        with self._lock:
            delays = self._delays.get(operation, [])
            return next((seconds for place, seconds in delays if lies_in(where, place)), 0.0)

    def _check(self, operation: str) -> None:
        if operation not in self.operations:
            known = ", ".join(sorted(self.operations))
            raise ValueError(f"no operation '{operation}' in this cloud; known: {known}")


def lies_in(where: str, place: str) -> bool:
    """Whether ``where`` is ``place`` or a zone of it: us-east-1a, us-central1-a, eastus-1."""
    if not place or where == place:
        return True
    return where.startswith(place) and bool(_ZONE.fullmatch(where.removeprefix(place)))


class Timeline:
    """What a cloud still has to do: done when it is due and somebody looks, in order."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, seconds: float, effect: Callable[[], None]) -> None:
        """Do ``effect`` in ``seconds``, or now where there are none to wait."""
        if seconds <= 0:
            effect()
            return
        self._number += 1
        self._due.append((time.monotonic() + seconds, self._number, effect))

    def settle(self) -> None:
        """Do all that is due by now, and what that makes due."""
        while ready := sorted(item for item in self._due if item[0] <= time.monotonic()):
            self._due.remove(ready[0])
            ready[0][2]()
