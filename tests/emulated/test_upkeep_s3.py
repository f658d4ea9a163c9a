"""The contract of upkeep, on S3."""

from __future__ import annotations

import pytest
from tests.contract.upkeep import UpkeepContract
from tests.emulators.s3 import Moto

from headwater.infra.storage.uris import Uri


class TestS3(UpkeepContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake/table")
