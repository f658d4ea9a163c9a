"""Column types by name, as step files write them."""

from __future__ import annotations

import re

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
