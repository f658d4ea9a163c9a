"""The contract of staging, on files of this machine; and what only they have."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.staging import StagingContract

from headwater.infra.errors import SourceChanged
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.staging import StagedFile, stage
from headwater.infra.storage.uris import Uri


class TestFromLocalFiles(StagingContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        (tmp_path / "root").mkdir()
        return Uri.parse(str(tmp_path / "root"))

    def test_a_plain_file_is_used_where_it_lies(self, root: Uri, directory: Path) -> None:
        ref = open_filesystem(root).write(root / "a.parquet", b"x")

        with stage(ref, directory=directory) as staged:
            assert staged == StagedFile((root / "a.parquet").path, 1)

        assert (root / "a.parquet").path.exists()

    def test_a_file_that_changes_while_it_is_read_is_named(
        self, root: Uri, directory: Path
    ) -> None:
        ref = open_filesystem(root).write(root / "a.csv", b"old")

        with (
            pytest.raises(SourceChanged, match=r"a\.csv changed"),
            stage(ref, directory=directory),
        ):
            (root / "a.csv").path.write_bytes(b"written in place")

    def test_the_bodys_own_error_is_not_hidden_by_a_change(
        self, root: Uri, directory: Path
    ) -> None:
        ref = open_filesystem(root).write(root / "a.csv", b"old")

        def body() -> None:
            (root / "a.csv").path.write_bytes(b"written in place")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), stage(ref, directory=directory):
            body()
