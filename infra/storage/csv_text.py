"""CSV as rows: one reader for the scan and for every engine, in bounded memory.

Arrow splits the text into fields, with quoted newlines, and reports each row that has other
fields than the header. Values become what ``infer`` found over all rows, or what a given schema
says.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Literal, cast

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from headwater.infra.errors import DamagedFile, SchemaMismatch, UnsupportedData
from headwater.infra.storage.casts import EXACT_IN_FLOAT64, attempt, is_parsed
from headwater.infra.storage.types import column_of
from headwater.infra.storage.unpack import Stream
from headwater.infra.units import MIB

BLOCK_BYTES = 8 * MIB
"""The longest row; a quote that is never closed makes one that is longer."""

TAIL_BYTES = 4096
"""Kept of the end of a file, to see whether its last quote is closed."""

MAX_BAD_ROWS = 100_000
"""Bad rows of one file: beyond it the file is something else than was said."""

DELIMITERS = (",", ";", "\t", "|")
"""The first of these that a header has is its delimiter."""

INTEGER, FLOAT, BOOLEAN = "integer", "float", "boolean"
KINDS = frozenset({INTEGER, FLOAT, BOOLEAN})

# No plus sign and no leading zero: +49 and 007 are no numbers, and read back they must be the same.
_FRACTION = r"^-?(?:(?:0|[1-9]\d*)\.\d*|\.\d+)(?:[eE][-+]?\d+)?$|^-?(?:0|[1-9]\d*)[eE][-+]?\d+$"
_NO_NUMBER = r"^(?:NaN|-?inf)$"
_BOOLEANS = ["true", "false", "True", "False", "TRUE", "FALSE"]


@dataclass(frozen=True, slots=True)
class Kinds:
    """What all values of a column of text can be read as without a change.

    Attributes:
        possible: ``KINDS`` that hold every value; all of them where there is none.
        seen: Whether there is a value.
    """

    possible: frozenset[str] = KINDS
    seen: bool = False

    def __and__(self, other: Kinds) -> Kinds:
        return Kinds(self.possible & other.possible, self.seen or other.seen)

    @property
    def dtype(self) -> pl.DataType:
        """The type that they are read as; ``Null`` where there is no value."""
        if not self.seen:
            return pl.Null()
        if INTEGER in self.possible:
            return pl.Int64()
        if FLOAT in self.possible:
            return pl.Float64()
        return pl.Boolean() if BOOLEAN in self.possible else pl.String()


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that does not fit.

    Attributes:
        record: Which row of the file, from 1, the header included and empty lines not.
        reason: What is wrong with it.
        text: The row.
    """

    record: int
    reason: str
    text: str


@dataclass(slots=True)
class CsvReader:
    """One pass over the rows of a CSV file.

    Args:
        blocks: The text, in UTF-8 and without a mark.
        delimiter: Empty takes the header's.
        name: What messages call the file.
    """

    blocks: Iterator[bytes]
    delimiter: str
    name: str
    header: tuple[str, ...] = field(init=False)
    malformed: list[Malformed] = field(init=False, default_factory=list)
    rows: int = field(init=False, default=0)
    _stream: Stream = field(init=False)
    _refused: DamagedFile | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._stream = Stream(_from_first_line(self.blocks), TAIL_BYTES)
        self.delimiter, self.header = _header(self._stream.peek(), self.delimiter, self.name)

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Rows of text, block by block; malformed rows are left out and listed.

        Args:
            columns: ``None`` is all; those of them that the header lacks are left out.
        Raises:
            DamagedFile: A row is too long, a quote is not closed, or too many are malformed.
        """
        width = len(self.header)
        try:
            reader = pa_csv.open_csv(
                cast("IO[bytes]", self._stream),
                # With threads Arrow does not tell which row is malformed.
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.delimiter,
                    newlines_in_values=True,
                    # An empty line is a null where there is one column.
                    ignore_empty_lines=width > 1,
                    invalid_row_handler=self._note,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.header, pa.string()),
                    include_columns=list(columns) if columns else None,
                    check_utf8=False,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            last: pa.RecordBatch | None = None
            for batch in reader:
                self.rows += batch.num_rows
                last = batch if batch.num_rows else last
                if batch.num_rows:
                    yield pl.DataFrame(batch)
        except pa.ArrowInvalid as exc:
            raise self._refused or self._damaged(exc) from exc
        if last is not None and (columns is None or self.header[-1] in columns):
            self._require_closed(last.column(self.header[-1])[-1].as_py())

    def _note(self, row: pa_csv.InvalidRow) -> Literal["skip", "error"]:
        """Called by Arrow, which drops what is raised in here."""
        text = row.text
        if "\n" in text:
            self._refused = DamagedFile(
                f"{self.name}: row {row.number} goes over several lines and has"
                f" {row.actual_columns} fields where the header has {row.expected_columns};"
                f" a quote may be left open: {text[:60]!r}",
                hint="mend the quotes of the file there",
            )
        elif len(self.malformed) >= MAX_BAD_ROWS:
            self._refused = DamagedFile(
                f"{self.name} has more than {MAX_BAD_ROWS:,} rows with other fields than its"
                " header",
                hint="check the delimiter, and whether its first line is a header",
            )
        if self._refused is not None:
            return "error"
        self.malformed.append(
            Malformed(
                row.number or 0,  # known, as Arrow reads with one thread
                f"{row.actual_columns} fields where the header has {row.expected_columns}",
                text,
            )
        )
        return "skip"

    def _damaged(self, exc: pa.ArrowInvalid) -> DamagedFile:
        if "straddling" in str(exc):
            return DamagedFile(
                f"{self.name}: a row is longer than {BLOCK_BYTES // MIB} MiB; a quote may be left"
                " open",
                hint="mend the quotes of the file",
            )
        return DamagedFile(
            f"{self.name} cannot be read as csv: {str(exc).splitlines()[0]}",
            hint="check the file around that place",
        )

    def _require_closed(self, value: str | None) -> None:
        """Refuse a quote that is open at the end: all rows after it would be one value."""
        if not value or not value.endswith("\n"):
            return
        end = value.replace('"', '""').encode()[-TAIL_BYTES + 1 :]
        if self._stream.tail.endswith(end):
            raise DamagedFile(
                f"{self.name}: a quote is not closed before the file ends; its value begins"
                f" {value[:60]!r}",
                hint="mend the quotes of the file there",
            )


def infer(frame: pl.DataFrame, before: Mapping[str, Kinds]) -> dict[str, Kinds]:
    """What the values of ``frame``, and those before it, can be read as."""
    looks = {n: _first_looks(n, before[n].possible) for n in frame.columns}
    seen = _looked(frame, looks)
    # Whole numbers that a float holds, too, need no second look; most columns are such or text.
    looks = {n: _second_looks(n, before[n].possible, seen[n]) for n in frame.columns}
    seen = {n: {**seen[n], **found} for n, found in _looked(frame, looks).items()}
    return {
        name: before[name]
        & Kinds(frozenset(k for k in before[name].possible if seen[name].get(k)), found["seen"])
        for name, found in seen.items()
    }


def _looked(
    frame: pl.DataFrame, looks: Mapping[str, Mapping[str, pl.Expr]]
) -> dict[str, dict[str, bool]]:
    flat = [
        (name, look, expr.alias(f"{n}"))
        for n, (name, look, expr) in enumerate(
            (name, look, expr) for name, all_ in looks.items() for look, expr in all_.items()
        )
    ]
    values = frame.select([expr for *_, expr in flat]).row(0) if flat else ()
    found: dict[str, dict[str, bool]] = {name: {} for name in looks}
    for (name, look, _), value in zip(flat, values, strict=True):
        found[name][look] = bool(value)
    return found


def _given(name: str) -> pl.Expr:
    """The text; a quoted nothing is no number, but no text in a column of numbers either."""
    text = column_of(name)
    return pl.when(text != "").then(text).otherwise(None)


def _first_looks(name: str, possible: frozenset[str]) -> dict[str, pl.Expr]:
    given = _given(name)
    looks = {"seen": given.is_not_null().any()}
    if INTEGER in possible:
        whole = given.cast(pl.Int64, strict=False)
        looks[INTEGER] = whole.cast(pl.String).eq_missing(given).all()
        looks["fits"] = _fits(whole).all()
    return looks


def _second_looks(
    name: str, possible: frozenset[str], first: Mapping[str, bool]
) -> dict[str, pl.Expr]:
    is_whole, fits = first.get(INTEGER, False), first.get("fits", False)
    given = _given(name)
    looks = {}
    if FLOAT in possible:
        whole = given.cast(pl.Int64, strict=False)
        is_exact = whole.cast(pl.String).eq_missing(given) & _fits(whole)
        number = given.str.contains(_FRACTION) | given.str.contains(_NO_NUMBER)
        known = is_whole and fits
        looks[FLOAT] = pl.lit(True) if known else (given.is_null() | is_exact | number).all()
    if BOOLEAN in possible:
        known = is_whole and first["seen"]
        looks[BOOLEAN] = (
            pl.lit(False) if known else (given.is_null() | given.is_in(_BOOLEANS)).all()
        )
    return looks


def _fits(whole: pl.Expr) -> pl.Expr:
    return whole.is_between(-EXACT_IN_FLOAT64, EXACT_IN_FLOAT64)


def typed(
    frame: pl.DataFrame, types: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, pl.Series, Callable[[int], str]]:
    """``frame`` with its text read as ``types``, which rows cannot be, and why a row cannot."""
    values, wrong = [], []
    for name, dtype in types.items():
        value, inexact = attempt(column_of(name), pl.String(), dtype)
        values.append(value.alias(name))
        wrong.append(inexact.alias(name))
    bad = frame.select(wrong)

    def reason(row: int) -> str:
        name = next(n for n in types if bad[n][row])
        return f"column '{name}' holds {frame[name][row]!r}, which is no {types[name]}"

    if not types:
        return frame.select(), pl.repeat(False, frame.height, eager=True), reason
    return frame.select(values), bad.select(pl.any_horizontal(pl.all())).to_series(), reason


def record_of(row: int, malformed: Sequence[int]) -> int:
    """The record that is the good row of this index, where ``malformed`` records are left out.

    Examples:
        >>> [record_of(row, [3, 4, 7]) for row in range(4)]
        [2, 5, 6, 8]
    """
    record = row + 2
    while (moved := row + 2 + bisect_left(malformed, record + 1)) != record:
        record = moved
    return record


def lines_of(blocks: Iterator[bytes], delimiter: str, records: Sequence[int]) -> dict[int, int]:
    """The line on which each of ``records`` begins; both are counted from 1, empty lines too."""
    csv.field_size_limit(2 * BLOCK_BYTES)
    wanted, found = set(records), {}
    reader = csv.reader(_lines(blocks), delimiter=delimiter)
    width = 0
    record, before = 0, 0
    for fields in reader:
        width = width or len(fields)
        if fields or width == 1:
            record += 1
            if record in wanted:
                found[record] = before + 1
                if len(found) == len(wanted):
                    break
        before = reader.line_num
    return found


def _from_first_line(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks without empty lines at the beginning."""
    begun = False
    for block in blocks:
        if kept := block if begun else block.lstrip(b"\r\n"):
            begun = True
            yield kept


def as_line(values: Sequence[str | None], delimiter: str) -> str:
    """A row as CSV has it."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow(values)
    return text.getvalue()


def _lines(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line.decode() + "\n"
    if rest:
        yield rest.decode()


def _header(first: bytes, delimiter: str, name: str) -> tuple[str, tuple[str, ...]]:
    lines = (line for line in _lines(iter([first])) if line.strip("\r\n"))
    text = "".join(islice(lines, 1000))
    line = text.partition("\n")[0]
    found = delimiter or next((d for d in DELIMITERS if d in line), ",")
    header = next(csv.reader(text.splitlines(keepends=True), delimiter=found), [])
    if not header:
        raise DamagedFile(
            f"{name} is empty: it has not even a header",
            hint="leave it out, or write it with its header",
        )
    twice = sorted({n for n in header if header.count(n) > 1})
    if twice:
        raise SchemaMismatch(
            f"{name} names column '{twice[0]}' {header.count(twice[0])} times in its header",
            hint="give each column a name of its own",
        )
    return found, tuple(header)


def require_parsed(types: Mapping[str, pl.DataType], name: str) -> None:
    """Refuse types that text cannot be read as.

    Raises:
        UnsupportedData: A column has such a type.
    """
    for column, dtype in types.items():
        if not is_parsed(dtype):
            raise UnsupportedData(
                f"column '{column}' of {name} is text, which cannot be read as {dtype}",
                hint="read it as String and turn it into that in the job",
            )
