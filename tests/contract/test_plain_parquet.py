"""Plain Parquet as a run's target, from the request to the folder; other readers are the oracle."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest

from headwater.flows.etl_run import EtlRun
from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import InvalidRequest, UnsupportedData
from headwater.infra.models import Candidate, Device, Format, JobRequest, Mode, Plan, Status
from headwater.infra.profiles import load_profile
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.plain import PlainFolder
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import Prepared, prepare
from headwater.tasks.process import process
from headwater.tasks.progress import Processed

ROWS = pl.DataFrame(
    {
        "n": range(12),
        "zone": ["a/b", "50%", None, "ü#?"] * 3,
        "day": [dt.date(2024, 2, 29), dt.date(2024, 3, 1)] * 6,
        "at": [dt.datetime(2024, 2, 29, 23, 59, 59, 999_999)] * 12,
    }
)
JOB = """
import polars as pl
from headwater.tasks.jobs import job

@job(scope="key", keys=["zone"])
def last(frame):
    return frame.group_by("zone").agg(pl.col("n").max())
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.open(Plan((Candidate("local", Device.CPU, False, 1, 2, 4.0),))) as cluster:
        yield cluster


class Place:
    """A source of three files, read in parts of one row, and a target."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.root, self.cluster = root, cluster
        self.target = root / "out"
        (root / "in").mkdir()
        for number in range(3):
            rows = ROWS.slice(number * 4, 4)
            rows.write_parquet(root / "in" / f"{number}.parquet")

    def request(self, **more: Any) -> JobRequest:
        more = {"format": Format.PARQUET, "target": str(self.target), **more}
        return JobRequest((str(self.root / "in"),), **more)

    def prepare(self, **more: Any) -> Prepared:
        return prepare(self.request(**more), folder=self.root)

    def process(self, prepared: Prepared) -> Processed:
        client, candidate = self.cluster.client, self.cluster.candidate
        return process(client, prepared, candidate, cut_bytes=1)

    def finish(self, prepared: Prepared, processed: Processed) -> None:
        files = [file for receipt in processed.receipts for file in receipt.files]
        PlainFolder(prepared.target).finish(files, run_key=prepared.run_key, run="one")

    def names(self) -> list[str]:
        return sorted(str(p.relative_to(self.target)) for p in self.target.rglob("*.*"))


@pytest.fixture
def place(tmp_path: Path, cluster: Cluster) -> Place:
    return Place(tmp_path, cluster)


def by_headwater(folder: Path) -> pl.DataFrame:
    source = open_input([str(folder)])
    frames = [
        read_slice(Uri.parse(f.ref.uri).path, source, partition=f.partition).collect()
        for f in source.files
    ]
    return pl.concat(frames)


def by_duckdb(folder: Path) -> pl.DataFrame:
    query = f"SELECT * FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"  # noqa: S608
    with duckdb.connect() as connection:
        return connection.sql(query).pl()


def by_pyarrow(folder: Path) -> pl.DataFrame:
    found = pl.from_arrow(ds.dataset(folder, format="parquet", partitioning="hive").to_table())
    assert isinstance(found, pl.DataFrame)
    return found


def by_polars(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "**" / "*.parquet", hive_partitioning=True)


READERS = (by_headwater, by_duckdb, by_pyarrow, by_polars)


@pytest.mark.parametrize("partition_by", [(), ("zone",), ("zone", "day")])
def test_every_reader_sees_exactly_the_rows(place: Place, partition_by: tuple[str, ...]) -> None:
    prepared = place.prepare(partition_by=partition_by)
    processed = place.process(prepared)
    assert len(processed.receipts) == 12
    for reader in READERS:  # before the run is finished, with its state beside the parts
        assert same(reader(place.target), ROWS), reader

    place.finish(prepared, processed)

    for reader in READERS:
        assert same(reader(place.target), ROWS), reader
    assert (place.target / "_SUCCESS").exists()
    assert not list(place.target.glob("_headwater/**/*.json"))
    assert {len(name.split("/")) for name in place.names()} == {len(partition_by) + 1}


def same(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    found = found.select(expected.columns).cast({"day": pl.Date, "at": pl.Datetime("us")})
    return Counter(found.rows()) == Counter(expected.rows())


def test_a_run_that_was_cut_short_is_finished_in_the_same_folder(place: Place) -> None:
    prepared = place.prepare(partition_by=("zone",))
    first = place.process(prepared)
    lost = first.receipts[1].files[0].path
    (place.target / lost).unlink()
    (place.target / lost).write_bytes(b"half")

    again = place.prepare(partition_by=("zone",))
    second = place.process(again)

    assert (again.run_key, second.resumed) == (prepared.run_key, 11)
    place.finish(again, second)
    assert same(by_duckdb(place.target), ROWS)
    assert len(list(place.target.rglob("*.parquet"))) == 12


def test_a_job_that_exchanges_rows_leaves_each_once(place: Place) -> None:
    (place.root / "jobs_last.py").write_text(JOB)
    place.process(place.prepare(job="jobs_last:last"))

    prepared = place.prepare(job="jobs_last:last")  # it finds what the first has left
    processed = place.process(prepared)
    place.finish(prepared, processed)

    assert sorted(by_duckdb(place.target).select("zone", "n").rows(), key=str) == sorted(
        [("a/b", 8), ("50%", 9), (None, 10), ("ü#?", 11)], key=str
    )


def test_the_same_run_again_finds_its_folder_and_another_is_refused(place: Place) -> None:
    prepared = place.prepare()
    place.finish(prepared, place.process(prepared))
    before = {p: p.stat().st_mtime_ns for p in place.target.rglob("*")}

    found = place.prepare().committed
    assert found is not None
    assert (found.version, found.rows, found.files) == (None, 12, 12)
    for more in ({"fresh": True}, {"partition_by": ("zone",)}, {"mode": Mode.APPEND}):
        with pytest.raises(InvalidRequest, match=r"never overwritten|written once"):
            place.prepare(**more)
    with pytest.raises(InvalidRequest, match="there is no --again"):
        place.prepare(again=True)
    with pytest.raises(UnsupportedData, match="is not empty and holds no table"):
        place.prepare(format=Format.DELTA)
    assert {p: p.stat().st_mtime_ns for p in place.target.rglob("*")} == before


def test_a_folder_that_another_run_has_begun_is_refused(place: Place) -> None:
    place.process(place.prepare())

    with pytest.raises(InvalidRequest, match="another run has begun to write") as caught:
        place.prepare(partition_by=("zone",))
    assert "run that command again" in caught.value.hint


def test_a_table_is_not_written_into(place: Place) -> None:
    ROWS.write_delta(str(place.target))

    with pytest.raises(InvalidRequest, match="is a table"):
        place.prepare()


def test_the_receipt_says_that_it_is_plain_parquet(place: Place) -> None:
    def run() -> EtlRun:
        run = EtlRun(place.request(), load_profile("local"), folder=place.root)
        run.scan()
        return run

    first = run()
    first.process()
    first.commit()
    receipt, second = first.receipt(), run().receipt()

    assert (receipt.status, second.status) == (Status.COMMITTED, Status.ALREADY_COMMITTED)
    assert receipt.format is Format.PARQUET
    assert receipt.dataset == second.dataset
    assert receipt.dataset is not None
    assert receipt.dataset.version is None


def test_follow_up_tables_are_refused_by_name(place: Place) -> None:
    follow_up = JobRequest((), str(place.root / "daily"))
    run = EtlRun(place.request(), load_profile("local"), then=[follow_up], folder=place.root)

    with pytest.raises(InvalidRequest, match=r"--then makes .*daily from the version"):
        run.scan()
    assert not place.target.exists()
