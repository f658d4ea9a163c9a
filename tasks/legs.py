"""One leg of a job that looks across rows: what comes in, the stages on it, what goes out.

A leg is one task for each piece of a frame that is spread over the cluster. The first leg reads
parts of the input, the last one writes parts of the result, and between two of them rows or the
states of aggregates go from piece to piece. Like a part of a job that looks at one row at a time,
a leg is one plan, from what it reads to what it gives, so its memory is bounded by what it gives.

On a GPU worker the first and the last leg run on it; the ones between run on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol, cast

import polars as pl

from headwater.infra.errors import HeadwaterError, PartFailed, first_line
from headwater.infra.models import Part, PartReceipt
from headwater.infra.storage.retries import StoreRetries, counting
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.types import column_of
from headwater.infra.storage.uris import Uri
from headwater.tasks.aggregate import finalize, partial, state_schema
from headwater.tasks.aggregates.plan import AggregatePlan
from headwater.tasks.arrow import pack, unpack
from headwater.tasks.exchange import buckets_by_key, shares, taken
from headwater.tasks.memory import under_way
from headwater.tasks.needs import EVERYTHING, Needs, needs_of
from headwater.tasks.pieces import bytes_taken, might_leave_out, scan_pieces, stage_pieces
from headwater.tasks.progress import MAX_TRIES
from headwater.tasks.read import (
    together,
)
from headwater.tasks.sides import held_sides, release_sides
from headwater.tasks.stages import JobStage, RowOrder, explained_by
from headwater.tasks.transform import (
    PartSpec,
    Phases,
    explain_part,
    failures,
    on_device,
    scratch_folder,
    whole_frames,
    worker_address,
    write_part,
)

if TYPE_CHECKING:
    import pandas as pd

SAMPLED_ROWS = 1024
"""Rows of a piece that tell how the values of an order are spread; enough for buckets that differ
by a few percent."""


@dataclass(slots=True)
class Work:
    """One leg on one piece, while it runs.

    Attributes:
        frames: What came in, in pieces that can be read again, once the head has opened them.
        beside: What came in beside the rows.
        receipt: What is left behind, where the leg reads a part of the input or writes one.
        size_bytes: Of the state that goes out, in memory; what travels is compressed.
        needs: Of the input, where the leg reads a part of it.
    """

    spec: PartSpec
    stack: ExitStack
    tmp: Path
    beside: object = None
    needs: Needs = EVERYTHING
    phases: Phases = field(default_factory=Phases)
    frames: list[pl.LazyFrame] = field(default_factory=list)
    receipt: PartReceipt | None = None
    size_bytes: int = 0


class Head(Protocol):
    """What comes into a leg."""

    def open(self, arrived: object, work: Work) -> Sequence[pl.LazyFrame]:
        """The rows that came, in pieces that can be read again.

        Args:
            arrived: What the leg before gave.
        """
        ...

    @property
    def name(self) -> str:
        """What messages call it."""
        ...


class Tail(Protocol):
    """What goes out of a leg."""

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> object:
        """What the next leg's task gets of ``frame``, whose columns are ``schema``."""
        ...

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """The plan that ``close`` runs on ``frame``."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the driver hears of a leg.

    Attributes:
        retries: Tries that failed before the one that did not.
        size_bytes: In memory, of the state that the leg gave, where it gave one.
        store_retries: Calls to stores that were made again, where no receipt tells of them.
    """

    receipt: PartReceipt | None
    retries: int = 0
    size_bytes: int = 0
    store_retries: int = 0


@dataclass(frozen=True, slots=True)
class Leg:
    """A leg on one piece.

    Attributes:
        stages: Which of the job's stages it applies, in their order.
        given: Columns that come in.
    """

    head: Head
    stages: range
    tail: Tail
    given: pl.Schema


def run_leg(
    leg: Leg, spec: PartSpec, arrived: object = None, beside: object = None
) -> tuple[object, Outcome]:
    """What ``leg`` gives, and what the driver hears of it.

    Args:
        arrived: What the leg before gave to this piece.
        beside: What the tail needs apart from the rows.
    Raises:
        HeadwaterError: As ``transform.run_part`` does.
    """
    with counting() as of_stores:
        for retries in range(MAX_TRIES):
            try:
                value, work = _run_leg(leg, spec, arrived, beside)
                return value, _outcome(work, retries, of_stores)
            except HeadwaterError as exc:
                if exc.retry == "never" or retries == MAX_TRIES - 1:
                    raise
    raise AssertionError("the last try returns or raises")


def _outcome(work: Work, retries: int, of_stores: StoreRetries) -> Outcome:
    """What the driver hears; the receipt, where there is one, is left in the store first."""
    if work.receipt is None:
        return Outcome(None, retries, work.size_bytes, of_stores.count)
    receipt = replace(work.receipt, store_retries=of_stores.count)
    RunFolder(Uri.parse(work.spec.target), work.spec.attempt_key).leave(receipt)
    # Leaving it may have taken tries as well.
    receipt = replace(receipt, store_retries=of_stores.count)
    return Outcome(receipt, retries, work.size_bytes)


def _run_leg(leg: Leg, spec: PartSpec, arrived: object, beside: object) -> tuple[object, Work]:
    sides: dict[str, pl.LazyFrame] = {}
    stages: Sequence[JobStage] = ()
    with under_way(leg.head.name), scratch_folder() as (stack, tmp):
        work = Work(spec, stack, tmp, beside)

        def explained(error: BaseException) -> HeadwaterError:
            if isinstance(leg.head, Slices):
                part = leg.head.part
                with whole_frames(part, spec, tmp, work.needs, work.frames) as frames:
                    known = explained_by(stages, error, frames, sides, leg.head.name)
                known = known or explain_part(part, spec, error)
            else:
                known = explained_by(stages, error, work.frames, sides, leg.head.name)
            return known or PartFailed(
                f"job {spec.job.name} failed on {leg.head.name}: {type(error).__name__}:"
                f" {first_line(error)}",
                hint="mend the job or its input, then run the same command again",
            )

        with failures(leg.head.name, tmp, explained):
            with work.phases("stage"):
                sides = held_sides(spec.attempt_key, spec.sides, spec.job.check_sides)
                stages = _stages(spec)[leg.stages.start : leg.stages.stop]
                if isinstance(leg.head, Slices) and might_leave_out(leg.head.part.slices):
                    work.needs = _needs(leg, stages, sides)
                work.frames = list(leg.head.open(arrived, work))
            with work.phases("transform"):
                frame = together(work.frames, leg.given)
                schema = stages[-1].schema if stages else leg.given
                if isinstance(leg.head, Bucket) and frame.limit(1).collect().is_empty():
                    # Of no rows of a key, or of a range, come none; some plans fail on them.
                    frame = pl.LazyFrame(schema=schema)
                else:
                    for stage in stages:
                        frame = stage.apply(frame, sides)
                value = leg.tail.close(frame, schema, work)
            stack.close()  # checks that local inputs are still what was pinned
    return value, work


def _needs(leg: Leg, stages: Sequence[JobStage], sides: Mapping[str, pl.LazyFrame]) -> Needs:
    """What the leg needs of a part of the input."""

    def plan(frame: pl.LazyFrame) -> pl.LazyFrame:
        for stage in stages:
            frame = stage.apply(frame, sides)
        return leg.tail.reads(frame, stages[-1].schema if stages else leg.given)

    return needs_of(plan, leg.given)


# --- what comes in ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slices:
    """A part of the input.

    Attributes:
        counted: Whether what is read counts; a part that is read twice counts once.
    """

    part: Part
    counted: bool = True

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"part {self.part.index}"

    def open(self, arrived: object, work: Work) -> list[pl.LazyFrame]:  # noqa: ARG002
        """Scans of the part's staged files."""
        source = work.spec.source
        staged = stage_pieces(work.stack, self.part.slices, source, work.tmp, work.needs)
        frames, rows = scan_pieces(staged, source, work.spec.device, counted=self.counted)
        if self.counted:
            work.receipt = PartReceipt(
                index=self.part.index,
                files=(),
                rows_in=rows,
                rows_out=0,
                bytes_read=bytes_taken(staged),
                bytes_written=0,
                seconds=work.phases.seconds,
                worker=worker_address(),
                device=work.spec.device,
            )
        return frames


@dataclass(frozen=True, slots=True)
class Bucket:
    """The share that one bucket has of all pieces."""

    index: int
    schema: pl.Schema

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"bucket {self.index}"

    def open(self, arrived: object, work: Work) -> list[pl.LazyFrame]:  # noqa: ARG002
        """The rows that came for it."""
        return [taken(cast("pd.DataFrame", arrived), self.schema).lazy()]


@dataclass(frozen=True, slots=True)
class Groups:
    """The state of some groups, with all of their rows in it."""

    index: int
    plan: AggregatePlan
    schema: pl.Schema

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"groups {self.index}"

    def open(self, arrived: object, work: Work) -> list[pl.LazyFrame]:  # noqa: ARG002
        """The aggregate's result."""
        return [finalize(unpack(cast("bytes", arrived)), self.plan, self.schema)]


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that is left of every piece."""

    name: str = "all rows"

    def open(self, arrived: object, work: Work) -> list[pl.LazyFrame]:  # noqa: ARG002
        """The pieces."""
        return [unpack(data).lazy() for data in cast("Iterable[bytes]", arrived)]


# --- what goes out ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows themselves."""

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> bytes:
        """All of them."""
        return pack(_collected(frame, schema, work))

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:  # noqa: ARG002
        """All of it."""
        return frame


@dataclass(frozen=True, slots=True)
class PartialState:
    """The state of an aggregate over the piece's rows."""

    plan: AggregatePlan

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> bytes:
        """A row for each of the piece's groups."""
        state = _collected(self.reads(frame, schema), state_schema(self.plan, schema), work)
        work.size_bytes = int(state.estimated_size())
        return pack(state)

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """The plan of the state."""
        return partial(frame, self.plan, schema)


@dataclass(frozen=True, slots=True)
class ByKey:
    """A share for each bucket: rows with equal keys go to the same one."""

    keys: tuple[str, ...]
    buckets: int

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> pd.DataFrame:
        """The shares."""
        rows = _collected(frame, schema, work)
        return shares(rows, buckets_by_key(rows, self.keys, self.buckets))

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:  # noqa: ARG002
        """All of it."""
        return frame


@dataclass(frozen=True, slots=True)
class Sampled:
    """Some rows that tell how the values of an order are spread.

    They are a function of the rows, and not of the order that they happen to be in: the same input
    is cut the same way again when a run is taken up.
    """

    order: RowOrder

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> bytes:  # noqa: ARG002
        """Rows at even distances in the piece's own order."""
        rows = self.reads(frame, schema).collect(engine="streaming")
        return pack(rows.gather_every(max(1, rows.height // SAMPLED_ROWS)))

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """The order's own columns, in order."""
        names = self.order.order_by
        return _ordered(frame.select([column_of(n) for n in names]), schema, self.order)


@dataclass(frozen=True, slots=True)
class ByOrder:
    """A share for each bucket: all rows of one come before all rows of the next.

    ``bounds`` arrive beside the rows.
    """

    order: RowOrder

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> pd.DataFrame:
        """The shares."""
        rows = _collected(frame, schema, work)
        names = self.order.order_by
        is_row, place = (_free(schema, word) for word in ("is_row", "place"))
        bounds = unpack(cast("bytes", work.beside)).lazy()
        both = pl.concat(
            [
                bounds.with_columns(pl.lit(0, pl.Int8).alias(is_row)),
                rows.lazy().select(*map(column_of, names), pl.lit(1, pl.Int8).alias(is_row)),
            ]
        ).with_columns(pl.int_range(pl.len(), dtype=pl.UInt64).alias(place))
        # Of equal rows a bound comes first, so all of them come after it.
        columns = pl.Schema({**{name: schema[name] for name in names}, is_row: pl.Int8()})
        ordered = self.order.in_order(both, columns).collect()
        passed = ordered.select(
            place, is_row, bucket=(column_of(is_row) == 0).cum_sum().cast(pl.UInt64)
        )
        of_rows = passed.filter(column_of(is_row) == 1).sort(place)
        return shares(rows, of_rows["bucket"].to_numpy())

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:  # noqa: ARG002
        """All of it."""
        return frame


def bounds(samples: Sequence[bytes], order: RowOrder, schema: pl.Schema, buckets: int) -> bytes:
    """The first row of each bucket but the first one, in the order's own columns.

    Args:
        samples: Of all pieces.
        schema: Columns of the pieces.
    """
    ordered = _ordered(pl.concat(map(unpack, samples)).lazy(), schema, order).collect()
    rows = ordered.height
    firsts = [rows * bucket // buckets for bucket in range(1, buckets)] if rows else []
    return pack(ordered[firsts].unique(maintain_order=True))


@dataclass(frozen=True, slots=True)
class Written:
    """A part of the result."""

    index: int

    def close(self, frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> None:  # noqa: ARG002
        """Write it, and note what was written."""
        spec = work.spec
        files, fallbacks = write_part(frame, self.index, spec, work.tmp, work.phases)
        work.receipt = PartReceipt(
            index=self.index,
            files=files,
            rows_in=0,
            rows_out=sum(f.rows for f in files),
            bytes_read=0,
            bytes_written=sum(f.size_bytes for f in files),
            seconds=work.phases.seconds,
            worker=worker_address(),
            device=spec.device,
            gpu_fallbacks=fallbacks,
        )

    def reads(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:  # noqa: ARG002
        """All of it."""
        return frame


# --- helpers ---------------------------------------------------------------------------------


def _collected(frame: pl.LazyFrame, schema: pl.Schema, work: Work) -> pl.DataFrame:
    if work.receipt is not None:
        frame, fallbacks = on_device(frame, work.spec)
        work.receipt = replace(work.receipt, gpu_fallbacks=fallbacks)
    rows = frame.collect(engine="streaming")
    if rows.schema != schema:
        raise PartFailed(
            f"job {work.spec.job.name} gave {rows.schema}, and its plan promised {schema}",
            hint="cast the columns that differ",
        )
    return rows


def _ordered(frame: pl.LazyFrame, schema: pl.Schema, order: RowOrder) -> pl.LazyFrame:
    return order.in_order(frame, pl.Schema({name: schema[name] for name in order.order_by}))


def _free(schema: pl.Schema, word: str) -> str:
    """``word``, or what is like it and no column of ``schema``."""
    while word in schema:
        word += "_"
    return word


# --- what a process holds for a run ----------------------------------------------------------

_STAGES: dict[str, Sequence[JobStage]] = {}
_STAGES_LOCK = Lock()


def _stages(spec: PartSpec) -> Sequence[JobStage]:
    """The job's stages; the first leg of a run in this process resolves them."""
    with _STAGES_LOCK:
        if spec.attempt_key not in _STAGES:
            sides = {name: side.schema for name, side in spec.sides}
            _STAGES[spec.attempt_key] = spec.job.stages(spec.source.schema, sides, spec.result)
        return _STAGES[spec.attempt_key]


def release(attempt_key: str) -> None:
    """Let go of what this process holds for a run; runs on every worker at the end of a run."""
    release_sides(attempt_key)
    with _STAGES_LOCK:
        _STAGES.pop(attempt_key, None)
