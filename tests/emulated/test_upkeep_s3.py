"""The contract of upkeep, on S3."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.datasets import numbers
from tests.contract.upkeep import MARGIN, UpkeepContract, after
from tests.emulators.s3 import Moto

from headwater.infra.errors import AccessDenied
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems.aws import S3
from headwater.infra.storage.uris import Uri
from headwater.infra.storage.vacuum import GRACE, RETENTION, Kind, plan_vacuum, vacuum


class TestS3(UpkeepContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake/table")

    def test_an_upload_that_was_given_up_is_ended_and_a_young_one_goes_on(
        self, put: Any, dataset: Dataset, root: Uri, moto: Moto
    ) -> None:
        put(numbers(0, 3), "run-1")
        client = moto.client()
        key = f"{root.key}/part.parquet"
        upload = client.create_multipart_upload(Bucket=root.bucket, Key=key)["UploadId"]
        (begun,) = client.list_multipart_uploads(Bucket=root.bucket)["Uploads"]
        at = begun["Initiated"].timestamp() + GRACE.total_seconds()

        young = plan_vacuum(dataset, now=at - 60)
        old = plan_vacuum(dataset, now=at + 60)
        done = vacuum(dataset, old)

        assert young.garbage == ()
        assert [(g.kind, g.path, g.ref.version) for g in done] == [
            (Kind.UNFINISHED, "part.parquet", upload)
        ]
        assert "Uploads" not in client.list_multipart_uploads(Bucket=root.bucket)
        client.close()

    def test_without_the_right_to_see_uploads_it_says_so_and_does_the_rest(
        self, put: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(numbers(0, 3), "run-1")
        put(numbers(3, 6), "run-2")

        def refused(*_: Any) -> Any:
            raise AccessDenied("not allowed to list unfinished uploads")

        monkeypatch.setattr(S3, "unfinished", refused)

        plan = plan_vacuum(dataset, now=after(dataset, RETENTION + MARGIN))

        assert plan.not_looked == "not allowed to list unfinished uploads"
        assert [one.kind for one in plan.garbage] == [Kind.OLD_VERSION]
