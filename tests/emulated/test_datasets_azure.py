"""The contract of datasets, on Azure Blob Storage."""

from __future__ import annotations

import pytest
from tests.contract.datasets import DatasetContract
from tests.emulators.azure import Azurite

from headwater.infra.storage.datasets import CHECKPOINT_INTERVAL
from headwater.infra.storage.uris import Uri


class TestAzure(DatasetContract):
    race_rounds = 1
    long_log = CHECKPOINT_INTERVAL + 1
    versions = 6

    @pytest.fixture
    def root(self, azurite: Azurite) -> Uri:
        return Uri.parse(azurite.address(azurite.new_container(), "lake/table"))
