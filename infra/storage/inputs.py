"""What a run reads: addresses resolved to pinned files with one schema.

A folder with a ``_delta_log`` is read through its log. Any other folder, glob or list is Parquet,
CSV or JSON lines; names that begin with ``_`` or ``.`` are markers and left out, as Spark and Hive
do; a file of an unknown kind is named instead of skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from headwater.infra.errors import (
    InvalidRequest,
    NotFound,
    SchemaMismatch,
    UnsupportedData,
)
from headwater.infra.models import BadRow, DataRef, Format, InputSummary, ReadOptions
from headwater.infra.storage.datasets import LOG_FOLDER, Dataset
from headwater.infra.storage.drift import agree
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.footers import Footer, RowGroup, footer_of
from headwater.infra.storage.hive import folder_types, hive_values, require_same_names
from headwater.infra.storage.listing import (
    common_format,
    display,
    is_marker,
    matching,
    not_found,
    require_no_table_inside,
    require_outside_tables,
    stat_or_none,
)
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

Partition = tuple[tuple[str, str | None], ...]
"""Partition values of a file: name and text; ``None`` is null."""

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
    """

    ref: DataRef
    rows: int | None = None
    row_groups: tuple[RowGroup, ...] = ()
    partition: Partition = ()


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
    sources: Sequence[str], *, version: int | None = None, read: ReadOptions | None = None
) -> Input:
    """The files that ``sources`` name, pinned as they are now, with one schema for all.

    Args:
        version: Version of the table that is read, not its last; only for a table.
        read: How files are read, and what happens where they differ; by default they are
            widened, and no row of text may be bad.
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
    found = [_resolve(source, version, read) for source in sources]
    formats = {one.format for one in found}
    if len(formats) > 1:
        said = ", ".join(f"{one.uri} is {one.format}" for one in found)
        raise SchemaMismatch(
            f"sources of one run must have one format; {said}", hint="run them one by one"
        )
    files = tuple(f for one in found for f in one.files)
    twice = [uri for uri, n in Counter(f.ref.uri for f in files).items() if n > 1]
    if twice:
        raise InvalidRequest(
            f"{Uri.parse(twice[0]).display} is named by two sources, so its rows would be doubled",
            hint="name each file once",
        )
    return _as_one(found, files, read)


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


def _resolve(source: str, version: int | None, read: ReadOptions) -> _Source:
    given = Uri.parse(source)
    fs = open_filesystem(given)
    uri = fs.canonical(given)
    single = stat_or_none(fs, uri)
    root = uri.glob_root if single is None else None
    if single is None and root is None and next(fs.list(uri / LOG_FOLDER), None) is not None:
        return _from_table(fs, uri, version, read)
    if version is not None:
        raise InvalidRequest(
            f"{uri.display} is no table, so it has no version {version}",
            hint="leave the version out, or name a table",
        )
    require_outside_tables(fs, root or uri)
    if single is not None:
        return _from_files(fs, uri, [single], read, partitioned=False)
    if root is not None:
        return _from_files(fs, root, matching(fs, uri, root), read, partitioned=True, named=uri)
    refs = list(fs.list(uri))
    if not refs:
        raise not_found(fs, uri)
    require_no_table_inside(uri, refs, refs)
    return _from_files(fs, uri, [r for r in refs if not is_marker(uri, r)], read, partitioned=True)


def _from_table(fs: Filesystem, uri: Uri, version: int | None, read: ReadOptions) -> _Source:
    snapshot = Dataset(uri).snapshot(version)
    if snapshot is None:
        raise NotFound(f"the table {uri.display} has no version yet", hint="write to it first")
    # The log names a file and its size; the store adds the version that pins it.
    with threads(READERS) as pool:
        refs = list(pool.map(lambda f: fs.stat(uri / f.path), snapshot.files))
        footers = list(pool.map(lambda ref: footer_of(fs, ref), refs))
    for ref, footer in zip(refs, footers, strict=True):
        _require_plausible(ref, footer, read)
    return _Source(
        str(uri),
        Format.DELTA,
        tuple(
            InputFile(ref, footer.rows, footer.row_groups, file.partition)
            for ref, footer, file in zip(refs, footers, snapshot.files, strict=True)
        ),
        ((str(uri), snapshot.schema),),
        snapshot.partition_by,
        str(snapshot.version),
    )


def _from_files(
    fs: Filesystem,
    root: Uri,
    refs: Sequence[DataRef],
    read: ReadOptions,
    *,
    partitioned: bool,
    named: Uri | None = None,
) -> _Source:
    uri = named or root
    if not refs:
        raise NotFound(
            f"{uri.display} holds no data, only markers (names that begin with '_' or '.')",
            hint="check the address",
        )
    format_ = common_format(uri, refs)
    partitions = [hive_values(root, ref) if partitioned else () for ref in refs]
    require_same_names(uri, refs, partitions)
    partition_by = tuple(name for name, _ in partitions[0])
    if format_ is Format.PARQUET:
        with threads(READERS) as pool:
            footers = list(pool.map(lambda ref: footer_of(fs, ref), refs))
        for ref, footer in zip(refs, footers, strict=True):
            _require_plausible(ref, footer, read)
        files = tuple(
            InputFile(ref, footer.rows, footer.row_groups, partition)
            for ref, footer, partition in zip(refs, footers, partitions, strict=True)
        )
        schemas = tuple((ref.uri, footer.schema) for ref, footer in zip(refs, footers, strict=True))
        return _Source(str(uri), format_, files, schemas, partition_by)
    with threads(TEXT_READERS) as pool:
        texts = tuple(pool.map(lambda ref: scan_text(fs, ref, format_, read), refs))
    files = tuple(
        InputFile(ref, text.rows, partition=partition)
        for ref, text, partition in zip(refs, texts, partitions, strict=True)
    )
    return _Source(str(uri), format_, files, (), partition_by, texts=texts)


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
