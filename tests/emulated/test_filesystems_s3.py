"""The contract of filesystems, on S3; and what only S3 can do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from headwater.infra.errors import AccessDenied, InvalidUri, NotFound, StoreUnavailable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import ObjectStore
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri
from tests.contract.filesystems import (
    ODD_NAMES,
    UNWRITABLE_NAMES,
    FilesystemContract,
    OtherClient,
    assert_survives_pickle,
    every_text,
    names,
)
from tests.emulators.s3 import Moto
from tests.emulators.s3 import moto as moto_server

pytestmark = pytest.mark.emulated

OBJECT_STORE_ODD_NAMES = (*ODD_NAMES, "double//slash", "/leading slash", "x" * 900)
OBJECT_STORE_UNWRITABLE_NAMES = (*UNWRITABLE_NAMES, "back\\slash", "a/../b", "./a", "x" * 1024)


class TestS3(FilesystemContract):
    odd_names = OBJECT_STORE_ODD_NAMES
    unwritable_names = OBJECT_STORE_UNWRITABLE_NAMES

    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/root")

    @pytest.fixture
    def other_client(self, moto: Moto) -> OtherClient:
        def put(uri: Uri, data: bytes) -> None:
            client = moto.client()
            client.put_object(Bucket=uri.bucket, Key=uri.key, Body=data)
            client.close()

        return put

    @pytest.fixture
    def missing_place(self) -> Uri:
        return Uri.parse("s3://no-such-bucket-here/a")

    @pytest.fixture
    def secrets(self, moto: Moto) -> Sequence[str]:
        return [moto.environment["AWS_SECRET_ACCESS_KEY"]]

    def test_listing_leaves_out_folder_markers(
        self, fs: Filesystem, root: Uri, other_client: OtherClient
    ) -> None:
        for name in ("", "folder/", "folder/a"):
            other_client(Uri(root.scheme, root.bucket, f"{root.key}/{name}"), b"")

        assert names(fs, root) == ["folder/a"]

    def test_listing_goes_over_all_pages(
        self, fs: ObjectStore, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fs, "page_size", 3)
        written = [f"{number:02}" for number in range(10)]
        for name in written:
            fs.write(root / name, b"x")

        assert names(fs, root) == written

    def test_a_missing_bucket_is_named(self, fs: Filesystem, missing_place: Uri) -> None:
        ref = fs.write
        for call in (
            lambda: fs.stat(missing_place),
            lambda: list(fs.list(missing_place)),
            lambda: ref(missing_place, b"x"),
            lambda: fs.create(missing_place, b"x"),
            lambda: fs.delete(missing_place),
            lambda: fs.clock_offset_seconds(missing_place),
            lambda: fs.delta_options(missing_place),
        ):
            with pytest.raises(NotFound, match="no bucket 'no-such-bucket-here'") as caught:
                call()
            assert_survives_pickle(caught.value)

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
