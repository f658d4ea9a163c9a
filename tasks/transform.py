"""One part, from its staged input through the job to its files, in one Dask task.

The engine reads, transforms and writes in one streaming plan, so memory does not grow with the
part on a CPU. On a GPU worker the same plan is collected by RAPIDS' Polars engine; what that
engine cannot run falls back to the CPU and is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import polars as pl
from distributed import get_worker

from headwater.infra.errors import (
    HeadwaterError,
    PartFailed,
    first_line,
)
from headwater.infra.models import Device, Format, Part, PartFile, PartReceipt
from headwater.infra.storage.casts import conform, finer_than_kept, refusal
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.retries import counting
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.uris import Uri
from headwater.tasks.gpu import on_gpu
from headwater.tasks.jobs import Job
from headwater.tasks.memory import under_way
from headwater.tasks.needs import EVERYTHING, Needs, needs_of
from headwater.tasks.pieces import bytes_taken, might_leave_out, scan_pieces, stage_pieces
from headwater.tasks.read import (
    damaged_file,
    disk_failed,
    named,
    together,
)
from headwater.tasks.sides import held_sides, scan_whole
from headwater.tasks.write import PartWriter


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What all parts of a run have in common; it travels to each worker once.

    Attributes:
        source: The input without its files: each part brings its own.
        sides: Small tables, whole on each worker.
        result: Columns as the job gives them.
        schema: Columns as the dataset keeps them.
        gpu_fallback: What happens to a plan that the GPU engine cannot run.
        is_one_part: The job sees the whole input as one part.
        is_repeated: A part may be asked for once more after it was finished: where its worker is
            lost before the scheduler has heard of it.
        format: How the target is written.
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
    is_one_part: bool = False
    is_repeated: bool = False
    format: Format = Format.DELTA


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
    with counting() as retries:
        folder = RunFolder(Uri.parse(spec.target), spec.attempt_key)
        if spec.is_repeated and (finished := folder.finished_part(part.index)) is not None:
            return finished
        receipt = replace(_run_part(part, spec), store_retries=retries.count)
        folder.leave(receipt)
    # Leaving the receipt may have taken tries as well.
    return replace(receipt, store_retries=retries.count)


def _run_part(part: Part, spec: PartSpec) -> PartReceipt:
    phases = Phases()
    sides: dict[str, pl.LazyFrame] = {}
    frames: list[pl.LazyFrame] = []
    needs = EVERYTHING

    def explained(error: BaseException) -> HeadwaterError:
        with whole_frames(part, spec, tmp, needs, frames) as all_columns:
            known = spec.job.explained(error, all_columns, sides, named(part))
        return known or explain_part(part, spec, error)

    with (
        under_way(named(part)),
        scratch_folder() as (stack, tmp),
        failures(f"part {part.index}", tmp, explained),
    ):
        with phases("stage"):
            sides = _sides(spec, stack, tmp)
            needs = part_needs(part, spec, sides)
            staged = stage_pieces(stack, part.slices, spec.source, tmp, needs)
        with phases("transform"):
            frames, rows_in = scan_pieces(staged, spec.source, spec.device)
            frame = spec.job.load()(together(frames, spec.source.schema), **sides)
            files, fallbacks = write_part(frame, part.index, spec, tmp, phases)
        stack.close()  # checks that local inputs are still what was pinned
    return PartReceipt(
        index=part.index,
        files=files,
        rows_in=rows_in,
        rows_out=sum(f.rows for f in files),
        bytes_read=bytes_taken(staged),
        bytes_written=sum(f.size_bytes for f in files),
        seconds=phases.seconds,
        worker=worker_address(),
        device=spec.device,
        gpu_fallbacks=fallbacks,
    )


def write_part(
    frame: pl.LazyFrame, index: int, spec: PartSpec, tmp: Path, phases: Phases
) -> tuple[tuple[PartFile, ...], int]:
    """The files of one part of the result, and how many plans the GPU engine handed to the CPU."""
    writer = PartWriter(Uri.parse(spec.target), spec.run_key, index, tmp, spec.format)
    frame, fallbacks = on_device(conform(frame, spec.result, spec.schema), spec)
    writer.sink(frame, spec.partition_by)
    with phases("upload"):
        return writer.publish(), fallbacks


@contextmanager
def scratch_folder() -> Iterator[tuple[ExitStack, Path]]:
    """A folder for what is staged, and what must be closed before it goes."""
    with ExitStack() as stack:
        tmp = TemporaryDirectory(prefix="headwater-part-", ignore_cleanup_errors=True)
        yield stack, Path(stack.enter_context(tmp))


@contextmanager
def failures(
    what: str, tmp: Path, explained: Callable[[BaseException], HeadwaterError]
) -> Iterator[None]:
    """In the block, every failure is one of ours.

    Args:
        what: Names the work, in messages.
        tmp: Where it keeps its files.
        explained: What is known of an error of the engine or the job.
    """
    try:
        yield
    except HeadwaterError:
        raise
    except OSError as exc:
        raise disk_failed(exc, what, tmp.parent) from exc
    except KeyboardInterrupt as exc:
        # Polars turns a Ctrl-C into this in whichever thread collects. It must not end the
        # worker: the driver, which got the signal too, decides what happens.
        raise PartFailed(
            f"{what} was interrupted",
            hint="run the same command again: finished parts are taken up",
        ) from exc
    except (Exception, pl.exceptions.PanicException) as exc:
        raise explained(exc) from exc


def part_needs(part: Part, spec: PartSpec, sides: Mapping[str, pl.LazyFrame]) -> Needs:
    """What the job's plan needs of the part's files."""
    if not might_leave_out(part.slices):
        return EVERYTHING

    def plan(frame: pl.LazyFrame) -> pl.LazyFrame:
        return conform(spec.job.load()(frame, **sides), spec.result, spec.schema)

    return needs_of(plan, spec.source.schema)


@contextmanager
def whole_frames(
    part: Part, spec: PartSpec, tmp: Path, needs: Needs, frames: Sequence[pl.LazyFrame]
) -> Iterator[Sequence[pl.LazyFrame]]:
    """The part's ``frames`` with all columns and rows, for who looks why a plan failed on them.

    Args:
        needs: What the frames hold now.
    """
    if needs == EVERYTHING:
        yield frames
        return
    with ExitStack() as stack:
        staged = stage_pieces(stack, part.slices, spec.source, tmp)
        yield scan_pieces(staged, spec.source)[0]


def _sides(spec: PartSpec, stack: ExitStack, tmp: Path) -> dict[str, pl.LazyFrame]:
    """The side tables; a run of one part scans them, and reads only what its plan uses."""
    if spec.is_one_part:
        return {name: scan_whole(side, stack, tmp) for name, side in spec.sides}
    return held_sides(spec.attempt_key, spec.sides, spec.job.check_sides)


# --- engines and errors ----------------------------------------------------------------------


def on_device(frame: pl.LazyFrame, spec: PartSpec) -> tuple[pl.LazyFrame, int]:
    """The frame, on a GPU worker collected there, and how many plans were left to the CPU."""
    if spec.device is not Device.CUDA:
        return frame, 0
    return on_gpu(frame, spec.gpu_fallback)


def explain_part(part: Part, spec: PartSpec, exc: BaseException) -> HeadwaterError:
    """Which file is damaged, found by reading each alone; else the job is what failed."""
    if (refused := finer_than_kept(exc) or refusal(exc)) is not None:
        return refused
    if (damaged := damaged_file(part, spec.source)) is not None:
        return damaged
    return PartFailed(
        f"job {spec.job.name} failed on {named(part)}: {type(exc).__name__}: {first_line(exc)}",
        hint="mend the job or its input, then run the same command again: finished parts are"
        " taken up unless the job's text changed",
    )


def worker_address() -> str:
    """Of the Dask worker that this runs on; empty outside of one."""
    try:
        return str(get_worker().address)
    except ValueError:
        return ""
