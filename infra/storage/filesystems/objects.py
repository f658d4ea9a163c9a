"""What the three object stores share: bounded tries, pinned cuts, one wording of each failure.

A store's own file gives a few coroutines, each one request for one exact key, and says what kind
of failure an error of its SDK is. All else is here once. The coroutines run on fsspec's loop, a
thread of its own, so any number of threads may call at the same time.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, StrEnum, auto
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

from headwater.infra.errors import (
    AccessDenied,
    HeadwaterError,
    InvalidUri,
    NotFound,
    SourceChanged,
    StorageError,
    StoreUnavailable,
    TargetExists,
)
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.descriptions import NOTHING, Description, Holds
from headwater.infra.storage.filesystems.streams import (
    PART_BYTES,
    FileReader,
    Reader,
    Stored,
    Stream,
    memory,
    together,
    wait_on,
    write_at,
)
from headwater.infra.storage.retries import count_retry
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

CUT_BYTES = 8 * MIB
"""Size of one request of a download; a cut that fails is asked for again, not the whole object."""

AT_ONCE = 4
"""Parts of one object that go up at a time; bounds the memory of a transfer."""

CUTS_OF_ONE = 32
"""Cuts of one object that come down at a time."""

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

T = TypeVar("T")


class Action(StrEnum):
    """What a call does, as messages say it."""

    STAT = "look up"
    LIST = "list"
    READ = "read"
    WRITE = "write"
    CREATE = "create"
    COPY = "copy to"
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

    holds: ClassVar[Holds]
    """What can be kept of an object beside its bytes."""

    page_size: int = 1000
    """Objects that one request lists."""

    max_parts: int = 9_000
    """S3 allows 10,000 parts of up to 5 GiB; larger objects get larger parts."""

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
    async def _get(
        self, uri: Uri, version: str, start: int, end: int | None
    ) -> tuple[bytes, Description | None]:
        """Bytes ``[start, end)`` of ``version``, or of whatever is there where it is empty.

        Beside them its description, where the answer tells it.
        """

    @abstractmethod
    async def _description(self, uri: Uri, version: str) -> Description:
        """What is kept beside the bytes of that version."""

    @abstractmethod
    async def _put(
        self,
        uri: Uri,
        data: bytes,
        *,
        writer: str,
        replacing: str | None,
        crc32c: int | None = None,
        description: Description = NOTHING,
    ) -> Stored:
        """Put one object in one request, with ``writer`` in its metadata.

        Args:
            replacing: See ``Filesystem.receive``.
            crc32c: Of ``data``; with it the store is asked to check what comes.
        """

    @abstractmethod
    async def _send(
        self, stream: Stream, uri: Uri, writer: str, replacing: str | None = None
    ) -> Stored:
        """Put a stream in parts; the store checks each where the stream is digested."""

    @abstractmethod
    async def _stated(self, uri: Uri, version: str) -> Stored:
        """What the store says of that version."""

    @abstractmethod
    async def _copy(self, ref: DataRef, uri: Uri, replacing: str | None) -> Stored:
        """Copy within the store."""

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
        get = partial(self._get, uri, ref.version, start, end)
        try:
            data, _ = self._run(Action.READ, uri, get)
        except BeyondEnd:
            return b""
        return data

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
        put = partial(self._put, uri.checked_for_write(), data, writer="", replacing=None)
        return self._run(Action.WRITE, uri, put).ref

    def create(self, uri: Uri, data: bytes) -> bool:
        """See ``Filesystem.create``."""
        writer = uuid.uuid4().hex
        put = partial(self._put, uri.checked_for_write(), data, writer=writer, replacing="")
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
                stream = Stream(FileReader(file.fileno()), size_bytes)
                self._wait(self._send(stream, uri, writer))
        stored = self.stat(uri)
        if stored.size_bytes != size_bytes:
            raise StorageError(
                f"{uri} holds {stored.size_bytes} bytes after {size_bytes} bytes of {path} were"
                " sent: another writer uses the same name, or the file changed on the way",
                hint="run it again",
            )
        return stored

    @contextmanager
    def reading(self, ref: DataRef) -> Iterator[Reader]:
        """See ``Filesystem.reading``."""
        yield _ObjectReader(self, ref)

    def cannot_hold(self, found: Description) -> Mapping[str, str]:
        """See ``Filesystem.cannot_hold``."""
        return self.holds.faults(found)

    def receive(self, stream: Stream, uri: Uri, *, replacing: str | None = None) -> Stored:
        """See ``Filesystem.receive``."""
        uri.checked_for_write()
        writer = uuid.uuid4().hex
        try:
            return self._wait(self._receive(stream, uri, writer, replacing))
        except AlreadyThere as exc:
            if not self._written_by(uri, writer):
                raise self._occupied(uri) from exc
            # The answer to a try was lost, and the next one found what it had put there.
            return self._run(Action.STAT, uri, partial(self._stated, uri, ""))

    def checksum(self, ref: DataRef) -> int | None:
        """See ``Filesystem.checksum``."""
        uri = Uri.parse(ref.uri)
        stated = self._run(Action.STAT, uri, partial(self._stated, uri, ref.version))
        if ref.version and stated.ref.version != ref.version:
            raise self._changed(uri)
        return stated.crc32c

    def copy(self, ref: DataRef, uri: Uri, *, replacing: str | None = None) -> Stored | None:
        """See ``Filesystem.copy``."""
        uri.checked_for_write()
        try:
            return self._wait(self._copy_over(ref, uri, replacing))
        except AlreadyThere as exc:
            self._verify(ref)  # both ends have a condition, and the answer does not say which
            raise self._occupied(uri) from exc

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
        return wait_on(self._loop, work)

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
            case Kind.CHANGED if action in (Action.WRITE, Action.CREATE, Action.COPY):
                return AlreadyThere(f"{uri} is another version")
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

    def _occupied(self, uri: Uri) -> TargetExists:
        return TargetExists(
            f"{uri} was written by another writer since it was looked at", hint="run it again"
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
        budget = memory()

        async def fetch() -> None:
            for start, end in left:
                async with budget.hold(end - start):
                    data, _ = await self._cut(uri, ref, start, end)
                    write_at(descriptor, data, start)

        await together(fetch() for _ in range(min(CUTS_OF_ONE, len(cuts))))

    async def _cut(
        self, uri: Uri, ref: DataRef, start: int, end: int
    ) -> tuple[bytes, Description | None]:
        """Exactly the bytes ``[start, end)`` of the pinned version, and what the answer tells."""
        get = partial(self._get, uri, ref.version, start, end)
        data, description = await self._tries(Action.READ, uri, get)
        if len(data) != end - start:
            raise StoreUnavailable(
                f"{safe_endpoint(self.endpoint)} sent {len(data)} of the bytes"
                f" {start} to {end} of {uri}",
                hint="try again later",
            )
        return data, description

    async def _receive(
        self, stream: Stream, uri: Uri, writer: str, replacing: str | None
    ) -> Stored:
        if stream.size_bytes > stream.part_bytes:
            await self._require_replaceable(uri, replacing)
            return await self._send(stream, uri, writer, replacing)
        async with memory().hold(stream.size_bytes):
            data = await stream.read(0, stream.size_bytes)
            put = partial(
                self._put,
                uri,
                data,
                writer=writer,
                replacing=replacing,
                crc32c=stream.crc32c,
                description=await stream.description(),
            )
            return await self._tries(writing(replacing), uri, put)

    async def _copy_over(self, ref: DataRef, uri: Uri, replacing: str | None) -> Stored:
        await self._require_replaceable(uri, replacing)
        return await self._copy(ref, uri, replacing)

    async def _require_replaceable(self, uri: Uri, replacing: str | None) -> None:
        """Refuse what the condition of the write would refuse, before much work is done for it.

        Of some stores that speak S3's protocol it is all there is.
        """
        if replacing is None:
            return
        try:
            found, _ = await self._tries(Action.STAT, uri, partial(self._head, uri))
        except NotFound:
            is_expected = not replacing
        else:
            is_expected = found.version == replacing
        if not is_expected:
            raise AlreadyThere(f"{uri} is another version")

    async def _parts(
        self, stream: Stream, uri: Uri, send: Callable[[int, bytes], Awaitable[T]]
    ) -> Sequence[T]:
        """The answers to ``send(number, data)`` for each part, in order; numbers start at 1."""
        part_bytes = bytes_of_part(stream.size_bytes, stream.part_bytes, self.max_parts)
        starts = range(0, stream.size_bytes, part_bytes)
        numbered = iter(enumerate(starts, 1))
        answers: dict[int, T] = {}

        async def parts() -> None:
            for number, start in numbered:
                end = min(start + part_bytes, stream.size_bytes)
                # Taken in order, so that a part never waits for one that waits for memory.
                async with memory().hold(end - start):
                    data = await stream.read(start, end)
                    put = partial(send, number, data)
                    answers[number] = await self._tries(Action.WRITE, uri, put)

        await together(parts() for _ in range(AT_ONCE))
        return [answers[number] for number, _ in enumerate(starts, 1)]


class _ObjectReader:
    """Reads one pinned version of an object."""

    def __init__(self, store: ObjectStore, ref: DataRef) -> None:
        self._store = store
        self._ref = ref
        self._uri = Uri.parse(ref.uri)
        self._description: Description | None = None

    async def __call__(self, start: int, end: int) -> bytes:
        """See ``Reader``."""
        store, uri = self._store, self._uri
        if start < end:
            data, said = await store._cut(uri, self._ref, start, end)
            self._description = said or self._description
            return data
        found, _ = await store._tries(Action.STAT, uri, partial(store._head, uri))
        if found.version != self._ref.version:
            raise store._changed(uri)
        return b""

    async def description(self) -> Description:
        """See ``Reader``."""
        if self._description is None:
            ask = partial(self._store._description, self._uri, self._ref.version)
            self._description = await self._store._tries(Action.STAT, self._uri, ask)
        return self._description


def bytes_of_part(size_bytes: int, part_bytes: int, max_parts: int) -> int:
    """How large the parts of an object are: ``part_bytes``, or whole MiB that suffice.

    Examples:
        >>> bytes_of_part(10**12, 16 * MIB, 9_000) // MIB
        106
        >>> bytes_of_part(17 * MIB, 16 * MIB, 9_000) // MIB
        16
    """
    return max(part_bytes, -(-size_bytes // (max_parts * MIB)) * MIB)


def writing(replacing: str | None) -> Action:
    """What a write is called that may, or may not, take the place of something."""
    return Action.CREATE if replacing == "" else Action.WRITE


def _cuts(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges in pieces of ``CUT_BYTES`` at most."""
    for first, last in ranges:
        for start in range(first, last, CUT_BYTES):
            yield start, min(start + CUT_BYTES, last)


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
