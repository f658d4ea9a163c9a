"""Cells for sums and what is made of them: means, variances and covariances."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from headwater.infra.storage.types import MAX_DECIMAL_DIGITS, column_of
from headwater.tasks.aggregates import wide
from headwater.tasks.aggregates.plan import WIDE_DECIMAL
from headwater.tasks.aggregates.states import At, Cell, Count, Fields, Types, values_of

SAFE_DIGITS = 28
"""Decimals of so many digits can be added 10^10 times before 38 digits are full."""

FLOAT_DIGITS = 15
"""Decimals of so many digits are floats exactly, but for their scale."""

FLOAT_GRID = 2.0**24
"""See ``Sum``. Floats below 2^39 are 64-bit integers on this grid; a finer one would take fewer."""

HUGE = 2.0**960
"""Floats from here on (1e289) are added apart, as this much smaller: a sum on the way from which
later values bring it back must not become infinite in one order of additions and not in another."""

HUGE_SCALE = 2.0**64

SQUARABLE = 2.0**480
"""The variance of larger floats (from 3e144 on) is NaN, since the squares of a part may pass a
float's range where those of its halves do not."""


@dataclass(frozen=True)
class Sum(Cell):
    """A sum that no order of additions changes.

    Integers and decimals in limbs (see ``wide``). Of each float the part on the grid of
    1/``FLOAT_GRID`` is added as an integer, and only ``rest``, what lies below the grid, as a
    float. The roundings of the rests of n values stay below n^2 * 2^-78, and mostly far below. So
    the sum is the exact one to within one unit in the last place, whatever the cut and the order,
    where the values are on the average larger than n * 2^-25 and do not cancel to less; of
    integers, halves, quarters… it is the exact one, rounded once. Smaller values, those too large
    for the grid, NaN and infinities are added as floats: scale a column of billionths first.
    Values from ``HUGE`` on are added apart, so that only a total beyond a float's range is
    infinite.
    """

    column: str
    where: str | None = None
    exact: bool = True

    def types(self, schema: pl.Schema) -> Types:
        """Two limbs, and for floats the rest and what is huge."""
        limbs: Types = {"high": WIDE_DECIMAL, "low": WIDE_DECIMAL}
        floats: Types = {"rest": pl.Float64(), "huge": pl.Float64()}
        return limbs | floats if schema[self.column].is_float() else limbs

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """The sum of a group's rows."""
        values, dtype = values_of(self.column, self.where), schema[self.column]
        if dtype.is_float():
            return self._floats(values.cast(pl.Float64))
        match dtype:
            case pl.Decimal(precision=precision) if (precision or MAX_DECIMAL_DIGITS) > SAFE_DIGITS:
                high, low = wide.split(values.to_physical())
                return _limbs(high.sum(), low.sum())
            case pl.Decimal():
                return _limbs(None, values.sum().to_physical())
            case pl.Int64() | pl.UInt64():
                return _limbs(None, values.cast(pl.Int128).sum())
            case _:  # 32 bits or fewer: a part has too few rows to fill 64
                return _limbs(None, values.cast(pl.Int64).sum())

    def _floats(self, values: pl.Expr) -> Fields:
        if not self.exact:
            return _limbs(None, None) | {"rest": values.sum(), "huge": pl.lit(0.0)}
        on_grid = (values * FLOAT_GRID).cast(pl.Int64, strict=False)
        rest = values - on_grid.cast(pl.Float64).fill_null(0.0) * (1 / FLOAT_GRID)
        is_huge = values.abs() >= HUGE
        return _limbs(None, on_grid.cast(pl.Int128).sum()) | {
            "rest": pl.when(is_huge).then(0.0).otherwise(rest).sum(),
            "huge": pl.when(is_huge).then(values * (1 / HUGE_SCALE)).sum(),
        }

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Limbs add up."""
        high, low = wide.carried(at(self, "high"), at(self, "low"))
        limbs = _limbs(high.sum(), low.sum())
        if not schema[self.column].is_float():
            return limbs
        return limbs | {field: at(self, field).sum() for field in ("rest", "huge")}

    def total(self, at: At, dtype: pl.DataType) -> pl.Expr:
        """The sum as a float."""
        high, low = at(self, "high"), at(self, "low")
        if dtype.is_float():
            near = wide.as_float(high, low) / FLOAT_GRID + at(self, "rest")
            huge = at(self, "huge")
            # One scaled up alone may pass a float's range, one scaled down its precision.
            both = (huge + near * (1 / HUGE_SCALE)) * HUGE_SCALE
            return pl.when(huge == 0).then(near).otherwise(both)
        return wide.as_float(high, low) / _unit(dtype)

    def mean(self, at: At, count: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """The sum divided by ``count``; null where that is 0."""
        if dtype.is_float():
            mean = self.total(at, dtype) / count
        else:
            mean = wide.mean(at(self, "high"), at(self, "low"), count) / _unit(dtype)
        return pl.when(count > 0).then(mean)

    def deviations(self, at: At, count: pl.Expr, base: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """How far each state's mean is from ``base``; null for a state without values.

        By integers, so that values far from zero keep the digits in which they differ.
        """
        high, low, divisor = at(self, "high"), at(self, "low"), count.cast(pl.Int128)
        unit = FLOAT_GRID if dtype.is_float() else _unit(dtype)
        whole = (base * unit).cast(pl.Int128, strict=False).fill_null(0)
        from_whole = pl.coalesce(
            (wide.total(high, low) - divisor * whole).cast(pl.Float64),
            wide.as_float(high, low) - count * whole.cast(pl.Float64),
        )
        if dtype.is_float():
            from_whole = from_whole + at(self, "rest") * unit
        deviation = from_whole / count - (base * unit - whole.cast(pl.Float64))
        return pl.when(count > 0).then(deviation / unit)


@dataclass(frozen=True)
class Moment(Cell):
    """The sum of squared distances from the mean, merged by Chan's formula.

    ``Count`` and ``Sum`` of the same column give the parts' means. With a value beyond
    ``SQUARABLE``, NaN or an infinity it is NaN.
    """

    column: str
    exact: bool = True

    def types(self, schema: pl.Schema) -> Types:  # noqa: ARG002
        """One float."""
        return {"m2": pl.Float64()}

    def bases(self, at: At, schema: pl.Schema, *, merged: bool) -> Fields:
        """The least value of the rows, or the mean of the states."""
        if merged:
            sums, count = self._sums_and_count(at)
            return {"base": _joint_mean(sums.mean(at, count, schema[self.column]), count)}
        return {"base": column_of(self.column).min()}

    def partial(self, at: At, schema: pl.Schema) -> Fields:
        """Of rows."""
        values, dtype = column_of(self.column), schema[self.column]
        centred = _centred(values, at(self, "base"), dtype, exact=self.exact)
        return {"m2": _squares(centred.var(ddof=0), values.count())}

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Inside the parts, and between them."""
        sums, count = self._sums_and_count(at)
        deviation = sums.deviations(at, count, at(self, "base"), schema[self.column])
        squares = at(self, "m2").sum() + _between(deviation, deviation, count)
        return {"m2": pl.when(squares < 0).then(0.0).otherwise(squares)}

    def _sums_and_count(self, at: At) -> tuple[Sum, pl.Expr]:
        return Sum(self.column, None, self.exact), at(Count(self.column), "n")


@dataclass(frozen=True)
class Comoment(Cell):
    """The sum of products of two columns' distances from their means, merged by Chan's formula.

    Only rows count in which neither is null; ``Count`` and ``Sum`` of these give the means.
    """

    column: str
    other: str
    exact: bool = True

    def types(self, schema: pl.Schema) -> Types:  # noqa: ARG002
        """One float."""
        return {"c": pl.Float64()}

    def bases(self, at: At, schema: pl.Schema, *, merged: bool) -> Fields:
        """Of each column the least value of the rows, or the mean of the states."""
        if not merged:
            return {f"base{i}": values_of(x, y).min() for i, (x, y) in enumerate(self._both())}
        count = at(Count(self.column, self.other), "n")
        means = [Sum(x, y, self.exact).mean(at, count, schema[x]) for x, y in self._both()]
        return {f"base{i}": _joint_mean(mean, count) for i, mean in enumerate(means)}

    def partial(self, at: At, schema: pl.Schema) -> Fields:
        """Of rows."""
        x, y = (
            _centred(values_of(x, y), at(self, f"base{i}"), schema[x], exact=self.exact)
            for i, (x, y) in enumerate(self._both())
        )
        count = values_of(self.column, self.other).count()
        nan = (x + y).sum() * 0.0  # or 0: of a single row Polars gives 0, also of NaN
        return {"c": _squares(pl.cov(x, y, ddof=0), count) + nan}

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Inside the parts, and between them."""
        count = at(Count(self.column, self.other), "n")
        x, y = (
            Sum(x, y, self.exact).deviations(at, count, at(self, f"base{i}"), schema[x])
            for i, (x, y) in enumerate(self._both())
        )
        return {"c": at(self, "c").sum() + _between(x, y, count)}

    def _both(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self.column, self.other), (self.other, self.column)


def _limbs(high: pl.Expr | None, low: pl.Expr | None) -> Fields:
    zero = pl.lit(0, dtype=WIDE_DECIMAL)
    return {
        "high": zero if high is None else wide.stored(high),
        "low": zero if low is None else wide.stored(low),
    }


def _unit(dtype: pl.DataType) -> float:
    return 10.0**dtype.scale if isinstance(dtype, pl.Decimal) else 1.0


def _centred(values: pl.Expr, least: pl.Expr, dtype: pl.DataType, *, exact: bool) -> pl.Expr:
    """``values`` as floats, or how far they are from the group's least where floats are coarser.

    Polars' variance loses about a digit for each digit by which the mean exceeds the deviation.
    """
    match dtype:
        case pl.Float32() | pl.Float64() if exact:
            distance = values.cast(pl.Float64) - least.cast(pl.Float64)
            return pl.when(values.abs() >= SQUARABLE).then(float("nan")).otherwise(distance)
        case pl.Int64() | pl.UInt64():
            whole, base = values.cast(pl.Int128), least.cast(pl.Int128)
        case pl.Decimal(precision=precision) if (precision or MAX_DECIMAL_DIGITS) > FLOAT_DIGITS:
            whole, base = values.to_physical(), least.to_physical()
        case _:
            return values.cast(pl.Float64)
    distance = whole - base  # negative where 128 bits are too few
    coarse = whole.cast(pl.Float64) - base.cast(pl.Float64)
    enough = distance >= wide.integer(0)
    return pl.when(enough).then(distance.cast(pl.Float64)).otherwise(coarse) / _unit(dtype)


def _joint_mean(means: pl.Expr, counts: pl.Expr) -> pl.Expr:
    return (counts * means).sum() / counts.sum()


def _between(x: pl.Expr, y: pl.Expr, count: pl.Expr) -> pl.Expr:
    """The sum of products of two deviations, from wherever near the mean they were taken."""
    rows = count.sum()
    products = (count * x * y).sum() - (count * x).sum() * (count * y).sum() / rows
    return pl.when(rows > 0).then(products).otherwise(0.0)


def _squares(moment: pl.Expr, count: pl.Expr) -> pl.Expr:
    # Without a value Polars' engines give null or 0.
    return pl.when(count > 0).then(moment * count).otherwise(0.0)
