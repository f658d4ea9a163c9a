"""The contract of staging, on S3; and what the store itself sees of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.staging import RemoteStagingContract, parquet, wide
from tests.emulators.faults import Fault, counted, faulty
from tests.emulators.s3 import Moto

from headwater.infra.errors import SourceChanged
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.staging import stage
from headwater.infra.storage.uris import Uri


class TestFromS3(RemoteStagingContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/root")

    def test_the_store_sends_no_more_than_is_said(
        self, root: Uri, moto: Moto, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = open_filesystem(root).write(root / "wide.parquet", parquet(wide()))
        with counted(moto.url) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            with stage(ref, ["c1", "c7", "c15"], directory=directory) as staged:
                first = proxy.sent_bytes
                assert first < staged.bytes_read + 0.1 * ref.size_bytes < 0.35 * ref.size_bytes
            with stage(ref, ["c1"], directory=directory) as staged:
                # The footer was read once, so now only columns come.
                assert proxy.sent_bytes - first < staged.bytes_read + 8 * 1024

    def test_an_object_that_is_replaced_between_two_cuts_is_named(
        self, root: Uri, moto: Moto, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = parquet(wide(400_000, 4), row_group_size=50_000)
        ref = open_filesystem(root).write(root / "a.parquet", data)
        client = moto.client()
        gets: list[str] = []

        def replace_before_the_fifth(method: str, path: str) -> Fault:
            gets.append(path)
            if method == "GET" and len(gets) == 5:
                client.put_object(Bucket=root.bucket, Key="root/a.parquet", Body=data[::-1])
            return Fault.NONE

        with faulty(moto.url, replace_before_the_fifth) as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            with (
                pytest.raises(SourceChanged, match=r"a\.parquet is no longer the version"),
                stage(ref, ["c1", "c3"], directory=directory),
            ):
                pass
        client.close()

        assert len(gets) > 5
        assert list(directory.iterdir()) == []
