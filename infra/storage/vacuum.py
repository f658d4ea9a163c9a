"""Removes from a table what no version that is still needed holds.

Five kinds of files go: those of versions that were superseded longer ago than the retention,
parts that no commit ever named, what killed writers left half written, the state of runs that were
given up, and entries of the log that a checkpoint has made needless. Ages are told by the store's
clock.

What goes is decided from one look at the log. The order in which it goes makes that safe beside
runs and other writers: first the receipts of old runs, then a second look at the log and at the
runs, and the parts only after it. A run that takes up an earlier attempt marks that before it
looks for receipts. So either the second look sees the mark, or the run finds no receipt and does
its parts anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from headwater.infra.errors import InvalidRequest, StorageError, UnsupportedData
from headwater.infra.models import DataRef
from headwater.infra.storage.datasets import LOG_FOLDER, STATE_FOLDER, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.history import History, named_after, read_history
from headwater.infra.storage.retries import threads
from headwater.infra.storage.runs import RUN_DIGITS, RUNS_FOLDER, is_receipt, run_of_part
from headwater.infra.storage.uris import Uri

RETENTION = timedelta(days=7)
"""How long a superseded version stays readable: Delta's own default, longer than a reader or a
weekend takes. ``RETENTION_PROPERTY`` comes before it."""

RETENTION_PROPERTY = "delta.deletedFileRetentionDuration"
"""The table's own word on it."""

GRACE = timedelta(days=7)
"""How long what an unfinished run left may be taken up: over a weekend and a holiday."""

SHORTEST_GRACE = timedelta(days=1)
"""Parts of a run that is under way are as old as it is; few run longer than this."""

LOG_RETENTION = timedelta(days=30)
"""How long entries of the log stay: Delta's own default."""

DELETERS = 16
"""Files that are removed together; as many requests as stores take without slowing down."""

BATCH = 512
"""Files between two looks for new versions."""

KNOWN_FEATURES = frozenset(
    {
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "clustering",
        "domainMetadata",
        "generatedColumns",
        "identityColumns",
        "inCommitTimestamp",
        "invariants",
        "rowTracking",
        "timestampNtz",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Writer features under which the log alone says which files are needed."""

_INTERVAL = re.compile(r"^(?:interval\s+)?(\d+)\s+(week|day|hour|minute|second)s?$", re.IGNORECASE)


class Kind(StrEnum):
    """Why a file is not needed."""

    OLD_VERSION = "files of old versions"
    ORPHAN = "parts never committed"
    RUN = "state of old runs"
    LOG = "old log entries"
    UNFINISHED = "unfinished uploads"


@dataclass(frozen=True, slots=True)
class Garbage:
    """One file that is not needed.

    Attributes:
        path: Below the table's root.
    """

    kind: Kind
    path: str
    ref: DataRef


@dataclass(frozen=True, slots=True)
class VacuumPlan:
    """What a vacuum would remove, from one look at the table.

    Attributes:
        version: The table's last version at that look.
        readable_from: This version and all later ones can be read afterwards.
        lost: Versions that can be read now and not afterwards, as ranges with both ends.
        kept_runs: Runs whose state is younger than the grace; their parts stay.
        foreign: Files that belong to no table and no run; they are left alone.
        now: The store's time at that look, in seconds since 1970.
        not_looked: Why unfinished uploads were not looked for; empty where they were.
    """

    uri: str
    version: int
    readable_from: int
    lost: tuple[tuple[int, int], ...]
    garbage: tuple[Garbage, ...]
    kept_runs: int
    foreign: int
    retention: timedelta
    grace: timedelta
    now: float
    not_looked: str = ""

    @property
    def size_bytes(self) -> int:
        """Size of all that would go."""
        return sum(one.ref.size_bytes for one in self.garbage)


def plan_vacuum(
    dataset: Dataset,
    *,
    retention: timedelta | None = None,
    grace: timedelta = GRACE,
    force: bool = False,
    now: float | None = None,
) -> VacuumPlan:
    """What can be removed from the table; nothing is.

    Args:
        retention: How long a superseded version stays readable. By default the table's own
            property, else ``RETENTION``.
        grace: How long the parts and receipts of an unfinished run stay.
        force: Allow a retention that is shorter than the table's, and a grace of less than
            ``SHORTEST_GRACE``: readers and runs that are under way may lose their files.
        now: Seconds since 1970; by default the store's clock.
    Raises:
        InvalidRequest: The retention or the grace is too short.
        UnsupportedData: The table has a feature that could make other files needed.
        NotFound: No table is there.
    """
    fs = open_filesystem(dataset.uri)
    properties = _require_understood(dataset)
    allowed = _duration(properties, RETENTION_PROPERTY, RETENTION)
    retention = allowed if retention is None else retention
    if not force:
        _require_long_enough(retention, allowed, grace)
    now = store_time(dataset) if now is None else now
    history = read_history(dataset)
    files = _Files.of(dataset.uri, fs.list(dataset.uri))
    oldest = history.oldest_since(now - retention.total_seconds())
    old_runs, kept = _by_age(files.runs, now - grace.total_seconds())
    garbage = [
        *_old_versions(history, files, oldest),
        *_orphans(history, files, now - grace.total_seconds(), kept),
        *(Garbage(Kind.RUN, path, ref) for run in old_runs for path, ref in files.runs[run]),
    ]
    unfinished, not_looked = _unfinished(fs, dataset.uri, now - grace.total_seconds())
    garbage += unfinished
    checkpoint = None
    if properties.get("delta.enableExpiredLogCleanup", "true") != "false":
        log_retention = _duration(properties, "delta.logRetentionDuration", LOG_RETENTION)
        checkpoint = _needed_from(history, oldest, now - log_retention.total_seconds())
    if checkpoint is not None:
        garbage += [
            Garbage(Kind.LOG, dataset.uri.relative(Uri.parse(one.ref.uri)), one.ref)
            for one in sorted(history.log_files, key=lambda one: one.version)
            if one.version < checkpoint
        ]
    missing = _holding(history, (path for path in history.lives if path not in files.data))
    lost = _holding(history, (g.path for g in garbage if g.kind is Kind.OLD_VERSION))
    if checkpoint is not None:
        lost |= set(range(history.first, checkpoint))
    return VacuumPlan(
        uri=str(dataset.uri),
        version=history.last,
        readable_from=max(lost | missing, default=history.first - 1) + 1,
        lost=tuple(_ranges(sorted(lost - missing))),
        garbage=tuple(garbage),
        kept_runs=len(kept),
        foreign=files.foreign,
        retention=retention,
        grace=grace,
        now=now,
        not_looked=not_looked,
    )


def retention_of(dataset: Dataset) -> timedelta:
    """How long a superseded version of the table stays readable, unless a vacuum is told less."""
    properties = dict(dataset.delta_table().metadata().configuration)
    return _duration(properties, RETENTION_PROPERTY, RETENTION)


def store_time(dataset: Dataset) -> float:
    """Seconds since 1970 by the clock of the table's store."""
    return time.time() + open_filesystem(dataset.uri).clock_offset_seconds(dataset.uri)


def vacuum(
    dataset: Dataset,
    plan: VacuumPlan,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Garbage, ...]:
    """Remove what ``plan`` names and return what went; stopped in between, it can be repeated.

    What a version or a run has come to need since the plan was made is spared.

    Args:
        on_progress: Called in this thread with the files that are done, and all.
    """
    done: list[Garbage] = []
    total = len(plan.garbage)
    on_progress(0, total)

    def remove(files: Iterable[Garbage]) -> None:
        with threads(DELETERS) as pool:
            for batch in _batches(list(files)):
                needed = _needed_now(dataset, plan)
                batch = [one for one in batch if not needed(one)]
                for _ in pool.map(discard, batch):
                    pass
                done.extend(batch)
                on_progress(len(done), total)

    def discard(one: Garbage) -> None:
        if one.kind is Kind.UNFINISHED:
            fs.discard(one.ref)
        else:
            fs.delete(dataset.uri / one.path)

    fs = open_filesystem(dataset.uri)
    runs = [one for one in plan.garbage if one.kind is Kind.RUN]
    # A receipt may be taken up, so it goes before its parts; a list goes after its receipts,
    # which mean nothing without it.
    remove(one for one in runs if is_receipt(one.path))
    remove(one for one in runs if not is_receipt(one.path))
    remove(one for one in plan.garbage if one.kind in (Kind.OLD_VERSION, Kind.ORPHAN))
    remove(one for one in plan.garbage if one.kind is Kind.UNFINISHED)
    remove(one for one in plan.garbage if one.kind is Kind.LOG)
    return tuple(done)


# --- what is there ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Files:
    """The files below a table's root.

    Attributes:
        data: All that could belong to a version, by path.
        runs: The state of each run, by its folder.
        foreign: How many are of no known kind, or belong to a table inside this one.
    """

    data: dict[str, DataRef]
    runs: dict[str, list[tuple[str, DataRef]]]
    foreign: int

    @classmethod
    def of(cls, root: Uri, refs: Iterable[DataRef]) -> _Files:
        data: dict[str, DataRef] = {}
        runs: dict[str, list[tuple[str, DataRef]]] = {}
        inner: set[str] = set()
        foreign = 0
        for ref in refs:
            path = root.relative(Uri.parse(ref.uri))
            head, inside, _ = path.rpartition(f"/{LOG_FOLDER}/")
            if inside:
                inner.add(f"{head}/")
            elif path.startswith(f"{RUNS_FOLDER}/"):
                runs.setdefault(path.split("/")[2], []).append((path, ref))
            elif not path.startswith((f"{LOG_FOLDER}/", f"{STATE_FOLDER}/")):
                if _is_hidden(path):
                    foreign += 1
                else:
                    data[path] = ref
        if inner:
            below = [path for path in data if path.startswith(tuple(inner))]
            foreign += len(below)
            for path in below:
                del data[path]
        return cls(data, runs, foreign)


def _is_hidden(path: str) -> bool:
    """Whether readers of folders leave it out, and so must we: indexes, change data, markers."""
    return any(step.startswith(("_", ".")) and "=" not in step for step in path.split("/"))


def _by_age(
    runs: dict[str, list[tuple[str, DataRef]]], limit: float
) -> tuple[list[str], frozenset[str]]:
    """Runs that were given up, and those of which something is as young as ``limit``."""
    old = [run for run, files in runs.items() if max(ref.modified for _, ref in files) < limit]
    return old, frozenset(runs) - frozenset(old)


# --- what is not needed ----------------------------------------------------------------------


def _old_versions(history: History, files: _Files, oldest: int) -> Iterator[Garbage]:
    for path, lives in history.lives.items():
        if path in files.data and not any(life.reaches(oldest) for life in lives):
            yield Garbage(Kind.OLD_VERSION, path, files.data[path])


def _orphans(
    history: History, files: _Files, limit: float, kept: frozenset[str]
) -> Iterator[Garbage]:
    spared = {run[:RUN_DIGITS] for run in kept}
    for path, ref in files.data.items():
        if (
            path not in history.lives
            and path.endswith(".parquet")
            and ref.modified < limit
            and run_of_part(path) not in spared
        ):
            yield Garbage(Kind.ORPHAN, path, ref)


def _unfinished(fs: Filesystem, root: Uri, limit: float) -> tuple[list[Garbage], str]:
    """What is older than ``limit``; or why that cannot be told, which stops nothing else."""
    try:
        refs = [ref for ref in fs.unfinished(root) if ref.modified < limit]
    except StorageError as exc:
        return [], exc.message
    return [Garbage(Kind.UNFINISHED, root.relative(Uri.parse(r.uri)), r) for r in refs], ""


def _needed_from(history: History, oldest: int, limit: float) -> int | None:
    """The checkpoint before which the log is not needed: everything before it is old enough."""
    young = min((v for v, written in history.written.items() if written >= limit), default=None)
    last = oldest if young is None else min(oldest, young)
    return max((v for v in history.checkpoints if v <= last), default=None)


def _holding(history: History, paths: Iterable[str]) -> set[int]:
    """Versions that hold one of the files."""
    return {
        version
        for path in paths
        for life in history.lives[path]
        for version in range(
            max(life.added, history.first),
            history.last + 1 if life.removed is None else life.removed,
        )
    }


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    begin = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[begin], numbers[index - 1]
            begin = index


# --- removing --------------------------------------------------------------------------------


def _needed_now(dataset: Dataset, plan: VacuumPlan) -> Callable[[Garbage], bool]:
    """Tells what has come to be needed since ``plan``: named by a new version, or by a run that
    was taken up."""
    fs = open_filesystem(dataset.uri)
    named = named_after(dataset, plan.version)
    runs = _Files.of(dataset.uri, fs.list(dataset.uri / RUNS_FOLDER)).runs
    seen = {one.path: one.ref.version for one in plan.garbage if one.kind is Kind.RUN}
    kept = {
        run
        for run, files in runs.items()
        if any(seen.get(path) != ref.version for path, ref in files)
    }
    parts_of = {run[:RUN_DIGITS] for run in kept}

    def needed(one: Garbage) -> bool:
        match one.kind:
            case Kind.RUN:
                return one.path.split("/")[2] in kept
            case Kind.ORPHAN:
                return one.path in named or run_of_part(one.path) in parts_of
            case Kind.OLD_VERSION:
                return one.path in named
            case Kind.LOG | Kind.UNFINISHED:
                return False

    return needed


def _batches(files: Sequence[Garbage]) -> Iterator[Sequence[Garbage]]:
    for start in range(0, len(files), BATCH):
        yield files[start : start + BATCH]


# --- what is allowed -------------------------------------------------------------------------


def _require_understood(dataset: Dataset) -> dict[str, str]:
    """The table's properties, if its features leave no doubt which files it needs."""
    dataset.snapshot()  # refuses what could not be read exactly
    table = dataset.delta_table()
    unknown = sorted(set(table.protocol().writer_features or ()) - KNOWN_FEATURES)
    if unknown:
        raise UnsupportedData(
            f"the table {dataset} uses {', '.join(unknown)}, and Headwater does not know which"
            " files that needs",
            hint="vacuum it with the engine that made it",
        )
    return dict(table.metadata().configuration)


def _require_long_enough(retention: timedelta, allowed: timedelta, grace: timedelta) -> None:
    if retention < allowed:
        raise InvalidRequest(
            f"a retention of {_days(retention)} is shorter than the {_days(allowed)} that readers"
            " of this table may count on: one that began on an older version would lose its files",
            hint="give a longer one, or --force where nothing reads or writes the table",
        )
    if grace < SHORTEST_GRACE:
        raise InvalidRequest(
            f"a grace of {_days(grace)} is shorter than {_days(SHORTEST_GRACE)}: a run that is"
            " under way would lose its parts",
            hint="give a longer one, or --force where nothing writes to the table",
        )


def _duration(properties: dict[str, str], name: str, default: timedelta) -> timedelta:
    text = properties.get(name)
    if text is None:
        return default
    match = _INTERVAL.match(text.strip())
    if match is None:
        raise UnsupportedData(
            f"the table's property {name} is '{text}', which is no interval of weeks, days, hours,"
            " minutes or seconds",
            hint="set it to something like 'interval 7 days'",
        )
    return timedelta(**{f"{match[2].lower()}s": int(match[1])})


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return "1 day" if days == 1 else f"{days:g} days"
