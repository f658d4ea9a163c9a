"""Resolves a request before anything starts: pinned inputs, the job's plan, the result's schema.

Everything that can be wrong with a request and can be known without reading the data is refused
here.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from headwater.infra.errors import (
    HeadwaterError,
    InvalidRequest,
    Overlap,
    UnknownName,
    first_line,
)
from headwater.infra.models import (
    BadRows,
    DatasetVersion,
    Format,
    JobRequest,
    Mode,
    ReadOptions,
    Scope,
    to_jsonable,
)
from headwater.infra.storage.datasets import STATE_FOLDER, Dataset, LogEntry
from headwater.infra.storage.evolution import Evolved
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import Input, open_input
from headwater.infra.storage.named import NO_COPIES, Copies
from headwater.infra.storage.plain import PlainFolder
from headwater.infra.storage.types import require_partitionable, stored_schema
from headwater.infra.storage.uris import Uri
from headwater.tasks.digests import require_digestible
from headwater.tasks.jobs import COPY, Job, find_job
from headwater.tasks.scope import (
    placeholder,
    require_key_scope,
    require_known_sources,
    require_row_scope,
)
from headwater.tasks.steps.job import steps_job

KEY_LENGTH = 32
"""Hexadecimal digits of a run key: 128 bits."""

LONGEST_NAME = f"{STATE_FOLDER}/runs/{'0' * KEY_LENGTH}-spread/part-00000.json"
"""About the longest name that a run writes below its target, partitions aside."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with everything resolved; what is left is the work.

    Attributes:
        schema: Columns of the job's result as the dataset keeps them.
        result: Columns of the job's result as the job gives them.
        run_key: Digest of the pinned inputs, the parameters, the job's text and the engine.
        revision: 1, or more where this very run was committed before and is asked for again.
        committed: The version that holds the result already, where nothing is left to do.
        evolved: How the target's columns and those of the result were brought together.
    """

    request: JobRequest
    target: Uri
    source: Input
    sides: tuple[tuple[str, Input], ...]
    job: Job
    result: pl.Schema
    schema: pl.Schema
    run_key: str
    revision: int
    committed: DatasetVersion | None
    evolved: tuple[str, ...] = ()

    @property
    def attempt_key(self) -> str:
        """Names the folder of receipts: a repetition takes up none of the one before."""
        return self.run_key if self.revision == 1 else f"{self.run_key}-{self.revision}"

    @property
    def drift(self) -> tuple[str, ...]:
        """What was widened so that the inputs, and the rows and their table, agree."""
        of_sides = (f"side table '{n}': {note}" for n, side in self.sides for note in side.notes)
        return (*self.source.notes, *of_sides, *self.evolved)

    @property
    def aside(self) -> Uri | None:
        """Where rows of text that cannot be read are kept; ``None`` where none are."""
        if not self.source.bad or self.request.read.bad_rows is not BadRows.ASIDE:
            return None
        return self.target / STATE_FOLDER / "bad-rows" / f"{self.attempt_key}.jsonl"

    def keep_aside(self) -> None:
        """Write the rows that are to be kept aside, one JSON object a line."""
        if self.aside is not None:
            lines = (json.dumps(to_jsonable(row), ensure_ascii=False) for row in self.source.bad)
            text = "".join(f"{line}\n" for line in lines)
            open_filesystem(self.aside).write(self.aside, text.encode())

    def reading(self, copies: Copies) -> Prepared:
        """The same work, with inputs read from their copies where there are some."""
        sides = tuple((name, side.reading(copies)) for name, side in self.sides)
        return replace(self, source=self.source.reading(copies), sides=sides)


def addresses(request: JobRequest, *, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses of the sources and of the side tables that ``request`` reads.

    Args:
        folder: Where the job's module is looked for first.
    Raises:
        HeadwaterError: There is no such job, or it joins other tables than are given.
    """
    job, request = _job(request, folder)
    return request.sources, tuple(uri for _, uri in _side_uris(request, job))


def prepare(request: JobRequest, *, folder: Path, copies: Copies = NO_COPIES) -> Prepared:
    """``request`` with its inputs pinned and its plan checked.

    Args:
        folder: Where the job's module is looked for first.
        copies: Inputs that are read from copies. The run's key is of the files that they are of,
            so that it is the same run wherever they are read.
    Raises:
        HeadwaterError: The request is refused; nothing was written.
    """
    target = _canonical(request.target)
    job, request = _job(request, folder)
    _require_apart(request, target)
    dataset = Dataset(target)
    is_plain = request.format is Format.PARQUET
    if is_plain:
        _require_written_once(request)
    else:
        dataset.require_writable()
    if not (is_plain or request.partition_by):
        # A table keeps its partition columns; naming others is refused below.
        request = replace(request, partition_by=dataset.partition_by())
    side_uris = _side_uris(request, job)
    source = open_input(
        request.sources, version=request.source_version, read=request.read, copies=copies
    )
    _require_outside(source, target)
    sides = tuple(
        (name, open_input([uri], read=_of_sides(request), copies=copies)) for name, uri in side_uris
    )
    result = _result_schema(job, source, dict(sides))
    fit = Evolved(stored_schema(result))
    if not is_plain:
        fit = dataset.evolve(fit.schema, request.partition_by, request.mode, request.read.drift)
    schema = fit.schema
    _require_partition_columns(request, schema)
    run_key = _run_key(request, target, source, sides, job)
    revision, committed = (
        _earlier_plain(target, request, run_key)
        if is_plain
        else _earlier(dataset, request, run_key)
    )
    if committed is None:
        dataset.require_write_access()
    return Prepared(
        request, target, source, sides, job, result, schema, run_key, revision, committed, fit.notes
    )


def check_follow_up(
    request: JobRequest, first: Prepared, *, folder: Path, copies: Copies = NO_COPIES
) -> None:
    """Refuse a request that reads what ``first`` will have written, before that is there.

    Raises:
        HeadwaterError: The request is refused; nothing was written.
    """
    target = _canonical(request.target)
    job, request = _job(request, folder)
    _require_apart(request, target)
    Dataset(target).require_writable()
    by = first.request.partition_by
    # As it will be read: the columns of partitions come last.
    columns = {n: t for n, t in first.schema.items() if n not in by}
    schema = pl.Schema({**columns, **{name: first.schema[name] for name in by}})
    source = Input(str(first.target), Format.DELTA, (), schema, by)
    sides = {
        name: open_input([uri], read=_of_sides(request), copies=copies)
        for name, uri in _side_uris(request, job)
    }
    _require_partition_columns(request, stored_schema(_result_schema(job, source, sides)))


def _job(request: JobRequest, folder: Path) -> tuple[Job, JobRequest]:
    """The job, and the request with what the job itself says of side tables and partitions."""
    if request.steps is None:
        return find_job(request.job, folder=folder) if request.job else COPY, request
    if request.job:
        raise InvalidRequest(
            f"both a function ({request.job}) and steps ({request.steps.name}) are given",
            hint="give one of the two",
        )
    job, partition_by = steps_job(request.steps)
    if request.partition_by and partition_by and request.partition_by != partition_by:
        raise InvalidRequest(
            f"{request.steps.name} partitions the target by {', '.join(partition_by)}, and"
            f" --partition-by says {', '.join(request.partition_by)}",
            hint="leave --partition-by out",
        )
    return job, replace(
        request,
        partition_by=partition_by or request.partition_by,
        # Addresses of the request win over those of the joins.
        sides=tuple({**dict(job.addresses), **dict(request.sides)}.items()),
    )


def _canonical(text: str) -> Uri:
    uri = Uri.parse(text)
    if uri.glob_root is not None:
        raise InvalidRequest(
            f"the target {text} holds a pattern ('*', '?' or '[')", hint="name one folder"
        )
    if not uri.key.strip("/"):
        raise InvalidRequest(
            f"the target {text} is a whole bucket or disk", hint="name a folder in it"
        )
    uri = replace(uri, key=uri.key.rstrip("/"))
    (uri / LONGEST_NAME).checked_for_write()
    return open_filesystem(uri).canonical(uri)


def _require_written_once(request: JobRequest) -> None:
    """Refuse what only a table with versions can do.

    Raises:
        InvalidRequest: Rows are to be added, replaced or committed again.
    """
    asked = f"--mode {request.mode}" if request.mode is not Mode.OVERWRITE else ""
    if request.again:
        asked = "--again"
    if asked:
        raise InvalidRequest(
            f"plain Parquet is written once into a new folder, so there is no {asked}",
            hint=f"leave {asked} out and name a new folder, or leave --format parquet out",
        )


def _require_apart(request: JobRequest, target: Uri) -> None:
    sources = [*request.sources, *(uri for _, uri in request.sides)]
    for text in sources:
        given = Uri.parse(text)
        source = open_filesystem(given).canonical(given)
        inside = source.glob_root is None and source.contains(target)
        if inside or target.contains(source.glob_root or source):
            raise Overlap(
                f"source {source.display} and target {target.display} overlap",
                hint="write to a folder of its own, beside the source",
            )


def _require_outside(source: Input, target: Uri) -> None:
    for file in source.files:
        uri = Uri.parse(file.pinned.uri)
        if target.contains(uri):
            raise Overlap(
                f"source file {uri.display} lies in the target {target.display}",
                hint="write to a folder of its own, beside the source",
            )


def _side_uris(request: JobRequest, job: Job) -> tuple[tuple[str, str], ...]:
    given = dict(request.sides)
    for name in given:
        if name not in job.sides:
            raise UnknownName.of(
                "side table",
                name,
                job.sides,
                where=f"job {job.name}",
                hint="" if job.sides else "the job takes none",
            )
    for name in job.sides:
        if name not in given:
            raise InvalidRequest(
                f"job {job.name} joins a side table '{name}', and no address is given for it",
                hint=f"add --side {name}=URI",
            )
    return tuple((name, given[name]) for name in job.sides)


def _of_sides(request: JobRequest) -> ReadOptions:
    """How side tables are read: a given schema, an encoding and bad rows are the sources' own."""
    return ReadOptions(drift=request.read.drift, max_expansion=request.read.max_expansion)


def _result_schema(job: Job, source: Input, sides: Mapping[str, Input]) -> pl.Schema:
    """Columns and types that the job gives, from its plan on frames without rows."""
    if job.frames == "dask":
        return _frames_schema(job, source, sides)
    for key in job.keys:
        if key not in source.schema:
            raise UnknownName.of("column", key, source.schema, where=f"the keys of job {job.name}")
        require_digestible(key, source.schema[key])
    if job.scope is Scope.WHOLE:
        known = job.schema_on(source.schema, {name: side.schema for name, side in sides.items()})
        if known is not None:
            return known
    with TemporaryDirectory(prefix="headwater-plan-") as tmp:
        # No file is at these paths, so a job that reads data while its plan is built fails.
        main = Path(tmp) / "source.parquet"
        paths = {name: Path(tmp) / f"side-{name}.parquet" for name in sides}
        frames = {name: placeholder(paths[name], side.schema) for name, side in sides.items()}
        try:
            plan = job.load()(placeholder(main, source.schema), **frames)
            if not isinstance(plan, pl.LazyFrame):
                raise InvalidRequest(
                    f"job {job.name} returned a {type(plan).__name__}, not a LazyFrame",
                    hint="return the frame without collecting it",
                )
            schema = plan.collect_schema()
        except HeadwaterError:
            raise
        except pl.exceptions.ColumnNotFoundError as exc:
            raise _unknown_column(job, source, sides, exc) from exc
        except FileNotFoundError as exc:
            if tmp not in str(exc):
                raise _plan_failed(job, exc) from exc
            raise InvalidRequest(
                f"job {job.name} reads its input while its plan is built",
                hint="return the frame without collecting it or a part of it; a value over all"
                " rows belongs in a side table",
            ) from exc
        except Exception as exc:
            raise _plan_failed(job, exc) from exc
        _require_scope(plan, job, main, list(paths.values()))
        # Some types are only checked where rows would be, even when there is none: now that the
        # plan is known to be sound, it runs on files without rows.
        pl.DataFrame(schema=source.schema).write_parquet(main)
        for name, side in sides.items():
            pl.DataFrame(schema=side.schema).write_parquet(paths[name])
        try:
            plan.collect()
        except pl.exceptions.PolarsError as exc:
            raise _plan_failed(job, exc) from exc
        return pl.Schema(schema)


def _frames_schema(job: Job, source: Input, sides: Mapping[str, Input]) -> pl.Schema:
    from headwater.tasks.dataframes.plan import result_schema  # Dask's frames take long to import

    try:
        schemas = {name: side.schema for name, side in sides.items()}
        return result_schema(job, source.schema, schemas)
    except HeadwaterError:
        raise
    except Exception as exc:
        raise _plan_failed(job, exc) from exc


def _require_scope(plan: pl.LazyFrame, job: Job, main: Path, sides: list[Path]) -> None:
    """Refuse a plan that looks at other rows than the job declares."""
    match job.scope:
        case Scope.ROWS:
            require_row_scope(plan, main, sides, job.name)
        case Scope.KEY:
            require_key_scope(plan, main, sides, job.keys, job.name)
        case Scope.WHOLE:
            require_known_sources(plan, main, sides, job.name)


def _unknown_column(
    job: Job, source: Input, sides: Mapping[str, Input], exc: Exception
) -> HeadwaterError:
    said = first_line(exc)
    quoted = said.split('"')
    name = quoted[1] if len(quoted) > 2 else said.split(";")[0].strip()
    known = [*source.schema, *(c for side in sides.values() for c in side.schema)]
    return UnknownName.of("column", name, known, where=f"the input of job {job.name}")


def _plan_failed(job: Job, exc: Exception) -> InvalidRequest:
    frames = traceback.extract_tb(exc.__traceback__)
    shipped = {m.path for m in job.modules}
    place = next(
        (f"{f.filename}:{f.lineno}" for f in reversed(frames) if f.filename in shipped), ""
    )
    at = f" at {place}" if place else ""
    said = first_line(exc)
    return InvalidRequest(
        f"job {job.name} cannot be planned{at}: {type(exc).__name__}: {said}",
        hint="mend the job; --debug shows the whole trace",
    )


def _require_partition_columns(request: JobRequest, schema: pl.Schema) -> None:
    for column in request.partition_by:
        if column not in schema:
            raise UnknownName.of("column", column, schema, where="the result to partition by")
    if len(set(request.partition_by)) < len(request.partition_by):
        raise InvalidRequest(
            f"--partition-by names a column twice: {', '.join(request.partition_by)}",
            hint="name each column once",
        )
    require_partitionable(schema, request.partition_by)
    if request.mode is Mode.REPLACE and not request.partition_by:
        raise InvalidRequest(
            "--mode replace replaces partitions, and the target has none",
            hint="add --partition-by COLUMN, or use --mode overwrite",
        )


def _run_key(
    request: JobRequest,
    target: Uri,
    source: Input,
    sides: tuple[tuple[str, Input], ...],
    job: Job,
) -> str:
    facts = {
        "inputs": [_pins(source), *([name, *_pins(side)] for name, side in sides)],
        "target": str(target),
        "mode": request.mode,
        "partition_by": list(request.partition_by),
        "read": to_jsonable(request.read),
        "window": to_jsonable(request.window),
        "job": [job.spec, job.digest],
        "engine": [pl.__version__, installed_version("headwater"), sys.version_info[:2]],
    }
    if request.format is not Format.DELTA:
        facts["format"] = request.format
    if job.frames == "dask":
        facts["frames"] = [installed_version("dask"), installed_version("pandas")]
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _pins(source: Input) -> list[object]:
    return [
        source.format,
        source.version,
        [[n, str(t)] for n, t in source.schema.items()],
        [[f.pinned.uri, f.pinned.size_bytes, f.pinned.version, f.partition] for f in source.files],
    ]


def _earlier(
    dataset: Dataset, request: JobRequest, run_key: str
) -> tuple[int, DatasetVersion | None]:
    """Which revision of this run is to be committed, and the version that makes it needless.

    Rows that were appended are there for good, so the same append is done once. Rows that were
    overwritten or replaced are there only until another commit: then the run is done again.
    """
    found = dataset.committed(run_key)
    if found is None:
        return 1, None
    revision, entry = found
    if request.again:
        return revision + 1, None
    if request.mode is not Mode.APPEND and (
        request.fresh or entry is None or not dataset.is_latest_data(entry)
    ):
        return revision + 1, None
    return revision, _version_of(dataset, entry)


def _earlier_plain(
    target: Uri, request: JobRequest, run_key: str
) -> tuple[int, DatasetVersion | None]:
    """The same for plain Parquet: one run writes it, once."""
    written = PlainFolder(target).require_free(run_key)
    if written is not None and request.fresh:
        raise InvalidRequest(
            f"this very run has written {target.display} already, and plain Parquet is never"
            " overwritten",
            hint="name a new folder, or leave --fresh out",
        )
    return 1, written


def _version_of(dataset: Dataset, entry: LogEntry | None) -> DatasetVersion | None:
    snapshot = dataset.snapshot(entry.version if entry else None)
    return snapshot.as_version() if snapshot else None
