"""The contract of datasets, on S3."""

from __future__ import annotations

import pytest
from tests.contract.datasets import DatasetContract
from tests.emulators.s3 import Moto

from headwater.infra.storage.datasets import CHECKPOINT_INTERVAL
from headwater.infra.storage.uris import Uri


class TestS3(DatasetContract):
    race_rounds = 1
    long_log = CHECKPOINT_INTERVAL + 1
    versions = 6

    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake/table")
