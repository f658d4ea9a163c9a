"""Drives a job that looks across rows over a cluster, where one worker is not to hold them all.

The input is read in parts. Rows stay where they are until a stage asks for rows of other pieces:

- an aggregate: each piece gives the state of its groups, and states are joined in a tree; where
  the groups are too many for one worker, each of several trees joins its share of them;
- rows of one key: the pieces exchange rows, so that each key is in one bucket;
- an order of all rows: they exchange rows so that each bucket comes before the next;
- few rows of all (``top``): the best of each piece are gathered.

What the last leg writes are the parts of the result. Which rows are in which of them depends on
the rows alone, so a run that is taken up writes those that are missing; it reads the input again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import polars as pl
from dask._task_spec import List, Task, TaskRef
from distributed import as_completed

from headwater.infra.models import Candidate, Part, PartReceipt
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.uris import Uri
from headwater.infra.units import GIB
from headwater.tasks.aggregates.partitions import partitions_needed
from headwater.tasks.aggregates.plan import AggregateFunction, AggregatePlan
from headwater.tasks.aggregates.tree import forest
from headwater.tasks.exchange import Graph, add_exchange, quiet_exchanges
from headwater.tasks.legs import (
    Bucket,
    ByKey,
    ByOrder,
    Gathered,
    Groups,
    Head,
    Kept,
    Leg,
    Outcome,
    PartialState,
    Sampled,
    Slices,
    Tail,
    Written,
    bounds,
    run_leg,
)
from headwater.tasks.progress import Losses, Processed, Progress, Tally, as_ours
from headwater.tasks.stages import JobStage, RowOrder
from headwater.tasks.transform import PartSpec

if TYPE_CHECKING:
    from distributed import Client, Future

RESULT = "result"
"""Name of the list of parts that the last leg writes."""


def process_spread(
    client: Client,
    spec: PartSpec,
    stages: Sequence[JobStage],
    parts: Sequence[Part],
    candidate: Candidate,
    *,
    on_progress: Callable[[Progress], None],
) -> Processed:
    """Every part of the result written; nothing is committed.

    Args:
        parts: Of the input, as the first attempt has cut it.
        candidate: Describes the cluster.
    """
    folder = RunFolder(Uri.parse(spec.target), spec.attempt_key)
    finished = folder.finished()
    results = folder.agreed_parts(RESULT)
    if results is not None and finished.keys() >= {part.index for part in results}:
        tally = Tally(len(parts) + len(results), finished, on_progress)
        tally.tell()
        return tally.processed()
    kept = {} if _may_come_out_otherwise(stages) else _written(finished, results)
    tally = Tally(len(parts) + len(results or ()), kept, on_progress)
    run = _Spread(client, spec, stages, parts, candidate, folder, tally)
    with quiet_exchanges(client), Losses(client) as losses:
        run.drive(taken_up=set(kept))
        tally.retries += losses.count
    return tally.processed()


def _written(
    finished: dict[int, PartReceipt], results: Sequence[Part] | None
) -> dict[int, PartReceipt]:
    indexes = {part.index for part in results or ()}
    return {index: receipt for index, receipt in finished.items() if index in indexes}


def _may_come_out_otherwise(stages: Sequence[JobStage]) -> bool:
    """Whether rows that are exchanged may differ when the same input is read again.

    Quantiles are the one function whose sketch flips coins.
    """
    plans = [stage.aggregates for stage in stages]
    return any(
        aggregation.function is AggregateFunction.QUANTILE
        for plan, stage in zip(plans, stages, strict=True)
        if plan is not None and stage is not stages[-1]
        for aggregation in plan.aggregations
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """One piece of the frame that is spread over the cluster.

    Attributes:
        head: How the next leg takes it.
        task: What gives it; ``None`` for a part of the input.
    """

    head: Head
    task: TaskRef | List | None = None


class _Spread:
    """The state of one call of ``process_spread``."""

    def __init__(
        self,
        client: Client,
        spec: PartSpec,
        stages: Sequence[JobStage],
        parts: Sequence[Part],
        candidate: Candidate,
        folder: RunFolder,
        tally: Tally,
    ) -> None:
        self._client = client
        self._job = spec.job.name
        self._stages = stages
        self._source = spec.source.schema
        self._parts = parts
        self._folder = folder
        self._tally = tally
        threads = candidate.threads_per_worker
        self._threads = candidate.workers * threads
        self._memory_bytes = candidate.memory_gib_per_worker * GIB / threads
        self._token = uuid.uuid4().hex[:12]
        self._count = 0
        self._pieces = [_Piece(Slices(part)) for part in parts]
        self._applied = range(0)
        self._keyed_by: tuple[str, ...] | None = None
        self._graph: Graph = {}
        self._spec = Task(f"spec-{self._token}", _itself, spec)
        self._heard: set[Future[Outcome]] = set()
        self._asked: list[str] = []

    def drive(self, taken_up: set[int]) -> None:
        """All legs, to the end; on any error what is still under way is cancelled.

        Args:
            taken_up: Indexes of parts of the result that are there already.
        """
        self._tally.tell()
        try:
            for number, stage in enumerate(self._stages):
                self._reach(number, stage)
            self._write(taken_up)
            self._submit()
            self._listen()
        finally:
            self._client.cancel(list(self._heard))

    # --- which way a stage takes -------------------------------------------------------------

    def _reach(self, number: int, stage: JobStage) -> None:
        """Bring together what ``stage`` asks for, and leave it for the next leg."""
        scope = stage.scope
        if scope.kind == "rows":
            self._keyed_by = None  # its columns may be others now
            return self._apply(number)
        if len(self._pieces) == 1 or self._has_keys_together(scope.keys):
            return self._apply(number)
        if (plan := stage.aggregates) is not None:
            self._join_states(plan, number)
            return None
        if (order := stage.sorts) is not None:
            self._exchange_by_order(order, number)
            return self._apply(number)
        if stage.is_repeatable:
            self._apply(number)  # what a piece drops need not travel
        if scope.kind == "key":
            self._exchange_by_key(scope.keys)
        else:
            self._gather()
        self._applied = range(number, number)
        return self._apply(number)

    def _has_keys_together(self, keys: Iterable[str]) -> bool:
        return self._keyed_by is not None and set(self._keyed_by) <= set(keys)

    def _apply(self, number: int) -> None:
        self._applied = range(self._applied.start, number + 1)

    @property
    def _given(self) -> pl.Schema:
        return self._schema_before(self._applied.start)

    @property
    def _reached(self) -> pl.Schema:
        return self._schema_before(self._applied.stop)

    def _schema_before(self, number: int) -> pl.Schema:
        return self._stages[number - 1].schema if number else self._source

    def _next_leg(self, pieces: list[_Piece]) -> None:
        self._pieces = pieces
        self._applied = range(self._applied.stop, self._applied.stop)

    # --- ways to bring rows together ---------------------------------------------------------

    def _exchange_by_key(self, keys: tuple[str, ...]) -> None:
        buckets = len(self._parts)
        self._exchange([self._leg(piece, ByKey(keys, buckets)) for piece in self._pieces], buckets)
        self._keyed_by = keys

    def _exchange_by_order(self, order: RowOrder, number: int) -> None:
        buckets = len(self._parts)
        samples = [self._leg(_uncounted(piece), Sampled(order)) for piece in self._pieces]
        schema = self._schema_before(number)
        cuts = Task(self._key("bounds"), bounds, List(*samples), order, schema, buckets)
        self._graph[str(cuts.key)] = cuts
        pieces = [
            self._leg(piece, ByOrder(order), beside=TaskRef(cuts.key)) for piece in self._pieces
        ]
        self._exchange(pieces, buckets)
        self._keyed_by = None

    def _exchange(self, given: Sequence[TaskRef], buckets: int) -> None:
        shares = add_exchange(self._graph, self._key("x"), given, buckets)
        schema = self._reached
        self._next_leg([_Piece(Bucket(i, schema), task) for i, task in enumerate(shares)])

    def _gather(self) -> None:
        kept = [self._leg(piece, Kept()) for piece in self._pieces]
        self._next_leg([_Piece(Gathered(), List(*kept))])

    def _join_states(self, plan: AggregatePlan, number: int) -> None:
        states = [self._leg(piece, PartialState(plan), heard=True) for piece in self._pieces]
        schema = self._reached
        futures = self._submit(values=[str(state.key) for state in states])
        sizes = self._first_sizes()
        partitions = partitions_needed([max(sizes)] * len(states), self._memory_bytes)
        if not plan.by:
            partitions = 1
        agreed = self._folder.agree_on_parts(
            [Part(index, ()) for index in range(partitions)], f"groups-{number}"
        )
        roots = forest(
            self._client,
            futures,
            plan,
            schema,
            partitions=len(agreed),
        )
        pieces = [_Piece(Groups(i, plan, schema), root) for i, root in enumerate(roots)]
        self._apply(number)
        self._next_leg(pieces)
        self._keyed_by = plan.by

    def _first_sizes(self) -> list[int]:
        """Sizes of the first states that are done, as many as tell what all will be like."""
        enough = min(len(self._pieces), 2 * self._threads)
        sizes: list[int] = []

        def is_enough(outcome: Outcome) -> bool:
            sizes.append(outcome.size_bytes)
            return len(sizes) == enough

        self._listen(until=is_enough)
        return sizes

    def _write(self, taken_up: set[int]) -> None:
        first = 1 + max((part.index for part in self._parts), default=-1)
        planned = [Part(first + i, ()) for i in range(len(self._pieces))]
        results = self._folder.agree_on_parts(planned, RESULT)
        self._tally.parts = len(self._parts) + len(results)
        for part, piece in zip(results, self._pieces, strict=True):
            if part.index not in taken_up:
                self._leg(piece, Written(part.index))

    # --- tasks -------------------------------------------------------------------------------

    def _leg(
        self, piece: _Piece, tail: Tail, *, beside: TaskRef | None = None, heard: bool = False
    ) -> TaskRef:
        """What the leg gives, as a task.

        Args:
            heard: The driver wants to hear of it, also where it leaves no receipt.
        """
        leg = Leg(piece.head, self._applied, tail, self._given)
        ran = Task(self._key("leg"), run_leg, leg, TaskRef(self._spec.key), piece.task, beside)
        value = Task(self._key("value"), itemgetter(0), TaskRef(ran.key))
        self._graph |= {str(task.key): task for task in (self._spec, ran, value)}
        is_read = isinstance(piece.head, Slices) and piece.head.counted
        if heard or is_read or isinstance(tail, Written):
            outcome = Task(self._key("outcome"), itemgetter(1), TaskRef(ran.key))
            self._graph[str(outcome.key)] = outcome
            self._asked.append(str(outcome.key))
        return TaskRef(value.key)

    def _key(self, word: str) -> str:
        self._count += 1
        return f"{word}-{self._token}-{self._count:06d}"

    def _submit(self, values: Sequence[str] = ()) -> list[Future[bytes]]:
        """Start the tasks there are; the results of ``values`` stay on the cluster."""
        asked = len(self._asked)
        futures = cast(
            "list[Future[Any]]",
            self._client.get(self._graph, [*self._asked, *values], sync=False),
        )
        self._heard |= set(futures[:asked])
        self._graph, self._asked = {}, []
        return futures[asked:]

    def _listen(self, until: Callable[[Outcome], bool] = lambda _: False) -> None:
        """Take in what the legs under way tell, until ``until`` says so of one, or all have."""
        for future in as_completed(list(self._heard), loop=self._client.loop):
            # Its status may be pending again: the worker that held the outcome was lost since.
            if (exc := future.exception()) is not None:
                ours = as_ours(exc, f"job {self._job}")
                self._tally.store_retries += ours.store_retries
                self._tally.tell()
                raise ours from exc
            outcome = future.result()
            self._heard.discard(future)
            self._tally.retries += outcome.retries
            self._tally.store_retries += outcome.store_retries
            if outcome.receipt is not None:
                self._tally.add(outcome.receipt)
            if until(outcome):
                return


def _uncounted(piece: _Piece) -> _Piece:
    """``piece`` for a leg that reads it once more than is needed for its rows."""
    if isinstance(piece.head, Slices):
        return replace(piece, head=replace(piece.head, counted=False))
    return piece


def _itself(value: PartSpec) -> PartSpec:
    return value
