"""The contract of staging, on Google Cloud Storage."""

from __future__ import annotations

import pytest
from tests.contract.staging import RemoteStagingContract
from tests.emulators.gcs import FakeGcs

from headwater.infra.storage.uris import Uri


class TestFromGcs(RemoteStagingContract):
    @pytest.fixture
    def root(self, gcs: FakeGcs) -> Uri:
        return Uri.parse(f"gs://{gcs.new_bucket()}/root")
