"""Inputs that are copied to one place before a run reads them: once, checked, and the same run."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from tests.emulators.every_store import STORES, place
from tests.emulators.gcs import FakeGcs
from tests.emulators.s3 import Moto

from headwater.flows.etl_run import EtlRun
from headwater.flows.placing import place as place_work
from headwater.infra.errors import DamagedFile, InvalidRequest, Overlap
from headwater.infra.models import (
    BadRows,
    Cloud,
    Gathered,
    JobRequest,
    Moved,
    ReadOptions,
    RunReceipt,
    Status,
)
from headwater.infra.planner.history import month_to_date
from headwater.infra.profiles import load_profile
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.gather import plan_gather, run_gather
from headwater.infra.storage.receipts import ReceiptStore
from headwater.infra.storage.transfer.run import TransferProgress
from headwater.infra.storage.uris import Uri

JOB = """
import polars as pl

def named(trips: pl.LazyFrame, names: pl.LazyFrame) -> pl.LazyFrame:
    return trips.join(names, on="n", how="left")
"""


class Lake:
    """A bucket on S3 with what is read, a folder on GCS to gather in, a table to write here."""

    def __init__(self, moto: Moto, gcs: FakeGcs, folder: Path) -> None:
        self.moto, self.folder = moto, folder
        self.bucket = moto.new_bucket()
        self.gather = f"gs://{gcs.new_bucket()}/gathered"
        for name, numbers in (("a", [1, 2]), ("b", [3])):
            self.put(name, numbers)
        self.moto.put(self.bucket, "names.csv", b"n,name\n1,one\n3,three\n")
        self.moto.put(self.bucket, "in/_SUCCESS", b"")

    def put(self, name: str, numbers: list[int]) -> None:
        data = io.BytesIO()
        pl.DataFrame({"n": numbers}).write_parquet(data)
        self.moto.put(self.bucket, f"in/{name}.parquet", data.getvalue())

    def request(self, target: str = "out", *, gather: bool = True) -> JobRequest:
        return JobRequest(
            (f"s3://{self.bucket}/in",),
            target,
            job="gather_jobs:named",
            sides=(("names", f"s3://{self.bucket}/names.csv"),),
            gather=self.gather if gather else None,
        )

    def run(self, target: str = "out", *, gather: bool = True) -> RunReceipt:
        return finish(self.begun(self.request(target, gather=gather)))

    def begun(self, request: JobRequest) -> EtlRun:
        return EtlRun(request, load_profile("local"), folder=self.folder)

    def rows(self, target: str = "out") -> list[tuple[int, str | None]]:
        return sorted(pl.read_delta(str(self.folder / target)).rows())


def finish(run: EtlRun) -> RunReceipt:
    run.scan()
    if not run.is_done:
        run.place()
        run.gather()
        run.process()
        run.commit()
    return run.receipt()


@pytest.fixture
def lake(moto: Moto, gcs: FakeGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(tmp_path / "receipts"))
    (tmp_path / "gather_jobs.py").write_text(JOB)
    return Lake(moto, gcs, tmp_path)


def test_inputs_are_copied_once_and_the_run_is_the_same_without(lake: Lake) -> None:
    first = lake.run()
    other = lake.run("other")
    without = lake.run("other", gather=False)

    assert first.status is Status.COMMITTED
    assert lake.rows() == lake.rows("other") == [(1, "one"), (2, None), (3, "three")]
    assert [(one.objects, one.copied) for one in first.gathered] == [(1, 1), (2, 2)]
    assert [(one.objects, one.copied) for one in other.gathered] == [(1, 0), (2, 0)]
    assert first.gathered[1].source == f"s3://{lake.bucket}/in"
    assert without.status is Status.ALREADY_COMMITTED
    assert [one.uri for one in first.inputs] == [
        f"s3://{lake.bucket}/in",
        f"s3://{lake.bucket}/names.csv",
    ]


def test_text_is_copied_before_it_is_scanned_and_told_of_by_its_own_name(lake: Lake) -> None:
    text = f"s3://{lake.bucket}/text/a.csv"
    lake.moto.put(lake.bucket, "text/a.csv", b"n\n1\n2,3\n")
    read = ReadOptions(bad_rows=BadRows.SKIP)
    run = lake.begun(JobRequest((text,), "out", gather=lake.gather, read=read))

    prepared = run.scan()
    (file,) = prepared.source.files

    assert file.pinned.uri == prepared.source.bad[0].file == text
    assert file.ref.uri.startswith(lake.gather)
    assert [one.copied for one in run.receipt().gathered] == [1]
    assert run.receipt(InvalidRequest("something")).status is Status.FAILED
    refused = lake.begun(JobRequest((text,), "out", gather=lake.gather))
    with pytest.raises(DamagedFile):
        refused.scan()
    assert refused.receipt(InvalidRequest("something")).status is Status.REFUSED


def test_work_that_is_there_copies_no_parquet(lake: Lake) -> None:
    lake.run(gather=False)

    again = lake.run()

    assert again.status is Status.ALREADY_COMMITTED
    assert [one.source for one in again.gathered] == [f"s3://{lake.bucket}/names.csv"]


def test_what_changed_is_copied_and_what_is_gone_is_not_read(lake: Lake) -> None:
    lake.run()
    lake.put("a", [7])
    open_filesystem(Uri.parse("s3://x/")).delete(Uri.parse(f"s3://{lake.bucket}/in/b.parquet"))

    changed = lake.run()

    assert [(one.objects, one.copied) for one in changed.gathered] == [(1, 0), (1, 1)]
    assert lake.rows() == [(7, None)]


def test_an_attempt_goes_on_where_one_was_stopped(lake: Lake) -> None:
    def stop(progress: TransferProgress) -> None:
        if progress.objects_done == progress.objects == 2:
            raise KeyboardInterrupt

    stopped = EtlRun(lake.request(), load_profile("local"), folder=lake.folder, on_copied=stop)
    stopped.scan()
    with pytest.raises(KeyboardInterrupt):
        stopped.gather()
    told = stopped.receipt(KeyboardInterrupt())

    receipt = lake.run()

    assert told.status is Status.INTERRUPTED
    assert told.gathered[-1].copied_bytes > 0
    assert receipt.status is Status.COMMITTED
    assert [one.copied for one in receipt.gathered] == [0, 0]


def test_runs_that_gather_the_same_at_one_time_read_the_same_copies(lake: Lake) -> None:
    for n in range(12):
        lake.put(f"more-{n}", [n])
    folder = Uri.parse(lake.gather)
    plans = [plan_gather([f"s3://{lake.bucket}/in"], folder) for _ in range(3)]
    ended: list[Gathered] = []

    with ThreadPoolExecutor(3) as pool:
        copies = list(pool.map(lambda plan: run_gather(plan, on_end=ended.append), plans))

    assert copies[0] == copies[1] == copies[2]
    assert len(copies[0].at) == 14
    assert [one.objects for one in ended] == [14, 14, 14]
    assert plan_gather([f"s3://{lake.bucket}/in"], folder).objects == 0


def test_parts_of_an_attempt_that_read_the_originals_are_taken_up(lake: Lake) -> None:
    begun = lake.begun(lake.request(gather=False))
    begun.scan()
    begun.process()  # and never committed

    receipt = lake.run()

    assert receipt.status is Status.COMMITTED
    assert receipt.resumed_parts == receipt.parts == 1
    listed = next((lake.folder / "out").rglob("parts.json")).read_text()
    assert f"s3://{lake.bucket}/in/a.parquet" in listed
    assert "gs://" not in listed


def test_a_table_is_copied_as_one_version_of_a_table(lake: Lake) -> None:
    table = f"s3://{lake.bucket}/table"
    copy = JobRequest((f"s3://{lake.bucket}/in",), table)
    finish(lake.begun(copy))

    receipt = finish(lake.begun(JobRequest((table,), "out", gather=lake.gather)))
    lake.put("c", [9])
    finish(lake.begun(copy))
    later = finish(lake.begun(JobRequest((table,), "out", gather=lake.gather)))

    (one,) = receipt.gathered
    snapshot = Dataset(Uri.parse(one.target)).snapshot()
    assert snapshot is not None
    assert snapshot.rows == 4
    assert pl.read_delta(str(lake.folder / "out"))["n"].sort().to_list() == [1, 2, 3, 9]
    assert later.gathered[0].copied < later.gathered[0].objects


def test_copies_are_priced_before_a_byte_moves(lake: Lake) -> None:
    profile(
        lake.folder,
        f'[[locations]]\nprefix = "s3://{lake.bucket}"\nlocation = "us-east-1"\n'
        f'[[locations]]\nprefix = "{lake.gather}"\nlocation = "europe-west4"\n',
    )
    run = EtlRun(lake.request(), load_profile("mine"), folder=lake.folder)

    plan = run.plan_gather()
    placement = run.place()

    assert plan is not None
    assert set(placement.moved) == {
        Moved(Cloud.AWS, "internet", plan.size_bytes),
        Moved(Cloud.GCP, "internet", plan.size_bytes),
    }
    assert not list(open_filesystem(plan.folder).list(plan.folder))
    receipt = finish(run)
    moved = {one.cloud: one.moved_bytes for one in month_to_date([receipt], receipt.started.date())}
    assert moved[Cloud.AWS] > plan.size_bytes / 2
    again = EtlRun(lake.request("other"), load_profile("mine"), folder=lake.folder)
    assert {one.cloud for one in again.place().moved} == {Cloud.GCP}


def test_data_that_may_not_be_in_the_folder_is_not_copied_there(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = lake.folder / "eu.toml"
    rules.write_text(
        'version = 1\n[[residency]]\nname = "virginia"\n'
        f'prefix = "s3://{lake.bucket}/in"\nregions = ["us-east-1", "here"]\n'
    )
    monkeypatch.setenv("HEADWATER_POLICY", str(rules))
    profile(lake.folder, f'[[locations]]\nprefix = "{lake.gather}"\nlocation = "europe-west4"\n')
    run = EtlRun(lake.request(), load_profile("mine"), folder=lake.folder)

    with pytest.raises(InvalidRequest) as refused:
        run.scan()

    said = refused.value.message
    with pytest.raises(InvalidRequest) as planned:
        place_work(lake.request(), load_profile("mine"), folder=lake.folder)
    assert planned.value.message == said
    assert f"the folder to gather in {lake.gather} would be in gcp europe-west4" in said
    assert f"residency 'virginia' of policy 'eu' ({rules}) keeps s3://{lake.bucket}/in/" in said
    assert not list(open_filesystem(Uri.parse(lake.gather)).list(Uri.parse(lake.gather)))


def test_receipts_stay_where_the_data_may_be(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = lake.folder / "here.toml"
    rules.write_text(
        f'version = 1\n[[residency]]\nprefix = "s3://{lake.bucket}"\nregions = ["here"]\n'
    )
    monkeypatch.setenv("HEADWATER_POLICY", str(rules))
    receipts = f"{lake.gather}/receipts"
    monkeypatch.setenv("HEADWATER_RECEIPTS", receipts)
    profile(lake.folder, f'[[locations]]\nprefix = "{lake.gather}"\nlocation = "europe-west4"\n')
    run = EtlRun(lake.request(gather=False), load_profile("mine"), folder=lake.folder)
    run.scan()

    with pytest.raises(InvalidRequest, match=f"the receipts store {receipts} would be in gcp"):
        run.place()
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(lake.folder / "receipts"))
    assert run.place().where == "this machine"


def test_a_folder_that_cannot_hold_copies_is_refused(lake: Lake) -> None:
    def refused(folder: str) -> str:
        request = JobRequest((f"s3://{lake.bucket}/in",), "out", gather=folder)
        with pytest.raises((InvalidRequest, Overlap)) as error:
            lake.begun(request).scan()
        return error.value.message

    assert "lies in the source" in refused(f"s3://{lake.bucket}/in/copies")
    assert "lie in one another" in refused("out/copies")
    assert "holds a pattern" in refused(f"{lake.gather}/*")
    assert "is a whole bucket" in refused(lake.gather.rpartition("/")[0])


def profile(folder: Path, text: str) -> None:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / "mine.toml").write_text(f'version = 1\nextends = "local"\n{text}')


def test_receipts_with_copies_are_kept_and_read(lake: Lake) -> None:
    receipt = lake.run()

    ReceiptStore().add(receipt)

    assert list(ReceiptStore().list()) == [receipt]


@pytest.mark.trial
@pytest.mark.parametrize(
    ("one", "other"), [(one, other) for one in STORES for other in STORES if one != other]
)
def test_every_pair_of_stores_copies_files_and_tables_once(
    one: str, other: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = place(one, request, tmp_path), place(other, request, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for end in ends:
            for name, value in end.variables.items():
                patch.setenv(name, value)
        source, gather = Uri.parse(ends[0].root), ends[1].root
        for name, numbers in (("a", "1\n2"), ("b", "3")):
            at = source / f"in/day={name}/odd #1 50% é.csv"
            open_filesystem(at).write(at, f"n\n{numbers}\n".encode())
        table = str(source / "table")

        def run(sources: str, target: str, to: str | None) -> RunReceipt:
            job = JobRequest((sources,), target, partition_by=("day",), gather=to)
            return finish(EtlRun(job, load_profile("local"), folder=tmp_path))

        for sources in (str(source / "in/*/*.csv"), table):
            if sources == table:
                run(str(source / "in"), table, None)
            first = run(sources, "out", gather)
            again = run(sources, "other", gather)
            without = run(sources, "other", None)

            assert (first.gathered[0].copied, again.gathered[0].copied) == (
                first.gathered[0].objects,
                0,
            )
            assert (first.status, without.status) == (Status.COMMITTED, Status.ALREADY_COMMITTED)
            rows = pl.read_delta(str(tmp_path / "out")).select("day", "n").sort("n").rows()
            assert rows == [("a", 1), ("a", 2), ("b", 3)]
