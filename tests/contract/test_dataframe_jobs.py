"""Jobs from dask.dataframe to dask.dataframe: results, types, refusals, failures, resuming."""

from __future__ import annotations

import datetime as dt
import logging
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal
from tests.emulators.s3 import Moto

from headwater.flows.etl_run import EtlRun
from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import (
    DamagedFile,
    HeadwaterError,
    InvalidRequest,
    PartFailed,
    SchemaMismatch,
    ScopeViolation,
    SourceChanged,
    StoreUnavailable,
    UnknownName,
    UnsupportedData,
    WorkerLost,
)
from headwater.infra.gpu import GpuReport
from headwater.infra.models import Candidate, Device, JobRequest, Mode, Plan, RunReceipt, Status
from headwater.infra.profiles import load_profile
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.uris import Uri
from headwater.tasks import pieces, scan
from headwater.tasks.exchange import SHUFFLE_LOGGER
from headwater.tasks.prepare import Prepared, prepare
from headwater.tasks.process import process
from headwater.tasks.progress import MAX_TRIES, Processed, Progress

HEAD = """
import os
from pathlib import Path
import dask.dataframe as dd
import pandas as pd
import polars as pl
from headwater.tasks.jobs import job
"""

IN_PROCESS = Candidate("local", Device.CPU, False, 1, 4, 4.0)
TWO_PROCESSES = Candidate("local", Device.CPU, True, 2, 1, 1.0)


@pytest.fixture(scope="module")
def in_process() -> Iterator[Cluster]:
    with clusters.open(Plan((IN_PROCESS,))) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def processes() -> Iterator[Cluster]:
    with clusters.open(Plan((TWO_PROCESSES,))) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def imports_as_before() -> Iterator[None]:
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        if name.startswith("frames_"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little data makes as many parts as there are threads, or nearly."""
    monkeypatch.setattr(scan, "MIN_PART_BYTES", 1)


class Bench:
    """Inputs, a target, and jobs to run between them."""

    def __init__(self, root: Path) -> None:
        self.root, self.source, self.target = root, root / "in", root / "out"
        self.jobs = root / "jobs"
        self.source.mkdir()
        self.jobs.mkdir()
        self.progress: list[Progress] = []

    def put(self, frame: pl.DataFrame, *, files: int = 4) -> None:
        size = -(-frame.height // files)
        for i in range(files):
            piece = frame.slice(i * size, size)
            piece.write_parquet(self.source / f"{i}.parquet", row_group_size=100)

    def side(self, name: str, frame: pl.DataFrame, *, files: int = 1) -> tuple[str, str]:
        folder = self.root / name
        folder.mkdir()
        size = -(-frame.height // files)
        for i in range(files):
            frame.slice(i * size, size).write_parquet(folder / f"{i}.parquet")
        return name, str(folder)

    def job(self, body: str, *, signature: str = "frame", name: str = "frames_job") -> str:
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        text = f'{HEAD}\n@job(frames="dask")\ndef run({signature}):\n{lines}\n'
        (self.jobs / f"{name}.py").write_text(text)
        return f"{name}:run"

    def prepare(self, body: str, *, signature: str = "frame", **request: Any) -> Prepared:
        spec = self.job(body, signature=signature)
        asked = JobRequest((str(self.source),), str(self.target), spec, **request)
        return prepare(asked, folder=self.jobs)

    def process(self, prepared: Prepared, cluster: Cluster) -> Processed:
        self.progress = []
        tell = self.progress.append
        return process(cluster.client, prepared, cluster.candidate, on_progress=tell)

    def commit(self, prepared: Prepared, processed: Processed) -> None:
        Dataset(prepared.target).commit(
            [file for receipt in processed.receipts for file in receipt.files],
            schema=prepared.schema,
            partition_by=prepared.request.partition_by,
            mode=prepared.request.mode,
            app_id=prepared.run_key,
            revision=prepared.revision,
            metadata={},
        )

    def run(self, cluster: Cluster, body: str, **options: Any) -> Processed:
        prepared = self.prepare(body, **options)
        processed = self.process(prepared, cluster)
        self.commit(prepared, processed)
        return processed

    def rows(self) -> pl.DataFrame:
        """The target in the order of its parts."""
        source = open_input([str(self.target)])
        frames = [pl.DataFrame(schema=source.schema)]
        for file in sorted(source.files, key=lambda f: f.ref.uri):
            path = Uri.parse(file.ref.uri).path
            frames.append(read_slice(path, source, partition=file.partition).collect())
        return pl.concat(frames)

    @property
    def nothing_committed(self) -> bool:
        dataset = Dataset(Uri.parse(str(self.target)))
        return not dataset.exists() or dataset.snapshot() is None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def flights(rows: int = 2000) -> pl.DataFrame:
    """Keys with nulls in one file and none in the others, as a hash may not notice."""
    return pl.DataFrame(
        {
            "carrier": [["AA", "UA", "zz", None][i % 4] for i in range(rows)],
            "origin": [["EWR", "JFK", "LGA"][i % 3] for i in range(rows)],
            "flight": [None if i < 200 and i % 7 == 0 else i * 7919 % 53 for i in range(rows)],
            "big": [2**53 + 1 + i % 5 for i in range(rows)],
            "delay": [None if i % 11 == 0 else (i * 31 % 400) / 4 for i in range(rows)],
        },
        schema_overrides={"flight": pl.Int64, "big": pl.Int64},
    )


AIRLINES = pl.DataFrame({"carrier": ["AA", "UA", "BB"], "name": ["American", "United", "Bee"]})

BUSIEST = """
merged = frame.merge(airlines, on="carrier", how="left")
return merged.groupby(["origin", "name"]).agg({"flight": "count"}).reset_index()
"""


# Results.


@pytest.mark.parametrize("partition_by", [(), ("origin",)])
def test_a_merge_and_a_group_by_equal_duckdbs(
    bench: Bench, in_process: Cluster, partition_by: tuple[str, ...]
) -> None:
    bench.put(flights())
    side = bench.side("airlines", AIRLINES)

    done = bench.run(
        in_process,
        BUSIEST,
        signature="frame, *, airlines",
        sides=(side,),
        partition_by=partition_by,
    )

    with duckdb.connect() as oracle:
        flown = oracle.read_parquet(f"{bench.source}/*.parquet")
        expected = (
            flown.join(oracle.read_parquet(f"{side[1]}/*.parquet"), "carrier")
            .aggregate("origin, name, count(flight)::bigint AS flight", "origin, name")
            .pl()
        )
    assert_frame_equal(bench.rows(), expected, check_row_order=False, check_column_order=False)
    assert sum(r.rows_in for r in done.receipts) == 2000
    assert bench.progress[-1].rows_in == 2000
    assert bench.progress[-1].rows_out == expected.height
    assert bench.progress[-1].parts == bench.progress[-1].parts_done == len(done.receipts)


SHUFFLES = """
found = frame.merge(other, on="flight", how="inner", broadcast=False)
return found.groupby("flight").agg({"big": "sum", "weight": "max"}, split_out=3).reset_index()
"""


def spread(bench: Bench, cluster: Cluster) -> None:
    """A job of two shuffles whose key has nulls in some partitions, and its check."""
    bench.put(flights())
    weights = pl.DataFrame({"flight": [None, *range(53)], "weight": range(54)})
    side = bench.side("other", weights, files=3)

    bench.run(cluster, SHUFFLES, signature="frame, *, other", sides=(side,))

    expected = (
        flights()
        .join(weights, on="flight")
        .group_by("flight")
        .agg(pl.col("big").sum(), pl.col("weight").max())
    )
    assert_frame_equal(bench.rows(), expected, check_row_order=False)
    assert expected.height == 53


def test_shuffles_bring_equal_keys_together_also_beside_nulls(
    bench: Bench, in_process: Cluster
) -> None:
    spread(bench, in_process)


def test_inputs_and_target_in_a_store_give_the_same(
    bench: Bench, in_process: Cluster, moto: Moto
) -> None:
    root = Uri.parse(f"s3://{moto.new_bucket()}/lake")
    fs = open_filesystem(root)
    bench.put(flights())
    for path in bench.source.iterdir():
        fs.write(root / "in" / path.name, path.read_bytes())
    spec = bench.job('return frame.shuffle("flight").groupby("flight").agg({"big": "sum"})')
    asked = JobRequest((str(root / "in"),), str(root / "out"), spec)
    prepared = prepare(asked, folder=bench.jobs)

    bench.commit(prepared, bench.process(prepared, in_process))

    table = open_input([str(root / "out")])
    assert table.rows == 53
    assert bench.process(prepared, in_process).resumed > 0


def test_integers_of_two_widths_meet(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights())
    weights = pl.DataFrame({"flight": range(53)}, schema={"flight": pl.Int16})
    side = bench.side("other", weights, files=3)

    bench.run(
        in_process,
        'return frame.merge(other, on="flight", broadcast=False)',
        signature="frame, *, other",
        sides=(side,),
    )

    expected = flights().drop_nulls("flight")
    assert_frame_equal(bench.rows(), expected, check_row_order=False, check_column_order=False)


def test_worker_processes_need_no_file_of_the_job(bench: Bench, processes: Cluster) -> None:
    text = "def doubled(frame):\n    return frame.assign(big=frame['big'] * 2)\n"
    (bench.jobs / "frames_help.py").write_text(text)
    bench.put(flights())
    prepared = bench.prepare(
        "from frames_help import doubled\n"
        'return frame[["flight", "big"]].shuffle("flight").map_partitions(doubled)'
    )
    (bench.jobs / "frames_help.py").unlink()
    (bench.jobs / "frames_job.py").unlink()

    bench.commit(prepared, bench.process(prepared, processes))

    expected = flights().select("flight", pl.col("big") * 2)
    assert_frame_equal(bench.rows(), expected, check_row_order=False)


def test_shuffles_between_processes_say_nothing_and_lose_nothing(
    bench: Bench, processes: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logging.getLogger(SHUFFLE_LOGGER).addHandler(handler)
    try:
        spread(bench, processes)
    finally:
        logging.getLogger(SHUFFLE_LOGGER).removeHandler(handler)

    assert [record.getMessage() for record in said] == []
    assert capfd.readouterr().err == ""
    assert logging.getLogger(SHUFFLE_LOGGER).filters == []


def test_a_sort_reads_twice_and_counts_the_rows_once(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights())

    done = bench.run(in_process, 'return frame.sort_values(["delay", "flight"])')

    found = bench.rows()
    delays = flights()["delay"].sort(nulls_last=True).to_list()
    assert found["delay"].to_list() == delays
    stored = sum(path.stat().st_size for path in bench.source.iterdir())
    assert sum(r.rows_in for r in done.receipts) == 2000
    assert sum(r.bytes_read for r in done.receipts) >= 2 * stored


def test_an_input_without_rows_gives_none(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights().clear(), files=1)

    bench.run(in_process, 'return frame.groupby("origin").agg({"big": "sum"})')

    assert bench.progress[-1].parts == bench.progress[-1].parts_done
    assert bench.rows().schema == {"origin": pl.String, "big": pl.Int64}
    assert bench.rows().height == 0


def test_only_the_columns_that_the_job_uses_are_read(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights(100), files=1)
    path = bench.source / "0.parquet"
    break_column(path, flights().columns.index("big"))

    bench.run(in_process, 'return frame[["origin", "delay"]]')

    assert bench.rows().equals(flights(100).select("origin", "delay"))
    with pytest.raises(DamagedFile, match=r"0\.parquet cannot be read"):
        bench.run(in_process, "return frame")


def break_column(path: Path, index: int) -> None:
    """Overwrite the values of one column, so that whoever decodes them fails."""
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(index)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)


def test_the_demos_rotations_equal_polars(bench: Bench, in_process: Cluster) -> None:
    rows = 1500
    start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    flown = pl.DataFrame(
        {
            "tailnum": [None if i % 17 == 0 else f"N{i * 7919 % 40}" for i in range(rows)],
            "airline": [["United", "Delta", None][i % 3] for i in range(rows)],
            "dest": [["LAX", "SFO"][i % 2] for i in range(rows)],
            "flight": range(rows),
            "departure_utc": [
                None if i % 19 == 0 else start + dt.timedelta(minutes=i * 37 % 100_000)
                for i in range(rows)
            ],
            "cancelled": [i % 19 == 0 for i in range(rows)],
        }
    )
    bench.put(flown)
    asked = JobRequest(
        (str(bench.source),), str(bench.target), "headwater.flows.demo_jobs:rotations"
    )
    prepared = prepare(asked, folder=bench.jobs)

    bench.commit(prepared, bench.process(prepared, in_process))

    hours = pl.col("departure_utc").shift(-1).over("tailnum") - pl.col("departure_utc")
    expected = (
        flown.filter(~pl.col("cancelled"), pl.col("tailnum").is_not_null())
        .sort("tailnum", "departure_utc", "flight")
        .with_columns(hours=hours.dt.total_seconds() / 3600)
        .drop_nulls("airline")  # as pandas groups
        .group_by("airline", "dest")
        .agg(
            rotations=pl.col("hours").count().cast(pl.Int64),
            mean_hours=pl.col("hours").mean(),
            shortest_hours=pl.col("hours").min(),
        )
    )
    assert_frame_equal(bench.rows(), expected, check_row_order=False, check_column_order=False)
    assert bench.rows().height == 4


# Types.

ODD = pl.DataFrame(
    {
        "k": [1, 2, None, 4],
        "i": [2**63 - 1, None, -(2**63), 2**53 + 1],
        "small": pl.Series([127, None, -128, 0], dtype=pl.Int8),
        "u": pl.Series([2**32 - 1, None, 0, 1], dtype=pl.UInt32),
        "f": [float("nan"), None, float("inf"), -0.0],
        "f32": pl.Series([float("nan"), None, 0.1, 1.0], dtype=pl.Float32),
        "b": [True, None, False, True],
        "s": ["", None, "ü\0", "NaN"],
        "raw": [b"\0\xff", None, b"", b"x"],
        "day": [dt.date(1, 1, 1), None, dt.date(9999, 12, 31), dt.date(2020, 2, 29)],
        "at": [dt.datetime(1, 1, 1), None, dt.datetime(9999, 12, 31, 1, 1, 1, 7), dt.datetime.min],
        "utc": pl.Series(
            [dt.datetime(1500, 1, 1, 0, 0, 0, 1), None, dt.datetime(2500, 1, 1), dt.datetime.min],
            dtype=pl.Datetime("us", "UTC"),
        ),
        "category": pl.Series(["a", None, "b", "a"], dtype=pl.Categorical),
    }
)
NESTED = ODD.with_columns(
    money=pl.Series(["1.10", None, "-999999999999999999999999999.99", "0"]).str.to_decimal(scale=2),
    many=pl.Series([[1, None], None, [], [2]]),
    deep=pl.Series([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}]),
)


@pytest.mark.parametrize("frame", [ODD, NESTED], ids=["p2p", "tasks"])
def test_every_kind_of_column_comes_through_a_shuffle_exactly(
    bench: Bench, in_process: Cluster, frame: pl.DataFrame
) -> None:
    bench.put(pl.concat([frame] * 10))

    bench.run(in_process, 'return frame.shuffle("k")')

    expected = pl.concat([frame] * 10).with_columns(
        pl.col("u").cast(pl.Int64), pl.col("category").cast(pl.String)
    )
    assert_frame_equal(bench.rows(), expected, check_row_order=False)
    assert str(sorted(map(str, bench.rows().rows()))) == str(sorted(map(str, expected.rows())))


def test_columns_that_pandas_makes_have_their_counterparts(
    bench: Bench, in_process: Cluster
) -> None:
    bench.put(pl.DataFrame({"n": [1, 2, None, 4]}), files=2)

    bench.run(
        in_process,
        """
def made(part):
    return pd.DataFrame({
        "plain": part["n"].astype("float64").to_numpy(),
        "masked": part["n"].astype("Int32"),
        "text": part["n"].astype("string[python]"),
        "kind": pd.Categorical(part["n"].astype("str")),
        "number": pd.Categorical(part["n"].astype("float64"), categories=[1.0, 2.0, 4.0]),
        "nano": pd.Series(pd.to_datetime(part["n"].astype("float64"), unit="s"), index=part.index)
        .astype("datetime64[ns]"),
    })
return frame.map_partitions(made)
""",
    )

    found = bench.rows().sort("plain", nulls_last=True)
    assert found.schema == {
        "plain": pl.Float64,
        "masked": pl.Int32,
        "text": pl.String,
        "kind": pl.String,
        "number": pl.Float64,
        "nano": pl.Datetime("us"),
    }
    assert found["plain"].to_list() == found["number"].to_list() == [1.0, 2.0, 4.0, None]
    assert found["masked"].to_list() == [1, 2, 4, None]
    assert found["text"].to_list() == ["1", "2", "4", None]
    assert found["nano"].to_list()[0] == dt.datetime(1970, 1, 1, 0, 0, 1)


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ('return frame.groupby("origin").agg({"big": "max"})', ["origin", "big"]),
        ('return frame.groupby(["origin", "carrier"]).agg({"big": "max"})',
         ["origin", "carrier", "big"]),
        ('return frame[["big"]].set_index("big").assign(x=1)', ["big", "x"]),
        ('return frame[["big"]].repartition(npartitions=2)', ["big"]),
    ],
    ids=["one level", "two levels", "set_index", "unnamed"],
)  # fmt: skip
def test_a_named_index_becomes_columns_and_an_unnamed_one_is_left_out(
    bench: Bench, in_process: Cluster, body: str, columns: list[str]
) -> None:
    bench.put(flights(300))

    bench.run(in_process, body)

    assert bench.rows().columns == columns


@pytest.mark.parametrize(
    ("promise", "values", "expected"),
    [
        ('"int64"', '[1.0, None]', [1, None]),
        ('"float64"', "[1, 2]", [1.0, 2.0]),
        ('"str"', 'pd.Series(["a", None], dtype="object")', ["a", None]),
        ('"boolean"', "pd.Series([True, None], dtype='object')", [True, None]),
        ('"int16"', "[1, 2]", [1, 2]),
        ('pd.ArrowDtype(pl.Series([], dtype=pl.Decimal(9, 2)).to_arrow().type)',
         "pd.Series([__import__('decimal').Decimal('1.5'), None], dtype='object')",
         [Decimal("1.50"), None]),
    ],
)  # fmt: skip
def test_a_partition_of_another_type_is_mended_where_that_is_exact(
    bench: Bench, in_process: Cluster, promise: str, values: str, expected: list[object]
) -> None:
    bench.put(pl.DataFrame({"n": [1]}), files=1)
    meta = f'pd.DataFrame({{"x": pd.Series([], dtype={promise})}})'

    bench.run(
        in_process,
        f'return frame.map_partitions(lambda _: pd.DataFrame({{"x": {values}}}), meta={meta},'
        " enforce_metadata=False)",
    )

    assert bench.rows()["x"].to_list() == expected


@pytest.mark.parametrize(
    ("promise", "values"),
    [
        ('"int64"', "[1.5, 2.0]"),
        ('"int64"', "[9007199254740994.0, None]"),
        ('"int64"', '["1", "2"]'),
        ('"float64"', "[9007199254740993, 1]"),
        ('"int8"', "[300, 1]"),
        ('"str"', "[1, 2]"),
        ('"str"', 'pd.Series(["a", 1], dtype="object")'),
        ('"float32"', "[0.1, 1.0]"),
        ('"datetime64[us]"', "[1, 2]"),
    ],
)
def test_a_partition_that_breaks_its_promise_is_refused_by_column(
    bench: Bench, in_process: Cluster, promise: str, values: str
) -> None:
    bench.put(pl.DataFrame({"n": [1]}), files=1)
    meta = f'pd.DataFrame({{"x": pd.Series([], dtype={promise})}})'

    with pytest.raises(SchemaMismatch, match="promised column 'x' of type") as caught:
        bench.run(
            in_process,
            f'return frame.map_partitions(lambda _: pd.DataFrame({{"x": {values}}}), meta={meta},'
            " enforce_metadata=False)",
        )

    assert "let the job cast it" in caught.value.hint
    assert bench.nothing_committed


def test_a_partition_with_other_columns_is_refused(bench: Bench, in_process: Cluster) -> None:
    bench.put(pl.DataFrame({"n": [1]}), files=1)

    with pytest.raises(
        SchemaMismatch, match=r"promised the columns n, and part \d has m"
    ) as caught:
        bench.run(
            in_process,
            'return frame.map_partitions(lambda part: part.rename(columns={"n": "m"}),'
            " meta=frame._meta, enforce_metadata=False)",
        )

    assert "meta" in caught.value.hint


def test_a_time_finer_than_a_microsecond_is_refused(bench: Bench, in_process: Cluster) -> None:
    at = pl.Series([1_000, 1_001], dtype=pl.Int64).cast(pl.Datetime("ns"))
    bench.put(pl.DataFrame({"at": at}), files=1)

    with pytest.raises(UnsupportedData, match="column 'at' is finer than a microsecond"):
        bench.run(in_process, "return frame")


# Refused before anything starts.

EARLY = "computes while its graph is built"


@pytest.mark.parametrize(
    ("body", "error", "said", "hint"),
    [
        ("return frame.compute()", InvalidRequest, EARLY, "without compute"),
        ("return frame[frame.big > len(frame)]", InvalidRequest, EARLY, "side table"),
        ("return frame.assign(x=frame.big.max().compute(scheduler='threads'))", InvalidRequest,
         EARLY, "side table"),
        ("frame.head()\nreturn frame", InvalidRequest, EARLY, "side table"),
        ("return frame.groupby('origin').size()", InvalidRequest, "returned a Series",
         "to_frame"),
        ("return frame._meta", InvalidRequest, "returned a DataFrame, not a dask", "without"),
        ("return None", InvalidRequest, "returned a NoneType", ""),
        ("return frame.merge(dd.from_pandas(pd.DataFrame({'origin': ['EWR']}), 1), on='origin')",
         InvalidRequest, "merges 'origin' of type large_string.* with 'origin' of type str",
         "cast one side"),
        ("return frame.assign(x=frame.origin.astype(object))", UnsupportedData,
         "column 'x' of type object", r'astype\("string\[pyarrow\]"\)'),
        ("return frame.assign(x=frame.big.astype('complex128'))", UnsupportedData,
         "column 'x' of type complex128", "cast it"),
        ("return frame.groupby('origin').agg({'big': ['sum', 'max']})", UnsupportedData,
         r"a column named \('origin', ''\)", "columns ="),
        ("return frame.assign(x=frame.big.astype('uint64'))", UnsupportedData,
         "column 'x' has type UInt64", "cast it"),
        ("return frame[['bgi']]", InvalidRequest, r"cannot be planned at .*frames_job.py:\d+:.*bgi",
         "mend the job"),
        ("return frame.map_partitions(lambda part: part.assign(x=1 / 0))", InvalidRequest,
         "rows that Dask makes up .* ZeroDivisionError: division by zero", "meta="),
        ("return dd.read_parquet('SOURCE')", ScopeViolation, "no source or side table names",
         "--side"),
        ("return frame.merge(dd.from_map(pd.read_csv, ['x.csv'], meta=frame._meta), on='big')",
         ScopeViolation, "no source or side table names", "--side"),
        ("return frame.rename(columns={'big': 'Delay'})", UnsupportedData, "differ only by case",
         "rename"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_starts(
    bench: Bench, body: str, error: type[HeadwaterError], said: str, hint: str
) -> None:
    bench.put(flights(20), files=1)

    with pytest.raises(error, match=said) as caught:
        bench.prepare(body.replace("SOURCE", str(bench.source)))

    assert re.search(hint, caught.value.hint)
    assert not bench.target.exists()


def test_a_scope_beside_dask_frames_is_refused(bench: Bench) -> None:
    bench.put(flights(20), files=1)
    text = HEAD + '\n@job(frames="dask", scope="rows")\ndef run(frame):\n    return frame\n'
    (bench.jobs / "frames_scope.py").write_text(text)
    asked = JobRequest((str(bench.source),), str(bench.target), "frames_scope:run")

    with pytest.raises(InvalidRequest, match=r"frames_scope\.py.*scope='rows' is given"):
        prepare(asked, folder=bench.jobs)


def test_unknown_partition_columns_and_sides_are_refused(bench: Bench) -> None:
    bench.put(flights(20), files=1)

    with pytest.raises(UnknownName, match="no column 'orgin'"):
        bench.prepare("return frame", partition_by=("orgin",))
    with pytest.raises(UnknownName, match="no side table 'planes'"):
        bench.prepare("return frame", sides=(("planes", "x.csv"),))


# What goes wrong on the way.


@pytest.mark.parametrize(
    "body",
    [
        "return frame.map_partitions(broken, meta=frame._meta)",
        'return frame.shuffle("flight").map_partitions(broken, meta=frame._meta)',
        'return frame.map_partitions(broken, meta=frame._meta).shuffle("flight")',
    ],
    ids=["alone", "after", "before"],
)
def test_code_that_fails_is_named_with_what_it_says(
    bench: Bench, in_process: Cluster, body: str
) -> None:
    bench.put(flights())
    fails = 'def broken(part):\n    raise ValueError("no such day\\nin detail")\n'

    with pytest.raises(PartFailed) as caught:
        bench.run(in_process, fails + body)

    assert caught.value.message == "job frames_job:run failed: ValueError: no such day"
    assert bench.nothing_committed


def test_an_error_inside_a_shuffle_is_told_without_its_wrapper(
    bench: Bench, in_process: Cluster
) -> None:
    bench.put(flights())
    mixed = 'def mixed(part):\n    return part.assign(x=[1, "a"] * (len(part) // 2))\n'

    with pytest.raises(PartFailed) as caught:
        bench.run(
            in_process,
            mixed + 'return frame.map_partitions(mixed, meta=frame._meta.assign(x="a"))'
            '.shuffle("flight")',
        )

    assert "P2P" not in caught.value.message
    assert "Arrow" in caught.value.message


def test_a_file_that_changed_is_refused(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights())
    prepared = bench.prepare("return frame")
    flights(10).write_parquet(bench.source / "1.parquet")

    with pytest.raises(SourceChanged, match=r"1\.parquet"):
        bench.process(prepared, in_process)


def test_a_store_that_comes_back_costs_retries_and_no_rows(
    bench: Bench, in_process: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put(flights())
    real, failures = pieces.stage_all, iter(range(MAX_TRIES - 1))

    def flaky(*args: Any, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise StoreUnavailable("come back later")
        return real(*args, **options)

    monkeypatch.setattr(pieces, "stage_all", flaky)

    done = bench.run(in_process, "return frame")

    assert done.retries == MAX_TRIES - 1
    assert bench.rows().equals(flights())


def test_a_store_that_stays_away_ends_the_run(
    bench: Bench, in_process: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put(flights(), files=1)

    def gone(*args: Any, **options: Any) -> Any:
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(pieces, "stage_all", gone)

    with pytest.raises(StoreUnavailable, match="nobody answers"):
        bench.run(in_process, "return frame")


def test_workers_that_die_again_and_again_end_the_run(bench: Bench, tmp_path: Path) -> None:
    bench.put(flights(100), files=1)
    with (
        clusters.open(Plan((TWO_PROCESSES,))) as cluster,
        pytest.raises(WorkerLost, match=r"job frames_job:run: workers died 3 times"),
    ):
        bench.run(cluster, "return frame.map_partitions(lambda _: os._exit(3), meta=frame._meta)")


def test_a_worker_that_dies_once_costs_no_row(bench: Bench, tmp_path: Path) -> None:
    bench.put(flights())
    mark = tmp_path / "died"
    dies = (
        "def dies(part):\n"
        f"    mark = Path({str(mark)!r})\n"
        "    if not mark.exists():\n"
        "        mark.touch()\n"
        "        os._exit(3)\n"
        "    return part\n"
    )

    with clusters.open(Plan((TWO_PROCESSES,))) as cluster:
        done = bench.run(
            cluster,
            dies + 'return frame.shuffle("flight").map_partitions(dies, meta=frame._meta)',
        )

    assert_frame_equal(bench.rows(), flights(), check_row_order=False)
    assert done.retries == 1


# Taken up again.


def test_a_finished_attempt_is_taken_up_and_a_part_of_one_is_not(
    bench: Bench, in_process: Cluster
) -> None:
    bench.put(flights())
    prepared = bench.prepare('return frame.shuffle("flight")')
    first = bench.process(prepared, in_process)

    second = bench.process(prepared, in_process)

    assert (first.resumed, second.resumed) == (0, len(first.receipts))
    assert second.receipts == first.receipts
    written = next(file for receipt in first.receipts for file in receipt.files)
    (bench.target / written.path).unlink()
    third = bench.process(prepared, in_process)
    assert third.resumed == 0
    assert not {f.path for r in third.receipts for f in r.files} & {
        f.path for r in first.receipts for f in r.files
    }
    bench.commit(prepared, third)
    assert_frame_equal(bench.rows(), flights(), check_row_order=False)


def test_the_same_run_again_is_already_committed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put(flights())
    side = bench.side("airlines", AIRLINES)
    spec = bench.job(BUSIEST, signature="frame, *, airlines")
    request = JobRequest((str(bench.source),), str(bench.target), spec, (side,))

    first, again = (etl(request, bench.jobs) for _ in range(2))

    assert (first.status, again.status) == (Status.COMMITTED, Status.ALREADY_COMMITTED)
    assert first.engine.startswith("dask.dataframe 2")
    assert first.rows_in == 2000
    assert first.bytes_read >= sum(path.stat().st_size for path in bench.source.iterdir())


def etl(request: JobRequest, folder: Path) -> RunReceipt:
    run = EtlRun(
        request,
        load_profile("local"),
        folder=folder,
        gpu_probe=lambda: GpuReport(reason="not asked"),
    )
    run.scan()
    if not run.is_done:
        run.process()
        run.commit()
    return run.receipt()


def test_rows_are_appended_and_partitions_replaced(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights(120))
    body = 'return frame.groupby("origin").agg({"big": "max"}).reset_index()'
    bench.run(in_process, body, partition_by=("origin",))
    bench.put(flights(120).filter(pl.col("origin") == "JFK").with_columns(big=pl.lit(1, pl.Int64)))

    bench.run(in_process, body, partition_by=("origin",), mode=Mode.REPLACE)

    found = dict(bench.rows().select("origin", "big").rows())
    assert found["JFK"] == 1
    assert found["EWR"] == found["LGA"] == 2**53 + 5


def test_progress_is_told_from_the_start_on(bench: Bench, in_process: Cluster) -> None:
    bench.put(flights())

    bench.run(in_process, 'return frame.shuffle("flight")')

    first, last = bench.progress[0], bench.progress[-1]
    assert (first.parts, first.rows_out) == (last.parts, 0)
    assert last.rows_in == last.rows_out == 2000


def test_parts_that_the_job_has_no_use_for_are_not_waited_for(
    bench: Bench, in_process: Cluster
) -> None:
    bench.put(flights())

    done = bench.run(in_process, "return frame.partitions[0]")

    last = bench.progress[-1]
    assert last.parts == last.parts_done == len(done.receipts) == 2
    assert last.rows_in == last.rows_out < 2000
