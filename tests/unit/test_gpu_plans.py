"""Plans that the GPU engine would take and compute otherwise are known before it is asked."""

from __future__ import annotations

import polars as pl
import pytest

from headwater.infra.errors import PartFailed
from headwater.tasks.gpu import computed_otherwise, on_gpu

pytestmark = pytest.mark.unit

FRAME = pl.LazyFrame(
    {"n": [1, 2], "at": [0, 1]}, schema={"n": pl.Int64(), "at": pl.Datetime("us", "UTC")}
)
THERE = pl.col("at").dt.convert_time_zone("Asia/Kolkata")
OTHERWISE = {
    "hash": pl.col("n").hash(7) % 2 == 0,
    "truncate": THERE.dt.truncate("1d").dt.convert_time_zone("UTC"),
    "date": THERE.dt.date(),
    "hour": THERE.dt.hour(),
    "text": THERE.dt.to_string("%H"),
}
ALIKE = {
    "UTC": pl.col("at").dt.truncate("1d"),
    "local times": THERE.dt.replace_time_zone(None).dt.truncate("1d").dt.date(),
    "another zone": THERE.dt.convert_time_zone("Europe/Berlin"),
    "to UTC": pl.col("at")
    .dt.replace_time_zone(None)
    .dt.replace_time_zone("Asia/Kolkata", ambiguous="earliest", non_existent="null")
    .dt.convert_time_zone("UTC"),
}


@pytest.mark.parametrize("name", OTHERWISE)
@pytest.mark.parametrize("verb", ["select", "with_columns", "filter", "group_by"])
def test_what_the_gpu_computes_otherwise_is_left_to_the_cpu(name: str, verb: str) -> None:
    value = OTHERWISE[name]
    plan = {
        "select": FRAME.select(value.alias("x")),
        "with_columns": FRAME.with_columns(x=value).head(1),
        "filter": FRAME.filter(value.is_not_null()),
        "group_by": FRAME.group_by(value.alias("x")).agg(pl.len()),
    }[verb]

    assert computed_otherwise(plan) != []
    assert on_gpu(plan, "allow") == (plan, 1)
    with pytest.raises(PartFailed, match="the GPU engine cannot run the plan: "):
        on_gpu(plan, "refuse")


@pytest.mark.parametrize("name", ALIKE)
def test_what_the_gpu_computes_alike_is_not_kept_from_it(name: str) -> None:
    assert computed_otherwise(FRAME.with_columns(x=ALIKE[name])) == []
