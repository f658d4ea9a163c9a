"""States are joined on a Dask cluster: in process, with one thread, and on worker processes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from distributed import Client
from polars.testing import assert_frame_equal

from headwater.infra import clusters
from headwater.infra.errors import InvalidRequest, UnsupportedData
from headwater.infra.models import Candidate, Device, Plan
from headwater.tasks.aggregate import aggregate, finalize, partial
from headwater.tasks.aggregates.plan import AggregateFunction, AggregatePlan, Aggregation
from headwater.tasks.aggregates.tree import FAN_IN, forest, tree
from headwater.tasks.arrow import pack, unpack

F = AggregateFunction
TIMEOUT = 60
SCHEMA = pl.Schema({"k": pl.Int64, "x": pl.Float64, "o": pl.Int64})
PLAN = AggregatePlan(
    ("k",),
    (
        Aggregation("n", F.COUNT),
        Aggregation("sum", F.SUM, "x"),
        Aggregation("sd", F.STANDARD_DEVIATION, "x"),
        Aggregation("first", F.FIRST, "x", order="o"),
        Aggregation("top", F.TOP, "x", order="o", n=2),
        Aggregation("kinds", F.APPROX_DISTINCT, "o"),
    ),
)
MORE_ROWS = 10
FLAT = 1.3
"""How much more memory so many more rows into the same groups may take."""

CLUSTERS = {
    "one thread": Candidate("local", Device.CPU, False, 1, 1, 2.0),
    "in process": Candidate("local", Device.CPU, False, 1, 2, 2.0),
    "two processes": Candidate("local", Device.CPU, True, 2, 1, 2.0),
}


@pytest.fixture(scope="module", params=CLUSTERS)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with clusters.open(Plan((CLUSTERS[request.param],))) as cluster:
        yield cluster.client


def part(index: int, rows: int = 200) -> pl.DataFrame:
    dice = random.Random(index)
    return pl.DataFrame(
        {
            "k": [dice.randrange(20) for _ in range(rows)],
            "x": [dice.gauss(0, 1) for _ in range(rows)],
            "o": [dice.randrange(10**6) for _ in range(rows)],
        },
        schema=SCHEMA,
    )


def state_of(index: int, plan: AggregatePlan = PLAN) -> bytes:
    return pack(partial(part(index).lazy(), plan, SCHEMA).collect())


@pytest.mark.parametrize(("parts", "fan_in"), [(1, 8), (2, 8), (7, 2), (65, 8), (40, 3)])
def test_a_tree_gives_what_one_frame_gives(client: Client, parts: int, fan_in: int) -> None:
    expected = aggregate(pl.concat(map(part, range(parts))).lazy(), PLAN, SCHEMA).collect()
    states = client.map(state_of, range(parts), pure=False)
    backwards = client.map(state_of, range(parts)[::-1], pure=False)

    for leaves in (states, backwards):
        root = tree(client, leaves, PLAN, SCHEMA, fan_in=fan_in)
        result = finalize(unpack(root.result(TIMEOUT)), PLAN, SCHEMA).collect()
        assert_frame_equal(result, expected, rel_tol=1e-12)


def test_a_tree_of_no_parts_is_the_state_of_nothing(client: Client) -> None:
    plan = AggregatePlan((), PLAN.aggregations[:2])

    root = tree(client, [], plan, SCHEMA).result(TIMEOUT)

    assert finalize(unpack(root), plan, SCHEMA).collect().rows() == [(0, 0.0)]


def test_a_forest_holds_each_group_in_one_partition(client: Client) -> None:
    parts, partitions = 11, 3
    expected = aggregate(pl.concat(map(part, range(parts))).lazy(), PLAN, SCHEMA).collect()
    states = client.map(state_of, range(parts), pure=False)

    roots = forest(client, states, PLAN, SCHEMA, partitions=partitions)

    assert len(roots) == partitions
    results = [finalize(unpack(root.result(TIMEOUT)), PLAN, SCHEMA).collect() for root in roots]
    assert all(result.height for result in results)
    assert_frame_equal(pl.concat(results).sort("k"), expected, rel_tol=1e-12)


def test_a_forest_without_keys_is_one_tree(client: Client) -> None:
    plan = AggregatePlan((), PLAN.aggregations)
    states = client.map(state_of, range(3), plan=plan, pure=False)

    (root,) = forest(client, states, plan, SCHEMA, partitions=4)

    assert finalize(unpack(root.result(TIMEOUT)), plan, SCHEMA).collect()["n"].to_list() == [600]


def test_states_are_let_go_once_they_are_joined(client: Client) -> None:
    states = client.map(state_of, range(2 * FAN_IN), pure=False)
    root = tree(client, states, PLAN, SCHEMA)
    keys = {state.key for state in states}

    del states
    root.result(TIMEOUT)

    held: Any = client.has_what()
    assert not keys & {key for keys_of in held.values() for key in keys_of}


def test_a_refusal_on_a_worker_arrives_as_it_is(client: Client) -> None:
    plan = AggregatePlan((), (Aggregation("total", F.SUM, "o"),))
    states = client.map(state_of, range(2), plan=plan, pure=False)

    other = tree(client, states, PLAN, SCHEMA)
    large = client.submit(_overflowing, pure=False)

    with pytest.raises(InvalidRequest, match="of another aggregate"):
        other.result(TIMEOUT)
    with pytest.raises(UnsupportedData, match="does not fit"):
        large.result(TIMEOUT)
    with pytest.raises(InvalidRequest, match="fan_in is 1"):
        tree(client, states, PLAN, SCHEMA, fan_in=1)


def _overflowing() -> pl.DataFrame:
    schema = pl.Schema({"o": pl.Int64})
    plan = AggregatePlan((), (Aggregation("total", F.SUM, "o"),))
    large = pl.LazyFrame({"o": [2**62, 2**62]})
    return aggregate(large, plan, schema).collect()


MEASURED = """
import resource, sys
import polars as pl
from headwater.tasks.aggregate import combine, finalize, partial
from headwater.tasks.aggregates.plan import AggregateFunction as F, AggregatePlan, Aggregation

GROUPS, PART_ROWS, parts = 2_000, 200_000, int(sys.argv[1])
schema = pl.Schema({"k": pl.Int64, "x": pl.Float64})
functions = (F.COUNT, F.SUM, F.MEAN, F.VARIANCE, F.MIN, F.MAX, F.QUANTILE, F.APPROX_DISTINCT)
plan = AggregatePlan(("k",), tuple(Aggregation(f, f, "x", size=64 if f in functions[-2:] else None)
                                   for f in functions))
state = combine([], plan, schema).collect()
for part in range(parts):
    rows = pl.int_range(part * PART_ROWS, (part + 1) * PART_ROWS, eager=True)
    frame = pl.LazyFrame({"k": rows % GROUPS, "x": (rows * 2654435761 % 1000003) / 7})
    one = partial(frame, plan, schema).collect(engine="streaming")
    state = combine([state, one], plan, schema).collect(engine="streaming")
result = finalize(state, plan, schema).collect()
assert result.height == GROUPS and result["count"].sum() == parts * PART_ROWS
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.trial
def test_ten_times_the_rows_in_the_same_groups_take_the_same_memory(tmp_path: Path) -> None:
    script = tmp_path / "measured.py"
    script.write_text(MEASURED, "utf-8")

    def peak_bytes(parts: int) -> int:
        command = [sys.executable, str(script), str(parts)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    few, many = peak_bytes(3), peak_bytes(3 * MORE_ROWS)

    assert many < FLAT * few, f"{few / 2**20:.0f} MiB, then {many / 2**20:.0f} MiB"
