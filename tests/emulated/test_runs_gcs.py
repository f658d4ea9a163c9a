"""The contract of what runs leave beside their target, on Google Cloud Storage."""

from __future__ import annotations

import pytest
from tests.contract.runs import RunFolderContract
from tests.emulators.gcs import FakeGcs

from headwater.infra.storage.uris import Uri


class TestGcs(RunFolderContract):
    @pytest.fixture
    def target(self, gcs: FakeGcs) -> Uri:
        return Uri.parse(f"gs://{gcs.new_bucket()}/lake/table")
