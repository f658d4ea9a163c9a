"""Counts the calls to stores that are made again, for the receipts of parts and runs.

A store's client calls ``count_retry`` wherever it tries a call once more; the innermost
``counting`` block of the thread that made the call gets it. Pools of threads inside such a block
come from ``threads``, since other pools do not know which block they work for.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock

from headwater.infra.errors import HeadwaterError


@dataclass(slots=True)
class StoreRetries:
    """How many calls were made again in one block.

    Attributes:
        count: So far; a call that needs three tries counts two.
    """

    count: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self) -> None:
        """One call more; any thread may say so."""
        with self._lock:
            self.count += 1


_current: ContextVar[StoreRetries | None] = ContextVar("store_retries", default=None)


@contextmanager
def counting() -> Iterator[StoreRetries]:
    """Counts the store calls that are made again in the block.

    An error of ours that leaves the block takes the count with it, as ``store_retries``, so that
    whoever tries the work again can add what the failed try had cost.

    Example:
        >>> with counting() as retries:
        ...     count_retry()
        >>> retries.count
        1
    """
    retries = StoreRetries()
    before = _current.set(retries)
    try:
        yield retries
    except HeadwaterError as exc:
        exc.store_retries += retries.count
        raise
    finally:
        _current.reset(before)


def count_retry() -> None:
    """A call to a store is made again; outside of every ``counting`` block nobody asks."""
    if (retries := _current.get()) is not None:
        retries.add()


def threads(workers: int) -> ThreadPoolExecutor:
    """A pool whose threads count where the calling thread does."""
    return ThreadPoolExecutor(workers, initializer=_current.set, initargs=(_current.get(),))
