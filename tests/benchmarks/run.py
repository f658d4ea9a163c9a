"""Benchmarks: each prints its figure beside its peers', measured in turn in one run.

    make bench                 all of them
    make bench ONLY=name       one

A figure is a ratio or a number of seconds; ratios are taken pair by pair and the median is
reported, since machines are shared and their speed drifts. The last figures are in
``results.json`` beside this file.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.infra.gpu import GpuReport

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
ROUNDS = 5
COMMAND = str(Path(sys.executable).with_name("headwater"))


@dataclass(frozen=True)
class Result:
    """One benchmark's outcome.

    Attributes:
        span: What was measured, from where to where.
        value: The figure; smaller is better.
        target: What it must not exceed.
        peers: Medians of what it was measured beside, in seconds.
    """

    name: str
    span: str
    value: float
    unit: str
    target: float
    peers: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the figure keeps to its target."""
        return self.value <= self.target


def main(only: str) -> None:
    """Run the chosen benchmarks, print them as a table and keep them."""
    chosen = {n: f for n, f in BENCHMARKS.items() if only in ("", n)}
    if not chosen:
        sys.exit(f"no benchmark '{only}'; known: {', '.join(BENCHMARKS)}")
    kept = {r["name"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, benchmark in chosen.items():
        result = benchmark()
        kept[name] = {**asdict(result), "reached": result.reached}
        peers = ", ".join(f"{peer} {seconds:.2f} s" for peer, seconds in result.peers.items())
        mark = "reached" if result.reached else "NOT reached"
        print(
            f"{name}: {result.value:.2f} {result.unit}, target {result.target:g}: {mark}\n"
            f"    {result.span}\n    medians: {peers}"
        )
        RESULTS.write_text(json.dumps(list(kept.values()), indent=1) + "\n")


# --- the kernels -----------------------------------------------------------------------------


def filter_derive_write() -> Result:
    """Filter, derive and write over TPC-H SF1 ``lineitem`` against Polars' own sink."""
    import polars as pl
    from tests.benchmarks.jobs import ship

    from headwater.infra import clusters
    from headwater.infra.launchers.local import local_plan
    from headwater.infra.models import JobRequest
    from headwater.infra.profiles import load_profile
    from headwater.tasks.prepare import prepare
    from headwater.tasks.process import process

    plan = local_plan(load_profile("local"), _no_gpu)
    with (
        _tables("lineitem") as folder,
        TemporaryDirectory() as tmp,
        clusters.open(plan) as cluster,
    ):
        source = folder / "lineitem.parquet"
        ours: list[float] = []
        polars: list[float] = []

        def headwater(i: int) -> None:
            request = JobRequest(
                (str(source),), f"{tmp}/ours-{i}", "tests.benchmarks.jobs:ship", fresh=True
            )
            prepared = prepare(request, folder=HERE.parent.parent)
            process(cluster.client, prepared, cluster.candidate)

        def sink(i: int) -> None:
            ship(pl.scan_parquet(source)).sink_parquet(f"{tmp}/polars-{i}.parquet")

        for i in range(ROUNDS + 1):
            ours.append(_seconds(lambda i=i: headwater(i)))
            polars.append(_seconds(lambda i=i: sink(i)))
    return Result(
        "filter_derive_write",
        "scan to last part in place, 6,001,215 rows, warm process, without the commit",
        _ratio(ours[1:], polars[1:]),
        "x polars",
        1.25,
        {"headwater": statistics.median(ours[1:]), "polars sink": statistics.median(polars[1:])},
    )


def tpch(query: str) -> Result:
    """One TPC-H query on SF1, written as a job over the whole input, against its peers."""
    import duckdb
    import polars as pl
    from tests.benchmarks import frames as frames_of_dask
    from tests.benchmarks import jobs
    from tests.contract.test_tpch import Q1, Q3, Q6

    from headwater.infra import clusters
    from headwater.infra.launchers.local import local_plan
    from headwater.infra.models import JobRequest
    from headwater.infra.profiles import load_profile
    from headwater.tasks.prepare import prepare
    from headwater.tasks.process import process

    sides = ("orders", "customer") if query == "q3" else ()
    sql = {"q1": Q1, "q3": Q3, "q6": Q6}[query]
    plan = local_plan(load_profile("local"), _no_gpu)
    seconds: dict[str, list[float]] = {
        "headwater": [],
        "polars": [],
        "duckdb": [],
        "dask.dataframe": [],
    }
    with (
        _tables("lineitem", *sides) as folder,
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
            seconds["headwater"].append(_seconds(lambda i=i: headwater(i)))
            seconds["polars"].append(_seconds(polars))
            seconds["duckdb"].append(_seconds(lambda: database.sql(sql).fetchall()))
            # On the same cluster, whose client is the one that Dask finds.
            dask = getattr(frames_of_dask, query)
            seconds["dask.dataframe"].append(_seconds(lambda dask=dask: dask(folder)))
    medians = {peer: statistics.median(times[1:]) for peer, times in seconds.items()}
    ahead = _ratio(seconds["dask.dataframe"][1:], seconds["headwater"][1:])
    allowed = max(1.3, (medians["polars"] + 0.1) / medians["polars"])
    return Result(
        f"tpch_{query}",
        "scan to result in place, SF1, warm process, without the commit; peers to memory;"
        f" {ahead:.1f} times ahead of dask.dataframe on pandas",
        _ratio(seconds["headwater"][1:], seconds["polars"][1:]),
        "x polars",
        allowed,
        medians,
    )


# --- the command -----------------------------------------------------------------------------


def help_seconds() -> Result:
    """``headwater --help``."""
    seconds = [_seconds(lambda: _run([COMMAND, "--help"])) for _ in range(ROUNDS + 1)][1:]
    return Result(
        "help",
        "start to end of the process",
        statistics.median(seconds),
        "s",
        0.3,
        {"headwater --help": statistics.median(seconds)},
    )


def prefect_overhead() -> Result:
    """A small run on a running Prefect server against the same steps without Prefect."""
    with _small_input() as (source, tmp), _prefect_server() as url:
        environment = {"PREFECT_API_URL": url}
        with_prefect: list[float] = []
        bare: list[float] = []
        for i in range(ROUNDS + 1):
            with_prefect.append(_seconds(lambda i=i: _etl(source, f"{tmp}/a{i}", environment)))
            command = [sys.executable, str(HERE / "bare_etl.py"), str(source), f"{tmp}/b{i}"]
            bare.append(_seconds(lambda command=command: _run(command)))
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


def small_run_with_server() -> Result:
    """A small run in all, with a running server."""
    with _small_input() as (source, tmp), _prefect_server() as url:
        seconds = [
            _seconds(lambda i=i: _etl(source, f"{tmp}/a{i}", {"PREFECT_API_URL": url}))
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
    with _small_input() as (source, tmp):
        environment = {"PREFECT_HOME": f"{tmp}/prefect", "PREFECT_API_URL": ""}
        seconds = [
            _seconds(lambda i=i: _etl(source, f"{tmp}/a{i}", environment))
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


def _reads(name: str, **options: bool) -> Result:
    from tests.benchmarks import reads  # which takes its helpers from here

    result: Result = getattr(reads, name)(**options)
    return result


BENCHMARKS: dict[str, Callable[[], Result]] = {
    "help": help_seconds,
    "filter_derive_write": filter_derive_write,
    "tpch_q1": partial(tpch, "q1"),
    "tpch_q3": partial(tpch, "q3"),
    "tpch_q6": partial(tpch, "q6"),
    "prefect_overhead": prefect_overhead,
    "small_run_with_server": small_run_with_server,
    "small_run_without_server": small_run_without_server,
    **{
        f"read_s3{'_far' if far else ''}_{'whole' if whole else 'columns'}": partial(
            _reads, "read_s3", far=far, whole=whole
        )
        for far in (False, True)
        for whole in (True, False)
    },
    "small_files": partial(_reads, "small_files"),
}


# --- helpers ---------------------------------------------------------------------------------


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _ratio(ours: list[float], peer: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    variables = {k: v for k, v in {**os.environ, **(environment or {})}.items() if v}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def _etl(source: Path, target: str, environment: dict[str, str]) -> None:
    _run([COMMAND, "run", "etl", "--source", str(source), "--target", target], environment)


def _no_gpu() -> GpuReport:
    from headwater.infra.gpu import GpuReport

    return GpuReport(reason="the benchmark compares CPU engines")


@contextmanager
def _small_input():  # type: ignore[no-untyped-def]
    import polars as pl

    with TemporaryDirectory() as tmp:
        source = Path(tmp) / "small.parquet"
        pl.DataFrame({"key": range(10_000)}).with_columns(value=pl.col("key") * 2.5).write_parquet(
            source
        )
        os.environ["HEADWATER_RECEIPTS"] = f"{tmp}/receipts"
        yield source, tmp


@contextmanager
def _tables(*names: str):  # type: ignore[no-untyped-def]
    with TemporaryDirectory() as tmp:
        generator = str(Path(sys.executable).with_name("tpchgen-cli"))
        command = [generator, "parquet", "-s", "1", "--tables", ",".join(names)]
        _run([*command, "--output-dir", tmp])
        yield Path(tmp)


@contextmanager
def _prefect_server():  # type: ignore[no-untyped-def]
    from headwater.flows.prefect_api import start

    with TemporaryDirectory() as tmp:
        os.environ["PREFECT_HOME"] = tmp
        os.environ.pop("PREFECT_API_URL", None)
        with start() as api:
            yield api.wait()


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent.parent))
    main(sys.argv[1] if len(sys.argv) > 1 else "")
