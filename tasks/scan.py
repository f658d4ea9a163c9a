"""Cuts an input into parts: each is read, transformed and written by one Dask task."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import DataRef, Format, Part, Slice
from headwater.infra.storage.inputs import Input, InputFile
from headwater.infra.storage.types import partition_literal
from headwater.infra.units import GIB, MIB, human_bytes

MIN_PART_BYTES = 8 * MIB
"""Below this a part costs more to start than to do."""

MAX_PART_BYTES = 256 * MIB
"""Above this nothing is gained, files of Parquet have a good size already, and while the input
grows so would a worker's memory, what a lost one costs to do again, and the steps of progress."""

STATE_PART_BYTES = 64 * MIB
"""The most that a part has of which only the states of groups are kept: no file is made of it, so
nothing is lost by a small one, and while one is read it is several times in memory."""

MAX_PART_SCANS = 256
"""The most scans in a part: where rows keep their order, the engine's time for them grows with the
square of their number. Parquet files of one partition take one together."""

MEMORY_SHARE = 8
"""A part may be this fraction of the memory of one thread: decoding and a join's output can each
multiply what the file's metadata states."""

SIDE_SHARE = 4
"""A side table may be this fraction of a worker's memory."""

COMPRESSED_EXPANSION = 6
"""Gzip and zstd text unpacks to about this multiple."""


def part_bytes(source: Input, *, memory_gib_per_thread: float, threads: int) -> int:
    """Size in memory, uncompressed, that a part of ``source`` should have.

    Args:
        memory_gib_per_thread: Memory of one worker divided by its threads.
        threads: Threads of all workers; each should have something to do.
    """
    total = input_bytes(source)
    by_memory = memory_gib_per_thread * GIB / MEMORY_SHARE
    by_threads = total / max(1, threads)
    return int(max(MIN_PART_BYTES, min(by_memory, by_threads, MAX_PART_BYTES)))


def input_bytes(source: Input) -> int:
    """Estimated size of all of ``source`` in memory, uncompressed."""
    return sum(_file_bytes(file) for file in source.files)


def require_small(name: str, side: Input, *, memory_gib: float) -> None:
    """Refuse a side table that a worker could not well hold beside its parts.

    Args:
        memory_gib: Memory of one worker.
    Raises:
        InvalidRequest: It is larger than ``SIDE_SHARE`` of that.
    """
    size = input_bytes(side)
    allowed = memory_gib * GIB / SIDE_SHARE
    if size > allowed:
        raise InvalidRequest(
            f"side table '{name}' has about {human_bytes(size)} in memory; each worker holds it"
            f" whole, and may spend {human_bytes(allowed)} on it",
            hint="leave out rows and columns that the job does not need, or give workers more"
            " memory in the cluster profile",
        )


def holds(source: Input, memory_gib: float) -> bool:
    """Whether one worker can hold all of ``source`` for one plan.

    Args:
        memory_gib: Memory of one worker.
    """
    return input_bytes(source) <= memory_gib * GIB


def require_holdable(job: str, source: Input, *, memory_gib: float) -> None:
    """Refuse a job over the whole of an input that one worker could not well hold.

    Args:
        memory_gib: Memory of one worker.
    Raises:
        InvalidRequest: The input is larger than that.
    """
    if not holds(source, memory_gib):
        raise InvalidRequest(
            f"job {job} looks at the whole input, about {human_bytes(input_bytes(source))} in"
            f" memory, and one worker has {memory_gib:.1f} GiB",
            hint="declare @job(scope='key', keys=[...]) if it looks across the rows of a key"
            " only, write it as steps, filter or select in a run before, or give a worker more"
            " memory in the cluster profile",
        )


def of_origins(source: Input, parts: Iterable[Part]) -> tuple[Part, ...]:
    """``parts`` with files by their own names where copies of them are read.

    So the list of parts that a run leaves says the same wherever an attempt reads its files.
    """
    return _with_refs(parts, {file.ref: file.origin for file in source.files if file.origin})


def of_copies(source: Input, parts: Iterable[Part]) -> tuple[Part, ...]:
    """``parts`` as an attempt reads them that reads ``source``: files from their copies."""
    return _with_refs(parts, {file.origin: file.ref for file in source.files if file.origin})


def _with_refs(parts: Iterable[Part], refs: Mapping[DataRef, DataRef]) -> tuple[Part, ...]:
    if not refs:
        return tuple(parts)
    return tuple(
        replace(
            part,
            slices=tuple(
                replace(piece, ref=refs.get(piece.ref, piece.ref)) for piece in part.slices
            ),
        )
        for part in parts
    )


def whole(source: Input) -> tuple[Part, ...]:
    """All of ``source`` as one part, also where it has no rows: a count of none is a row."""
    parts = cut(source, max(1, input_bytes(source)))
    return (Part(0, tuple(piece for part in parts for piece in part.slices)),)


def cut(source: Input, target_bytes: int) -> tuple[Part, ...]:
    """Parts of about ``target_bytes``, in the order of the files.

    Parquet is cut between row groups, and inside a row group that is larger than a part. A text
    file is never cut: where a row begins shows only by reading all of it.
    """
    parts: list[Part] = []
    slices: list[Slice] = []
    size = scans = 0
    is_text = source.format in (Format.CSV, Format.JSONL)
    for piece in _pieces(source, target_bytes):
        last = slices[-1] if slices else None
        scans += last is None or is_text or piece.partition != last.partition
        if slices and (size + piece.size_bytes > target_bytes or scans > MAX_PART_SCANS):
            parts.append(Part(len(parts), tuple(slices)))
            slices, size, scans, last = [], 0, 1, None
        if last is not None and _continues(last, piece):
            slices[-1] = _joined(last, piece)
        else:
            slices.append(piece)
        size += piece.size_bytes
    if slices:
        parts.append(Part(len(parts), tuple(slices)))
    return tuple(parts)


def cut_by_key(source: Input, keys: Sequence[str], target_bytes: int) -> tuple[Part, ...]:
    """Parts of whole partitions, where that brings all rows of a key together.

    Args:
        keys: Columns of the key. Those of them that the files are partitioned by decide.
    Returns:
        No parts where the files are not partitioned by any, or where there is nothing to cut.
    """
    names = [name for name in source.partition_by if name in keys]
    if not names:
        return ()
    groups: dict[tuple[object, ...], list[InputFile]] = {}
    for file in source.files:
        texts = dict(file.partition)
        # As values: of two folders, day=1 and day=01, the rows belong together.
        row = pl.select(
            [partition_literal(texts[n], source.schema[n], n).alias(n) for n in names]
        ).row(0)
        groups.setdefault(row, []).append(file)
    parts: list[Part] = []
    slices: list[Slice] = []
    size = 0
    for files in groups.values():
        pieces = list(_pieces(replace(source, files=tuple(files)), sys.maxsize))
        more = sum(piece.size_bytes for piece in pieces)
        if slices and size + more > target_bytes:
            parts.append(Part(len(parts), tuple(slices)))
            slices, size = [], 0
        slices += pieces
        size += more
    if slices:
        parts.append(Part(len(parts), tuple(slices)))
    return tuple(parts)


def _pieces(source: Input, target_bytes: int) -> Iterator[Slice]:
    for file in source.files:
        if not file.row_groups:
            if file.rows != 0:
                size = _file_bytes(file)
                yield Slice(file.ref, 0, file.rows, size, file.partition)
            continue
        first_row = 0
        for group in file.row_groups:
            cuts = max(1, -(-group.size_bytes // (2 * target_bytes)))
            for i in range(cuts):
                start = group.rows * i // cuts
                rows = group.rows * (i + 1) // cuts - start
                if rows:
                    size = group.size_bytes // cuts
                    yield Slice(file.ref, first_row + start, rows, size, file.partition)
            first_row += group.rows


def _file_bytes(file: InputFile) -> int:
    if file.row_groups:
        return sum(group.size_bytes for group in file.row_groups)
    compressed = file.ref.uri.lower().endswith((".gz", ".zst"))
    return file.ref.size_bytes * (COMPRESSED_EXPANSION if compressed else 1)


def _continues(last: Slice, piece: Slice) -> bool:
    return (
        last.ref == piece.ref
        and last.rows is not None
        and last.first_row + last.rows == piece.first_row
    )


def _joined(last: Slice, piece: Slice) -> Slice:
    rows = None if last.rows is None or piece.rows is None else last.rows + piece.rows
    return Slice(last.ref, last.first_row, rows, last.size_bytes + piece.size_bytes, last.partition)
