"""Rights that are missing on S3, each enforced by a policy: named before anything starts."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.contract.datasets import table_log, write_log
from tests.emulators.s3 import Moto
from tests.emulators.s3 import moto as moto_server

from headwater.infra.errors import AccessDenied
from headwater.infra.models import JobRequest
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import prepare

OCTETS = {"Content-Type": "application/octet-stream"}
"""Else the server takes the number for a form."""

UNCHECKED = 1_000_000
"""Calls that the server lets pass; it is told to check when the place is set up."""


@dataclass(frozen=True)
class Guarded:
    """A bucket of which a user has some rights only."""

    server: Moto
    bucket: str
    patch: pytest.MonkeyPatch

    @property
    def root(self) -> Uri:
        return Uri.parse(f"s3://{self.bucket}/lake")

    def allow(self, *statements: tuple[str, Sequence[str]]) -> None:
        """From now on, only these: the place in the bucket (``""`` is itself), and the actions."""
        name = f"user-{uuid.uuid4().hex[:8]}"
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": list(actions),
                    "Resource": f"arn:aws:s3:::{self.bucket}{place}",
                }
                for place, actions in statements
            ],
        }
        iam = self.server.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="some", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        iam.close()
        self.patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        self.patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        check_after(self.server, 0)


def check_after(server: Moto, calls: int) -> None:
    """Let the next ``calls`` pass, and check the rights of those that follow."""
    request = urllib.request.Request(  # noqa: S310
        f"{server.url}/moto-api/reset-auth", data=str(calls).encode(), headers=OCTETS
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    log = tmp_path_factory.mktemp("moto-iam") / "log.txt"
    with moto_server(log, env={"INITIAL_NO_AUTH_ACTION_COUNT": str(UNCHECKED)}) as server:
        yield server


@pytest.fixture
def guarded(server: Moto, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    check_after(server, UNCHECKED)
    bucket = server.new_bucket()
    server.put(bucket, "lake/in/a.csv", b"n\n1\n2\n")
    return Guarded(server, bucket, monkeypatch)


def test_a_bucket_that_may_be_read_but_not_listed(guarded: Guarded) -> None:
    guarded.allow(("/*", ["s3:GetObject"]))

    assert list(open_input([str(guarded.root / "in/a.csv")]).schema) == ["n"]
    with pytest.raises(AccessDenied, match=f"not allowed to list {guarded.root}/in") as caught:
        open_input([str(guarded.root / "in")])

    assert f"grant s3:ListBucket on arn:aws:s3:::{guarded.bucket}," in caught.value.hint


def test_a_bucket_that_may_be_listed_but_not_read(guarded: Guarded) -> None:
    guarded.allow(("", ["s3:ListBucket"]))

    with pytest.raises(AccessDenied, match="not allowed to") as caught:
        open_input([str(guarded.root / "in/a.csv")])

    assert f"grant s3:GetObject on arn:aws:s3:::{guarded.bucket}/*" in caught.value.hint


def test_a_target_that_may_not_be_written_is_refused_before_anything_starts(
    guarded: Guarded, tmp_path: Path
) -> None:
    guarded.allow(("", ["s3:ListBucket"]), ("/*", ["s3:GetObject"]))
    request = JobRequest((str(guarded.root / "in"),), str(guarded.root / "out"))

    with pytest.raises(AccessDenied, match=f"not allowed to write {guarded.root}/out") as caught:
        prepare(request, folder=tmp_path)

    assert f"grant s3:PutObject on arn:aws:s3:::{guarded.bucket}/*," in caught.value.hint


def test_a_run_needs_no_right_to_delete(guarded: Guarded, tmp_path: Path) -> None:
    guarded.allow(("", ["s3:ListBucket"]), ("/*", ["s3:GetObject", "s3:PutObject"]))
    request = JobRequest((str(guarded.root / "in"),), str(guarded.root / "out"))

    prepared = prepare(request, folder=tmp_path)

    assert list(prepared.schema) == ["n"]


def test_a_probe_of_the_target_leaves_nothing(guarded: Guarded, tmp_path: Path) -> None:
    request = JobRequest((str(guarded.root / "in"),), str(guarded.root / "out"))

    prepare(request, folder=tmp_path)

    assert list(open_filesystem(guarded.root).list(guarded.root / "out")) == []


def test_a_log_that_may_not_be_read_is_not_called_damaged(guarded: Guarded) -> None:
    dataset = Dataset(guarded.root / "out")
    write_log(dataset.uri, table_log([], {}))
    guarded.allow(("", ["s3:ListBucket"]))

    with pytest.raises(AccessDenied, match=f"not allowed to read the log of {dataset.uri}") as seen:
        dataset.snapshot()

    assert "_delta_log/ included" in seen.value.hint


def test_uploads_that_may_not_be_listed_name_the_right(guarded: Guarded) -> None:
    guarded.allow(("", ["s3:ListBucket"]))

    with pytest.raises(AccessDenied, match="not allowed to list unfinished uploads") as caught:
        list(open_filesystem(guarded.root).unfinished(guarded.root))

    right = f"s3:ListBucketMultipartUploads on arn:aws:s3:::{guarded.bucket}"
    assert f"grant {right}," in caught.value.hint
