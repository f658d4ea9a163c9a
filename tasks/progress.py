"""How far a run is, and what its parts left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed.scheduler import KilledWorker

from headwater.infra.errors import HeadwaterError, PartFailed, WorkerLost
from headwater.infra.models import PartReceipt

if TYPE_CHECKING:
    from distributed import Client

MAX_TRIES = 3
"""Tries of one part, where an error says that a later one may succeed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; all but ``retries`` counts what earlier attempts had done, too."""

    parts: int
    parts_done: int
    rows_in: int
    rows_out: int
    retries: int
    store_retries: int = 0


@dataclass(frozen=True, slots=True)
class Processed:
    """All parts of a run, done.

    Attributes:
        resumed: Parts that an earlier attempt had finished.
        retries: Parts tried again after an error, and workers lost with something of use on them.
    """

    receipts: tuple[PartReceipt, ...]
    resumed: int
    retries: int


class Tally:
    """The receipts of a run's parts as they come in.

    Args:
        parts: How many there will be.
        finished: Receipts of an earlier attempt.
        on_progress: Called in the calling thread, whenever there is news.
    """

    def __init__(
        self,
        parts: int,
        finished: Mapping[int, PartReceipt],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.parts = parts
        self.retries = 0
        self.store_retries = 0
        """Of tries that failed, and of work that leaves no receipt."""
        self._receipts = dict(finished)
        self._resumed = len(finished)
        self._on_progress = on_progress

    def add(self, receipt: PartReceipt) -> None:
        """One more part is done."""
        self._receipts[receipt.index] = receipt
        self.tell()

    def tell(self) -> None:
        """Say how far the run is."""
        receipts = self._receipts.values()
        self._on_progress(
            Progress(
                self.parts,
                len(receipts),
                sum(r.rows_in for r in receipts),
                sum(r.rows_out for r in receipts),
                self.retries,
                self.store_retries + sum(r.store_retries for r in receipts),
            )
        )

    def processed(self) -> Processed:
        """What is there at the end."""
        receipts = tuple(self._receipts[index] for index in sorted(self._receipts))
        return Processed(receipts, self._resumed, self.retries)


def as_ours(exc: BaseException, what: str) -> HeadwaterError:
    """The error of ours that a task's error is.

    Args:
        what: Names the task, in messages.
    """
    if isinstance(exc, HeadwaterError):
        return exc
    if isinstance(exc, KilledWorker):
        return WorkerLost(
            f"{what}: its worker died {exc.allowed_failures + 1} times, probably for lack of"
            " memory",
            hint="give workers more memory or fewer threads in the cluster profile",
        )
    return PartFailed(
        f"{what} failed: {type(exc).__name__}: {exc}",
        hint="run the same command again: finished parts are taken up",
    )


class Losses:
    """Counts the workers that are lost with something of use on them, while it is open.

    The scheduler forgets tasks that are over, so that those cannot tell afterwards.
    """

    _TOPIC = "all"
    """Of what Dask's scheduler itself tells."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.count = 0

    def __enter__(self) -> Losses:
        self._client.subscribe_topic(self._TOPIC, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._TOPIC)

    def _notice(self, event: tuple[float, object]) -> None:
        match event[1]:
            case {"action": "remove-worker", "processing-tasks": busy, "lost-computed-tasks": had}:
                self.count += bool(busy or had)
