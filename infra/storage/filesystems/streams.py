"""What goes from one place to another: read in pieces, digested on the way, in bounded memory.

All of it runs on fsspec's loop, which the clients of all stores share, so that the bytes of one
store are handed to another without a copy and without a thread for each request.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import google_crc32c

from headwater.infra.errors import StorageError
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.descriptions import Description
from headwater.infra.units import KIB, MIB

PART_BYTES = 16 * MIB
"""Size of a part where nothing else is said."""

UNDER_WAY_BYTES = 128 * MIB
"""What all pieces that this process has under way may hold; bounds its memory."""

AHEAD = 4
"""Pieces that are read before they are asked for, where a store takes them one after another."""

INLINE_BYTES = 256 * KIB
"""Up to this size a digest takes less time than handing it to a thread."""

CLEAN_UP_SECONDS = 5.0
"""How long the end of an upload that is stopped may take."""

T = TypeVar("T")


class Reader(Protocol):
    """Gives pieces of one pinned version; awaited on fsspec's loop."""

    async def __call__(self, start: int, end: int) -> bytes:
        """Bytes ``[start, end)``."""
        ...

    async def description(self) -> Description:
        """What its store keeps beside the bytes; after a first piece it often costs no call."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as its store has it.

    Attributes:
        crc32c: Of its bytes: computed by the store, or of pieces each of which the store compared
            with a checksum as it came. ``None`` where the store vouches for nothing.
    """

    ref: DataRef
    crc32c: int | None = None


class Stream:
    """The bytes of an object on their way.

    Args:
        read: Gives any piece, and gives it again where a store has lost it.
        part_bytes: Objects above this size go up in parts, of this size where a store takes as
            many.
    """

    def __init__(self, read: Reader, size_bytes: int, part_bytes: int = PART_BYTES) -> None:
        self._read = read
        self.size_bytes = size_bytes
        self.part_bytes = part_bytes

    @property
    def crc32c(self) -> int | None:
        """Of all bytes, after the last was read; ``None`` where none is computed."""
        return None

    async def description(self) -> Description:
        """What the object is to be called beside its bytes."""
        return await self._read.description()

    async def read(self, start: int, end: int) -> bytes:
        """Bytes ``[start, end)``."""
        data = await self._read(start, end)
        if len(data) != end - start:
            raise StorageError(
                f"{len(data)} of the bytes {start} to {end} could be read", hint="run it again"
            )
        return data


class DigestedStream(Stream):
    """A stream that is digested in the order of its bytes, whatever order they are read in.

    A piece is handed on when all before it have been digested, so they have to be read as well.

    Args:
        on_bytes: Called with the size of each piece that is digested.
    """

    def __init__(
        self,
        read: Reader,
        size_bytes: int,
        part_bytes: int = PART_BYTES,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(read, size_bytes, part_bytes)
        self._crc32c = 0
        self._sha256 = hashlib.sha256()
        self._end = 0
        self._turn = asyncio.Condition()
        self._on_bytes = on_bytes

    @property
    def crc32c(self) -> int:
        """Of what was digested so far."""
        return self._crc32c

    @property
    def sha256(self) -> str:
        """Of what was digested so far, in hexadecimal digits."""
        return self._sha256.hexdigest()

    async def read(self, start: int, end: int) -> bytes:
        """Bytes ``[start, end)``."""
        data = await super().read(start, end)
        async with self._turn:
            await self._turn.wait_for(lambda: self._end >= start)
            new = data if self._end == start else data[self._end - start :]
            if new:
                if len(new) <= INLINE_BYTES:
                    self._digest(new)
                else:
                    await asyncio.to_thread(self._digest, new)
                self._end += len(new)
                self._turn.notify_all()
                self._on_bytes(len(new))
        return data

    def _digest(self, data: bytes) -> None:
        self._crc32c = google_crc32c.extend(self._crc32c, data)
        self._sha256.update(data)


def crc32c_of(data: bytes) -> int:
    """CRC32C of ``data``."""
    return int(google_crc32c.value(data))


class FileReader:
    """Reads an open file; a file has no description."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __call__(self, start: int, end: int) -> bytes:
        """See ``Reader``."""
        return await asyncio.to_thread(self._read, start, end)

    async def description(self) -> Description:
        """See ``Reader``."""
        return Description()

    def _read(self, start: int, end: int) -> bytes:
        pieces = []
        while start < end and (piece := os.pread(self._descriptor, end - start, start)):
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_at(descriptor: int, data: bytes, start: int) -> None:
    """Write all of ``data`` into an open file, from ``start`` on."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, start)
        view, start = view[written:], start + written


async def in_order(stream: Stream, start: int = 0) -> AsyncGenerator[bytes]:
    """The parts from ``start`` on, one after another; some are read ahead."""
    starts = iter(range(start, stream.size_bytes, stream.part_bytes))
    coming: deque[asyncio.Task[bytes]] = deque()
    held: deque[int] = deque()

    async def read(start: int, end: int) -> bytes:
        await memory().take(end - start)
        held.append(end - start)
        return await stream.read(start, end)

    def go_on() -> None:
        for start in starts:
            end = min(start + stream.part_bytes, stream.size_bytes)
            coming.append(asyncio.ensure_future(read(start, end)))
            if len(coming) >= AHEAD:
                return

    try:
        go_on()
        while coming:
            yield await coming.popleft()
            memory().give(held.popleft())
            go_on()
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for size_bytes in held:
            memory().give(size_bytes)


async def drain(stream: Stream) -> None:
    """Read all of it, for its digests."""
    async for _ in in_order(stream):
        pass


async def together(works: Iterable[Coroutine[object, object, None]]) -> None:
    """Run all; the first error stops the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Stopped(Exception):
    """Work was ended by its ``Stopper``; no result of it is of use."""


class Stopper:
    """Ends what other threads wait for, so that a pool of them is left at once.

    Example:
        >>> stopper = Stopper()
        >>> stopper.stop()
        >>> with stopper.stopping():
        ...     pass
        Traceback (most recent call last):
        headwater.infra.storage.filesystems.streams.Stopped
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self._is_stopped = False

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """In the block, what this thread waits for ends with ``Stopped`` after ``stop``."""
        if self._is_stopped:
            raise Stopped
        token = _STOPPER.set(self)
        try:
            yield
        finally:
            _STOPPER.reset(token)

    def stop(self) -> None:
        """End all that is waited for, and all that would be from now on."""
        with self._lock:
            self._is_stopped = True
            futures = tuple(self._futures)
        for future in futures:
            future.cancel()

    @contextmanager
    def watching(self, future: Future[Any]) -> Iterator[None]:
        """In the block, ``stop`` cancels ``future``."""
        with self._lock:
            self._futures.add(future)
            is_stopped = self._is_stopped
        if is_stopped:
            future.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._futures.discard(future)


_STOPPER: ContextVar[Stopper | None] = ContextVar("stopper", default=None)


def wait_on(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    """The result of ``work``, run on another thread's loop; cancelled when we are stopped.

    What is cancelled gets ``CLEAN_UP_SECONDS`` to remove what it has left.
    """
    is_over = threading.Event()

    async def tracked() -> T:
        try:
            return await work
        finally:
            is_over.set()

    future = asyncio.run_coroutine_threadsafe(tracked(), loop)
    stopper = _STOPPER.get()
    try:
        with nullcontext() if stopper is None else stopper.watching(future):
            return future.result()
    except BaseException as exc:
        if not future.done() or future.cancelled():
            future.cancel()
            is_over.wait(CLEAN_UP_SECONDS)
        if isinstance(exc, CancelledError):
            raise Stopped from exc
        raise


class Memory:
    """Bytes that all pieces under way may hold; who comes first is served first."""

    def __init__(self, free_bytes: int) -> None:
        self._all_bytes = self._free_bytes = free_bytes
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()

    async def take(self, size_bytes: int) -> None:
        """Wait until that much is free and take it; more than there is in all takes all."""
        wanted = min(size_bytes, self._all_bytes)
        async with self._turn:
            while self._free_bytes < wanted:
                self._given.clear()
                await self._given.wait()
            self._free_bytes -= wanted

    def give(self, size_bytes: int) -> None:
        """Give back what ``take`` of the same size has taken."""
        self._free_bytes += min(size_bytes, self._all_bytes)
        self._given.set()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold that much while the body runs."""
        await self.take(size_bytes)
        try:
            yield
        finally:
            self.give(size_bytes)


_MEMORY: WeakKeyDictionary[asyncio.AbstractEventLoop, Memory] = WeakKeyDictionary()


def memory() -> Memory:
    """What bounds the pieces of all objects; asked for on the loop, which the stores share."""
    loop = asyncio.get_running_loop()
    if loop not in _MEMORY:
        _MEMORY[loop] = Memory(UNDER_WAY_BYTES)
    return _MEMORY[loop]
