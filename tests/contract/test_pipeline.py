"""From a request to a version, in process and on worker processes; DuckDB is the oracle."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import (
    DamagedFile,
    Overlap,
    PartFailed,
    SourceChanged,
    StoreUnavailable,
    UnknownName,
    UnsupportedData,
    WorkerLost,
)
from headwater.infra.models import Candidate, Device, JobRequest, Mode, Plan, StepsText
from headwater.infra.storage.datasets import Commit, Dataset
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.uris import Uri
from headwater.tasks import pieces, scan, write
from headwater.tasks.prepare import Prepared, prepare
from headwater.tasks.process import process
from headwater.tasks.progress import MAX_TRIES, Processed, Progress

TINY = 1e-6
"""GiB a worker: parts of a few rows, once ``small_parts`` has lifted the lower bound."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.open(Plan((Candidate("local", Device.CPU, False, 1, 2, 4.0),))) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def imports_as_before() -> Iterator[None]:
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        if name.startswith("jobs_"):
            del sys.modules[name]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """A candidate that gets many parts out of little data."""
    monkeypatch.setattr(scan, "MIN_PART_BYTES", 1)
    return Candidate("local", Device.CPU, False, 1, 2, TINY)


class Lake:
    """A folder with an input, a target and the user's jobs."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.source, self.target, self.jobs = root / "in", root / "out", root / "jobs"
        self.source.mkdir()
        self.jobs.mkdir()
        self.cluster = cluster
        self.progress: list[Progress] = []

    def put(self, name: str, frame: pl.DataFrame, **options: Any) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path, **options)
        return path

    def job(self, module: str, body: str, *, signature: str = "frame") -> str:
        """Write a module of one function ``job`` and give its spec."""
        text = f"import os\nimport polars as pl\n\ndef job({signature}):\n{body}\n"
        (self.jobs / f"{module}.py").write_text(text)
        return f"{module}:job"

    def prepare(self, **request: Any) -> Prepared:
        sources = request.pop("sources", (str(self.source),))
        return prepare(JobRequest(sources, str(self.target), **request), folder=self.jobs)

    def process(self, prepared: Prepared, candidate: Candidate | None = None) -> Processed:
        self.progress = []
        candidate = candidate or self.cluster.candidate
        tell = self.progress.append
        return process(self.cluster.client, prepared, candidate, on_progress=tell)

    def commit(self, prepared: Prepared, processed: Processed) -> Commit:
        return Dataset(prepared.target).commit(
            [file for receipt in processed.receipts for file in receipt.files],
            schema=prepared.schema,
            partition_by=prepared.request.partition_by,
            mode=prepared.request.mode,
            app_id=prepared.run_key,
            revision=prepared.revision,
            metadata={"run": uuid.uuid4().hex},
        )

    def run(self, candidate: Candidate | None = None, **request: Any) -> Commit:
        prepared = self.prepare(**request)
        assert prepared.committed is None
        return self.commit(prepared, self.process(prepared, candidate))

    def rows(self) -> pl.DataFrame:
        """What is in the target now."""
        source = open_input([str(self.target)])
        frames = [pl.DataFrame(schema=source.schema)]
        for file in source.files:
            path = Uri.parse(file.ref.uri).path
            frames.append(read_slice(path, source, partition=file.partition).collect())
        return pl.concat(frames)

    def numbers(self) -> list[Any]:
        return sorted(self.rows()["n"].to_list())

    @property
    def nothing_committed(self) -> bool:
        dataset = Dataset(Uri.parse(str(self.target)))
        return not dataset.exists() or dataset.snapshot() is None


@pytest.fixture
def lake(tmp_path: Path, cluster: Cluster) -> Lake:
    return Lake(tmp_path, cluster)


def numbers(start: int, stop: int) -> pl.DataFrame:
    return pl.DataFrame({"n": range(start, stop)}, schema={"n": pl.Int64})


def flights(rows: int, seed: int = 7) -> pl.DataFrame:
    roll = random.Random(seed)
    return pl.DataFrame(
        {
            "day": [dt.date(2013, 1, 1) + dt.timedelta(roll.randrange(365)) for _ in range(rows)],
            "origin": [roll.choice(["EWR", "JFK", "LGA", None]) for _ in range(rows)],
            "carrier": [roll.choice(["AA", "UA", "zz"]) for _ in range(rows)],
            "delay": [roll.choice([None, *range(-20, 300)]) for _ in range(rows)],
            "distance": [roll.uniform(50, 5000) for _ in range(rows)],
        },
        schema_overrides={"delay": pl.Int32},
    )


# Results.

CLEAN = """\
    return (
        frame.filter(pl.col("delay").is_not_null())
        .join(carriers, on="carrier", how="left")
        .with_columns(
            late=pl.col("delay") > 15,
            km=pl.col("distance") * 1.609,
            month=pl.col("day").dt.month(),
        )
        .drop("distance")
    )"""

CLEAN_SQL = """
    SELECT day, origin, f.carrier, delay, name, delay > 15 AS late, distance * 1.609 AS km,
           month(day) AS month
    FROM read_parquet('{source}/*.parquet') f
    LEFT JOIN read_parquet('{carriers}') c ON f.carrier = c.carrier
    WHERE delay IS NOT NULL
"""


@pytest.mark.parametrize("partition_by", [(), ("origin",), ("origin", "late")])
def test_the_rows_are_those_of_duckdb_for_any_cut(
    lake: Lake, tmp_path: Path, small_parts: Candidate, partition_by: tuple[str, ...]
) -> None:
    for number in range(3):
        lake.put(f"{number}.parquet", flights(400, seed=number), row_group_size=150)
    carriers = tmp_path / "carriers.parquet"
    pl.DataFrame({"carrier": ["AA", "UA"], "name": ["American", "United"]}).write_parquet(carriers)
    spec = lake.job("jobs_clean", CLEAN, signature="frame, carriers")

    done = lake.run(
        replace(small_parts, memory_gib_per_worker=5e-5),
        job=spec,
        sides=(("carriers", str(carriers)),),
        partition_by=partition_by,
    )

    query = CLEAN_SQL.format(source=lake.source, carriers=carriers)
    with duckdb.connect() as oracle:
        expected = oracle.sql(query).pl()
    columns = expected.columns
    found = lake.rows().select(columns)
    assert (
        found.with_columns(pl.col("month").cast(pl.Int64))
        .sort(columns)
        .equals(expected.with_columns(pl.col("month").cast(pl.Int64)).sort(columns))
    )
    assert done.dataset.rows == expected.height
    assert lake.progress[-1].parts > 3
    assert lake.progress[-1].rows_in == 1200
    assert lake.progress[-1].rows_out == expected.height


def test_every_kind_of_column_is_copied_exactly(lake: Lake) -> None:
    frame = pl.DataFrame(
        {
            "u": pl.Series([1, 2**32 - 1], dtype=pl.UInt32),
            "at": pl.Series(
                [dt.datetime(1500, 1, 1), dt.datetime(2500, 1, 1, 1, 1, 1, 7)], dtype=pl.Datetime
            ),
            "zoned": pl.Series(
                [dt.datetime(2013, 7, 1, 12), None], dtype=pl.Datetime("ms", "UTC")
            ).dt.convert_time_zone("America/New_York"),
            "nano": pl.Series([5_000, None], dtype=pl.Int64).cast(pl.Datetime("ns")),
            "cat": pl.Series(["a", "b"], dtype=pl.Categorical),
            "kind": pl.Series(["x", None], dtype=pl.Enum(["x", "y"])),
            "money": pl.Series(["1.10", "-99999.99"]).str.to_decimal(scale=2),
            "deep": [{"a": [1, None], "b": {"c": "x"}}, None],
            "pair": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int16, 2)),
            "raw": [b"\x00\xff", None],
        }
    )
    lake.put("a.parquet", frame)

    lake.run()

    found = lake.rows()
    expected = frame.with_columns(
        pl.col("u").cast(pl.Int64),
        pl.col("zoned").dt.convert_time_zone("UTC").dt.cast_time_unit("us"),
        pl.col("nano").dt.cast_time_unit("us"),
        pl.col("cat", "kind").cast(pl.String),
        pl.col("pair").cast(pl.List(pl.Int16)),
    )
    assert found.rows() == expected.rows()
    assert found.schema["zoned"] == pl.Datetime("us", "UTC")


def test_text_is_read_in_parts_too(lake: Lake, small_parts: Candidate) -> None:
    (lake.source / "a.csv").write_bytes(b'\xef\xbb\xbfn,s\r\n1,x\r\n2,"y\r\nz"\r\n')
    (lake.source / "b.csv").write_bytes(b"s,n\nq,2.5\n")

    lake.run(small_parts)

    assert lake.rows().sort("n").rows() == [(1.0, "x"), (2.0, "y\r\nz"), (2.5, "q")]
    assert lake.progress[-1].parts == 2


# Nothing left.


@pytest.mark.parametrize("partition_by", [(), ("p",)])
def test_a_filter_that_leaves_nothing_makes_an_empty_version(
    lake: Lake, partition_by: tuple[str, ...]
) -> None:
    lake.put("a.parquet", pl.DataFrame({"n": [1, 2], "p": ["x", "y"]}))
    spec = lake.job("jobs_none", "    return frame.filter(pl.col('n') > 10)")

    done = lake.run(job=spec, partition_by=partition_by)

    assert (done.dataset.rows, done.dataset.files) == (0, 0)
    assert lake.rows().schema == {"n": pl.Int64, "p": pl.String}
    assert lake.rows().height == 0
    parts = [p for p in lake.target.rglob("*.parquet") if "_delta_log" not in p.parts]
    assert parts == []


def test_an_input_without_rows_makes_an_empty_version(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 0))

    done = lake.run()

    assert done.dataset.rows == 0
    assert lake.rows().schema == {"n": pl.Int64}


def test_an_empty_table_is_an_input_too(lake: Lake, tmp_path: Path) -> None:
    lake.put("a.parquet", numbers(0, 0))
    lake.run()
    second = Lake(new(tmp_path / "second"), lake.cluster)

    done = second.run(sources=(str(lake.target),))

    assert done.dataset.rows == 0


def test_a_part_that_leaves_nothing_writes_no_file(lake: Lake, small_parts: Candidate) -> None:
    lake.put("a.parquet", numbers(0, 10))
    lake.put("b.parquet", numbers(10, 20))
    spec = lake.job("jobs_half", "    return frame.filter(pl.col('n') >= 10)")

    done = lake.run(replace(small_parts, memory_gib_per_worker=1.2e-6), job=spec)

    assert lake.numbers() == list(range(10, 20))
    assert done.dataset.files < lake.progress[-1].parts


# What goes wrong while the parts are read.


def damaged(path: Path) -> None:
    """Flip bytes in the middle of a column's pages; head and footer stay."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(255 - b for b in data[middle : middle + 400])
    path.write_bytes(data)


def noise(rows: int) -> pl.DataFrame:
    """Text that compresses, so that flipped bytes cannot pass for other text."""
    roll = random.Random(1)
    texts = [
        f"{roll.choice(['alpha', 'beta', 'gamma'])}-{roll.randrange(10**6)}" * 3
        for _ in range(rows)
    ]
    return pl.DataFrame({"s": texts})


def test_damage_inside_a_page_names_the_file_and_commits_nothing(lake: Lake) -> None:
    lake.put("a.parquet", noise(5000), compression="zstd")
    damaged(lake.put("b.parquet", noise(5000), compression="zstd"))
    prepared = lake.prepare()

    with pytest.raises(DamagedFile, match=r"in/b\.parquet cannot be read"):
        lake.process(prepared)

    assert lake.nothing_committed


def test_a_damaged_side_table_is_named(lake: Lake, tmp_path: Path) -> None:
    lake.put("a.parquet", numbers(0, 3))
    side = tmp_path / "side.parquet"
    noise(5000).write_parquet(side, compression="zstd")
    damaged(side)
    spec = lake.job(
        "jobs_side",
        "    return frame.with_columns(s=pl.lit('x')).join(side, on='s', how='left')",
        signature="frame, side",
    )

    with pytest.raises(DamagedFile, match=r"the side table .*side\.parquet cannot be read"):
        lake.process(lake.prepare(job=spec, sides=(("side", str(side)),)))


def test_a_ragged_line_names_the_file(lake: Lake) -> None:
    (lake.source / "a.csv").write_text("n,s\n1,x\n")
    (lake.source / "b.csv").write_text("n,s\n1,x\n2,y,z\n")

    with pytest.raises(DamagedFile, match=r"in/b\.csv cannot be read"):
        lake.process(lake.prepare())


def test_a_source_that_changed_after_the_scan_stops_the_run(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))
    lake.put("b.parquet", numbers(3, 6))
    prepared = lake.prepare()
    lake.put("b.parquet", numbers(30, 60))

    with pytest.raises(SourceChanged, match=r"in/b\.parquet"):
        lake.process(prepared)

    assert lake.nothing_committed


def test_a_source_that_is_gone_after_the_scan_stops_the_run(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))
    prepared = lake.prepare()
    (lake.source / "a.parquet").unlink()

    with pytest.raises(Exception, match=r"in/a\.parquet"):
        lake.process(prepared)

    assert lake.nothing_committed


def test_a_time_stamp_too_fine_names_column_and_value(lake: Lake) -> None:
    fine = pl.DataFrame({"at": pl.Series([1_001]).cast(pl.Datetime("ns")), "n": [1]})
    lake.put("a.parquet", fine)

    with pytest.raises(UnsupportedData, match="column 'at' is finer than a microsecond at 1970"):
        lake.process(lake.prepare())


def test_an_empty_partition_value_is_refused_and_leaves_no_part(lake: Lake) -> None:
    lake.put("a.parquet", pl.DataFrame({"n": [1, 2], "p": ["x", ""]}))

    with pytest.raises(UnsupportedData, match="'p' holds an empty string"):
        lake.process(lake.prepare(partition_by=("p",)))

    assert lake.nothing_committed
    assert list(lake.target.rglob("*.parquet")) == []


@pytest.mark.parametrize("text", ["x" * 300, "ü" * 45])
def test_a_partition_value_that_no_folder_can_be_named_after_is_refused(
    lake: Lake, text: str
) -> None:
    lake.put("a.parquet", pl.DataFrame({"n": [1, 2], "p": ["x", text]}))

    with pytest.raises(UnsupportedData, match="is too long to name a folder"):
        lake.process(lake.prepare(partition_by=("p",)))

    assert list(lake.target.rglob("*.parquet")) == []


def test_a_column_with_too_many_values_makes_no_partitions(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "MAX_PARTITIONS", 3)
    lake.put("a.parquet", pl.DataFrame({"n": range(50), "p": range(50)}))

    with pytest.raises(UnsupportedData, match="more than 3 partitions"):
        lake.process(lake.prepare(partition_by=("p",)))

    assert list(lake.target.rglob("*.parquet")) == []


def test_a_job_that_fails_on_the_rows_names_itself(lake: Lake) -> None:
    lake.put("a.parquet", pl.DataFrame({"s": ["1", "x"]}))
    spec = lake.job("jobs_strict", "    return frame.with_columns(pl.col('s').cast(pl.Int64))")

    with pytest.raises(PartFailed, match=r"job jobs_strict:job failed on part 0 \(a\.parquet\)"):
        lake.process(lake.prepare(job=spec))

    assert lake.nothing_committed


def test_source_and_target_must_be_apart(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))

    for source in (lake.target / "x", lake.target.parent):
        with pytest.raises(Overlap):
            lake.prepare(sources=(str(source),))


def test_an_unknown_partition_column_names_the_near_ones(lake: Lake) -> None:
    lake.put("a.parquet", pl.DataFrame({"origin": ["x"], "n": [1]}))

    with pytest.raises(UnknownName, match="no column 'orign'"):
        lake.prepare(partition_by=("orign",))


# Again.


def test_the_same_append_twice_is_there_already(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))
    first = lake.run(mode=Mode.APPEND)

    prepared = lake.prepare(mode=Mode.APPEND)

    assert prepared.committed == first.dataset
    assert lake.commit(prepared, lake.process(prepared)).already
    assert lake.numbers() == [0, 1, 2]


def test_an_append_stays_done_after_other_commits(lake: Lake) -> None:
    a, b = lake.put("a.parquet", numbers(0, 2)), lake.put("b.parquet", numbers(2, 3))
    first = lake.run(mode=Mode.APPEND, sources=(str(a),))
    lake.run(mode=Mode.APPEND, sources=(str(b),))

    prepared = lake.prepare(mode=Mode.APPEND, sources=(str(a),))

    assert prepared.committed == first.dataset
    assert lake.numbers() == [0, 1, 2]


def test_again_appends_once_more(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 2))
    lake.run(mode=Mode.APPEND)

    lake.run(mode=Mode.APPEND, again=True)

    assert lake.numbers() == [0, 0, 1, 1]
    assert lake.prepare(mode=Mode.APPEND).committed is not None
    lake.run(mode=Mode.APPEND, again=True)
    assert lake.numbers() == [0, 0, 0, 1, 1, 1]


def test_overwriting_with_a_then_b_then_a_again_brings_a_back(lake: Lake) -> None:
    a, b = lake.put("a.parquet", numbers(0, 2)), lake.put("b.parquet", numbers(2, 3))
    lake.run(sources=(str(a),))
    lake.run(sources=(str(b),))
    assert lake.numbers() == [2]

    prepared = lake.prepare(sources=(str(a),))

    assert (prepared.revision, prepared.committed) == (2, None)
    assert lake.commit(prepared, lake.process(prepared)).already is False
    assert lake.numbers() == [0, 1]
    assert lake.prepare(sources=(str(a),)).committed is not None


def test_overwriting_with_the_same_twice_is_there_already(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 2))
    done = lake.run()

    assert lake.prepare().committed == done.dataset


# Resuming.


@pytest.fixture
def resumable(lake: Lake, small_parts: Candidate) -> Callable[..., tuple[Processed, Prepared]]:
    """Six files, six parts; each call processes the same request."""
    for number in range(6):
        lake.put(f"{number}.parquet", numbers(10 * number, 10 * number + 10))

    def attempt(memory_gib: float = TINY, **request: Any) -> tuple[Processed, Prepared]:
        prepared = lake.prepare(**request)
        candidate = replace(small_parts, memory_gib_per_worker=memory_gib)
        return lake.process(prepared, candidate), prepared

    return attempt


def receipts(lake: Lake, prepared: Prepared) -> list[Path]:
    return sorted((lake.target / "_headwater/runs" / prepared.attempt_key).glob("part-*.json"))


def test_finished_parts_are_taken_up(lake: Lake, resumable: Any) -> None:
    first, prepared = resumable()
    again, _ = resumable()

    assert (first.resumed, again.resumed) == (0, len(first.receipts))
    assert again.receipts == first.receipts
    lake.commit(prepared, again)
    assert lake.numbers() == list(range(60))


@pytest.mark.parametrize("missing", ["receipt", "part", "whole receipt", "whole part", "newer"])
def test_only_what_is_missing_is_done_again(lake: Lake, resumable: Any, missing: str) -> None:
    first, prepared = resumable()
    receipt = receipts(lake, prepared)[2]
    part = lake.target / first.receipts[2].files[0].path
    match missing:
        case "receipt":
            receipt.unlink()
        case "part":
            part.unlink()
        case "whole receipt":
            receipt.write_bytes(receipt.read_bytes()[:-20])
        case "whole part":
            part.write_bytes(part.read_bytes()[:-20])
        case "newer":
            receipt.write_text(json.dumps({**json.loads(receipt.read_text()), "version": 99}))

    again, _ = resumable()

    assert again.resumed == len(first.receipts) - 1
    kept = [r for r in again.receipts if r in first.receipts]
    assert len(kept) == again.resumed
    done = lake.commit(prepared, again)
    assert lake.numbers() == list(range(60))
    assert done.dataset.rows == 60


def test_the_first_attempts_parts_are_used_on_a_cluster_of_another_size(
    lake: Lake, resumable: Any
) -> None:
    first, prepared = resumable()
    receipts(lake, prepared)[0].unlink()

    again, _ = resumable(memory_gib=4.0)

    assert again.resumed == len(first.receipts) - 1
    lake.commit(prepared, again)
    assert lake.numbers() == list(range(60))


def test_fresh_does_every_part_anew(lake: Lake, resumable: Any) -> None:
    first, _ = resumable()

    again, prepared = resumable(fresh=True)

    assert again.resumed == 0
    old = {f.path for r in first.receipts for f in r.files}
    assert not old & {f.path for r in again.receipts for f in r.files}
    lake.commit(prepared, again)
    assert lake.numbers() == list(range(60))


def test_a_newer_list_of_parts_is_refused(lake: Lake, resumable: Any) -> None:
    _, prepared = resumable()
    path = lake.target / "_headwater/runs" / prepared.attempt_key / "parts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))

    with pytest.raises(UnsupportedData, match=r"was written by a newer Headwater \(format 99\)"):
        resumable()


def test_a_failed_run_goes_on_where_it_stopped(
    lake: Lake, resumable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file of six cannot be had at first; what the others gave is kept."""
    real = pieces.stage_all
    broken = True

    def flaky(wanted: Any, **options: Any) -> Any:
        if broken and any(one.ref.uri.endswith("/3.parquet") for one in wanted):
            raise DamagedFile("3.parquet is on a broken disk")
        return real(wanted, **options)

    monkeypatch.setattr(pieces, "stage_all", flaky)
    with pytest.raises(DamagedFile, match="broken disk"):
        resumable()
    assert lake.nothing_committed
    broken = False

    again, prepared = resumable()

    assert 0 < again.resumed < len(again.receipts)
    lake.commit(prepared, again)
    assert lake.numbers() == list(range(60))


def test_an_edited_job_takes_up_nothing(lake: Lake, resumable: Any) -> None:
    spec = lake.job("jobs_edit", "    return frame.with_columns(pl.col('n') + 1)")
    resumable(job=spec)
    lake.job("jobs_edit", "    return frame.with_columns(pl.col('n') + 100)")

    again, prepared = resumable(job=spec)

    assert again.resumed == 0
    lake.commit(prepared, again)
    assert lake.numbers() == list(range(100, 160))


PACKAGE = {
    "jobs_pack/__init__.py": "",
    "jobs_pack/deep/__init__.py": "from jobs_pack.deep.more import TEN\n",
    "jobs_pack/deep/more.py": "TEN = 10\n",
    "jobs_beside.py": "def plus(column):\n    return column + 1\n",
    "jobs_main.py": """
import polars as pl
from jobs_beside import plus
from jobs_pack.deep import TEN

def own(column):
    return column * 1

def job(frame, zones):
    return frame.with_columns(m=own(plus(pl.col("n"))) + TEN).join(zones, on="n", how="left")
""",
}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("jobs_main.py", "frame.with_columns", "frame.filter(True).with_columns"),
        ("jobs_main.py", "column * 1", "column * 2"),
        ("jobs_beside.py", "+ 1", "+ 2"),
        ("jobs_pack/deep/more.py", "10", "11"),
        ("jobs_pack/deep/__init__.py", "more import TEN", "more import TEN as TEN"),
    ],
    ids=["the function", "its module", "a module beside", "a package", "how it is imported"],
)
def test_a_job_of_other_text_is_another_run(lake: Lake, name: str, old: str, new: str) -> None:
    lake.put("a.parquet", numbers(0, 3))
    numbers(0, 3).with_columns(zone=pl.lit("x")).write_parquet(lake.jobs / "zones.parquet")
    for file, text in PACKAGE.items():
        (lake.jobs / file).parent.mkdir(parents=True, exist_ok=True)
        (lake.jobs / file).write_text(text)
    request: dict[str, Any] = {
        "job": "jobs_main:job",
        "sides": (("zones", str(lake.jobs / "zones.parquet")),),
    }
    first = lake.prepare(**request)
    assert lake.prepare(**request).run_key == first.run_key

    assert old in PACKAGE[name]
    (lake.jobs / name).write_text(PACKAGE[name].replace(old, new))

    assert lake.prepare(**request).run_key != first.run_key


STEPS = """
version = 1
[[steps]]
kind = "derive"
columns = { m = "n + 1" }
"""


@pytest.mark.parametrize("what", ["steps", "side", "partitions", "mode", "source", "version"])
def test_another_request_takes_up_nothing(lake: Lake, what: str) -> None:
    lake.put("a.parquet", numbers(0, 3).with_columns(p=pl.lit("x")))
    side = lake.jobs / "zones.parquet"
    numbers(0, 3).with_columns(zone=pl.lit("x")).write_parquet(side)
    plain = lake.job(
        "jobs_sides", "    return frame.join(zones, on='n', how='left')", signature="frame, zones"
    )
    request: dict[str, Any] = {"job": plain, "sides": (("zones", str(side)),)}
    if what == "steps":
        request = {"steps": StepsText("steps.toml", STEPS)}
    if what == "version":
        for run in range(2):
            table = pl.DataFrame({"n": [run]})
            table.write_delta(str(lake.jobs / "table"), mode="append")
        request = {"sources": (str(lake.jobs / "table"),), "source_version": 0}
    first = lake.process(lake.prepare(**request))
    assert lake.process(lake.prepare(**request)).resumed == len(first.receipts) > 0

    match what:
        case "steps":
            request["steps"] = StepsText("steps.toml", STEPS.replace("n + 1", "n + 2"))
        case "side":
            numbers(0, 3).with_columns(zone=pl.lit("y")).write_parquet(side)
        case "partitions":
            request["partition_by"] = ("p",)
        case "mode":
            request["mode"] = Mode.APPEND
        case "source":
            lake.put("a.parquet", numbers(0, 3).with_columns(p=pl.lit("y")))
        case "version":
            request["source_version"] = 1

    assert lake.process(lake.prepare(**request)).resumed == 0


# Trying again.


def fail_first(monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> list[str]:
    """Let staging fail the first ``times`` times; gives the tries as they come."""
    real, tries = pieces.stage_all, list[str]()

    def flaky(wanted: Any, **options: Any) -> Any:
        tries.append(wanted[0].ref.uri)
        if len(tries) <= times:
            raise error
        return real(wanted, **options)

    monkeypatch.setattr(pieces, "stage_all", flaky)
    return tries


def test_what_may_succeed_later_is_tried_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.put("a.parquet", numbers(0, 3))
    prepared = lake.prepare()
    fail_first(monkeypatch, MAX_TRIES - 1, StoreUnavailable("busy"))

    processed = lake.process(prepared)

    assert processed.retries == MAX_TRIES - 1
    assert lake.progress[-1].retries == MAX_TRIES - 1
    lake.commit(prepared, processed)
    assert lake.numbers() == [0, 1, 2]


def test_tries_are_bounded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.put("a.parquet", numbers(0, 3))
    prepared = lake.prepare()
    tries = fail_first(monkeypatch, 100, StoreUnavailable("busy"))

    with pytest.raises(StoreUnavailable, match="busy"):
        lake.process(prepared)

    assert len(tries) == MAX_TRIES


def test_what_can_never_succeed_is_tried_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.put("a.parquet", numbers(0, 3))
    prepared = lake.prepare()
    tries = fail_first(monkeypatch, 100, SourceChanged("changed"))

    with pytest.raises(SourceChanged, match="changed"):
        lake.process(prepared)

    assert len(tries) == 1


# Worker processes.


def test_worker_processes_need_no_file_of_the_job_and_survive_a_lost_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cluster for all of it: each costs seconds to start."""
    monkeypatch.setattr(scan, "MIN_PART_BYTES", 1)
    candidate = Candidate("local", Device.CPU, True, 2, 1, 1.0)
    with clusters.open(Plan((candidate,))) as cluster:
        carried(Lake(new(tmp_path / "carried"), cluster))
        edited(Lake(new(tmp_path / "edited"), cluster))
        killed_once(Lake(new(tmp_path / "once"), cluster))
        killed_late(Lake(new(tmp_path / "late"), cluster))
        killed_always(Lake(new(tmp_path / "always"), cluster))


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def carried(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))
    (lake.jobs / "jobs_helper.py").write_text("TEN = 10\n")
    spec = lake.job(
        "jobs_carried",
        "    from jobs_helper import TEN\n    return frame.with_columns(pl.col('n') + TEN)",
    )
    prepared = lake.prepare(job=spec)
    for path in lake.jobs.glob("*.py"):
        path.unlink()

    lake.commit(prepared, lake.process(prepared))

    assert lake.numbers() == [10, 11, 12]


def edited(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))
    for plus in (1, 2):
        spec = lake.job("jobs_edited", f"    return frame.with_columns(pl.col('n') + {plus})")
        lake.run(job=spec)
        assert lake.numbers() == [plus, plus + 1, plus + 2]


KILL = """\
    import pathlib
    marker = pathlib.Path({marker!r})
    if os.getpid() != {driver} and not marker.exists():
        {mark}
        os.kill(os.getpid(), 9)
    return frame"""


def killed_once(lake: Lake) -> None:
    for number in range(4):
        lake.put(f"{number}.parquet", numbers(number, number + 1))
    marker = str(lake.jobs / "killed")
    body = KILL.format(marker=marker, mark="marker.touch()", driver=os.getpid())
    prepared = lake.prepare(job=lake.job("jobs_once", body))

    processed = lake.process(prepared)

    assert Path(marker).exists()
    assert processed.retries >= 1
    lake.commit(prepared, processed)
    assert lake.numbers() == [0, 1, 2, 3]


KILL_LATE = """\
    import pathlib
    import uuid
    if os.getpid() != {driver}:
        jobs = pathlib.Path({jobs!r})
        (jobs / ("ran-" + uuid.uuid4().hex)).touch()
        done = list(pathlib.Path({target!r}).glob("_headwater/runs/*/part-*.json"))
        if len(done) >= 4 and not (jobs / "killed").exists():
            (jobs / "killed").touch()
            os.kill(os.getpid(), 9)
    return frame"""


def killed_late(lake: Lake) -> None:
    """What a worker had finished before it was lost is not done again."""
    for number in range(8):
        lake.put(f"{number}.parquet", numbers(number, number + 1))
    body = KILL_LATE.format(driver=os.getpid(), jobs=str(lake.jobs), target=str(lake.target))
    prepared = lake.prepare(job=lake.job("jobs_late", body))
    cluster = lake.cluster

    processed = process(cluster.client, prepared, cluster.candidate, cut_bytes=1)

    assert (lake.jobs / "killed").exists()
    assert processed.retries == 1
    assert len(list(lake.jobs.glob("ran-*"))) == 8 + 1
    assert len({receipt.worker for receipt in processed.receipts}) >= 2
    lake.commit(prepared, processed)
    assert lake.numbers() == list(range(8))


def killed_always(lake: Lake) -> None:
    lake.put("a.parquet", numbers(0, 3))
    body = KILL.format(marker="/no/marker", mark="pass", driver=os.getpid())

    with pytest.raises(WorkerLost, match="its worker died 3 times, probably for lack of memory"):
        lake.process(lake.prepare(job=lake.job("jobs_always", body)))

    assert lake.nothing_committed
