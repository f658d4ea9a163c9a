"""Runs over Parquet on S3: what they take from the store, and that it changes no row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import polars as pl
import pytest
from distributed import Worker
from tests.contract.staging import parquet
from tests.emulators.faults import Counted, counted
from tests.emulators.s3 import Moto

from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import ValueLost
from headwater.infra.models import Candidate, Device, JobRequest, Plan, StepsText
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.tasks import scan
from headwater.tasks.prepare import prepare
from headwater.tasks.process import process
from headwater.tasks.progress import Processed

ROWS = 200_000
IDLE_SECONDS = 30

LOSSY = """
version = 1

[[steps]]
kind = "cast"
columns = {c3 = "Int8"}

[[steps]]
kind = "select"
columns = ["n", "c3"]
"""

SORT = """
[[steps]]
kind = "sort"
order_by = ["n"]
"""

JOBS = """
import polars as pl
from headwater.tasks.jobs import job

def some(frame):
    return frame.filter(pl.col("n") >= 150_000).select("n", x=pl.col("c3") + 1)

@job(scope="whole")
def total(frame):
    return frame.filter(pl.col("n") < 50_000).group_by("k").agg(pl.col("c1").sum()).sort("k")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    candidate = Candidate("local", Device.CPU, False, 1, 2, 1.0)
    with clusters.open(Plan((candidate,))) as cluster:
        yield cluster


@pytest.fixture
def frame() -> pl.DataFrame:
    numbers = pl.int_range(ROWS, eager=True).alias("n")
    hashes = [numbers.hash(seed=i).cast(pl.Int64, wrap_numerical=True) % 10**15 for i in range(8)]
    return pl.DataFrame(
        [numbers, (numbers % 3).alias("k"), *(h.alias(f"c{i}") for i, h in enumerate(hashes))]
    )


@pytest.fixture
def store(moto: Moto, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """What all requests go through, and what counts the bytes of the answers."""
    with counted(moto.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
        # Beside a part that failed another may be under way, which the environment is not to be
        # changed under: its threads open the store by it.
        end = time.monotonic() + IDLE_SECONDS
        while any(cast("dict[str, int]", cluster.client.run(threads_at_work)).values()):
            assert time.monotonic() < end
            time.sleep(0.02)


def threads_at_work(dask_worker: Worker) -> int:
    return len(dask_worker.active_threads)


Run = Callable[..., tuple[pl.DataFrame, Processed]]


@pytest.fixture
def source(moto: Moto, frame: pl.DataFrame, store: Counted) -> Uri:
    root = Uri.parse(f"s3://{moto.new_bucket()}/lake")
    fs = open_filesystem(root)
    half = ROWS // 2
    for i in range(2):
        part = frame[i * half : (i + 1) * half].to_arrow()
        fs.write(root / f"{i}.parquet", parquet(part, row_group_size=ROWS // 20))
    return root


@pytest.fixture
def run(tmp_path: Path, source: Uri, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(scan, "MIN_PART_BYTES", 1)
    (tmp_path / "staged_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(name: str, cut_bytes: int | None = None) -> tuple[pl.DataFrame, Processed]:
        request = JobRequest((str(source),), str(tmp_path / name), f"staged_jobs:{name}")
        prepared = prepare(request, folder=tmp_path)
        done = process(cluster.client, prepared, cluster.candidate, cut_bytes=cut_bytes)
        files = [f"{tmp_path}/{name}/{file.path}" for r in done.receipts for file in r.files]
        return pl.read_parquet(files), done

    return run


@pytest.mark.parametrize("cut_bytes", [None, 2**20])
def test_a_part_takes_the_columns_and_row_groups_of_its_plan(
    run: Run, frame: pl.DataFrame, store: Counted, cut_bytes: int | None
) -> None:
    stored = 8 * 8 * ROWS
    before = store.sent_bytes

    rows, done = run("some", cut_bytes)

    expected = frame.filter(pl.col("n") >= 150_000).select("n", x=pl.col("c3") + 1)
    assert rows.sort("n").equals(expected)
    read = sum(r.bytes_read for r in done.receipts)
    assert read < 0.1 * stored
    assert store.sent_bytes - before < read + 0.1 * stored  # with listings and footers
    assert sum(r.rows_in for r in done.receipts) == ROWS


def test_a_spread_job_takes_what_its_first_leg_reads(run: Run, frame: pl.DataFrame) -> None:
    rows, done = run("total")

    expected = frame.filter(pl.col("n") < 50_000).group_by("k").agg(pl.col("c1").sum()).sort("k")
    assert rows.sort("k").equals(expected)
    assert sum(r.bytes_read for r in done.receipts) < 0.15 * 8 * 8 * ROWS


@pytest.mark.parametrize("then", ["", SORT], ids=["part", "leg"])
def test_a_failure_is_explained_by_columns_that_were_not_fetched(
    source: Uri, cluster: Cluster, tmp_path: Path, then: str
) -> None:
    steps = StepsText("lossy.toml", LOSSY + then)
    request = JobRequest((str(source),), str(tmp_path / "lossy"), steps=steps)
    prepared = prepare(request, folder=tmp_path)

    with pytest.raises(ValueLost, match=r"(?s)step 1 .*c3.*c2"):
        process(cluster.client, prepared, cluster.candidate, cut_bytes=2**22)
