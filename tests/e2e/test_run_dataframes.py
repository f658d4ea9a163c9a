"""`headwater run etl` with a job in the pandas style, from the command line to the version."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import duckdb
import polars as pl
import psutil
import pytest
from tests.e2e.conftest import Cli, Done

JOB = """
import time
from pathlib import Path

import dask.dataframe as dd

from headwater.tasks.jobs import job

HERE = Path(__file__).parent


def waits(part):
    end = time.monotonic() + 60
    (HERE / "waiting").touch()
    while (HERE / "hold").exists() and time.monotonic() < end:
        time.sleep(0.05)
    if (HERE / "broken").exists():
        raise ValueError("no such zone")
    return part


@job(frames="dask")
def busy(trips: dd.DataFrame, *, zones: dd.DataFrame) -> dd.DataFrame:
    spread = trips.shuffle("zone").map_partitions(waits, meta=trips._meta)
    named = spread.merge(zones, on="zone", how="left")
    return named.groupby(["zone", "name"], dropna=False).agg({"n": "sum"}).reset_index()


@job(frames="dask")
def early(trips: dd.DataFrame) -> dd.DataFrame:
    return trips.assign(share=1 / len(trips))
"""

PROFILES = ["local", pytest.param("local-processes", marks=pytest.mark.trial)]

NOISE = r"Traceback|WARN|Warning|ERROR|Error|Shuffle|distributed"


@pytest.fixture
def trips(headwater: Cli) -> Cli:
    """1,000 rows in two files, a side table that lacks zones, the jobs beside them."""
    folder = headwater.folder
    (folder / "trips").mkdir()
    for name, numbers in {"a": range(600), "b": range(600, 1000)}.items():
        frame = pl.DataFrame({"n": numbers, "zone": [f"z{n % 4}" for n in numbers]})
        frame.write_parquet(folder / "trips" / f"{name}.parquet")
    pl.DataFrame({"zone": ["z0", "z2"], "name": ["north", None]}).write_csv(folder / "zones.csv")
    (folder / "frames.py").write_text(JOB)
    return headwater


COMMAND = ("run", "etl", "--source", "trips", "--target", "out", "--job", "frames:busy")
SIDE = ("--side", "zones=zones.csv", "--partition-by", "zone")


def etl(cli: Cli, *more: str) -> Done:
    return cli(*COMMAND, *SIDE, *more)


def expected(folder: Path) -> pl.DataFrame:
    with duckdb.connect() as oracle:
        trips = oracle.read_parquet(f"{folder}/trips/*.parquet").set_alias("t")
        zones = oracle.read_csv(f"{folder}/zones.csv").set_alias("z")
        named = trips.join(zones, "t.zone = z.zone", how="left")
        frame = named.aggregate("t.zone AS zone, name, sum(n)::bigint AS n", "t.zone, name").pl()
    return frame.sort(frame.columns)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_result_is_duckdbs_and_a_second_run_finds_it(trips: Cli, profile: str) -> None:
    done = etl(trips, "--profile", profile, "--json")

    assert done.code == 0, done.err
    written = trips.rows().select("zone", "name", "n")
    assert written.sort(written.columns).equals(expected(trips.folder))
    receipt = done.json
    assert (receipt["status"], receipt["rows_in"], receipt["rows_out"]) == ("committed", 1000, 4)
    assert receipt["engine"].startswith("dask.dataframe")
    assert receipt["bytes_read"] > 0
    assert trips.versions() == [0, 1]
    assert not re.search(NOISE, done.err), done.err
    again = etl(trips, "--profile", profile)
    assert again.code == 0, again.err
    assert "already committed" in again.out


def test_what_fails_and_what_is_refused_say_so_in_a_line(trips: Cli) -> None:
    (trips.folder / "broken").touch()

    failed = etl(trips)
    refused = trips("run", "etl", "--source", "trips", "--target", "out", "--job", "frames:early")

    assert failed.code == 1
    assert "job frames:busy failed: ValueError: no such zone" in failed.err
    assert "Traceback" not in failed.err
    assert refused.code == 2
    assert "job frames:early computes while its graph is built" in refused.err
    assert trips.versions() in ([], [0])


@pytest.mark.parametrize("profile", PROFILES)
def test_a_ctrl_c_ends_it_and_the_same_command_does_it_anew(trips: Cli, profile: str) -> None:
    (trips.folder / "hold").touch()
    process = trips.start(*COMMAND, *SIDE, "--profile", profile)
    end = time.monotonic() + 40
    while not (trips.folder / "waiting").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no part was reached in time"
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)

    assert process.returncode == 130, err
    assert not re.search(NOISE, err), err
    assert not psutil.wait_procs(family, timeout=5)[1]
    assert trips.versions() in ([], [0])
    (trips.folder / "hold").unlink()
    done = etl(trips, "--profile", profile)
    assert done.code == 0, done.err
    written = trips.rows().select("zone", "name", "n")
    assert written.sort(written.columns).equals(expected(trips.folder))
