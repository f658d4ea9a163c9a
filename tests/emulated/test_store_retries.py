"""Each try of a store call is counted, on every store; none is made behind our back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from tests.emulators import faults
from tests.emulators.every_store import CLOUDS, Place, place
from tests.emulators.faults import Fault, faulty

from headwater.infra.errors import StoreUnavailable
from headwater.infra.storage.filesystems import objects, open_filesystem
from headwater.infra.storage.retries import counting, threads
from headwater.infra.storage.uris import Uri

MODULES = {"s3": "aws", "gcs": "gcp", "azure": "azure"}
DATA = b"0123456789" * 1000


class First:
    """Fails the first ``times`` requests."""

    def __init__(self, fault: Fault, times: int) -> None:
        self.fault, self.left = fault, times

    def __call__(self, method: str, path: str) -> Fault:
        if not self.left:
            return Fault.NONE
        self.left -= 1
        return self.fault


@pytest.fixture(params=CLOUDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(objects, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(objects, "MAX_PAUSE_SECONDS", 0.01)
    return place(request.param, request, tmp_path)


@contextmanager
def behind(store: Place, first: First) -> Iterator[Uri]:
    """The place, as it is reached through a network that fails."""
    with pytest.MonkeyPatch.context() as patch, faulty(store.url, first) as url:
        for name, value in store.environment(url).items():
            patch.setenv(name, value)
        yield Uri.parse(f"{store.root}/retries")


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.THROTTLED])
def test_each_try_of_a_write_counts(store: Place, fault: Fault) -> None:
    with behind(store, First(fault, 3)) as root, counting() as retries:
        open_filesystem(root).write(root / "a", DATA)

    assert retries.count == 3


@pytest.mark.parametrize("fault", [Fault.DROPPED, Fault.LOST_ANSWER])
def test_a_write_survives_connections_that_are_dropped(store: Place, fault: Fault) -> None:
    times = objects.CONNECT_TRIES + 1  # more than where nothing listens
    with behind(store, First(fault, 2 * times)) as root, counting() as retries:
        open_filesystem(root).write(root / "a", DATA)

    # aiohttp makes up to one try of its own for each of ours, and tells nobody.
    assert times <= retries.count <= 2 * times


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.CUT_BODY])
def test_each_try_of_a_read_counts(store: Place, fault: Fault) -> None:
    with behind(store, First(fault, 0)) as root:
        ref = open_filesystem(root).write(root / "a", DATA)

    with behind(store, First(fault, 2)) as root, counting() as retries:
        assert open_filesystem(root).read(ref) == DATA

    assert retries.count == 2


def test_an_answer_that_does_not_come_is_asked_for_again(
    store: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(f"headwater.infra.storage.filesystems.{MODULES[store.store]}")
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(faults, "SLOW_SECONDS", 1.0)

    # More often than a store is asked that is not there at all.
    times = objects.CONNECT_TRIES
    with behind(store, First(Fault.SLOW, times)) as root, counting() as retries:
        open_filesystem(root).write(root / "a", DATA)

    assert retries.count == times


def test_what_failed_takes_its_count_with_it(store: Place) -> None:
    tries = objects.BUSY_TRIES
    with (
        behind(store, First(Fault.BUSY, tries)) as root,
        pytest.raises(StoreUnavailable, match=f"in {tries} tries") as caught,
        counting(),
    ):
        open_filesystem(root).write(root / "a", DATA)

    assert caught.value.store_retries == tries - 1


def test_threads_count_where_their_maker_counts(store: Place) -> None:
    with behind(store, First(Fault.BUSY, 2)) as root, counting() as retries:
        fs = open_filesystem(root)
        with threads(2) as pool:
            list(pool.map(lambda name: fs.write(root / name, DATA), "ab"))

    assert retries.count == 2
