"""Looks for a machine in one place after the other, and keeps what each said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headwater.infra.clusters.blueprint import Place
from headwater.infra.errors import LaunchError, NoCapacity, QuotaExceeded
from headwater.infra.launchers.base import Node
from headwater.infra.models import LaunchTry

EMPTY_SECONDS = 300.0
"""How long a place that had nothing is left out while others are not tried: clouds' capacity
changes in minutes, and each try takes seconds."""


@dataclass
class Walk:
    """One cluster's tries, shared by its nodes, which are launched together.

    Attributes:
        tries: Each try so far, in the order in which they ended.
    """

    tries: list[LaunchTry] = field(default_factory=list)
    _empty: dict[str, tuple[float, LaunchError]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def launch(self, launch_in: Callable[[Place], Node], places: Sequence[Place]) -> Node:
        """A machine in the first of ``places`` that has one.

        Args:
            launch_in: Makes the machine in a place.
        Raises:
            NoCapacity: None has one; the message tells what each said.
            LaunchError: One refused in a way that other places would, too.
        """
        said: dict[str, LaunchError] = {}
        for place in places:
            refused = self._refused(place)
            if refused is None:
                begun = time.perf_counter()
                try:
                    node = launch_in(place)
                except LaunchError as exc:
                    self._keep(place, time.perf_counter() - begun, exc)
                    if exc.retry != "elsewhere":
                        raise
                    refused = exc
                else:
                    self._keep(place, time.perf_counter() - begun, None)
                    return node
            said[str(place)] = refused
        reasons = "; ".join(f"{place}: {exc.message}" for place, exc in said.items())
        quotas = [exc for exc in said.values() if isinstance(exc, QuotaExceeded)]
        raise NoCapacity(
            f"no place has a machine ({reasons or 'the plan names none'})",
            hint=quotas[0].hint if quotas else "allow more regions, instance types or markets",
        )

    def _refused(self, place: Place) -> LaunchError | None:
        """What the place said a short while ago, or what its whole region did."""
        with self._lock:
            for key in (_key(place), _region(place)):
                since, exc = self._empty.get(key, (0.0, None))
                if exc is not None and time.monotonic() - since < EMPTY_SECONDS:
                    return exc
        return None

    def _keep(self, place: Place, seconds: float, exc: LaunchError | None) -> None:
        with self._lock:
            if exc is None:
                self.tries.append(LaunchTry(str(place), "opened", seconds))
                return
            self.tries.append(LaunchTry(str(place), "failed", seconds, exc.message))
            # A quota is the region's; what is free is the zone's.
            key = _region(place) if isinstance(exc, QuotaExceeded) else _key(place)
            self._empty[key] = (time.monotonic(), exc)


def _key(place: Place) -> str:
    return str(place)


def _region(place: Place) -> str:
    return f"all of {place.region} {place.market}"
