"""Drives the parts of a run through a Dask cluster, from the driver.

One task per part; what can succeed elsewhere or later is tried again, what cannot stops the run
at once. A worker that dies takes only its unfinished parts with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

from distributed import as_completed
from distributed.scheduler import KilledWorker

from headwater.infra.errors import HeadwaterError, PartFailed, WorkerLost
from headwater.infra.models import Candidate, Device, Part, PartReceipt, Scope
from headwater.infra.storage.runs import RunFolder
from headwater.tasks.prepare import Prepared
from headwater.tasks.progress import MAX_TRIES, Processed, Progress
from headwater.tasks.scan import cut, part_bytes, whole
from headwater.tasks.transform import PartSpec, release_sides, run_part

if TYPE_CHECKING:
    from distributed import Client, Future


def process(
    client: Client,
    prepared: Prepared,
    candidate: Candidate,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    gpu_fallback: Literal["allow", "refuse"] = "allow",
) -> Processed:
    """Every part of ``prepared`` read, transformed and written; nothing is committed.

    Args:
        client: Of the cluster that ``candidate`` describes.
        on_progress: Called in this thread at the start and after each part.
        gpu_fallback: What happens to a plan that the GPU engine cannot run.
    Raises:
        WorkerLost: A part's worker died again and again.
        HeadwaterError: A part failed for good; parts that were finished stay taken up.
    """
    if prepared.job.frames == "dask":
        from headwater.tasks.dataframes.run import process_frames  # long to import

        return process_frames(client, prepared, candidate, on_progress=on_progress)
    folder = RunFolder(prepared.target, prepared.attempt_key)
    if prepared.request.fresh:
        folder.forget()
    parts = folder.agree_on_parts(_parts(prepared, candidate))
    finished = folder.finished()
    spec = _spec(prepared, candidate.device, gpu_fallback)
    run = _Run(client, spec, parts, finished, on_progress)
    try:
        run.drive([part for part in parts if part.index not in finished])
    finally:
        if spec.sides:
            _release(client, spec.attempt_key)
    receipts = tuple(run.receipts[index] for index in sorted(run.receipts))
    return Processed(receipts, len(finished), run.retries)


def _parts(prepared: Prepared, candidate: Candidate) -> tuple[Part, ...]:
    if prepared.job.scope is Scope.WHOLE:
        return whole(prepared.source)
    size = part_bytes(
        prepared.source,
        memory_gib_per_thread=candidate.memory_gib_per_worker / candidate.threads_per_worker,
        threads=candidate.workers * candidate.threads_per_worker,
    )
    return cut(prepared.source, size)


class _Run:
    """The state of one call of ``process``."""

    def __init__(
        self,
        client: Client,
        spec: PartSpec,
        parts: Sequence[Part],
        finished: dict[int, PartReceipt],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._client = client
        self._spec = spec
        self._parts = {part.index: part for part in parts}
        self._on_progress = on_progress
        self._tries = dict.fromkeys(self._parts, 0)
        self.receipts = dict(finished)
        self.retries = 0

    def drive(self, parts: Sequence[Part]) -> None:
        """Run ``parts`` to the end; on any error what is still under way is cancelled."""
        self._tell()
        if not parts:
            return
        futures = {future: part.index for part, future in self._submit(parts)}
        results = as_completed(list(futures), loop=self._client.loop)
        try:
            for future in results:
                index = futures[future]
                if future.status == "finished":
                    self.receipts[index] = future.result()
                    self._tell()
                    continue
                again = self._failed(index, future.exception())
                ((_, retried),) = self._submit([again])
                futures[retried] = index
                results.add(retried)
            self.retries += self._lost_workers(futures)
        finally:
            self._client.cancel(list(futures))

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
        if isinstance(exc, KilledWorker):
            raise WorkerLost(
                f"part {index}: its worker died {exc.allowed_failures + 1} times, probably for"
                " lack of memory",
                hint="give workers more memory or fewer threads in the cluster profile",
            ) from exc
        self._tries[index] += 1
        if not isinstance(exc, HeadwaterError):
            raise PartFailed(
                f"part {index} failed: {type(exc).__name__}: {exc}",
                hint="run the same command again: finished parts are taken up",
            ) from exc
        if exc.retry == "never" or self._tries[index] >= MAX_TRIES:
            raise exc
        self.retries += 1
        self._tell()
        return self._parts[index]

    def _lost_workers(self, futures: dict[Future[PartReceipt], int]) -> int:
        """How often a worker died while it had one of the parts."""
        keys = [future.key for future in futures]
        return cast(int, self._client.run_on_scheduler(_suspicions, keys=keys))

    def _tell(self) -> None:
        self._on_progress(
            Progress(
                len(self._parts),
                len(self.receipts),
                sum(r.rows_in for r in self.receipts.values()),
                sum(r.rows_out for r in self.receipts.values()),
                self.retries,
            )
        )


def _spec(prepared: Prepared, device: Device, gpu_fallback: Literal["allow", "refuse"]) -> PartSpec:
    return PartSpec(
        run_key=prepared.run_key,
        attempt_key=prepared.attempt_key,
        target=str(prepared.target),
        source=replace(prepared.source, files=()),
        sides=prepared.sides,
        job=prepared.job,
        result=prepared.result,
        schema=prepared.schema,
        partition_by=prepared.request.partition_by,
        device=device,
        gpu_fallback=gpu_fallback,
    )


def _suspicions(dask_scheduler: object, keys: Sequence[str]) -> int:
    tasks = dask_scheduler.tasks  # type: ignore[attr-defined]
    return sum(tasks[key].suspicious for key in keys if key in tasks)


def _release(client: Client, attempt_key: str) -> None:
    """Free the side tables; a cluster that is already gone has freed them."""
    if client.status == "running":
        client.run(release_sides, attempt_key, on_error="ignore")
