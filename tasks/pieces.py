"""Slices of an input, brought here as far as a plan needs them.

Of a Parquet file only the columns come that the plan reads, of those row groups that may hold a
row the plan uses. A row group that cannot is skipped: its rows count as read, and are not.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from headwater.infra.models import DataRef, Device, Format, Slice
from headwater.infra.storage.conditions import Bounds, Condition, may_hold, stored_value
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.footers import Footer, footer_of
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.retries import threads
from headwater.infra.storage.scans import alike, read_alike, read_slice
from headwater.infra.storage.staging import STAGERS, StagedFile, Wanted, has_footer, stage_all
from headwater.infra.storage.types import partition_literal
from headwater.infra.storage.uris import Uri
from headwater.tasks.needs import EVERYTHING, Needs
from headwater.tasks.read import count_rows, together


@dataclass(frozen=True, slots=True)
class StagedPiece:
    """A slice of an input whose bytes are here.

    Attributes:
        file: Where they are; ``None`` where no row of the slice can have a part in the result.
        spans: First row and number of rows of what is left of the slice, in order; no number
            means all that follow.
    """

    piece: Slice
    file: StagedFile | None
    spans: tuple[tuple[int, int | None], ...]

    def scan(self, source: Input, device: Device = Device.CPU) -> pl.LazyFrame:
        """The rows that are left, with all columns; those that nobody needs fail when read.

        On a GPU worker text is read here, into memory: its one reader is the CPU's, so that every
        engine gets the same rows.
        """
        if self.file is None:
            return pl.LazyFrame(schema=source.schema)
        frames = [
            read_slice(
                self.file.path,
                source,
                partition=self.piece.partition,
                first_row=first,
                rows=rows,
                name=Uri.parse(self.piece.ref.uri).display,
            )
            for first, rows in self.spans
        ]
        frame = together(frames, source.schema)
        if device is Device.CUDA and source.format in (Format.CSV, Format.JSONL):
            return frame.collect(engine="streaming").lazy()
        return frame


def scan_pieces(
    staged: Iterable[StagedPiece],
    source: Input,
    device: Device = Device.CPU,
    *,
    counted: bool = True,
) -> tuple[list[pl.LazyFrame], int]:
    """Scans of all pieces, in their order, and the number of rows of their slices.

    Whole Parquet files that follow each other and have the same columns come as one scan: where
    rows keep their order, the engine's time grows with the square of the number of scans.

    Args:
        counted: Count the rows where the scan of the input did not; else those count as none.
    """
    frames: list[pl.LazyFrame] = []
    rows = 0
    for shape, run in groupby(staged, lambda piece: _shape(piece, source)):
        pieces = list(run)
        if shape is not None:
            paths = [piece.file.path for piece in pieces if piece.file is not None]
            frames.append(read_alike(paths, source, partition=pieces[0].piece.partition))
            rows += sum(piece.piece.rows or 0 for piece in pieces)
            continue
        for piece in pieces:
            frame = piece.scan(source, device)
            rows += count_rows(piece.piece, frame) if counted else 0
            if piece.file is not None:
                frames.append(frame)
    return frames, rows


def _shape(piece: StagedPiece, source: Input) -> Hashable | None:
    """What a whole Parquet file has in common with others that one scan reads; else ``None``."""
    if piece.file is None or piece.piece.rows is None or len(piece.spans) != 1:
        return None
    if source.format not in (Format.PARQUET, Format.DELTA):
        return None
    ((first, rows),) = piece.spans
    path = piece.file.path
    if first or (rows is not None and rows != pq.read_metadata(path).num_rows):
        return None
    return alike(path, source, partition=piece.piece.partition)


def stage_pieces(
    stack: ExitStack, pieces: Sequence[Slice], source: Input, tmp: Path, needs: Needs = EVERYTHING
) -> list[StagedPiece]:
    """Every slice, brought together while ``stack`` is open, as far as it is needed."""
    is_parquet = source.format in (Format.PARQUET, Format.DELTA)
    if is_parquet:
        with threads(max(1, min(STAGERS, len(pieces)))) as pool:
            chosen = list(pool.map(lambda piece: _chosen(piece, source, needs), pieces))
    else:
        chosen = [_all_of(piece) for piece in pieces]
    wanted: dict[DataRef, Wanted] = {}
    for piece, choice in zip(pieces, chosen, strict=True):
        if choice.spans:
            groups = choice.row_groups
            if (before := wanted.get(piece.ref)) is not None:  # another slice of the same file
                if groups is None or before.row_groups is None:
                    groups = None
                else:
                    groups |= before.row_groups
            wanted[piece.ref] = Wanted(piece.ref, choice.columns, groups)
    staged = stack.enter_context(stage_all(list(wanted.values()), directory=tmp))
    files = dict(zip(wanted, staged, strict=True))
    return [
        StagedPiece(piece, files.get(piece.ref) if choice.spans else None, choice.spans)
        for piece, choice in zip(pieces, chosen, strict=True)
    ]


def bytes_taken(staged: Iterable[StagedPiece]) -> int:
    """What was taken from the stores for them; a file with several slices counts once."""
    return sum({p.file.path: p.file.bytes_read for p in staged if p.file is not None}.values())


def might_leave_out(pieces: Sequence[Slice]) -> bool:
    """Whether it may pay to find out what is needed of them."""
    return any(piece.partition or has_footer(piece.ref) for piece in pieces)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is needed of one slice; see ``Wanted`` and ``StagedPiece``."""

    spans: tuple[tuple[int, int | None], ...]
    columns: frozenset[str] | None = None
    row_groups: frozenset[int] | None = None


def _all_of(piece: Slice) -> _Choice:
    return _Choice(((piece.first_row, piece.rows),))


def _chosen(piece: Slice, source: Input, needs: Needs) -> _Choice:
    """What ``needs`` leave of a slice of a Parquet file."""
    values = {
        name: _constant(text, source.schema[name], name)
        for name, text in piece.partition
        if name in source.schema
    }
    if needs.condition is not None and not may_hold(needs.condition, values.get):
        return _Choice(())
    if not has_footer(piece.ref):
        return _all_of(piece)
    footer = footer_of(open_filesystem(Uri.parse(piece.ref.uri)), piece.ref)
    end = footer.rows if piece.rows is None else piece.first_row + piece.rows
    groups: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    first = 0
    for index, group in enumerate(footer.row_groups):
        start, stop = max(first, piece.first_row), min(first + group.rows, end)
        first += group.rows
        if start >= stop or not _may_hold(needs.condition, footer, index, values, source):
            continue
        groups.append(index)
        if ends and ends[-1] == start:
            ends[-1] = stop
        else:
            starts.append(start)
            ends.append(stop)
    spans: list[tuple[int, int | None]] = [
        (start, stop - start) for start, stop in zip(starts, ends, strict=True)
    ]
    if spans == [(0, footer.rows)]:
        # Without a slice the engine may test its predicate while it scans.
        spans = [(0, None)]
    is_all = len(groups) == len(footer.row_groups)
    kept = None if is_all else frozenset(groups)
    return _Choice(tuple(spans), _spelled(needs.columns, footer), kept)


def _constant(text: str | None, dtype: pl.DataType, name: str) -> Bounds:
    """The bounds of a partition value, the same in all rows of a file."""
    if text is None:
        return Bounds(dtype, rows=1, nulls=1)
    value = stored_value(pl.select(partition_literal(text, dtype, name)).item(), dtype)
    return Bounds(dtype, rows=1, nulls=0, low=value, high=value)


def _may_hold(
    condition: Condition | None,
    footer: Footer,
    row_group: int,
    values: Mapping[str, Bounds],
    source: Input,
) -> bool:
    if condition is None:
        return True

    def bounds(name: str) -> Bounds | None:
        if name in values:  # a folder's value wins over a column of the same name
            return values[name]
        if footer.schema.get(name) != source.schema.get(name):
            return None  # the file's text of a number may be empty, and so null when it is read
        return footer.bounds(row_group, name)

    return may_hold(condition, bounds)


def _spelled(columns: frozenset[str] | None, footer: Footer) -> frozenset[str] | None:
    """The columns as the file spells them; its case may be another than the input's."""
    if columns is None or footer.layout is None:
        return None
    folded = {name.casefold() for name in columns}
    return frozenset(name for name in footer.layout.names if name.casefold() in folded)
