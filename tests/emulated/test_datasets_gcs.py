"""The contract of datasets, on Google Cloud Storage."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.datasets import DatasetContract
from tests.emulators.gcs import FakeGcs

from headwater.infra.storage.datasets import CHECKPOINT_INTERVAL, Dataset
from headwater.infra.storage.uris import Uri


class TestGcs(DatasetContract):
    race_rounds = 1
    long_log = CHECKPOINT_INTERVAL + 1
    versions = 6

    @pytest.fixture
    def root(self, gcs: FakeGcs) -> Uri:
        return Uri.parse(f"gs://{gcs.new_bucket()}/lake/table")

    @pytest.mark.trial  # each commit takes seconds through the gateway
    def test_a_long_log_is_checkpointed_and_keeps_all_it_knew(
        self, put: Any, dataset: Dataset, root: Uri
    ) -> None:
        super().test_a_long_log_is_checkpointed_and_keeps_all_it_knew(put, dataset, root)
