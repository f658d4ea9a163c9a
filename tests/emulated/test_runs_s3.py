"""The contract of what runs leave beside their target, on S3."""

from __future__ import annotations

import pytest
from tests.contract.runs import RunFolderContract
from tests.emulators.s3 import Moto

from headwater.infra.storage.uris import Uri


class TestS3(RunFolderContract):
    @pytest.fixture
    def target(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake/table")
