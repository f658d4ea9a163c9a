"""Receipts of runs: kept and read back with every field; newer and broken ones are named."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headwater.infra.errors import DamagedFile, UnsupportedData
from headwater.infra.models import (
    Candidate,
    DatasetVersion,
    Device,
    Format,
    InputSummary,
    LaunchTry,
    Mode,
    Plan,
    Rejection,
    RunReceipt,
    Status,
    Window,
    to_jsonable,
)
from headwater.infra.storage.receipts import LOCATION_VARIABLE, ReceiptStore, parse_receipt

STARTED = datetime(2026, 11, 25, 23, 59, 59, 123456, tzinfo=UTC)

RECEIPT = RunReceipt(
    run_id="0123abcd",
    run_key="feed",
    flow="etl",
    status=Status.COMMITTED,
    started=STARTED,
    finished=STARTED + timedelta(seconds=3),
    inputs=(
        InputSummary("file:///in", Format.PARQUET, 3, 100, 7, ""),
        InputSummary("s3://lake/t", Format.DELTA, 1, 10, None, "4"),
    ),
    target="file:///out",
    mode=Mode.REPLACE,
    partition_by=("origin",),
    job="jobs:clean",
    dataset=DatasetVersion("file:///out", 3, 7, 2, 90),
    rows_in=9,
    rows_out=7,
    bytes_read=100,
    bytes_written=90,
    parts=2,
    resumed_parts=1,
    retries=1,
    seconds={"scan": 0.1, "process": 2.5, "commit": 0.2},
    engine="polars 1",
    device="cpu",
    window=Window(STARTED - timedelta(days=1), STARTED),
    plan=Plan((Candidate("local", Device.CPU, False, 1, 2, 4.0),), (Rejection("cuda", "none"),)),
    tries=(LaunchTry("local cpu", "opened", 0.3),),
    cost_usd=None,
    error="",
    versions={"headwater": "0.1.0"},
)


@pytest.fixture
def store(tmp_path: Path) -> ReceiptStore:
    return ReceiptStore(str(tmp_path / "receipts"))


def test_a_receipt_comes_back_with_every_field(store: ReceiptStore) -> None:
    store.add(RECEIPT)

    assert list(store.list()) == [RECEIPT]
    (read,) = store.list()
    assert list(read.seconds) == ["scan", "process", "commit"]


def test_the_second_receipt_of_a_run_takes_the_place_of_the_first(store: ReceiptStore) -> None:
    store.add(replace(RECEIPT, status=Status.FAILED))
    store.add(RECEIPT)

    assert [r.status for r in store.list()] == [Status.COMMITTED]


def test_receipts_are_listed_from_the_oldest_day(store: ReceiptStore) -> None:
    for days in (0, -300, 20):
        started = STARTED + timedelta(days=days)
        store.add(replace(RECEIPT, run_id=f"run{days}", started=started))

    assert [r.run_id for r in store.list()] == ["run-300", "run0", "run20"]


def test_no_receipt_at_all_is_an_empty_list(store: ReceiptStore) -> None:
    assert list(store.list()) == []


def test_the_place_is_the_users_unless_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(LOCATION_VARIABLE, raising=False)
    assert ReceiptStore().uri.path.is_relative_to(tmp_path / "state")
    assert list(ReceiptStore().list()) == []

    monkeypatch.setenv(LOCATION_VARIABLE, str(tmp_path / "mine"))
    assert ReceiptStore().uri.path == tmp_path / "mine"


def test_making_a_store_makes_no_folder(tmp_path: Path) -> None:
    ReceiptStore(str(tmp_path / "receipts"))

    assert list(tmp_path.iterdir()) == []


def test_a_newer_receipt_is_refused_by_name(store: ReceiptStore) -> None:
    uri = store.add(RECEIPT)
    table = {**json.loads(uri.path.read_text()), "version": 99, "new_field": 1}
    uri.path.write_text(json.dumps(table))

    with pytest.raises(UnsupportedData, match=r"0123abcd\.json was written by a newer Headwater"):
        list(store.list())


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"version": "1"}', '{"run_id": 3}'])
def test_what_is_no_receipt_is_named(text: str) -> None:
    with pytest.raises(DamagedFile, match=r"here\.json is no receipt"):
        parse_receipt(text.encode(), "here.json")


def test_an_older_receipt_without_new_fields_is_read() -> None:
    table = to_jsonable(RECEIPT)
    for field in (
        "window",
        "plan",
        "tries",
        "cost_usd",
        "gpu_fallbacks",
        "versions",
        "hint",
        "gathered",
    ):
        del table[field]

    table["placement"] = {"where": "this machine", "why": "before a plan's table was kept"}

    read = parse_receipt(json.dumps(table).encode(), "old.json")

    assert (read.run_id, read.plan, read.versions) == (RECEIPT.run_id, None, {})
    assert read.placement is not None
    assert (read.placement.ranking, read.gathered) == ((), ())
