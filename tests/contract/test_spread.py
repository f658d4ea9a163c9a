"""Jobs whose rows meet between workers: what one worker would give, however the input is cut."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from distributed import Client, Worker
from polars.testing import assert_frame_equal

from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import (
    PartFailed,
    SchemaMismatch,
    UnsupportedData,
    ValueLost,
    WorkerLost,
)
from headwater.infra.models import Candidate, Device, JobRequest, Mode, Plan, StepsText
from headwater.infra.storage.datasets import Dataset
from headwater.tasks import legs, spread
from headwater.tasks.digests import digests
from headwater.tasks.exchange import buckets_by_key, shares, taken
from headwater.tasks.prepare import Prepared, prepare
from headwater.tasks.process import Processed, process
from headwater.tasks.progress import Progress

SMALL = 6_000
"""Bytes of a part: a few hundred rows."""

STEPS = {
    "aggregate": """
        kind = "aggregate"
        by = ["k"]
        aggs = [
            { name = "n", function = "count" },
            { name = "total", function = "sum", column = "x" },
            { name = "median", function = "quantile", column = "v", size = 4096 },
            { name = "kinds", function = "approx_distinct", column = "v" },
        ]
    """,
    "aggregate all": """
        kind = "aggregate"
        aggs = [
            { name = "n", function = "count" },
            { name = "most", function = "max", column = "v" },
        ]
    """,
    "deduplicate": 'kind = "deduplicate"',
    "deduplicate by key": """
        kind = "deduplicate"
        columns = ["k"]
        order_by = ["v"]
        keep = "last"
    """,
    "top": """
        kind = "top"
        n = 7
        order_by = ["x"]
        descending = ["x"]
    """,
    "top of each": """
        kind = "top"
        n = 2
        order_by = ["v"]
        per = ["k"]
    """,
    "sort": """
        kind = "sort"
        order_by = ["x", "v"]
        descending = ["x"]
        nulls = "last"
    """,
    "several": """
        kind = "derive"
        columns = { w = "v % 7" }
        [[steps]]
        kind = "deduplicate"
        columns = ["k", "w"]
        order_by = ["v"]
        [[steps]]
        kind = "filter"
        where = "v > 3"
        [[steps]]
        kind = "aggregate"
        by = ["w"]
        aggs = [
            { name = "n", function = "count" },
            { name = "most", function = "max", column = "v" },
        ]
        [[steps]]
        kind = "derive"
        columns = { half = "n / 2" }
        [[steps]]
        kind = "sort"
        order_by = ["n"]
    """,
}

JOBS = """
import os
import polars as pl
from headwater.tasks.jobs import job

@job(scope="key", keys=["k"])
def per_key(frame):
    return frame.group_by("k").agg(n=pl.len(), total=pl.col("v").sum())

@job(scope="key", keys=["k"])
def failing(frame):
    return frame.with_columns(pl.col("v").map_batches(broken, pl.Int64, is_elementwise=True))

@job(scope="key", keys=["k"])
def killing(frame):
    return frame.with_columns(pl.col("v").map_batches(killed, pl.Int64, is_elementwise=True))

def killed(values):
    if not values.is_empty():
        os.kill(os.getpid(), 9)
    return values

def broken(values):
    return values if values.is_empty() else values[1 // 0]
"""

CLUSTERS = {
    "in process": Candidate("local", Device.CPU, False, 1, 2, 2.0),
    "two processes": Candidate("local", Device.CPU, True, 2, 1, 2.0),
}


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with clusters.open(Plan((CLUSTERS[request.param],))) as opened:
        yield opened


@pytest.fixture(scope="module")
def in_process() -> Iterator[Cluster]:
    with clusters.open(Plan((CLUSTERS["in process"],))) as opened:
        yield opened


def rows(count: int, seed: int = 1) -> pl.DataFrame:
    dice = random.Random(seed)
    numbers = [0.0, -0.0, float("nan"), float("inf"), None]
    return pl.DataFrame(
        {
            "k": [dice.choice(["a", "b", None, "c", ""]) for _ in range(count)],
            "v": [dice.randrange(1000) for _ in range(count)],
            "x": [dice.choice([*numbers, dice.gauss(0, 1)]) for _ in range(count)],
        },
        schema={"k": pl.String, "v": pl.Int64, "x": pl.Float64},
    )


class Lake:
    """A folder with an input in odd parts, and targets."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root, root / "in"
        self.source.mkdir()
        for i, count in enumerate([0, 1, 500, 1000, 3, 700]):
            rows(count, i).write_parquet(self.source / f"{i}.parquet", row_group_size=150)
        (root / "jobs_spread.py").write_text(JOBS)

    def prepare(
        self, target: str, steps: str = "", job: str | None = None, *, fresh: bool = False
    ) -> Prepared:
        text = StepsText("jobs.toml", f"version = 1\n[[steps]]\n{steps}") if steps else None
        request = JobRequest(
            (str(self.source),), str(self.root / target), job, steps=text, fresh=fresh
        )
        return prepare(request, folder=self.root)

    def result(
        self, cluster: Cluster, prepared: Prepared, cut_bytes: int | None = None
    ) -> tuple[pl.DataFrame, Processed]:
        """What is committed, in the order of the parts."""
        processed = process(cluster.client, prepared, cluster.candidate, cut_bytes=cut_bytes)
        files = [file for receipt in processed.receipts for file in receipt.files]
        Dataset(prepared.target).commit(
            files,
            schema=prepared.schema,
            partition_by=(),
            mode=Mode.OVERWRITE,
            app_id=prepared.run_key,
            revision=1,
            metadata={},
        )
        parts = [pl.read_parquet(prepared.target.path / file.path) for file in files]
        return pl.concat([pl.DataFrame(schema=prepared.schema), *parts]), processed


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.mark.parametrize("name", STEPS)
def test_what_meets_between_workers_is_what_one_worker_gives(
    lake: Lake, cluster: Cluster, name: str
) -> None:
    whole, _ = lake.result(cluster, lake.prepare("whole", STEPS[name]))
    cut, processed = lake.result(cluster, lake.prepare("cut", STEPS[name]), SMALL)

    assert len(processed.receipts) > 5
    assert sum(receipt.rows_in for receipt in processed.receipts) == 2204
    assert_frame_equal(cut, whole, check_row_order=name in ("sort", "several"), check_exact=True)


def test_a_job_of_scope_key_sees_all_rows_of_its_keys(lake: Lake, cluster: Cluster) -> None:
    cut, processed = lake.result(cluster, lake.prepare("cut", job="jobs_spread:per_key"), SMALL)

    everything = pl.concat(pl.read_parquet(f) for f in sorted(lake.source.iterdir()))
    expected = everything.group_by("k").agg(n=pl.len().cast(pl.Int64), total=pl.col("v").sum())
    assert_frame_equal(cut, expected, check_row_order=False, check_dtypes=False)
    assert len(processed.receipts) > 5


def test_approximate_columns_say_how_far_they_may_be_off(lake: Lake) -> None:
    known = lake.prepare("cut", STEPS["aggregate"]).job.approximations

    assert set(known) == {"median", "kinds"}
    assert "of the rank, 99 % of the time (KLL sketch, k = 4096)" in known["median"]
    assert "within 4.7 % of the count" in known["kinds"]


def test_groups_too_many_for_one_worker_are_joined_in_several_trees(
    lake: Lake, in_process: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = STEPS["aggregate"].replace('"k"', '"v"').replace('column = "v"', 'column = "x"')
    steps = "\n".join(line for line in steps.splitlines() if "median" not in line)
    whole, _ = lake.result(in_process, lake.prepare("whole", steps))
    monkeypatch.setattr(spread, "partitions_needed", lambda sizes, _: min(3, len(sizes)))

    cut, processed = lake.result(in_process, lake.prepare("cut", steps), SMALL)

    assert sum(bool(receipt.files) for receipt in processed.receipts) == 3
    assert_frame_equal(cut, whole, check_row_order=False)


def test_trees_are_counted_by_what_states_take_in_memory(
    lake: Lake, in_process: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[int]()
    monkeypatch.setattr(spread, "partitions_needed", lambda sizes, _: told.append(sizes[0]) or 1)
    steps = """
        kind = "derive"
        columns = { text = "CONCAT('the very same long text for each of the groups ', v)" }
        [[steps]]
        kind = "aggregate"
        by = ["v", "text"]
        aggs = [{ name = "n", function = "count" }]
    """

    lake.result(in_process, lake.prepare("cut", steps), SMALL)

    # Some 150 groups in a part, whose texts alone have 50 bytes each; packed, they take less.
    assert told[0] > 150 * 50


def test_an_empty_input_gives_what_one_part_of_it_gives(lake: Lake, in_process: Cluster) -> None:
    for file in lake.source.iterdir():
        rows(0).write_parquet(file)

    for name, steps in STEPS.items():
        cut, _ = lake.result(in_process, lake.prepare(f"cut {name}", steps), SMALL)
        assert cut.height == (1 if name == "aggregate all" else 0)


def test_a_piece_without_rows_gives_nothing(lake: Lake, in_process: Cluster) -> None:
    for name in ("deduplicate", "sort", "top of each", "top"):
        steps = f"kind = 'filter'\nwhere = 'v > 1000'\n[[steps]]\n{STEPS[name]}"

        cut, processed = lake.result(in_process, lake.prepare(f"cut {name}", steps), SMALL)

        assert (cut.height, len(processed.receipts) > 5) == (0, True)


def settle(client: Client) -> None:
    """Wait until the workers of a cluster have nothing left to do."""

    def busy(dask_worker: Worker) -> bool:
        state = dask_worker.state
        return bool(state.all_running_tasks or state.ready)

    def is_busy() -> bool:
        found: Any = client.run(busy)
        return any(found.values())

    deadline = time.monotonic() + 30
    while is_busy():
        assert time.monotonic() < deadline, "the workers do not come to rest"
        time.sleep(0.05)


def test_a_run_that_is_taken_up_writes_only_what_is_missing(
    lake: Lake, in_process: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = lake.prepare("cut", STEPS["deduplicate"])
    real, written = legs.write_part, list[int]()

    def broken(frame: Any, index: int, *args: Any) -> Any:
        if len(written) == 3:
            raise UnsupportedData("the disk is odd")
        written.append(index)
        return real(frame, index, *args)

    monkeypatch.setattr(legs, "write_part", broken)
    with pytest.raises(UnsupportedData, match="disk is odd"):
        lake.result(in_process, prepared, SMALL)
    assert not Dataset(prepared.target).committed(prepared.run_key)

    settle(in_process.client)  # a thread's part goes on to its end when its run has failed
    again = list[int]()
    monkeypatch.setattr(
        legs, "write_part", lambda f, index, *args: again.append(index) or real(f, index, *args)
    )
    cut, processed = lake.result(in_process, prepared, SMALL)

    assert processed.resumed == len(written)
    assert not set(again) & set(written)
    assert cut.height == lake.result(in_process, lake.prepare("w", STEPS["deduplicate"]))[0].height
    process(in_process.client, prepared, in_process.candidate, cut_bytes=SMALL)
    assert len(again) + len(written) == len({*again, *written})  # all was there


def test_a_cluster_with_room_for_all_goes_on_with_what_a_smaller_one_began(
    lake: Lake, in_process: Cluster
) -> None:
    prepared = lake.prepare("cut", STEPS["deduplicate"])
    small = process(in_process.client, prepared, in_process.candidate, cut_bytes=SMALL)
    attempts = prepared.target.path / "_headwater/runs"
    max(attempts.glob("*/part-*.json")).unlink()

    again = process(in_process.client, prepared, in_process.candidate)

    assert again.resumed == sum(1 for r in small.receipts if r.rows_in == 0) - 1
    assert [r.rows_out for r in again.receipts] == [r.rows_out for r in small.receipts]
    assert len(list(attempts.iterdir())) == 1
    fresh = lake.prepare("cut", STEPS["deduplicate"], fresh=True)
    assert len(process(in_process.client, fresh, in_process.candidate).receipts) == 1


def test_a_lost_worker_costs_time_and_no_rows(lake: Lake, tmp_path: Path) -> None:
    for i in range(20):
        rows(5_000, i).write_parquet(lake.source / f"more-{i}.parquet")
    prepared = lake.prepare("cut", STEPS["deduplicate by key"].replace('["k"]', '["k", "v"]'))
    with clusters.open(Plan((CLUSTERS["two processes"],))) as cluster:
        found: Any = cluster.client.run(os.getpid)
        pids = list(found.values())
        killed = list[int]()

        def kill(progress: Progress) -> None:
            if progress.parts_done == 6 and not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        processed = process(
            cluster.client, prepared, cluster.candidate, cut_bytes=20_000, on_progress=kill
        )

    assert killed
    assert processed.retries >= 1
    everything = pl.concat(pl.read_parquet(f) for f in lake.source.iterdir())
    expected = everything.select("k", "v").n_unique()
    assert sum(receipt.rows_out for receipt in processed.receipts) == expected


@pytest.mark.trial
def test_a_job_that_kills_its_workers_between_them_fails_by_name(lake: Lake) -> None:
    with (
        clusters.open(Plan((CLUSTERS["two processes"],))) as cluster,
        pytest.raises(WorkerLost, match=r"killing: its worker died 3 times, probably for lack of"),
    ):
        lake.result(cluster, lake.prepare("killed", job="jobs_spread:killing"), SMALL)


def test_failures_say_what_failed_and_where(lake: Lake, cluster: Cluster) -> None:
    steps = """
        kind = "deduplicate"
        [[steps]]
        kind = "cast"
        columns = { k = "Int64" }
    """
    with pytest.raises(ValueLost, match=r"step 2 .*'k' in bucket"):
        lake.result(cluster, lake.prepare("lost", steps), SMALL)
    with pytest.raises(PartFailed, match=r"jobs_spread:failing failed on bucket .*ZeroDivision"):
        lake.result(cluster, lake.prepare("failed", job="jobs_spread:failing"), SMALL)


def test_an_exchange_makes_no_noise(
    lake: Lake, in_process: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        lake.result(in_process, lake.prepare("cut", STEPS["sort"]), SMALL)

    assert not caplog.records


def test_types_are_what_they_were_after_an_exchange() -> None:
    frame = pl.DataFrame(
        {
            "d": pl.Series(["1.20", None], dtype=pl.String).cast(pl.Decimal(38, 2)),
            "u": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
            "t": pl.Series([0, None]).cast(pl.Datetime("us", "Europe/Berlin")),
            "c": pl.Series(["a", None], dtype=pl.Categorical),
            "l": pl.Series([[1, None], None], dtype=pl.List(pl.Int8)),
            "s": pl.Series([{"a": 1.5}, None], dtype=pl.Struct({"a": pl.Float32})),
            "b": pl.Series([b"\x00", b""], dtype=pl.Binary),
            "n": pl.Series([None, None], dtype=pl.Null),
        }
    )
    given = shares(frame, np.array([0, 0], dtype=np.uint64))

    assert_frame_equal(taken(given, frame.schema), frame)
    with pytest.raises(SchemaMismatch, match="column 'u' came out"):
        taken(given, pl.Schema({**frame.schema, "u": pl.Int64()}))


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([0.0, -0.0]),
        pl.Series([float("nan"), -float("nan")]),
        pl.Series([[0.0], [-0.0]]),
        pl.Series(["a", "a"], dtype=pl.Categorical),
    ],
    ids=str,
)
def test_equal_keys_go_to_one_bucket(values: pl.Series) -> None:
    first, second = digests([values])

    assert first == second
    assert len(set(buckets_by_key(values.to_frame("k"), ["k"], 64))) == 1
