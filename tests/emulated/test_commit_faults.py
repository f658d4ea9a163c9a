"""A commit that the store took and whose answer the network lost: done, once, on every store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest
from tests.emulators.every_store import CLOUDS, Place, place
from tests.emulators.faults import Fault, faulty

from headwater.infra.models import Mode
from headwater.infra.storage.datasets import Commit, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.tasks.write import PartWriter


class Lost:
    """Loses the answers to the first ``times`` requests that write the log's entry ``version``."""

    def __init__(self, version: int, times: int = 1) -> None:
        self.name, self.left = f"{version:020d}.json", times

    def __call__(self, method: str, path: str) -> Fault:
        if method == "PUT" and self.name in unquote(path) and self.left:
            self.left -= 1
            return Fault.LOST_ANSWER
        return Fault.NONE


@pytest.fixture(params=CLOUDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request.param, request, tmp_path)


@contextmanager
def behind(store: Place, lost: Lost) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, faulty(store.url, lost) as url:
        for name, value in store.environment(url).items():
            patch.setenv(name, value)
        yield


@contextmanager
def direct(store: Place) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.variables.items():
            patch.setenv(name, value)
        yield


def append(root: Uri, number: int, tmp: Path, *, run: str = "first") -> Commit:
    dataset = Dataset(root)
    frame = pl.DataFrame({"n": [number]})
    writer = PartWriter(dataset.uri, f"{number:012d}", 0, tmp)
    writer.sink(frame.lazy(), ())
    return dataset.commit(
        writer.publish(),
        schema=frame.schema,
        partition_by=(),
        mode=Mode.APPEND,
        app_id=f"run-{number}",
        revision=1,
        metadata={"run": run},
    )


def numbers(root: Uri) -> list[int]:
    fs = open_filesystem(root)
    lazy = pl.scan_delta(
        fs.delta_uri(root), storage_options=fs.delta_options(root), credential_provider=None
    )
    return sorted(lazy.collect()["n"])


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(0, id="creation", marks=pytest.mark.trial),
        pytest.param(1, id="first"),
        pytest.param(2, id="later", marks=pytest.mark.trial),
    ],
)
def test_an_entry_whose_answer_is_lost_is_there_once(
    store: Place, tmp_path: Path, version: int
) -> None:
    root = Uri.parse(f"{store.root}/table")
    earlier = range(1, version)
    with direct(store):
        for number in earlier:
            append(root, number, tmp_path)

    lost = Lost(version)
    with behind(store, lost):
        done = append(root, 9, tmp_path)

    assert lost.left == 0
    assert not done.already
    with direct(store):
        assert numbers(root) == [*earlier, 9]
        assert [entry.version for entry in Dataset(root).log()] == [*range(len(earlier) + 1, 0, -1)]
        assert append(root, 9, tmp_path, run="second").already
        assert numbers(root) == [*earlier, 9]
