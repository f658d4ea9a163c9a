"""The contract of upkeep, on files of this machine, and what only their times can show."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from tests.contract.datasets import (
    by_headwater,
    by_polars,
    keyed,
    numbers,
    table_log,
    write,
    write_log,
)
from tests.contract.upkeep import (
    MARGIN,
    RUN_KEY,
    UpkeepContract,
    after,
    leave_run,
    orphans,
    write_plain,
)

from headwater.infra.errors import (
    CommitConflict,
    DamagedFile,
    InvalidRequest,
    UnknownName,
    UnsupportedData,
)
from headwater.infra.models import Mode
from headwater.infra.storage.datasets import CHECKPOINT_INTERVAL, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.plain import PlainFolder
from headwater.infra.storage.uris import Uri
from headwater.infra.storage.vacuum import RETENTION, Kind, plan_vacuum, vacuum
from headwater.tasks.compact import compact, groups
from headwater.tasks.delete import delete_rows, find_rows


class TestLocal(UpkeepContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake" / "table"))

    # What does not depend on the store.

    def test_nothing_goes_before_its_time(self, put: Any, dataset: Dataset) -> None:
        put(numbers(0, 3), "a")
        put(numbers(3, 5), "b")
        leave_run(dataset)

        plan = plan_vacuum(dataset)
        almost = plan_vacuum(dataset, now=after(dataset, RETENTION - MARGIN))

        assert (plan.garbage, plan.lost, plan.kept_runs) == ((), (), 1)
        assert almost.garbage == ()

    def test_a_shorter_retention_is_refused_unless_forced(self, put: Any, dataset: Dataset) -> None:
        put(numbers(0, 3), "a")
        put(numbers(3, 5), "b")

        with pytest.raises(InvalidRequest, match=r"a retention of 1 day is shorter than the 7"):
            plan_vacuum(dataset, retention=timedelta(days=1))
        with pytest.raises(InvalidRequest, match=r"a grace of 0 days is shorter than 1 day"):
            plan_vacuum(dataset, grace=timedelta(0))

        later = after(dataset, timedelta(days=2))
        plan = plan_vacuum(dataset, retention=timedelta(days=1), force=True, now=later)
        assert len(plan.garbage) == 1

    def test_versions_that_lose_no_file_stay_readable(
        self, put: Any, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        put(keyed({"x": [1], "y": [2]}), "a", partition_by=["p"])
        put(keyed({"z": [3]}), "b", Mode.APPEND, partition_by=["p"])
        put(keyed({"x": [4]}), "c", Mode.REPLACE, partition_by=["p"])

        plan = plan_vacuum(dataset, now=after(dataset, RETENTION + MARGIN))

        assert (plan.lost, plan.readable_from) == (((1, 2),), 3)
        vacuum(dataset, plan)
        assert sorted(by_headwater(root, tmp_path).rows()) == [("x", 4), ("y", 2), ("z", 3)]
        again = plan_vacuum(dataset)
        assert (again.lost, again.readable_from) == ((), 3)

    def test_rows_go_by_partition_with_their_exact_value(
        self, put: Any, rows: Any, dataset: Dataset
    ) -> None:
        put(keyed({"a/b": [1, 2], "50%": [3], None: [4]}), "a", partition_by=["p"])

        done = delete_rows(dataset, "p = 'a/b' OR n = 3")
        put(keyed({"a/b": [5]}), "b", Mode.APPEND, partition_by=["p"])
        again = delete_rows(dataset, "p IS NULL")

        assert (done.rows, done.removed, again.rows) == (3, 2, 1)
        assert rows() == [("a/b", 5)]

    def test_two_attempts_at_a_plain_folder_do_not_mix(self, root: Uri, tmp_path: Path) -> None:
        folder = PlainFolder(root)
        files = write_plain(root, keyed({"x": [1, 2]}), tmp_path)
        open_filesystem(root).write(root / files[0].path, b"of another attempt")

        with pytest.raises(CommitConflict, match="another attempt of this run"):
            folder.finish(files, run_key=RUN_KEY, run="first")
        files = write_plain(root, keyed({"x": [1, 2]}), tmp_path)
        open_filesystem(root).write(root / "mine.parquet", b"thesis")
        with pytest.raises(CommitConflict, match=r"another writer put 'mine\.parquet'"):
            folder.finish(files, run_key=RUN_KEY, run="first")
        left = {root.relative(Uri.parse(r.uri)) for r in open_filesystem(root).list(root)}
        assert left == {files[0].path, "mine.parquet"}

    # Vacuum, with files whose age is set.

    def test_each_version_stays_for_the_retention_after_it_was_superseded(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        for number in range(1, 5):
            put(numbers(number, number + 1), f"run-{number}")
        age(root.path / "_delta_log", {1: 30, 2: 20, 3: 6, 4: 1})

        plan = plan_vacuum(dataset)

        # Version 2 was the last one until 6 days ago, version 1 until 20 days ago.
        assert (plan.readable_from, plan.lost, len(plan.garbage)) == (2, ((1, 1),), 1)

    def test_log_entries_before_a_needed_checkpoint_go_with_their_age(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        last = CHECKPOINT_INTERVAL + 3
        for number in range(1, last + 1):
            put(numbers(number, number + 1), f"run-{number}", Mode.APPEND)
        log = root.path / "_delta_log"
        (checkpoint,) = (int(path.name[:20]) for path in log.glob("*.checkpoint.parquet"))
        age(log, dict.fromkeys(range(last), 40))

        plan = plan_vacuum(dataset)
        vacuum(dataset, plan)

        assert {one.kind for one in plan.garbage} == {Kind.LOG}
        assert plan.lost == ((1, checkpoint - 1),)
        assert min(int(p.name[:20]) for p in log.glob("*.json")) == checkpoint
        assert sorted(by_polars(root)["n"]) == list(range(1, last + 1))
        assert dataset.snapshot(checkpoint + 1).rows == checkpoint + 1  # type: ignore[union-attr]  # that version is there
        assert dataset.committed("run-1") == (1, None)
        # What is left of the log is enough for the next one, and for the next commit.
        put(numbers(0, 1), "over")
        age(log, dict.fromkeys(range(last + 2), 9))
        again = plan_vacuum(dataset)
        assert (again.lost, again.readable_from) == (((checkpoint, last),), last + 1)

    def test_a_log_that_its_owner_keeps_stays(self, put: Any, dataset: Dataset, root: Uri) -> None:
        for number in range(1, CHECKPOINT_INTERVAL + 2):
            put(numbers(number, number + 1), f"run-{number}", Mode.APPEND)
        DeltaTable(root.key).alter.set_table_properties({"delta.enableExpiredLogCleanup": "false"})
        age(root.path / "_delta_log", dict.fromkeys(range(CHECKPOINT_INTERVAL + 3), 40))

        assert plan_vacuum(dataset).garbage == ()

    def test_the_tables_own_retention_counts(self, put: Any, dataset: Dataset, root: Uri) -> None:
        put(numbers(0, 3), "a")
        put(numbers(3, 5), "b")
        properties = {"delta.deletedFileRetentionDuration": "interval 30 days"}
        DeltaTable(root.key).alter.set_table_properties(properties)
        age(root.path / "_delta_log", dict.fromkeys(range(4), 20))

        assert plan_vacuum(dataset).garbage == ()
        with pytest.raises(InvalidRequest, match="shorter than the 30 days"):
            plan_vacuum(dataset, retention=timedelta(days=7))

    def test_parts_of_a_young_run_stay_whatever_their_age(
        self, put: Any, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        put(numbers(0, 3), "a")
        leave_run(dataset, *write(dataset, numbers(3, 5), (), tmp_path))
        for part in (root.path / "data").iterdir():
            set_age(part, 9)

        plan = plan_vacuum(dataset)

        assert (plan.garbage, plan.kept_runs) == ((), 1)

    def test_a_run_that_is_taken_up_while_its_state_goes_does_its_parts_anew(
        self, put: Any, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        put(numbers(0, 3), "a")
        folder = leave_run(dataset, *write(dataset, numbers(3, 5), (), tmp_path))
        for path in [*(root.path / "data").iterdir(), *root.path.glob("_headwater/runs/*/*")]:
            set_age(path, 9)
        plan = plan_vacuum(dataset)

        # The receipt goes first; what comes after it may no longer find it.
        vacuum(dataset, plan)

        assert folder.finished() == {}
        assert not list(root.path.glob("_headwater/runs/*/*"))

    def test_a_table_inside_the_table_is_left_alone(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        put(numbers(0, 3), "a")
        numbers(0, 2).write_delta(str(root.path / "inner"))
        for path in (root.path / "inner").rglob("*"):
            set_age(path, 99)

        plan = plan_vacuum(dataset)

        assert (plan.garbage, plan.foreign) == ((), 1)

    def test_a_feature_that_may_need_other_files_is_refused_by_name(
        self, dataset: Dataset, root: Uri
    ) -> None:
        log = table_log([], {})
        log[0]["protocol"] |= {"minReaderVersion": 1, "writerFeatures": ["icebergCompatV1"]}
        del log[0]["protocol"]["readerFeatures"]
        write_log(root, log)

        with pytest.raises(UnsupportedData, match="icebergCompatV1"):
            plan_vacuum(dataset)

    # Delete and compact.

    @pytest.mark.parametrize(
        ("where", "error", "said"),
        [
            ("m > 1", UnknownName, "no column 'm'"),
            ("n > SUM(n)", InvalidRequest, "does not look at one row"),
            ("n + 1", InvalidRequest, "not Boolean"),
            ("NULL", InvalidRequest, "not Boolean"),
            ("n >", InvalidRequest, "is no expression"),
        ],
    )
    def test_a_condition_that_is_none_is_refused(
        self, put: Any, dataset: Dataset, where: str, error: type[Exception], said: str
    ) -> None:
        put(numbers(0, 3), "a")

        with pytest.raises(error, match=said):
            find_rows(dataset, where)

    def test_every_row_may_go_and_none(self, put: Any, rows: Any, dataset: Dataset) -> None:
        put(numbers(0, 3), "a")

        assert delete_rows(dataset, "FALSE").version is None
        assert delete_rows(dataset, "TRUE").rows == 3
        assert rows() == []

    @pytest.mark.parametrize("name", ["delta.appendOnly", "delta.enableChangeDataFeed"])
    def test_a_table_that_forbids_it_is_refused_by_name(
        self, put: Any, dataset: Dataset, root: Uri, name: str
    ) -> None:
        put(numbers(0, 3), "a")
        put(numbers(3, 5), "b", Mode.APPEND)
        DeltaTable(root.key).alter.set_table_properties({name: "true"})

        with pytest.raises(UnsupportedData, match=r"no row of the table|a feed of its changes"):
            delete_rows(dataset, "n = 1")
        assert compact(dataset).after == 1  # which changes no row

    def test_types_and_the_order_of_rows_are_kept(
        self, put: Any, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        frames = [odd_rows(start) for start in (0, 3, 6)]
        for number, frame in enumerate(frames):
            put(frame, f"run-{number}", Mode.APPEND)
        before = by_polars(root)

        compact(dataset)

        (file,) = DeltaTable(root.key).file_uris()
        written = pl.read_parquet(file)
        assert written.schema == frames[0].schema
        assert written.sort("n").equals(pl.concat(frames))
        assert by_polars(root).sort("n").equals(before.sort("n"))
        assert [n % 3 for n in written["n"]] == [0, 1, 2] * 3

    def test_a_damaged_file_stops_it_and_is_named(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        put(numbers(0, 3), "a", Mode.APPEND)
        put(numbers(3, 5), "b", Mode.APPEND)
        broken = min((root.path / "data").iterdir())
        data = broken.read_bytes()
        broken.write_bytes(data[:4] + b"\xff" * 30 + data[34:])

        with pytest.raises(DamagedFile, match=broken.name):
            compact(dataset)
        with pytest.raises(DamagedFile, match=broken.name):
            delete_rows(dataset, "n % 2 = 0")
        assert orphans(dataset) == set()

    @pytest.mark.parametrize(
        "what",
        ["delete_rows(d, 'n % 2 = 0')", pytest.param("compact(d)", marks=pytest.mark.trial)],
    )
    def test_killed_before_its_commit_it_leaves_only_what_a_vacuum_takes(
        self, put: Any, rows: Any, dataset: Dataset, root: Uri, what: str
    ) -> None:
        for number in range(3):
            put(numbers(number * 2, number * 2 + 2), f"run-{number}", Mode.APPEND)
        script = (
            "import os, signal\n"
            "from headwater.infra.storage.datasets import Dataset\n"
            "from headwater.infra.storage.uris import Uri\n"
            "from headwater.tasks import compact as c, delete as e\n"
            "from headwater.tasks.compact import compact\n"
            "from headwater.tasks.delete import delete_rows\n"
            "c.commit_rewrites = e.commit_rewrites = (\n"
            "    lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n)\n"
            f"d = Dataset(Uri.parse({root.key!r}))\n"
            f"{what}\n"
        )
        done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)

        assert done.returncode == -9
        assert rows() == [0, 1, 2, 3, 4, 5]
        assert len(orphans(dataset)) >= 1
        compact(dataset)
        assert rows() == [0, 1, 2, 3, 4, 5]

    def test_groups_are_neighbours_of_one_partition_up_to_the_target(
        self, put: Any, dataset: Dataset
    ) -> None:
        for number in range(6):
            put(numbers(number, number + 1), f"run-{number}", Mode.APPEND)
        snapshot = dataset.snapshot()
        assert snapshot is not None
        (size,) = {file.size_bytes for file in snapshot.files}

        found = groups(snapshot.files, 2 * size + 1)

        assert [len(group) for group in found] == [2, 2, 2]
        assert [f for group in found for f in group] == list(snapshot.files)
        assert groups(snapshot.files, size) == ()  # large enough already


def age(log: Path, days: dict[int, float]) -> None:
    """Let the files of these versions have been written so many days ago."""
    for path in log.iterdir():
        if path.name[:20].isdigit() and (version := int(path.name[:20])) in days:
            set_age(path, days[version])


def set_age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def odd_rows(start: int) -> pl.DataFrame:
    """Three rows of types that are easily changed on the way."""
    return pl.DataFrame({"n": [start, start + 1, start + 2]}).select(
        "n",
        pl.col("n").cast(pl.Int8).alias("small"),
        pl.when(pl.col("n") % 2 == 0).then(float("nan")).alias("nan"),
        (pl.col("n") / 8).cast(pl.Decimal(38, 3)).alias("decimal"),
        pl.from_epoch(pl.col("n"), "us").dt.replace_time_zone("UTC").alias("at"),
        pl.from_epoch(pl.col("n"), "us").cast(pl.Datetime("us")).alias("local"),
        pl.col("n").cast(pl.String).cast(pl.Binary).alias("bytes"),
        pl.concat_list("n", pl.lit(None, pl.Int64)).alias("list"),
        pl.struct(a="n", b=pl.lit(None, pl.String)).alias("struct"),
    )
