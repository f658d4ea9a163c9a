"""What a store's client does when the network or the store fails; on S3."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.emulators.faults import Fault, faulty
from tests.emulators.s3 import Moto

from headwater.infra.errors import StoreUnavailable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import BUSY_TRIES
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB


class Script:
    """Fails the first ``times`` requests of one method whose path holds ``text``."""

    def __init__(self, fault: Fault, method: str, text: str, times: int) -> None:
        self.fault, self.method, self.text, self.left = fault, method, text, times

    def __call__(self, method: str, path: str) -> Fault:
        if method == self.method and self.text in path and self.left:
            self.left -= 1
            return self.fault
        return Fault.NONE


@pytest.fixture
def root(moto: Moto) -> Uri:
    return Uri.parse(f"s3://{moto.new_bucket()}/lake")


@contextmanager
def behind(moto: Moto, root: Uri, script: Script) -> Iterator[Filesystem]:
    """The store as it is reached through a network that fails by ``script``."""
    with pytest.MonkeyPatch.context() as patch, faulty(moto.url, script) as url:
        patch.setenv("AWS_ENDPOINT_URL", url)
        yield open_filesystem(root)
    assert script.left == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 9\r\n\r\n",
        b"Content-Length: 9\r\n\r\n1234",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\n1234",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_the_failing_network_hands_on_no_request_that_was_cut(
    moto: Moto, root: Uri, sent: bytes
) -> None:
    with faulty(moto.url, lambda _method, _path: Fault.NONE) as url:
        server = urlsplit(url)
        with socket.create_connection((server.hostname, server.port), 5) as connection:
            connection.sendall(f"PUT /{root.bucket}/lake/a HTTP/1.1\r\n".encode() + sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    assert list(open_filesystem(root).list(root)) == []


def test_a_busy_store_is_asked_again(moto: Moto, root: Uri) -> None:
    with behind(moto, root, Script(Fault.BUSY, "PUT", "/lake/a", 2)) as fs:
        ref = fs.write(root / "a", b"x")

    assert open_filesystem(root).stat(root / "a") == ref


def test_a_store_that_stays_busy_is_given_up(
    moto: Moto, root: Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.infra.storage.filesystems.objects.MAX_PAUSE_SECONDS", 0.001)

    with (
        behind(moto, root, Script(Fault.BUSY, "PUT", "/lake/a", BUSY_TRIES)) as fs,
        pytest.raises(StoreUnavailable, match=f"in {BUSY_TRIES} tries: 503") as caught,
    ):
        fs.write(root / "a", b"x")

    assert caught.value.retry == "later"


def test_create_wins_although_the_answer_was_lost(moto: Moto, root: Uri) -> None:
    with behind(moto, root, Script(Fault.LOST_ANSWER, "PUT", "/lake/lock", 1)) as fs:
        assert fs.create(root / "lock", b"mine") is True
        assert fs.create(root / "lock", b"mine") is False


def test_a_download_whose_answer_is_cut_is_whole_in_the_end(
    moto: Moto, root: Uri, tmp_path: Path
) -> None:
    data = os.urandom(9 * MIB)
    ref = open_filesystem(root).write(root / "a", data)

    with behind(moto, root, Script(Fault.CUT_BODY, "GET", "/lake/a", 2)) as fs:
        fs.download(ref, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == data


@pytest.mark.parametrize(
    ("fault", "method", "text"),
    [
        (Fault.BUSY, "PUT", "partNumber=2"),
        (Fault.LOST_ANSWER, "PUT", "partNumber=1"),
        (Fault.LOST_ANSWER, "POST", "uploadId="),
    ],
    ids=["a part is refused", "the answer to a part is lost", "the last answer is lost"],
)
def test_an_upload_in_parts_survives(
    moto: Moto, root: Uri, tmp_path: Path, fault: Fault, method: str, text: str
) -> None:
    data = os.urandom(17 * MIB)
    (tmp_path / "source").write_bytes(data)

    with behind(moto, root, Script(fault, method, text, 1)) as fs:
        ref = fs.upload(tmp_path / "source", root / "big")

    assert open_filesystem(root).read(ref) == data


def test_a_failed_upload_leaves_no_parts(
    moto: Moto, root: Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.infra.storage.filesystems.objects.MAX_PAUSE_SECONDS", 0.001)
    (tmp_path / "source").write_bytes(bytes(17 * MIB))

    with (
        behind(moto, root, Script(Fault.BUSY, "PUT", "partNumber=2", BUSY_TRIES)) as fs,
        pytest.raises(StoreUnavailable),
    ):
        fs.upload(tmp_path / "source", root / "big")

    client = moto.client()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=root.bucket)
    client.close()
    assert list(open_filesystem(root).list(root)) == []


def test_a_request_that_is_cut_in_its_middle_leaves_nothing(moto: Moto, root: Uri) -> None:
    with faulty(moto.url, lambda _method, _path: Fault.NONE) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            head = (
                f"PUT /{root.bucket}/lake/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n"
            )
            connection.sendall(f"{head}five!".encode())
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    assert not list(open_filesystem(root).list(root))
