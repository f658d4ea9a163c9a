"""The contract of filesystems, on Google Cloud Storage; and what only that can do."""

from __future__ import annotations

import pytest
from tests.contract.filesystems import (
    ObjectStoreContract,
    OtherClient,
)
from tests.emulators.gcs import FakeGcs

from headwater.infra.storage.uris import Uri

pytestmark = pytest.mark.emulated


class TestGcs(ObjectStoreContract):
    @pytest.fixture
    def root(self, gcs: FakeGcs) -> Uri:
        return Uri.parse(f"gs://{gcs.new_bucket()}/root")

    @pytest.fixture
    def other_client(self, gcs: FakeGcs) -> OtherClient:
        return lambda uri, data: gcs.put(uri.bucket, uri.key, data)

    @pytest.fixture
    def missing_place(self) -> Uri:
        return Uri.parse("gs://no-such-bucket-here/a")
