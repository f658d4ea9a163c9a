"""`headwater run etl` from the command line to the committed version, on real servers."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from tests.e2e.conftest import COMMAND, Cli, Done, Prefect, require_golden
from tests.emulators.s3 import Moto

JOB = """
import polars as pl
from prices import SURCHARGE

def clean(frame: pl.LazyFrame, *, zones: pl.LazyFrame) -> pl.LazyFrame:
    return (
        frame.filter(pl.col("n") % 2 == 0)
        .join(zones, on="zone", how="left")
        .with_columns(cost=pl.col("n") * SURCHARGE)
    )
"""

PER_ZONE = """
version = 1
[[steps]]
kind = "aggregate"
by = ["zone"]
aggs = [{ name = "n", function = "count" }]
"""

NOISE = r"Traceback|WARN|Warning|ERROR|Error"

ORACLE = """
SELECT n, t.zone AS zone, name, n * 3 AS cost
FROM '{trips}' t LEFT JOIN '{zones}' z ON t.zone = z.zone
WHERE n % 2 = 0
"""


@pytest.fixture
def trips(headwater: Cli) -> Cli:
    """1,000 rows in two files, a side table that lacks one zone, a job beside them."""
    lay_out(headwater.folder)
    return headwater


def lay_out(folder: Path) -> None:
    (folder / "trips").mkdir()
    for name, numbers in {"a": range(600), "b": range(600, 1000)}.items():
        frame = pl.DataFrame({"n": numbers, "zone": [f"z{n % 4}" for n in numbers]})
        frame.write_parquet(folder / "trips" / f"{name}.parquet")
    pl.DataFrame({"zone": ["z0", "z2"], "name": ["north", None]}).write_csv(folder / "zones.csv")
    (folder / "myjob.py").write_text(JOB)
    (folder / "prices.py").write_text("SURCHARGE = 3\n")


def etl(cli: Cli, *more: object) -> Done:
    arguments = ("--source", "trips", "--target", "out", "--job", "myjob:clean")
    return cli("run", "etl", *arguments, "--side", "zones=zones.csv", *more)


def oracle(folder: Path) -> pl.DataFrame:
    query = ORACLE.format(trips=folder / "trips/*.parquet", zones=folder / "zones.csv")
    with duckdb.connect() as db:
        frame = pl.DataFrame(db.sql(query).to_arrow_table())
    return frame.sort(frame.columns)


def test_run_on_worker_processes_is_whole_everywhere_it_shows(
    trips: Cli, prefect_server: Prefect
) -> None:
    done = etl(trips, "--partition-by", "zone", "--profile", "local-processes", "--json")

    assert done.code == 0, done.err
    receipt = done.json
    require_golden("run_etl.json", normal(receipt, trips.folder))
    # Another reader, and another engine over the same inputs.
    expected = oracle(trips.folder)
    assert expected.height == 500
    written = trips.rows()
    assert written.select(expected.columns).sort(expected.columns).equals(expected)
    assert DeltaTable(trips.folder / "out").metadata().partition_columns == ["zone"]
    assert trips.versions() == [0, 1]
    # Prefect's pages.
    run = prefect_server.last_run()
    assert (run["name"] != "", run["state"]["type"]) == (True, "COMPLETED")
    tasks = prefect_server.of_run("task_runs", run["id"])
    assert {t["name"].split("-")[0]: t["state"]["type"] for t in tasks} == {
        "scan": "COMPLETED",
        "process": "COMPLETED",
        "commit": "COMPLETED",
    }
    logs = [log["message"] for log in prefect_server.of_run("logs", run["id"])]
    assert any(re.match(r"version 1 of .*/out", message) for message in logs), logs
    assert any("1 parts done" in message or "part" in message for message in logs), logs
    (artifact,) = prefect_server.of_run("artifacts", run["id"])
    assert artifact["key"] == "receipt"
    assert "500 out" in artifact["data"]
    assert receipt["run_id"] in artifact["data"]
    # The store of receipts.
    (kept,) = Path(trips.environment["HEADWATER_RECEIPTS"]).glob("*/*.json")
    assert json.loads(kept.read_text()) == receipt
    # A person sees lines on stderr, and no noise of libraries.
    assert not re.search(NOISE, done.err), done.err


def test_more_tables_are_made_from_the_new_version_in_the_same_run(trips: Cli) -> None:
    (trips.folder / "per-zone.toml").write_text(PER_ZONE)
    then = ("--then", "zones=per-zone.toml")

    done = etl(trips, *then, "--json")

    assert done.code == 0, done.err
    (second,) = done.json["then"]
    assert (second["status"], second["run_id"]) == ("committed", done.json["run_id"])
    assert (second["rows_in"], second["rows_out"]) == (500, 2)
    assert second["inputs"][0]["version"] == "1"
    zones = pl.read_delta(str(trips.folder / "zones")).sort("zone")
    assert zones.rows() == [("z0", 250), ("z2", 250)]
    again = etl(trips, *then)
    assert again.out.count("already committed") == 2
    # Only the second is missing: only that is made.
    shutil.rmtree(trips.folder / "zones")
    once_more = etl(trips, *then, "--json")
    statuses = [once_more.json["status"], once_more.json["then"][0]["status"]]
    assert statuses == ["already committed", "committed"]
    assert trips.versions() == [0, 1]


def test_a_further_table_that_cannot_work_is_refused_before_anything_starts(trips: Cli) -> None:
    (trips.folder / "wrong.toml").write_text(PER_ZONE.replace('"zone"', '"zones"'))

    done = etl(trips, "--then", "zones=wrong.toml")

    assert done.code == 2
    assert "no column 'zones'" in done.err
    assert not (trips.folder / "out").exists()
    assert etl(trips, "--then", "zones").code == 2


def test_same_run_again_finds_its_version(trips: Cli) -> None:
    assert etl(trips).code == 0
    before = trips.rows()

    again = etl(trips)

    assert (again.code, again.seconds < 5) == (0, True), again
    assert re.search(r"^status +already committed$", again.out, re.MULTILINE)
    assert "nothing to do" in again.err
    assert trips.versions() == [0, 1]
    assert etl(trips, "--fresh").code == 0
    assert trips.versions() == [0, 1, 2]
    assert trips.rows().equals(before)


def test_append_is_done_once_unless_told_again(trips: Cli) -> None:
    first = etl(trips, "--mode", "append", "--json").json
    second = etl(trips, "--mode", "append", "--json").json
    third = etl(trips, "--mode", "append", "--again", "--json").json

    assert [r["status"] for r in (first, second, third)] == [
        "committed",
        "already committed",
        "committed",
    ]
    assert [r["dataset"]["rows"] for r in (first, second, third)] == [500, 500, 1000]
    assert trips.rows().height == 1000


def test_replace_changes_the_partitions_that_the_new_rows_have(trips: Cli) -> None:
    old = pl.DataFrame({"n": [1, 2, 3], "zone": ["z0", "z1", "z2"]})
    old.write_delta(str(trips.folder / "out"), delta_write_options={"partition_by": ["zone"]})
    new = pl.DataFrame({"n": [7, 8, 9], "zone": ["z2", "z2", "z3"]})
    new.write_parquet(trips.folder / "new.parquet")

    # The table's partition columns hold where none are named.
    run = ("run", "etl", "--source", "new.parquet", "--target", "out", "--mode", "replace")
    done = trips(*run, "--json")

    assert (done.code, done.json["dataset"]["version"]) == (0, 1), done.err
    assert trips.rows().rows() == [(1, "z0"), (2, "z1"), (7, "z2"), (8, "z2"), (9, "z3")]
    assert trips.rows(version=0).equals(old)


def test_s3_to_s3_on_worker_processes(headwater: Cli, moto: Moto) -> None:
    bucket = moto.new_bucket()
    frame = pl.DataFrame({"n": range(100), "name": [f"é/{n}" for n in range(100)]})
    local = headwater.folder / "in.parquet"
    frame.write_parquet(local)
    client = moto.client()
    client.upload_file(str(local), bucket, "raw data/in #1.parquet")
    target = f"s3://{bucket}/tables/out"

    done = headwater(
        *("run", "etl", "--source", f"s3://{bucket}/raw data/", "--target", target, "--json"),
        *("--profile", "local-processes"),
        env=moto.environment,
    )

    assert done.code == 0, done.err
    options = moto.environment | {"AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    read = DeltaTable(target, storage_options=options).to_pyarrow_table()
    assert pl.DataFrame(read).sort("n").equals(frame)
    assert done.json["bytes_read"] == local.stat().st_size
    secret = moto.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in done.out + done.err
    keys = [o["Key"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]]
    for key in keys:
        assert secret.encode() not in client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.close()


def test_run_without_a_server_starts_and_ends_its_own(alone: Cli) -> None:
    lay_out(alone.folder)

    done = etl(alone)

    assert done.code == 0, done.err
    assert oracle(alone.folder).equals(alone.rows().select("n", "zone", "name", "cost"))
    # Piped: stdout is the receipt, stderr plain lines and no noise of libraries.
    labels = [line.split()[0] for line in done.out.splitlines()]
    assert labels[0] == "status"
    assert {"source", "job", "target", "version", "rows", "bytes", "parts", "time"} <= set(labels)
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.err
    assert re.search(r"1 of 1 parts?", done.err), done.err
    assert not re.search(NOISE, done.err), done.err


def test_terminal_gets_a_bar_that_fits(trips: Cli) -> None:
    columns = 80
    driver, terminal = pty.openpty()
    environment = trips.environment | {"TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [COMMAND, "run", "etl", "--source", "trips", "--target", "out"],
        cwd=trips.folder,
        env=environment,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        start_new_session=True,
    )
    trips.started.append(process)  # type: ignore[arg-type]  # ended like the others
    os.close(terminal)
    drawn = read_terminal(driver, process)
    assert process.stdout is not None
    out = process.stdout.read().decode()
    assert process.wait(10) == 0, drawn

    assert out.startswith("status")
    assert "\x1b" not in out
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert any("━" in line for line in lines), lines
    assert max(map(len, lines)) <= columns, lines
    assert "Traceback" not in plain


def read_terminal(driver: int, process: subprocess.Popen[Any]) -> str:
    """All that was drawn until the process let go of its terminal."""
    drawn = b""
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            if not select.select([driver], [], [], 0.2)[0]:
                continue
            drawn += os.read(driver, 65536)
    except OSError:  # EIO: the other side is closed
        pass
    else:
        process.send_signal(signal.SIGKILL)
    finally:
        os.close(driver)
    return drawn.decode()


def test_data_that_is_damaged_inside_fails_and_commits_nothing(trips: Cli) -> None:
    old = pl.DataFrame({"n": [1]})
    old.write_delta(str(trips.folder / "out"))
    broken = trips.folder / "trips" / "a.parquet"
    data = bytearray(broken.read_bytes())
    data[4:200] = b"\xff" * 196  # the first page; head and footer are whole
    broken.write_bytes(data)

    done = etl(trips, "--json")

    assert done.code == 1, done
    assert done.json["status"] == "failed"
    assert "a.parquet" in done.json["error"]
    assert re.search(r"^  -> \w", done.err, re.MULTILINE)
    assert "Traceback" not in done.err
    assert trips.versions() == [0]
    assert trips.rows().equals(old)
    (kept,) = Path(trips.environment["HEADWATER_RECEIPTS"]).glob("*/*.json")
    assert json.loads(kept.read_text())["status"] == "failed"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from headwater.flows.cli import main\n"
    code += "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    arguments = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
    heavy = {"prefect", "dask", "distributed", "pandas", "polars", "pyarrow", "deltalake", "fsspec"}
    assert heavy.isdisjoint(done.stderr.split())


def normal(receipt: dict[str, Any], folder: Path) -> Any:
    """The receipt without what differs from run to run and from machine to machine."""
    text = json.dumps(receipt).replace(str(folder), "FOLDER")
    value = json.loads(text)
    for key in ("run_id", "run_key", "started", "finished", "engine"):
        value[key] = type(value[key]).__name__
    value["seconds"] = dict.fromkeys(value["seconds"], 0.0)
    value["versions"] = dict.fromkeys(value["versions"], "")
    value["inputs"] = [i | {"size_bytes": 0} for i in value["inputs"]]
    value["dataset"]["size_bytes"] = 0
    value["bytes_read"] = value["bytes_written"] = 0
    value["tries"] = [t | {"seconds": 0.0, "candidate": ""} for t in value["tries"]]
    value["plan"]["rejected"] = []
    for candidate in value["plan"]["candidates"]:
        for key in ("workers", "threads_per_worker", "memory_gib_per_worker"):
            candidate[key] = 0
    return value
