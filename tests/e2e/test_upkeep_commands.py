"""`headwater data vacuum|delete|compact`, and plain Parquet, as a person runs them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from tests.e2e.conftest import COMMAND, Cli, require_golden
from tests.e2e.test_data_commands import data

ROWS = pl.DataFrame({"zone": ["a", "b"], "fare": [1.5, None]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of three versions and an orphan, the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    for mode in ("error", "append", "overwrite"):
        ROWS.write_delta(str(tmp_path / "rides"), mode=mode)  # type: ignore[call-overload]  # each is one of its modes
    ROWS.write_parquet(tmp_path / "rides" / "orphan.parquet")
    return tmp_path


def grow_old(folder: Path, days: float) -> None:
    """Let every file of the table have been written so many days ago."""
    then = time.time() - days * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def normal(text: str, folder: Path) -> Any:
    """What a command printed as JSON, without what differs from run to run."""
    value = json.loads(text.replace(str(folder), "FOLDER"))
    for one in (value, *value.get("kinds", ())):
        for key in {"size_bytes", "oldest", "held_until", "bytes_before", "bytes_after"} & set(one):
            one[key] = type(one[key]).__name__
    return value


def test_vacuum_tells_and_removes_only_when_told_to(folder: Path) -> None:
    before = data("read", "rides", "--format", "csv").stdout
    grow_old(folder / "rides", 10)

    told = data("vacuum", "rides")
    assert (told.exit_code, "nothing was removed yet" in told.stdout) == (0, True)
    assert "versions 0-1 can no longer be read after this" in told.stdout
    assert "versions from 2 on can be read (retention: 7 days)" in told.stdout
    done = data("vacuum", "rides", "--yes", "--json")

    require_golden("data_vacuum.json", normal(done.stdout, folder))
    assert data("read", "rides", "--format", "csv").stdout == before
    assert len(list((folder / "rides").glob("*.parquet"))) == 1
    lost = data("read", "rides", "--version", 1)
    assert lost.exit_code == 2
    assert "version 1 of rides can no longer be read" in lost.stderr
    assert "there is nothing to remove" in data("vacuum", "rides").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vacuum", "rides", "--retention-days", 1), "shorter than the 7 days"),
        (("vacuum", "rides", "--grace-days", 0.5), "shorter than 1 day"),
        (("vacuum", "ridse"), "did you mean 'rides'"),
        (("delete", "rides", "--where", "frae > 1", "--yes"), "did you mean 'fare'"),
        (("delete", "rides", "--where", "fare > 1"), "add --yes to delete"),
        (("delete", "rides", "--where", "fare > AVG(fare)", "--yes"), "one row at a time"),
        (("delete", "rides", "--where", "zone", "--yes"), "not Boolean"),
        (("compact", "plain"), "no table"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(
    folder: Path, arguments: tuple[object, ...], said: str
) -> None:
    (folder / "plain").mkdir()
    before = sorted(folder.rglob("*"))

    done = data(*arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_delete_counts_first_and_says_how_long_old_versions_hold_the_rows(folder: Path) -> None:
    told = data("delete", "rides", "--where", "fare > 1", "--dry-run")
    assert told.stdout == "1 row in 1 file of version 2 would be deleted\n"
    done = data("delete", "rides", "--where", "fare > 1", "--yes", "--json")

    require_golden("data_delete.json", normal(done.stdout, folder))
    assert pl.read_delta(str(folder / "rides")).rows() == [("b", None)]
    assert data("delete", "rides", "--where", "fare > 1", "--yes").stdout == "no row matches\n"
    first = data("versions", "rides").stdout.splitlines()[0]
    assert first.split()[-5:] == ["-1", "rows", "delete", "by", "fare"]

    text = data("delete", "rides", "--where", "fare IS NULL", "--yes").stdout
    assert "deleted 1 row: version 4 is without them (0 files written anew, 1 removed)" in text
    assert f"\n  headwater data vacuum {folder}/rides --yes\n" in text


@pytest.mark.parametrize(
    ("answer", "left"), [(b"y\n", 1), pytest.param(b"\n", 2, marks=pytest.mark.trial)]
)
def test_delete_asks_on_a_terminal(folder: Path, answer: bytes, left: int) -> None:
    terminal, end = pty.openpty()
    command = [COMMAND, "data", "delete", "rides", "--where", "fare > 1"]
    os.write(terminal, answer)
    with subprocess.Popen(
        command, cwd=folder, stdin=end, stderr=end, stdout=subprocess.PIPE
    ) as asked:
        asked.communicate(timeout=60)
    os.close(end)
    os.close(terminal)

    assert asked.returncode == 0
    assert pl.read_delta(str(folder / "rides")).height == left


def test_compact_keeps_the_rows_in_fewer_files(folder: Path) -> None:
    for _ in range(3):
        ROWS.write_delta(str(folder / "rides"), mode="append")
    before = pl.read_delta(str(folder / "rides")).sort("zone")

    told = data("compact", "rides", "--dry-run")
    assert "4 files" in told.stdout
    assert "would become 1; 0 files left as they are" in told.stdout
    done = data("compact", "rides", "--json")

    require_golden("data_compact.json", normal(done.stdout, folder))
    assert pl.read_delta(str(folder / "rides")).sort("zone").equals(before)
    assert "there is nothing to compact (1 file)" in data("compact", "rides").stdout


def test_plain_parquet_is_written_once(headwater: Cli) -> None:
    ROWS.write_csv(headwater.folder / "rides.csv")
    command = ("run", "etl", "--source", "rides.csv", "--target", "out", "--format", "parquet")

    done = headwater(*command, "--partition-by", "zone")
    again = headwater(*command, "--partition-by", "zone")

    assert (done.code, again.code) == (0, 0), done.err
    assert "parquet      2 rows in 2 files" in done.out
    assert "plain files, which have no version" in done.out
    assert "status       already committed" in again.out
    assert "name another for a copy" in again.err
    files = f"{headwater.folder}/out/*/*.parquet"
    with duckdb.connect() as connection:
        query = f"SELECT zone, fare FROM read_parquet('{files}', hive_partitioning = true)"  # noqa: S608
        assert sorted(connection.sql(query).fetchall()) == [("a", 1.5), ("b", None)]
