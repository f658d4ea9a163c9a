"""Drives a job in the pandas style: read, exchange and write as one Dask graph.

A part of the result depends on all of the input, and on how this attempt's graph spread the rows
over the parts. Another attempt's may spread them otherwise: bounds of a sort are estimated, and
users' code need not be the same twice. So parts of two attempts are never put together. What an
attempt has finished as a whole is taken up; anything less is done anew.

Inside an attempt Dask does again what a lost worker held. There a job has to give the same rows
for the same rows, as everywhere in Dask.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from dask import config as dask_config
from dask.delayed import delayed
from distributed import as_completed

from headwater.infra.errors import HeadwaterError
from headwater.infra.models import Candidate, Device, Part, PartReceipt
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.runs import RunFolder
from headwater.tasks.dataframes.failures import explained
from headwater.tasks.dataframes.frames import SOURCE, Reader, frame_of
from headwater.tasks.dataframes.plan import apply, graph_settings, shuffle_method
from headwater.tasks.dataframes.types import index_names
from headwater.tasks.dataframes.workers import equipped
from headwater.tasks.dataframes.write import WriteSpec, write_partition
from headwater.tasks.progress import Losses, Processed, Progress
from headwater.tasks.scan import cut, part_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable

    import dask.dataframe as dd
    from distributed import Client, Future

    from headwater.tasks.prepare import Prepared


def process_frames(
    client: Client,
    prepared: Prepared,
    candidate: Candidate,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Processed:
    """The result of a job in the pandas style, written; nothing is committed.

    There is a receipt for each part that was read and for each that was written.

    Args:
        client: Of the cluster that ``candidate`` describes.
        on_progress: Called in this thread at the start and after each part of the result.
    Raises:
        WorkerLost: Workers died again and again.
        HeadwaterError: A part could not be read or written, or the job failed.
    """
    folder = RunFolder(prepared.target, prepared.attempt_key)
    if prepared.request.fresh:
        folder.forget()
    elif (receipts := folder.all_finished()) is not None:
        on_progress(_progress(receipts, len(receipts), _Told()))
        return Processed(receipts, len(receipts), 0)
    run = _Run(client, prepared, candidate, on_progress)
    try:
        with equipped(client, prepared.job), client.as_current(), Losses(client) as losses:
            receipts = run.drive()
            run.told.retries += losses.count
    except HeadwaterError:
        raise
    except Exception as exc:
        raise explained(prepared.job.name, exc) from exc
    folder.leave_all(receipts)
    return Processed(receipts, 0, run.told.retries)


@dataclass(slots=True)
class _Told:
    """What tasks have told of themselves so far."""

    reads: dict[int, PartReceipt] = field(default_factory=dict)
    retries: int = 0
    store_retries: int = 0
    """Of tries that failed, and of side tables."""

    def take(self, event: tuple[float, dict[str, int]]) -> None:
        """Add what one event says; a part that is read twice has its rows once."""
        said = event[1]
        self.retries += said.get("retries", 0)
        if "part" not in said:
            self.store_retries += said.get("store_retries", 0)
            return
        before = self.reads.get(said["part"])
        earlier = before.bytes_read if before else 0
        retries = before.store_retries if before else 0
        self.reads[said["part"]] = PartReceipt(
            index=said["part"],
            files=(),
            rows_in=said["rows"],
            rows_out=0,
            bytes_read=earlier + said["bytes"],
            bytes_written=0,
            seconds={},
            worker="",
            store_retries=retries + said["store_retries"],
        )


class _Run:
    """The state of one call of ``process_frames``."""

    def __init__(
        self,
        client: Client,
        prepared: Prepared,
        candidate: Candidate,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._client = client
        self._prepared = prepared
        self._candidate = candidate
        self._on_progress = on_progress
        self._topic = f"headwater-{prepared.attempt_key[:12]}-{uuid.uuid4().hex[:8]}"
        self._parts = self._cut(prepared.source)
        self._done: list[PartReceipt] = []
        self.told = _Told()

    def drive(self) -> tuple[PartReceipt, ...]:
        """Run the graph to its end; on any error what is still under way is cancelled."""
        # Messages of tasks and news of their end come in one stream, so that when a part is
        # done, what was told on the way to it is known.
        self._client.subscribe_topic(self._topic, self.told.take)
        try:
            with graph_settings(self._candidate.device):
                tasks = self._graph()
                self._tell(len(tasks))
                futures = cast(
                    "list[Future[PartReceipt]]", self._client.compute(tasks, optimize_graph=False)
                )
            try:
                for future in as_completed(list(futures), loop=self._client.loop):
                    self._done.append(future.result())
                    future.release()  # else it is done anew where its worker is lost later
                    self._tell(len(tasks))
            finally:
                self._client.cancel(futures)
        finally:
            if self._client.status == "running":
                self._client.unsubscribe_topic(self._topic)
        if len(self.told.reads) < len(self._parts):  # some were of no use to the job
            self._tell(len(tasks) - len(self._parts) + len(self.told.reads))
        return self._receipts()

    def _graph(self) -> list[object]:
        """One task for each part of the result, from the reading to the receipt."""
        prepared = self._prepared
        frames = {name: self._frame(name, side) for name, side in prepared.sides}
        result = apply(prepared.job, self._frame(SOURCE, prepared.source), frames)
        names = index_names(result._meta)
        spec = delayed(
            _spec(prepared, names, self._topic, self._candidate.device), pure=False, traverse=False
        )
        # Bounds of a sort are computed in here, on the cluster.
        with dask_config.set(
            {"dataframe.shuffle.method": shuffle_method(result, self._candidate.device)}
        ):
            partitions = result.to_delayed()
        first = len(self._parts)
        write = delayed(write_partition, pure=False)
        return [write(one, first + i, spec) for i, one in enumerate(partitions)]

    def _frame(self, name: str, source: Input) -> dd.DataFrame:
        bare = source.for_workers
        parts = self._parts if name == SOURCE else self._cut(source)
        return frame_of(Reader(name, bare, self._topic, self._candidate.device), parts)

    def _cut(self, source: Input) -> tuple[Part, ...]:
        candidate = self._candidate
        size = part_bytes(
            source,
            memory_gib_per_thread=candidate.memory_gib_per_worker / candidate.threads_per_worker,
            threads=candidate.workers * candidate.threads_per_worker,
        )
        # Dask needs a partition also of nothing.
        return cut(source, size) or (Part(0, ()),)

    def _receipts(self) -> tuple[PartReceipt, ...]:
        reads = [self.told.reads[index] for index in sorted(self.told.reads)]
        return (*reads, *sorted(self._done, key=lambda receipt: receipt.index))

    def _tell(self, results: int) -> None:
        parts = len(self._parts) + results
        self._on_progress(_progress(self._receipts(), parts, self.told))


def _spec(prepared: Prepared, index: tuple[Hashable, ...], topic: str, device: Device) -> WriteSpec:
    return WriteSpec(
        run_key=prepared.run_key,
        target=str(prepared.target),
        job=prepared.job.name,
        index=index,
        result=prepared.result,
        schema=prepared.schema,
        partition_by=prepared.request.partition_by,
        topic=topic,
        device=device,
        format=prepared.request.format,
    )


def _progress(receipts: tuple[PartReceipt, ...], parts: int, told: _Told) -> Progress:
    return Progress(
        parts,
        len(receipts),
        sum(r.rows_in for r in receipts),
        sum(r.rows_out for r in receipts),
        told.retries,
        told.store_retries + sum(r.store_retries for r in receipts),
    )
