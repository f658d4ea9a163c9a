"""The contract of filesystems, on Google Cloud Storage; and what only that can do."""

from __future__ import annotations

import pytest
from tests.contract.filesystems import (
    ObjectStoreContract,
    OtherClient,
)
from tests.emulators.gcs import FakeGcs

from headwater.infra.errors import AccessDenied
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri


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

    def test_a_credentials_file_that_is_not_there_is_named(
        self, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")

        with pytest.raises(AccessDenied, match=r"/nowhere/key\.json") as caught:
            open_filesystem(root)

        assert "gcloud auth application-default login" in caught.value.hint
