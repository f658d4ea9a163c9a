"""Each aggregate function, as the three plans it is made of, over each kind of type it takes."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial as bound

import polars as pl
from tests.gpu.cases import Case

from headwater.tasks.aggregate import combine, finalize, partial
from headwater.tasks.aggregates.plan import AggregateFunction, AggregatePlan, Aggregation

F = AggregateFunction

ROWS = pl.DataFrame(
    {
        "key": ["a", "b", None, "a", "b", "a", "b", "a"],
        "Int32": pl.Series([1, -2, 3, None, 5, 6, 7, 1], dtype=pl.Int32()),
        "Int64": pl.Series([1, -(2**40), 3, None, 5, 6, 2**53 + 1, 1], dtype=pl.Int64()),
        "UInt64": pl.Series([0, 2**64 - 1, 3, None, 5, 6, 7, 2**63], dtype=pl.UInt64()),
        "Float64": [0.5, math.nan, math.inf, None, -0.0, 2.25, 1.5, 0.5],
        "Decimal": pl.Series(["1.20", "-2.50", "3", None, "5", "6", "7", "1.20"]).cast(
            pl.Decimal(12, 2)
        ),
        "Boolean": [True, False, None, True, True, False, True, True],
        "String": ["x", "", None, "é", "x", "y", "z", "x"],
        "Date": pl.Series([dt.date(2024, 2, day) for day in (1, 2, 3, 4, 5, 6, 7, 1)]),
        "Datetime": pl.Series([dt.datetime(2024, 3, 10, h) for h in (1, 2, 3, 4, 5, 6, 7, 1)]),
        "order": [3, 1, 2, 5, 4, 4, 7, 8],
    }
)
"""Columns are called after their types."""

_NUMBERS = ("Int32", "Int64", "UInt64", "Float64", "Decimal", "Boolean")
_ALL = (*_NUMBERS, "String", "Date", "Datetime")
_SUMS = (F.SUM, F.MEAN, F.VARIANCE, F.STANDARD_DEVIATION)

Settings = Mapping[str, object]


def aggregate_cases() -> Iterator[Case]:
    """Three plans for each function and type, grouped by a key, and some without one."""
    for function in AggregateFunction:
        for variant, aggregation in _aggregations(function):
            by = () if variant.endswith("no key") else ("key",)
            plan = AggregatePlan(by, (aggregation,))
            source = ROWS.select(plan.columns or ("key",))
            yield from phases_of(
                "aggregates", function, variant, source.lazy(), plan, source.schema
            )


def phases_of(
    section: str,
    subject: str,
    variant: str,
    source: pl.LazyFrame,
    plan: AggregatePlan,
    schema: pl.Schema,
) -> Iterator[Case]:
    """The plans of a part, of a join of two parts' states, and of the result."""

    def states() -> Sequence[pl.DataFrame]:
        frame = source.collect()
        half = frame.height // 2
        return [
            partial(part.lazy(), plan, schema).collect() for part in (frame[:half], frame[half:])
        ]

    def joined() -> pl.LazyFrame:
        return combine(states(), plan, schema)

    def result() -> pl.LazyFrame:
        return finalize(joined().collect(), plan, schema)

    # A state holds sets in no order and the bytes of sketches: what it means is its result.
    view = bound(_finished, plan=plan, schema=schema)
    of_part = bound(partial, source, plan, schema)
    yield Case(section, subject, variant, of_part, "partial", view=view)
    yield Case(section, subject, variant, joined, "combine", view=view)
    yield Case(section, subject, variant, result, "finalize", is_ordered=True)


def _finished(state: pl.DataFrame, *, plan: AggregatePlan, schema: pl.Schema) -> pl.DataFrame:
    return finalize(state, plan, schema).collect()


def _aggregations(function: AggregateFunction) -> Iterator[tuple[str, Aggregation]]:
    match function:
        case F.COUNT:
            yield "rows", Aggregation("it", function)
            yield "rows, no key", Aggregation("it", function)
            yield "values", Aggregation("it", function, "String")
        case F.MIN | F.MAX | F.DISTINCT | F.APPROX_DISTINCT:
            yield from ((name, Aggregation("it", function, name)) for name in _ALL)
        case F.FIRST | F.LAST | F.TOP:
            for name in ("Int64", "Float64", "Decimal", "String", "Datetime"):
                yield name, Aggregation("it", function, name, order="order", n=2)
        case F.COVARIANCE:
            for name in _NUMBERS:
                yield name, Aggregation("it", function, name, other="order")
            yield (
                "Float64, not exact",
                Aggregation("it", function, "Float64", other="order", exact=False),
            )
        case F.HISTOGRAM:
            for name in ("Int64", "Float64", "Decimal"):
                yield name, Aggregation("it", function, name, edges=(-1.0, 0.0, 2.5))
        case F.QUANTILE:
            yield from ((name, Aggregation("it", function, name, q=0.5)) for name in _NUMBERS)
        case _:
            yield from ((name, Aggregation("it", function, name)) for name in _NUMBERS)
            yield "Float64, not exact", Aggregation("it", function, "Float64", exact=False)
            yield "Int64, no key", Aggregation("it", function, "Int64")
