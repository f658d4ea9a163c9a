"""The contract of inputs, on Google Cloud Storage."""

from __future__ import annotations

import pytest
from tests.contract.filesystems import OtherClient
from tests.contract.inputs import ObjectStoreInputContract
from tests.emulators.gcs import FakeGcs

from headwater.infra.storage.uris import Uri


class TestGcs(ObjectStoreInputContract):
    @pytest.fixture
    def root(self, gcs: FakeGcs) -> Uri:
        return Uri.parse(f"gs://{gcs.new_bucket()}/lake")

    @pytest.fixture
    def other_client(self, gcs: FakeGcs) -> OtherClient:
        return lambda uri, data: gcs.put(uri.bucket, uri.key, data)
