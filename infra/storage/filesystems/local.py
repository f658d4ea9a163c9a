"""Files of this machine, with the promises of an object store: whole objects, one winner."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from headwater.infra.errors import (
    AccessDenied,
    HeadwaterError,
    NotFound,
    SourceChanged,
    StorageError,
    TargetExists,
)
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.descriptions import Description
from headwater.infra.storage.filesystems.streams import (
    FileReader,
    Reader,
    Stored,
    Stream,
    memory,
    together,
    wait_on,
    write_at,
)
from headwater.infra.storage.uris import Scheme, Uri
from headwater.infra.units import MIB

TEMPORARY_PREFIX = ".headwater-tmp-"
"""Start of the names of files that are not whole yet; no listing shows them."""

COPY_BYTES = 8 * MIB
"""How much of a file is in memory while it is copied."""

WRITES_AT_ONCE = 8
"""Pieces of one object that come down to a file at a time."""


class Local:
    """The file system of this machine.

    The version of a file is its size, inode and modification time: it changes when the file is
    replaced, and when it is written in place (as fine as the clock of the file system is).
    """

    def __repr__(self) -> str:
        return "<Local>"

    def canonical(self, uri: Uri) -> Uri:
        """See ``Filesystem.canonical``; links are resolved, so that overlaps show."""
        kept = "/" if uri.is_folder_like and uri.key != "/" else ""
        return replace(uri, key=f"{uri.path.resolve()}{kept}")

    def stat(self, uri: Uri) -> DataRef:
        """See ``Filesystem.stat``."""
        with _ours("look up", uri):
            found = uri.path.stat()
        if uri.is_folder_like or not _is_file(found):
            raise NotFound(f"{uri.display} is a folder, not a file")
        return _ref(uri, found)

    def list(self, folder: Uri) -> Iterator[DataRef]:
        """See ``Filesystem.list``; links are followed, unless they lead to a folder above."""
        with _ours("list", folder):
            if not folder.path.is_dir():
                return
            above = frozenset({_identity(folder.path.stat())})
        yield from self._below(folder.path, above)

    def folders(self, folder: Uri) -> Sequence[str]:
        """See ``Filesystem.folders``; links are followed."""
        with _ours("list", folder):
            if not folder.path.is_dir():
                return ()
            with os.scandir(folder.path) as entries:
                return sorted((e.name for e in entries if e.is_dir()), key=lambda n: f"{n}/")

    def _below(self, folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[DataRef]:
        uri = Uri(Scheme.FILE, "", str(folder))
        with _ours("list", uri), os.scandir(folder) as entries:
            found = [(entry, entry.is_dir()) for entry in entries]
        # As keys are ordered: "a-b" comes before "a/b", since a folder's name ends in a slash.
        for entry, is_folder in sorted(found, key=lambda e: e[0].name + "/" * e[1]):
            if entry.name.startswith(TEMPORARY_PREFIX):
                continue
            below = Uri(Scheme.FILE, "", entry.path)
            try:
                with _ours("look up", below):
                    seen = entry.stat()
            except NotFound:
                if entry.is_symlink():  # it leads nowhere; all else was removed since we looked
                    raise
                continue
            if is_folder:
                if (identity := _identity(seen)) not in above:
                    yield from self._below(Path(entry.path), above | {identity})
            elif _is_file(seen):
                yield _ref(below, seen)

    def unfinished(self, folder: Uri) -> Iterator[DataRef]:
        """See ``Filesystem.unfinished``; links to folders are not followed."""
        with _ours("list", folder):
            for above, _, names in os.walk(folder.path):
                for name in sorted(names):
                    if name.startswith(TEMPORARY_PREFIX):
                        path = Path(above, name)
                        with suppress(FileNotFoundError):  # its writer has finished meanwhile
                            yield _ref(Uri(Scheme.FILE, "", str(path)), path.lstat())

    def discard(self, ref: DataRef) -> None:
        """See ``Filesystem.discard``."""
        self.delete(Uri.parse(ref.uri))

    def read(self, ref: DataRef, start: int = 0, end: int | None = None) -> bytes:
        """See ``Filesystem.read``."""
        uri = Uri.parse(ref.uri)
        with _ours("read", uri), _pinned(ref, uri) as file:
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def download(
        self, ref: DataRef, path: Path, ranges: Sequence[tuple[int, int]] | None = None
    ) -> None:
        """See ``Filesystem.download``."""
        uri = Uri.parse(ref.uri)
        with _ours("read", uri):
            try:
                with _pinned(ref, uri) as source, path.open("wb") as target:
                    if ranges is None:
                        shutil.copyfileobj(source, target, COPY_BYTES)
                    else:
                        _copy_ranges(source, target, ref.size_bytes, ranges)
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    def write(self, uri: Uri, data: bytes) -> DataRef:
        """See ``Filesystem.write``."""
        with _ours("write", uri), _temporary(uri) as path:
            path.write_bytes(data)
            found = path.stat()
            path.replace(uri.path)
        return _ref(uri, found)

    def create(self, uri: Uri, data: bytes) -> bool:
        """See ``Filesystem.create``.

        A whole file gets its name by a hard link, which fails where the name is taken. File
        systems without hard links are refused: there, neither this nor a commit is safe.
        """
        with _ours("create", uri), _temporary(uri) as path:
            path.write_bytes(data)
            try:
                os.link(path, uri.path)
            except FileExistsError:
                return False
        return True

    def upload(self, path: Path, uri: Uri) -> DataRef:
        """See ``Filesystem.upload``."""
        size_bytes = path.stat().st_size
        with _ours("write", uri), _temporary(uri) as copy:
            shutil.copyfile(path, copy)
            found = copy.stat()
            if found.st_size != size_bytes:
                raise StorageError(
                    f"{path} had {size_bytes} bytes, of which {found.st_size} were copied:"
                    " the file changed on the way",
                    hint="run it again",
                )
            copy.replace(uri.path)
        return _ref(uri, found)

    @contextmanager
    def reading(self, ref: DataRef) -> Iterator[Reader]:
        """See ``Filesystem.reading``; also that the file did not change is checked each time."""
        uri = Uri.parse(ref.uri)
        with _ours("read", uri), uri.path.open("rb") as file:
            yield _PinnedReader(file, ref)

    def receive(self, stream: Stream, uri: Uri, *, replacing: str | None = None) -> Stored:
        """See ``Filesystem.receive``."""
        from fsspec.asyn import get_loop  # 0.1 s, and most who use files need none

        with _ours("write", uri), _temporary(uri) as path:
            with path.open("wb", buffering=0) as file:
                wait_on(get_loop(), _fill(file, stream))
            found = path.stat()
            _publish(path, uri, replacing)
        return Stored(_ref(uri, found))

    def cannot_hold(self, found: Description) -> Mapping[str, str]:  # noqa: ARG002
        """See ``Filesystem.cannot_hold``; a file has no place for any of it."""
        return {}

    def checksum(self, ref: DataRef) -> None:
        """See ``Filesystem.checksum``."""

    def copy(self, ref: DataRef, uri: Uri, *, replacing: str | None = None) -> None:
        """See ``Filesystem.copy``."""

    def delete(self, uri: Uri) -> None:
        """See ``Filesystem.delete``."""
        with _ours("delete", uri):
            uri.path.unlink(missing_ok=True)

    def clock_offset_seconds(self, uri: Uri) -> float:  # noqa: ARG002
        """See ``Filesystem.clock_offset_seconds``."""
        return 0.0

    def delta_uri(self, uri: Uri) -> str:
        """See ``Filesystem.delta_uri``; a plain path, which needs no quoting."""
        return uri.key

    def delta_options(self, uri: Uri) -> dict[str, str]:  # noqa: ARG002
        """See ``Filesystem.delta_options``."""
        return {}


class _PinnedReader(FileReader):
    """Reads an open file, and checks each time that it is the pinned version."""

    def __init__(self, file: BinaryIO, ref: DataRef) -> None:
        super().__init__(file.fileno())
        self._ref = ref

    async def __call__(self, start: int, end: int) -> bytes:
        """See ``Reader``."""
        data = await super().__call__(start, end)
        uri = Uri.parse(self._ref.uri)
        _check(self._ref, _ref(uri, os.fstat(self._descriptor)), uri)
        return data


@contextmanager
def _ours(action: str, uri: Uri) -> Iterator[None]:
    """Turn errors of the operating system into ours."""
    try:
        yield
    except HeadwaterError:
        raise
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(f"no file {uri.display}") from exc
    except PermissionError as exc:
        if exc.errno == errno.EPERM and exc.filename2 is not None:
            raise StorageError(
                f"could not {action} {uri.display}: this file system has no hard links",
                hint="use a folder on another file system",
            ) from exc
        raise AccessDenied(
            f"not allowed to {action} {uri.display}",
            hint="check the owner and mode of the file and of the folders above it",
        ) from exc
    except IsADirectoryError as exc:
        raise StorageError(f"could not {action} {uri.display}: it is a folder") from exc
    except OSError as exc:
        raise StorageError(f"could not {action} {uri.display}: {exc.strerror}") from exc


@contextmanager
def _pinned(ref: DataRef, uri: Uri) -> Iterator[BinaryIO]:
    """The open file, checked to be the pinned version before and after."""
    with uri.path.open("rb") as file:
        _check(ref, _ref(uri, os.fstat(file.fileno())), uri)
        yield file
        _check(ref, _ref(uri, os.fstat(file.fileno())), uri)


def _copy_ranges(
    source: BinaryIO, target: BinaryIO, size_bytes: int, ranges: Sequence[tuple[int, int]]
) -> None:
    target.truncate(size_bytes)
    for start, end in ranges:
        source.seek(start)
        target.seek(start)
        for position in range(start, end, COPY_BYTES):
            data = source.read(min(COPY_BYTES, end - position))
            target.write(data)


async def _fill(file: BinaryIO, stream: Stream) -> None:
    starts = iter(range(0, stream.size_bytes, COPY_BYTES))

    async def write() -> None:
        for start in starts:
            end = min(start + COPY_BYTES, stream.size_bytes)
            async with memory().hold(end - start):
                data = await stream.read(start, end)
                await asyncio.to_thread(write_at, file.fileno(), data, start)

    if not stream.size_bytes:
        await stream.read(0, 0)
    await together(write() for _ in range(WRITES_AT_ONCE))


def _publish(path: Path, uri: Uri, replacing: str | None) -> None:
    """Give the whole file its name, if what it takes the place of is what is expected."""
    occupied = TargetExists(
        f"{uri.display} was written by another writer since it was looked at", hint="run it again"
    )
    if replacing is None:
        path.replace(uri.path)
    elif not replacing:
        try:
            os.link(path, uri.path)
        except FileExistsError:
            raise occupied from None
    elif _ref(uri, uri.path.stat()).version != replacing:
        raise occupied
    else:
        path.replace(uri.path)


def _check(pinned: DataRef, found: DataRef, uri: Uri) -> None:
    if pinned.version and found.version != pinned.version:
        raise SourceChanged(
            f"{uri.display} is no longer the version that was pinned when the run began",
            hint="run it again to take the new version",
        )


def draft_prefix(uri: Uri) -> str:
    """Start of the name of a file that will be ``uri``, up to the last dash, which follows."""
    return f"{TEMPORARY_PREFIX}{sha256(uri.name.encode()).hexdigest()[:12]}"


@contextmanager
def _temporary(uri: Uri) -> Iterator[Path]:
    """A new name in the folder of ``uri``, which is made; nothing is left under that name."""
    folder = uri.checked_for_write().path.parent
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{draft_prefix(uri)}-{uuid.uuid4().hex}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _ref(uri: Uri, found: os.stat_result) -> DataRef:
    version = f"{found.st_size}-{found.st_ino}-{found.st_mtime_ns}"
    return DataRef(str(uri), found.st_size, version, found.st_mtime)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)
