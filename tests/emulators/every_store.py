"""One shape for a place on every store: what a test needs that is the same on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from tests.emulators.azure import ACCOUNT, Azurite
from tests.emulators.gcs import FakeGcs
from tests.emulators.s3 import Moto

STORES = ("local", "s3", "gcs", "azure")
CLOUDS = STORES[1:]


@dataclass(frozen=True, slots=True)
class Place:
    """A new, empty place on one store.

    Attributes:
        root: Address of a folder in which nothing is.
        url: Endpoint of the store, without a path; empty for local files.
        environment: Variables with which a process reaches the store, given the endpoint that it
            is to use.
    """

    store: str
    root: str
    url: str
    environment: Callable[[str], Mapping[str, str]]

    @property
    def variables(self) -> Mapping[str, str]:
        """Variables with which a process reaches the store itself."""
        return self.environment(self.url)


def place(store: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    """A new place on ``store``; its server is started when a test first asks.

    Args:
        folder: For local files.
    """
    match store:
        case "s3":
            moto: Moto = request.getfixturevalue("moto_process")
            root = f"s3://{moto.new_bucket()}/lake"
            return Place(store, root, moto.url, lambda url: Moto(url).environment)
        case "gcs":
            gcs: FakeGcs = request.getfixturevalue("gcs_process")
            root = f"gs://{gcs.new_bucket()}/lake"
            return Place(store, root, gcs.url, lambda url: FakeGcs(url).environment)
        case "azure":
            azurite: Azurite = request.getfixturevalue("azurite_process")
            root = f"abfss://{azurite.new_container()}@{ACCOUNT}.dfs.core.windows.net/lake"
            server = urlsplit(azurite.url)
            return Place(
                store,
                root,
                f"{server.scheme}://{server.netloc}",
                lambda url: Azurite(f"{url}/{ACCOUNT}").environment,
            )
        case _:
            return Place(store, str(folder / f"lake-{uuid4().hex[:8]}"), "", lambda _: {})
