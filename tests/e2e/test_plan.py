"""`headwater plan etl` as a person runs it: the plan, one JSON object, and refusals."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.e2e.conftest import Cli


@pytest.fixture
def source(alone: Cli) -> Path:
    path = alone.folder / "in.parquet"
    pl.DataFrame({"n": range(1000)}).write_parquet(path)
    return path


def test_a_local_run_is_planned_on_this_machine_and_nothing_is_written(
    alone: Cli, source: Path
) -> None:
    table = alone("plan", "etl", "--source", source, "--target", "out")
    told = alone("plan", "etl", "--source", source, "--target", "out", "--json")

    assert (table.code, told.code) == (0, 0), table.err + told.err
    assert table.out.splitlines()[2] == " 1  this machine, free"
    assert told.json["candidates"][0]["where"] == "this machine"
    assert told.json["candidates"][1]["usd"]["total"]["p50"] > 0
    assert told.json["size_bytes"] == source.stat().st_size
    assert not (alone.folder / "out").exists()


def test_what_cannot_be_planned_is_refused_with_2(alone: Cli, source: Path) -> None:
    (alone.folder / "profiles").mkdir()
    (alone.folder / "profiles" / "odd.toml").write_text(
        'version = 1\nextends = "cloud"\n[gpu]\nname = "B9000"\ncount = 1\n'
    )
    no_gpu = alone("plan", "etl", "--source", source, "--target", "out", "--profile", "odd")
    no_job = alone("plan", "etl", "--source", source, "--target", "out", "--job", "nowhere:job")
    nothing = alone("plan", "etl", "--source", "missing.parquet", "--target", "out", "--json")

    assert (no_gpu.code, no_job.code, nothing.code) == (2, 2, 2)
    assert "no GPU 'B9000' in any offer" in no_gpu.err
    assert "no module 'nowhere'" in no_job.err
    assert nothing.json["status"] == "refused"
