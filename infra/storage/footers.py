"""Footers of Parquet files: what a file says of itself, read without its rows."""

from __future__ import annotations

import io
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.infra.errors import DamagedFile, UnsupportedData, first_line
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri
from headwater.infra.units import KIB

FOOTER_BYTES = 64 * KIB
"""Read from the end of a Parquet file at first; most footers fit, a longer one takes a second."""

PARQUET_MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A run of rows that a Parquet file keeps together."""

    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself."""

    schema: pl.Schema
    rows: int
    row_groups: tuple[RowGroup, ...]


def read_footer(fs: Filesystem, ref: DataRef) -> Footer:
    """Schema, rows and row groups of a Parquet file, from its head and tail alone.

    Raises:
        DamagedFile: It is no Parquet file, or not all of one.
        UnsupportedData: It is encrypted, or cannot be read exactly.
        SourceChanged: The file is no longer the pinned version.
    """
    damaged = "copy or write the file again, or leave it out"
    if ref.size_bytes == 0:
        raise DamagedFile(f"{_display(ref)} is empty: no Parquet file has 0 bytes", hint=damaged)
    tail_start = max(0, ref.size_bytes - FOOTER_BYTES)
    tail = fs.read(ref, tail_start)
    head = tail[:4] if tail_start == 0 else fs.read(ref, 0, 4)
    if ENCRYPTED_MAGIC in (head, tail[-4:]):
        raise UnsupportedData(
            f"{_display(ref)} is encrypted Parquet", hint="decrypt it with the engine that wrote it"
        )
    if head != PARQUET_MAGIC:
        raise DamagedFile(
            f"{_display(ref)} is no Parquet file: it begins with {head!r}, not {PARQUET_MAGIC!r}",
            hint=damaged,
        )
    if ref.size_bytes < 12 or tail[-4:] != PARQUET_MAGIC:
        raise DamagedFile(
            f"{_display(ref)} is cut short: its Parquet footer is missing", hint=damaged
        )
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > ref.size_bytes:
        raise DamagedFile(f"{_display(ref)} has a broken Parquet footer", hint=damaged)
    if needed > len(tail):
        tail = fs.read(ref, ref.size_bytes - needed)
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail))
        schema = pl.read_parquet_schema(io.BytesIO(tail))
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as exc:
        raise DamagedFile(
            f"{_display(ref)} has a broken Parquet footer: {first_line(exc)}", hint=damaged
        ) from exc
    for index in range(metadata.num_columns):
        column = metadata.schema.column(index)
        if column.physical_type == "INT96":
            raise UnsupportedData(
                f"{_display(ref)}: column '{column.path}' has the old INT96 time stamps, whose"
                " dates before 1677 and after 2262 would be wrapped",
                hint="write it with time stamps in microseconds",
            )
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return Footer(
        pl.Schema(schema),
        metadata.num_rows,
        tuple(RowGroup(g.num_rows, g.total_byte_size) for g in groups),
    )


def _display(ref: DataRef) -> str:
    return Uri.parse(ref.uri).display
