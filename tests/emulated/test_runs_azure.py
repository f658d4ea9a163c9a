"""The contract of what runs leave beside their target, on Azure Blob Storage."""

from __future__ import annotations

import pytest
from tests.contract.runs import RunFolderContract
from tests.emulators.azure import Azurite

from headwater.infra.storage.uris import Uri


class TestAzure(RunFolderContract):
    @pytest.fixture
    def target(self, azurite: Azurite) -> Uri:
        return Uri.parse(azurite.address(azurite.new_container(), "lake/table"))
