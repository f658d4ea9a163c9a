"""Reading Parquet from S3, near and far, and reading many small files."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, cast

from tests.benchmarks.measure import (
    HERE,
    ROUNDS,
    Result,
    no_gpu,
    ratio,
    seconds_of,
    tpch_tables,
)

from headwater.infra.launchers.local import MAX_THREADS

if TYPE_CHECKING:
    from headwater.infra.models import DataRef

FILES = 3
ROWS_OF_FILE = 1_000_000
COLUMNS = ("l_orderkey", "l_extendedprice", "l_shipdate")
DELAY_SECONDS = 0.03
BYTES_PER_SECOND = 90e6

SMALL_FILES = (1_000, 10_000)
MOST_MORE = 1.25
"""What a file may take more of 10,000 than of 1,000."""

Read = Callable[[Sequence[str] | None], int]
"""Reads those columns, or all, and gives the number of rows."""


def read_s3(*, far: bool, whole: bool) -> Result:
    """Three files of TPC-H ``lineitem`` from S3 into memory, against the fastest other reader."""
    columns = None if whole else COLUMNS
    seconds: dict[str, list[float]] = {}
    with _store(far=far) as (readers, size_bytes):
        for i in range(ROUNDS + 1):
            for name, read in readers.items():
                begun = time.perf_counter()
                rows = read(columns)
                if i:  # the first is to warm up
                    seconds.setdefault(name, []).append(time.perf_counter() - begun)
                assert rows == FILES * ROWS_OF_FILE, name
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    fastest = min((peer for peer in medians if peer != "headwater"), key=medians.__getitem__)
    missing = "" if find_spec("obstore") else "; obstore is not installed"
    place = "through 30 ms and 90 MB/s a connection" if far else "from moto on loopback"
    what = "all columns" if whole else "3 of 16 columns"
    return Result(
        f"read_s3{'_far' if far else ''}_{'whole' if whole else 'columns'}",
        f"{what} of {FILES} files, {size_bytes / 1e6:.0f} MB, {place}, from pinned references to"
        f" a frame in memory, footers read anew{missing}",
        ratio(seconds["headwater"], seconds[fastest]),
        f"x {fastest}",
        1.0,
        medians,
    )


def small_files() -> Result:
    """A run over 10,000 small files against one over 1,000, by the file."""
    import polars as pl

    from headwater.infra import clusters
    from headwater.infra.launchers.local import local_plan
    from headwater.infra.models import JobRequest
    from headwater.infra.profiles import load_profile
    from headwater.tasks.prepare import prepare
    from headwater.tasks.process import process

    plan = local_plan(load_profile("local"), no_gpu)
    seconds: dict[int, list[float]] = {number: [] for number in SMALL_FILES}
    with TemporaryDirectory() as tmp, clusters.open(plan) as cluster:
        for number in SMALL_FILES:
            folder = Path(tmp, f"source-{number}")
            folder.mkdir()
            for i in range(number):
                pl.DataFrame({"n": [i], "s": [f"row {i}"]}).write_parquet(folder / f"{i}.parquet")

        def run(number: int, i: int) -> None:
            request = JobRequest((f"{tmp}/source-{number}",), f"{tmp}/out-{number}-{i}")
            prepared = prepare(request, folder=Path(tmp))
            done = process(cluster.client, prepared, cluster.candidate)
            assert sum(receipt.rows_out for receipt in done.receipts) == number

        for i in range(ROUNDS):
            for number in SMALL_FILES:
                seconds[number].append(seconds_of(lambda n=number, i=i: run(n, i)))
    few, many = SMALL_FILES
    by_file = {number: [s / number for s in seconds[number][1:]] for number in SMALL_FILES}
    return Result(
        "small_files",
        f"scan to last part in place, {many:,} files of a row against {few:,}, time by the file",
        ratio(by_file[many], by_file[few]),
        f"x {few:,} files",
        MOST_MORE,
        {f"{n:,} files": statistics.median(seconds[n][1:]) for n in SMALL_FILES},
    )


# --- the store -------------------------------------------------------------------------------


@contextmanager
def _store(*, far: bool) -> Iterator[tuple[Mapping[str, Read], int]]:
    """Every reader of the files in a store that was started for them, and their size."""
    import polars as pl
    from tests.emulators.process import free_port, server
    from tests.emulators.s3 import moto

    from headwater.infra.storage.filesystems import open_filesystem
    from headwater.infra.storage.uris import Uri

    with (
        TemporaryDirectory() as tmp,
        tpch_tables("lineitem") as folder,
        moto(Path(tmp, "log")) as store,
    ):
        os.environ.update(store.environment)
        root = Uri.parse(f"s3://{store.new_bucket()}/lineitem")
        fs = open_filesystem(root)
        refs: list[DataRef] = []
        for i in range(FILES):
            path = Path(tmp, f"{i}.parquet")
            rows = pl.scan_parquet(folder / "lineitem.parquet").slice(
                i * ROWS_OF_FILE, ROWS_OF_FILE
            )
            rows.collect().write_parquet(path, row_group_size=250_000)
            refs.append(fs.upload(path, root / path.name))
        url = store.url
        if not far:
            yield _readers(refs, url), sum(ref.size_bytes for ref in refs)
            return
        port = free_port()
        upstream = url.rpartition(":")[2]
        numbers = [upstream, str(port), str(DELAY_SECONDS), str(BYTES_PER_SECOND)]
        command = [sys.executable, str(HERE.parent / "emulators" / "slow.py"), *numbers]
        with server(command, port, Path(tmp, "slow"), env=dict(os.environ)):
            url = os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
            yield _readers(refs, url), sum(ref.size_bytes for ref in refs)


def _readers(refs: Sequence[DataRef], url: str) -> dict[str, Read]:
    uris = [ref.uri for ref in refs]
    readers: dict[str, Read] = {
        "headwater": lambda columns: _headwater(refs, columns),
        "polars": lambda columns: _polars(uris, columns),
        "pyarrow": lambda columns: _pyarrow(uris, columns, url),
        "s3fs.open": lambda columns: _s3fs(uris, columns),
    }
    if find_spec("obstore"):
        readers["obstore"] = lambda columns: _obstore(uris, columns, url)
    return readers


def _headwater(refs: Sequence[DataRef], columns: Sequence[str] | None) -> int:
    """As the threads of a worker do: one file is decoded while another comes."""
    import polars as pl

    from headwater.infra.storage import footers
    from headwater.infra.storage.staging import stage

    footers._FOOTERS = footers.Footers()  # as in a process that has read none
    with TemporaryDirectory() as tmp, ThreadPoolExecutor(MAX_THREADS) as pool:

        def read(ref: DataRef) -> pl.DataFrame:
            with stage(ref, columns, directory=Path(tmp)) as staged:
                frame = pl.scan_parquet(staged.path, glob=False)
                return (frame if columns is None else frame.select(columns)).collect()

        return pl.concat(pool.map(read, refs)).height


def _polars(uris: Sequence[str], columns: Sequence[str] | None) -> int:
    import polars as pl

    frame = pl.scan_parquet(list(uris), glob=False, storage_options={"aws_allow_http": "true"})
    return (frame if columns is None else frame.select(columns)).collect().height


def _pyarrow(uris: Sequence[str], columns: Sequence[str] | None, url: str) -> int:
    from pyarrow import dataset
    from pyarrow.fs import S3FileSystem

    store = S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=url,
        region=os.environ["AWS_DEFAULT_REGION"],
    )
    files = [uri.removeprefix("s3://") for uri in uris]
    names = None if columns is None else list(columns)
    return int(dataset.dataset(files, filesystem=store).to_table(columns=names).num_rows)


def _s3fs(uris: Sequence[str], columns: Sequence[str] | None) -> int:
    import pyarrow.parquet as pq
    import s3fs

    names = None if columns is None else list(columns)
    store = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])

    def read(uri: str) -> int:
        with store.open(uri) as file:
            return int(pq.read_table(cast("IO[bytes]", file), columns=names).num_rows)

    with ThreadPoolExecutor(FILES) as pool:
        return sum(pool.map(read, uris))


def _obstore(uris: Sequence[str], columns: Sequence[str] | None, url: str) -> int:
    import pyarrow.parquet as pq
    from obstore.fsspec import FsspecStore

    names = None if columns is None else list(columns)
    store = FsspecStore("s3", endpoint=url, client_options={"allow_http": True})

    def read(uri: str) -> int:
        with store.open(uri) as file:
            return int(pq.read_table(cast("IO[bytes]", file), columns=names).num_rows)

    with ThreadPoolExecutor(FILES) as pool:
        return sum(pool.map(read, uris))
