"""Files of a table that are read and written anew, in this process and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import polars as pl

from headwater.infra.errors import DamagedFile, NotFound, first_line
from headwater.infra.models import Format, PartFile
from headwater.infra.storage.datasets import Dataset, Snapshot, TableFile
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.retries import threads
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.staging import stage
from headwater.infra.storage.uris import Uri

AT_ONCE = 4
"""Files, or groups of them, under way together: one is computed while others are on their way."""

STAGERS = 8
"""Files of one group that are brought together."""

OnProgress = Callable[[int, int], None]
"""Called in the caller's thread with how many files are done, and of how many."""

T = TypeVar("T")
R = TypeVar("R")


def current(dataset: Dataset) -> Snapshot:
    """The table as it is now.

    Raises:
        NotFound: No table is there, or it has no version yet.
    """
    snapshot = dataset.snapshot()
    if snapshot is None:
        raise NotFound(f"{dataset} has no version yet", hint="a run that ends well commits one")
    return snapshot


def source_of(snapshot: Snapshot) -> Input:
    """What reading a file of ``snapshot`` needs to know of the table."""
    return Input(
        snapshot.uri,
        Format.DELTA,
        (),
        snapshot.schema,
        snapshot.partition_by,
        str(snapshot.version),
    )


@contextmanager
def scanned(
    source: Input, file: TableFile, directory: Path, columns: Iterable[str] | None = None
) -> Iterator[pl.LazyFrame]:
    """A scan of ``file`` with the columns of ``source``, for as long as the body runs.

    Args:
        directory: Where a copy goes.
        columns: What the body reads; ``None`` is all.
    """
    uri = Uri.parse(source.uri) / file.path
    ref = open_filesystem(uri).stat(uri)
    wanted = None if columns is None else frozenset(columns)
    with stage(ref, wanted, directory=directory) as staged:
        try:
            yield read_slice(staged.path, source, partition=file.partition)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:
            raise damaged(uri, exc) from exc


def all_scanned(
    stack: ExitStack, source: Input, files: Sequence[TableFile], directory: Path
) -> list[pl.LazyFrame]:
    """A scan of each file, brought together, for as long as ``stack`` is open."""
    managers = [scanned(source, file, directory) for file in files]
    with threads(STAGERS) as pool:
        frames = list(pool.map(lambda manager: manager.__enter__(), managers))
    for manager in managers:
        stack.push(manager)
    return frames


def damaged(uri: Uri, exc: BaseException) -> DamagedFile:
    """What is said where the engine could not read the table's file at ``uri``."""
    return DamagedFile(
        f"{uri.display} cannot be read: {first_line(exc)}",
        hint="mend the table first: bring the file back, or delete what it held",
    )


def one_by_one(
    work: Callable[[T, Path], R], items: Sequence[T], files: Callable[[T], int], told: OnProgress
) -> Iterator[R]:
    """``work`` on each item, a few at a time, each with a folder; results in their order.

    Args:
        files: How many files an item stands for.
        told: Called after each item; once before, with none done.
    """
    total = sum(files(item) for item in items)
    told(0, total)
    done = 0

    def in_folder(item: T) -> R:
        prefix = "headwater-rewrite-"
        with TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as tmp:
            return work(item, Path(tmp))

    with threads(AT_ONCE) as pool:
        results = pool.map(in_folder, items)
        for item, result in zip(items, results, strict=True):
            done += files(item)
            told(done, total)
            yield result


def discard(dataset: Dataset, files: Iterable[PartFile]) -> None:
    """Remove files that no version names and none ever will."""
    fs = open_filesystem(dataset.uri)
    for file in files:
        fs.delete(dataset.uri / file.path)
