"""The contract of inputs, on S3; and what only object stores have."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.inputs import InputContract, Write, parquet
from tests.emulators.s3 import Moto

from headwater.infra.errors import NotFound
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.uris import Uri


class TestS3(InputContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/lake")

    def test_folder_markers_are_no_data(
        self, root: Uri, moto: Moto, write: Write, rows: Any
    ) -> None:
        write("sub/a.parquet", parquet())
        client = moto.client()
        for key in ("lake/", "lake/sub/"):
            client.put_object(Bucket=root.bucket, Key=key, Body=b"")
        client.close()

        assert rows(root) == rows(f"{root}/") == [1, 2]

    def test_a_missing_bucket_is_named(self, moto: Moto) -> None:
        with pytest.raises(NotFound, match="no bucket 'no-such-bucket-here'"):
            open_input(["s3://no-such-bucket-here/a.parquet"])

    def test_an_empty_prefix_is_named(self, root: Uri) -> None:
        with pytest.raises(NotFound, match="nothing is at s3://"):
            open_input([str(root)])
