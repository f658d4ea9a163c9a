"""Fixtures that all tests share: servers of the stores, started when a test first asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.s3 import Moto
from tests.emulators.s3 import moto as moto_server


@pytest.fixture(scope="session")
def moto_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """One S3 server for the whole session."""
    with moto_server(tmp_path_factory.mktemp("moto") / "log.txt") as server:
        yield server


@pytest.fixture
def moto(moto_process: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """The S3 server, with an environment in which every SDK reaches it."""
    for name, value in moto_process.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    return moto_process
