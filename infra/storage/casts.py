"""Casts that change no value: a value that the new type cannot hold makes the plan fail.

An expression cannot raise by itself, so the text of a refusal is parsed as a number, which fails
and carries the text out of the engine; ``refusal`` finds it in the error.
"""

from __future__ import annotations

import re

import polars as pl

from headwater.infra.errors import UnsupportedData
from headwater.infra.storage.types import as_instance, column_of, match_names, stored_type

EXACT_IN_FLOAT64 = 2**53
"""Every whole number up to this has a Float64 of its own."""

_SIGNED: tuple[pl.DataType, ...] = (pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64())
_UNSIGNED: tuple[pl.DataType, ...] = (pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64())
_DIGITS: dict[pl.DataType, int] = {
    pl.Int8(): 3,
    pl.UInt8(): 3,
    pl.Int16(): 5,
    pl.UInt16(): 5,
    pl.Int32(): 10,
    pl.UInt32(): 10,
    pl.Int64(): 19,
    pl.UInt64(): 20,
}
_TEXT = (pl.String, pl.Categorical, pl.Enum)
_SMALL_INTS = (pl.Int8(), pl.Int16(), pl.UInt8(), pl.UInt16())
_REFUSED = re.compile(r"headwater: (.*?, which is no exact .*?) :headwater", re.DOTALL)
_FINER = re.compile(r"column '.*' is finer than a microsecond at [-+:. \w]*\w")
"""How a plan of ``conform`` says so; the text that ``_exact_cast`` makes fail."""
_MOMENT = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6}0*)?)?"


def is_lossless(have: pl.DataType, want: pl.DataType) -> bool:
    """Whether ``want`` holds every value of ``have``, so that none has to be looked at.

    Examples:
        >>> is_lossless(pl.Int32(), pl.Float64()), is_lossless(pl.Int64(), pl.Float64())
        (True, False)
    """
    if have == want or have == pl.Null():
        return True
    match have, want:
        case ((pl.String() | pl.Categorical() | pl.Enum()), pl.String()):
            return True
        case pl.Datetime(time_unit="ms" | "us", time_zone=None), pl.Datetime(
            time_unit="us", time_zone=None
        ):
            return True
        case pl.Datetime(time_unit="ms" | "us", time_zone=str()), pl.Datetime(
            time_unit="us", time_zone=str()
        ):
            return True
        case _, pl.Decimal(precision=int() as digits, scale=scale) if have in _DIGITS:
            return _DIGITS[have] <= digits - scale
        case pl.Decimal(precision=int() as have_digits, scale=have_scale), pl.Decimal(
            precision=int() as digits, scale=scale
        ):
            return have_scale <= scale and have_digits - have_scale <= digits - scale
        case ((pl.List(inner=one) | pl.Array(inner=one)), pl.List(inner=other)):
            return is_lossless(as_instance(one), as_instance(other))
        case pl.Struct(fields=fields), pl.Struct(fields=wanted):
            types = {field.name: as_instance(field.dtype) for field in wanted}
            return all(
                field.name in types and is_lossless(as_instance(field.dtype), types[field.name])
                for field in fields
            )
        case _:
            return _is_wider_number(have, want)


def _is_wider_number(have: pl.DataType, want: pl.DataType) -> bool:
    for ladder in (_SIGNED, _UNSIGNED):
        if have in ladder and want in ladder:
            return ladder.index(have) <= ladder.index(want)
    if have in _UNSIGNED and want in _SIGNED:
        return _UNSIGNED.index(have) < _SIGNED.index(want)
    if want == pl.Float64():
        return have == pl.Float32() or (have in _DIGITS and _DIGITS[have] <= _DIGITS[pl.Int32()])
    return want == pl.Float32() and have in _SMALL_INTS


def can_hold_some(have: pl.DataType, want: pl.DataType) -> bool:
    """Whether some values of ``have`` have an exact counterpart in ``want``; others are found."""
    if is_lossless(have, want):
        return True
    if isinstance(have, _TEXT):
        return is_parsed(want)
    match have, want:
        case pl.Datetime(time_zone=None), pl.Datetime(time_zone=None):
            return True
        case pl.Datetime(time_zone=str()), pl.Datetime(time_zone=str()):
            return True
        case (pl.Date(), pl.Datetime(time_zone=None)) | (pl.Datetime(time_zone=None), pl.Date()):
            return True
        case _, pl.String():
            return have in _DIGITS or isinstance(have, (pl.Boolean, pl.Date))
        case _:
            numbers = (have, want)
            return all(t in _DIGITS or t.is_float() or t.is_decimal() for t in numbers)


def is_parsed(want: pl.DataType) -> bool:
    """Whether values of this type can be written as text, as CSV has them."""
    kinds = (*_TEXT, pl.Boolean, pl.Date, pl.Datetime, pl.Decimal)
    return isinstance(want, kinds) or want in _DIGITS or want.is_float()


def exact(
    expr: pl.Expr, have: pl.DataType, want: pl.DataType, *, column: str, place: str
) -> pl.Expr:
    """``expr`` as ``want``; a value that has no exact counterpart makes the plan fail.

    Args:
        place: What messages call the file.
    Raises:
        UnsupportedData: No value of ``have`` has one.
    """
    if have == want:
        return expr
    if is_lossless(have, want):
        return _zoned(expr, have, want).cast(want)
    if not can_hold_some(have, want):
        raise UnsupportedData(
            f"column '{column}' is {have} in {place}, which cannot be read as {want} exactly",
            hint="give a schema that fits with --drift, or bring the file to one first",
        )
    value, inexact = attempt(expr, have, want)
    said = pl.when(inexact).then(
        pl.format(
            "headwater: column '{}' holds {} in {}, which is no exact {} :headwater",
            pl.lit(column),
            expr.cast(pl.String),
            pl.lit(place),
            pl.lit(str(want)),
        )
    )
    failing = said.otherwise(None).str.to_integer()
    # Never a value: it is null, or it fails. It must be used, or the engine leaves it out.
    return pl.when(failing.is_null()).then(value).otherwise(None)


def attempt(expr: pl.Expr, have: pl.DataType, want: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    """``expr`` as ``want``, null where that cannot be; and whether a value would change."""
    if isinstance(have, _TEXT):
        value = parsed(expr.cast(pl.String), want)
        if isinstance(want, pl.String):
            return value, pl.lit(False)
        # An empty text says nothing, so it is null where a number or a date is meant.
        return value, value.is_null() & expr.is_not_null() & (expr.cast(pl.String) != "")
    value = _zoned(expr, have, want).cast(want, strict=False)
    if isinstance(want, pl.String):
        return value, pl.lit(False)
    back = _zoned(value, want, have).cast(have, strict=False)
    return value, back.ne_missing(expr)


def parsed(text: pl.Expr, want: pl.DataType) -> pl.Expr:
    """What ``text`` says as ``want``; null where it says nothing, or nothing exact, of the kind."""
    match want:
        case pl.String():
            return text
        case pl.Boolean():
            lower = text.str.to_lowercase()
            return pl.when(lower.is_in(["true", "false"])).then(lower == "true").otherwise(None)
        case pl.Date():
            return text.str.to_date("%Y-%m-%d", strict=False)
        case pl.Datetime(time_zone=None):
            fits = text.str.contains(_MOMENT + "$")
            spaced = pl.when(fits).then(text.str.replace("T", " ", literal=True)).otherwise(None)
            return pl.coalesce(
                spaced.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False),
                spaced.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False),
            )
        case pl.Datetime(time_zone=zone):
            fits = text.str.contains(_MOMENT + r"(?:Z|[-+]\d\d:?\d\d)$")
            spaced = text.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
            spaced = pl.when(fits).then(spaced).otherwise(None)
            moment = spaced.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
            return moment.dt.convert_time_zone(zone or "UTC")
        case pl.Decimal(scale=scale):
            digits = rf"\d+(?:\.\d{{0,{scale}}}0*)?"
            if scale:
                digits += rf"|\.\d{{1,{scale}}}0*"
            fits = text.str.contains(f"^[-+]?(?:{digits})$")
            return pl.when(fits).then(text).otherwise(None).cast(want, strict=False)
        case _:
            return text.cast(want, strict=False)


def refusal(error: BaseException) -> UnsupportedData | None:
    """What a plan of ``exact`` failed with; ``None`` where it was another error."""
    found = _REFUSED.search(str(error))
    if found is None:
        return None
    return UnsupportedData(
        found[1], hint="give a schema whose types hold it with --drift, or mend the value"
    )


def conform(frame: pl.LazyFrame, have: pl.Schema, want: pl.Schema) -> pl.LazyFrame:
    """``frame`` with the columns of ``want``, in its order, cast without any loss.

    A column that is spelt otherwise is renamed, and one that the frame lacks is null. A time
    stamp finer than a microsecond makes the plan fail when it is collected; ``finer_than_kept``
    tells such a failure from others.
    """
    spelt = match_names(have, want)
    columns = []
    for name, dtype in want.items():
        if (found := spelt.get(name)) is None:
            columns.append(pl.lit(None, dtype=dtype).alias(name))
            continue
        kept = have[found] if have[found] == dtype else stored_type(have[found], found)
        value = _exact_cast(column_of(found), have[found], kept, found)
        columns.append(exact(value, kept, dtype, column=name, place="the result").alias(name))
    return frame.select(columns)


def finer_than_kept(error: BaseException) -> UnsupportedData | None:
    """The refusal that a plan of ``conform`` failed with; ``None`` where it was another error."""
    found = _FINER.search(str(error))
    if found is None:
        return None
    return UnsupportedData(
        f"{found[0]}, which a table cannot hold exactly",
        hint="round it in the job, for example with .dt.truncate('1us')",
    )


def _exact_cast(expr: pl.Expr, have: pl.DataType, want: pl.DataType, column: str) -> pl.Expr:
    """``expr`` cast so that no value changes; a value that would makes the plan fail."""
    if have == want:
        return expr
    if isinstance(have, pl.Datetime) and isinstance(want, pl.Datetime):
        if have.time_zone is not None and have.time_zone != want.time_zone:
            expr = expr.dt.convert_time_zone(want.time_zone or "UTC")
        if have.time_unit != "ns":
            return expr.cast(want)
        finer = expr.dt.nanosecond() % 1000 != 0
        # An expression cannot raise by itself; parsing this text as a number does.
        said = pl.when(finer).then(
            pl.format(f"column '{column}' is finer than a microsecond at {{}}", expr)
        )
        return pl.coalesce(said.otherwise(None).str.to_integer().cast(want), expr.cast(want))
    if _holds_nanoseconds(have):
        raise UnsupportedData(
            f"column '{column}' of type {have} holds nanoseconds inside",
            hint="cast them to microseconds in the job",
        )
    return expr.cast(want)


def _holds_nanoseconds(dtype: pl.DataType) -> bool:
    match dtype:
        case pl.Datetime(time_unit="ns"):
            return True
        case pl.List(inner=inner) | pl.Array(inner=inner):
            return _holds_nanoseconds(as_instance(inner))
        case pl.Struct(fields=fields):
            return any(_holds_nanoseconds(as_instance(f.dtype)) for f in fields)
        case _:
            return False


def _zoned(expr: pl.Expr, have: pl.DataType, want: pl.DataType) -> pl.Expr:
    if (
        isinstance(have, pl.Datetime)
        and isinstance(want, pl.Datetime)
        and have.time_zone is not None
        and have.time_zone != want.time_zone
    ):
        return expr.dt.convert_time_zone(want.time_zone or "UTC")
    return expr
