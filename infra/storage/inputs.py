"""What a run reads: addresses resolved to pinned files with one schema.

A folder with a ``_delta_log`` is read through its log. Any other folder, glob or list is Parquet,
CSV or JSON lines; names that begin with ``_`` or ``.`` are markers and left out, as Spark and Hive
do; a file of an unknown kind is named instead of skipped.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from fsspec.utils import glob_translate

from headwater.infra.errors import (
    DamagedFile,
    DataError,
    InvalidRequest,
    NotFound,
    SchemaMismatch,
    UnknownName,
    UnsupportedData,
    first_line,
)
from headwater.infra.models import DataRef, Format, InputSummary
from headwater.infra.storage.datasets import LOG_FOLDER, Dataset, schema_diff
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.footers import RowGroup, footer_of
from headwater.infra.storage.staging import stage
from headwater.infra.storage.types import NULL_FOLDER, column_of, partition_literal
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

SUFFIXES = {
    ".parquet": Format.PARQUET,
    ".parq": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
}
_CODECS: dict[str, Literal["gzip", "zstd"]] = {".gz": "gzip", ".zst": "zstd"}
COMPRESSED = tuple(_CODECS)

READERS = 16
"""Files whose schema is read together."""

SAMPLE_BYTES = 32 * MIB
"""Text files up to this size are read whole to infer their types; of a longer one, this much."""

_HIVE = re.compile(r"(?:^|/)([^/=]+)=([^/]*)(?=/)")
_INTEGER = re.compile(r"^(0|-?[1-9][0-9]{0,17})$")


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
        _require_same(first.uri, first.schema, other.uri, other.schema)
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
                _require_no_new_keys(path, types)
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
    single = _stat_or_none(fs, uri)
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
        return _from_files(fs, root, _matching(fs, uri, root), partitioned=True, named=uri)
    refs = list(fs.list(uri))
    if not refs:
        raise _not_found(fs, uri)
    _require_no_table_inside(uri, refs, refs)
    return _from_files(fs, uri, [r for r in refs if not _is_marker(uri, r)], partitioned=True)


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
    with ThreadPoolExecutor(READERS) as pool:
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
    format_ = _format(uri, refs)
    partitions = [_hive_values(root, ref) if partitioned else () for ref in refs]
    hive = _hive_schema(uri, refs, partitions)
    if format_ is Format.PARQUET:
        with ThreadPoolExecutor(READERS) as pool:
            footers = list(pool.map(lambda ref: footer_of(fs, ref), refs))
        schemas = {ref.uri: footer.schema for ref, footer in zip(refs, footers, strict=True)}
        schema = _common_schema(schemas)
        files = tuple(
            InputFile(ref, footer.rows, footer.row_groups, partition)
            for ref, footer, partition in zip(refs, footers, partitions, strict=True)
        )
        sampled = False
    else:
        with TemporaryDirectory(prefix="headwater-") as tmp, ThreadPoolExecutor(READERS) as pool:
            samples = list(pool.map(lambda ref: _text_schema(fs, ref, format_, Path(tmp)), refs))
        schema = _widest({ref.uri: s.schema for ref, s in zip(refs, samples, strict=True)}, format_)
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


# --- which files -----------------------------------------------------------------------------


def _stat_or_none(fs: Filesystem, uri: Uri) -> DataRef | None:
    if uri.is_folder_like:
        return None
    try:
        return fs.stat(uri)
    except NotFound:
        return None


def _not_found(fs: Filesystem, uri: Uri) -> NotFound:
    if uri.is_local:
        if uri.path.is_dir():
            return NotFound(f"the folder {uri.display} is empty", hint="check the address")
        parent = uri.path.parent
        names = [p.name for p in parent.iterdir()] if parent.is_dir() else []
        near = UnknownName.of("file or folder", uri.name, names).hint if names else ""
        return NotFound(f"{uri.display} does not exist", hint=near or f"no folder {parent}")
    folder = replace(uri, key=uri.key.rstrip("/").rpartition("/")[0])
    names = sorted({folder.relative(Uri.parse(r.uri)).split("/")[0] for r in fs.list(folder)})
    hint = UnknownName.of("object", uri.name, names).hint if names else f"nothing is in {folder}"
    return NotFound(f"nothing is at {uri}", hint=hint)


def _matching(fs: Filesystem, uri: Uri, root: Uri) -> list[DataRef]:
    """The files that the pattern ``uri`` means; markers only where it spells their beginning."""
    pattern = re.compile(glob_translate(uri.key))
    refs = list(fs.list(root))
    found = [ref for ref in refs if pattern.match(Uri.parse(ref.uri).key)]
    _require_no_table_inside(uri, refs, found)
    if not any(step.startswith(("_", ".")) for step in root.relative(uri).split("/")):
        found = [ref for ref in found if not _is_marker(root, ref)]
    if not found:
        raise NotFound(
            f"no file matches {uri.display}",
            hint="'*' stays inside one folder, '**' goes through all; quote it from the shell",
        )
    return found


def _require_no_table_inside(
    uri: Uri, listed: Sequence[DataRef], wanted: Sequence[DataRef]
) -> None:
    """Refuse ``wanted`` files that belong to a table, as ``listed`` logs tell."""
    inside = f"/{LOG_FOLDER}/"
    roots = {ref.uri.split(inside)[0] for ref in listed if inside in ref.uri}
    tables = sorted(r for r in roots if any(ref.uri.startswith(f"{r}/") for ref in wanted))
    if tables:
        names = ", ".join(Uri.parse(t).display for t in tables[:3])
        raise UnsupportedData(
            f"{uri.display} holds tables, whose files must be read through their log: {names}",
            hint="name the table itself as the source",
        )


def _is_marker(root: Uri, ref: DataRef) -> bool:
    steps = root.relative(Uri.parse(ref.uri)).split("/")
    return any(step.startswith(("_", ".")) and "=" not in step for step in steps)


def _format(uri: Uri, refs: Sequence[DataRef]) -> Format:
    by_format: dict[Format, DataRef] = {}
    unknown = []
    for ref in refs:
        format_ = _format_of(ref.uri)
        if format_ is None:
            unknown.append(ref)
        else:
            by_format.setdefault(format_, ref)
    if unknown:
        raise UnsupportedData(
            f"{_display(unknown[0])} is no known kind of data"
            + (f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""),
            hint=f"known: {', '.join(SUFFIXES)}, text also with {' or '.join(COMPRESSED)};"
            " a glob such as FOLDER/*.csv takes some files of a folder",
        )
    if len(by_format) > 1:
        said = ", ".join(f"{Uri.parse(r.uri).name} is {f}" for f, r in by_format.items())
        raise UnsupportedData(
            f"{uri.display} holds several kinds of data: {said}",
            hint="a glob such as FOLDER/*.csv takes one of them",
        )
    return next(iter(by_format))


def _format_of(uri: str) -> Format | None:
    name = uri.rpartition("/")[2].lower()
    for suffix in COMPRESSED:
        if name.endswith(suffix):
            inner = _format_of(name.removesuffix(suffix))
            return None if inner is Format.PARQUET else inner
    return next((f for suffix, f in SUFFIXES.items() if name.endswith(suffix)), None)


def _display(ref: DataRef) -> str:
    return Uri.parse(ref.uri).display


# --- values in folder names ------------------------------------------------------------------


def _hive_values(root: Uri, ref: DataRef) -> tuple[tuple[str, str | None], ...]:
    below = root.relative(Uri.parse(ref.uri))
    return tuple(
        (unquote(name), None if text == NULL_FOLDER else unquote(text))
        for name, text in _HIVE.findall(below)
    )


def _hive_schema(
    uri: Uri, refs: Sequence[DataRef], partitions: Sequence[tuple[tuple[str, str | None], ...]]
) -> dict[str, pl.DataType]:
    names = tuple(name for name, _ in partitions[0])
    for ref, partition in zip(refs, partitions, strict=True):
        if tuple(name for name, _ in partition) != names:
            raise SchemaMismatch(
                f"folders below {uri.display} name different columns: {_display(refs[0])} and"
                f" {_display(ref)}",
                hint="name one of the folders as the source",
            )
    values: dict[str, set[str | None]] = {name: set() for name in names}
    for partition in partitions:
        for name, text in partition:
            values[name].add(text)
    return {name: _type_of_texts(texts) for name, texts in values.items()}


def _type_of_texts(texts: Iterable[str | None]) -> pl.DataType:
    """Integers and dates only where every value reads back as the same text."""
    known = [t for t in texts if t is not None]
    if known and all(_INTEGER.match(t) for t in known):
        return pl.Int64()
    if known and all(_is_date(t) for t in known):
        return pl.Date()
    return pl.String()


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


# --- schemas ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _TextSchema:
    schema: pl.Schema
    cut: bool


def _common_schema(schemas: Mapping[str, pl.Schema]) -> pl.Schema:
    files = iter(schemas.items())
    first_uri, first = next(files)
    for uri, schema in files:
        _require_same(first_uri, first, uri, schema)
    return first


def _require_same(first_uri: str, first: pl.Schema, uri: str, schema: pl.Schema) -> None:
    """Columns and types must agree; their order may differ."""
    if dict(first) != dict(schema):
        here, there = Uri.parse(uri).display, Uri.parse(first_uri).display
        raise SchemaMismatch(
            f"{here} differs from {there} (there):\n{schema_diff(first, schema)}",
            hint="name files of one schema, or bring them to one first",
        )


def _text_schema(fs: Filesystem, ref: DataRef, format_: Format, tmp: Path) -> _TextSchema:
    """Columns and types of a text file, from all of it or from its first lines."""
    with ExitStack() as stack:
        whole = ref.size_bytes <= SAMPLE_BYTES
        if whole:
            path = stack.enter_context(stage(ref, directory=tmp)).path
            data: Path | bytes = path
        else:
            data = _first_lines(fs, ref)
        try:
            schema = _infer(data, format_) if ref.size_bytes else pl.Schema()
            if not schema:
                raise pl.exceptions.NoDataError("no column")
        except pl.exceptions.NoDataError:
            raise DamagedFile(
                f"{_display(ref)} is empty: it has not even a header",
                hint="leave it out, or write it with its header",
            ) from None
        except pl.exceptions.PolarsError as exc:
            raise DamagedFile(
                f"{_display(ref)} cannot be read as {format_.value}: {first_line(exc)}",
                hint="check the file around that place",
            ) from exc
    return _TextSchema(schema, cut=not whole)


def _infer(data: Path | bytes, format_: Format) -> pl.Schema:
    if format_ is Format.CSV:
        source = data if isinstance(data, Path) else io.BytesIO(data)
        schema = pl.scan_csv(source, infer_schema_length=None, glob=False).collect_schema()
        if any("\0" in name for name in schema):
            raise pl.exceptions.ComputeError("it holds NUL bytes, so it is no text")
        return schema
    source = data if isinstance(data, Path) else io.BytesIO(data)
    return pl.scan_ndjson(source, infer_schema_length=None).collect_schema()


def _first_lines(fs: Filesystem, ref: DataRef) -> bytes:
    """About ``SAMPLE_BYTES`` of text from the beginning, up to the end of a line."""
    data = fs.read(ref, 0, SAMPLE_BYTES)
    codec = _CODECS.get(ref.uri[ref.uri.rfind(".") :].lower())
    if codec is not None:
        unpacked = bytearray()
        stream = pa.CompressedInputStream(pa.BufferReader(data), codec)
        try:
            while len(unpacked) < SAMPLE_BYTES:
                if not (chunk := stream.read(MIB)):
                    break
                unpacked += chunk
        except (OSError, pa.ArrowException):
            pass  # the sample ends in the middle of a frame; what came before it is good
        data = bytes(unpacked)
    return data[: data.rfind(b"\n") + 1]


def _widest(schemas: Mapping[str, pl.Schema], format_: Format) -> pl.Schema:
    """One schema for all files: types widened, columns as the first file orders them.

    CSV files must have the same columns. A key may be missing from a JSON line, so files of
    JSON lines may differ.
    """
    files = iter(schemas.items())
    first_uri, first = next(files)
    merged: dict[str, pl.DataType] = dict(first)
    for uri, schema in files:
        if format_ is Format.CSV and set(schema) != set(first):
            _require_same(first_uri, first, uri, schema)
        for name, dtype in schema.items():
            merged[name] = _wider(merged.get(name, dtype), dtype, name, uri)
    return pl.Schema({n: pl.String() if t == pl.Null() else t for n, t in merged.items()})


def _wider(one: pl.DataType, other: pl.DataType, column: str, uri: str) -> pl.DataType:
    if one == other:
        return one
    empty = [pl.DataFrame(schema={column: dtype}) for dtype in (one, other)]
    try:
        if pl.Boolean() in (one, other) and not {pl.String(), pl.Null()} & {one, other}:
            # Polars counts true as 1, but reads no "true" as a number.
            raise pl.exceptions.SchemaError("true and false are no numbers")
        return pl.concat(empty, how="vertical_relaxed").schema[column]
    except pl.exceptions.PolarsError as exc:
        raise SchemaMismatch(
            f"column '{column}' is {other} in {Uri.parse(uri).display} and {one} in files before"
            " it",
            hint="name files of one schema, or bring them to one first",
        ) from exc


def _require_no_new_keys(path: Path, types: Mapping[str, pl.DataType]) -> None:
    """Refuse keys that came after the sample: reading with the schema would drop them."""
    found = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
    if new := [*_new_keys(pl.Struct(found), pl.Struct(types), "")]:
        raise DataError(
            f"keys {', '.join(new)} appear only after the first {SAMPLE_BYTES // MIB} MiB",
            hint="put a line that has every key first",
        )


def _new_keys(found: PolarsDataType, have: PolarsDataType, prefix: str) -> Iterator[str]:
    """Keys of ``found``, at any depth, that ``have`` lacks."""
    if isinstance(found, pl.List) and isinstance(have, pl.List):
        yield from _new_keys(found.inner, have.inner, prefix)
    elif isinstance(found, pl.Struct) and isinstance(have, pl.Struct):
        known = {field.name: field.dtype for field in have.fields}
        for field in found.fields:
            if field.name not in known:
                yield f"{prefix}{field.name}"
            else:
                yield from _new_keys(field.dtype, known[field.name], f"{prefix}{field.name}.")
