"""Column types by name, as step files and given schemas write them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.infra.storage.types import MAX_DECIMAL_DIGITS

_PLAIN: dict[str, pl.DataType] = {
    str(t): t
    for t in (
        pl.Int8(),
        pl.Int16(),
        pl.Int32(),
        pl.Int64(),
        pl.UInt8(),
        pl.UInt16(),
        pl.UInt32(),
        pl.UInt64(),
        pl.Float32(),
        pl.Float64(),
        pl.Boolean(),
        pl.String(),
        pl.Binary(),
        pl.Date(),
        pl.Time(),
    )
}
_KNOWN = (*_PLAIN, "Decimal(18, 2)", "Datetime", "Datetime(UTC)", "List(Int64)")
_SPELT = {name.casefold(): name for name in (*_PLAIN, "Datetime", "Decimal", "List")}
_WORD = re.compile(r"[A-Za-z]\w*(?=\s*(?:[(),]|$))")
_PAIR = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|[^:,"]+?)\s*:\s*(\w+(?:\s*\((?:[^()]|\([^()]*\))*\))?)\s*(?:,|$)"""
)
_CALL = re.compile(r"(\w+)\s*\(\s*(.*?)\s*\)")


def dtype_of(text: str) -> pl.DataType:
    """The type that ``text`` names.

    Plain types have Polars' names. ``Datetime`` is a local time and ``Datetime(ZONE)`` an instant,
    both in microseconds, which is what a table keeps.

    Raises:
        UnknownName: No such type.
        InvalidRequest: A type with arguments that it cannot have.

    Examples:
        >>> dtype_of("Int64"), dtype_of("Decimal(12, 2)"), dtype_of("List(String)")
        (Int64, Decimal(precision=12, scale=2), List(String))
        >>> dtype_of("Datetime(UTC)")
        Datetime(time_unit='us', time_zone='UTC')
    """
    name = text.strip()
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "Datetime":
        return pl.Datetime("us")
    call = _CALL.fullmatch(name)
    match call.groups() if call else None:
        case ("Datetime", zone):
            return pl.Datetime("us", require_zone(zone))
        case ("Decimal", digits):
            return _decimal(text, digits)
        case ("List", inner):
            return pl.List(dtype_of(inner))
        case _:
            raise UnknownName.of("type", text, _KNOWN)


def written_columns(text: str) -> tuple[tuple[str, str], ...]:
    """Names and types of a schema that is given as a file or as text.

    A file is TOML or JSON with one ``name = "type"`` for each column. Text is
    ``name: type, name: type``; a name with a comma or colon is in double quotes. Types are those
    of ``dtype_of``, in any case.

    Raises:
        InvalidRequest: The text is neither, or the file is missing or no schema.
        UnknownName: No such type.

    Examples:
        >>> written_columns("a: int64, b: decimal(12, 2)")
        (('a', 'Int64'), ('b', 'Decimal(12, 2)'))
    """
    path = Path(text)
    if path.suffix.lower() in (".toml", ".json"):
        return columns_of(_from_file(path), str(path))
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise InvalidRequest(
                f"'{text[at:].strip()}' is no 'name: type'",
                hint="write a schema as 'fare: Float64, day: Date', or name a .toml or .json file"
                " of it",
            )
        name = json.loads(pair[1]) if pair[1].startswith('"') else pair[1]
        if name in found:
            raise InvalidRequest(
                f"the schema names column '{name}' twice", hint="name each column once"
            )
        found[name] = pair[2]
        at = pair.end()
    return columns_of(found, "the schema")


def columns_of(types: Mapping[str, object], place: str) -> tuple[tuple[str, str], ...]:
    """Names and types of a given schema, each type in its one spelling.

    Args:
        place: What messages call the schema.
    Raises:
        InvalidRequest: It names no column, or something that is no type.
        UnknownName: No such type.
    """
    if not types:
        raise InvalidRequest(f"{place} names no column", hint='write name = "type"')
    found = []
    for name, text in types.items():
        if not isinstance(text, str):
            raise InvalidRequest(
                f"{place}: column '{name}' has {text!r} where a type is meant",
                hint='write it as text, for example "Int64"',
            )
        dtype_of(spelt := _WORD.sub(lambda word: _SPELT.get(word[0].casefold(), word[0]), text))
        found.append((name, spelt.strip()))
    return tuple(found)


def _from_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text("utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except FileNotFoundError as exc:
        raise InvalidRequest(f"there is no schema file {path}", hint="check the path") from exc
    except (OSError, ValueError) as exc:  # both readers' errors and a wrong encoding are the last
        raise InvalidRequest(
            f"the schema file {path} cannot be read: {exc}",
            hint='write it as name = "type", one for each column',
        ) from exc
    if not isinstance(content, dict):
        raise InvalidRequest(f"the schema file {path} is no object", hint="name columns and types")
    return content


def require_zone(zone: str) -> str:
    """``zone``, if it is a time zone.

    Raises:
        UnknownName: It is none; the near ones are listed.
    """
    try:
        pl.Series([], dtype=pl.Datetime("us")).dt.replace_time_zone(zone)
    except pl.exceptions.ComputeError as exc:
        from zoneinfo import available_timezones

        raise UnknownName.of(
            "time zone", zone, available_timezones(), hint="write it as Europe/Paris or UTC"
        ) from exc
    return zone


def _decimal(text: str, digits: str) -> pl.DataType:
    numbers = re.fullmatch(r"(\d+)\s*,\s*(\d+)", digits)
    precision, scale = map(int, numbers.groups()) if numbers else (0, 0)
    if not 0 < precision <= MAX_DECIMAL_DIGITS or scale > precision:
        raise InvalidRequest(
            f"'{text}' is no decimal type",
            hint=f"write Decimal(DIGITS, OF THEM AFTER THE POINT), at most {MAX_DECIMAL_DIGITS}"
            " digits, as in Decimal(18, 2)",
        )
    return pl.Decimal(precision, scale)
