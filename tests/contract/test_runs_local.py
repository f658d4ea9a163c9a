"""The contract of what runs leave beside their target, on files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.runs import RunFolderContract

from headwater.infra.storage.uris import Uri


class TestLocal(RunFolderContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Uri:
        return Uri.parse(str(tmp_path / "lake" / "table"))
