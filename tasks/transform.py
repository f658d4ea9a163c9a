"""One part, from its staged input through the job to its files, in one Dask task.

The engine reads, transforms and writes in one streaming plan, so memory does not grow with the
part on a CPU. On a GPU worker the same plan is collected by RAPIDS' Polars engine; what that
engine cannot run falls back to the CPU and is counted.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Literal

import polars as pl
from distributed import get_worker

from headwater.infra.errors import (
    DamagedFile,
    HeadwaterError,
    PartFailed,
    StoreUnavailable,
    first_line,
)
from headwater.infra.models import Device, Part, PartReceipt, Scope, Slice
from headwater.infra.storage.inputs import Input, read_slice
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.staging import StagedFile, stage
from headwater.infra.storage.types import conform, finer_than_kept
from headwater.infra.storage.uris import Uri
from headwater.tasks.gpu import on_gpu
from headwater.tasks.jobs import Job
from headwater.tasks.write import PartWriter

STAGERS = 8
"""Files of one part that are brought together."""


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What all parts of a run have in common; it travels to each worker once.

    Attributes:
        source: The input without its files: each part brings its own.
        sides: Small tables, whole on each worker.
        result: Columns as the job gives them.
        schema: Columns as the dataset keeps them.
        gpu_fallback: What happens to a plan that the GPU engine cannot run.
    """

    run_key: str
    attempt_key: str
    target: str
    source: Input
    sides: tuple[tuple[str, Input], ...]
    job: Job
    result: pl.Schema
    schema: pl.Schema
    partition_by: tuple[str, ...]
    device: Device = Device.CPU
    gpu_fallback: Literal["allow", "refuse"] = "allow"


@dataclass(slots=True)
class Phases:
    """Wall seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``name``."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + spent


def run_part(part: Part, spec: PartSpec) -> PartReceipt:
    """Read, transform and write one part, and leave its receipt beside the target.

    Raises:
        DamagedFile: A file of the part cannot be read; it is named.
        SourceChanged: An input is no longer the pinned version.
        PartFailed: The job failed on the part's rows.
    """
    phases = Phases()
    sides: dict[str, pl.LazyFrame] = {}
    frames: list[pl.LazyFrame] = []
    with ExitStack() as stack:
        tmp = Path(
            stack.enter_context(
                TemporaryDirectory(prefix="headwater-part-", ignore_cleanup_errors=True)
            )
        )
        try:
            with phases("stage"):
                sides = _sides(spec, stack, tmp)
                staged = _stage_all(stack, [s.ref for s in part.slices], tmp)
            frames = [_read(s, f, spec.source) for s, f in zip(part.slices, staged, strict=True)]
            with phases("transform"):
                rows_in = sum(_rows(s, frame) for s, frame in zip(part.slices, frames, strict=True))
                frame = spec.job.load()(_together(frames, spec.source), **sides)
                frame = conform(frame, spec.result, spec.schema)
                writer = PartWriter(Uri.parse(spec.target), spec.run_key, part.index, tmp)
                fallbacks = 0
                if spec.device is Device.CUDA:
                    frame, fallbacks = on_gpu(frame, spec.gpu_fallback)
                writer.sink(frame, spec.partition_by)
            with phases("upload"):
                files = writer.publish()
            stack.close()  # checks that local inputs are still what was pinned
        except HeadwaterError:
            raise
        except OSError as exc:
            raise StoreUnavailable(
                f"part {part.index}: {exc.strerror or exc}"
                + (f" ({exc.filename})" if exc.filename else ""),
                hint=f"free some space; {shutil.disk_usage(tmp.parent).free:,} bytes are left"
                if exc.errno == 28
                else "run the same command again: finished parts are taken up",
            ) from exc
        except KeyboardInterrupt as exc:
            # Polars turns a Ctrl-C into this in whichever thread collects. It must not end the
            # worker: the driver, which got the signal too, decides what happens.
            raise PartFailed(
                f"part {part.index} was interrupted",
                hint="run the same command again: finished parts are taken up",
            ) from exc
        except (Exception, pl.exceptions.PanicException) as exc:
            known = spec.job.explained(exc, frames, sides, _named(part))
            raise known or _explained(part, spec, exc) from exc
    receipt = PartReceipt(
        index=part.index,
        files=files,
        rows_in=rows_in,
        rows_out=sum(f.rows for f in files),
        bytes_read=sum(f.bytes_read for f in staged),
        bytes_written=sum(f.size_bytes for f in files),
        seconds=phases.seconds,
        worker=_worker_address(),
        device=spec.device,
        gpu_fallbacks=fallbacks,
    )
    RunFolder(Uri.parse(spec.target), spec.attempt_key).leave(receipt)
    return receipt


# --- reading ---------------------------------------------------------------------------------


def _stage_all(stack: ExitStack, refs: Sequence[object], tmp: Path) -> list[StagedFile]:
    """Every file of the part, brought together; a file that two slices share comes once."""
    unique = list(dict.fromkeys(refs))
    managers = [stage(ref, directory=tmp) for ref in unique]  # type: ignore[arg-type]
    with ThreadPoolExecutor(min(STAGERS, len(managers) or 1)) as pool:
        entered = list(pool.map(lambda manager: manager.__enter__(), managers))
    for manager in managers:
        stack.push(manager)
    by_ref = dict(zip(unique, entered, strict=True))
    return [by_ref[ref] for ref in refs]


def _read(piece: Slice, staged: StagedFile, source: Input) -> pl.LazyFrame:
    return read_slice(
        staged.path,
        source,
        partition=piece.partition,
        first_row=piece.first_row,
        rows=piece.rows,
    )


def _together(frames: Sequence[pl.LazyFrame], source: Input) -> pl.LazyFrame:
    return pl.concat(frames) if frames else pl.LazyFrame(schema=source.schema)


def _rows(piece: Slice, frame: pl.LazyFrame) -> int:
    if piece.rows is not None:
        return piece.rows
    return int(frame.select(pl.len()).collect(engine="streaming").item())


# --- side tables -----------------------------------------------------------------------------

_SIDES: dict[str, dict[str, pl.DataFrame]] = {}
_SIDES_LOCK = Lock()


def _sides(spec: PartSpec, stack: ExitStack, tmp: Path) -> dict[str, pl.LazyFrame]:
    """The side tables as this process holds them; the first part of a run reads them.

    A job over the whole input has one part, so its plan scans them and reads only what it uses.
    """
    if spec.job.scope is Scope.WHOLE:
        return {name: _scanned(side, stack, tmp) for name, side in spec.sides}
    if not spec.sides:
        return {}
    with _SIDES_LOCK:
        if spec.attempt_key not in _SIDES:
            read = {name: _read_whole(side) for name, side in spec.sides}
            spec.job.check_sides({name: frame.lazy() for name, frame in read.items()})
            _SIDES[spec.attempt_key] = read
        frames: Mapping[str, pl.DataFrame] = _SIDES[spec.attempt_key]
    return {name: frame.lazy() for name, frame in frames.items()}


def release_sides(attempt_key: str) -> None:
    """Let go of a run's side tables; runs on every worker at the end of a run."""
    with _SIDES_LOCK:
        _SIDES.pop(attempt_key, None)


def _read_whole(side: Input) -> pl.DataFrame:
    with TemporaryDirectory(prefix="headwater-side-") as tmp, ExitStack() as stack:
        try:
            return _scanned(side, stack, Path(tmp)).collect()
        except pl.exceptions.PolarsError as exc:
            raise DamagedFile(
                f"the side table {side.uri} cannot be read: {first_line(exc)}",
                hint="check or replace its files",
            ) from exc


def _scanned(side: Input, stack: ExitStack, tmp: Path) -> pl.LazyFrame:
    """The side table as a scan of its staged files, for as long as ``stack`` is open."""
    staged = _stage_all(stack, [f.ref for f in side.files], tmp)
    frames = [
        read_slice(s.path, side, partition=f.partition)
        for f, s in zip(side.files, staged, strict=True)
    ]
    return _together(frames, side)


# --- errors --------------------------------------------------------------------------------


def _explained(part: Part, spec: PartSpec, exc: BaseException) -> HeadwaterError:
    """Which file is damaged, found by reading each alone; else the job is what failed."""
    if (refused := finer_than_kept(exc)) is not None:
        return refused
    for piece in part.slices:
        with (
            TemporaryDirectory(prefix="headwater-check-") as tmp,
            suppress(HeadwaterError),
            stage(piece.ref, directory=Path(tmp)) as staged,
        ):
            try:
                _read(piece, staged, spec.source).collect(engine="streaming")
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as damage:
                return DamagedFile(
                    f"{Uri.parse(piece.ref.uri).display} cannot be read: {first_line(damage)}",
                    hint="replace the file or leave it out, then run the same command again",
                )
    return PartFailed(
        f"job {spec.job.name} failed on {_named(part)}: {type(exc).__name__}: {first_line(exc)}",
        hint="mend the job or its input, then run the same command again: finished parts are"
        " taken up unless the job's text changed",
    )


def _named(part: Part) -> str:
    files = ", ".join(Uri.parse(s.ref.uri).name for s in part.slices[:3])
    more = f" and {len(part.slices) - 3} more" if len(part.slices) > 3 else ""
    return f"part {part.index} ({files}{more})"


def _worker_address() -> str:
    try:
        return str(get_worker().address)
    except ValueError:
        return ""  # called outside of a Dask worker
