"""What a run reads: addresses resolved to pinned files with one schema.

A folder with a ``_delta_log`` is read through its log. Any other folder, glob or list is Parquet,
CSV or JSON lines; names that begin with ``_`` or ``.`` are markers and left out, as Spark and Hive
do; a file of an unknown kind is named instead of skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from headwater.infra.errors import (
    InvalidRequest,
    NotFound,
    SchemaMismatch,
)
from headwater.infra.models import DataRef, Format, InputSummary
from headwater.infra.storage.datasets import LOG_FOLDER, Dataset
from headwater.infra.storage.drift import common_schema, require_same, widest
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.footers import RowGroup, footer_of
from headwater.infra.storage.hive import hive_schema, hive_values
from headwater.infra.storage.listing import (
    common_format,
    is_marker,
    matching,
    not_found,
    require_no_table_inside,
    stat_or_none,
)
from headwater.infra.storage.retries import threads
from headwater.infra.storage.text import require_no_new_keys, text_schema
from headwater.infra.storage.types import column_of, partition_literal
from headwater.infra.storage.uris import Uri

READERS = 16
"""Files whose schema is read together."""


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
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """Everything that is read under one name: pinned files of one format and one schema.

    Attributes:
        schema: Columns as the job sees them, partition columns last.
        version: Version of a Delta table; empty for files, which are pinned one by one.
        sampled: Types of text files were inferred from their beginning, not from all of it.
    """

    uri: str
    format: Format
    files: tuple[InputFile, ...]
    schema: pl.Schema
    partition_by: tuple[str, ...] = ()
    version: str = ""
    sampled: bool = False

    @property
    def rows(self) -> int | None:
        """Rows in all files, where they tell without being read."""
        counts = [f.rows for f in self.files]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def size_bytes(self) -> int:
        """Size of all files as they are stored."""
        return sum(f.ref.size_bytes for f in self.files)

    def summary(self, side: str = "") -> InputSummary:
        """What a receipt says of it, as the side table of that name or as the source."""
        return InputSummary(
            self.uri, self.format, len(self.files), self.size_bytes, self.rows, self.version, side
        )


def open_input(sources: Sequence[str], *, version: int | None = None) -> Input:
    """The files that ``sources`` name, pinned as they are now, with their common schema.

    Args:
        version: Version of the table that is read, not its last; only for a table.
    Raises:
        NotFound: A source does not exist, or holds no data.
        DamagedFile: A file is not what its name says.
        UnsupportedData: A file is of an unknown kind, or cannot be read exactly.
        SchemaMismatch: Files disagree on columns or types.
    """
    found = [_resolve(source, version) for source in sources]
    formats = {one.format for one in found}
    if len(formats) > 1:
        said = ", ".join(f"{one.uri} is {one.format}" for one in found)
        raise SchemaMismatch(
            f"sources of one run must have one format; {said}", hint="run them one by one"
        )
    twice = [
        uri for uri, n in Counter(f.ref.uri for one in found for f in one.files).items() if n > 1
    ]
    if twice:
        raise InvalidRequest(
            f"{Uri.parse(twice[0]).display} is named by two sources, so its rows would be doubled",
            hint="name each file once",
        )
    first = found[0]
    if len(found) == 1:
        return first
    for other in found[1:]:
        require_same(first.uri, first.schema, other.uri, other.schema)
    return replace(
        first,
        uri=", ".join(one.uri for one in found),
        files=tuple(f for one in found for f in one.files),
        version=", ".join(one.version for one in found if one.version),
        sampled=any(one.sampled for one in found),
    )


def read_slice(
    path: Path,
    source: Input,
    *,
    partition: Iterable[tuple[str, str | None]],
    first_row: int = 0,
    rows: int | None = None,
) -> pl.LazyFrame:
    """Rows of one staged file with the columns of ``source.schema``, in its order.

    Args:
        path: The file as it was staged: uncompressed.
        partition: The file's partition values.
        rows: ``None`` is all from ``first_row`` on.
    """
    match source.format:
        case Format.PARQUET | Format.DELTA:
            frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        case Format.CSV:
            types = {n: t for n, t in source.schema.items() if n not in source.partition_by}
            frame = pl.scan_csv(
                path,
                glob=False,
                infer_schema_length=0,
                schema_overrides=types,
                raise_if_empty=False,
            )
        case Format.JSONL:
            types = {n: t for n, t in source.schema.items() if n not in source.partition_by}
            if source.sampled:
                require_no_new_keys(path, types)
            frame = pl.scan_ndjson(path, schema=types)
    if first_row or rows is not None:
        frame = frame.slice(first_row, rows)
    values = dict(partition)
    have = frame.collect_schema()
    columns = []
    for name, dtype in source.schema.items():
        if name in values:
            columns.append(partition_literal(values[name], dtype, name))
        elif name not in have:
            columns.append(pl.lit(None, dtype=dtype).alias(name))  # added to the table later
        elif have[name] != dtype:
            columns.append(column_of(name).cast(dtype))
        else:
            columns.append(column_of(name))
    return frame.select(columns)


def _resolve(source: str, version: int | None) -> Input:
    given = Uri.parse(source)
    fs = open_filesystem(given)
    uri = fs.canonical(given)
    single = stat_or_none(fs, uri)
    root = uri.glob_root if single is None else None
    if single is None and root is None and next(fs.list(uri / LOG_FOLDER), None) is not None:
        return _from_table(fs, uri, version)
    if version is not None:
        raise InvalidRequest(
            f"{uri.display} is no table, so it has no version {version}",
            hint="leave the version out, or name a table",
        )
    if single is not None:
        return _from_files(fs, uri, [single], partitioned=False)
    if root is not None:
        return _from_files(fs, root, matching(fs, uri, root), partitioned=True, named=uri)
    refs = list(fs.list(uri))
    if not refs:
        raise not_found(fs, uri)
    require_no_table_inside(uri, refs, refs)
    return _from_files(fs, uri, [r for r in refs if not is_marker(uri, r)], partitioned=True)


def _from_table(fs: Filesystem, uri: Uri, version: int | None) -> Input:
    snapshot = Dataset(uri).snapshot(version)
    if snapshot is None:
        raise NotFound(f"the table {uri.display} has no version yet", hint="write to it first")
    if not snapshot.files:
        return Input(
            str(uri),
            Format.DELTA,
            (),
            snapshot.schema,
            snapshot.partition_by,
            str(snapshot.version),
        )
    # The log names a file and its size; the store adds the version that pins it.
    with threads(READERS) as pool:
        refs = list(pool.map(lambda f: fs.stat(uri / f.path), snapshot.files))
        footers = list(pool.map(lambda ref: footer_of(fs, ref), refs))
    files = tuple(
        InputFile(ref, footer.rows, footer.row_groups, file.partition)
        for ref, footer, file in zip(refs, footers, snapshot.files, strict=True)
    )
    return Input(
        str(uri),
        Format.DELTA,
        files,
        snapshot.schema,
        snapshot.partition_by,
        str(snapshot.version),
    )


def _from_files(
    fs: Filesystem,
    root: Uri,
    refs: Sequence[DataRef],
    *,
    partitioned: bool,
    named: Uri | None = None,
) -> Input:
    uri = named or root
    if not refs:
        raise NotFound(
            f"{uri.display} holds no data, only markers (names that begin with '_' or '.')",
            hint="check the address",
        )
    format_ = common_format(uri, refs)
    partitions = [hive_values(root, ref) if partitioned else () for ref in refs]
    hive = hive_schema(uri, refs, partitions)
    if format_ is Format.PARQUET:
        with threads(READERS) as pool:
            footers = list(pool.map(lambda ref: footer_of(fs, ref), refs))
        schemas = {ref.uri: footer.schema for ref, footer in zip(refs, footers, strict=True)}
        schema = common_schema(schemas)
        files = tuple(
            InputFile(ref, footer.rows, footer.row_groups, partition)
            for ref, footer, partition in zip(refs, footers, partitions, strict=True)
        )
        sampled = False
    else:
        with TemporaryDirectory(prefix="headwater-") as tmp, threads(READERS) as pool:
            samples = list(pool.map(lambda ref: text_schema(fs, ref, format_, Path(tmp)), refs))
        schema = widest({ref.uri: s.schema for ref, s in zip(refs, samples, strict=True)}, format_)
        files = tuple(
            InputFile(ref, partition=partition)
            for ref, partition in zip(refs, partitions, strict=True)
        )
        sampled = any(s.cut for s in samples)
    # A folder's value wins over a column of the same name, as in every hive reader.
    columns = {n: t for n, t in schema.items() if n not in hive}
    return Input(
        str(uri), format_, files, pl.Schema({**columns, **hive}), tuple(hive), sampled=sampled
    )
