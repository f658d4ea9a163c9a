"""Two writers and readers on one table: each version whole, nothing lost, nothing doubled."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from tests.contract.datasets import by_headwater
from tests.emulators.every_store import STORES, place

from headwater.infra.errors import CommitConflict, NotFound
from headwater.infra.models import Mode, PartFile
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.tasks.write import PartWriter

SECONDS = 3.0
TRIAL_SECONDS = 60.0
WRITERS = 2
FILES = 3
SCHEMA = pl.Schema({"writer": pl.Int64, "commit": pl.Int64, "row": pl.Int64})

CASES = [pytest.param("local", Mode.APPEND, SECONDS, id="append, local")] + [
    pytest.param(
        store, mode, TRIAL_SECONDS, id=f"{mode}, {store}, a minute", marks=pytest.mark.trial
    )
    for store in STORES
    for mode in (Mode.APPEND, Mode.OVERWRITE)
]


@pytest.fixture
def root(
    request: pytest.FixtureRequest, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Uri:
    where = place(store, request, tmp_path)
    for name, value in where.variables.items():
        monkeypatch.setenv(name, value)
    return Uri.parse(f"{where.root}/table")


def rows_of(writer: int, commit: int) -> int:
    """Rows of one commit: 3 to 9, so that they tell whether all are there."""
    return FILES * (1 + (writer + commit) % 3)


@dataclass
class Table:
    """A table that is written and read until ``ended`` is set.

    Attributes:
        done: What each commit, by writer and number, became.
        seen: Rows of each version that a reader saw, sorted.
    """

    root: Uri
    mode: Mode
    tmp: Path
    ended: threading.Event = field(default_factory=threading.Event)
    done: dict[tuple[int, int], int] = field(default_factory=dict)
    seen: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)
    conflicts: int = 0

    def write(self, writer: int) -> None:
        dice, commit = random.Random(writer), 0
        while not self.ended.is_set():
            self._commit(writer, commit)
            if dice.random() < 0.2:  # what was committed is asked for again
                assert self._commit(writer, commit, again=True)
            commit += 1

    def _commit(self, writer: int, commit: int, *, again: bool = False) -> bool:
        dataset = Dataset(self.root)
        files = list(self._files(dataset, writer, commit))
        while True:
            try:
                done = dataset.commit(
                    files,
                    schema=SCHEMA,
                    partition_by=(),
                    mode=self.mode,
                    app_id=f"writer-{writer}-{commit}",
                    revision=1,
                    metadata={"run": uuid4().hex},
                )
            except CommitConflict:
                self.conflicts += 1
                continue
            assert done.already is again
            version = done.dataset.version
            assert version is not None
            assert self.done.setdefault((writer, commit), version) == version
            return done.already

    def _files(self, dataset: Dataset, writer: int, commit: int) -> Iterator[PartFile]:
        each = rows_of(writer, commit) // FILES
        for part in range(FILES):
            numbers = range(part * each, (part + 1) * each)
            frame = pl.DataFrame(
                [(writer, commit, row) for row in numbers], schema=SCHEMA, orient="row"
            )
            sink = PartWriter(dataset.uri, uuid4().hex, part, self.tmp / f"{writer}")
            sink.sink(frame.lazy(), ())
            yield from sink.publish()

    def read(self, by_polars: bool) -> int:
        """How often the table was read, each time whole."""
        reads = 0
        while not self.ended.is_set():
            try:
                version, rows = self._now(by_polars)
            except NotFound:  # no version yet
                time.sleep(0.01)
                continue
            self.require_whole(rows)
            assert self.seen.setdefault(version, rows) == rows
            reads += 1
        return reads

    def _now(self, by_polars: bool) -> tuple[int, list[tuple[int, ...]]]:
        snapshot = Dataset(self.root).snapshot()
        if snapshot is None:
            raise NotFound("no version yet")
        if by_polars:
            fs = open_filesystem(self.root)
            frame = pl.scan_delta(
                fs.delta_uri(self.root),
                version=snapshot.version,
                storage_options=fs.delta_options(self.root),
                credential_provider=None,
            ).collect()
        else:
            frame = by_headwater(self.root, self.tmp, snapshot.version)
        return snapshot.version, sorted(frame.rows())

    def require_whole(self, rows: list[tuple[int, ...]]) -> None:
        """Of each commit all rows or none, once; of what is overwritten none."""
        assert len(set(rows)) == len(rows)
        counts = Counter(row[:2] for row in rows)
        assert all(count == rows_of(*commit) for commit, count in counts.items()), counts
        if self.mode is Mode.OVERWRITE:
            assert len(counts) == 1
            return
        for writer in range(WRITERS):
            numbers = sorted(number for by, number in counts if by == writer)
            assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(("store", "mode", "seconds"), CASES)
def test_two_writers_and_two_readers(
    root: Uri, mode: Mode, seconds: float, tmp_path: Path, store: str
) -> None:
    table = Table(root, mode, tmp_path)
    with ThreadPoolExecutor(WRITERS + 2) as pool:
        writers: list[Future[None]] = [pool.submit(table.write, w) for w in range(WRITERS)]
        readers: list[Future[int]] = [pool.submit(table.read, b) for b in (True, False)]
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(f.done() for f in (*writers, *readers)):
            time.sleep(0.05)
        table.ended.set()
        for writer in writers:
            writer.result(timeout=120)
        reads = [reader.result(timeout=120) for reader in readers]

    assert all(read > 0 for read in reads)
    # Each commit is one version, and each version with rows is one of them.
    assert sorted(table.done.values()) == list(range(1, len(table.done) + 1))
    assert [e.version for e in Dataset(root).log()] == sorted(table.done.values(), reverse=True)
    by_version = {version: commit for commit, version in table.done.items()}
    for version, rows in table.seen.items():
        there = {row[:2] for row in rows}
        if mode is Mode.APPEND:
            assert there == {by_version[v] for v in range(1, version + 1)}
        else:
            assert there == {by_version[version]}
