"""Jobs over TPC-H tables, beside the engines that a user would take instead."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import cast

import duckdb
import polars as pl
from tests.benchmarks import frames as frames_of_dask
from tests.benchmarks import jobs
from tests.benchmarks.measure import HERE, ROUNDS, Result, no_gpu, ratio, seconds_of, tpch_tables
from tests.contract.test_tpch import Q1, Q3, Q6

from headwater.infra import clusters
from headwater.infra.launchers.local import local_plan
from headwater.infra.models import JobRequest
from headwater.infra.profiles import load_profile
from headwater.tasks.prepare import prepare
from headwater.tasks.process import process

SHIP = """
SELECT *, CAST(l_extendedprice AS DOUBLE) * (1 - CAST(l_discount AS DOUBLE)) AS sold,
    year(l_shipdate) AS year
FROM read_parquet('{}') WHERE l_shipdate <= DATE '1998-09-02'
"""
"""``jobs.ship`` for DuckDB."""


def filter_derive_write(files: int) -> tuple[Result, ...]:
    """Filter, derive and write over TPC-H SF1 ``lineitem``, against engines that do only that.

    Args:
        files: How many the table is in.
    """
    plan = local_plan(load_profile("local"), no_gpu)
    took: dict[str, list[float]] = {}
    with (
        tpch_tables("lineitem", files=files) as folder,
        TemporaryDirectory() as tmp,
        clusters.open(plan) as cluster,
        duckdb.connect() as database,
    ):
        source = folder / ("lineitem.parquet" if files == 1 else "lineitem")

        def headwater(i: int) -> None:
            request = JobRequest(
                (str(source),), f"{tmp}/ours-{i}", "tests.benchmarks.jobs:ship", fresh=True
            )
            prepared = prepare(request, folder=HERE.parent.parent)
            process(cluster.client, prepared, cluster.candidate)

        def polars(i: int) -> None:
            jobs.ship(pl.scan_parquet(source)).sink_parquet(f"{tmp}/polars-{i}.parquet")

        def duckdb_copy(i: int) -> None:
            found = source if files == 1 else f"{source}/*.parquet"
            database.execute(f"COPY ({SHIP.format(found)}) TO '{tmp}/duckdb-{i}.parquet'")

        def dask(i: int) -> None:
            frames_of_dask.ship(source, Path(f"{tmp}/dask-{i}"))

        for i in range(ROUNDS + 1):
            for engine in (headwater, polars, duckdb_copy, dask):
                took.setdefault(engine.__name__, []).append(seconds_of(partial(engine, i)))
    ours = took["headwater"][1:]
    medians = {engine: statistics.median(seconds[1:]) for engine, seconds in took.items()}
    name = "filter_derive_write" + ("" if files == 1 else f"_{files}_files")
    span = (
        f"scan to last part in place, 6,001,215 rows in {_counted(files)}, warm process, without"
        " the commit"
    )
    return (
        Result(name, span, ratio(ours, took["polars"][1:]), "x polars", 1.15, medians),
        Result(
            f"{name}_duckdb", span, ratio(ours, took["duckdb_copy"][1:]), "x duckdb", 1.0, medians
        ),
    )


def worker_memory() -> Result:
    """Peak memory of the worker that took most, while the input grows tenfold."""
    with tpch_tables("lineitem") as folder, TemporaryDirectory() as tmp:
        table = folder / "lineitem.parquet"
        peaks = [
            _worker_peak_bytes(_copies(table, Path(tmp) / f"in-{copies}", copies), tmp, copies)
            for copies in (1, 10)
        ]
    return Result(
        "worker_memory",
        "peak of a worker process over filter, derive and write: SF1 lineitem ten times, to once",
        peaks[1] / peaks[0],
        "x the memory",
        1.25,
        {f"{copies} times, GiB": peak / 2**30 for copies, peak in zip((1, 10), peaks, strict=True)},
    )


def tpch(query: str) -> Result:
    """One TPC-H query on SF1, written as a job over the whole input, against its peers."""
    sides = ("orders", "customer") if query == "q3" else ()
    sql = {"q1": Q1, "q3": Q3, "q6": Q6}[query]
    plan = local_plan(load_profile("local"), no_gpu)
    seconds: dict[str, list[float]] = {
        "headwater": [],
        "polars": [],
        "duckdb": [],
        "dask.dataframe": [],
    }
    with (
        tpch_tables("lineitem", *sides) as folder,
        TemporaryDirectory() as tmp,
        clusters.open(plan) as cluster,
        duckdb.connect() as database,
    ):
        for table in ("lineitem", *sides):
            database.read_parquet(f"{folder}/{table}.parquet").create_view(table)

        def headwater(i: int) -> None:
            request = JobRequest(
                (f"{folder}/lineitem.parquet",),
                f"{tmp}/{query}-{i}",
                f"tests.benchmarks.jobs:{query}",
                tuple((side, f"{folder}/{side}.parquet") for side in sides),
            )
            prepared = prepare(request, folder=HERE.parent.parent)
            process(cluster.client, prepared, cluster.candidate)

        def polars() -> None:
            frames = {side: pl.scan_parquet(f"{folder}/{side}.parquet") for side in sides}
            job = getattr(jobs, query)
            job(pl.scan_parquet(f"{folder}/lineitem.parquet"), **frames).collect(engine="streaming")

        for i in range(ROUNDS + 1):
            seconds["headwater"].append(seconds_of(lambda i=i: headwater(i)))
            seconds["polars"].append(seconds_of(polars))
            seconds["duckdb"].append(seconds_of(lambda: database.sql(sql).fetchall()))
            # On the same cluster, whose client is the one that Dask finds.
            dask = getattr(frames_of_dask, query)
            seconds["dask.dataframe"].append(seconds_of(lambda dask=dask: dask(folder)))
    medians = {peer: statistics.median(times[1:]) for peer, times in seconds.items()}
    ahead = ratio(seconds["dask.dataframe"][1:], seconds["headwater"][1:])
    allowed = max(1.3, (medians["polars"] + 0.1) / medians["polars"])
    return Result(
        f"tpch_{query}",
        "scan to result in place, SF1, warm process, without the commit; peers to memory;"
        f" {ahead:.1f} times ahead of dask.dataframe on pandas",
        ratio(seconds["headwater"][1:], seconds["polars"][1:]),
        "x polars",
        allowed,
        medians,
    )


def _counted(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _copies(table: Path, folder: Path, number: int) -> Path:
    """A folder that holds a table's rows several times, on the disk once."""
    folder.mkdir()
    for i in range(number):
        (folder / f"{i:02d}.parquet").hardlink_to(table)
    return folder


def _worker_peak_bytes(source: Path, tmp: str, copies: int) -> int:
    request = JobRequest((str(source),), f"{tmp}/out-{copies}", "tests.benchmarks.jobs:ship")
    with clusters.open(local_plan(load_profile("local-processes"), no_gpu)) as cluster:
        prepared = prepare(request, folder=HERE.parent.parent)
        process(cluster.client, prepared, cluster.candidate)
        peaks = cast("dict[str, int]", cluster.client.run(_peak_bytes))
        return max(peaks.values())


def _peak_bytes() -> int:
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024
