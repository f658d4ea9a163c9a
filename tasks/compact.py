"""Brings many small files of a table together in few, without changing a row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version
from itertools import groupby
from pathlib import Path

import polars as pl

from headwater.infra.errors import CommitConflict, DamagedFile
from headwater.infra.storage.datasets import MAX_COMMIT_TRIES, Dataset, Snapshot, TableFile
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.rewrites import Rewrite, commit_rewrites, pause, require_rewritable
from headwater.infra.storage.types import column_of
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB
from headwater.tasks.rewrite import (
    OnProgress,
    all_scanned,
    current,
    damaged,
    discard,
    one_by_one,
    source_of,
)
from headwater.tasks.write import PartWriter

TARGET_BYTES = 128 * MIB
"""Size of a file that is worth its requests: opening one takes three, of which each costs about
what 5 MB of reading does; and uncompressed it is still a part that one worker can hold."""

SMALL_SHARE = 0.75
"""Files of this share of the target are left alone: little would be won for writing them anew."""

MAX_FILES = 1_000
"""Files that become one; more would make a plan that takes longer than the reading."""

COMPARED_ROWS = 65_536
"""Rows that are compared at a time, after writing."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did, or would do.

    Attributes:
        version: The version with fewer files; ``None`` where none was committed.
        before: Files that were brought together.
        before_bytes: Their size.
        after: Files that took their place; in a plan, how many these will be at least.
        after_bytes: Their size; 0 in a plan.
        rows: Rows in them, before as after.
        left: Files that nothing was done to.
        lost: Files that another writer removed meanwhile, so that what was written of them went
            too.
    """

    version: int | None
    before: int
    before_bytes: int
    after: int
    after_bytes: int
    rows: int
    left: int
    lost: int = 0


def groups(
    files: Sequence[TableFile], target_bytes: int = TARGET_BYTES
) -> tuple[tuple[TableFile, ...], ...]:
    """Small files that are to become one, of one partition each, in the order of their paths.

    Neighbours come together, so rows keep their order where the table has one.
    """
    found: list[tuple[TableFile, ...]] = []
    ordered = sorted(files, key=lambda f: (str(f.partition), f.path))
    for _, partition in groupby(ordered, key=lambda f: f.partition):
        found += (group for group in _packed(partition, target_bytes) if len(group) > 1)
    return tuple(found)


def plan_compaction(dataset: Dataset, *, target_bytes: int = TARGET_BYTES) -> Compaction:
    """What ``compact`` would do to the table as it is now; nothing is written."""
    snapshot = current(dataset)
    require_rewritable(dataset, changes_data=False)
    found = groups(snapshot.files, target_bytes)
    old = [file for group in found for file in group]
    return Compaction(
        version=None,
        before=len(old),
        before_bytes=sum(f.size_bytes for f in old),
        after=len(found),
        after_bytes=0,
        rows=sum(f.rows or 0 for f in old),
        left=len(snapshot.files) - len(old),
    )


def compact(
    dataset: Dataset,
    *,
    target_bytes: int = TARGET_BYTES,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Compaction:
    """Write small files anew as fewer, and commit that as one version that changes no data.

    Each new file is read back and compared with the old ones, row by row and in their order,
    before it is published. Where another writer removes some of the old files meanwhile, what was
    made of them is dropped, and the rest is committed.

    Args:
        target_bytes: About the size of the new files.
    Raises:
        DamagedFile: An old file cannot be read, or a new one does not hold the same rows.
        CommitConflict: Other writers won every try.
    """
    snapshot = current(dataset)
    require_rewritable(dataset, changes_data=False)
    app_id = f"hw:compact:{uuid.uuid4().hex}"
    rewrites: list[Rewrite] = []
    lost = 0
    is_safe_to_discard = True
    try:
        work = partial(_together, dataset.uri, source_of(snapshot))
        found = groups(snapshot.files, target_bytes)
        rewrites.extend(one_by_one(work, found, len, on_progress))
        for attempt in range(MAX_COMMIT_TRIES):
            rewrites, gone = _still_there(rewrites, snapshot)
            lost += sum(len(rewrite.old) for rewrite in gone)
            discard(dataset, [file for rewrite in gone for file in rewrite.new])
            if not rewrites:
                return _told(None, snapshot, [], lost)
            is_safe_to_discard = False
            version = commit_rewrites(
                dataset,
                snapshot,
                rewrites,
                changes_data=False,
                app_id=app_id,
                metadata=_metadata(rewrites),
            )
            is_safe_to_discard = True
            if version is not None:
                return _told(version, snapshot, rewrites, lost)
            pause(attempt)
            snapshot = current(dataset)
    except BaseException:
        if is_safe_to_discard:
            discard(dataset, [file for rewrite in rewrites for file in rewrite.new])
        raise
    discard(dataset, [file for rewrite in rewrites for file in rewrite.new])
    raise CommitConflict(
        f"{MAX_COMMIT_TRIES} tries to commit to {dataset} lost to other writers",
        hint="run the same command again",
    )


def _packed(files: Iterator[TableFile], target_bytes: int) -> Iterator[tuple[TableFile, ...]]:
    group: list[TableFile] = []
    size = 0
    for file in files:
        if file.size_bytes >= target_bytes * SMALL_SHARE:
            continue
        if size + file.size_bytes > target_bytes or len(group) == MAX_FILES:
            yield tuple(group)
            group, size = [], 0
        group.append(file)
        size += file.size_bytes
    yield tuple(group)


def _together(target: Uri, source: Input, files: tuple[TableFile, ...], tmp: Path) -> Rewrite:
    """The rows of ``files``, in one."""
    columns = [column_of(n) for n in source.schema if n not in source.partition_by]
    with ExitStack() as stack:
        frames = [f.select(columns) for f in all_scanned(stack, source, files, tmp)]
        writer = PartWriter(target, uuid.uuid4().hex, 0, tmp)
        try:
            path = writer.sink_into(pl.concat(frames), files[0].partition)
            _require_same(frames, path, target)
        except BaseException as exc:
            writer.discard()
            if isinstance(exc, (pl.exceptions.PolarsError, pl.exceptions.PanicException)):
                _name_damaged(frames, files, target)
            raise
        return Rewrite(files, writer.publish())


def _name_damaged(frames: Sequence[pl.LazyFrame], files: Sequence[TableFile], target: Uri) -> None:
    """Raise for the file that cannot be read, found by reading each alone."""
    for file, frame in zip(files, frames, strict=True):
        try:
            frame.collect(engine="streaming")
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:
            raise damaged(target / file.path, exc) from exc


def _require_same(frames: Sequence[pl.LazyFrame], path: Path, target: Uri) -> None:
    """Compare what was written with what it was made of: types, values and order."""
    written = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    is_same = written.collect_schema() == frames[0].collect_schema()
    row = 0
    for want in _batches(frames):
        is_same = is_same and want.equals(written.slice(row, want.height).collect())
        row += want.height
    if not is_same or row != int(written.select(pl.len()).collect().item()):
        raise DamagedFile(
            f"a file of {target.display} that was written anew does not hold the rows that it was"
            " made of; nothing was committed",
            hint="check this machine's disk and memory, and report it",
        )


def _batches(frames: Sequence[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
    """All rows in their order, about ``COMPARED_ROWS`` at a time, however small the files are."""
    held: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        start = 0
        while (piece := frame.slice(start, COMPARED_ROWS).collect()).height:
            start += piece.height
            rows += piece.height
            held.append(piece)
            if rows >= COMPARED_ROWS:
                yield pl.concat(held)
                held, rows = [], 0
            if piece.height < COMPARED_ROWS:
                break
    if held:
        yield pl.concat(held)


def _still_there(
    rewrites: Sequence[Rewrite], snapshot: Snapshot
) -> tuple[list[Rewrite], list[Rewrite]]:
    """Those of which the version holds every old file, and the others."""
    paths = {file.path for file in snapshot.files}
    there = [r for r in rewrites if all(file.path in paths for file in r.old)]
    return there, [r for r in rewrites if r not in there]


def _told(
    version: int | None, snapshot: Snapshot, rewrites: Sequence[Rewrite], lost: int
) -> Compaction:
    old = [file for rewrite in rewrites for file in rewrite.old]
    new = [file for rewrite in rewrites for file in rewrite.new]
    return Compaction(
        version=version,
        before=len(old),
        before_bytes=sum(f.size_bytes for f in old),
        after=len(new),
        after_bytes=sum(f.size_bytes for f in new),
        rows=sum(f.rows for f in new),
        left=len(snapshot.files) - len(old),
        lost=lost,
    )


def _metadata(rewrites: Sequence[Rewrite]) -> dict[str, object]:
    return {
        "operation": "OPTIMIZE",
        "job": f"compact {sum(len(r.old) for r in rewrites)} files into {len(rewrites)}",
        "rows": sum(file.rows for rewrite in rewrites for file in rewrite.new),
        "headwater": installed_version("headwater"),
    }
