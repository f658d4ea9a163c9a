"""What the three object stores share: bounded tries, pinned cuts, one wording of each failure.

A store's own file gives a few coroutines, each one request for one exact key, and says what kind
of failure an error of its SDK is. All else is here once. The coroutines run on fsspec's loop, a
thread of its own, so any number of threads may call at the same time.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, StrEnum, auto
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from headwater.infra.errors import (
    AccessDenied,
    HeadwaterError,
    InvalidUri,
    NotFound,
    SourceChanged,
    StorageError,
    StoreUnavailable,
)
from headwater.infra.models import DataRef
from headwater.infra.storage.retries import count_retry
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

CUT_BYTES = 8 * MIB
"""Size of one request of a download; a cut that fails is asked for again, not the whole object."""

PART_BYTES = 16 * MIB
"""Files above this size go up in parts of this size."""

MAX_PARTS = 9_000
"""S3 allows 10,000 parts; larger files get larger parts."""

AT_ONCE = 4
"""Parts of one object that go up at a time; bounds the memory of a transfer."""

CUTS_OF_ONE = 32
"""Cuts of one object that come down at a time."""

UNDER_WAY_BYTES = 128 * MIB
"""What all cuts that come down to this process at a time may hold; bounds its memory."""

CONNECT_SECONDS = 5.0
"""How long one try to connect may take; with ``CONNECT_TRIES`` a dead endpoint fails in 20 s."""

ANSWER_SECONDS = 30.0
"""How long a store may be silent in the middle of a call."""

SILENT = f"no byte of the answer in {ANSWER_SECONDS:.0f} s"
"""What is said of a store that is silent for longer."""

CONNECT_TRIES = 3
BUSY_TRIES = 16
"""A store that answers "later", or cuts its answers, gets more tries than one that is not there:
of calls that fail every second time, one in 65,000 fails for good, after about a minute."""

PAUSE_SECONDS = 0.1
"""Mean of the first pause between two tries; each further one is twice as long."""

MAX_PAUSE_SECONDS = 5.0

DELTA_SECONDS = 180.0
"""After this time deltalake makes no further try of one call."""

WRITER_KEY = "headwaterwriter"
"""Name of the metadata in which an object says which call wrote it."""

T = TypeVar("T")


class Action(StrEnum):
    """What a call does, as messages say it."""

    STAT = "look up"
    LIST = "list"
    READ = "read"
    WRITE = "write"
    CREATE = "create"
    DELETE = "delete"
    CLOCK = "ask for the time of"
    UPLOADS = "list unfinished uploads to"
    ABORT = "end an unfinished upload to"
    LOCATE = "ask for the region of"


class Kind(Enum):
    """What an error of an SDK means."""

    NO_BUCKET = auto()
    NO_KEY = auto()
    DENIED = auto()
    NO_CREDENTIALS = auto()
    EXPIRED = auto()
    CHANGED = auto()
    EXISTS = auto()
    BEYOND_END = auto()
    NO_CONNECTION = auto()
    BUSY = auto()
    INVALID = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """An SDK's error, classified.

    Attributes:
        said: What the store or its SDK said, without addresses and secrets.
    """

    kind: Kind
    said: str


@dataclass(frozen=True, slots=True)
class Home:
    """Where a bucket is, as its cloud says.

    Attributes:
        regions: One, or all in which a bucket of several regions keeps its objects.
        said_by: The call that told it, and what it said beside the regions.
    """

    regions: frozenset[str]
    said_by: str


class AlreadyThere(StorageError):
    """A conditional write found an object; it never leaves ``create``."""


class BeyondEnd(StorageError):
    """A range starts after the object's end; it never leaves ``read``."""


class ObjectStore(ABC):
    """A ``Filesystem`` over one store's exact-key requests."""

    credentials_looked_in: ClassVar[tuple[str, ...]]
    """Every place where credentials are looked for, in order."""

    page_size: int = 1000
    """Objects that one request lists."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seen_buckets: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {safe_endpoint(self.endpoint)}>"

    # What a store gives.

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Address of the store's API."""

    @abstractmethod
    def delta_uri(self, uri: Uri) -> str:
        """See ``Filesystem.delta_uri``."""

    @abstractmethod
    def delta_options(self, uri: Uri) -> dict[str, str]:
        """See ``Filesystem.delta_options``."""

    @abstractmethod
    def classify(self, error: Exception) -> Failure:
        """What ``error``, raised by the SDK, means."""

    @abstractmethod
    def right_to(self, action: Action, uri: Uri) -> str:
        """What has to be granted for ``action``, in the words of this cloud."""

    @abstractmethod
    async def _head(self, uri: Uri) -> tuple[DataRef, str]:
        """The object, and which call wrote it (empty where it does not say)."""

    @abstractmethod
    async def _page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[DataRef], str]:
        """Up to ``page_size`` objects, and the token of the next page or nothing."""

    @abstractmethod
    async def _folder_page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[str], str]:
        """Prefixes of the folders directly below ``prefix``, and the token of the next page."""

    @abstractmethod
    async def _is_clouds_own(self) -> bool:
        """Whether the endpoint is one of the cloud's own."""

    @abstractmethod
    async def _home(self, uri: Uri) -> Home:
        """Where the bucket is, asked from the cloud."""

    @abstractmethod
    async def _get(self, uri: Uri, version: str, start: int, end: int | None) -> bytes:
        """Bytes ``[start, end)`` of ``version``, or of whatever is there where it is empty."""

    @abstractmethod
    async def _put(self, uri: Uri, data: bytes, *, writer: str, only_new: bool) -> DataRef:
        """Put one object in one request, with ``writer`` in its metadata."""

    @abstractmethod
    async def _send(self, file: BinaryIO, size_bytes: int, uri: Uri, writer: str) -> None:
        """Put a file of more than ``PART_BYTES`` in parts."""

    @abstractmethod
    async def _remove(self, uri: Uri) -> None:
        """Remove one object."""

    @abstractmethod
    async def _date(self, uri: Uri) -> str:
        """The ``Date`` header of an answer about the bucket; ``NO_BUCKET`` where it is missing."""

    async def _renew(self) -> None:
        """Look for credentials again, after those at hand expired."""
        return

    # What all stores do alike.

    def canonical(self, uri: Uri) -> Uri:
        """See ``Filesystem.canonical``."""
        return uri

    def stat(self, uri: Uri) -> DataRef:
        """See ``Filesystem.stat``."""
        if uri.is_folder_like:
            raise NotFound(f"{uri} names a folder, not an object")
        ref, _ = self._run(Action.STAT, uri, partial(self._head, uri))
        return ref

    def list(self, folder: Uri) -> Iterator[DataRef]:
        """See ``Filesystem.list``."""
        prefix = folder.key if folder.is_folder_like else f"{folder.key}/"
        token = ""
        while True:
            refs, token = self._run(Action.LIST, folder, partial(self._page, folder, prefix, token))
            yield from (ref for ref in refs if not ref.uri.endswith("/"))
            if not token:
                return

    def folders(self, folder: Uri) -> Sequence[str]:
        """See ``Filesystem.folders``."""
        prefix = folder.key if folder.is_folder_like else f"{folder.key}/"
        found: list[str] = []
        token = ""
        while True:
            ask = partial(self._folder_page, folder, prefix, token)
            names, token = self._run(Action.LIST, folder, ask)
            found += [name.removeprefix(prefix).removesuffix("/") for name in names]
            if not token:
                return found

    def is_clouds_own(self, uri: Uri) -> bool:
        """Whether the endpoint is the cloud's own, and not another store's that speaks alike.

        Only then a bucket is where ``home`` says: any other store may answer as it likes.
        """
        return self._run(Action.LOCATE, uri, self._is_clouds_own)

    def home(self, uri: Uri) -> Home:
        """Where the bucket of ``uri`` is, asked from its cloud.

        Raises:
            AccessDenied: The call is refused; the message names what has to be granted.
            NotFound: The bucket does not exist.
            UnknownLocation: The answer names a group of regions that is not known.
        """
        return self._run(Action.LOCATE, uri, partial(self._home, uri))

    def read(self, ref: DataRef, start: int = 0, end: int | None = None) -> bytes:
        """See ``Filesystem.read``."""
        uri = Uri.parse(ref.uri)
        if ref.version:
            end = ref.size_bytes if end is None else min(end, ref.size_bytes)
            if start >= end:
                self._verify(ref)
                return b""
        elif end is not None and start >= end:
            return b""
        try:
            return self._run(Action.READ, uri, partial(self._get, uri, ref.version, start, end))
        except BeyondEnd:
            return b""

    def download(
        self, ref: DataRef, path: Path, ranges: Sequence[tuple[int, int]] | None = None
    ) -> None:
        """See ``Filesystem.download``."""
        uri = Uri.parse(ref.uri)
        if not ref.version:
            ref = self.stat(uri)
        cuts = list(_cuts(((0, ref.size_bytes),) if ranges is None else ranges))
        with removed_on_error(path), path.open("wb", buffering=0) as file:
            if not cuts:
                self._verify(ref)
            file.truncate(ref.size_bytes)
            self._wait(self._fetch(uri, ref, file.fileno(), cuts))

    def write(self, uri: Uri, data: bytes) -> DataRef:
        """See ``Filesystem.write``."""
        put = partial(self._put, uri.checked_for_write(), data, writer="", only_new=False)
        return self._run(Action.WRITE, uri, put)

    def create(self, uri: Uri, data: bytes) -> bool:
        """See ``Filesystem.create``."""
        writer = uuid.uuid4().hex
        put = partial(self._put, uri.checked_for_write(), data, writer=writer, only_new=True)
        try:
            self._run(Action.CREATE, uri, put)
        except AlreadyThere:
            return self._written_by(uri, writer)
        return True

    def upload(self, path: Path, uri: Uri) -> DataRef:
        """See ``Filesystem.upload``."""
        uri.checked_for_write()
        size_bytes = path.stat().st_size
        if size_bytes <= PART_BYTES:
            self.write(uri, path.read_bytes())
        else:
            writer = uuid.uuid4().hex
            with path.open("rb") as file:
                self._wait(self._send(file, size_bytes, uri, writer))
        stored = self.stat(uri)
        if stored.size_bytes != size_bytes:
            raise StorageError(
                f"{uri} holds {stored.size_bytes} bytes after {size_bytes} bytes of {path} were"
                " sent: another writer uses the same name, or the file changed on the way",
                hint="run it again",
            )
        return stored

    def delete(self, uri: Uri) -> None:
        """See ``Filesystem.delete``."""
        try:
            self._run(Action.DELETE, uri, partial(self._remove, uri))
        except NotFound:
            # Gone already is fine, but a bucket that does not exist is a mistake in the name.
            if uri.bucket not in self._seen_buckets:
                raise

    def unfinished(self, folder: Uri) -> Iterator[DataRef]:
        """See ``Filesystem.unfinished``; none where the store itself drops it after a while."""
        del folder
        return iter(())

    def discard(self, ref: DataRef) -> None:
        """See ``Filesystem.discard``."""
        del ref

    def clock_offset_seconds(self, uri: Uri) -> float:
        """See ``Filesystem.clock_offset_seconds``; right to about half a second."""
        asked = time.time()
        date = self._run(Action.CLOCK, uri, partial(self._date, uri))
        answered = time.time()
        # The header is cut to whole seconds, so on average the clock is half a second later.
        return _parsed_date(date).timestamp() + 0.5 - (asked + answered) / 2

    # Tries.

    def _run(self, action: Action, uri: Uri, request: Callable[[], Awaitable[T]]) -> T:
        return self._wait(self._tries(action, uri, request))

    def _wait(self, work: Coroutine[object, object, T]) -> T:
        """The result of ``work``, run on the store's loop; it is cancelled when we are stopped."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _tries(self, action: Action, uri: Uri, request: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``request``, asked again a bounded number of times where that may help."""
        tried, renewed = 0, False
        while True:
            tried += 1
            try:
                answer = await request()
            except HeadwaterError:
                raise
            except Exception as exc:
                failure = self.classify(exc)
                if failure.kind is Kind.EXPIRED and not renewed:
                    renewed = True
                    await self._renew()
                    continue
                if tried >= _tries_of(failure.kind):
                    raise await self._error(failure, action, uri, tried) from exc
            else:
                self._seen_buckets.add(uri.bucket)
                return answer
            count_retry()
            pause = min(PAUSE_SECONDS * 2 ** (tried - 1), MAX_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311

    async def _error(
        self, failure: Failure, action: Action, uri: Uri, tried: int
    ) -> HeadwaterError:
        """Our error for ``failure``."""
        said = f": {failure.said}" if failure.said else ""
        match failure.kind:
            case Kind.NO_KEY if await self._has_bucket(uri):
                return NotFound(f"no object {uri}")
            case Kind.NO_BUCKET | Kind.NO_KEY:
                return NotFound(
                    f"no bucket '{uri.bucket}' at {safe_endpoint(self.endpoint)}",
                    hint="check the name, and that the endpoint and account are the right ones",
                )
            case Kind.DENIED:
                return AccessDenied(
                    f"not allowed to {action} {uri}{said}",
                    hint=f"grant {self.right_to(action, uri)}, or use other credentials"
                    f" ({self._places()})",
                )
            case Kind.NO_CREDENTIALS:
                return AccessDenied(
                    f"no credentials to {action} {uri}{said}", hint=f"looked in {self._places()}"
                )
            case Kind.EXPIRED:
                return AccessDenied(
                    f"the credentials to {action} {uri} have expired{said}",
                    hint=f"renew them; looked in {self._places()}",
                )
            case Kind.CHANGED if await self._is_gone(uri):
                return NotFound(f"no object {uri}")
            case Kind.CHANGED:
                return self._changed(uri)
            case Kind.EXISTS:
                return AlreadyThere(f"{uri} exists")
            case Kind.BEYOND_END:
                return BeyondEnd(f"{uri} ends before that range")
            case Kind.NO_CONNECTION:
                return StoreUnavailable(
                    f"no answer from {safe_endpoint(self.endpoint)} to {action} {uri} after"
                    f" {tried} tries{said}",
                    hint="check the endpoint's address, the network and the proxy settings",
                )
            case Kind.BUSY:
                return StoreUnavailable(
                    f"{safe_endpoint(self.endpoint)} could not {action} {uri} in {tried}"
                    f" tries{said}",
                    hint="try again later",
                )
            case Kind.INVALID:
                return InvalidUri(f"{uri}{said}")
            case Kind.OTHER:
                return StorageError(f"could not {action} {uri}{said}")

    async def _has_bucket(self, uri: Uri) -> bool:
        """Whether the bucket exists, as far as we may know; asked once per bucket."""
        if uri.bucket not in self._seen_buckets:
            try:
                await self._date(uri)
            except Exception as exc:  # noqa: BLE001
                # Not allowed to ask, or no answer: it is not known to be missing.
                return self.classify(exc).kind not in (Kind.NO_BUCKET, Kind.NO_KEY)
            self._seen_buckets.add(uri.bucket)
        return True

    async def _is_gone(self, uri: Uri) -> bool:
        """Whether a condition failed because nothing is there, which some stores do not tell."""
        try:
            await self._head(uri)
        except Exception as exc:  # noqa: BLE001  # all else leaves the condition as the reason
            return self.classify(exc).kind is Kind.NO_KEY
        return False

    def _places(self) -> str:
        return ", ".join(self.credentials_looked_in)

    # Steps of the calls above.

    def _verify(self, ref: DataRef) -> None:
        uri = Uri.parse(ref.uri)
        if self.stat(uri).version != ref.version:
            raise self._changed(uri)

    def _changed(self, uri: Uri) -> SourceChanged:
        return SourceChanged(
            f"{uri} is no longer the version that was pinned when the run began",
            hint="run it again to take the new version",
        )

    def _written_by(self, uri: Uri, writer: str) -> bool:
        try:
            _, found = self._run(Action.STAT, uri, partial(self._head, uri))
        except NotFound:  # another caller won, and the object is already removed again
            return False
        return found == writer

    async def _fetch(
        self, uri: Uri, ref: DataRef, descriptor: int, cuts: Sequence[tuple[int, int]]
    ) -> None:
        left = iter(cuts)
        memory = _memory()

        async def fetch() -> None:
            for start, end in left:
                get = partial(self._get, uri, ref.version, start, end)
                async with memory.hold(end - start):
                    data = await self._tries(Action.READ, uri, get)
                    if len(data) != end - start:
                        raise StoreUnavailable(
                            f"{safe_endpoint(self.endpoint)} sent {len(data)} of the bytes"
                            f" {start} to {end} of {uri}",
                            hint="try again later",
                        )
                    _write_at(descriptor, data, start)

        await together(fetch() for _ in range(min(CUTS_OF_ONE, len(cuts))))

    async def _parts(
        self,
        file: BinaryIO,
        size_bytes: int,
        uri: Uri,
        send: Callable[[int, bytes], Awaitable[T]],
    ) -> Sequence[T]:
        """The answers to ``send(number, data)`` for each part, in order; numbers start at 1."""
        part_bytes = max(PART_BYTES, -(-size_bytes // MAX_PARTS))
        starts = range(0, size_bytes, part_bytes)
        numbered = iter(enumerate(starts, 1))
        answers: dict[int, T] = {}

        async def parts() -> None:
            for number, start in numbered:
                file.seek(start)
                data = file.read(min(part_bytes, size_bytes - start))
                put = partial(send, number, data)
                answers[number] = await self._tries(Action.WRITE, uri, put)

        await together(parts() for _ in range(AT_ONCE))
        return [answers[number] for number, _ in enumerate(starts, 1)]


def _cuts(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges in pieces of ``CUT_BYTES`` at most."""
    for first, last in ranges:
        for start in range(first, last, CUT_BYTES):
            yield start, min(start + CUT_BYTES, last)


class _Memory:
    """Bytes that all cuts under way may hold; who comes first is served first."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold that much, which is less than there is in all, while the body runs."""
        async with self._turn:
            while self._free_bytes < size_bytes:
                self._given.clear()
                await self._given.wait()
            self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_bytes += size_bytes
            self._given.set()


_MEMORY: WeakKeyDictionary[asyncio.AbstractEventLoop, _Memory] = WeakKeyDictionary()


def _memory() -> _Memory:
    """What bounds the cuts of all objects; asked for on the loop, which the stores share."""
    loop = asyncio.get_running_loop()
    if loop not in _MEMORY:
        _MEMORY[loop] = _Memory(UNDER_WAY_BYTES)
    return _MEMORY[loop]


def _write_at(descriptor: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, start)
        view, start = view[written:], start + written


def delta_tries() -> dict[str, str]:
    """Storage options with which deltalake tries a call that is refused as often as we do.

    It does so inside, where nobody can count. Polars takes other ones, so these are no part of
    ``delta_options``.
    """
    return {
        "max_retries": str(BUSY_TRIES - 1),
        "retry_timeout": f"{DELTA_SECONDS:.0f}s",
        "backoff_config.init_backoff": f"{PAUSE_SECONDS * 1000:.0f}ms",
        "backoff_config.max_backoff": f"{MAX_PAUSE_SECONDS * 1000:.0f}ms",
        "backoff_config.base": "2",
    }


async def together(works: Iterable[Coroutine[object, object, None]]) -> None:
    """Run all; the first error stops the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    """All chunks in one piece."""
    return b"".join([chunk async for chunk in chunks])


@contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """Remove the file at ``path`` if the body fails."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def safe_endpoint(url: str) -> str:
    """``url`` without user, password and query.

    Example:
        >>> safe_endpoint("https://user:secret@s3.example.org:9000/x?sig=1")
        'https://s3.example.org:9000/x'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _tries_of(kind: Kind) -> int:
    return {Kind.NO_CONNECTION: CONNECT_TRIES, Kind.BUSY: BUSY_TRIES}.get(kind, 1)


def _parsed_date(header: str) -> datetime:
    try:
        return parsedate_to_datetime(header)
    except ValueError as exc:
        raise StorageError(f"the store's answer has no usable date: '{header}'") from exc
