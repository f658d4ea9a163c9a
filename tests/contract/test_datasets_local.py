"""The contract of datasets, on files of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.contract.datasets import DatasetContract

from headwater.infra.errors import AccessDenied
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.uris import Uri


class TestLocal(DatasetContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake" / "table"))

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
