"""From a state to the result's columns, and the refusal of totals that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import polars as pl

from headwater.infra.errors import UnsupportedData
from headwater.tasks.aggregates import moments, ranked, sketches, states, wide
from headwater.tasks.aggregates.plan import (
    DISTINCT_ENTRIES,
    QUANTILE_K,
    AggregateFunction,
    Aggregation,
    histogram_type,
    sum_type,
    top_fields,
)
from headwater.tasks.aggregates.states import At, Cell

SHOWN_GROUPS = 3
"""How many groups of a refusal are named."""

_INT64 = (-(2**63), 2**63 - 1)


def cells_of(aggregation: Aggregation) -> tuple[Cell, ...]:
    """What must be kept of each group for ``aggregation``."""
    column, exact = aggregation.column, aggregation.exact
    match aggregation.function:
        case AggregateFunction.COUNT:
            return (states.Count(column),)
        case _ if column is None:
            raise AssertionError("only count has no column")
        case AggregateFunction.SUM:
            return (moments.Sum(column, None, exact),)
        case AggregateFunction.MEAN:
            return (states.Count(column), moments.Sum(column, None, exact))
        case AggregateFunction.MIN | AggregateFunction.MAX:
            return (states.Extreme(column, aggregation.function is AggregateFunction.MAX),)
        case AggregateFunction.VARIANCE | AggregateFunction.STANDARD_DEVIATION:
            count, total = states.Count(column), moments.Sum(column, None, exact)
            return (count, total, moments.Moment(column, exact))
        case AggregateFunction.COVARIANCE:
            return _pair(column, aggregation.other or column, exact)
        case AggregateFunction.FIRST | AggregateFunction.LAST:
            last = aggregation.function is AggregateFunction.LAST
            return (ranked.Pick(column, aggregation.order or column, last),)
        case AggregateFunction.TOP:
            order = aggregation.order or column
            return (ranked.Top(column, order, aggregation.n, aggregation.descending),)
        case AggregateFunction.QUANTILE:
            return (ranked.Quantiles(column, aggregation.size or QUANTILE_K),)
        case AggregateFunction.APPROX_DISTINCT:
            return (ranked.Distinct(column, aggregation.size or DISTINCT_ENTRIES),)
        case AggregateFunction.DISTINCT:
            return (ranked.Values(column),)
        case AggregateFunction.HISTOGRAM:
            return (states.Histogram(column, aggregation.edges),)


def _pair(column: str, other: str, exact: bool) -> tuple[Cell, ...]:
    return (
        states.Count(column, other),
        moments.Sum(column, other, exact),
        moments.Sum(other, column, exact),
        moments.Comoment(column, other, exact),
    )


def result_of(aggregation: Aggregation, schema: pl.Schema, at: At) -> pl.Expr:
    """The result's column, from a state whose totals have been seen to fit."""
    cell = cells_of(aggregation)[-1]
    match cell:
        case states.Count():
            return at(cell, "n")
        case moments.Sum() if aggregation.function is AggregateFunction.MEAN:
            count = at(states.Count(cell.column), "n")
            return cell.mean(at, count, schema[cell.column])
        case moments.Sum():
            return _sum(cell, schema[cell.column], at)
        case states.Extreme():
            return states.unkept(at(cell, "value"), schema[cell.column])
        case moments.Moment():
            spread = _per_freedom(at(cell, "m2"), at(states.Count(cell.column), "n"), aggregation)
            root = aggregation.function is AggregateFunction.STANDARD_DEVIATION
            return spread.sqrt() if root else spread
        case moments.Comoment():
            count = at(states.Count(cell.column, cell.other), "n")
            return _per_freedom(at(cell, "c"), count, aggregation)
        case ranked.Pick():
            return states.unkept(at(cell, "value"), schema[cell.column])
        case ranked.Top():
            return _top(aggregation, schema, at(cell, "rows"))
        case ranked.Quantiles():
            return sketches.quantiles(at(cell, "sketch"), aggregation.q)
        case ranked.Distinct():
            return sketches.distinct_counts(at(cell, "sketch"))
        case ranked.Values():
            return at(cell, "values").list.len().cast(pl.Int64)
        case states.Histogram():
            return _histogram(cell, at)
        case _:
            raise AssertionError(f"no result is made of {cell}")


def require_fitting(
    state: pl.DataFrame,
    keys: Sequence[pl.Expr],
    aggregations: Sequence[Aggregation],
    schema: pl.Schema,
    at: At,
) -> None:
    """Refuse totals that do not fit the type of their column.

    Raises:
        UnsupportedData: With the column, the groups and about how much it is.
    """
    for aggregation in aggregations:
        cell = cells_of(aggregation)[-1]
        if aggregation.function is not AggregateFunction.SUM or not isinstance(cell, moments.Sum):
            continue
        dtype = schema[cell.column]
        if dtype.is_float():
            continue
        total = wide.total(at(cell, "high"), at(cell, "low"))
        fits = total.is_not_null()
        if isinstance(sum_type(dtype), pl.Int64):
            low, high = (wide.integer(bound) for bound in _INT64)
            fits = fits & total.is_between(low, high)
        too_large = state.filter(~fits)
        if not too_large.is_empty():
            about = too_large.select(*keys, cell.total(at, dtype).alias("\x00about"))
            raise _overflow(aggregation, dtype, about)


def _overflow(aggregation: Aggregation, dtype: pl.DataType, about: pl.DataFrame) -> UnsupportedData:
    shown = []
    for row in about.head(SHOWN_GROUPS).iter_rows(named=True):
        value = row.pop("\x00about")
        group = ", ".join(f"{name}={key!r}" for name, key in row.items()) or "all rows"
        shown.append(f"{group}: about {value:.6g}")
    more = f" and {about.height - len(shown)} more groups" if about.height > len(shown) else ""
    whole = isinstance(sum_type(dtype), pl.Int64)
    return UnsupportedData(
        f"aggregate '{aggregation.name}': the sum of '{aggregation.column}' does not fit"
        f" {sum_type(dtype)} ({'; '.join(shown)}{more})",
        hint="cast the column to Decimal(38, 0) before, which holds larger sums"
        if whole
        else "cast the column to Float64 before, which rounds, or make the groups smaller",
    )


def _sum(cell: moments.Sum, dtype: pl.DataType, at: At) -> pl.Expr:
    if dtype.is_float():
        return cell.total(at, dtype)
    total = wide.total(at(cell, "high"), at(cell, "low"))
    match sum_type(dtype):
        case pl.Decimal(scale=scale):
            return wide.as_decimal(total, scale)
        case fixed:
            return total.cast(fixed)


def _per_freedom(squares: pl.Expr, count: pl.Expr, aggregation: Aggregation) -> pl.Expr:
    freedom = count - aggregation.ddof
    return pl.when(freedom > 0).then(squares / freedom)


def _top(aggregation: Aggregation, schema: pl.Schema, rows: pl.Expr) -> pl.Expr:
    row = pl.element()
    order = states.unkept(row.struct.field("order"), schema[aggregation.order or ""])
    value = states.unkept(row.struct.field("value"), schema[aggregation.source])
    fields = [order.alias(aggregation.order or "")]
    if aggregation.source != aggregation.order:
        fields.append(value.alias(aggregation.source))
    named = rows.list.eval(pl.struct(fields))
    return named.cast(pl.List(pl.Struct(top_fields(aggregation, schema))))


def _histogram(cell: states.Histogram, at: At) -> pl.Expr:
    reached = [at(cell, f"from{i}") for i in range(len(cell.edges))]
    between = [a - b for a, b in pairwise(reached)]
    all_, nan = at(cell, "all"), at(cell, "nan")
    return pl.struct(
        (all_ - nan - reached[0]).alias("below"),
        pl.concat_list(between).alias("counts"),
        reached[-1].alias("above"),
        nan.alias("nan"),
    ).cast(histogram_type())
