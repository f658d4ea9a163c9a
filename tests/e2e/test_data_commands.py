"""`headwater data`, over tables that another writer made as well as our own."""

from __future__ import annotations

import io
import json
import os
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.e2e.conftest import COMMAND, Cli, require_golden
from typer.testing import CliRunner, Result

from headwater.flows.cli import app

OLD = pl.DataFrame(
    {"zone": ["a", "a", "b"], "fare": [1.5, None, -3.0], "day": [date(2024, 2, 29)] * 3}
)
NEW = pl.DataFrame({"zone": ["c"], "fare": [9.0], "day": [date(2025, 1, 1)]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of two versions, the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    OLD.write_delta(str(tmp_path / "rides"), delta_write_options={"partition_by": ["zone"]})
    NEW.write_delta(str(tmp_path / "rides"), mode="overwrite")
    return tmp_path


def data(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def read_csv(text: str) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(text), try_parse_dates=True)


def by_zone(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("zone", "fare", "day").sort("zone", "fare")


# --- show and versions -----------------------------------------------------------------------


def test_show_tells_columns_rows_and_partitions(folder: Path) -> None:
    done = data("show", "rides", "--version", 0)
    assert done.exit_code == 0
    assert "version 0" in done.stdout
    assert "3 rows, 2 files" in done.stdout
    assert "partitioned by zone" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["fare", "Float64"] in lines
    assert any(line[:1] == ["zone=a:"] or "a" in line for line in lines)


def test_show_as_json(folder: Path) -> None:
    value = json.loads(data("show", "rides", "--version", 0, "--json").stdout)
    require_golden("data_show.json", normal(value, folder))
    assert json.loads(data("show", "rides", "--json").stdout)["rows"] == 1


def test_versions_newest_first(folder: Path) -> None:
    lines = data("versions", "rides").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0"]
    value = json.loads(data("versions", "rides", "--json").stdout)
    require_golden("data_versions.json", normal(value, folder))


def normal(value: Any, folder: Path) -> Any:
    """``value`` without what differs from run to run."""
    value = json.loads(json.dumps(value).replace(str(folder), "FOLDER"))
    for one in (value, *value.get("partitions", ()), *value.get("versions", ())):
        for key in {"size_bytes", "committed"} & set(one):
            one[key] = type(one[key]).__name__
    return value


# --- read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "read"),
    [
        ("csv", read_csv),
        ("jsonl", lambda text: pl.read_ndjson(text.encode(), schema_overrides={"day": pl.Date})),
    ],
)
def test_read_gives_every_row_as_text(folder: Path, format_: str, read: Any) -> None:
    done = data("read", "rides", "--version", 0, "--format", format_)
    assert (done.exit_code, done.stderr) == (0, "")
    assert by_zone(read(done.stdout)).equals(by_zone(OLD))
    assert by_zone(read(data("read", "rides", "--format", format_).stdout)).equals(by_zone(NEW))


def test_read_as_parquet_into_a_file(folder: Path) -> None:
    with (folder / "copy.parquet").open("wb") as file:
        command = [COMMAND, "data", "read", "rides", "--version", "0", "--format", "parquet"]
        subprocess.run(command, cwd=folder, stdout=file, check=True)
    copy = pl.read_parquet(folder / "copy.parquet")
    assert by_zone(copy).equals(by_zone(OLD))
    assert copy.schema["day"] == pl.Date


def test_limit_is_kept_across_files(folder: Path) -> None:
    for limit in range(4):
        done = data("read", "rides", "--version", 0, "--limit", limit, "--format", "csv")
        assert read_csv(done.stdout).height == limit
    assert data("read", "rides", "--limit", 0).exit_code == 0


def test_json_is_one_object_a_row(folder: Path) -> None:
    lines = data("read", "rides", "--version", 0, "--json").stdout.splitlines()
    assert sorted(json.loads(line)["zone"] for line in lines) == ["a", "a", "b"]


def test_wide_table_fits_the_terminal(folder: Path) -> None:
    wide = pl.DataFrame({f"a_rather_long_name_{n}": ["some text " * 8] for n in range(40)})
    wide.write_delta(str(folder / "wide"))
    done = data("read", "wide")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert max(map(len, data("show", "wide").stdout.splitlines())) <= 80


def test_plain_files_can_be_read(folder: Path) -> None:
    OLD.write_csv(folder / "old.csv")
    OLD.write_parquet(folder / "old.parquet")
    for name in ("old.csv", "old.parquet"):
        done = data("read", name, "--format", "csv")
        assert by_zone(read_csv(done.stdout)).equals(by_zone(OLD)), name


def test_reader_that_leaves_early_sees_no_trace(alone: Cli) -> None:
    pl.DataFrame({"n": range(300_000)}).write_delta(str(alone.folder / "numbers"))
    for format_ in ("csv", "jsonl", "table"):
        limit = "--limit 20000" if format_ == "table" else ""
        done = subprocess.run(  # noqa: S602  (a pipe of the shell is what is tested)
            f"{COMMAND} data read numbers --format {format_} {limit} | head -n 1",
            shell=True,
            cwd=alone.folder,
            env=alone.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(done.stdout.splitlines()) == 1
        assert done.stderr == "", format_


# --- what is not there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "ridse"), ("ridse", "did you mean 'rides'")),
        (("versions", "ridse"), ("ridse", "did you mean 'rides'")),
        (("read", "ridse"), ("ridse", "did you mean 'rides'")),
        (("show", "rides", "--version", 7), ("version '7'", "0, 1")),
        (("read", "rides", "--version", 7), ("version '7'", "0, 1")),
        (("read", "plain", "--version", 1), ("plain",)),
        (("show", "plain"), ("no table", "plain")),
        (("read", "ftp://host/x"), ("ftp",)),
    ],
)
def test_what_is_missing_is_named(
    folder: Path, arguments: tuple[object, ...], said: tuple[str, ...]
) -> None:
    (folder / "plain").mkdir()
    OLD.write_parquet(folder / "plain" / "a.parquet")
    done = data(*arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    for text in said:
        assert text in done.stderr, done.stderr
    assert "\n  -> " in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_file_is_named(folder: Path) -> None:
    OLD.write_parquet(folder / "bad.parquet")
    whole = (folder / "bad.parquet").read_bytes()
    (folder / "bad.parquet").write_bytes(whole[:4] + b"\xff" * 100 + whole[104:])
    done = data("read", "bad.parquet")
    assert done.exit_code == 1
    assert "bad.parquet" in done.stderr
    assert "unexpected" not in done.stderr


def test_table_without_a_commit_says_so(folder: Path) -> None:
    assert os.listdir(folder / "rides")  # noqa: PTH208
    pl.DataFrame(schema={"a": pl.Int64}).write_delta(str(folder / "empty"))
    done = data("read", "empty")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "a" in done.stdout
