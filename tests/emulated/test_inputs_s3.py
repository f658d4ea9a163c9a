"""The contract of inputs, on S3."""

from __future__ import annotations

import pytest
from tests.contract.filesystems import OtherClient
from tests.contract.inputs import ObjectStoreInputContract
from tests.emulators.s3 import Moto

from headwater.infra.storage.uris import Uri


class TestS3(ObjectStoreInputContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake")

    @pytest.fixture
    def other_client(self, moto: Moto) -> OtherClient:
        return lambda uri, data: moto.put(uri.bucket, uri.key, data)
