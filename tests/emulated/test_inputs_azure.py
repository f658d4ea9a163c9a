"""The contract of inputs, on Azure Blob Storage."""

from __future__ import annotations

import pytest
from tests.contract.filesystems import OtherClient
from tests.contract.inputs import ObjectStoreInputContract
from tests.emulators.azure import Azurite

from headwater.infra.storage.uris import Uri


class TestAzure(ObjectStoreInputContract):
    @pytest.fixture
    def root(self, azurite: Azurite) -> Uri:
        return Uri.parse(azurite.address(azurite.new_container(), "lake"))

    @pytest.fixture
    def other_client(self, azurite: Azurite) -> OtherClient:
        return lambda uri, data: azurite.put(uri.bucket, uri.key, data)
