"""The contract of filesystems, on Azure Blob Storage; and what only that can do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.contract.filesystems import ObjectStoreContract, OtherClient
from tests.emulators.azure import Azurite

from headwater.infra.storage.filesystems.azure import EMULATOR
from headwater.infra.storage.uris import Uri

pytestmark = pytest.mark.emulated


class TestAzure(ObjectStoreContract):
    @pytest.fixture
    def root(self, azurite: Azurite) -> Uri:
        host = f"{azurite.account}.dfs.core.windows.net"
        return Uri.parse(f"abfss://{azurite.new_container()}@{host}/root")

    @pytest.fixture
    def other_client(self, azurite: Azurite) -> OtherClient:
        return lambda uri, data: azurite.put(uri.bucket, uri.key, data)

    @pytest.fixture
    def missing_place(self, azurite: Azurite) -> Uri:
        host = f"{azurite.account}.dfs.core.windows.net"
        return Uri.parse(f"abfss://no-such-container@{host}/a")

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return [EMULATOR["AccountKey"]]
