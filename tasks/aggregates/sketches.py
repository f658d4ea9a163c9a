"""Approximate quantiles and distinct counts by Apache DataSketches, a sketch for each group.

Quantiles are KLL sketches: their error in rank is bounded whatever the values, where that of a
t-digest is not. They flip coins, so two runs over one input may differ inside the bound; up to
about ``size`` values they are exact.

Distinct counts are theta sketches, cut to their ``size`` least hashes. What is kept is a function
of the set of values alone, so the count is the same to the last digit however the rows are cut and
in whatever order the parts are joined; HyperLogLog and CPC are smaller, but estimate a merged
sketch otherwise than one that saw all values itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import polars as pl

from headwater.tasks.aggregates.plan import (
    DISTINCT_ENTRIES,
    QUANTILE_K,
    AggregateFunction,
    AggregatePlan,
)

DISTINCT_SIGMAS = 3
DISTINCT_CONFIDENCE = 0.997
QUANTILE_CONFIDENCE = 0.99

_EMPTY_TEXT = "\x00headwater: the empty string\x00"
"""The library passes over the empty string, which is a value like others."""


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """How far an approximate column may be from the truth.

    Attributes:
        of: ``rank``: a fraction of the group's rows; ``count``: a fraction of the result.
        exact_up_to: Values in a group up to which there is no error.
    """

    of: Literal["rank", "count"]
    bound: float
    confidence: float
    exact_up_to: int
    method: str

    def __str__(self) -> str:
        percent = f"{100 * self.bound:.2g} % of the {self.of}"
        return f"within {percent}, {100 * self.confidence:g} % of the time ({self.method})"


def error_bounds(plan: AggregatePlan) -> dict[str, ErrorBound]:
    """The bound of each approximate column of the result; part of the output's metadata.

    Examples:
        >>> from headwater.tasks.aggregates.plan import Aggregation
        >>> planes = Aggregation("planes", AggregateFunction.APPROX_DISTINCT, "tailnum")
        >>> print(error_bounds(AggregatePlan((), (planes,)))["planes"])
        within 4.7 % of the count, 99.7 % of the time (theta sketch of 4096 entries)
    """
    bounds: dict[str, ErrorBound] = {}
    for aggregation in plan.aggregations:
        if aggregation.function is AggregateFunction.QUANTILE:
            bounds[aggregation.name] = quantile_bound(aggregation.size or QUANTILE_K)
        if aggregation.function is AggregateFunction.APPROX_DISTINCT:
            bounds[aggregation.name] = distinct_bound(aggregation.size or DISTINCT_ENTRIES)
    return bounds


def quantile_bound(k: int) -> ErrorBound:
    """The error of a quantile from a sketch of size ``k``."""
    bound = float(_library().kll_doubles_sketch.get_normalized_rank_error(k, False))
    return ErrorBound("rank", bound, QUANTILE_CONFIDENCE, k, f"KLL sketch, k = {k}")


def distinct_bound(entries: int) -> ErrorBound:
    """The error of a distinct count from a sketch of ``entries`` hashes."""
    bound = DISTINCT_SIGMAS / math.sqrt(entries - 1)
    method = f"theta sketch of {entries} entries"
    return ErrorBound("count", bound, DISTINCT_CONFIDENCE, entries, method)


def quantile_sketches(groups: pl.Expr, k: int) -> pl.Expr:
    """A sketch of each list of Float64."""

    def sketch(values: pl.Series) -> bytes:
        made = _library().kll_doubles_sketch(k)
        made.update(values.to_numpy(writable=True))  # it refuses others
        return bytes(made.serialize())

    return _each(groups, sketch, pl.Binary())


def merged_quantiles(groups: pl.Expr, k: int) -> pl.Expr:
    """The sketch of all rows, from each list of sketches."""

    def merge(sketches: pl.Series) -> bytes:
        merged = _library().kll_doubles_sketch(k)
        for sketch in sketches:
            merged.merge(_library().kll_doubles_sketch.deserialize(sketch))
        return bytes(merged.serialize())

    return _each(groups, merge, pl.Binary())


def quantiles(sketches: pl.Expr, q: float) -> pl.Expr:
    """The least value whose rank is ``q`` or more; null where there was no value."""

    def quantile(data: bytes) -> float | None:
        sketch = _library().kll_doubles_sketch.deserialize(data)
        return None if sketch.is_empty() else float(sketch.get_quantile(q, True))

    return _each(sketches, quantile, pl.Float64())


def distinct_sketches(groups: pl.Expr, entries: int) -> pl.Expr:
    """A sketch of each list of Int64, Float64 or String."""

    def sketch(values: pl.Series) -> bytes:
        made = _library().update_theta_sketch(_lg(entries))
        if values.dtype == pl.String:
            values = values.replace("", _EMPTY_TEXT)
        deque(map(made.update, values.to_list()), maxlen=0)
        made.trim()
        return bytes(made.compact(True).serialize())

    return _each(groups, sketch, pl.Binary())


def merged_distinct(groups: pl.Expr, entries: int) -> pl.Expr:
    """The sketch of all values, from each list of sketches."""

    def merge(sketches: pl.Series) -> bytes:
        union = _library().theta_union(_lg(entries))
        for sketch in sketches:
            union.update(_theta(sketch))
        return bytes(union.get_result(True).serialize())

    return _each(groups, merge, pl.Binary())


def distinct_counts(sketches: pl.Expr) -> pl.Expr:
    """The estimate of each sketch."""
    return _each(sketches, lambda data: round(_theta(data).get_estimate()), pl.Int64())


def _library() -> Any:
    # Compiled and without types; here, because to import it takes longer than most plans need.
    return import_module("datasketches")


def _theta(data: bytes) -> Any:
    return _library().compact_theta_sketch.deserialize(data)


def _lg(entries: int) -> int:
    return entries.bit_length() - 1


def _each(column: pl.Expr, function: Callable[..., object], dtype: pl.DataType) -> pl.Expr:
    """``function`` of each value; a list arrives as a series."""

    def mapped(series: pl.Series) -> pl.Series:
        return pl.Series(series.name, [function(value) for value in series], dtype=dtype)

    return column.map_batches(mapped, return_dtype=dtype, is_elementwise=True)
