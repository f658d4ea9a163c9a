"""The contract of inputs, on files of this machine; and what only those can do."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.inputs import InputContract, parquet

from headwater.infra.errors import NotFound
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.uris import Uri


class TestLocal(InputContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake"))

    def test_an_empty_folder_is_named(self, tmp_path: Path) -> None:
        folder = tmp_path / "nothing"
        folder.mkdir()

        with pytest.raises(NotFound, match="nothing is empty"):
            open_input([str(folder)])

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="does not exist") as caught:
            open_input([str(tmp_path / "no" / "such.parquet")])

        assert str(tmp_path / "no") in caught.value.hint

    def test_one_file_by_two_links_is_refused_or_read_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(parquet())
        (tmp_path / "link.parquet").symlink_to(tmp_path / "a.parquet")

        source = open_input([str(tmp_path / "link.parquet")])

        assert source.rows == 2
