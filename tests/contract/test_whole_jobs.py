"""Jobs over the whole input: one plan, the same result however the files are cut, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest

from headwater.flows.etl_run import EtlRun
from headwater.infra.errors import InvalidRequest, ScopeViolation
from headwater.infra.gpu import GpuReport
from headwater.infra.models import JobRequest, RunReceipt, StepsText
from headwater.infra.profiles import load_profile
from headwater.infra.storage.inputs import open_input
from headwater.tasks.scan import require_holdable

JOBS = """
import polars as pl
from headwater.tasks.jobs import job

@job(scope="whole")
def per_key(frame):
    return frame.group_by("k").agg(n=pl.len(), total=pl.col("v").sum(), mean=pl.col("v").mean())

@job(scope="whole")
def first_ten(frame):
    return frame.sort("v", descending=True).head(10)

@job(scope="whole")
def counted(frame):
    return frame.select(n=pl.len())

@job(scope="whole")
def sneaky(frame):
    return frame.group_by("k").len().join(pl.scan_parquet("/elsewhere/x.parquet"), on="k")

@job(scope="whole")
def ranked(frame, *, names):
    return frame.with_columns(rank=pl.col("v").rank("ordinal").over("k")).join(names, on="k")
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunReceipt]:
    unnamed = tmp_path / "unnamed.parquet"
    pl.DataFrame({"k": ["a"]}).write_parquet(unnamed)
    (tmp_path / "whole_jobs.py").write_text(JOBS.replace("/elsewhere/x.parquet", str(unnamed)))

    def run(job: str, source: Path, target: str, **sides: str) -> RunReceipt:
        request = JobRequest(
            (str(source),), str(tmp_path / target), f"whole_jobs:{job}", tuple(sides.items())
        )
        etl = EtlRun(
            request,
            load_profile("local"),
            folder=tmp_path,
            gpu_probe=lambda: GpuReport(reason="not asked"),
        )
        etl.scan()
        etl.process()
        etl.commit()
        return etl.receipt()

    return run


@pytest.fixture
def frame() -> pl.DataFrame:
    keys = ["a", "b", None, "c"]
    return pl.DataFrame(
        {
            "k": [keys[i % 4] for i in range(10_000)],
            "v": [(i * 7919) % 10_007 for i in range(10_000)],
        }
    )


def cut_in(frame: pl.DataFrame, folder: Path, files: int) -> Path:
    folder.mkdir()
    size = -(-frame.height // files)
    for i in range(files):
        frame.slice(i * size, size).write_parquet(folder / f"{i:03d}.parquet", row_group_size=100)
    return folder


@pytest.mark.parametrize("files", [1, 7])
def test_an_aggregate_equals_duckdbs_however_the_input_is_cut(
    run: Callable[..., RunReceipt], frame: pl.DataFrame, tmp_path: Path, files: int
) -> None:
    source = cut_in(frame, tmp_path / "in", files)

    receipt = run("per_key", source, "out")

    assert (receipt.parts, receipt.rows_in, receipt.rows_out) == (1, 10_000, 4)
    rows = duckdb.read_parquet(f"{source}/*.parquet")
    expected = (
        rows.aggregate("k, count(*) as n, sum(v)::bigint as total, avg(v) as mean", "k")
        .order("k nulls first")
        .fetchall()
    )
    assert pl.read_delta(str(tmp_path / "out")).sort("k", nulls_last=False).rows() == expected


def test_a_sort_with_a_limit_takes_the_first_rows_of_all(
    run: Callable[..., RunReceipt], frame: pl.DataFrame, tmp_path: Path
) -> None:
    run("first_ten", cut_in(frame, tmp_path / "in", 5), "out")

    found = pl.read_delta(str(tmp_path / "out"))["v"].to_list()
    assert found == sorted(frame["v"].to_list(), reverse=True)[:10]


def test_a_count_of_no_rows_is_a_row(run: Callable[..., RunReceipt], tmp_path: Path) -> None:
    pl.DataFrame(schema={"k": pl.String, "v": pl.Int64}).write_parquet(tmp_path / "in.parquet")

    receipt = run("counted", tmp_path / "in.parquet", "out")

    assert receipt.rows_out == 1
    assert pl.read_delta(str(tmp_path / "out")).rows() == [(0,)]


def test_a_window_and_a_side_table_work_together(
    run: Callable[..., RunReceipt], frame: pl.DataFrame, tmp_path: Path
) -> None:
    pl.DataFrame({"k": ["a"], "name": ["first"]}).write_parquet(tmp_path / "names.parquet")

    run("ranked", cut_in(frame, tmp_path / "in", 3), "out", names=str(tmp_path / "names.parquet"))

    found = pl.read_delta(str(tmp_path / "out")).sort("v")
    assert found["rank"].to_list() == list(range(1, 2501))
    assert set(found["name"]) == {"first"}


def test_a_file_that_nobody_named_is_refused(
    run: Callable[..., RunReceipt], frame: pl.DataFrame, tmp_path: Path
) -> None:
    source = cut_in(frame, tmp_path / "in", 1)

    with pytest.raises(ScopeViolation, match=r"unnamed\.parquet.*not pinned"):
        run("sneaky", source, "out")

    assert not (tmp_path / "out").exists()


def test_an_input_that_no_worker_could_hold_is_refused(frame: pl.DataFrame, tmp_path: Path) -> None:
    source = open_input([str(cut_in(frame, tmp_path / "in", 1))])

    require_holdable("jobs:per_key", source, memory_gib=1)
    with pytest.raises(InvalidRequest, match="looks at the whole input") as caught:
        require_holdable("jobs:per_key", source, memory_gib=0.000_01)

    assert "scope='key'" in caught.value.hint


STEPS = """
version = 1

[[steps]]
kind = "filter"
where = "v % 2 = 0"

[[steps]]
kind = "top"
order_by = ["v"]
descending = ["v"]
n = 2
per = ["k"]

[[steps]]
kind = "derive"
columns = { half = "v / 2" }

[[steps]]
kind = "sort"
order_by = ["k", "v"]
"""


@pytest.mark.parametrize("files", [1, 6])
def test_steps_that_look_across_rows_equal_duckdb_however_the_input_is_cut(
    frame: pl.DataFrame, tmp_path: Path, files: int
) -> None:
    source = cut_in(frame, tmp_path / "in", files)
    steps = StepsText("steps.toml", STEPS)
    request = JobRequest((str(source),), str(tmp_path / "out"), steps=steps)
    etl = EtlRun(request, load_profile("local"), gpu_probe=lambda: GpuReport(reason="not asked"))

    etl.scan()
    etl.process()
    etl.commit()

    rows = duckdb.read_parquet(f"{source}/*.parquet")
    expected = (
        rows.filter("v % 2 = 0")
        .project("k, v, v // 2 as half, row_number() over (partition by k order by v desc) as n")
        .filter("n <= 2")
        .project("k, v, half")
        .order("k nulls first, v")
        .fetchall()
    )
    assert pl.read_delta(str(tmp_path / "out")).rows() == expected
    assert etl.receipt().parts == 1
