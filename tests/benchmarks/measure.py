"""What a benchmark comes to, and how the time of a call and of its peers is taken."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.infra.gpu import GpuReport

HERE = Path(__file__).parent
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


def seconds_of(call: Callable[[], object]) -> float:
    """Wall seconds that one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def ratio(ours: list[float], peer: list[float]) -> float:
    """The median of the ratios, pair by pair."""
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints; its failure ends the benchmark."""
    variables = {k: v for k, v in {**os.environ, **(environment or {})}.items() if v}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=600)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def run_etl(source: Path, target: str, environment: dict[str, str], job: str | None = None) -> None:
    """A run of the command."""
    command = [COMMAND, "run", "etl", "--source", str(source), "--target", target]
    run([*command, *(["--job", job] if job else [])], environment)


def no_gpu() -> GpuReport:
    """A probe that finds none, wherever it runs."""
    from headwater.infra.gpu import GpuReport

    return GpuReport(reason="the benchmark compares CPU engines")


@contextmanager
def small_input() -> Iterator[tuple[Path, str]]:
    """A file of 10,000 rows, and a folder for what is made of it."""
    import polars as pl

    with TemporaryDirectory() as tmp:
        source = Path(tmp) / "small.parquet"
        pl.DataFrame({"key": range(10_000)}).with_columns(value=pl.col("key") * 2.5).write_parquet(
            source
        )
        os.environ["HEADWATER_RECEIPTS"] = f"{tmp}/receipts"
        yield source, tmp


@contextmanager
def tpch_tables(*names: str, files: int = 1) -> Iterator[Path]:
    """A folder with TPC-H tables of SF1: ``NAME.parquet``, or ``NAME/NAME.N.parquet``."""
    with TemporaryDirectory() as tmp:
        generator = str(Path(sys.executable).with_name("tpchgen-cli"))
        command = [generator, "parquet", "-s", "1", "--tables", ",".join(names)]
        run([*command, "--output-dir", tmp, *(["--parts", str(files)] if files > 1 else [])])
        yield Path(tmp)


@contextmanager
def prefect_server() -> Iterator[str]:
    """The address of a Prefect server with a database of its own."""
    from headwater.flows.prefect_api import start

    with TemporaryDirectory() as tmp:
        os.environ["PREFECT_HOME"] = tmp
        os.environ.pop("PREFECT_API_URL", None)
        with start() as api:
            yield api.wait()
