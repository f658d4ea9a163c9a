"""The contract of datasets, on files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.datasets import DatasetContract

from headwater.infra.storage.uris import Uri


class TestLocal(DatasetContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake" / "table"))
