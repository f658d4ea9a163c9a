"""The contract of datasets, on S3."""

from __future__ import annotations

import pytest
from tests.contract.datasets import DatasetContract
from tests.emulators.s3 import Moto

from headwater.infra.storage.uris import Uri


class TestS3(DatasetContract):
    race_rounds = 2
    long_log = 22

    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake/table")
