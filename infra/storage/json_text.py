"""JSON lines as rows, block by block: one reader for the scan and for files with bad lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from headwater.infra.errors import DamagedFile, SchemaMismatch, first_line
from headwater.infra.storage.drift import wider
from headwater.infra.storage.types import as_instance, column_of
from headwater.infra.units import MIB

_LONG = re.compile(rb"[:\[,]\s*-?\d{16,}\s*[,}\]]")
"""A whole number that a Float64 may not hold."""

LINE_BYTES = 64 * MIB
"""The longest line."""

MAX_BAD_LINES = 100_000
"""Bad lines of one file: beyond it the file is something else than was said."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line, counted from 1, that is no JSON object, and why."""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class JsonReader:
    """One pass over the lines of a file of JSON lines.

    Args:
        blocks: The text, in UTF-8, ended by a line feed.
        name: What messages call the file.
        as_text: Keys whose values are kept as their JSON, of whatever kind they are.

    Attributes:
        bad: Lines that were left out.
        no_floats: Of each column that has some, the first whole number that no Float64 holds.
        rows: Rows that were read.
    """

    blocks: Iterator[bytes]
    name: str
    as_text: Sequence[str] = ()
    bad: list[BadLine] = field(init=False, default_factory=list)
    no_floats: dict[str, int] = field(init=False, default_factory=dict)
    rows: int = field(init=False, default=0)
    _line: int = field(init=False, default=0)

    def frames(self, schema: pl.Schema | None = None) -> Iterator[pl.DataFrame]:
        """Rows, block by block; bad lines are left out and listed.

        Args:
            schema: Columns to read; ``None`` reads what each block has.
        Raises:
            DamagedFile: A line is too long, too many are bad, or values of a block have types that
                no column holds together.
        """
        for text in self._whole_lines():
            frame = self._read(text, schema)
            if frame is not None and schema is None:
                self._look_for_long(text, frame)
            self._line += text.count(b"\n")
            if frame is not None and frame.height:
                self.rows += frame.height
                yield frame

    def _whole_lines(self) -> Iterator[bytes]:
        waiting: list[bytes] = []
        size = 0
        for block in self.blocks:
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*waiting, block[:end]])
                waiting, size = [], 0
            waiting.append(block[end:])
            size += len(block) - end
            if size > LINE_BYTES:
                raise DamagedFile(
                    f"{self.name}: a line is longer than {LINE_BYTES // MIB} MiB",
                    hint="write each object on a line of its own",
                )

    def _look_for_long(self, text: bytes, frame: pl.DataFrame) -> None:
        """Note whole numbers that would be rounded in a column that has fractions, too."""
        whole = [n for n, t in frame.schema.items() if t == pl.Int64()]
        mixed = [n for n, t in frame.schema.items() if t == pl.Float64()]
        found = frame.select(whole)
        if mixed and _LONG.search(text):
            # As text: in this block the engine has made them floats already.
            raw = pl.read_ndjson(text, schema=pl.Schema(dict.fromkeys(mixed, pl.String())))
            found = found.hstack(raw.select(pl.all().cast(pl.Int64, strict=False)))
        for name in found.columns:
            value = column_of(name)
            rounded = value.cast(pl.Float64).cast(pl.Int64, strict=False).ne_missing(value)
            first = found.filter(rounded).head(1)
            if first.height:
                self.no_floats.setdefault(name, first[name][0])

    def _read(self, text: bytes, schema: pl.Schema | None) -> pl.DataFrame | None:
        if not text.strip():
            return None
        try:
            return _parsed(text, schema, self.as_text)
        except pl.exceptions.PolarsError as exc:
            lines = text.splitlines(keepends=True)
            bad = {number for number, _ in _bad(lines, 0, self.as_text)}
            if not bad:
                raise DamagedFile(
                    f"{self.name} cannot be read as jsonl: {first_line(exc)}",
                    hint="check the values of that column, or give it the type String with --drift",
                ) from exc
            for number, said in _bad(lines, 0, self.as_text):
                shown = lines[number].decode(errors="replace").strip()
                self.bad.append(BadLine(self._line + number + 1, said, shown))
            if len(self.bad) > MAX_BAD_LINES:
                raise DamagedFile(
                    f"{self.name} has more than {MAX_BAD_LINES:,} lines that are no JSON objects",
                    hint="check whether it is JSON lines at all",
                ) from exc
            good = b"".join(line for n, line in enumerate(lines) if n not in bad)
            return self._read(good, schema)


def wider_json(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The type of a key that is ``one`` in some lines and ``other`` in others.

    Text holds every value, as its JSON; the engine reads it so inside one block, too. True and
    false are no numbers.
    """
    if one == other or other == pl.Null():
        return one
    if one == pl.Null():
        return other
    if pl.String() in (one, other):
        return pl.String()
    match one, other:
        case pl.List(inner=here), pl.List(inner=there):
            inner = wider_json(as_instance(here), as_instance(there))
            return None if inner is None else pl.List(inner)
        case pl.Struct(), pl.Struct():
            fields = {f.name: as_instance(f.dtype) for f in one.fields}
            for f in other.fields:
                there = as_instance(f.dtype)
                found = wider_json(fields.get(f.name, there), there)
                if found is None:
                    return None
                fields[f.name] = found
            return pl.Struct(fields)
        case _:
            return wider(one, other)


def merged(one: pl.Schema, other: pl.Schema, name: str, before: str) -> pl.Schema:
    """Keys of both, each with a type that holds its values in both.

    Args:
        name: What messages call the place of ``other``, and ``before`` that of ``one``.
    Raises:
        SchemaMismatch: A key has no such type.
    """
    types = dict(one)
    for key, dtype in other.items():
        found = wider_json(types.get(key, dtype), dtype)
        if found is None:
            raise SchemaMismatch(
                f"column '{key}' is {dtype} in {name} and {types[key]} in {before}",
                hint="bring its values to one type first",
            )
        types[key] = found
    return pl.Schema(types)


def _parsed(text: bytes, schema: pl.Schema | None, as_text: Sequence[str]) -> pl.DataFrame:
    if schema is None:
        overrides = {name: pl.String() for name in as_text}
        return pl.read_ndjson(text, infer_schema_length=None, schema_overrides=overrides)
    return pl.read_ndjson(text, schema=schema)


def _bad(lines: list[bytes], first: int, as_text: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Index and reason of each line that cannot be read even alone, found by halving."""
    try:
        if b"".join(lines).strip():
            _parsed(b"".join(lines), None, as_text)
    except pl.exceptions.PolarsError as exc:
        if len(lines) == 1:
            yield first, first_line(exc)
            return
        middle = len(lines) // 2
        yield from _bad(lines[:middle], first, as_text)
        yield from _bad(lines[middle:], first + middle, as_text)
