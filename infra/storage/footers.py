"""Footers of Parquet files: what a file says of itself, read without its rows.

A process reads the footer of a pinned file once and keeps it, as far as ``KEPT_BYTES`` allow: the
scan, the parts that the file is cut into and a part that is tried again share it.
"""

from __future__ import annotations

import io
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.infra.errors import DamagedFile, UnsupportedData, first_line
from headwater.infra.models import DataRef
from headwater.infra.storage.conditions import Bounds, Value
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.layouts import Layout, layout_of
from headwater.infra.storage.uris import Uri
from headwater.infra.units import KIB, MIB

FOOTER_BYTES = 64 * KIB
"""Read from the end of a Parquet file at first; most footers fit, a longer one takes a second."""

KEPT_BYTES = 64 * MIB
"""Of footers that a process keeps, estimated in memory; the ones used longest ago go first."""

MEMORY_PER_BYTE = 4
"""A footer takes about this multiple of its length when it is parsed."""

PARQUET_MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A run of rows that a Parquet file keeps together."""

    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself.

    Attributes:
        metadata: All of it, as Arrow reads it.
        size_bytes: Length of the footer.
        layout: Where the columns lie; ``None`` where the footer contradicts itself.
        tail: The end of the file as far as no column lies there and it was read for this.
    """

    schema: pl.Schema
    rows: int
    row_groups: tuple[RowGroup, ...]
    metadata: pq.FileMetaData
    size_bytes: int
    layout: Layout | None
    tail: bytes

    def bounds(self, row_group: int, column: str) -> Bounds | None:
        """What the file's statistics tell of a column at the top; ``None`` where nothing."""
        if self.layout is None or column not in self.layout.names:
            return None
        position = self.layout.names.index(column)
        dtype = self.schema.get(column)
        if dtype is None or dtype.is_nested() or self.layout.leaves.count(position) != 1:
            return None
        group = self.metadata.row_group(row_group)
        statistics = group.column(self.layout.leaves.index(position)).statistics
        if statistics is None:
            return None
        # What the stubs call by another name is False in files of old writers.
        has_nulls: bool = statistics.has_null_count  # type: ignore[attr-defined]
        nulls = statistics.null_count if has_nulls else None
        if not statistics.has_min_max:
            return Bounds(dtype, group.num_rows, nulls)
        low = _value(statistics.min_raw, dtype)
        high = _value(statistics.max_raw, dtype)
        if low is None or high is None or low > high:  # type: ignore[operator]  # of one type
            return Bounds(dtype, group.num_rows, nulls)
        return Bounds(dtype, group.num_rows, nulls, low, high)


class Footers:
    """Footers of pinned files, each read once and kept while there is room.

    Args:
        limit_bytes: Room, in memory.
    """

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._found: OrderedDict[tuple[str, str], Future[Footer]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, fs: Filesystem, ref: DataRef) -> Footer:
        """The footer of ``ref``; of callers at the same time one reads it.

        Raises:
            HeadwaterError: As ``read_footer`` does.
        """
        if not ref.version:
            return read_footer(fs, ref)
        key = (ref.uri, ref.version)
        with self._lock:
            found = self._found.get(key)
            is_first = found is None
            if found is None:
                found = self._found[key] = Future()
            self._found.move_to_end(key)
        if is_first:
            self._read(fs, ref, key, found)
        return found.result()

    def _read(
        self, fs: Filesystem, ref: DataRef, key: tuple[str, str], found: Future[Footer]
    ) -> None:
        try:
            footer = read_footer(fs, ref)
        except BaseException as exc:
            with self._lock:
                self._found.pop(key, None)
            found.set_exception(exc)
            raise
        found.set_result(footer)
        with self._lock:
            self._size_bytes += _memory_bytes(footer)
            while self._size_bytes > self._limit_bytes:
                oldest = next((k for k, f in self._found.items() if f.done()), None)
                if oldest is None:
                    break
                self._size_bytes -= _memory_bytes(self._found.pop(oldest).result())


def _memory_bytes(footer: Footer) -> int:
    return footer.size_bytes * MEMORY_PER_BYTE + len(footer.tail)


_FOOTERS = Footers()


def footer_of(fs: Filesystem, ref: DataRef) -> Footer:
    """The footer of ``ref`` as this process keeps it.

    Raises:
        HeadwaterError: As ``read_footer`` does.
    """
    return _FOOTERS.get(fs, ref)


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
    if tail_start == 0:
        head = tail[:4]
    else:  # where the end is as it should be, the beginning is not worth a request
        head = PARQUET_MAGIC if tail[-4:] == PARQUET_MAGIC else fs.read(ref, 0, 4)
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
        _require_distinct(metadata.schema.to_arrow_schema().names, ref)
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
    layout = layout_of(metadata, ref.size_bytes, needed)
    last = layout.ends[-1] if layout is not None and layout.ends else 0
    return Footer(
        pl.Schema(schema),
        metadata.num_rows,
        tuple(RowGroup(g.num_rows, g.total_byte_size) for g in groups),
        metadata,
        needed,
        layout,
        tail[max(0, last - (ref.size_bytes - len(tail))) :] if layout is not None else b"",
    )


def _require_distinct(names: Sequence[str], ref: DataRef) -> None:
    """Refuse a Parquet file that has two columns of one name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UnsupportedData(
            f"{_display(ref)} has {names.count(twice)} columns named '{twice}'",
            hint="write the file with a name of its own for each column",
        )


def _value(raw: object, dtype: pl.DataType) -> Value | None:
    """A bound as the file stores it, as values are compared; ``None`` where that is not known."""
    match raw:
        case bool() | float():
            return None if raw != raw else raw  # NaN is no bound
        case int() if dtype.is_unsigned_integer():
            return raw % (1 << (64 if isinstance(dtype, pl.UInt64) else 32))
        case int():
            return raw
        case bytes() if isinstance(dtype, pl.Decimal):
            return int.from_bytes(raw, "big", signed=True)
        case bytes() if isinstance(dtype, (pl.String, pl.Binary)):
            return raw
        case _:
            return None


def _display(ref: DataRef) -> str:
    return Uri.parse(ref.uri).display
