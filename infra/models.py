"""The frozen values that pass between the layers. No I/O, and nothing heavy to import.

Every value that is written to disk carries a format version: older ones are read, newer ones
are refused by name.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Literal

RECEIPT_VERSION = 1
"""Format of ``RunReceipt`` and ``PartReceipt`` as JSON."""

PARTS_VERSION = 1
"""Format of the list of parts that the first attempt of a run leaves in the store."""

TABLE_VERSION = 1
"""Format of what Headwater keeps in a table beside what Delta does: its folders, and what it says
in commits. It is a property of the table, so that it outlives the log's older entries."""


class Format(StrEnum):
    """How a dataset's files are written."""

    DELTA = "delta"
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


class Mode(StrEnum):
    """What a commit does to the rows that are there."""

    OVERWRITE = "overwrite"
    """The new rows take the place of all rows."""
    APPEND = "append"
    """The new rows are added."""
    REPLACE = "replace"
    """The new rows take the place of all rows in the partitions that the new rows have."""


class Drift(StrEnum):
    """What happens where the files of an input have other columns or types than each other."""

    STRICT = "strict"
    """Refused, with a diff of the columns."""
    WIDEN = "widen"
    """Read as one schema that holds the values of all exactly; what was widened is said."""


class BadRows(StrEnum):
    """What happens to rows of text that have other fields than their file's columns."""

    REFUSE = "refuse"
    """The first of them is named, and nothing starts."""
    SKIP = "skip"
    """They are left out and counted."""
    ASIDE = "aside"
    """They are left out, counted, and kept in a file beside the target's versions."""


class Scope(StrEnum):
    """Which rows a job has to see together."""

    ROWS = "rows"
    """One at a time: any cut of the input gives the same result, so parts run side by side."""
    KEY = "key"
    """All that are equal in some columns: parts are cut, or rows exchanged, so that they meet."""
    WHOLE = "whole"
    """All of them: one plan over the whole input on one worker, or steps that meet in between."""


class Status(StrEnum):
    """How a run ended."""

    COMMITTED = "committed"
    ALREADY_COMMITTED = "already committed"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Cloud(StrEnum):
    """Who sells machines and keeps objects."""

    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"


class Market(StrEnum):
    """How a machine is sold."""

    ON_DEMAND = "on demand"
    SPOT = "spot"
    """Cheaper, and taken back by its cloud at any time."""


class Device(StrEnum):
    """What a worker computes on."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class DataRef:
    """One object or file, pinned to the version that was seen at scan.

    Attributes:
        uri: Canonical address (``str`` of a ``storage.uris.Uri``).
        size_bytes: Size of the whole object.
        version: Etag (S3, Azure), generation (GCS), or size, inode and modification time (local).
        modified: When it was written, in seconds since 1970 by the store's clock; 0 where it was
            not listed. It is no part of what is pinned.
    """

    uri: str
    size_bytes: int
    version: str
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time ``[start, end)`` in UTC that a scheduled run covers."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive rows of one input file.

    Attributes:
        ref: The file.
        first_row: Index of the first row.
        rows: How many rows, or ``None`` for all of a file whose rows were not counted at scan.
        size_bytes: Estimated size in memory, uncompressed.
        partition: Name and text of each value that the folder names or the table's log give to
            all rows of the file; ``None`` is null.
    """

    ref: DataRef
    first_row: int
    rows: int | None
    size_bytes: int
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One unit of work: what one Dask task reads, transforms and writes."""

    index: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class PartFile:
    """One file that a part wrote; not visible to any reader before the commit.

    Attributes:
        path: Relative to the table's root, as the table's log names it.
        size_bytes: Size of the file.
        rows: Rows in it.
        version: Etag or generation that the store gave it; proves on resume that it is whole.
        partition: Partition values as the table's log writes them; ``None`` is null.
    """

    path: str
    size_bytes: int
    rows: int
    version: str
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """What a finished part leaves behind.

    Attributes:
        index: Which part.
        files: What it wrote; empty when no row was left.
        rows_in: Rows of the part, before the transform; also those of row groups that were not
            read, since no row of theirs could matter.
        rows_out: Rows written.
        bytes_read: Bytes that were taken from the store: of Parquet the columns and row groups that
            the job's plan uses, without footers, of all else whole objects. Of local files, what
            the part needs of them.
        bytes_written: Size of ``files``.
        seconds: Wall seconds by phase: ``stage``, ``transform`` (with the write that it
            is fused with), ``upload``.
        worker: Address of the Dask worker.
        device: What it computed on.
        gpu_fallbacks: Plans that the GPU engine handed to the CPU.
        store_retries: Calls to stores that were made again (busy store, cut answer, no answer).
    """

    index: int
    files: tuple[PartFile, ...]
    rows_in: int
    rows_out: int
    bytes_read: int
    bytes_written: int
    seconds: dict[str, float]
    worker: str
    device: Device = Device.CPU
    gpu_fallbacks: int = 0
    store_retries: int = 0
    version: int = RECEIPT_VERSION


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One committed state of a dataset.

    Attributes:
        version: ``None`` for plain Parquet, which has one state only.
    """

    uri: str
    version: int | None
    rows: int
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StepsText:
    """A job that is a list of steps, as the text (TOML or JSON) that describes it.

    Attributes:
        name: What messages and receipts call it.
    """

    name: str
    text: str


MAX_EXPANSION = 200
"""How many times its size a file may unpack to; text and tables stay far below, bombs do not."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the files of an input are read where their own bytes do not say.

    Attributes:
        drift: What happens where files differ; also to rows appended to a table.
        columns: A given schema, names and types, instead: columns are cast to it exactly, those
            that it does not name are left out, and those that a file lacks are null there.
        bad_rows: What happens to rows of text that cannot be read.
        encoding: Of text files, as Python names it.
        delimiter: Between the fields of CSV; empty takes the first file's header for it.
        max_expansion: How many times its size a file may unpack to.
    """

    drift: Drift = Drift.WIDEN
    columns: tuple[tuple[str, str], ...] = ()
    bad_rows: BadRows = BadRows.REFUSE
    encoding: str = "utf-8"
    delimiter: str = ""
    max_expansion: int = MAX_EXPANSION


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of text that could not be read and was left out.

    Attributes:
        file: Address of the file.
        line: Where it begins, from 1.
        reason: Why it could not be read.
        text: The row.
    """

    file: str
    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a run was asked to do; nothing in it is resolved yet.

    Attributes:
        sources: Addresses of the inputs: files, folders, globs or tables.
        target: Address of the dataset that is written.
        job: ``module:function`` that takes and gives a ``polars.LazyFrame``; ``None`` copies.
        steps: A list of steps instead of a function.
        source_version: Version of the table that is read; ``None`` is its last.
        sides: Small tables that the job joins, by the name of the job's parameter.
        partition_by: Columns that the target is partitioned by.
        fresh: Do every part anew, also those that an earlier attempt finished.
        again: Commit once more what this very request has committed before.
        window: Span of time that the run covers, for scheduled runs.
        format: How the target is written: a Delta table, or plain Parquet without versions.
        read: How the sources are read; side tables by its defaults.
        gather: Folder that inputs are copied to before they are read; ``None`` reads each where
            it is. The work is the same either way.
    """

    sources: tuple[str, ...]
    target: str
    job: str | None = None
    sides: tuple[tuple[str, str], ...] = ()
    partition_by: tuple[str, ...] = ()
    mode: Mode = Mode.OVERWRITE
    fresh: bool = False
    again: bool = False
    window: Window | None = None
    steps: StepsText | None = None
    source_version: int | None = None
    format: Format = Format.DELTA
    read: ReadOptions = ReadOptions()
    gather: str | None = None

    @property
    def job_name(self) -> str:
        """What messages and receipts call the job."""
        return self.steps.name if self.steps else self.job or "copy"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place where the work can run.

    Attributes:
        launcher: Which launcher opens it; ``local`` is this machine.
        device: What its workers compute on.
        processes: Workers are processes of their own, not threads of the driver.
        workers: How many.
        threads_per_worker: Parts that one worker has under way at a time.
        memory_gib_per_worker: Memory that one worker may use.
        process_memory_gib: Memory of this whole process at which a run in it is stopped; 0 where
            workers are processes, each of which is ended alone.
    """

    launcher: str
    device: Device
    processes: bool
    workers: int
    threads_per_worker: int
    memory_gib_per_worker: float
    process_memory_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A place that was considered and not taken, and why."""

    candidate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the work runs: candidates in the order they are tried."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchTry:
    """One attempt to open a cluster."""

    candidate: str
    outcome: Literal["opened", "failed"]
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that leave a region.

    Attributes:
        to: Kind of destination, as clouds bill it: ``internet``, ``other region`` and such.
    """

    cloud: Cloud
    to: str
    size_bytes: int


DENIALS_KEPT = 20
"""Denials that a placement keeps; the others are counted."""


@dataclass(frozen=True, slots=True)
class RankedPlace:
    """One way to run the work, as a plan ranked it.

    Attributes:
        rank: From 1, the best; those that the table leaves out are not kept either.
        strategy: How inputs in several places come together.
        where: Its places.
        machines: How many of which type; empty is this machine.
        market: How they are sold.
        seconds: What was expected, and what one run in ten exceeds; ``None`` has no end.
        usd: Likewise, in US dollars.
        parts: What was expected, in US dollars, by what it is paid for.
        note: Why it cannot be run, or what is odd about it.
    """

    rank: int
    strategy: str
    where: str
    machines: str
    market: str
    seconds: tuple[float | None, float | None]
    usd: tuple[float | None, float | None]
    parts: dict[str, float | None]
    note: str = ""


@dataclass(frozen=True, slots=True)
class DeniedPlace:
    """Offers that a rule kept out of a plan.

    Attributes:
        source: File that says the rule; empty where it was not read from one.
        offers: How many.
    """

    where: str
    rule: str
    source: str = ""
    detail: str = ""
    offers: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a run was planned to be, and what that was to cost and take.

    Where no cloud bills for the data nothing is ranked.

    Attributes:
        usd: US dollars: what was expected, and what one run in ten exceeds; ``None`` where it
            could not be known.
        seconds: Likewise.
        why: Why there.
        moved: Bytes that leave a region for it; their price depends on the month's sum.
        ranking: The table of the plan, as it was shown: a few places, and all other strategies.
        denied: The first ``DENIALS_KEPT`` denials, and how many more there were.
    """

    where: str
    usd: tuple[float, float] | None = None
    seconds: tuple[float, float] | None = None
    why: str = ""
    moved: tuple[Moved, ...] = ()
    ranking: tuple[RankedPlace, ...] = ()
    denied: tuple[DeniedPlace, ...] = ()
    denied_more: int = 0


@dataclass(frozen=True, slots=True)
class Gathered:
    """One input that a run has copied before it read it.

    Attributes:
        source: The address that was given.
        target: Folder that holds the copy.
        objects: How many the input has.
        size_bytes: Of these.
        copied: How many were copied this time; the others were there and checked already.
        copied_bytes: Of these, as far as the copy came.
        seconds: How long that took.
    """

    source: str
    target: str
    objects: int
    size_bytes: int
    copied: int
    copied_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Egress:
    """Bytes that leave a place, and what its cloud asks for them.

    Attributes:
        regions: Where they leave.
        to: Kind of destination, as in ``Moved``.
    """

    cloud: Cloud
    regions: tuple[str, ...]
    to: str
    size_bytes: int
    usd: float


@dataclass(frozen=True, slots=True)
class TransferPrice:
    """What a copy was to cost, before it began.

    Attributes:
        egress: Nothing where no cloud bills for the bytes.
        requests_usd: Of what is listed, read and written.
        as_of: Date of the oldest price in it; ``None`` where none has one.
        unknown: Why it is not known; empty where it is.
        note: What could not be counted in.
    """

    egress: tuple[Egress, ...] = ()
    requests_usd: float = 0.0
    as_of: date | None = None
    unknown: str = ""
    note: str = ""

    @property
    def egress_usd(self) -> float:
        """For all bytes together."""
        return sum(one.usd for one in self.egress)

    @property
    def usd(self) -> float | None:
        """All together; ``None`` where it is not known."""
        return None if self.unknown else self.egress_usd + self.requests_usd


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What a receipt says of one input.

    Attributes:
        side: Name of the side table; empty for the sources themselves.
    """

    uri: str
    format: Format
    files: int
    size_bytes: int
    rows: int | None
    version: str
    side: str = ""


@dataclass(frozen=True, slots=True)
class RunReceipt:
    """What a run leaves behind, also one that failed.

    Attributes:
        seconds: Wall seconds by phase; the phases are in the order they happened.
        resumed_parts: Parts that an earlier attempt had finished and this one took up.
        retries: Parts that were tried again after an error, and workers that were lost with
            parts under way.
        store_retries: Calls to stores that were made again, by the driver and in all parts.
        cost_usd: Metered cost; ``None`` where nothing is billed or no price is known.
        error: Message of what stopped the run; empty when nothing did.
        approximate: How far each column made by a sketch may be off, by its name.
        then: Receipts of the tables that the same run made from this one.
        format: How the target is written; plain Parquet has no version.
        drift: What was widened so that files, or the rows and their table, agree; a line each.
        bad_rows: Rows of text that could not be read and were left out.
        aside: Address of the file that keeps them; empty where none does.
        placement: Where it was planned to run, and for how much; ``None`` where it was refused
            before, or was done already.
        gathered: Inputs that were copied to one place first.
    """

    run_id: str
    run_key: str
    flow: str
    status: Status
    started: datetime
    finished: datetime
    inputs: tuple[InputSummary, ...]
    target: str
    mode: Mode
    partition_by: tuple[str, ...]
    job: str
    dataset: DatasetVersion | None
    rows_in: int
    rows_out: int
    bytes_read: int
    bytes_written: int
    parts: int
    resumed_parts: int
    retries: int
    seconds: dict[str, float]
    engine: str
    device: str
    gpu_fallbacks: int = 0
    store_retries: int = 0
    window: Window | None = None
    plan: Plan | None = None
    tries: tuple[LaunchTry, ...] = ()
    cost_usd: float | None = None
    error: str = ""
    hint: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    approximate: dict[str, str] = field(default_factory=dict)
    then: tuple[RunReceipt, ...] = ()
    format: Format = Format.DELTA
    drift: tuple[str, ...] = ()
    bad_rows: int = 0
    aside: str = ""
    placement: Placement | None = None
    gathered: tuple[Gathered, ...] = ()
    version: int = RECEIPT_VERSION

    @property
    def had_nothing_to_do(self) -> bool:
        """Whether every table of the run was there already."""
        return all(one.status is Status.ALREADY_COMMITTED for one in (self, *self.then))


def to_jsonable(value: object) -> Any:
    """``value`` (one of the dataclasses here) as plain dicts, lists, numbers and text.

    Enums become their text, times ISO 8601 in UTC, days ISO 8601, tuples lists.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {str(k): to_jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(v) for v in value]
    return value
