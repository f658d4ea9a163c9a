"""The contract of upkeep, on Google Cloud Storage."""

from __future__ import annotations

import pytest
from tests.contract.upkeep import UpkeepContract
from tests.emulators.gcs import FakeGcs

from headwater.infra.storage.uris import Uri


class TestGcs(UpkeepContract):
    @pytest.fixture
    def root(self, gcs: FakeGcs) -> Uri:
        return Uri.parse(f"gs://{gcs.new_bucket()}/lake/table")
