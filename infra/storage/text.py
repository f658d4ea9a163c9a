"""Text files, CSV and JSON lines: what a scan finds in all of their rows, and their rows.

Types are inferred over every row of every file. The reader of the scan is the reader of the run,
so rows that were good at the scan are the rows that every engine gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from headwater.infra.errors import DamagedFile, UnsupportedData
from headwater.infra.models import BadRow, BadRows, DataRef, Drift, Format, ReadOptions
from headwater.infra.storage import csv_text, json_text, unpack
from headwater.infra.storage.csv_text import CsvReader, Kinds
from headwater.infra.storage.drift import Agreed, agree, combined
from headwater.infra.storage.dtypes import dtype_of
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.json_text import JsonReader
from headwater.infra.storage.listing import display
from headwater.infra.storage.types import match_names
from headwater.infra.storage.uris import Uri

READERS = 4
"""Text files that are scanned together; each takes some blocks of memory."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """What a scan found in all rows of a text file.

    Attributes:
        kinds: Of CSV, what each column can be read as; files agree on what all of them can.
        schema: Columns with the types that the file alone would have.
        rows: Good rows.
        bad: The others.
        no_floats: Of JSON, columns with a whole number that no Float64 holds, and the first one.
    """

    uri: str
    schema: pl.Schema
    rows: int
    bad: tuple[BadRow, ...] = ()
    kinds: tuple[tuple[str, Kinds], ...] = ()
    no_floats: tuple[tuple[str, int], ...] = ()


def scan_text(fs: Filesystem, ref: DataRef, format_: Format, options: ReadOptions) -> TextFile:
    """What is in all rows of a text file, read once, in bounded memory.

    Raises:
        DamagedFile: It is empty, not whole, no text, or has bad rows and may not.
        SchemaMismatch: Its header names a column twice.
        UnsupportedData: It unpacks to far more than it should.
    """

    def blocks() -> Iterator[bytes]:
        packed = unpack.unpacked(unpack.Ranges(fs, ref), ref, options.max_expansion)
        return unpack.decoded(packed, ref, options.encoding)

    if format_ is Format.CSV:
        return _scan_csv(blocks, ref, options)
    text = [name for name, dtype in options.columns if dtype_of(dtype) == pl.String()]
    reader = JsonReader(blocks(), display(ref), text)
    schema = pl.Schema()
    for frame in reader.frames():
        schema = json_text.merged(
            schema, frame.schema, f"a later line of {display(ref)}", "lines before it"
        )
    bad = tuple(BadRow(ref.uri, b.line, b.reason, b.text) for b in reader.bad)
    _require_none(bad, options, format_)
    if not schema:
        raise DamagedFile(
            f"{display(ref)} is empty: it has not even one object",
            hint="leave it out, or write it with its objects",
        )
    return TextFile(ref.uri, schema, reader.rows, bad, no_floats=tuple(reader.no_floats.items()))


def _scan_csv(
    blocks: Callable[[], Iterator[bytes]], ref: DataRef, options: ReadOptions
) -> TextFile:
    reader = CsvReader(blocks(), options.delimiter, display(ref))
    given = given_types(reader.header, options)
    csv_text.require_parsed(given, display(ref))
    kinds = dict.fromkeys(reader.header, Kinds())
    unread: list[csv_text.Malformed] = []
    before = 0
    for frame in reader.frames():
        if options.columns:
            _, bad, reason = csv_text.typed(frame, given)
            if bad.any():
                malformed = [m.record for m in reader.malformed]
                for row in bad.arg_true():
                    record = csv_text.record_of(before + row, malformed)
                    text = csv_text.as_line(frame.row(row), reader.delimiter)
                    unread.append(csv_text.Malformed(record, reason(row), text))
                    if options.bad_rows is BadRows.REFUSE:
                        break
        else:
            kinds = csv_text.infer(frame, kinds)
        before += frame.height
        if options.bad_rows is BadRows.REFUSE and (unread or reader.malformed):
            break
    found = sorted([*reader.malformed, *unread], key=lambda m: m.record)
    if options.bad_rows is BadRows.REFUSE:
        found = found[:1]
    bad_rows: tuple[BadRow, ...] = ()
    if found:
        lines = csv_text.lines_of(blocks(), reader.delimiter, [m.record for m in found])
        bad_rows = tuple(BadRow(ref.uri, lines[m.record], m.reason, m.text) for m in found)
        _require_none(bad_rows, options, Format.CSV)
    types = given if options.columns else {name: k.dtype for name, k in kinds.items()}
    schema = pl.Schema({name: types.get(name, pl.String()) for name in reader.header})
    return TextFile(ref.uri, schema, reader.rows - len(unread), bad_rows, tuple(kinds.items()))


def given_types(header: Sequence[str], options: ReadOptions) -> dict[str, pl.DataType]:
    """Of the columns of a header, those that a given schema types."""
    names = match_names(header, [name for name, _ in options.columns])
    return {names[n]: dtype_of(text) for n, text in options.columns if n in names}


def agreed_text(
    files: Sequence[TextFile],
    folders: Sequence[Mapping[str, object]],
    named: Mapping[str, pl.DataType],
    options: ReadOptions,
) -> Agreed:
    """The schema that text files are read with.

    In CSV, a number in one file and a text in another are both text: so they were written. A
    column in which no file has a value is text, too.

    Args:
        folders: What the folders of each file name.
        named: Types of the columns that folders name.
    Raises:
        SchemaMismatch: Files differ and may not, or no type holds the values of all.
    """
    kinds: dict[str, Kinds] = {}
    for file in files:
        for name, found in file.kinds:
            fold = name.casefold()
            kinds[fold] = kinds.get(fold, Kinds()) & found

    def decide(name: str, types: Sequence[pl.DataType]) -> pl.DataType | None:
        if (known := kinds.get(name.casefold())) is not None:
            return known.dtype
        return combined(types, json_text.wider_json) if types else None

    schemas = []
    for file, folder in zip(files, folders, strict=True):
        types = dict(file.schema)
        if options.drift is Drift.STRICT:
            # Where a file has no value of a column, that has the type that it has in others.
            types |= {n: decide(n, []) or t for n, t in types.items() if t == pl.Null()}
        types = {n: t for n, t in types.items() if n not in folder}
        schemas.append((file.uri, pl.Schema({**types, **{n: named[n] for n in folder}})))
    result = agree(schemas, options, decide)
    schema = {n: pl.String() if t == pl.Null() else t for n, t in result.schema.items()}
    return Agreed(pl.Schema(schema), result.notes)


def keys_of(files: Sequence[TextFile]) -> pl.Schema:
    """Every key of every file of JSON lines, as their values are parsed.

    Raises:
        UnsupportedData: A number would be rounded.
    """
    keys: dict[str, list[pl.DataType]] = {}
    for file in files:
        for name, dtype in file.schema.items():
            if dtype not in keys.setdefault(name, []):
                keys[name].append(dtype)
    found = {n: combined(types, json_text.wider_json) for n, types in keys.items()}
    for file in files:
        for name, value in file.no_floats:
            if found[name] == pl.Float64():
                raise UnsupportedData(
                    f"column '{name}' holds {value} in {Uri.parse(file.uri).display} and fractions"
                    " elsewhere, and no Float64 holds both exactly",
                    hint=f"keep its values as text with --drift '{name}: String'",
                )
    # Values that no type holds together are kept as their JSON; a given schema then decides.
    return pl.Schema({n: pl.String() if t in (None, pl.Null()) else t for n, t in found.items()})


def scan_csv(
    path: Path, name: str, types: Mapping[str, pl.DataType], options: ReadOptions
) -> pl.LazyFrame:
    """Rows of a staged CSV file with its own columns, those of ``types`` read as these.

    Args:
        name: What messages call the file.
        types: By names as a table has them; a header may spell them in another case.
    """
    ref = DataRef(str(Uri.parse(str(path))), path.stat().st_size, "")

    def open_reader() -> CsvReader:
        blocks = unpack.decoded(unpack.of_path(path), ref, options.encoding)
        return CsvReader(blocks, options.delimiter, name)

    header = open_reader().header
    meant = match_names(header, types)
    schema = {spelt: types[wanted] for wanted, spelt in meant.items()}
    given = given_types(header, options)

    def frames(columns: list[str] | None) -> Iterator[pl.DataFrame]:
        reader = open_reader()
        wanted = {n: t for n, t in schema.items() if columns is None or n in columns}
        # A row is left out for any of its columns, also for one that the job does not look at.
        for frame in reader.frames(list(dict.fromkeys([*wanted, *given])) or None):
            values, bad, reason = csv_text.typed(frame, wanted)
            if given:
                _, bad, reason = csv_text.typed(frame, given)
            if bad.any():
                if options.bad_rows is BadRows.REFUSE:
                    raise DamagedFile(f"{name}: {reason(bad.arg_true()[0])}")
                values = values.filter(~bad)
            yield values

    return _source(frames, pl.Schema(schema))


def scan_jsonl(path: Path, name: str, types: pl.Schema, options: ReadOptions) -> pl.LazyFrame:
    """Rows of a staged file of JSON lines with the columns ``types``."""
    ref = DataRef(str(Uri.parse(str(path))), path.stat().st_size, "")
    with path.open("rb") as file:
        is_plain = not file.read(3).startswith(b"\xef")
    if is_plain and options.bad_rows is BadRows.REFUSE and options.encoding == "utf-8":
        return pl.scan_ndjson(path, schema=types)

    def frames(columns: list[str] | None) -> Iterator[pl.DataFrame]:
        blocks = unpack.decoded(unpack.of_path(path), ref, options.encoding)
        for frame in JsonReader(blocks, name).frames(types):
            yield frame.select(columns) if columns is not None else frame

    return _source(frames, types)


def _source(
    frames: Callable[[list[str] | None], Iterator[pl.DataFrame]], schema: pl.Schema
) -> pl.LazyFrame:
    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - the engine's
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for frame in frames(with_columns):
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    return register_io_source(read, schema=schema)


def _require_none(bad: Sequence[BadRow], options: ReadOptions, format_: Format) -> None:
    if bad and options.bad_rows is BadRows.REFUSE:
        first = bad[0]
        raise DamagedFile(
            f"{Uri.parse(first.file).display} cannot be read as {format_.value}: line"
            f" {first.line}: {first.reason}",
            hint="mend the line, or leave such rows out with --bad-rows skip, or keep them in a"
            " file with --bad-rows aside",
        )
