"""A copy of a table is the table of one version, on every store, and is never half a table."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from tests.emulators.every_store import STORES, place

from headwater.infra.errors import TargetExists, UnknownName, UnsupportedData
from headwater.infra.models import DataRef
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.transfer import (
    TransferReceipt,
    TransferRequest,
    Unit,
    plan_transfer,
    run_transfer,
)
from headwater.infra.storage.transfer.sources import in_steps
from headwater.infra.storage.uris import Uri


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Versions 0 and 1 add a file each, 2 takes the place of both, 3 adds one more."""
    path = tmp_path / "table"
    for numbers, mode in [([1], "append"), ([2], "append"), ([3], "overwrite"), ([4], "append")]:
        write(path, numbers, mode)
    return path


def write(path: Path, numbers: list[int], mode: str = "append") -> None:
    write_deltalake(str(path), pl.DataFrame({"n": numbers}).to_arrow(), mode=mode)  # type: ignore[call-overload]  # a literal for each mode


def copy(source: Path | str, target: Path | str, version: int | None = None) -> TransferReceipt:
    return run_transfer(plan_transfer(TransferRequest(str(source), str(target), version)))


def rows(root: Path | str, version: int | None = None) -> list[int]:
    uri = Uri.parse(str(root))
    fs = open_filesystem(uri)
    options = fs.delta_options(uri)
    frame = pl.DataFrame(
        DeltaTable(fs.delta_uri(uri), version, options).to_pyarrow_dataset().to_table()
    )
    return sorted(frame["n"].to_list())


@pytest.mark.parametrize("store", STORES)
def test_the_copy_is_the_table_and_then_its_next_version(
    store: str,
    table: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = place(store, request, tmp_path)
    for name, value in there.variables.items():
        monkeypatch.setenv(name, value)

    first = copy(table, there.root)
    write(table, [5])
    second = copy(table, there.root)

    assert (first.unit, first.table_version, first.objects) == (Unit.TABLE, 3, 2 + 4)
    assert (second.table_version, second.copied, second.objects) == (4, 2, 3 + 5)
    assert rows(there.root) == [3, 4, 5]
    assert [e.version for e in Dataset(Uri.parse(there.root)).log()] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(("version", "expected"), [(0, [1]), (1, [1, 2]), (2, [3])])
def test_a_version_is_copied_without_the_files_of_others(
    version: int, expected: list[int], table: Path, tmp_path: Path
) -> None:
    receipt = copy(table, tmp_path / "copy", version)

    assert rows(tmp_path / "copy") == expected
    assert len(list((tmp_path / "copy").glob("*.parquet"))) == len(expected)
    assert receipt.table_version == version
    assert DeltaTable(str(tmp_path / "copy")).version() == version


def test_a_log_that_begins_with_a_checkpoint_is_copied_from_there(
    table: Path, tmp_path: Path
) -> None:
    DeltaTable(str(table)).create_checkpoint()
    for version in (0, 1, 2):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    write(table, [5])

    copy(table, tmp_path / "copy")

    assert rows(tmp_path / "copy") == [3, 4, 5]
    (table / "_delta_log" / f"{3:020d}.checkpoint.parquet").rename(
        table / "_delta_log" / f"{3:020d}.checkpoint.{1:010d}.{1:010d}.parquet"
    )
    with pytest.raises(UnsupportedData, match="no checkpoint of one file"):
        copy(table, tmp_path / "other")


def test_a_file_that_is_gone_is_named(table: Path, tmp_path: Path) -> None:
    (gone,) = DeltaTable(str(table), version=0).file_uris()
    Path(gone.removeprefix("file://")).unlink()

    with pytest.raises(UnsupportedData, match=Path(gone).name):
        copy(table, tmp_path / "copy", 1)
    assert not (tmp_path / "copy").exists()


def test_an_unknown_version_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no version '9'"):
        copy(table, tmp_path / "copy", 9)


def test_a_table_that_went_on_by_itself_is_no_copy_any_more(table: Path, tmp_path: Path) -> None:
    copy(table, tmp_path / "copy", 2)
    write(tmp_path / "copy", [40])
    theirs = rows(tmp_path / "copy")

    for overwrite in (False, True):
        for version in (2, 3):
            request = TransferRequest(str(table), str(tmp_path / "copy"), version, overwrite)
            with pytest.raises(TargetExists, match=r"versions after 2|another table"):
                plan_transfer(request)

    assert rows(tmp_path / "copy") == theirs


def test_until_its_last_object_a_copy_is_no_table(table: Path, tmp_path: Path) -> None:
    """One object at a time, in the order of the plan; a reader looks after each."""
    plan = plan_transfer(TransferRequest(str(table), str(tmp_path / "copy")))
    root = Uri.parse(str(tmp_path / "copy"))
    fs = open_filesystem(root)

    for one in plan.copies:
        with pytest.raises(DeltaError):
            DeltaTable(str(tmp_path / "copy"))
        fs.write(one.target, fs.read(DataRef(one.ref.uri, one.ref.size_bytes, "")))

    assert rows(tmp_path / "copy") == [3, 4]


def test_logs_inside_a_folder_come_last_too() -> None:
    log = "{}_delta_log/{:020d}.{}".format
    paths = [
        log("a/", 0, "json"),
        log("a/", 1, "json"),
        log("b/c/", 7, "json"),
        log("b/c/", 7, "checkpoint.parquet"),
        log("b/c/", 8, "json"),
        "a/x.parquet",
        "z.csv",
        "b/c/_delta_log/_sidecars/1.parquet",
    ]

    assert in_steps(paths) == [
        ["a/x.parquet", "b/c/_delta_log/_sidecars/1.parquet", "z.csv"],
        [log("a/", 1, "json"), log("b/c/", 8, "json")],
        [log("a/", 0, "json"), log("b/c/", 7, "json")],
        [log("b/c/", 7, "checkpoint.parquet")],
    ]
