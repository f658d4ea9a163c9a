"""States travel: they carry a format and their plan, and are cut alike everywhere."""

from __future__ import annotations

import datetime as dt
import io
import math
from decimal import Decimal

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from headwater.infra.errors import DamagedFile, InvalidRequest
from headwater.tasks.aggregate import (
    FORMAT,
    combine,
    finalize,
    partial,
    read_state,
    state_schema,
    write_state,
)
from headwater.tasks.aggregates.partitions import partition_state, partitions_needed
from headwater.tasks.aggregates.plan import AggregateFunction, AggregatePlan, Aggregation

F = AggregateFunction
FRAME = pl.DataFrame({"k": ["a", "b", None, "a"], "x": [1.5, None, 2.0, 3.0]})
PLAN = AggregatePlan(
    ("k",),
    (
        Aggregation("n", F.COUNT),
        Aggregation("s", F.SUM, "x"),
        Aggregation("v", F.VARIANCE, "x"),
        Aggregation("p50", F.QUANTILE, "x"),
        Aggregation("few", F.APPROX_DISTINCT, "x"),
        Aggregation("top", F.TOP, "x", order="x"),
    ),
)


def a_state(frame: pl.DataFrame = FRAME, plan: AggregatePlan = PLAN) -> pl.DataFrame:
    return partial(frame.lazy(), plan, frame.schema).collect()


def test_a_state_survives_parquet_and_other_readers_understand_its_columns() -> None:
    state = a_state()

    data = write_state(state)

    assert_frame_equal(read_state(data, PLAN, FRAME.schema), state)
    assert pq.read_table(io.BytesIO(data)).num_rows == 3


def test_functions_share_what_they_keep() -> None:
    sums = tuple(Aggregation(f, F(f), "x") for f in ("sum", "mean", "count"))
    one = state_schema(AggregatePlan(("k",), sums[:1]), FRAME.schema)
    three = state_schema(AggregatePlan(("k",), sums), FRAME.schema)

    assert len(three) == len(one) + 1  # the count


def test_a_newer_state_is_refused_by_name() -> None:
    state = a_state()
    mark = state.columns[0]
    newer = state.rename({mark: mark.replace(f".{FORMAT}.", f".{FORMAT + 1}.")})

    for use in (
        lambda: combine([newer], PLAN, FRAME.schema),
        lambda: finalize(newer, PLAN, FRAME.schema),
    ):
        with pytest.raises(InvalidRequest, match=f"has format {FORMAT + 1}.*\n.*upgrade"):
            use()
    with pytest.raises(InvalidRequest, match=f"has format {FORMAT + 1}"):
        read_state(write_state(newer), PLAN, FRAME.schema)


@pytest.mark.parametrize(
    ("plan", "frame"),
    [
        (AggregatePlan(("k",), PLAN.aggregations[:2]), FRAME),
        (AggregatePlan((), PLAN.aggregations), FRAME),
        (PLAN, FRAME.cast({"x": pl.Float32})),
    ],
)
def test_a_state_of_another_plan_or_type_is_refused(
    plan: AggregatePlan, frame: pl.DataFrame
) -> None:
    with pytest.raises(InvalidRequest, match="of another aggregate"):
        combine([a_state(), a_state(frame, plan)], PLAN, FRAME.schema)


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="first column is 'k'"):
        combine([FRAME], PLAN, FRAME.schema)
    with pytest.raises(DamagedFile):
        read_state(b"PAR1 but no more", PLAN, FRAME.schema)


def test_renaming_a_result_does_not_change_its_state() -> None:
    renamed = AggregatePlan(("k",), (Aggregation("total", F.SUM, "x"),))
    plan = AggregatePlan(("k",), (Aggregation("s", F.SUM, "x"),))

    result = finalize(combine([a_state(plan=plan)], renamed, FRAME.schema), renamed, FRAME.schema)

    assert result.collect().rows() == [("a", 4.5), ("b", 0.0), (None, 2.0)]


KEYS = pl.DataFrame(
    {
        "text": ["a", "ü", "", None],
        "i": [1, -1, 2**62, None],
        "u": pl.Series([2**64 - 1, 0, 1, None], dtype=pl.UInt64),
        "f": [0.0, math.nan, 1.5, None],
        "d": pl.Series([Decimal("1.10"), Decimal("-1.10"), None, None], dtype=pl.Decimal(9, 2)),
        "day": [dt.date(2024, 3, 31), dt.date(1600, 1, 1), None, None],
        "at": pl.Series([dt.datetime(2024, 1, 1), None, None, None]).dt.replace_time_zone("UTC"),
        "flag": [True, False, None, None],
        "blob": [b"\x00", b"", None, None],
        "kind": pl.Series(["z", "a", None, None], dtype=pl.Enum(["z", "a"])),
    }
)
PLACES = {
    "text": [774, 968, 535, 700],
    "i": [465, 936, 75, 700],
    "u": [936, 535, 465, 700],
    "f": [535, 700, 770, 700],
    "d": [88, 782, 700, 700],
    "day": [341, 817, 700, 700],
    "at": [561, 700, 700, 700],
    "flag": [465, 535, 700, 700],
    "blob": [886, 535, 700, 700],
    "kind": [535, 465, 700, 700],
}
"""Partition of 1000 for each of ``KEYS``, as it was when states were first cut: another place now
would tear groups apart between an old state and a new one."""


@pytest.mark.parametrize("column", KEYS.columns)
def test_a_key_goes_where_it_always_went(column: str) -> None:
    plan = AggregatePlan((column,), (Aggregation("n", F.COUNT),))
    places = {}
    for place, piece in enumerate(partition_state(a_state(KEYS, plan), 1, 1000)):
        for key in finalize(piece, plan, KEYS.schema).collect()[column]:
            places[str(key)] = place

    assert [places[str(key)] for key in KEYS[column]] == PLACES[column]


def test_partitions_hold_every_group_once_and_about_equally_many() -> None:
    frame = pl.DataFrame({"k": range(10_000), "t": ["x"] * 10_000})
    plan = AggregatePlan(("t", "k"), (Aggregation("n", F.COUNT),))
    halves = [a_state(frame.head(6000), plan), a_state(frame.tail(6000), plan)]

    cut = [partition_state(half, 2, 8) for half in halves]
    results = [
        finalize(combine(pieces, plan, frame.schema), plan, frame.schema).collect()
        for pieces in zip(*cut, strict=True)
    ]

    together = pl.concat(results).sort("k")
    assert together["k"].to_list() == list(range(10_000))
    assert together["n"].sum() == 12_000
    assert all(1000 < result.height < 1500 for result in results)


def test_a_state_without_keys_is_not_cut() -> None:
    plan = AggregatePlan((), (Aggregation("n", F.COUNT),))

    with pytest.raises(InvalidRequest, match="one group"):
        partition_state(a_state(plan=plan), 0, 2)


def test_partitions_grow_with_the_states_and_shrink_with_memory() -> None:
    assert partitions_needed([], 1000) == 1
    assert partitions_needed([1000] * 10, 60_000) == 1
    assert partitions_needed([1000] * 10, 59_999) == 2
    assert partitions_needed([1000] * 100, 60_000) == 10
