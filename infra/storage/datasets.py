"""Dataset versions: a Delta table whose parts workers write and whose versions the driver commits.

A table lives under one root:

    data/…/part-….parquet      parts; no reader sees one before a commit names it
    _delta_log/                the versions
    _headwater/runs/<run key>/ what unfinished runs have done so far

Parts of a partitioned table lie in folders named after their values, since Polars' own Delta
reader takes the values from there; every other reader takes them from the log, which has them
exactly.

A new table is first created without rows and then committed to from that snapshot, because racing
creates can all succeed one after another while of racing commits from one snapshot exactly one
does. Until its first commit it reads as "no version yet".
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from headwater.infra.errors import (
    AccessDenied,
    CommitConflict,
    DamagedFile,
    NotFound,
    SchemaMismatch,
    StoreUnavailable,
    UnknownName,
    UnsupportedData,
    first_line,
)
from headwater.infra.models import (
    TABLE_VERSION,
    DataRef,
    DatasetVersion,
    Drift,
    Mode,
    PartFile,
)
from headwater.infra.storage.delta_calls import ask_again, denied, may_pass
from headwater.infra.storage.evolution import (
    Evolved,
    entry,
    evolved,
    require_written,
    required_columns,
)
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import delta_tries
from headwater.infra.storage.retries import count_retry
from headwater.infra.storage.types import NULL_FOLDER
from headwater.infra.storage.uris import Uri

DATA_FOLDER = "data"
STATE_FOLDER = "_headwater"
LOG_FOLDER = "_delta_log"

MAX_COMMIT_TRIES = 12
"""Lost races for the next version before giving up; with the pauses below about a minute."""

CHECKPOINT_INTERVAL = 20
"""Commits between checkpoints. Without them each commit reads all earlier ones."""

READABLE_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
"""Reader features whose absence of support here would not change what is read."""

METADATA_KEY = "headwater"
"""Under which an entry of the log keeps what Headwater tells of a commit."""

_FORMAT_PROPERTY = "headwater.format"
"""Property of a table whose value is the ``TABLE_VERSION`` that a reader and a writer must know."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One data file of a snapshot.

    Attributes:
        path: Relative to the root, decoded.
        partition: Values as the log has them.
    """

    path: str
    size_bytes: int
    rows: int | None
    partition: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a table: its schema and its files."""

    uri: str
    version: int
    schema: pl.Schema
    partition_by: tuple[str, ...]
    files: tuple[TableFile, ...]

    @property
    def rows(self) -> int | None:
        """Rows in all files; ``None`` where the log does not count them."""
        counts = [f.rows for f in self.files]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(f.size_bytes for f in self.files)

    def as_version(self) -> DatasetVersion:
        """What a receipt says of this snapshot."""
        return DatasetVersion(
            self.uri, self.version, self.rows or 0, len(self.files), self.size_bytes
        )


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit as the table's log tells it.

    Attributes:
        operation: What the writer called it: ``WRITE``, ``DELETE``, ``OPTIMIZE``.
        changes_data: Whether it added or removed rows.
        transactions: Application id and version of each transaction in it.
        headwater: What Headwater wrote of the run; empty for other writers.
    """

    version: int
    committed: datetime
    operation: str
    changes_data: bool
    transactions: tuple[tuple[str, int], ...]
    headwater: dict[str, Any]

    @property
    def is_creation(self) -> bool:
        """Whether it only made the empty table that the first commit then goes to."""
        return self.version == 0 and bool(self.headwater.get("created"))


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit did: the version that holds the rows, and whether it was there before."""

    dataset: DatasetVersion
    already: bool


class Dataset:
    """A table at one address. Nothing is read until it is asked for."""

    def __init__(self, uri: Uri) -> None:
        self._fs = open_filesystem(uri)
        self.uri = self._fs.canonical(uri)

    def exists(self) -> bool:
        """Whether a table is there, also one that has no version yet."""
        # A writer's temporary file can be in the log's folder before the table is there.
        return any(_is_of_log(ref) for ref in self._fs.list(self.uri / LOG_FOLDER))

    def snapshot(self, version: int | None = None) -> Snapshot | None:
        """The table at ``version``, or as it is now; ``None`` where there is no version yet.

        Raises:
            NotFound: No table is there.
            UnknownName: The table has no such version.
            UnsupportedData: It uses features that would change what is read.
        """
        # Asked for a version far beyond the last, deltalake looks for every one up to it.
        if version is not None and not self._first_version() <= version <= self._last_version():
            raise UnknownName.of(
                "version", str(version), (str(e.version) for e in self.log()), where=str(self)
            )
        table = self._load(version)
        # After the table, which may be created at this moment: then its first entry is there, too.
        if table.version() < self._first_version():
            return None
        return _snapshot(str(self.uri), table)

    def log(self) -> Iterator[LogEntry]:
        """Every commit that the log still holds, newest first; the empty creation is none."""
        for version, ref in sorted(self._log_files().items(), reverse=True):
            entry = self._entry(version, ref)
            if not entry.is_creation:
                yield entry

    def committed(self, app_id: str) -> tuple[int, LogEntry | None] | None:
        """The last revision that ``app_id`` committed, with its entry while the log holds it.

        ``None`` where it never committed here.
        """
        if not self.exists():
            return None
        revision = self._load().transaction_version(app_id)
        if revision is None:
            return None
        entry = next((e for e in self.log() if (app_id, revision) in e.transactions), None)
        return revision, entry

    def is_latest_data(self, entry: LogEntry) -> bool:
        """Whether no later commit added or removed rows."""
        later = (e for e in self.log() if e.version > entry.version)
        return not any(e.changes_data for e in later)

    def partition_by(self) -> tuple[str, ...]:
        """Partition columns of the table; none where there is no table."""
        return tuple(self._load().metadata().partition_columns) if self.exists() else ()

    def require_writable(self) -> None:
        """Refuse a target that holds something else than a table, or could not be written.

        Raises:
            UnsupportedData: Foreign files are there.
            AccessDenied: It is local, and this user may not write there.
        """
        if self.uri.is_local:
            require_writable_folder(self.uri.path)
        if self.exists():
            return
        for ref in self._fs.list(self.uri):
            name = self.uri.relative(Uri.parse(ref.uri))
            # In the log's folder, only what a writer was killed over can be left here.
            if not name.startswith((f"{STATE_FOLDER}/", f"{DATA_FOLDER}/", f"{LOG_FOLDER}/")):
                raise UnsupportedData(
                    f"the target {self.uri.display} is not empty and holds no table; found"
                    f" '{name}'",
                    hint="name an empty or new folder, or an existing table",
                )

    def require_write_access(self) -> None:
        """Refuse a target in a store that would refuse the parts: only a try shows it.

        An empty object is put beside the table and removed. Where it may not be removed it stays:
        a run removes nothing, so that it needs no right to.

        Raises:
            AccessDenied: Objects may not be written there; the message says what to grant.
        """
        if self.uri.is_local:  # ``require_writable`` has looked
            return
        probe = self.uri / STATE_FOLDER / "write-probe"
        self._fs.write(probe, b"")
        with suppress(AccessDenied):
            self._fs.delete(probe)

    def evolve(
        self, schema: pl.Schema, partition_by: Sequence[str], mode: Mode, drift: Drift
    ) -> Evolved:
        """How the table as it is now takes rows of these columns.

        Raises:
            SchemaMismatch: It cannot: columns, types or partition columns differ.
        """
        if not self.exists():
            return Evolved(schema)
        table = self._load()
        this_mode = Mode.OVERWRITE if table.version() < self._first_version() else mode
        return self._evolved(table, schema, partition_by, this_mode, drift)

    def _evolved(
        self,
        table: DeltaTable,
        schema: pl.Schema,
        partition_by: Sequence[str],
        mode: Mode,
        drift: Drift,
    ) -> Evolved:
        have_partition = tuple(table.metadata().partition_columns)
        if tuple(partition_by) != have_partition:
            raise SchemaMismatch(
                f"the table {self.uri.display} is partitioned by"
                f" {_names(have_partition)}, the run by {_names(partition_by)}",
                hint="use the table's partition columns, or another target",
            )
        if mode is Mode.OVERWRITE:
            return Evolved(schema)
        return evolved(
            _polars_schema(table),
            schema,
            table=self.uri.display,
            drift=drift,
            required=required_columns(table),
        )

    def commit(
        self,
        files: Sequence[PartFile],
        *,
        schema: pl.Schema,
        partition_by: Sequence[str],
        mode: Mode,
        app_id: str,
        revision: int,
        metadata: Mapping[str, object],
        drift: Drift = Drift.STRICT,
    ) -> Commit:
        """Make ``files`` one new version, or find that this very commit is already there.

        The check of ``app_id`` and the commit use one and the same snapshot: with two, racing
        writers of the same run can both succeed.

        Args:
            files: Parts that are whole and under the root.
            app_id: Names what is committed; committing it twice changes nothing.
            revision: Counts deliberate repetitions of ``app_id``.
            metadata: What the log shall tell of the run; plain JSON values.
            drift: Whether new columns are added to the table in the same version.
        Raises:
            CommitConflict: Other writers won every try.
            SchemaMismatch: The table has changed meanwhile and cannot take the rows.
        """
        table = self._load_or_create(schema, partition_by)
        first = self._first_version()
        for attempt in range(MAX_COMMIT_TRIES):
            if _has_committed(table, app_id, revision):
                return self._found(app_id, revision, table, metadata)
            # Columns that an attempt without a commit had meant to write bind nobody.
            this_mode = Mode.OVERWRITE if table.version() < first else mode
            fit = self._evolved(table, schema, partition_by, this_mode, drift)
            require_written(fit, schema, str(self))
            try:
                if fit.added:
                    self._add_with_columns(
                        table,
                        _actions(table, files, this_mode),
                        fit,
                        (app_id, revision),
                        metadata,
                    )
                    return self._found(app_id, revision, self._load(), metadata)
                table.create_write_transaction(
                    _actions(table, files, this_mode),
                    "overwrite" if this_mode is Mode.OVERWRITE else "append",
                    _delta_schema(schema),
                    partition_by=list(partition_by),
                    commit_properties=CommitProperties(
                        custom_metadata={METADATA_KEY: json.dumps(dict(metadata))},
                        app_transactions=[Transaction(app_id, revision)],
                        # Each new try must begin with a new look at the transaction.
                        max_commit_retries=0,
                    ),
                )
            except CommitFailedError:
                time.sleep(random.uniform(0.2, 1.0) * min(attempt + 1, 8))  # noqa: S311
                table = self._load()
                continue
            except (DeltaError, OSError) as exc:
                # The store may have taken the commit and lost the answer: look before failing.
                table = self._load()
                if not _has_committed(table, app_id, revision):
                    if may_pass(exc) and attempt < MAX_COMMIT_TRIES - 1:
                        count_retry()
                        continue
                    raise denied(f"commit to {self.uri.display}", exc) or StoreUnavailable(
                        f"the commit to {self.uri.display} was not accepted: {first_line(exc)}",
                        hint="run the same command again: finished parts are taken up",
                    ) from exc
            return self._found(app_id, revision, table, metadata)
        if _has_committed(table, app_id, revision):  # the last try has met itself
            return self._found(app_id, revision, table, metadata)
        raise CommitConflict(
            f"{MAX_COMMIT_TRIES} tries to commit to {self.uri.display} lost to other writers",
            hint="run the same command again: finished parts are taken up",
        )

    def _add_with_columns(
        self,
        table: DeltaTable,
        actions: Sequence[AddAction | RemoveAction],
        fit: Evolved,
        application: tuple[str, int],
        metadata: Mapping[str, object],
    ) -> None:
        """One version with new columns and new rows.

        Raises:
            CommitFailedError: Another writer made the next version first.
        """
        added = _delta_schema(pl.Schema({name: fit.schema[name] for name in fit.added}))
        said = {METADATA_KEY: json.dumps(dict(metadata))}
        data = entry(table, actions, added, application=application, info=said)
        version = table.version() + 1
        if not self._fs.create(self.uri / LOG_FOLDER / f"{version:020d}.json", data):
            raise CommitFailedError(f"version {version} is there already")

    def __str__(self) -> str:
        return self.uri.display

    def delta_table(self, version: int | None = None) -> DeltaTable:
        """The table at ``version``, or as it is now, as `deltalake` opens it.

        Raises:
            NotFound: No table is there.
            UnknownName: The table has no such version.
            DamagedFile: Its log cannot be read.
        """
        return self._load(version)

    def _load(self, version: int | None = None) -> DeltaTable:
        try:
            table = ask_again(
                f"read the log of {self.uri.display}",
                lambda: DeltaTable(
                    self._fs.delta_uri(self.uri), version=version, storage_options=self._options()
                ),
            )
        except TableNotFoundError as exc:
            raise NotFound(
                f"no table at {self.uri.display}",
                hint="check the address, or write it first with `headwater run etl`",
            ) from exc
        except (DeltaError, OSError) as exc:
            if version is not None:
                known = [str(e.version) for e in self.log()]
                if str(version) not in known:
                    raise UnknownName.of("version", str(version), known, where=str(self)) from exc
            raise DamagedFile(
                f"the log of the table {self.uri.display} cannot be read: {first_line(exc)}",
                hint="check that the table is whole; its log is in _delta_log/",
            ) from exc
        _require_known_format(self.uri.display, table)
        return table

    def _load_or_create(self, schema: pl.Schema, partition_by: Sequence[str]) -> DeltaTable:
        if not self.exists():
            try:
                ask_again(
                    f"create the table {self.uri.display}",
                    lambda: self._create(schema, partition_by),
                )
            except (DeltaError, OSError) as exc:
                # A racing writer may have made it meanwhile, and its empty table serves as well;
                # or the store made ours and lost the answer.
                if not self.exists():
                    raise StoreUnavailable(
                        f"the table {self.uri.display} could not be created: {first_line(exc)}",
                        hint="run the same command again: finished parts are taken up",
                    ) from exc
        return self._load()

    def _options(self) -> dict[str, str]:
        """Storage options for deltalake; they hold secrets."""
        options = self._fs.delta_options(self.uri)
        return options if self.uri.is_local else options | delta_tries()

    def _create(self, schema: pl.Schema, partition_by: Sequence[str]) -> None:
        if self.uri.is_local:
            self.uri.path.mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            self._fs.delta_uri(self.uri),
            _delta_schema(schema),
            mode="ignore",
            partition_by=list(partition_by),
            configuration={
                "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
                _FORMAT_PROPERTY: str(TABLE_VERSION),
            },
            raise_if_key_not_exists=False,  # Delta knows no property of ours
            storage_options=self._options(),
            commit_properties=CommitProperties(
                custom_metadata={METADATA_KEY: json.dumps({"created": True})},
                # With a retry the loser would make an empty second version.
                max_commit_retries=0,
            ),
        )

    def _first_version(self) -> int:
        """Version of the first commit with rows: 1 where we created the table, else 0."""
        first = self.uri / LOG_FOLDER / f"{0:020d}.json"
        try:
            entry = self._entry(0, self._fs.stat(first))
        except NotFound:
            return 0  # an old table whose first log entries were cleaned up
        return 1 if entry.is_creation else 0

    def _entry(self, version: int, ref: DataRef) -> LogEntry:
        try:
            return _log_entry(version, self._fs.read(ref))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:  # no JSON, or no Delta
            raise DamagedFile(
                f"the log of the table {self.uri.display} cannot be read: version {version}:"
                f" {first_line(exc)}",
                hint="check that the table is whole; its log is in _delta_log/",
            ) from exc

    def _last_version(self) -> int:
        return max(self._log_files(), default=0)

    def _log_files(self) -> dict[int, DataRef]:
        """The log's entries by their version."""
        found = ((_log_version(ref), ref) for ref in self._fs.list(self.uri / LOG_FOLDER))
        return {version: ref for version, ref in found if version is not None}

    def _found(
        self, app_id: str, revision: int, table: DeltaTable, metadata: Mapping[str, object]
    ) -> Commit:
        """The version that holds the transaction; others may have followed it.

        It was there already unless the log tells of it what ``metadata`` says of this run.
        """
        entry = next((e for e in self.log() if (app_id, revision) in e.transactions), None)
        version = table.version() if entry is None else entry.version
        ours = entry is not None and entry.headwater == json.loads(json.dumps(dict(metadata)))
        return Commit(_snapshot(str(self.uri), self._load(version)).as_version(), already=not ours)


def require_writable_folder(path: Path) -> None:
    """Look at the folder, or at the one in which it would be made.

    Raises:
        AccessDenied: It is no folder, or this user may not write there.
    """
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        raise AccessDenied(
            f"cannot write to {path}: {there} is no folder", hint="name a folder as the target"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise AccessDenied(
            f"cannot write to {path}: this user may not write to {there}",
            hint="choose another target, or change the folder's owner or mode",
        )


def part_folder(partition: Sequence[tuple[str, str | None]], root: str = DATA_FOLDER) -> str:
    """Folder of a part with these values, relative to the table's root.

    Args:
        root: In which folder of the table; empty is the table's own.

    Examples:
        >>> part_folder([("origin", "a/b"), ("day", None)])
        'data/origin=a%2Fb/day=__HIVE_DEFAULT_PARTITION__'
        >>> part_folder([]), part_folder([("origin", "JFK")], root="")
        ('data', 'origin=JFK')
    """
    folders = (f"{name}={_folder_text(text)}" for name, text in partition)
    return "/".join([root, *folders] if root else folders)


def _folder_text(text: str | None) -> str:
    if text is None:
        return NULL_FOLDER
    quoted = quote(text, safe="")
    # Azure drops a dot at the end of a path segment.
    return f"{quoted[:-1]}%2E" if quoted.endswith(".") else quoted


def adding(file: PartFile, now_ms: int, *, changes_data: bool = True) -> AddAction:
    """What names ``file`` in the log.

    Args:
        now_ms: When, in milliseconds since 1970.
        changes_data: Whether its rows are new to the table.
    """
    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values=dict(file.partition),
        modification_time=now_ms,
        data_change=changes_data,
        stats=json.dumps({"numRecords": file.rows}),
    )


def removing(file: TableFile, now_ms: int, *, changes_data: bool = True) -> RemoveAction:
    """What takes ``file`` out of the versions to come; see ``adding``."""
    return RemoveAction(
        path=file.path,
        data_change=changes_data,
        deletion_timestamp=now_ms,
        size=file.size_bytes,
        partition_values=dict(file.partition),
    )


def _snapshot(uri: str, table: DeltaTable) -> Snapshot:
    _require_readable(uri, table)
    actions = pl.DataFrame(table.get_add_actions(flatten=False))
    partition_by = tuple(table.metadata().partition_columns)
    files = []
    for row in actions.iter_rows(named=True):
        values = row.get("partition") or {}
        files.append(
            TableFile(
                unquote(row["path"]),
                row["size_bytes"],
                row["num_records"],
                tuple((name, _log_text(values.get(name))) for name in partition_by),
            )
        )
    files.sort(key=lambda f: f.path)
    return Snapshot(uri, table.version(), _polars_schema(table), partition_by, tuple(files))


def _require_known_format(uri: str, table: DeltaTable) -> None:
    """Refuse a table that a newer Headwater keeps in another way; others' tables say nothing."""
    said = table.metadata().configuration.get(_FORMAT_PROPERTY, str(TABLE_VERSION))
    if not said.isdigit() or int(said) > TABLE_VERSION:
        raise UnsupportedData(
            f"the table {uri} was written by a newer Headwater (format {said}), and this one knows"
            f" formats up to {TABLE_VERSION}",
            hint="upgrade this one",
        )


def _require_readable(uri: str, table: DeltaTable) -> None:
    unknown = sorted(set(table.protocol().reader_features or ()) - READABLE_FEATURES)
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        unknown = sorted({*unknown, "columnMapping"})
    if unknown:
        raise UnsupportedData(
            f"the table {uri} uses {', '.join(unknown)}, which Headwater cannot read exactly",
            hint="write a plain copy of it with the engine that made it",
        )


def _polars_schema(table: DeltaTable) -> pl.Schema:
    empty = pl.DataFrame(cast(Any, table.schema().to_arrow()).empty_table())
    return pl.Schema(empty.schema)


def _delta_schema(schema: pl.Schema) -> DeltaSchema:
    return DeltaSchema.from_arrow(pl.DataFrame(schema=schema).to_arrow().schema)


def _actions(
    table: DeltaTable, files: Sequence[PartFile], mode: Mode
) -> list[AddAction | RemoveAction]:
    now_ms = int(time.time() * 1000)
    added = [adding(file, now_ms) for file in files]
    if mode is not Mode.REPLACE:
        return list(added)
    # Replaced partitions are removed file by file: a filter over several partition columns would
    # also match combinations that the new rows do not have.
    replaced = {file.partition for file in files}
    removed = [
        removing(old, now_ms) for old in _snapshot("", table).files if old.partition in replaced
    ]
    return [*added, *removed]


def _has_committed(table: DeltaTable, app_id: str, revision: int) -> bool:
    last = table.transaction_version(app_id)
    return last is not None and last >= revision


def _is_of_log(ref: DataRef) -> bool:
    """Whether this is an entry or a checkpoint, and no temporary file.

    On a disk, entry ``N.json`` is written as ``N.json#1`` first, which a kill can leave there.
    """
    stem, _, suffix = Uri.parse(ref.uri).name.partition(".")
    return stem.isdigit() and "#" not in suffix


def _log_version(ref: DataRef) -> int | None:
    stem, dot, suffix = Uri.parse(ref.uri).name.partition(".")
    return int(stem) if dot and suffix == "json" and stem.isdigit() else None


def _log_entry(version: int, data: bytes) -> LogEntry:
    info: dict[str, Any] = {}
    transactions: list[tuple[str, int]] = []
    changes = False
    for line in data.splitlines():
        if not line.strip():
            continue
        action = json.loads(line)
        if "commitInfo" in action:
            info = action["commitInfo"]
        elif "txn" in action:
            transactions.append((action["txn"]["appId"], action["txn"]["version"]))
        elif "add" in action or "remove" in action:
            body = action["add"] if "add" in action else action["remove"]
            changes = changes or bool(body.get("dataChange", True))
    committed = datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC)
    said = info.get(METADATA_KEY)
    headwater = json.loads(said) if isinstance(said, str) else {}
    # `deltalake` calls every commit of files WRITE, and lets nobody say otherwise.
    operation = headwater.get("operation", info.get("operation", "unknown"))
    return LogEntry(version, committed, operation, changes, tuple(transactions), headwater)


def _log_text(value: object) -> str | None:
    """A partition value that the log reader has typed, as the log's own text."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S.%f")
        case _:
            return str(value)


def _names(columns: Sequence[str]) -> str:
    return ", ".join(columns) if columns else "no column"
