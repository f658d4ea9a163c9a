"""What a dataset must do in every store. Each store is a short subclass with its ``root``."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import deltalake
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from headwater.infra.errors import (
    CommitConflict,
    DamagedFile,
    NotFound,
    SchemaMismatch,
    StoreUnavailable,
    UnknownName,
    UnsupportedData,
)
from headwater.infra.models import Drift, Mode, PartFile
from headwater.infra.storage.datasets import CHECKPOINT_INTERVAL, Commit, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.types import NULL_FOLDER
from headwater.infra.storage.uris import Uri
from headwater.tasks.write import PartWriter

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"

ODD_TEXTS = (
    None,
    "a/b",
    "50%",
    "=",
    ":",
    " ",
    COMPOSED,
    DECOMPOSED,
    "007",
    "a%2Fb",
    "ü#?",
    "null",
    "a=b",
    "..",
    "'",
    "[x]*",
    "\u65e5\u672c",
)

PARTITION_VALUES: dict[str, pl.Series] = {
    "text": pl.Series("p", ODD_TEXTS, pl.String),
    "int64": pl.Series("p", [None, -7, 0, 7, 2**63 - 1], pl.Int64),
    "int8": pl.Series("p", [None, -128, 127], pl.Int8),
    "boolean": pl.Series("p", [None, True, False], pl.Boolean),
    "date": pl.Series("p", [None, dt.date(2013, 1, 2), dt.date(1066, 10, 14)], pl.Date),
}

RACERS = 12


def write(
    dataset: Dataset, frame: pl.DataFrame, partition_by: Sequence[str], tmp: Path
) -> list[PartFile]:
    """Parts with the rows of ``frame``, as a worker writes them."""
    writer = PartWriter(dataset.uri, "feedfacecafe", 0, tmp)
    writer.sink(frame.lazy(), partition_by)
    return list(writer.publish())


def by_deltalake(uri: Uri) -> pl.DataFrame:
    fs = open_filesystem(uri)
    table = DeltaTable(fs.delta_uri(uri), storage_options=fs.delta_options(uri))
    read = pl.from_arrow(table.to_pyarrow_table())
    assert isinstance(read, pl.DataFrame)
    return read


def by_polars(uri: Uri) -> pl.DataFrame:
    fs = open_filesystem(uri)
    options = fs.delta_options(uri)
    lazy = pl.scan_delta(fs.delta_uri(uri), storage_options=options, credential_provider=None)
    return lazy.collect()


def by_headwater(uri: Uri, tmp: Path, version: int | None = None) -> pl.DataFrame:
    source = open_input([str(uri)], version=version)
    frames = [pl.DataFrame(schema=source.schema)]
    for number, file in enumerate(source.files):
        path = tmp / f"read-{threading.get_ident()}-{number}.parquet"
        open_filesystem(uri).download(file.ref, path)
        frames.append(read_slice(path, source, partition=file.partition).collect())
        path.unlink()
    return pl.concat(frames)


def numbers(start: int, stop: int) -> pl.DataFrame:
    return pl.DataFrame({"n": range(start, stop)}, schema={"n": pl.Int64})


def keyed(rows: dict[str | None, list[int]]) -> pl.DataFrame:
    """One row for each number, with its key in the column ``p``."""
    pairs = [(key, number) for key, values in rows.items() for number in values]
    return pl.DataFrame(pairs, schema={"p": pl.String, "n": pl.Int64}, orient="row")


class DatasetContract:
    """Subclasses give ``root``, an address where nothing is."""

    race_rounds: ClassVar[int] = 5
    long_log: ClassVar[int] = 2 * CHECKPOINT_INTERVAL + 5
    versions: ClassVar[int] = 12

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
            revision: int = 1,
            to: Dataset | None = None,
            run: str = "",
            drift: Drift = Drift.STRICT,
        ) -> Commit:
            where = to or dataset
            files = write(where, frame, partition_by, tmp_path)
            return where.commit(
                files,
                schema=frame.schema,
                partition_by=partition_by,
                mode=mode,
                app_id=app_id,
                revision=revision,
                metadata={"run": run or app_id, "rows": frame.height},
                drift=drift,
            )

        return put

    @pytest.fixture
    def rows(self, root: Uri, tmp_path: Path) -> Callable[[], list[Any]]:
        """Rows as three readers see them; they must agree."""

        def rows() -> list[Any]:
            read = by_headwater(root, tmp_path)
            for other in (by_deltalake(root), by_polars(root)):
                assert other.schema == read.schema, (other.schema, read.schema)
                assert Counter(other.rows()) == Counter(read.rows())
            found = read.rows() if read.width > 1 else read.to_series().to_list()
            return sorted(found, key=repr)

        return rows

    # New columns.

    def test_a_new_column_comes_with_the_rows_that_have_it_in_one_version(
        self, put: Any, rows: Any, root: Uri, tmp_path: Path
    ) -> None:
        first = put(numbers(0, 2), "a")
        fs = open_filesystem(root)
        before = DeltaTable(fs.delta_uri(root), storage_options=fs.delta_options(root)).metadata()
        at = dt.datetime(1066, 10, 14, 12, 30, 0, 1)
        new = pl.DataFrame({"n": [2], "s": ["x"], "at": [at]})
        done = put(new, "b", Mode.APPEND, drift=Drift.WIDEN)
        again = put(new, "b", Mode.APPEND, drift=Drift.WIDEN, run="another")

        assert rows() == [(0, None, None), (1, None, None), (2, "x", at)]
        assert (done.dataset.version, again.dataset.version) == (first.dataset.version + 1,) * 2
        assert (done.already, again.already) == (False, True)
        assert by_headwater(root, tmp_path, first.dataset.version).rows() == [(0,), (1,)]
        after = DeltaTable(fs.delta_uri(root), storage_options=fs.delta_options(root)).metadata()
        assert (after.id, after.configuration) == (before.id, before.configuration)
        put(new, "c", Mode.APPEND)  # the log goes on as any other
        assert len(rows()) == 4

    def test_a_new_column_in_partitions_that_are_replaced(self, put: Any, rows: Any) -> None:
        put(keyed({"x": [1, 2], "y": [3]}), "a", partition_by=["p"])
        new = keyed({"x": [5]}).with_columns(s=pl.lit("new"))
        put(new, "b", Mode.REPLACE, partition_by=["p"], drift=Drift.WIDEN)

        assert rows() == [("x", 5, "new"), ("y", 3, None)]

    def test_racing_writers_of_new_columns_all_commit(
        self, put: Any, rows: Any, root: Uri, tmp_path: Path
    ) -> None:
        put(numbers(0, 1), "a")

        def append(number: int) -> None:
            frame = pl.DataFrame({"n": [number], "s": [number]})
            put(frame, f"w{number}", Mode.APPEND, to=Dataset(root), drift=Drift.WIDEN)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(append, [1, 2, 3]))

        assert rows() == [(0, None), (1, 1), (2, 2), (3, 3)]

    def test_rows_that_a_table_cannot_take_are_told_apart(self, put: Any, dataset: Dataset) -> None:
        put(numbers(0, 1), "a")

        for new, said in (
            (pl.DataFrame({"n": ["x"]}), "n: Int64 there, String here"),
            (pl.DataFrame({"n": [1], "N": [2]}), "N: missing there, Int64 here"),
        ):
            with pytest.raises(SchemaMismatch, match=said):
                dataset.evolve(new.schema, [], Mode.APPEND, Drift.WIDEN)
        columns = pl.Schema({"n": pl.Int64(), "s": pl.String()})
        with pytest.raises(SchemaMismatch, match="s: missing there"):
            dataset.evolve(columns, [], Mode.APPEND, Drift.STRICT)

    # Modes.

    def test_a_commit_is_read_back_by_every_reader(self, put: Any, rows: Any) -> None:
        done = put(numbers(0, 3), "a")

        assert rows() == [0, 1, 2]
        assert not done.already
        assert (done.dataset.version, done.dataset.rows, done.dataset.files) == (1, 3, 1)

    def test_overwriting_with_fewer_rows_leaves_no_old_one(self, put: Any, rows: Any) -> None:
        put(numbers(0, 9), "a")
        put(numbers(9, 10), "b")

        assert rows() == [9]

    def test_appending_keeps_the_old_rows(self, put: Any, rows: Any) -> None:
        put(numbers(0, 2), "a", Mode.APPEND)
        done = put(numbers(2, 3), "b", Mode.APPEND)

        assert rows() == [0, 1, 2]
        assert done.dataset.rows == 3

    def test_replacing_takes_only_the_partitions_of_the_new_rows(self, put: Any, rows: Any) -> None:
        put(keyed({"x": [1, 2], "y": [3], None: [4]}), "a", partition_by=["p"])
        put(keyed({"x": [5], "z": [6]}), "b", Mode.REPLACE, partition_by=["p"])

        assert rows() == sorted([("x", 5), ("y", 3), ("z", 6), (None, 4)], key=repr)

    def test_replacing_the_null_partition_leaves_the_others(self, put: Any, rows: Any) -> None:
        put(keyed({"x": [1], None: [2, 3]}), "a", partition_by=["p"])
        put(keyed({None: [4]}), "b", Mode.REPLACE, partition_by=["p"])

        assert rows() == sorted([("x", 1), (None, 4)], key=repr)

    def test_replacing_keeps_combinations_that_the_new_rows_do_not_have(
        self, put: Any, rows: Any
    ) -> None:
        schema = {"p": pl.String, "q": pl.Int64, "n": pl.Int64}
        old = [("x", 1, 10), ("x", 2, 20), ("y", 1, 30), ("y", 2, 40), ("x", None, 50)]
        new = [("x", 2, 21), ("y", 1, 31)]
        put(pl.DataFrame(old, schema=schema, orient="row"), "a", partition_by=["p", "q"])
        put(
            pl.DataFrame(new, schema=schema, orient="row"),
            "b",
            Mode.REPLACE,
            partition_by=["p", "q"],
        )

        kept = [("x", 1, 10), ("y", 2, 40), ("x", None, 50)]
        assert rows() == sorted(kept + new, key=repr)

    def test_a_commit_without_rows_is_a_version_with_a_schema(self, put: Any, rows: Any) -> None:
        put(numbers(0, 3), "a")
        done = put(numbers(0, 0), "b")

        assert rows() == []
        assert (done.dataset.version, done.dataset.rows, done.dataset.files) == (2, 0, 0)

    def test_the_first_commit_may_have_no_rows(self, put: Any, rows: Any, dataset: Dataset) -> None:
        put(numbers(0, 0), "a", partition_by=())

        snapshot = dataset.snapshot()
        assert snapshot is not None
        assert snapshot.schema == pl.Schema({"n": pl.Int64})
        assert snapshot.rows == 0
        assert rows() == []

    # Partition values.

    @pytest.mark.parametrize("kind", sorted(PARTITION_VALUES))
    def test_partition_values_come_back_exactly_and_typed(
        self, put: Any, rows: Any, dataset: Dataset, kind: str
    ) -> None:
        values = PARTITION_VALUES[kind]
        frame = pl.DataFrame({"n": range(len(values)), "p": values}).cast({"n": pl.Int64})

        put(frame, "a", partition_by=["p"])

        assert rows() == sorted(frame.rows(), key=repr)
        snapshot = dataset.snapshot()
        assert snapshot is not None
        assert snapshot.schema["p"] == values.dtype

    @pytest.mark.parametrize("kind", sorted(PARTITION_VALUES))
    def test_each_partition_is_replaced_by_its_exact_value(
        self, put: Any, rows: Any, kind: str
    ) -> None:
        values = PARTITION_VALUES[kind]
        old = pl.DataFrame({"n": range(len(values)), "p": values}).cast({"n": pl.Int64})
        new = old.with_columns(pl.col("n") + 100)
        put(old, "a", partition_by=["p"])
        put(new, "b", Mode.REPLACE, partition_by=["p"])

        assert rows() == sorted(new.rows(), key=repr)

    @pytest.mark.parametrize("text", ["", NULL_FOLDER])
    def test_values_that_read_back_as_null_are_refused_by_name(
        self, dataset: Dataset, tmp_path: Path, text: str
    ) -> None:
        with pytest.raises(UnsupportedData, match=r"'p' holds .*, which reads back as null"):
            write(dataset, keyed({"x": [1], text: [2]}), ["p"], tmp_path)

        assert list(open_filesystem(dataset.uri).list(dataset.uri)) == []

    def test_a_partition_column_may_have_any_plain_name(self, put: Any, rows: Any) -> None:
        frame = keyed({"x": [1], "y": [2]}).rename({"p": "_a.b-C~1"})

        put(frame, "a", partition_by=["_a.b-C~1"])

        assert rows() == [("x", 1), ("y", 2)]

    # Schemas.

    def test_overwriting_may_change_the_columns(self, put: Any, rows: Any) -> None:
        put(numbers(0, 3), "a")
        put(pl.DataFrame({"s": ["x"], "d": [1.5]}), "b")

        assert rows() == [("x", 1.5)]

    @pytest.mark.parametrize("mode", [Mode.APPEND, Mode.REPLACE])
    def test_other_modes_refuse_other_columns_with_a_diff(
        self, put: Any, rows: Any, mode: Mode
    ) -> None:
        put(keyed({"x": [1]}), "a", partition_by=["p"])
        other = pl.DataFrame({"p": ["x"], "n": [1.5], "m": [1]})

        with pytest.raises(SchemaMismatch) as caught:
            put(other, "b", mode, partition_by=["p"])

        assert "n: Int64 there, Float64 here" in str(caught.value)
        assert "m: missing there, Int64 here" in str(caught.value)
        assert rows() == [("x", 1)]

    def test_appended_columns_may_have_another_order(self, put: Any, rows: Any) -> None:
        put(pl.DataFrame({"a": [1], "b": ["x"]}), "a")
        put(pl.DataFrame({"b": ["y"], "a": [2]}), "b", Mode.APPEND)

        assert rows() == [(1, "x"), (2, "y")]

    @pytest.mark.parametrize("mode", list(Mode))
    def test_other_partition_columns_are_refused(self, put: Any, mode: Mode) -> None:
        put(keyed({"x": [1]}), "a", partition_by=["p"])

        with pytest.raises(SchemaMismatch, match=r"is partitioned by p, the run by no column"):
            put(keyed({"x": [1]}), "b", mode)

    # Once and only once.

    def test_the_same_commit_twice_says_already(self, put: Any, rows: Any) -> None:
        first = put(numbers(0, 2), "a", Mode.APPEND, run="first")
        second = put(numbers(0, 2), "a", Mode.APPEND, run="second")

        assert not first.already
        assert second.already
        assert second.dataset == first.dataset
        assert rows() == [0, 1]

    def test_a_new_revision_commits_again(self, put: Any, rows: Any, dataset: Dataset) -> None:
        put(numbers(0, 2), "a", Mode.APPEND)
        again = put(numbers(0, 2), "a", Mode.APPEND, revision=2)

        assert not again.already
        assert rows() == [0, 0, 1, 1]
        found = dataset.committed("a")
        assert found is not None
        assert found[0] == 2

    def test_an_older_revision_is_there_already(self, put: Any, rows: Any) -> None:
        put(numbers(0, 2), "a", Mode.APPEND)
        put(numbers(0, 2), "a", Mode.APPEND, revision=2)

        assert put(numbers(0, 2), "a", Mode.APPEND, revision=1, run="late").already
        assert rows() == [0, 0, 1, 1]

    def test_revision_zero_counts(self, put: Any, rows: Any) -> None:
        put(numbers(0, 2), "a", Mode.APPEND, revision=0)

        assert put(numbers(0, 2), "a", Mode.APPEND, revision=0, run="late").already
        assert rows() == [0, 1]

    def test_of_racing_commits_of_one_run_exactly_one_counts(self, root: Uri, put: Any) -> None:
        for number in range(self.race_rounds):
            place = root / f"round-{number}"
            together = threading.Barrier(RACERS)

            def race(racer: int, place: Uri = place, together: Any = together) -> Commit:
                mine = Dataset(place)
                together.wait(timeout=60)
                done = put(numbers(0, 5), "same", Mode.APPEND, to=mine, run=f"racer-{racer}")
                assert isinstance(done, Commit)
                return done

            with ThreadPoolExecutor(RACERS) as pool:
                results = list(pool.map(race, range(RACERS)))

            assert [r.already for r in results].count(False) == 1
            assert len({r.dataset for r in results}) == 1
            assert sorted(by_polars(place)["n"]) == [0, 1, 2, 3, 4]
            assert len([e for e in Dataset(place).log() if e.changes_data]) == 1

    def test_racing_overwrites_leave_the_rows_of_one_writer(self, root: Uri, put: Any) -> None:
        together = threading.Barrier(RACERS // 2)

        def race(racer: int) -> Commit | CommitConflict:
            mine = Dataset(root)
            together.wait(timeout=60)
            frame = pl.DataFrame({"racer": [racer] * (racer + 1)})
            try:
                done = put(frame, f"racer-{racer}", to=mine)
            except CommitConflict as exc:
                return exc
            assert isinstance(done, Commit)
            return done

        with ThreadPoolExecutor(RACERS // 2) as pool:
            results = list(pool.map(race, range(RACERS // 2)))

        committed = [r for r in results if isinstance(r, Commit)]
        assert committed
        assert all(not r.already for r in committed)
        assert len({r.dataset.version for r in committed}) == len(committed)
        found = by_polars(root)["racer"]
        assert found.n_unique() == 1
        assert len(found) == found[0] + 1
        last = max(committed, key=lambda r: r.dataset.version or 0)
        assert last.dataset.rows == len(found)

    def test_a_replacement_takes_what_was_appended_before_it_won(
        self, put: Any, rows: Any, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(keyed({"x": [1], "y": [2]}), "a", partition_by=["p"])
        before_first_try(
            monkeypatch,
            lambda: put(
                keyed({"x": [3], "z": [4]}),
                "late",
                Mode.APPEND,
                partition_by=["p"],
                to=Dataset(root),
            ),
        )

        put(keyed({"x": [5]}), "b", Mode.REPLACE, partition_by=["p"])

        assert rows() == [("x", 5), ("y", 2), ("z", 4)]

    def test_a_table_that_changed_meanwhile_is_checked_again(
        self, put: Any, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(numbers(0, 1), "a")
        before_first_try(
            monkeypatch, lambda: put(pl.DataFrame({"s": ["x"]}), "late", to=Dataset(root))
        )

        with pytest.raises(SchemaMismatch, match="n: missing there, Int64 here"):
            put(numbers(1, 2), "b", Mode.APPEND)

        assert by_polars(root)["s"].to_list() == ["x"]

    # Answers that are lost.

    @pytest.mark.parametrize("revision", [0, 1])
    def test_a_commit_whose_answer_is_lost_is_recognised(
        self, put: Any, rows: Any, monkeypatch: pytest.MonkeyPatch, revision: int
    ) -> None:
        put(numbers(0, 1), "before", Mode.APPEND)
        after_first_try(monkeypatch, OSError("connection reset by peer"))

        done = put(numbers(1, 3), "a", Mode.APPEND, revision=revision)

        assert not done.already
        assert (done.dataset.version, done.dataset.rows) == (2, 3)
        assert rows() == [0, 1, 2]

    def test_a_commit_that_meets_itself_is_recognised_as_its_own(
        self, put: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client library that sends the commit again finds its own file in the way."""
        put(numbers(0, 1), "before", Mode.APPEND)
        conflict = CommitFailedError("version 2 already exists")
        after_first_try(monkeypatch, conflict)

        done = put(numbers(1, 3), "a", Mode.APPEND)

        assert not done.already
        assert (done.dataset.version, done.dataset.rows) == (2, 3)
        assert rows() == [0, 1, 2]

    def test_a_commit_that_was_not_taken_says_how_to_go_on(
        self, put: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(numbers(0, 1), "before", Mode.APPEND)

        def refuse() -> None:
            raise OSError("no route to host")

        before_first_try(monkeypatch, refuse)
        with pytest.raises(StoreUnavailable, match="no route to host") as caught:
            put(numbers(1, 3), "a", Mode.APPEND)

        assert "run the same command again" in caught.value.hint
        assert rows() == [0]

    # Versions.

    def test_a_reader_sees_only_whole_versions(self, put: Any, root: Uri, tmp_path: Path) -> None:
        put(pl.DataFrame({"v": [1]}), "run-1")
        stop = threading.Event()

        def read() -> int:
            seen = 0
            while not stop.is_set():
                found = by_polars(root)["v"]
                assert found.n_unique() == 1
                assert len(found) == found[0]
                seen += 1
            return seen

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for version in range(2, self.versions):
                    put(pl.DataFrame({"v": [version] * version}), f"run-{version}")
            finally:
                stop.set()
            assert all(reader.result(timeout=60) > 0 for reader in readers)

    def test_earlier_versions_stay_readable(
        self, put: Any, root: Uri, dataset: Dataset, tmp_path: Path
    ) -> None:
        put(numbers(0, 2), "a")
        put(pl.DataFrame({"s": ["x"]}), "b")

        assert by_headwater(root, tmp_path, version=1)["n"].to_list() == [0, 1]
        assert by_headwater(root, tmp_path, version=2)["s"].to_list() == ["x"]
        old = dataset.snapshot(1)
        assert old is not None
        assert (old.version, old.rows, old.schema) == (1, 2, pl.Schema({"n": pl.Int64}))

    @pytest.mark.parametrize("version", [0, 3, 10**12])
    def test_an_unknown_version_lists_the_known_ones(
        self, put: Any, dataset: Dataset, version: int
    ) -> None:
        put(numbers(0, 2), "a")
        put(numbers(0, 2), "b")

        with pytest.raises(UnknownName) as caught:
            dataset.snapshot(version)

        assert f"no version '{version}'" in str(caught.value)
        assert "1" in caught.value.hint
        assert "2" in caught.value.hint

    def test_the_log_tells_of_every_commit_newest_first(self, put: Any, dataset: Dataset) -> None:
        put(numbers(0, 2), "a")
        put(numbers(2, 5), "b", Mode.APPEND)

        newest, oldest = dataset.log()

        assert (newest.version, oldest.version) == (2, 1)
        assert (newest.transactions, oldest.transactions) == ((("b", 1),), (("a", 1),))
        assert newest.headwater == {"run": "b", "rows": 3}
        assert newest.operation == "WRITE"
        assert newest.changes_data
        assert abs(newest.committed - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)

    def test_only_later_data_makes_an_entry_old(self, put: Any, dataset: Dataset) -> None:
        put(numbers(0, 2), "a")
        put(numbers(2, 5), "b", Mode.APPEND)

        newest, oldest = dataset.log()

        assert dataset.is_latest_data(newest)
        assert not dataset.is_latest_data(oldest)

    def test_overwriting_with_no_rows_is_later_data_even_where_none_was(
        self, put: Any, dataset: Dataset
    ) -> None:
        put(numbers(0, 2), "a")
        put(numbers(0, 0), "b")

        newest, oldest = dataset.log()

        assert newest.changes_data
        assert not dataset.is_latest_data(oldest)

    def test_a_new_table_has_no_version_yet(
        self, dataset: Dataset, root: Uri, put: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise OSError("cut off")

        before_first_try(monkeypatch, refuse)
        with pytest.raises(StoreUnavailable):
            put(numbers(0, 2), "a")

        assert dataset.exists()
        assert dataset.snapshot() is None
        assert list(dataset.log()) == []
        assert dataset.committed("a") is None
        with pytest.raises(NotFound, match="has no version yet"):
            open_input([str(root)])
        with pytest.raises(UnknownName, match="no version '0'"):
            dataset.snapshot(0)

    def test_a_table_that_is_created_while_it_is_looked_at_has_no_version_yet(
        self, dataset: Dataset, root: Uri, put: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise OSError("cut off")

        real, looked = Dataset._load, list[int]()

        def create_first(self: Dataset, version: int | None = None) -> DeltaTable:
            if not looked:
                looked.append(1)
                with pytest.raises(StoreUnavailable):
                    put(numbers(0, 2), "a", to=Dataset(root))
            return real(self, version)

        before_first_try(monkeypatch, refuse)
        monkeypatch.setattr(Dataset, "_load", create_first)

        assert dataset.snapshot() is None

    def test_a_table_without_a_version_takes_other_columns(
        self, put: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What an attempt that failed had meant to write binds nobody."""

        def refuse() -> None:
            raise OSError("cut off")

        before_first_try(monkeypatch, refuse)
        with pytest.raises(StoreUnavailable):
            put(numbers(0, 2), "a", Mode.APPEND)

        put(pl.DataFrame({"s": ["x"], "d": [1.5]}), "b", Mode.APPEND)

        assert rows() == [("x", 1.5)]

    def test_no_table_is_named(self, dataset: Dataset, root: Uri) -> None:
        assert not dataset.exists()
        assert dataset.committed("a") is None
        with pytest.raises(NotFound, match="no table at"):
            dataset.snapshot()

    def test_foreign_files_are_left_alone_and_named(self, dataset: Dataset, root: Uri) -> None:
        open_filesystem(root).write(root / "thesis.doc", b"years of work")

        with pytest.raises(UnsupportedData, match=r"found 'thesis\.doc'"):
            dataset.require_writable()

    def test_what_an_unfinished_run_left_is_no_foreign_file(
        self, dataset: Dataset, root: Uri, tmp_path: Path
    ) -> None:
        write(dataset, numbers(0, 2), (), tmp_path)
        open_filesystem(root).write(root / "_headwater" / "runs" / "k" / "parts.json", b"{}")

        dataset.require_writable()

    def test_a_long_log_is_checkpointed_and_keeps_all_it_knew(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        for number in range(1, self.long_log + 1):
            put(numbers(number, number + 1), f"run-{number}", Mode.APPEND)

        names = [ref.uri for ref in open_filesystem(root).list(root / "_delta_log")]
        assert any(".checkpoint" in name for name in names)
        assert [e.version for e in dataset.log()] == list(range(self.long_log, 0, -1))
        first = dataset.committed("run-1")
        assert first is not None
        assert first[0] == 1
        assert first[1] is not None
        assert first[1].version == 1
        snapshot = dataset.snapshot()
        assert snapshot is not None
        assert (snapshot.rows, len(snapshot.files)) == (self.long_log, self.long_log)
        assert dataset.snapshot(3).rows == 3  # type: ignore[union-attr]  # that version is there
        assert put(numbers(1, 2), "run-1", Mode.APPEND, run="late").already
        assert sorted(by_polars(root)["n"]) == list(range(1, self.long_log + 1))

    # Tables of other writers.

    def test_a_table_of_another_writer_is_read_exactly(self, root: Uri, rows: Any) -> None:
        frame = pl.DataFrame({"p": ODD_TEXTS, "n": range(len(ODD_TEXTS))})
        self.written_by_deltalake(root, frame, ["p"])

        assert rows() == sorted(frame.rows(), key=repr)

    def test_a_table_of_another_writer_takes_our_commits(
        self, root: Uri, rows: Any, put: Any, dataset: Dataset
    ) -> None:
        frame = pl.DataFrame({"p": ODD_TEXTS, "n": range(len(ODD_TEXTS))})
        self.written_by_deltalake(root, frame, ["p"])
        first = dataset.snapshot()
        assert first is not None
        assert first.version == 0

        new = frame.head(5).with_columns(pl.col("n") + 100)
        put(new, "a", Mode.REPLACE, partition_by=["p"])

        assert rows() == sorted([*frame.rows()[5:], *new.rows()], key=repr)
        assert [e.version for e in dataset.log()] == [1, 0]

    def test_a_column_that_was_added_later_is_null_in_old_files(self, root: Uri, rows: Any) -> None:
        self.written_by_deltalake(root, pl.DataFrame({"a": [1]}), [])
        fs = open_filesystem(root)
        deltalake.write_deltalake(
            fs.delta_uri(root),
            pl.DataFrame({"a": [2], "b": ["x"]}).to_arrow(),
            mode="append",
            schema_mode="merge",
            storage_options=fs.delta_options(root),
        )

        assert rows() == [(1, None), (2, "x")]

    @pytest.mark.parametrize(
        ("feature", "configuration"),
        [
            ("deletionVectors", {"delta.enableDeletionVectors": "true"}),
            ("columnMapping", {"delta.columnMapping.mode": "name"}),
        ],
    )
    def test_features_that_would_change_what_is_read_are_refused_by_name(
        self, root: Uri, dataset: Dataset, feature: str, configuration: dict[str, str]
    ) -> None:
        write_log(root, table_log([feature], configuration))

        with pytest.raises(UnsupportedData, match=f"uses {feature}"):
            dataset.snapshot()

    def test_a_table_of_a_newer_headwater_is_refused_by_name_and_left_alone(
        self, root: Uri, dataset: Dataset, put: Any
    ) -> None:
        write_log(root, table_log([], {"headwater.format": "2"}))
        before = [ref.uri for ref in open_filesystem(root).list(root / "_delta_log")]

        acts: list[Callable[[], object]] = [
            dataset.snapshot,
            dataset.partition_by,
            lambda: dataset.committed("a"),
            lambda: open_input([str(root)]),
            *(lambda mode=mode: put(numbers(0, 1), "a", mode) for mode in Mode),
        ]
        for act in acts:
            with pytest.raises(UnsupportedData, match=r"newer Headwater \(format 2\)") as caught:
                act()
            assert "upgrade" in caught.value.hint

        assert [ref.uri for ref in open_filesystem(root).list(root / "_delta_log")] == before

    def test_a_table_says_which_headwater_can_read_it(
        self, root: Uri, put: Any, rows: Any, dataset: Dataset
    ) -> None:
        put(numbers(0, 1), "a")
        put(pl.DataFrame({"s": ["x"]}), "b")  # overwriting also the columns keeps the property

        fs = open_filesystem(root)
        table = DeltaTable(fs.delta_uri(root), storage_options=fs.delta_options(root))
        assert table.metadata().configuration["headwater.format"] == "1"

    @pytest.mark.parametrize("damage", [b"no json\n", b'{"add": {}}\n', b"\xff\xfe\n"])
    def test_a_log_that_cannot_be_read_is_named(
        self, root: Uri, dataset: Dataset, damage: bytes
    ) -> None:
        open_filesystem(root).write(root / "_delta_log" / f"{0:020d}.json", damage)

        with pytest.raises(DamagedFile, match="the log of the table"):
            dataset.snapshot()

    def written_by_deltalake(self, root: Uri, frame: pl.DataFrame, partition_by: list[str]) -> None:
        fs = open_filesystem(root)
        deltalake.write_deltalake(
            fs.delta_uri(root),
            pa.table(frame.to_arrow()),
            partition_by=partition_by or None,
            storage_options=fs.delta_options(root),
        )


def before_first_try(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let ``act`` happen between a commit's look at the table and its first try."""
    real = DeltaTable.create_write_transaction
    acted = threading.Event()

    def wrapped(self: DeltaTable, *args: Any, **kwargs: Any) -> None:
        if not acted.is_set():
            acted.set()
            act()
        real(self, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", wrapped)


def after_first_try(monkeypatch: pytest.MonkeyPatch, answer: Exception) -> None:
    """Let the first try of a commit succeed and its answer be ``answer``."""
    real = DeltaTable.create_write_transaction
    answered = threading.Event()

    def wrapped(self: DeltaTable, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        if not answered.is_set():
            answered.set()
            raise answer

    monkeypatch.setattr(DeltaTable, "create_write_transaction", wrapped)


def write_log(root: Uri, actions: Sequence[dict[str, Any]]) -> None:
    text = "\n".join(json.dumps(action) for action in actions)
    open_filesystem(root).write(root / "_delta_log" / f"{0:020d}.json", text.encode())


def table_log(features: list[str], configuration: dict[str, str]) -> list[dict[str, Any]]:
    """The log of an empty table that uses ``features``."""
    field = {"name": "n", "type": "long", "nullable": True, "metadata": {}}
    if "columnMapping" in features:
        field["metadata"] = {
            "delta.columnMapping.id": 1,
            "delta.columnMapping.physicalName": "col-1",
        }
        configuration = {**configuration, "delta.columnMapping.maxColumnId": "1"}
    schema = {"type": "struct", "fields": [field]}
    return [
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
        },
        {
            "metaData": {
                "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps(schema),
                "partitionColumns": [],
                "configuration": configuration,
                "createdTime": 1700000000000,
            }
        },
    ]
