"""The contract of datasets, on S3."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.datasets import DatasetContract
from tests.emulators.s3 import Moto

from headwater.infra.storage.datasets import CHECKPOINT_INTERVAL, Dataset
from headwater.infra.storage.uris import Uri


class TestS3(DatasetContract):
    race_rounds = 1
    long_log = CHECKPOINT_INTERVAL + 1
    versions = 6

    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake/table")

    @pytest.mark.trial  # a hundred commits; Azure's are the ordinary case of a store
    def test_a_long_log_is_checkpointed_and_keeps_all_it_knew(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        super().test_a_long_log_is_checkpointed_and_keeps_all_it_knew(put, dataset, root)
