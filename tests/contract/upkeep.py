"""What upkeep must do in every store. Each store is a short subclass with its ``root``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from tests.contract.datasets import (
    after_first_try,
    before_first_try,
    by_deltalake,
    by_headwater,
    by_polars,
    keyed,
    numbers,
    write,
)

from headwater.infra.errors import InvalidRequest, NotFound
from headwater.infra.models import Device, Format, Mode, Part, PartFile, PartReceipt
from headwater.infra.storage.datasets import Commit, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.plain import PlainFolder
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.uris import Uri
from headwater.infra.storage.vacuum import GRACE, RETENTION, Kind, plan_vacuum, vacuum
from headwater.tasks.compact import compact, plan_compaction
from headwater.tasks.delete import Deletion, delete_rows, find_rows
from headwater.tasks.write import PartWriter

RUN_KEY = "feedfacecafe" + "0" * 20
MARGIN = timedelta(hours=1)


class UpkeepContract:
    """Subclasses give ``root``, an address where nothing is."""

    @pytest.fixture
    def root(self) -> Uri:
        raise NotImplementedError

    @pytest.fixture
    def dataset(self, root: Uri) -> Dataset:
        return Dataset(root)

    @pytest.fixture
    def put(self, dataset: Dataset, tmp_path: Path) -> Callable[..., Commit]:
        """Write rows and commit them, as one run does."""

        def put(
            frame: pl.DataFrame,
            app_id: str,
            mode: Mode = Mode.OVERWRITE,
            *,
            partition_by: Sequence[str] = (),
            files: Sequence[PartFile] | None = None,
        ) -> Commit:
            parts = write(dataset, frame, partition_by, tmp_path) if files is None else files
            return dataset.commit(
                parts,
                schema=frame.schema,
                partition_by=partition_by,
                mode=mode,
                app_id=app_id,
                revision=1,
                metadata={"run": app_id, "rows": frame.height},
            )

        return put

    @pytest.fixture
    def rows(self, root: Uri, tmp_path: Path) -> Callable[[], list[Any]]:
        """Rows as all readers see them; they must agree."""

        def rows() -> list[Any]:
            read = by_headwater(root, tmp_path)
            for other in (by_deltalake(root), by_polars(root)):
                assert other.schema == read.schema
                assert Counter(other.rows()) == Counter(read.rows())
            if root.is_local:
                dataset = DeltaTable(root.key).to_pyarrow_dataset()
                found = duckdb.from_arrow(dataset).pl().select(read.columns)
                assert Counter(found.rows()) == Counter(read.rows())
            return sorted(read.rows() if read.width > 1 else read.to_series(), key=repr)

        return rows

    # Vacuum.

    def test_files_of_old_versions_go_and_the_last_version_stays(
        self, put: Any, rows: Any, dataset: Dataset, tmp_path: Path, root: Uri
    ) -> None:
        put(numbers(0, 3), "a")
        put(numbers(3, 5), "b")
        put(numbers(5, 9), "c", Mode.APPEND)

        plan = plan_vacuum(dataset, now=after(dataset, RETENTION + MARGIN))
        assert (plan.version, plan.readable_from, plan.lost) == (3, 2, ((1, 1),))
        assert Counter(one.kind for one in plan.garbage) == {Kind.OLD_VERSION: 1}
        assert rows() == [3, 4, 5, 6, 7, 8]  # a plan removes nothing
        done = vacuum(dataset, plan)

        assert done == plan.garbage
        assert rows() == [3, 4, 5, 6, 7, 8]
        assert sorted(by_headwater(root, tmp_path, version=2)["n"]) == [3, 4]
        with pytest.raises(NotFound):
            by_headwater(root, tmp_path, version=1)
        assert plan_vacuum(dataset, now=plan.now).garbage == ()

    def test_parts_and_state_of_a_run_that_was_given_up_go(
        self, put: Any, rows: Any, dataset: Dataset, tmp_path: Path, root: Uri
    ) -> None:
        put(numbers(0, 3), "a")
        (part,) = write(dataset, numbers(100, 200), (), tmp_path)
        leave_run(dataset, part)
        open_filesystem(root).write(root / "notes.txt", b"mine")

        plan = plan_vacuum(dataset, now=after(dataset, GRACE + MARGIN))
        vacuum(dataset, plan)

        assert Counter(one.kind for one in plan.garbage) == {Kind.ORPHAN: 1, Kind.RUN: 2}
        assert part.path in {one.path for one in plan.garbage}
        assert (plan.lost, rows()) == ((), [0, 1, 2])
        left = {root.relative(Uri.parse(r.uri)) for r in open_filesystem(root).list(root)}
        assert "notes.txt" in left
        assert not any(path.startswith("_headwater/") for path in left)

    def test_what_came_to_be_needed_since_the_plan_is_spared(
        self, put: Any, rows: Any, dataset: Dataset, tmp_path: Path
    ) -> None:
        put(numbers(0, 3), "a")
        named = write(dataset, numbers(3, 5), (), tmp_path)
        (taken,) = write(dataset, numbers(5, 7), (), tmp_path)
        folder = leave_run(dataset, taken)

        plan = plan_vacuum(dataset, now=after(dataset, GRACE + MARGIN))
        assert {f.path for f in (*named, taken)} <= {one.path for one in plan.garbage}
        put(numbers(3, 5), "b", Mode.APPEND, files=named)
        folder.agree_on_parts([Part(0, ())])  # a later attempt of the run
        vacuum(dataset, plan)
        receipts = folder.finished()
        put(numbers(5, 7), "c", Mode.APPEND, files=receipts[0].files)

        assert rows() == [0, 1, 2, 3, 4, 5, 6]

    # Delete.

    def test_matching_rows_go_and_null_ones_stay(
        self, put: Any, rows: Any, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        frame = pl.DataFrame({"n": [1, 2, None, 4]}, schema={"n": pl.Int64})
        put(frame, "a")
        put(numbers(5, 7), "b", Mode.APPEND)
        put(numbers(0, 2), "c", Mode.APPEND)

        found = find_rows(dataset, "n >= 4")
        assert (found.rows, len(found.touched), found.version) == (3, 2, 3)
        done = delete_rows(dataset, "n >= 4", known=found)

        assert done == Deletion(version=4, rows=3, rewritten=1, removed=1)
        assert rows() == [0, 1, 1, 2, None]
        assert sorted(by_headwater(root, tmp_path, version=3)["n"].drop_nulls()) == [
            *(0, 1, 1, 2, 4, 5, 6)
        ]
        assert delete_rows(dataset, "n >= 4") == Deletion(None, 0, 0, 0)
        newest = next(dataset.log())
        assert (newest.version, newest.operation, newest.changes_data) == (4, "DELETE", True)

    def test_what_a_racing_writer_adds_is_searched_too(
        self, put: Any, rows: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(numbers(0, 4), "a")
        before_first_try(monkeypatch, lambda: put(numbers(2, 7), "late", Mode.APPEND))

        done = delete_rows(dataset, "n = 3 OR n > 5")

        assert (done.version, done.rows) == (3, 3)
        assert rows() == [0, 1, 2, 2, 4, 5]
        assert orphans(dataset) == set()

    def test_a_deletion_whose_answer_is_lost_is_recognised(
        self, put: Any, rows: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(numbers(0, 4), "a")
        after_first_try(monkeypatch, OSError("connection reset by peer"))

        assert delete_rows(dataset, "n = 3").version == 2
        assert rows() == [0, 1, 2]

    # Compact.

    def test_small_files_become_one_of_each_partition_and_no_row_changes(
        self, put: Any, rows: Any, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        put(keyed({"a/b": [1], None: [2]}), "a", Mode.APPEND, partition_by=["p"])
        put(keyed({"a/b": [3], None: [4]}), "b", Mode.APPEND, partition_by=["p"])
        put(keyed({"alone": [5]}), "c", Mode.APPEND, partition_by=["p"])
        before = rows()
        entry = next(dataset.log())

        planned = plan_compaction(dataset)
        done = compact(dataset)

        assert (planned.before, planned.after, planned.left, planned.rows) == (4, 2, 1, 4)
        assert (done.version, done.before, done.after, done.rows) == (4, 4, 2, 4)
        assert rows() == before
        assert dataset.is_latest_data(entry)
        newest = next(dataset.log())
        assert (newest.operation, newest.changes_data) == ("OPTIMIZE", False)
        assert sorted(by_headwater(root, tmp_path, version=3).rows(), key=repr) == before
        assert compact(dataset).version is None
        assert orphans(dataset) == set()

    def test_compacting_beside_writers_keeps_what_they_did(
        self, put: Any, rows: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in (1, 2):
            put(keyed({"x": [number], "y": [number]}), f"{number}", Mode.APPEND, partition_by=["p"])
        late = keyed({"y": [9]})
        before_first_try(monkeypatch, lambda: put(late, "late", Mode.REPLACE, partition_by=["p"]))

        done = compact(dataset)

        assert (done.version, done.before, done.after, done.lost) == (4, 2, 1, 2)
        assert rows() == [("x", 1), ("x", 2), ("y", 9)]
        assert orphans(dataset) == set()

    # Plain Parquet.

    def test_a_plain_folder_is_written_once_and_is_whole(self, root: Uri, tmp_path: Path) -> None:
        folder = PlainFolder(root)
        frame = keyed({"x": [1, 2], "50%": [3], None: [4]})

        assert folder.require_free(RUN_KEY) is None
        leave_run(Dataset(root))
        left_by_another_attempt = write_plain(root, frame, tmp_path, index=7)
        files = write_plain(root, frame, tmp_path)
        assert folder.require_free(RUN_KEY) is None
        assert {f.path for f in files} == {f.path for f in write_plain(root, frame, tmp_path)}
        files = write_plain(root, frame, tmp_path)
        done = folder.finish(files, run_key=RUN_KEY, run="first")

        assert (done.already, done.dataset.version, done.dataset.rows) == (False, None, 4)
        names = {root.relative(Uri.parse(r.uri)) for r in open_filesystem(root).list(root)}
        assert names == {*(f.path for f in files), "_SUCCESS"}
        assert not names & {f.path for f in left_by_another_attempt}
        read = by_headwater(root, tmp_path)
        assert Counter(read.select("p", "n").rows()) == Counter(frame.rows())
        again = folder.require_free(RUN_KEY)
        assert again == done.dataset
        assert folder.finish(files, run_key=RUN_KEY, run="second").already
        with pytest.raises(InvalidRequest, match="is not empty, and plain Parquet is never"):
            folder.require_free("0" * 32)


def write_plain(
    root: Uri, frame: pl.DataFrame, tmp: Path, *, index: int = 0
) -> tuple[PartFile, ...]:
    """One attempt at a part of a plain folder, as a worker writes it."""
    writer = PartWriter(root, RUN_KEY, index, tmp, Format.PARQUET)
    writer.sink(frame.lazy(), ["p"])
    return writer.publish()


def orphans(dataset: Dataset) -> set[str]:
    """Parts that no version names."""
    plan = plan_vacuum(dataset, force=True, now=after(dataset, GRACE + MARGIN))
    return {one.path for one in plan.garbage if one.kind is Kind.ORPHAN}


def after(dataset: Dataset, span: timedelta) -> float:
    """The store's time when ``span`` has passed."""
    offset = open_filesystem(dataset.uri).clock_offset_seconds(dataset.uri)
    return time.time() + offset + span.total_seconds()


def leave_run(dataset: Dataset, *files: PartFile) -> RunFolder:
    """The state that an unfinished run leaves: its list, and a receipt for each file."""
    folder = RunFolder(dataset.uri, RUN_KEY)
    folder.agree_on_parts([Part(0, ())])
    for index, file in enumerate(files):
        folder.leave(
            PartReceipt(
                index, (file,), file.rows, file.rows, 0, file.size_bytes, {}, "", Device.CPU
            )
        )
    return folder
