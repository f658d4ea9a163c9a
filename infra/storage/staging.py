"""Brings a pinned input to a local file, which every engine can scan."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from headwater.infra.errors import DamagedFile, SourceChanged
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

Codec = Literal["gzip", "zstd"]

CODECS: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed text, with Arrow's name of the codec."""

TEXT_SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".ndjson"})
"""Text that is decompressed here; Parquet compresses its own pages."""

CHUNK_BYTES = 4 * MIB
"""How much decompressed text is in memory at a time."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A local file with the bytes of an input.

    Attributes:
        path: Where it is; not to be changed, since it may be the input itself.
        bytes_read: What was taken from the store; for a local file its size.
    """

    path: Path
    bytes_read: int


@contextmanager
def stage(
    ref: DataRef, columns: Collection[str] | None = None, *, directory: Path
) -> Iterator[StagedFile]:
    """The input as a local file, for as long as the body runs.

    A local file is used where it lies, and is checked to be the pinned version before and after
    the body. A remote object is copied whole into ``directory``. Compressed text is
    decompressed into ``directory``. The copies are removed on any exit.

    Args:
        ref: The pinned input.
        columns: What the body will read, or ``None`` for all. Whole objects are staged for now,
            so this only says what could be left out.
        directory: Where copies go; it exists.
    Raises:
        SourceChanged: The input is no longer the pinned version.
        DamagedFile: Compressed text that does not decompress to its end.
    """
    del columns
    uri = Uri.parse(ref.uri)
    store = open_filesystem(uri)
    with ExitStack() as leaving:
        if uri.is_local:
            path = uri.path
            _check(ref)
        else:
            path = leaving.enter_context(_new_file(directory, uri.name))
            store.download(ref, path)
        staged = path
        if (text := _text_inside(uri.name)) is not None:
            staged = leaving.enter_context(_new_file(directory, text))
            _decompress(path, CODECS[PurePosixPath(uri.name).suffix.lower()], staged, uri)
            if not uri.is_local:
                path.unlink()  # the disk need not hold both
        yield StagedFile(staged, ref.size_bytes)
        if uri.is_local:
            _check(ref)


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


def _decompress(source: Path, codec: Codec, target: Path, uri: Uri) -> None:
    """Write the text inside ``source`` to ``target``; several members or frames are one text.

    Raises:
        DamagedFile: Not of that codec, cut off, or followed by something else.
    """
    import pyarrow as pa  # 0.2 s, and only compressed text needs it

    with source.open("rb") as file, target.open("wb") as text:
        try:
            if source.stat().st_size == 0:
                raise OSError("it has no bytes")
            with pa.CompressedInputStream(file, codec) as stream:
                chunks = iter(partial(stream.read, CHUNK_BYTES), b"")
                text.writelines(chunks)
        except OSError as exc:
            if exc.errno is not None:  # from the disk, not from the codec
                raise
            raise DamagedFile(
                f"{uri.display} is not whole {codec} data: {exc}",
                hint="get the file again from where it was made",
            ) from exc
