"""One schema for files whose schemas may differ, decided before anything is read.

Files that differ are refused with a diff (``strict``), read as the narrowest schema that holds the
values of all of them exactly (``widen``), or cast to a schema that was given. What was decided is
said in notes, a plain line for each column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from headwater.infra.errors import SchemaMismatch, UnknownName, UnsupportedData
from headwater.infra.models import Drift, ReadOptions
from headwater.infra.storage.casts import can_hold_some, is_lossless
from headwater.infra.storage.dtypes import dtype_of
from headwater.infra.storage.types import MAX_DECIMAL_DIGITS, as_instance, match_names
from headwater.infra.storage.uris import Uri

GIVE_SCHEMA = "give a schema, for example --drift 'fare: Float64, day: Date', or a file of it"

_INTEGERS: tuple[pl.DataType, ...] = (
    *(pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64()),
    *(pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()),
)
_NUMBERS: tuple[pl.DataType, ...] = (*_INTEGERS, pl.Float32(), pl.Float64())


@dataclass(frozen=True, slots=True)
class Agreed:
    """The one schema of an input, and what was widened so that there is one."""

    schema: pl.Schema
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Column:
    """What files say of one column; each is named by the first file that says so."""

    name: str
    spellings: dict[str, str] = field(default_factory=dict)
    types: dict[pl.DataType, str] = field(default_factory=dict)
    files: int = 0


def agree(
    schemas: Sequence[tuple[str, pl.Schema]],
    options: ReadOptions,
    decide: Callable[[str, Sequence[pl.DataType]], pl.DataType | None] | None = None,
) -> Agreed:
    """The schema that files of these schemas are read with.

    Args:
        schemas: Address and schema of each file, in order; the first one's order is kept.
        options: Its ``drift`` decides, or its ``columns`` where a schema is given.
        decide: The type of a column that has several, from its name and these; ``None`` where
            there is none. By default the narrowest that holds all their values.
    Raises:
        SchemaMismatch: The files differ and may not, or no type holds the values of all.
        UnsupportedData: Names in one file differ only by case.
        UnknownName: A column of the given schema is in no file.
    """
    if options.columns:
        return _given(schemas, {name: dtype_of(text) for name, text in options.columns})
    if options.drift is Drift.STRICT:
        first_uri, first = schemas[0]
        for uri, schema in schemas[1:]:
            _require_same(first_uri, first, uri, schema)
        return Agreed(first)
    return _widened(schemas, decide or _widest)


def wider(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The narrowest type that holds the values of both; ``None`` where none does.

    Whole numbers of 64 bits and decimals become Float64 value by value: one that would change is
    refused when it is read.

    Examples:
        >>> wider(pl.Int32(), pl.Int64()), wider(pl.Int64(), pl.Float32())
        (Int64, Float64)
        >>> wider(pl.Date(), pl.Int8()) is None
        True
    """
    if isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime):
        return _wider_time(one, other)
    if is_lossless(one, other):
        return other
    if is_lossless(other, one):
        return one
    match one, other:
        case ((pl.Categorical() | pl.Enum()), (pl.Categorical() | pl.Enum())):
            return pl.String()
        case (
            (pl.List(inner=here) | pl.Array(inner=here)),
            (pl.List(inner=there) | pl.Array(inner=there)),
        ):
            inner = wider(as_instance(here), as_instance(there))
            return None if inner is None or not _nests(here, there, inner) else pl.List(inner)
        case pl.Struct(), pl.Struct():
            return _wider_struct(one, other)
        case _ if one.is_decimal() or other.is_decimal():
            return _wider_decimal(one, other)
        case _ if one in _NUMBERS and other in _NUMBERS:
            return _wider_number(one, other)
        case _:
            return None


def _wider_time(one: pl.Datetime, other: pl.Datetime) -> pl.DataType | None:
    """Microseconds, in the zone of both or in UTC; a local time is no instant."""
    here, there = one.time_zone, other.time_zone
    if (here is None) != (there is None):
        return None
    if one == other:
        return one
    return pl.Datetime("us", here if here == there else "UTC")


def _nests(here: object, there: object, inner: pl.DataType) -> bool:
    """Inside a list or struct no value is looked at, so every one must fit by its type."""
    return all(is_lossless(as_instance(t), inner) for t in (here, there))  # type: ignore[arg-type]


def _wider_struct(one: pl.Struct, other: pl.Struct) -> pl.DataType | None:
    fields = {f.name: as_instance(f.dtype) for f in one.fields}
    for f in other.fields:
        there = as_instance(f.dtype)
        found = wider(fields.get(f.name, there), there)
        if found is None or not _nests(fields.get(f.name, there), there, found):
            return None
        fields[f.name] = found
    return pl.Struct(fields)


def _wider_decimal(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    whole, scale = 0, 0
    for dtype in (one, other):
        if isinstance(dtype, pl.Decimal):
            precision = dtype.precision or MAX_DECIMAL_DIGITS
            whole, scale = max(whole, precision - dtype.scale), max(scale, dtype.scale)
        elif dtype in _INTEGERS:
            digits = next(d for d in range(1, 21) if is_lossless(dtype, pl.Decimal(d, 0)))
            whole = max(whole, digits)
        else:
            return None
    return pl.Decimal(whole + scale, scale) if whole + scale <= MAX_DECIMAL_DIGITS else None


def _wider_number(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    if one.is_float() or other.is_float():
        return pl.Float64()
    return next((t for t in _INTEGERS if is_lossless(one, t) and is_lossless(other, t)), None)


def combined(
    types: Sequence[pl.DataType],
    widen: Callable[[pl.DataType, pl.DataType], pl.DataType | None] = wider,
) -> pl.DataType | None:
    """One type for several, in whatever order they come; ``None`` where there is none."""
    # Floats first: a type that only some pairs have in common is then found for all of them.
    first, *others = sorted(types, key=lambda t: (not t.is_float(), str(t)))
    found: pl.DataType | None = first
    for dtype in others:
        found = None if found is None else widen(found, dtype)
    return found


def _widest(_: str, types: Sequence[pl.DataType]) -> pl.DataType | None:
    return combined(types)


def _widened(
    schemas: Sequence[tuple[str, pl.Schema]],
    decide: Callable[[str, Sequence[pl.DataType]], pl.DataType | None],
) -> Agreed:
    columns = _columns(schemas)
    merged: dict[str, pl.DataType] = {}
    conflicts = []
    for column in columns:
        types = list(column.types)
        found = types[0] if len(types) == 1 else decide(column.name, types)
        if found is None:
            conflicts.append(column)
        else:
            merged[column.name] = found
    if conflicts:
        raise SchemaMismatch(
            "files differ, and no type holds the values of all exactly:\n"
            + "\n".join(f"  {c.name}: {_said(c.types)}" for c in conflicts),
            hint=GIVE_SCHEMA,
        )
    notes = [note for c in columns for note in _notes(c, merged[c.name], schemas)]
    return Agreed(pl.Schema(merged), tuple(notes))


def _columns(schemas: Sequence[tuple[str, pl.Schema]]) -> list[_Column]:
    """Every column of every file, in the order in which they come."""
    by_fold: dict[str, _Column] = {}
    for uri, schema in schemas:
        seen: dict[str, str] = {}
        for name, dtype in schema.items():
            fold = name.casefold()
            if (twin := seen.setdefault(fold, name)) != name:
                raise UnsupportedData(
                    f"{_display(uri)} has columns '{twin}' and '{name}', whose names differ only"
                    " by case",
                    hint="read it with --drift strict and rename one in the job, or write the"
                    " file with other names",
                )
            column = by_fold.setdefault(fold, _Column(name))
            column.spellings.setdefault(name, uri)
            column.types.setdefault(dtype, uri)
            column.files += 1
    return list(by_fold.values())


def _notes(
    column: _Column, dtype: pl.DataType, schemas: Sequence[tuple[str, pl.Schema]]
) -> Iterator[str]:
    for name, uri in column.spellings.items():
        if name != column.name:
            yield f"column '{name}' of {_display(uri)} is read as '{column.name}'"
    if set(column.types) - {pl.Null()} != {dtype} - {pl.Null()}:
        yield f"column '{column.name}' is read as {dtype}: {_said(column.types)}"
    if column.files < len(schemas):
        yield _missing_note(column.name, column.files, schemas)


def _missing_note(name: str, files: int, schemas: Sequence[tuple[str, pl.Schema]]) -> str:
    first = next(uri for uri, schema in schemas if not match_names(schema, [name]))
    lacking = len(schemas) - files
    where = _display(first) if lacking == 1 else f"{lacking} of {len(schemas)} files"
    example = "" if lacking == 1 else f", for example {_display(first)}"
    lack = "lacks" if lacking == 1 else "lack"
    return f"column '{name}' is null in {where}, which {lack} it{example}"


def _said(types: Mapping[pl.DataType, str]) -> str:
    return ", ".join(f"{dtype} in {_display(uri)}" for dtype, uri in types.items())


def _given(schemas: Sequence[tuple[str, pl.Schema]], want: Mapping[str, pl.DataType]) -> Agreed:
    notes, conflicts = [], []
    counted = dict.fromkeys(want, 0)
    left_out: dict[str, None] = {}
    for uri, schema in schemas:
        names = match_names(schema, want)
        for name, spelt in names.items():
            counted[name] += 1
            have = schema[spelt]
            if have != want[name] and not can_hold_some(have, want[name]):
                conflicts.append(f"  {name}: {have} in {_display(uri)}, {want[name]} in the schema")
        left_out |= dict.fromkeys(n for n in schema if n not in names.values())
    if conflicts:
        raise SchemaMismatch(
            "columns cannot be cast to the given schema exactly:\n" + "\n".join(conflicts[:20]),
            hint="give types that hold their values",
        )
    for name, count in counted.items():
        if count == 0:
            known = dict.fromkeys(n for _, schema in schemas for n in schema)
            raise UnknownName.of("column", name, known, where="the sources to give a type to")
        if count < len(schemas):
            notes.append(_missing_note(name, count, schemas))
    if left_out:
        notes.append(f"columns that the schema does not name are left out: {', '.join(left_out)}")
    return Agreed(pl.Schema(want), tuple(notes))


def _require_same(first_uri: str, first: pl.Schema, uri: str, schema: pl.Schema) -> None:
    """Columns and types must agree; their order may differ."""
    if dict(first) != dict(schema):
        raise SchemaMismatch(
            f"{_display(uri)} differs from {_display(first_uri)} (there):\n"
            f"{schema_diff(first, schema)}",
            hint="name files of one schema, or let them be widened with --drift widen",
        )


def schema_diff(have: pl.Schema, want: pl.Schema) -> str:
    """One line for each column that differs.

    Examples:
        >>> print(schema_diff(pl.Schema({"a": pl.Int64, "b": pl.String}),
        ...                   pl.Schema({"a": pl.Float64, "c": pl.Date})))
          a: Int64 there, Float64 here
          b: String there, missing here
          c: missing there, Date here
    """
    lines = []
    for name in [*have, *(n for n in want if n not in have)]:
        there, here = have.get(name), want.get(name)
        if there != here:
            lines.append(f"  {name}: {there or 'missing'} there, {here or 'missing'} here")
    if not lines:
        lines.append(f"  the order of columns: {', '.join(have)} there, {', '.join(want)} here")
    return "\n".join(lines)


def _display(uri: str) -> str:
    return Uri.parse(uri).display
