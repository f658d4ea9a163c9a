"""Azure Blob Storage on loopback: ``azurite`` from npm."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.emulators.process import free_port, server

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

ACCOUNT = "devstoreaccount1"

# Public: it is printed in the server's documentation.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

COMMAND = "HEADWATER_AZURITE"
"""Variable that names the command ``azurite-blob``; without it, the one in ``PATH`` is taken."""


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running server.

    Attributes:
        url: Endpoint of the blob service of its one account.
    """

    url: str
    account: str = ACCOUNT

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which every SDK reaches this server and nothing else."""
        return {
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={KEY};"
                f"BlobEndpoint={self.url}"
            ),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def new_container(self) -> str:
        """The name of a new, empty container."""
        name = f"lake-{uuid.uuid4().hex[:12]}"
        with self._service() as service:
            service.create_container(name)
        return name

    def address(self, container: str, key: str) -> str:
        """The canonical address of ``key`` in ``container``."""
        return f"abfss://{container}@{self.account}.dfs.core.windows.net/{key}"

    def put(self, container: str, key: str, data: bytes) -> None:
        """Write a blob with another client than the one that is tested."""
        with self._service() as service:
            service.get_blob_client(container, key).upload_blob(data, overwrite=True)

    def _service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        text = self.environment["AZURE_STORAGE_CONNECTION_STRING"]
        return BlobServiceClient.from_connection_string(text)


def azurite_command() -> str | None:
    """The server's command, or ``None`` where it is not installed."""
    return shutil.which(os.environ.get(COMMAND) or "azurite-blob")


@contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """A server for as long as the body runs, with its data and its log in ``folder``."""
    command = azurite_command()
    if command is None:
        raise FileNotFoundError(f"no azurite-blob in PATH, and {COMMAND} is not set")
    port = free_port()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    flags = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with server([command, *options, *flags], port, folder / "log.txt"):
        yield Azurite(f"http://127.0.0.1:{port}/{ACCOUNT}")
