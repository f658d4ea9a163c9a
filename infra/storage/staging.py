"""Brings pinned inputs to local files, which every engine can scan.

Of a Parquet object only the columns and row groups that are asked for come, and what the format
needs around them, in concurrent cuts of the pinned version. They lie in a file of the object's
size at their own places; the rest of it is a hole. All else comes whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from headwater.infra.errors import DamagedFile, SourceChanged
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.retries import threads
from headwater.infra.storage.scratch import Claim, Room, disk_named
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

if TYPE_CHECKING:
    from headwater.infra.storage.layouts import Range

Codec = Literal["gzip", "zstd"]

CODECS: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed text, with Arrow's name of the codec."""

TEXT_SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".ndjson"})
"""Text that is decompressed here; Parquet compresses its own pages."""

PARQUET_SUFFIXES = frozenset({".parquet", ".parq", ".pq"})

CHUNK_BYTES = 4 * MIB
"""How much decompressed text is in memory at a time."""

SMALL_BYTES = 1 * MIB
"""A Parquet file up to this size comes whole: looking for what to leave out would take longer."""

WHOLE_SHARE = 0.8
"""Where more of a file than this is needed, all of it comes, in fewer and larger cuts."""

STAGERS = 8
"""Files that are brought together."""

ROOM = Room()
"""What staged files of this process share."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A local file with the bytes of an input.

    Attributes:
        path: Where it is; not to be changed, since it may be the input itself.
        bytes_read: What was taken from the store; of a local file, what is needed of it.
    """

    path: Path
    bytes_read: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of one input.

    Attributes:
        columns: Names of columns at the top; ``None`` is all.
        row_groups: Indexes of Parquet's row groups; ``None`` is all.
    """

    ref: DataRef
    columns: frozenset[str] | None = None
    row_groups: frozenset[int] | None = None

    @property
    def ranges(self) -> tuple[Range, ...] | None:
        """The bytes that hold it; ``None`` where the whole file should come."""
        if self.columns is None and self.row_groups is None:
            return None
        if not has_footer(self.ref):
            return None
        from headwater.infra.storage.footers import footer_of  # Arrow is long to import

        layout = footer_of(open_filesystem(Uri.parse(self.ref.uri)), self.ref).layout
        if layout is None:
            return None
        ranges = layout.ranges(self.columns, self.row_groups)
        return ranges if _sum(ranges) <= WHOLE_SHARE * self.ref.size_bytes else None


def has_footer(ref: DataRef) -> bool:
    """Whether it is a Parquet file that is large enough to ask what can be left out of it."""
    suffix = PurePosixPath(Uri.parse(ref.uri).name).suffix.lower()
    return suffix in PARQUET_SUFFIXES and ref.size_bytes > SMALL_BYTES


@contextmanager
def stage(
    ref: DataRef,
    columns: Collection[str] | None = None,
    *,
    directory: Path,
    row_groups: Collection[int] | None = None,
    room: Room = ROOM,
) -> Iterator[StagedFile]:
    """The input as a local file, for as long as the body runs.

    A local file is used where it lies, and is checked to be the pinned version before and after
    the body. Of a remote Parquet object what is needed is copied into ``directory``; another one
    whole. Compressed text is decompressed into ``directory``. The copies are removed on any exit.

    Args:
        ref: The pinned input.
        columns: What the body will read, or ``None`` for all. Other columns may be missing from
            the file: to read one fails.
        directory: Where copies go; it exists.
        row_groups: Indexes of Parquet's row groups that the body will read; ``None`` is all.
        room: Bounds what is on the disk.
    Raises:
        SourceChanged: The input is no longer the pinned version.
        DamagedFile: Compressed text that does not decompress to its end, or a broken footer.
        StoreUnavailable: The store does not answer, or the disk has too little room.
    """
    wanted = Wanted(
        ref,
        None if columns is None else frozenset(columns),
        None if row_groups is None else frozenset(row_groups),
    )
    with stage_all([wanted], directory=directory, room=room) as (staged,):
        yield staged


@contextmanager
def stage_all(
    wanted: Sequence[Wanted], *, directory: Path, room: Room = ROOM
) -> Iterator[list[StagedFile]]:
    """Each input as ``stage`` gives it, all brought together.

    Args:
        wanted: No two of one input.
    Raises:
        HeadwaterError: As ``stage`` does, for the first that failed; no copy is left.
    """
    with ExitStack() as leaving:
        with threads(max(1, min(STAGERS, len(wanted)))) as pool:
            ranges = list(pool.map(lambda one: one.ranges, wanted))
            plans = [
                _Plan(one.ref, found, one.ref.size_bytes if found is None else _sum(found))
                for one, found in zip(wanted, ranges, strict=True)
            ]
            size_bytes = sum(plan.copied_bytes for plan in plans)
            claim = leaving.enter_context(room.take(size_bytes, directory, _named(wanted)))
            managers = [_staged(plan, claim) for plan in plans]
            staged = list(pool.map(leaving.enter_context, managers))
        yield staged


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one input is brought.

    Attributes:
        ranges: What comes of it; ``None`` is all.
        size_bytes: How much that is.
    """

    ref: DataRef
    ranges: tuple[Range, ...] | None
    size_bytes: int

    @property
    def copied_bytes(self) -> int:
        """Room that it takes; text that is decompressed takes more."""
        return 0 if Uri.parse(self.ref.uri).is_local else self.size_bytes


@contextmanager
def _staged(plan: _Plan, claim: Claim) -> Iterator[StagedFile]:
    ref, directory = plan.ref, claim.directory
    uri = Uri.parse(ref.uri)
    with ExitStack() as leaving:
        with disk_named(uri.display, directory):
            if uri.is_local:
                path = uri.path
                _check(ref)
            else:
                path = leaving.enter_context(_new_file(directory, uri.name))
                claim.paths.append(path)
                open_filesystem(uri).download(ref, path, plan.ranges)
            staged = path
            if (text := _text_inside(uri.name)) is not None:
                staged = leaving.enter_context(_new_file(directory, text))
                claim.paths.append(staged)
                codec = CODECS[PurePosixPath(uri.name).suffix.lower()]
                _decompress(path, codec, staged, uri, claim)
                if not uri.is_local:
                    path.unlink()  # the disk need not hold both
        yield StagedFile(staged, plan.size_bytes)
        if uri.is_local:
            _check(ref)


def _sum(ranges: Sequence[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _named(wanted: Sequence[Wanted]) -> str:
    """The inputs as messages call them."""
    if not wanted:
        return "nothing"
    more = f" (and {len(wanted) - 1} more)" if len(wanted) > 1 else ""
    return f"{Uri.parse(wanted[0].ref.uri).display}{more}"


@contextmanager
def _new_file(directory: Path, name: str) -> Iterator[Path]:
    """A path nobody else uses, with the endings of ``name``; what is there is removed on exit."""
    path = directory / f"{uuid.uuid4().hex}{''.join(_endings(name))}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _endings(name: str) -> list[str]:
    """Of ``a.b.csv.gz`` the format's ending and the codec's: ``.csv``, ``.gz``."""
    suffixes = PurePosixPath(name).suffixes
    return suffixes[-2:] if suffixes and suffixes[-1].lower() in CODECS else suffixes[-1:]


def _text_inside(name: str) -> str | None:
    """The name of the text in a compressed file; ``None`` where ``name`` is no such file."""
    path = PurePosixPath(name)
    inside = PurePosixPath(path.stem)
    if path.suffix.lower() in CODECS and inside.suffix.lower() in TEXT_SUFFIXES:
        return inside.name
    return None


def _check(ref: DataRef) -> None:
    uri = Uri.parse(ref.uri)
    if ref.version and open_filesystem(uri).stat(uri).version != ref.version:
        raise SourceChanged(
            f"{uri.display} changed since it was pinned when the run began",
            hint="run it again to take the new version",
        )


def _decompress(source: Path, codec: Codec, target: Path, uri: Uri, claim: Claim) -> None:
    """Write the text inside ``source`` to ``target``; several members or frames are one text.

    Args:
        claim: Grows with the text.
    Raises:
        DamagedFile: Not of that codec, cut off, or followed by something else.
        StoreUnavailable: The text needs more room than there is.
    """
    import pyarrow as pa  # 0.2 s, and only compressed text needs it

    with source.open("rb") as file, target.open("wb") as text:
        try:
            if source.stat().st_size == 0:
                raise OSError("it has no bytes")
            with pa.CompressedInputStream(file, codec) as stream:
                for chunk in iter(partial(stream.read, CHUNK_BYTES), b""):
                    claim.grow(len(chunk))
                    text.write(chunk)
        except OSError as exc:
            if exc.errno is not None:  # from the disk, not from the codec
                raise
            raise DamagedFile(
                f"{uri.display} is not whole {codec} data: {exc}",
                hint="get the file again from where it was made",
            ) from exc
