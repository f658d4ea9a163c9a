"""The contract of upkeep, on files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.upkeep import UpkeepContract

from headwater.infra.storage.uris import Uri


class TestLocal(UpkeepContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake" / "table"))
