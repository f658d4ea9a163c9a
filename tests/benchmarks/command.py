"""The command from the start of its process to the end."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from tests.benchmarks.measure import (
    COMMAND,
    HERE,
    ROUNDS,
    Result,
    prefect_server,
    ratio,
    run,
    run_etl,
    seconds_of,
    small_input,
)

MINUTE_FILES = 40
MINUTE_ROWS = 2_000_000
"""Files of a run of about a minute, and rows of each, with ``jobs.grind``."""

MINUTE_ROUNDS = 3


def help_seconds() -> Result:
    """``headwater --help``."""
    seconds = [seconds_of(lambda: run([COMMAND, "--help"])) for _ in range(ROUNDS + 1)][1:]
    return Result(
        "help",
        "start to end of the process",
        statistics.median(seconds),
        "s",
        0.3,
        {"headwater --help": statistics.median(seconds)},
    )


LOAD_CATALOG = """
import time, csv, headwater.infra.errors, headwater.infra.models
begun = time.perf_counter()
from headwater.infra.catalog.tables import load_catalog
from headwater.infra.catalog.files import PACKAGED
load_catalog()
loaded = time.perf_counter()
for path in PACKAGED.glob("*.csv"):
    with path.open(newline="") as file:
        list(csv.reader(file))
print(loaded - begun, time.perf_counter() - loaded)
"""


def catalog_load() -> Result:
    """All packaged prices in a fresh process, with the import of what reads them."""
    took = [run([sys.executable, "-c", LOAD_CATALOG]).split() for _ in range(ROUNDS + 1)][1:]
    loads, reads = ([float(pair[i]) for pair in took] for i in (0, 1))
    return Result(
        "catalog_load",
        "from the import of the catalog to all prices in a fresh process",
        statistics.median(loads),
        "s",
        0.05,
        {"headwater": statistics.median(loads), "csv.reader": statistics.median(reads)},
    )


def prefect_overhead() -> Result:
    """A small run on a running Prefect server against the same steps without Prefect."""
    with small_input() as (source, tmp), prefect_server() as url:
        environment = {"PREFECT_API_URL": url}
        with_prefect: list[float] = []
        bare: list[float] = []
        for i in range(ROUNDS + 1):
            with_prefect.append(seconds_of(lambda i=i: run_etl(source, f"{tmp}/a{i}", environment)))
            command = [sys.executable, str(HERE / "bare_etl.py"), str(source), f"{tmp}/b{i}"]
            bare.append(seconds_of(lambda command=command: run(command)))
    extra = [a - b for a, b in zip(with_prefect[1:], bare[1:], strict=True)]
    return Result(
        "prefect_overhead",
        "start to end of the process, 10,000 rows, minus the same steps without Prefect",
        statistics.median(extra),
        "s more",
        2.5,
        {
            "headwater run etl": statistics.median(with_prefect[1:]),
            "the same without Prefect": statistics.median(bare[1:]),
        },
    )


def flow_overhead() -> Result:
    """A run of about a minute on a running Prefect server against the same Dask graph bare."""
    job = "tests.benchmarks.jobs:grind"
    took: dict[str, list[float]] = {"headwater run etl": [], "the same without Prefect": []}
    with TemporaryDirectory() as tmp, prefect_server() as url:
        source = Path(tmp) / "source"
        source.mkdir()
        for i in range(MINUTE_FILES):
            rows = pl.int_range(i * MINUTE_ROWS, (i + 1) * MINUTE_ROWS, eager=True).alias("n")
            pl.DataFrame([rows]).write_parquet(source / f"{i:02d}.parquet")
        for i in range(MINUTE_ROUNDS):
            environment = {"PREFECT_API_URL": url, "PYTHONPATH": str(HERE.parent.parent)}
            bare = [sys.executable, str(HERE / "bare_etl.py"), str(source), f"{tmp}/b{i}", job]
            took["headwater run etl"].append(
                seconds_of(lambda i=i, env=environment: run_etl(source, f"{tmp}/a{i}", env, job))
            )
            took["the same without Prefect"].append(
                seconds_of(lambda bare=bare, env=environment: run(bare, env))
            )
    ours, peer = took.values()
    return Result(
        "flow_overhead",
        f"start to end of the process, {MINUTE_FILES} files, a job of about a minute",
        ratio(ours, peer),
        "x without Prefect",
        1.10,
        {name: statistics.median(seconds) for name, seconds in took.items()},
    )


def small_run_with_server() -> Result:
    """A small run in all, with a running server."""
    with small_input() as (source, tmp), prefect_server() as url:
        seconds = [
            seconds_of(lambda i=i: run_etl(source, f"{tmp}/a{i}", {"PREFECT_API_URL": url}))
            for i in range(ROUNDS + 1)
        ][1:]
    value = statistics.median(seconds)
    return Result(
        "small_run_with_server",
        "start to end of the process, 10,000 rows",
        value,
        "s",
        7.0,
        {"headwater run etl": value},
    )


def small_run_without_server() -> Result:
    """A small run in all, starting its own server on a database that is there."""
    with small_input() as (source, tmp):
        environment = {"PREFECT_HOME": f"{tmp}/prefect", "PREFECT_API_URL": ""}
        seconds = [
            seconds_of(lambda i=i: run_etl(source, f"{tmp}/a{i}", environment))
            for i in range(ROUNDS + 1)
        ]
    value = statistics.median(seconds[1:])
    return Result(
        "small_run_without_server",
        "start to end of the process, 10,000 rows, own Prefect server started and ended",
        value,
        "s",
        12.0,
        {"headwater run etl": value, "the first, on a new database": seconds[0]},
    )
