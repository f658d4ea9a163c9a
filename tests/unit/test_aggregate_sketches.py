"""Approximate aggregates stay inside the bound that they state, whatever the data and the cut."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.tasks.aggregate import combine, finalize, partial, write_state
from headwater.tasks.aggregates.plan import (
    DISTINCT_ENTRIES,
    QUANTILE_K,
    AggregateFunction,
    AggregatePlan,
    Aggregation,
)
from headwater.tasks.aggregates.sketches import error_bounds

F = AggregateFunction
ROWS = 30_000
SEEDS = range(12)
PARTS = (1, 2, 7, 40)
RANKS = (0.0, 0.01, 0.5, 0.95, 1.0)


def state(frame: pl.DataFrame, plan: AggregatePlan, parts: int) -> pl.DataFrame:
    """The state by way of ``parts`` parts, joined last to first and two at a time."""
    cut = [frame[i::parts].lazy() for i in range(parts)]
    states = [partial(part, plan, frame.schema).collect() for part in cut]
    while len(states) > 1:
        states = [combine(states[-2:], plan, frame.schema).collect(), *states[:-2]]
    return combine(states, plan, frame.schema).collect()


SKEWED: dict[str, Callable[[random.Random], float]] = {
    "long tail": lambda dice: dice.paretovariate(0.8),
    "delays": lambda dice: max(-20.0, dice.expovariate(1 / 30) - 10),
    "both signs": lambda dice: math.copysign(dice.lognormvariate(0, 5), dice.random() - 0.9),
    "few values": lambda dice: float(int(dice.expovariate(1))),
}


@pytest.mark.parametrize("shape", SKEWED)
def test_quantiles_are_inside_their_bound(shape: str) -> None:
    plan = AggregatePlan((), tuple(Aggregation(f"{q}", F.QUANTILE, "x", q=q) for q in RANKS))
    bound = error_bounds(plan)["0.5"]
    errors = []
    for seed in SEEDS:
        dice = random.Random(seed)
        frame = pl.DataFrame({"x": [SKEWED[shape](dice) for _ in range(ROWS)]})
        parts = PARTS[seed % len(PARTS)]

        result = finalize(state(frame, plan, parts), plan, frame.schema).collect()

        for q in RANKS:
            below, upto = (
                frame.select((pl.col("x") < result[f"{q}"][0]).mean()).item(),
                frame.select((pl.col("x") <= result[f"{q}"][0]).mean()).item(),
            )
            errors.append(max(0.0, below - q, q - upto))
    outside = sum(error > bound.bound for error in errors)
    assert outside <= 1 + len(errors) * 2 * (1 - bound.confidence)
    assert max(errors) < 2 * bound.bound


def test_quantiles_of_few_values_are_exact() -> None:
    numbers = [float(i) for i in range(QUANTILE_K // 2)]
    random.Random(1).shuffle(numbers)
    frame = pl.DataFrame({"x": [*numbers, None, math.nan]})
    plan = AggregatePlan((), tuple(Aggregation(f"{q}", F.QUANTILE, "x", q=q) for q in RANKS))

    for parts in PARTS:
        result = finalize(state(frame, plan, parts), plan, frame.schema).collect()
        exact = [sorted(numbers)[max(0, math.ceil(q * len(numbers)) - 1)] for q in RANKS]
        assert list(result.row(0)) == exact


def test_a_quantile_of_infinities_and_of_integers() -> None:
    frame = pl.DataFrame({"x": [-math.inf, 1.0, math.inf], "i": [3, 1, 2]})
    plan = AggregatePlan(
        (), (Aggregation("x", F.QUANTILE, "x", q=1.0), Aggregation("i", F.QUANTILE, "i"))
    )

    result = finalize(state(frame, plan, 2), plan, frame.schema).collect()

    assert result.row(0) == (math.inf, 2.0)


@pytest.mark.parametrize("size", [None, 256])
@pytest.mark.parametrize("distinct", [100, 5_000, 40_000])
def test_distinct_counts_are_inside_their_bound(distinct: int, size: int | None) -> None:
    plan = AggregatePlan((), (Aggregation("n", F.APPROX_DISTINCT, "x", size=size),))
    bound = error_bounds(plan)["n"]
    outside = 0
    for seed in SEEDS:
        numbers = [seed * 10**9 + i for i in range(distinct)]
        skewed = [numbers[int(distinct * random.Random(seed).random() ** 4)] for _ in range(1000)]
        frame = pl.DataFrame({"x": numbers + skewed})

        result = finalize(state(frame, plan, 3), plan, frame.schema).collect()["n"][0]

        error = abs(result / distinct - 1)
        outside += error > bound.bound
        assert distinct > bound.exact_up_to or error == 0
    assert outside <= 1


@pytest.mark.parametrize("count", [0, 1, DISTINCT_ENTRIES, DISTINCT_ENTRIES + 1, 30_000])
def test_a_distinct_count_is_the_same_to_the_bit_whatever_the_cut(count: int) -> None:
    frame = pl.DataFrame({"x": [f"value {i}" for i in range(count)] * 2}, schema={"x": pl.String})
    plan = AggregatePlan((), (Aggregation("n", F.APPROX_DISTINCT, "x"),))

    states = [state(frame.sample(fraction=1, shuffle=True, seed=p), plan, p) for p in PARTS]

    assert len({write_state(made) for made in states}) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([pl.Int8(), pl.UInt64(), pl.Float32(), pl.String(), pl.Boolean(), pl.Binary()]),
    st.lists(st.none() | st.integers(0, 20), max_size=30),
)
def test_few_distinct_values_are_counted_exactly(
    dtype: pl.DataType, numbers: list[int | None]
) -> None:
    texts = {pl.String(): lambda n: "x" * n, pl.Binary(): lambda n: b"x" * n}
    made = [None if n is None else texts.get(dtype, lambda n: n)(n) for n in numbers]
    frame = pl.DataFrame({"x": pl.Series(made, dtype=dtype, strict=False)})
    plan = AggregatePlan(
        (), (Aggregation("a", F.APPROX_DISTINCT, "x"), Aggregation("e", F.DISTINCT, "x"))
    )

    result = finalize(state(frame, plan, 2), plan, frame.schema).collect()

    assert result.row(0) == (frame["x"].drop_nulls().n_unique(),) * 2


def test_unsigned_integers_of_64_bits_and_nan_are_values_like_others() -> None:
    frame = pl.DataFrame(
        {
            "u": pl.Series([2**64 - 1, 2**63, 0, 0], dtype=pl.UInt64),
            "f": [math.nan, math.nan, 0.0, -0.0],
        }
    )
    plan = AggregatePlan(
        (),
        tuple(
            Aggregation(f"{column}{function}", function, column)
            for column in ("u", "f")
            for function in (F.APPROX_DISTINCT, F.DISTINCT)
        ),
    )

    assert finalize(state(frame, plan, 2), plan, frame.schema).collect().row(0) == (3, 3, 2, 2)


def test_bounds_are_stated_for_approximate_columns_alone() -> None:
    plan = AggregatePlan(
        ("origin",),
        (
            Aggregation("p95", F.QUANTILE, "delay", q=0.95),
            Aggregation("planes", F.APPROX_DISTINCT, "tailnum", size=1024),
            Aggregation("mean", F.MEAN, "delay"),
        ),
    )

    bounds = error_bounds(plan)

    assert {name: str(bound) for name, bound in bounds.items()} == {
        "p95": "within 0.53 % of the rank, 99 % of the time (KLL sketch, k = 512)",
        "planes": "within 9.4 % of the count, 99.7 % of the time (theta sketch of 1024 entries)",
    }
