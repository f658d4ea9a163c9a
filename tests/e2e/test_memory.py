"""A part that would take the machine's memory: the run says so, and the driver lives to say it."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from tests.e2e.conftest import Cli

PROFILE = """
version = 1
[cluster]
gpu = "never"
processes = false
threads_per_worker = 1
process_memory_gib = 0.9
"""

JOB = """
import polars as pl
from headwater.tasks.jobs import job


@job(scope="whole")
def huge(frame: pl.LazyFrame) -> pl.LazyFrame:
    more = frame.with_columns(a=pl.int_ranges(0, 1000)).explode("a")
    most = more.with_columns(b=pl.int_ranges(0, 1000)).explode("b")
    return most.sort("b", "a", "n", descending=[True, False, True])
"""


@pytest.fixture
def lake(headwater: Cli) -> Cli:
    folder = headwater.folder
    (folder / "profiles").mkdir()
    (folder / "profiles" / "tight.toml").write_text(PROFILE)
    (folder / "big.py").write_text(JOB)
    pl.DataFrame({"n": range(1000)}).write_parquet(folder / "rows.parquet")
    return headwater


def test_a_job_too_large_for_this_process_fails_by_name(lake: Cli) -> None:
    command = ["run", "etl", "--source", "rows.parquet", "--target", "out", "--profile", "tight"]

    done = lake(*command, "--job", "big:huge", env={"POLARS_MAX_THREADS": "2"}, timeout=120)

    assert done.code == 1, done.err
    assert "may have 921.6 MiB; under way: part 0 (rows.parquet)" in done.err, done.err
    assert "-> in the cluster profile set threads_per_worker = 1" in done.err
    assert not re.search(r"Traceback|WARN|Warning|ERROR|Error", done.err), done.err
    assert not (lake.folder / "out" / "_delta_log").exists()
    assert list(Path(lake.environment["TMPDIR"]).iterdir()) == []
