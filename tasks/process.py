"""Drives the parts of a run through a Dask cluster, from the driver.

One task per part; what can succeed elsewhere or later is tried again, what cannot stops the run
at once. A worker that dies takes only its unfinished parts with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distributed import as_completed

from headwater.infra.models import Candidate, Part, PartReceipt, Scope
from headwater.infra.storage.runs import RunFolder
from headwater.tasks.legs import release
from headwater.tasks.memory import memory_guard
from headwater.tasks.prepare import Prepared
from headwater.tasks.progress import MAX_TRIES, Losses, Processed, Progress, Tally, as_ours
from headwater.tasks.scan import (
    STATE_PART_BYTES,
    cut,
    cut_by_key,
    holds,
    of_copies,
    of_origins,
    part_bytes,
    whole,
)
from headwater.tasks.spread import process_spread
from headwater.tasks.stages import JobStage
from headwater.tasks.transform import PartSpec, run_part

if TYPE_CHECKING:
    from distributed import Client, Future


def process(
    client: Client,
    prepared: Prepared,
    candidate: Candidate,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    gpu_fallback: Literal["allow", "refuse"] = "allow",
    cut_bytes: int | None = None,
) -> Processed:
    """Every part of ``prepared`` read, transformed and written; nothing is committed.

    Args:
        client: Of the cluster that ``candidate`` describes.
        on_progress: Called in this thread at the start and after each part.
        gpu_fallback: What happens to a plan that the GPU engine cannot run.
        cut_bytes: Size in memory, uncompressed, of one part; a job that looks across rows is
            spread over the cluster where there is more than one. By default as workers' memory
            allows.
    Raises:
        WorkerLost: A part's worker died again and again.
        MemoryExhausted: Parts in this process took as much memory as it may have.
        HeadwaterError: A part failed for good; parts that were finished stay taken up.
    """
    with memory_guard(client, candidate):
        if prepared.job.frames == "dask":
            from headwater.tasks.dataframes.run import process_frames  # long to import

            return process_frames(client, prepared, candidate, on_progress=on_progress)
        return _process(client, prepared, candidate, on_progress, gpu_fallback, cut_bytes)


def _process(
    client: Client,
    prepared: Prepared,
    candidate: Candidate,
    on_progress: Callable[[Progress], None],
    gpu_fallback: Literal["allow", "refuse"],
    cut_bytes: int | None,
) -> Processed:
    route = _route(prepared, candidate, cut_bytes)
    folder = RunFolder(prepared.target, route.attempt_key)
    if prepared.request.fresh:
        folder.forget()
    agreed = folder.agree_on_parts(of_origins(prepared.source, route.parts))
    parts = of_copies(prepared.source, agreed)
    spec = _spec(prepared, route, candidate, gpu_fallback)
    try:
        if route.is_spread:
            stages = _stages(prepared)
            return process_spread(client, spec, stages, parts, candidate, on_progress=on_progress)
        finished = folder.finished()
        run = _Run(client, spec, parts, folder, finished, on_progress)
        run.drive([part for part in parts if part.index not in finished])
        return run.tally.processed()
    finally:
        if spec.sides or route.is_spread:
            _release(client, spec.attempt_key)


@dataclass(frozen=True, slots=True)
class _Route:
    """Which way a job takes through the cluster.

    Attributes:
        parts: Of the input, as this attempt would cut it.
        is_one: The job sees the whole input as one part.
        is_spread: Rows, or the states of aggregates, meet between the parts.
        attempt_key: Names the folder of receipts; attempts that go different ways share none.
    """

    parts: tuple[Part, ...]
    attempt_key: str
    is_one: bool = False
    is_spread: bool = False


def _route(prepared: Prepared, candidate: Candidate, cut_bytes: int | None) -> _Route:
    source, job, key = prepared.source, prepared.job, prepared.attempt_key
    size = cut_bytes or part_bytes(
        source,
        memory_gib_per_thread=candidate.memory_gib_per_worker / candidate.threads_per_worker,
        threads=candidate.workers * candidate.threads_per_worker,
    )
    if job.scope is Scope.ROWS:
        return _Route(cut(source, size), key)
    if job.keys and (parts := cut_by_key(source, job.keys, size)):
        return _Route(parts, f"{key}-keyed")
    if job.can_spread:
        # States of aggregates are small, so they always meet; rows only where they have to.
        crossing = next(stage for stage in _stages(prepared) if stage.scope.kind != "rows")
        if crossing.aggregates is not None:
            size = cut_bytes or min(size, STATE_PART_BYTES)
        is_held = cut_bytes is None and holds(source, candidate.memory_gib_per_worker)
        parts = cut(source, size)
        spread = _Route(parts, f"{key}-spread", is_spread=True)
        is_many = len(parts) > 1 and (crossing.aggregates is not None or not is_held)
        if is_many or _is_begun(prepared, spread):
            return spread
    return _Route(whole(source), key, is_one=True)


def _is_begun(prepared: Prepared, route: _Route) -> bool:
    """Whether an earlier attempt, perhaps on a smaller cluster, went that way and left receipts."""
    if prepared.request.fresh:
        return False
    return RunFolder(prepared.target, route.attempt_key).agreed_parts() is not None


def _stages(prepared: Prepared) -> tuple[JobStage, ...]:
    sides = {name: side.schema for name, side in prepared.sides}
    return prepared.job.stages(prepared.source.schema, sides, prepared.result)


class _Run:
    """The parts of a job that looks at none but their own rows, while they are under way."""

    def __init__(
        self,
        client: Client,
        spec: PartSpec,
        parts: Sequence[Part],
        folder: RunFolder,
        finished: dict[int, PartReceipt],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._client = client
        self._folder = folder
        self._spec = spec
        self._parts = {part.index: part for part in parts}
        self._tries = dict.fromkeys(self._parts, 0)
        self.tally = Tally(len(self._parts), finished, on_progress)

    def drive(self, parts: Sequence[Part]) -> None:
        """Run ``parts`` to the end; on any error what is still under way is cancelled."""
        self.tally.tell()
        if not parts:
            return
        futures = {future: part.index for part, future in self._submit(parts)}
        results = as_completed(list(futures), loop=self._client.loop)
        try:
            with Losses(self._client) as losses:
                for future in results:
                    # Let go of here, since Dask does again what is held and lost with a worker.
                    index = futures.pop(future)
                    outcome = self._outcome(future, index)
                    if isinstance(outcome, PartReceipt):
                        self.tally.add(outcome)
                        continue
                    ((_, retried),) = self._submit([self._failed(index, outcome)])
                    futures[retried] = index
                    results.add(retried)
                self.tally.retries += losses.count
        finally:
            self._client.cancel(list(futures))

    def _outcome(self, future: Future[PartReceipt], index: int) -> PartReceipt | BaseException:
        """What a part that is over has left, or why it failed."""
        if future.status == "pending":  # the worker that held the receipt was lost since
            receipt = self._folder.finished_part(index)
            if receipt is not None:
                self._client.cancel([future])
                return receipt
        exc = future.exception()
        return exc if isinstance(exc, BaseException) else future.result()

    def _submit(self, parts: Sequence[Part]) -> list[tuple[Part, Future[PartReceipt]]]:
        keys = [self._key(part) for part in parts]
        futures = self._client.map(
            run_part, list(parts), spec=self._spec, key=keys, pure=False, priority=0
        )
        return list(zip(parts, futures, strict=True))

    def _key(self, part: Part) -> str:
        attempt = self._tries[part.index]
        return f"part-{self._spec.attempt_key[:12]}-{part.index:05d}-{attempt}-{id(self):x}"

    def _failed(self, index: int, exc: BaseException) -> Part:
        """The part to try again, or the error that ends the run."""
        ours = as_ours(exc, f"part {index}")
        self.tally.store_retries += ours.store_retries
        self._tries[index] += 1
        if ours is not exc or ours.retry == "never" or self._tries[index] >= MAX_TRIES:
            self.tally.tell()
            raise ours from (None if ours is exc else exc)
        self.tally.retries += 1
        self.tally.tell()
        return self._parts[index]


def _spec(
    prepared: Prepared,
    route: _Route,
    candidate: Candidate,
    gpu_fallback: Literal["allow", "refuse"],
) -> PartSpec:
    return PartSpec(
        run_key=prepared.run_key,
        attempt_key=route.attempt_key,
        target=str(prepared.target),
        source=prepared.source.for_workers,
        sides=prepared.sides,
        job=prepared.job,
        result=prepared.result,
        schema=prepared.schema,
        partition_by=prepared.request.partition_by,
        device=candidate.device,
        gpu_fallback=gpu_fallback,
        is_one_part=route.is_one,
        is_repeated=candidate.processes,
        format=prepared.request.format,
    )


def _release(client: Client, attempt_key: str) -> None:
    """Free the side tables; a cluster that is already gone has freed them."""
    if client.status == "running":
        client.run(release, attempt_key, on_error="ignore")
