"""What a run reads: addresses resolved to pinned files with one schema.

A folder with a ``_delta_log`` is read through its log. Any other folder, glob or list is Parquet,
CSV or JSON lines; a file of an unknown kind is named instead of skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from headwater.infra.errors import UnsupportedData
from headwater.infra.models import BadRow, DataRef, Format, InputSummary, ReadOptions
from headwater.infra.storage.drift import agree
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.footers import Footer, RowGroup, footer_of
from headwater.infra.storage.hive import folder_types
from headwater.infra.storage.listing import display
from headwater.infra.storage.named import NO_COPIES, Copies, Named, Partition, require_together
from headwater.infra.storage.retries import threads
from headwater.infra.storage.text import READERS as TEXT_READERS
from headwater.infra.storage.text import (
    TextFile,
    agreed_text,
    keys_of,
    scan_text,
)
from headwater.infra.storage.types import match_names
from headwater.infra.storage.unpack import CLAIMED_FLOOR, require_delimiter, require_encoding
from headwater.infra.storage.uris import Uri
from headwater.infra.units import human_bytes

DEFAULT_READ = ReadOptions()
"""Files that differ are widened, and no row of text may be bad."""

READERS = 16
"""Files whose schema is read together."""

_LEAST_BITS: dict[pl.DataType, int] = {
    **dict.fromkeys((pl.Int8(), pl.UInt8()), 8),
    **dict.fromkeys((pl.Int16(), pl.UInt16()), 16),
    **dict.fromkeys((pl.Int32(), pl.UInt32(), pl.Float32(), pl.Date()), 32),
    **dict.fromkeys((pl.Int64(), pl.UInt64(), pl.Float64()), 64),
    pl.String(): 128,
}
"""What one value takes in memory at least, where it is more than the bit of its validity."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One pinned file of an input.

    Attributes:
        rows: Rows, where the file tells without being read.
        row_groups: Parquet's row groups; empty for text.
        partition: Values that the folder names or the table's log give to all rows.
        origin: The file that ``ref`` is a copy of; ``None`` where it is the file itself.
    """

    ref: DataRef
    rows: int | None = None
    row_groups: tuple[RowGroup, ...] = ()
    partition: Partition = ()
    origin: DataRef | None = None

    @property
    def pinned(self) -> DataRef:
        """The file that the rows are of, wherever they are read."""
        return self.origin or self.ref


@dataclass(frozen=True, slots=True)
class Input:
    """Everything that is read under one name: pinned files of one format and one schema.

    Attributes:
        schema: Columns as the job sees them; those that folders name come last.
        version: Version of a Delta table; empty for files, which are pinned one by one.
        read: How the files are read.
        keys: Of JSON lines, every key of every file, as its values are parsed.
        notes: What was widened so that all files have one schema; a plain line each.
        bad: Rows of text that could not be read and are left out.
    """

    uri: str
    format: Format
    files: tuple[InputFile, ...]
    schema: pl.Schema
    partition_by: tuple[str, ...] = ()
    version: str = ""
    read: ReadOptions = DEFAULT_READ
    keys: pl.Schema | None = None
    notes: tuple[str, ...] = ()
    bad: tuple[BadRow, ...] = ()

    @property
    def rows(self) -> int | None:
        """Rows in all files, where they tell without being read."""
        counts = [f.rows for f in self.files]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def size_bytes(self) -> int:
        """Size of all files as they are stored."""
        return sum(f.ref.size_bytes for f in self.files)

    def reading(self, copies: Copies) -> Input:
        """The same files, read from their copies where there are some: their bytes are equal."""

        def one(file: InputFile) -> InputFile:
            at = copies.of(file.pinned)
            return file if at == file.pinned else replace(file, ref=at, origin=file.pinned)

        return replace(self, files=tuple(map(one, self.files))) if copies.at else self

    @property
    def for_workers(self) -> Input:
        """The same without what only the driver needs; each part brings its own files."""
        return replace(self, files=(), notes=(), bad=())

    def summary(self, side: str = "") -> InputSummary:
        """What a receipt says of it, as the side table of that name or as the source."""
        return InputSummary(
            self.uri, self.format, len(self.files), self.size_bytes, self.rows, self.version, side
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """What one address names.

    Attributes:
        schemas: Address and schema of each of its files, or of the table.
        folders: Types of the columns that its folders name; ``None`` for a table.
        texts: What was found in its text files.
    """

    uri: str
    format: Format
    files: tuple[InputFile, ...]
    schemas: tuple[tuple[str, pl.Schema], ...]
    partition_by: tuple[str, ...] = ()
    version: str = ""
    texts: tuple[TextFile, ...] = ()


def open_input(
    sources: Sequence[str],
    *,
    version: int | None = None,
    read: ReadOptions | None = None,
    copies: Copies = NO_COPIES,
) -> Input:
    """The files that ``sources`` name, pinned as they are now, with one schema for all.

    Args:
        version: Version of the table that is read, not its last; only for a table.
        read: How files are read, and what happens where they differ; by default they are
            widened, and no row of text may be bad.
        copies: Files that are read from where their copies are.
    Raises:
        NotFound: A source does not exist, or holds no data.
        DamagedFile: A file is not what its name says.
        UnsupportedData: A file is of an unknown kind, or cannot be read exactly.
        SchemaMismatch: Files disagree on columns or types, and may not or cannot be widened.
        UnknownName: A given encoding, type or column does not exist.
    """
    read = read or DEFAULT_READ
    read = replace(read, encoding=require_encoding(read.encoding))
    require_delimiter(read.delimiter)
    named = [copies.find(source, version) for source in sources]
    require_together(named)
    found = [_read(one, read, copies) for one in named]
    files = tuple(f for one in found for f in one.files)
    return _as_one(found, files, read).reading(copies)


def _as_one(found: Sequence[_Source], files: tuple[InputFile, ...], read: ReadOptions) -> Input:
    """All sources under one schema, which is decided here once for all."""
    format_ = found[0].format
    texts = [text for one in found for text in one.texts]
    if format_ is Format.DELTA:
        named: dict[str, pl.DataType] = {}
    else:
        named = folder_types(f.partition for f in files)
    if texts:
        agreed = agreed_text(texts, [dict(f.partition) for f in files], named, read)
    else:
        # A folder's value wins over a column of the same name, as in every hive reader.
        schemas = [
            (uri, _with_folders(schema, named, one.partition_by))
            for one in found
            for uri, schema in one.schemas
        ]
        agreed = agree(schemas, read)
    spelt = match_names({n for one in found for n in one.partition_by}, agreed.schema)
    partition_by = tuple(
        name
        for name in agreed.schema
        if name in spelt and all(match_names(one.partition_by, [name]) for one in found)
    )
    columns = dict(agreed.schema)
    if format_ is not Format.DELTA:  # a table has an order of its own
        columns = {n: t for n, t in columns.items() if n not in partition_by}
    by_fold = {name.casefold(): name for name in agreed.schema}
    return Input(
        ", ".join(one.uri for one in found),
        format_,
        tuple(
            replace(
                f, partition=tuple((by_fold.get(n.casefold(), n), text) for n, text in f.partition)
            )
            if f.partition
            else f
            for f in files
        ),
        pl.Schema({**columns, **{n: agreed.schema[n] for n in partition_by}}),
        partition_by,
        ", ".join(one.version for one in found if one.version),
        read,
        keys_of(texts) if format_ is Format.JSONL else None,
        agreed.notes,
        tuple(row for text in texts for row in text.bad),
    )


def _with_folders(
    schema: pl.Schema, named: Mapping[str, pl.DataType], partition_by: Sequence[str]
) -> pl.Schema:
    mine = {n: t for n, t in named.items() if n in partition_by}
    return pl.Schema({**{n: t for n, t in schema.items() if n not in mine}, **mine})


def _read(named: Named, read: ReadOptions, copies: Copies) -> _Source:
    """What the files tell of themselves: tables and Parquet by their footers, text by its rows."""
    refs = named.refs
    uris = [ref.uri for ref in refs]
    names = tuple(name for name, _ in named.partitions[0]) if named.partitions else ()
    if named.format in (Format.CSV, Format.JSONL):
        with threads(TEXT_READERS) as pool:
            texts = tuple(pool.map(lambda ref: _scan(ref, named.format, read, copies), refs))
        files = tuple(
            InputFile(ref, text.rows, partition=partition)
            for ref, text, partition in zip(refs, texts, named.partitions, strict=True)
        )
        return _Source(str(named.uri), named.format, files, (), names, texts=texts)
    with threads(READERS) as pool:
        footers = list(pool.map(lambda ref: _footer(copies.of(ref)), refs))
    for ref, footer in zip(refs, footers, strict=True):
        _require_plausible(ref, footer, read)
    files = tuple(
        InputFile(ref, footer.rows, footer.row_groups, partition)
        for ref, footer, partition in zip(refs, footers, named.partitions, strict=True)
    )
    if named.snapshot is None:
        schemas = tuple((uri, one.schema) for uri, one in zip(uris, footers, strict=True))
        return _Source(str(named.uri), named.format, files, schemas, names)
    table = named.snapshot
    return _Source(
        str(named.uri),
        named.format,
        files,
        ((str(named.uri), table.schema),),
        table.partition_by,
        str(table.version),
    )


def _footer(ref: DataRef) -> Footer:
    return footer_of(open_filesystem(Uri.parse(ref.uri)), ref)


def _scan(ref: DataRef, format_: Format, read: ReadOptions, copies: Copies) -> TextFile:
    """What is in the rows of a file, by its own name also where its copy was read."""
    at = copies.of(ref)
    found = scan_text(open_filesystem(Uri.parse(at.uri)), at, format_, read)
    return replace(found, uri=ref.uri, bad=tuple(replace(row, file=ref.uri) for row in found.bad))


def _require_plausible(ref: DataRef, footer: Footer, read: ReadOptions) -> None:
    """Refuse a Parquet file that claims far more than a file of its size should hold.

    Raises:
        UnsupportedData: It does.
    """
    row = sum(_LEAST_BITS.get(t, 1) for t in footer.schema.dtypes()) / 8
    claimed = max(footer.rows * row, sum(g.size_bytes for g in footer.row_groups))
    limit = max(CLAIMED_FLOOR, read.max_expansion * ref.size_bytes)
    if claimed > limit:
        raise UnsupportedData(
            f"{display(ref)} has {human_bytes(ref.size_bytes)} and claims {footer.rows:,} rows of"
            f" at least {human_bytes(int(claimed))}",
            hint="if it is meant to, allow more with --max-expansion N: how many times its size a"
            " file may unpack to",
        )
