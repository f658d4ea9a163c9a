"""A whole run on a store of which every second call fails: the same rows, and a count of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.emulators import faults as emulated_faults
from tests.emulators.every_store import CLOUDS, Place, place
from tests.emulators.faults import Fault, HalfOfAll, faulty

from headwater.flows.etl_run import EtlRun
from headwater.infra.models import JobRequest, RunReceipt, Status, StepsText
from headwater.infra.profiles import load_profile
from headwater.infra.storage import delta_calls
from headwater.infra.storage.filesystems import objects, open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.tasks import scan

FILES, ROWS = 3, 400


@pytest.fixture(params=CLOUDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request.param, request, tmp_path)


@contextmanager
def reached(store: Place, url: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment(url).items():
            patch.setenv(name, value)
        yield


def lay_out(root: Uri) -> pl.DataFrame:
    """The input: a few files; gives all of its rows."""
    frames = []
    for number in range(FILES):
        rows = range(number * ROWS, (number + 1) * ROWS)
        frame = pl.DataFrame({"n": rows, "half": [n / 2 for n in rows]})
        open_filesystem(root).write(root / f"in/{number}.csv", frame.write_csv().encode())
        frames.append(frame)
    return pl.concat(frames)


def run(root: Uri, *, folder: Path | None = None, **job: Any) -> RunReceipt:
    request = JobRequest((str(root / "in"),), str(root / "out"), **job)
    etl = EtlRun(request, load_profile("local"), folder=folder)
    etl.scan()
    etl.process()
    etl.commit()
    return etl.receipt()


def committed_rows(root: Uri) -> pl.DataFrame:
    """What another reader finds."""
    fs, table = open_filesystem(root), root / "out"
    options = fs.delta_options(table)
    lazy = pl.scan_delta(fs.delta_uri(table), storage_options=options, credential_provider=None)
    frame = lazy.collect()
    return frame.sort(frame.columns)


ALONE = (
    Fault.BUSY,
    Fault.THROTTLED,
    Fault.DROPPED,
    Fault.CUT_BODY,
    Fault.LOST_ANSWER,
    Fault.SLOW,
)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param((Fault.BUSY, Fault.CUT_BODY, Fault.SLOW), id="mixed"),
        *(
            pytest.param((fault,), id=fault.name.lower(), marks=pytest.mark.trial)
            for fault in ALONE
        ),
    ],
)
def test_a_run_survives_that_half_of_its_calls_fail(
    store: Place, faults: tuple[Fault, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (objects, delta_calls):
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.002)
        monkeypatch.setattr(module, "MAX_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(emulated_faults, "SLOW_SECONDS", 0.05)
    root = Uri.parse(f"{store.root}/faults")
    with reached(store, store.url):
        rows = lay_out(root)
    half = HalfOfAll(*faults)

    with faulty(store.url, half) as url, reached(store, url):
        receipt = run(root)

    with reached(store, store.url):
        assert committed_rows(root).equals(rows)
    assert receipt.status is Status.COMMITTED
    assert half.failed > 0.3 * half.asked
    if faults == (Fault.SLOW,):
        assert receipt.store_retries == 0
        return
    # What deltalake's own client tries again nobody can count, so it is not all of them.
    assert 0 < receipt.store_retries <= half.failed


STEPS = """
version = 1

[[steps]]
kind = "aggregate"
by = ["half"]
aggs = [{ name = "n", function = "sum", column = "n" }]
"""

FRAMES = """
from headwater.tasks.jobs import job

@job(frames="dask")
def summed(frame):
    return frame.groupby("half").agg({"n": "sum"}).reset_index()
"""


@pytest.mark.trial
@pytest.mark.parametrize("way", ["steps", "frames"])
def test_rows_that_meet_between_parts_survive_it_too(
    store: Place, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (objects, delta_calls):
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.002)
        monkeypatch.setattr(module, "MAX_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(scan, "MIN_PART_BYTES", 1)
    (tmp_path / "fault_frames.py").write_text(FRAMES)
    job: dict[str, Any] = {"job": "fault_frames:summed"}
    if way == "steps":
        job = {"steps": StepsText("sums.toml", STEPS)}
    root = Uri.parse(f"{store.root}/meeting")
    with reached(store, store.url):
        rows = lay_out(root)
    half = HalfOfAll(Fault.BUSY, Fault.CUT_BODY, Fault.DROPPED)

    with faulty(store.url, half) as url, reached(store, url):
        receipt = run(root, folder=tmp_path, **job)

    with reached(store, store.url):
        found = committed_rows(root).select("half", "n").sort("half")
    expected = rows.group_by("half").agg(pl.col("n").sum()).sort("half")
    assert found.rows() == expected.rows()
    assert receipt.parts > FILES  # read, and written
    assert 0 < receipt.store_retries <= half.failed
