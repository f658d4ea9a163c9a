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
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import pandas as pd
import polars as pl
from dask import config as dask_config
from dask.delayed import delayed
from distributed import as_completed
from distributed.scheduler import KilledWorker

from headwater.infra.errors import (
    HeadwaterError,
    PartFailed,
    SchemaMismatch,
    WorkerLost,
    first_line,
)
from headwater.infra.models import Candidate, Device, Part, PartReceipt
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.types import conform, finer_than_kept
from headwater.infra.storage.uris import Uri
from headwater.tasks.dataframes.frames import SOURCE, Reader, frame_of, interrupted, tell
from headwater.tasks.dataframes.plan import apply, graph_settings, shuffle_method
from headwater.tasks.dataframes.types import conformed, index_names, with_index
from headwater.tasks.dataframes.workers import equipped
from headwater.tasks.progress import MAX_TRIES, Processed, Progress
from headwater.tasks.read import disk_failed
from headwater.tasks.scan import cut, part_bytes
from headwater.tasks.transform import Phases, worker_address
from headwater.tasks.write import PartWriter

if TYPE_CHECKING:
    from collections.abc import Hashable

    import dask.dataframe as dd
    from distributed import Client, Future

    from headwater.tasks.prepare import Prepared


_OF_CLUSTER = "all"
"""Topic of what Dask's scheduler itself tells."""


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
        on_progress(_progress(receipts, len(receipts), 0))
        return Processed(receipts, len(receipts), 0)
    run = _Run(client, prepared, candidate, on_progress)
    try:
        with equipped(client, prepared.job), client.as_current():
            receipts = run.drive()
    except HeadwaterError:
        raise
    except Exception as exc:
        raise _explained(prepared.job.name, exc) from exc
    folder.leave_all(receipts)
    return Processed(receipts, 0, run.told.retries)


@dataclass(slots=True)
class _Told:
    """What tasks have told of themselves so far."""

    reads: dict[int, PartReceipt] = field(default_factory=dict)
    retries: int = 0

    def take(self, event: tuple[float, dict[str, int]]) -> None:
        """Add what one event says; a part that is read twice has its rows once."""
        said = event[1]
        self.retries += said.get("retries", 0)
        if "part" not in said:
            return
        before = self.reads.get(said["part"])
        earlier = before.bytes_read if before else 0
        self.reads[said["part"]] = PartReceipt(
            index=said["part"],
            files=(),
            rows_in=said["rows"],
            rows_out=0,
            bytes_read=earlier + said["bytes"],
            bytes_written=0,
            seconds={},
            worker="",
        )

    def notice(self, event: tuple[float, object]) -> None:
        """Count a worker that was lost with something of use on it."""
        match event[1]:
            case {"action": "remove-worker", "processing-tasks": busy, "lost-computed-tasks": had}:
                self.retries += bool(busy or had)


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
        self._client.subscribe_topic(_OF_CLUSTER, self.told.notice)
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
                self._client.unsubscribe_topic(_OF_CLUSTER)
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
        bare = replace(source, files=())
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
        self._on_progress(_progress(self._receipts(), parts, self.told.retries))


@dataclass(frozen=True, slots=True)
class WriteSpec:
    """What all parts of a result have in common.

    Attributes:
        index: Names of the index, as the graph promised them.
        result: Columns as the job promised them.
        schema: Columns as the dataset keeps them.
    """

    run_key: str
    target: str
    job: str
    index: tuple[Hashable, ...]
    result: pl.Schema
    schema: pl.Schema
    partition_by: tuple[str, ...]
    topic: str
    device: Device


def write_partition(partition: pd.DataFrame, index: int, spec: WriteSpec) -> PartReceipt:
    """Write one partition of the result.

    Raises:
        SchemaMismatch: It has other columns than were promised, or values of another type.
    """
    for tries in range(1, MAX_TRIES + 1):
        try:
            return _write(partition, index, spec)
        except HeadwaterError as exc:
            if exc.retry == "never" or tries == MAX_TRIES:
                raise
            tell(spec.topic, retries=1)
    raise AssertionError("unreachable: the last try returns or raises")


def _write(partition: pd.DataFrame, index: int, spec: WriteSpec) -> PartReceipt:
    phases = Phases()
    where = f"part {index}"
    with TemporaryDirectory(prefix="headwater-part-", ignore_cleanup_errors=True) as tmp:
        try:
            with phases("transform"):
                if not _is_frame(partition):
                    raise SchemaMismatch(
                        f"job {spec.job} promised a DataFrame, and {where} is a"
                        f" {type(partition).__name__}",
                        hint="let the function given to map_partitions return a DataFrame",
                    )
                if index_names(partition) != spec.index:
                    raise SchemaMismatch(
                        f"job {spec.job} promised an index named {spec.index}, and that of"
                        f" {where} is named {index_names(partition)}",
                        hint="end the job with .reset_index()",
                    )
                frame = conformed(
                    with_index(partition, spec.index), spec.result, spec.job, where
                ).lazy()
                writer = PartWriter(Uri.parse(spec.target), spec.run_key, index, Path(tmp))
                writer.sink(conform(frame, spec.result, spec.schema), spec.partition_by)
            with phases("upload"):
                files = writer.publish()
        except HeadwaterError:
            raise
        except OSError as exc:
            raise disk_failed(exc, index, Path(tmp).parent) from exc
        except KeyboardInterrupt as exc:
            raise interrupted(where) from exc
        except (Exception, pl.exceptions.PanicException) as exc:
            raise (finer_than_kept(exc) or _explained(spec.job, exc)) from exc
    return PartReceipt(
        index=index,
        files=files,
        rows_in=0,
        rows_out=sum(f.rows for f in files),
        bytes_read=0,
        bytes_written=sum(f.size_bytes for f in files),
        seconds=phases.seconds,
        worker=worker_address(),
        device=spec.device,
    )


def _is_frame(partition: object) -> bool:
    return hasattr(partition, "columns") and hasattr(partition, "dtypes")


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
    )


def _progress(receipts: tuple[PartReceipt, ...], parts: int, retries: int) -> Progress:
    return Progress(
        parts,
        len(receipts),
        sum(r.rows_in for r in receipts),
        sum(r.rows_out for r in receipts),
        retries,
    )


def _explained(job: str, exc: BaseException) -> HeadwaterError:
    """What stopped the graph, without the words that Dask's shuffle puts around it."""
    if isinstance(exc, KilledWorker):
        return WorkerLost(
            f"job {job}: workers died {exc.allowed_failures + 1} times, probably for lack of"
            " memory",
            hint="give workers more memory or fewer threads in the cluster profile",
        )
    inner = exc
    while str(inner).startswith("P2P ") and inner.__cause__ is not None:
        inner = inner.__cause__
    if isinstance(inner, HeadwaterError):
        return inner
    return PartFailed(
        f"job {job} failed: {type(inner).__name__}: {first_line(inner)}",
        hint="mend the job or its input, then run the same command again",
    )
