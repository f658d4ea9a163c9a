"""The contract of datasets, on files of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from tests.contract.datasets import DatasetContract, numbers

from headwater.infra.errors import AccessDenied, StoreUnavailable
from headwater.infra.models import Drift, Mode
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.uris import Uri


class TestLocal(DatasetContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake" / "table"))

    @pytest.mark.parametrize("left", [f"{0:020d}.json#1", "_commit_1f2e.json.tmp"])
    def test_a_writer_that_was_killed_over_a_new_table_leaves_none(
        self, root: Uri, dataset: Dataset, put: Any, rows: Any, left: str
    ) -> None:
        log = root.path / "_delta_log"
        log.mkdir(parents=True)
        (log / left).write_text('{"commitInfo":')

        dataset.require_writable()
        dataset.evolve(pl.Schema({"n": pl.Int64}), (), Mode.APPEND, Drift.STRICT)
        assert not dataset.exists()
        assert dataset.committed("a") is None
        put(numbers(0, 2), "a", Mode.APPEND)

        assert rows() == [0, 1]

    def test_a_writer_that_was_killed_over_a_later_version_leaves_the_one_before(
        self, root: Uri, put: Any, rows: Any
    ) -> None:
        put(numbers(0, 1), "a", Mode.APPEND)
        (root.path / "_delta_log" / f"{2:020d}.json#1").write_text('{"commitInfo":')
        assert rows() == [0]

        assert put(numbers(1, 2), "b", Mode.APPEND).dataset.version == 2

        assert rows() == [0, 1]

    def test_a_table_that_cannot_be_created_says_how_to_go_on(
        self, put: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **kwargs: Any) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(DeltaTable, "create", refuse)
        with pytest.raises(StoreUnavailable, match="no space left on device") as caught:
            put(numbers(0, 2), "a")

        assert "run the same command again" in caught.value.hint
        assert not dataset.exists()

    def test_a_target_below_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")

        with pytest.raises(AccessDenied, match="is no folder"):
            Dataset(Uri.parse(str(tmp_path / "file" / "table"))).require_writable()

    def test_a_target_in_a_folder_that_may_not_be_written_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The superuser may write anywhere, and tests run as one: the answer is what is set here.
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)

        with pytest.raises(AccessDenied, match="may not write to") as caught:
            Dataset(Uri.parse(str(tmp_path / "new" / "table"))).require_writable()

        assert "another target" in caught.value.hint
        assert list(tmp_path.iterdir()) == []
