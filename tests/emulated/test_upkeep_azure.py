"""The contract of upkeep, on Azure Blob Storage."""

from __future__ import annotations

import pytest
from tests.contract.upkeep import UpkeepContract
from tests.emulators.azure import Azurite

from headwater.infra.storage.uris import Uri


class TestAzure(UpkeepContract):
    @pytest.fixture
    def root(self, azurite: Azurite) -> Uri:
        host = f"{azurite.account}.dfs.core.windows.net"
        return Uri.parse(f"abfss://{azurite.new_container()}@{host}/lake/table")
