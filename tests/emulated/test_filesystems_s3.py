"""The contract of filesystems, on S3; and what only S3 can do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.contract.filesystems import (
    ObjectStoreContract,
    OtherClient,
    assert_survives_pickle,
    every_text,
)
from tests.emulators.s3 import Moto
from tests.emulators.s3 import moto as moto_server

from headwater.infra.errors import AccessDenied, InvalidUri, StoreUnavailable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri


class TestS3(ObjectStoreContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/root")

    @pytest.fixture
    def other_client(self, moto: Moto) -> OtherClient:
        return lambda uri, data: moto.put(uri.bucket, uri.key, data)

    @pytest.fixture
    def missing_place(self) -> Uri:
        return Uri.parse("s3://no-such-bucket-here/a")

    @pytest.fixture
    def secrets(self, moto: Moto) -> Sequence[str]:
        return [moto.environment["AWS_SECRET_ACCESS_KEY"]]

    def test_a_malformed_bucket_is_refused(self, fs: Filesystem) -> None:
        with pytest.raises(InvalidUri, match="Invalid bucket name"):
            fs.stat(Uri.parse("s3://not a bucket/a"))

    def test_options_name_the_buckets_own_region(self, fs: Filesystem, moto: Moto) -> None:
        client = moto.client()
        client.create_bucket(
            Bucket="in-frankfurt", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        client.close()

        options = fs.delta_options(Uri.parse("s3://in-frankfurt/a"))

        assert options["AWS_REGION"] == "eu-central-1"

    def test_an_upload_that_nobody_completed_is_found_and_ended(
        self, fs: Filesystem, root: Uri, moto: Moto
    ) -> None:
        client = moto.client()
        fs.write(root / "whole", b"1")
        begun = {
            key: client.create_multipart_upload(Bucket=root.bucket, Key=f"root/{key}")["UploadId"]
            for key in ("a/left [*]", "b")
        }
        client.create_multipart_upload(Bucket=root.bucket, Key="beside/c")
        client.close()

        found = list(fs.unfinished(root))

        assert {ref.uri: ref.version for ref in found} == {
            str(root / key): upload for key, upload in begun.items()
        }
        for ref in [*found, found[0]]:  # one that is gone already is fine
            fs.discard(ref)
        assert list(fs.unfinished(root)) == []
        assert [ref.uri for ref in fs.list(root)] == [str(root / "whole")]

    def test_a_profile_reaches_both_stacks(
        self, root: Uri, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "config").write_text(
            f"[profile lake]\nendpoint_url = {moto.url}\nregion = us-east-1\n"
            "aws_access_key_id = from-profile\naws_secret_access_key = hidden\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "lake")
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)

        fs = open_filesystem(root)
        fs.write(root / "a", b"x")
        options = fs.delta_options(root)

        assert options["AWS_ACCESS_KEY_ID"] == "from-profile"
        assert options["AWS_ENDPOINT_URL"] == moto.url

    def test_no_credentials_lists_where_they_were_looked_for(
        self, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

        with pytest.raises(AccessDenied, match="no credentials") as caught:
            open_filesystem(root).stat(root / "a")

        assert "AWS_ACCESS_KEY_ID" in caught.value.hint
        assert "AWS_PROFILE" in caught.value.hint
        assert_survives_pickle(caught.value)

    def test_a_store_that_is_not_there_is_named_without_secrets(
        self, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:1")
        started = time.monotonic()

        fs = open_filesystem(root)
        with pytest.raises(StoreUnavailable, match=r"no answer from http://127\.0\.0\.1:1") as bad:
            fs.stat(root / "a")

        assert time.monotonic() - started < 20
        assert not [text for text in (repr(fs), str(bad.value)) if "hunter2" in text]
        assert_survives_pickle(bad.value)


def test_a_refused_call_names_what_was_not_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server lets the calls that set it up pass, and then asks for rights that nobody has.
    with moto_server(tmp_path / "log.txt", env={"INITIAL_NO_AUTH_ACTION_COUNT": "1"}) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        root = Uri.parse(f"s3://{server.new_bucket()}/root")
        fs = open_filesystem(root)

        with pytest.raises(AccessDenied, match="not allowed to write s3://") as caught:
            fs.write(root / "a", b"x")
        with pytest.raises(AccessDenied, match="not allowed to look up s3://"):
            fs.stat(root / "a")

        secret = server.environment["AWS_SECRET_ACCESS_KEY"]
        assert not [text for text in every_text(caught.value) if secret in text]


def test_a_process_that_used_s3_ends_without_a_word(moto: Moto) -> None:
    program = (
        "from headwater.infra.storage.filesystems import open_filesystem\n"
        "from headwater.infra.storage.uris import Uri\n"
        f"root = Uri.parse('s3://{moto.new_bucket()}/root')\n"
        "open_filesystem(root).write(root / 'a', b'x')\n"
        "print([ref.size_bytes for ref in open_filesystem(root).list(root)])\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ.copy(),
    )

    assert (done.returncode, done.stdout) == (0, "[1]\n")
    assert "ResourceWarning" not in done.stderr
    assert "Task was destroyed" not in done.stderr
