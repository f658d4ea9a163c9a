"""Deletes rows from a table: the files that hold them are written anew without them.

Earlier versions still hold the rows, until a vacuum removes their files.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path

import polars as pl

from headwater.infra.errors import CommitConflict
from headwater.infra.models import PartFile
from headwater.infra.storage.datasets import MAX_COMMIT_TRIES, Dataset, Snapshot, TableFile
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.rewrites import Rewrite, commit_rewrites, pause, require_rewritable
from headwater.infra.storage.types import column_of, partition_literal
from headwater.infra.storage.uris import Uri
from headwater.tasks.rewrite import OnProgress, current, discard, one_by_one, scanned, source_of
from headwater.tasks.steps.conditions import condition
from headwater.tasks.write import PartWriter


@dataclass(frozen=True, slots=True)
class FileMatch:
    """One file and how many of its rows a condition is true for."""

    file: TableFile
    rows: int
    matching: int


@dataclass(frozen=True, slots=True)
class Matches:
    """Which rows of a version a condition is true for.

    Attributes:
        files: Every file of the version, also those without such a row.
    """

    version: int
    files: tuple[FileMatch, ...]

    @property
    def rows(self) -> int:
        """Rows that the condition is true for."""
        return sum(one.matching for one in self.files)

    @property
    def touched(self) -> tuple[FileMatch, ...]:
        """Files that hold such rows."""
        return tuple(one for one in self.files if one.matching)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion did.

    Attributes:
        version: The version without the rows; ``None`` where no row matched.
        rows: How many rows went.
        rewritten: Files of which some rows were left.
        removed: Files of which none was.
    """

    version: int | None
    rows: int
    rewritten: int
    removed: int


def find_rows(
    dataset: Dataset, where: str, *, on_progress: OnProgress = lambda _done, _total: None
) -> Matches:
    """How many rows of each file ``where`` is true for, as the table is now. Nothing is written.

    Args:
        where: SQL condition over one row, as in the step `filter`. A row for which it is null
            does not match.
    Raises:
        InvalidRequest: ``where`` is no condition on the table's columns.
    """
    snapshot = current(dataset)
    require_rewritable(dataset, changes_data=True)
    return _matches(snapshot, where, {}, on_progress)


def delete_rows(
    dataset: Dataset,
    where: str,
    *,
    known: Matches | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Deletion:
    """Delete the rows for which ``where`` is true, in one commit; rows where it is null stay.

    A writer that commits meanwhile is followed: what it added is searched too, so that the new
    version holds no such row.

    Args:
        where: See ``find_rows``.
        known: What ``find_rows`` said; its files are not searched again.
    Raises:
        CommitConflict: Other writers won every try.
    """
    app_id = f"hw:delete:{uuid.uuid4().hex}"
    written: dict[str, tuple[PartFile, ...]] = {}
    found = {one.file.path: one for one in known.files} if known else {}
    schema: pl.Schema | None = None
    is_safe_to_discard = True
    try:
        for attempt in range(MAX_COMMIT_TRIES):
            snapshot = current(dataset)
            if schema not in (None, snapshot.schema):
                found = {}  # the condition may mean something else now
            schema = snapshot.schema
            require_rewritable(dataset, changes_data=True)
            matches = _matches(snapshot, where, found, on_progress)
            found = {one.file.path: one for one in matches.files}
            if not matches.rows:
                discard(dataset, [f for files in written.values() for f in files])
                return Deletion(None, 0, 0, 0)
            todo = [one for one in matches.touched if one.file.path not in written]
            work = partial(_without, dataset.uri, source_of(snapshot), where)
            kept = one_by_one(work, todo, lambda _: 1, on_progress)
            for one, files in zip(todo, kept, strict=True):
                written[one.file.path] = files
            is_safe_to_discard = False
            version = commit_rewrites(
                dataset,
                snapshot,
                [Rewrite((one.file,), written[one.file.path]) for one in matches.touched],
                changes_data=True,
                app_id=app_id,
                metadata=_metadata(where, snapshot, matches),
            )
            is_safe_to_discard = True
            if version is not None:
                used = {one.file.path for one in matches.touched}
                discard(
                    dataset, [f for p, files in written.items() if p not in used for f in files]
                )
                removed = sum(one.matching == one.rows for one in matches.touched)
                return Deletion(version, matches.rows, len(matches.touched) - removed, removed)
            pause(attempt)
    except BaseException:
        if is_safe_to_discard:
            discard(dataset, [f for files in written.values() for f in files])
        raise
    discard(dataset, [f for files in written.values() for f in files])
    raise CommitConflict(
        f"{MAX_COMMIT_TRIES} tries to commit to {dataset} lost to other writers",
        hint="run the same command again",
    )


def _matches(
    snapshot: Snapshot, where: str, found: Mapping[str, FileMatch], on_progress: OnProgress
) -> Matches:
    expr = condition(where, snapshot.schema)
    todo = [file for file in snapshot.files if file.path not in found]
    work = partial(_match, source_of(snapshot), expr)
    fresh = {m.file.path: m for m in one_by_one(work, todo, lambda _: 1, on_progress)}
    return Matches(
        snapshot.version,
        tuple(fresh.get(f.path) or found[f.path] for f in snapshot.files),
    )


def _match(source: Input, expr: pl.Expr, file: TableFile, tmp: Path) -> FileMatch:
    columns = expr.meta.root_names()
    if file.rows is not None and set(columns) <= set(source.partition_by):
        is_true = _is_true_for(source, expr, file.partition)
        return FileMatch(file, file.rows, file.rows if is_true else 0)
    with scanned(source, file, tmp, columns) as frame:
        rows = file.rows if file.rows is not None else _count(frame)
        return FileMatch(file, rows, _count(frame.filter(expr)))


def _is_true_for(source: Input, expr: pl.Expr, partition: Sequence[tuple[str, str | None]]) -> bool:
    """Whether a condition on partition columns alone is true for the rows of ``partition``."""
    values = [partition_literal(text, source.schema[name], name) for name, text in partition]
    row = pl.DataFrame({"": [0]}).with_columns(values)
    return row.filter(expr).height == 1


def _count(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())


def _without(
    target: Uri, source: Input, where: str, match: FileMatch, tmp: Path
) -> tuple[PartFile, ...]:
    """The rows of a file for which ``where`` is not true, in a new one."""
    if match.matching == match.rows:
        return ()
    with scanned(source, match.file, tmp) as frame:
        is_true = condition(where, source.schema)
        kept = frame.filter(pl.coalesce(is_true, pl.lit(False)).not_())
        columns = [column_of(n) for n in source.schema if n not in source.partition_by]
        writer = PartWriter(target, uuid.uuid4().hex, 0, tmp)
        writer.sink_into(kept.select(columns), match.file.partition)
        return writer.publish()


def _metadata(where: str, snapshot: Snapshot, matches: Matches) -> dict[str, object]:
    """What the log tells. The condition may hold the very values that have to go; its columns do
    not."""
    columns = sorted(set(condition(where, snapshot.schema).meta.root_names()))
    return {
        "operation": "DELETE",
        "job": f"delete by {', '.join(columns) or 'nothing'}",
        "rows": matches.rows,
        "headwater": installed_version("headwater"),
    }
