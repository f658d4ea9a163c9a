"""Stops a run whose parts are threads of this process before it has taken the machine's memory.

On worker processes each worker is ended alone when it takes too much, and the driver says so. In
process the kernel would end the driver and all that it has to say. So a thread looks at this
process's memory while a run is under way:

- from ``TIGHT_SHARE`` of the bound on, a part begins only when no other one is under way;
- at the bound the run fails, names the parts that were under way, and Polars is stopped as by a
  Ctrl-C. What finished parts have left stays taken up.

Polars stops between two batches of rows, so the bound holds for what grows with the rows, give or
take the batches under way: a sort that was stopped at 1.25 GiB ended at 1.7. What one expression
allocates at one go, or code of the user's own, is not stopped; worker processes are.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from headwater.infra.errors import MemoryExhausted
from headwater.infra.models import Candidate
from headwater.infra.units import GIB, human_bytes

if TYPE_CHECKING:
    from distributed import Client

TIGHT_SHARE = 0.8
"""Of the bound: from here on parts are done one after another."""

POLL_SECONDS = 0.05
"""Between two looks at the memory; a look takes some 20 microseconds."""

SIGNAL_SECONDS = 1.0
"""How long the signal that stops Polars may take to reach the main thread."""


@contextmanager
def memory_guard(client: Client, candidate: Candidate) -> Iterator[None]:
    """In the block, work of ``client`` in this process is stopped at the candidate's bound.

    Raises:
        MemoryExhausted: The bound was reached; the parts that were under way are named.
    """
    if candidate.processes or not candidate.process_memory_gib:
        yield
        return
    guard = _Guard(client, int(candidate.process_memory_gib * GIB))
    _watching.append(guard)
    guard.start()
    try:
        yield
    except BaseException as exc:
        guard.stop(was_interrupted=_came_of_interrupt(exc))
        if guard.error is not None:
            raise guard.error from exc
        raise
    else:
        guard.stop(was_interrupted=False)  # all was done before the bound could stop it
    finally:
        _watching.remove(guard)


@contextmanager
def under_way(name: str) -> Iterator[None]:
    """In the block the part ``name`` is under way; it begins when there is room for it.

    Raises:
        MemoryExhausted: The run was stopped while the part waited.
    """
    while not _begin(name):
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        with _lock:
            _names.remove(name)


def _begin(name: str) -> bool:
    with _lock:
        for guard in _watching:
            if guard.error is not None:
                raise guard.error
            if _names and guard.is_tight():
                return False
        _names.append(name)
        return True


_lock = threading.Lock()
_names: list[str] = []
"""Parts that are under way in this process."""

_watching: list[_Guard] = []
"""The guard of each run in this process."""


class _Guard:
    """Looks at this process's memory in a thread of its own, and stops the run at the bound."""

    def __init__(self, client: Client, limit_bytes: int) -> None:
        self.error: MemoryExhausted | None = None
        self._client = client
        self._limit_bytes = limit_bytes
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-guard", daemon=True)
        # In another thread than the main one, or where Ctrl-C is somebody else's, no signal can
        # be told from a person's.
        self._can_interrupt = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, was_interrupted: bool) -> None:
        """End the thread, and wait for a signal of its that is still on its way."""
        self._ended.set()
        try:
            self._thread.join()
            if self.error is not None and self._can_interrupt and not was_interrupted:
                time.sleep(SIGNAL_SECONDS)
        except KeyboardInterrupt:
            if self.error is None:
                raise

    def is_tight(self) -> bool:
        return self._used() > TIGHT_SHARE * self._limit_bytes

    def _used(self) -> int:
        return int(self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            used = self._used()
            if used > self._limit_bytes:
                self.error = self._exhausted(used)
                self._stop_work()
                return

    def _exhausted(self, used: int) -> MemoryExhausted:
        with _lock:
            parts = ", ".join(_names[:3]) or "the job"
            more = f" and {len(_names) - 3} more" if len(_names) > 3 else ""
        return MemoryExhausted(
            f"this process has {human_bytes(used)} in memory and may have"
            f" {human_bytes(self._limit_bytes)}; under way: {parts}{more}",
            hint="in the cluster profile set threads_per_worker = 1, or a smaller"
            " memory_gib_per_worker for smaller parts, or processes = true; finished parts are"
            " taken up",
        )

    def _stop_work(self) -> None:
        if self._can_interrupt:
            main = threading.main_thread().ident
            if main is not None:
                signal.pthread_kill(main, signal.SIGINT)
        else:
            self._client.cancel(list(self._client.futures))


def _came_of_interrupt(exc: BaseException) -> bool:
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__context__
    return False
