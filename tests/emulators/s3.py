"""S3 on loopback: ``moto`` in a process of its own."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.emulators.process import free_port, server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"

MODULES = Path(__file__).with_name("moto_modules")
"""Modules that ``moto`` uses where they are there."""


@dataclass(frozen=True, slots=True)
class Moto:
    """A running server.

    Attributes:
        url: Its endpoint, as ``AWS_ENDPOINT_URL`` takes it.
    """

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which every SDK reaches this server and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "moto-secret-0123456789",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def client(self, service: str = "s3", *, region: str = REGION) -> Any:
        """A boto3 client, which is another client than the one that is tested."""
        import boto3

        return boto3.client(
            service,  # type: ignore[call-overload]  # the stubs list literal names only
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="testing",
            aws_secret_access_key="moto-secret-0123456789",
        )

    def new_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"lake-{uuid.uuid4().hex[:12]}"
        client: S3Client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object with another client than the one that is tested."""
        client: S3Client = self.client()
        client.put_object(Bucket=bucket, Key=key, Body=data)
        client.close()


@contextmanager
def moto(log: Path, *, env: dict[str, str] | None = None) -> Iterator[Moto]:
    """A server for as long as the body runs.

    Args:
        log: Where its output goes.
        env: Variables that are added to ours, such as ``INITIAL_NO_AUTH_ACTION_COUNT``.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    paths = [str(MODULES), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(paths), **(env or {})}
    with server(command, port, log, env={**os.environ, **variables}):
        yield Moto(f"http://127.0.0.1:{port}")
