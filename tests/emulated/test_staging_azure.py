"""The contract of staging, on Azure's blob storage."""

from __future__ import annotations

import pytest
from tests.contract.staging import RemoteStagingContract
from tests.emulators.azure import Azurite

from headwater.infra.storage.uris import Uri


class TestFromAzure(RemoteStagingContract):
    @pytest.fixture
    def root(self, azurite: Azurite) -> Uri:
        host = f"{azurite.account}.dfs.core.windows.net"
        return Uri.parse(f"abfss://{azurite.new_container()}@{host}/root")
