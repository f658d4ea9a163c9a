"""Conditions on rows, and whether the bounds of a row group leave any row that meets them.

A condition is what an engine would test at its scan, in the few forms that bounds can decide. It
may let more rows through than the plan does, never fewer: what is not understood is left out, and
bounds that are missing or may mislead decide nothing.

Values are compared as Parquet stores them: days and units of time as integers, decimals without
their point, text as its bytes in UTF-8, whose order is that of its characters.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

import polars as pl

Operator = Literal["<", "<=", "==", "!=", ">=", ">"]

Value: TypeAlias = int | float | bytes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = _EPOCH.toordinal()
_UNITS = {"ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}


@dataclass(frozen=True, slots=True)
class Compared:
    """The column's value is on that side of ``value``.

    Attributes:
        dtype: Type that the column must have for the bounds to count.
        as_float: The engine turns the column's integers into floats first, which may round them.
    """

    column: str
    dtype: pl.DataType
    operator: Operator
    value: Value
    as_float: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column's value is one of ``values``."""

    column: str
    dtype: pl.DataType
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """The column has no value; with ``negated`` it has one."""

    column: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Both:
    """Both hold."""

    one: Condition
    other: Condition


@dataclass(frozen=True, slots=True)
class Either:
    """At least one holds."""

    one: Condition
    other: Condition


Condition: TypeAlias = Compared | OneOf | IsNull | Both | Either


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of a column's values in some rows.

    Attributes:
        dtype: Type of the column.
        rows: How many rows.
        nulls: How many of them are null; ``None`` where it is not known.
        low: No value is smaller; ``None`` where it is not known.
        high: No value is larger, but for NaN.
    """

    dtype: pl.DataType
    rows: int
    nulls: int | None = None
    low: Value | None = None
    high: Value | None = None


def may_hold(condition: Condition, bounds: Callable[[str], Bounds | None]) -> bool:
    """Whether a row may meet ``condition``; False only where none can.

    Args:
        bounds: Of a column by its name; ``None`` where nothing is known.
    """
    match condition:
        case Both(one, other):
            return may_hold(one, bounds) and may_hold(other, bounds)
        case Either(one, other):
            return may_hold(one, bounds) or may_hold(other, bounds)
        case IsNull(column, negated):
            found = bounds(column)
            if found is None or found.nulls is None:
                return True
            return found.nulls < found.rows if negated else found.nulls > 0
        case Compared(column, dtype, operator, value, as_float):
            found = bounds(column)
            return found is None or _may_compare(found, dtype, operator, value, as_float)
        case OneOf(column, dtype, values):
            found = bounds(column)
            return found is None or any(
                _may_compare(found, dtype, "==", value, as_float=False) for value in values
            )


def stored_value(value: object, dtype: pl.DataType) -> Value | None:
    """A value of ``dtype`` as it is compared; ``None`` where it cannot be.

    Examples:
        >>> stored_value(date(1970, 1, 3), pl.Date()), stored_value("é", pl.String())
        (2, b'\\xc3\\xa9')
        >>> stored_value(Decimal("1.50"), pl.Decimal(10, 2)), stored_value(math.nan, pl.Float64())
        (150, None)
    """
    match dtype, value:
        case pl.Boolean(), bool():
            return value
        case (_, bool()):
            return None
        case pl.Date(), date():
            return None if isinstance(value, datetime) else value.toordinal() - _FIRST_DAY
        case pl.Datetime(time_unit="ms" | "us" as unit), datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            whole, rest = divmod(aware - _EPOCH, _UNITS[unit])
            return None if rest else whole
        case pl.Decimal(scale=scale), Decimal():
            return _unscaled(value, scale)
        case pl.Float64(), float():
            return None if math.isnan(value) else value
        case pl.Float32(), float():
            return None if math.isnan(value) else _as_float32(value)
        case pl.String(), str():
            return value.encode(errors="surrogatepass")
        case pl.Binary(), bytes():
            return value
        case _, int() if dtype.is_integer():
            return value
        case _:
            return None


def _may_compare(
    bounds: Bounds, dtype: pl.DataType, operator: Operator, value: Value, as_float: bool
) -> bool:
    if bounds.dtype != dtype:
        return True
    if bounds.nulls is not None and bounds.nulls >= bounds.rows:
        return False  # nothing compares with null
    low, high = bounds.low, bounds.high
    if low is None or high is None:
        return True
    if as_float:
        low, high = float(low), float(high)
    if isinstance(value, bytes) != isinstance(low, bytes):
        return True
    is_float = dtype.is_float()
    match operator:
        case "<":
            return low < value  # type: ignore[operator]  # both are bytes, or both are numbers
        case "<=":
            return low <= value  # type: ignore[operator]
        case "==":
            return low <= value <= high  # type: ignore[operator]
        case ">":  # NaN, which bounds do not count, is greater than all numbers
            return is_float or high > value  # type: ignore[operator]
        case ">=":
            return is_float or high >= value  # type: ignore[operator]
        case "!=":  # bounds of text may be cut off, so only those of whole numbers tell
            return is_float or isinstance(low, bytes) or not low == high == value


def _unscaled(value: Decimal, scale: int) -> int | None:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return None  # no number
    number = int("".join(map(str, digits)))
    whole, rest = divmod(number * 10 ** max(0, exponent + scale), 10 ** max(0, -exponent - scale))
    if rest:
        return None
    return -int(whole) if sign else int(whole)


def _as_float32(value: float) -> float | None:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return None
