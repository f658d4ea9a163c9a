"""One `etl` run as steps, without Prefect: scan, process, commit, and the receipt of it all.

The flow in ``flows.etl`` wraps each step in a Prefect task; the command line takes the first one
before Prefect's server has answered.
"""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from headwater.flows.consent import Ask
from headwater.flows.gathering import READ_WHOLE, Gatherer
from headwater.flows.place_run import Reads, place_run
from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import HeadwaterError, InvalidRequest
from headwater.infra.gpu import GpuProbe, probe
from headwater.infra.launchers.local import local_plan
from headwater.infra.models import (
    DatasetVersion,
    Device,
    Format,
    JobRequest,
    LaunchTry,
    Placement,
    Plan,
    RunReceipt,
    Status,
)
from headwater.infra.profiles import ClusterProfile
from headwater.infra.storage.datasets import Commit, Dataset
from headwater.infra.storage.gather import GatherPlan
from headwater.infra.storage.plain import PlainFolder
from headwater.infra.storage.receipts import ReceiptStore
from headwater.infra.storage.retries import counting
from headwater.infra.storage.transfer.run import OnProgress
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import Prepared, check_follow_up, prepare
from headwater.tasks.process import process
from headwater.tasks.progress import Processed, Progress
from headwater.tasks.scan import require_holdable, require_small

if TYPE_CHECKING:
    from headwater.infra.models import InputSummary

FLOW = "etl"


class EtlRun:
    """The state of one run; each step needs the one before.

    Args:
        request: What to do.
        profile: Where to do it.
        then: Tables to make from the version that this one commits, in the same run and on the
            same cluster. Their sources are set here.
        folder: Where the job's module is looked for first; the working folder by default.
        gpu_probe: Tells what GPUs there are.
        on_progress: Called in the calling thread at the start and after each part.
        on_copied: Called in the calling thread as inputs are gathered.
    """

    def __init__(
        self,
        request: JobRequest,
        profile: ClusterProfile,
        *,
        then: Sequence[JobRequest] = (),
        folder: Path | None = None,
        gpu_probe: GpuProbe = probe,
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_copied: OnProgress = lambda _: None,
    ) -> None:
        self.run_id = uuid.uuid4().hex
        self.request = request
        self.profile = profile
        self._folder = folder or Path.cwd()
        self._gpu_probe = gpu_probe
        self._on_progress = on_progress
        self._started = datetime.now(UTC)
        self._finished: datetime | None = None
        self._seconds: dict[str, float] = {}
        self._prepared: Prepared | None = None
        self._plan = Plan(candidates=())
        self._tries: tuple[LaunchTry, ...] = ()
        self._processed: Processed | None = None
        self._committed: Commit | None = None
        self._progress: Progress | None = None
        self._cluster: Cluster | None = None
        self._store_retries = 0
        self._placement: Placement | None = None
        self._gatherer = Gatherer(self._folder, on_copied)
        self.then = tuple(self._follow_up(following) for following in then)

    def _follow_up(self, request: JobRequest) -> EtlRun:
        run = EtlRun(
            request,
            self.profile,
            folder=self._folder,
            gpu_probe=self._gpu_probe,
            on_progress=self._on_progress,
        )
        run.run_id = self.run_id
        run._gatherer = self._gatherer
        return run

    @property
    def tables(self) -> tuple[EtlRun, ...]:
        """This one and those that are made from it, in the order they are made."""
        return (self, *self.then)

    @property
    def prepared(self) -> Prepared:
        """The request with everything resolved; ``scan`` has to come first."""
        if self._prepared is None:
            raise RuntimeError("scan() has not been called")
        return self._prepared

    @property
    def is_scanned(self) -> bool:
        """Whether ``scan`` has been called."""
        return self._prepared is not None

    @property
    def is_there(self) -> bool:
        """Whether the version that this table would get is there already."""
        return self._prepared is not None and self._prepared.committed is not None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do, for this table and those made from it."""
        return all(table.is_there for table in self.tables)

    def plan_gather(self) -> GatherPlan | None:
        """What is copied to one place before it is read; ``None`` where the request says of none.

        Raises:
            HeadwaterError: The request is refused; nothing was written.
        """
        if self.request.gather is None:
            return None
        if self._gatherer.plan is None:
            self._started = datetime.now(UTC)
            with self.phase("scan"):
                self._gatherer.look([table.request for table in self.tables])
        return self._gatherer.plan

    def gather(self, formats: frozenset[Format] = frozenset(Format)) -> None:
        """Copy the inputs that lie elsewhere, those of ``formats``, and read the copies from here.

        What an earlier attempt has copied and checked is not copied again.

        Raises:
            HeadwaterError: A rule or a limit forbids it, or a copy failed; copies that were checked
                are kept.
        """
        if self.plan_gather() is None:
            return
        self.place()
        with self.phase("gather"):
            self._gatherer.run(formats)
        if self._prepared is not None:
            self._prepared = self._prepared.reading(self._gatherer.copies)

    def scan(self) -> Prepared:
        """Pin the inputs and check the request; a second call gives the first one's answer.

        Tables that are made from this one are checked against the columns that it will have. Text
        is read whole by a scan, so where inputs are gathered it is copied before; all else only
        once it is known that the run has something to do.

        Raises:
            HeadwaterError: The request is refused; nothing was written but copies.
        """
        if self._prepared is None:
            self._started = datetime.now(UTC)
            self._require_version_for_followers()
            if self.plan_gather() is not None:
                self.gather(READ_WHOLE)
            with self.phase("scan"):
                self._plan = local_plan(self.profile, self._gpu_probe)
                prepared = prepare(self.request, folder=self._folder, copies=self._gatherer.copies)
                memory_gib = min(c.memory_gib_per_worker for c in self._plan.candidates)
                if prepared.job.frames == "polars":  # Dask's are spread over the workers
                    for name, side in prepared.sides:
                        require_small(name, side, memory_gib=memory_gib)
                    if not prepared.job.can_spread:
                        require_holdable(prepared.job.name, prepared.source, memory_gib=memory_gib)
                for table in self.then:
                    check_follow_up(
                        table.reading(prepared.target),
                        prepared,
                        folder=self._folder,
                        copies=self._gatherer.copies,
                    )
                self._prepared = prepared
            if self.is_there:
                self._point_followers()
                for table in self.then:
                    table.scan()
        return self._prepared

    def place(self, ask: Ask = lambda _: False) -> Placement:
        """Plan where the run is and what that costs; a second call gives the first one's answer.

        Args:
            ask: Called where a limit of the cluster profile would be passed.
        Raises:
            HeadwaterError: A rule or a limit forbids it; nothing was written.
        """
        if self._placement is None:
            self._placement = place_run(self._reads(), self.profile, ask)
        return self._placement

    def _reads(self) -> Reads:
        follow_ups = tuple(table.request for table in self.then)
        if (plan := self.plan_gather()) is not None:
            return Reads.gathering(plan, self.request, follow_ups)
        return Reads.of(self.prepared, follow_ups)

    def _require_version_for_followers(self) -> None:
        if self.then and self.request.format is Format.PARQUET:
            names = ", ".join(table.request.target for table in self.then)
            raise InvalidRequest(
                f"--then makes {names} from the version that the run commits, and plain Parquet"
                " has none",
                hint="leave --format parquet out, or make them in runs of their own from"
                f" --source {self.request.target}",
            )

    def reading(self, table: Uri, version: int | None = None) -> JobRequest:
        """The request with ``table`` as its source."""
        return replace(self.request, sources=(str(table),), source_version=version)

    def _point_followers(self) -> None:
        dataset = self._dataset()
        if dataset is not None:
            for table in self.then:
                table.request = table.reading(self.prepared.target, dataset.version)

    @contextmanager
    def cluster(self) -> Iterator[None]:
        """In the block there is one cluster, for all tables."""
        begun = time.perf_counter()
        with clusters.open(self._plan) as cluster:
            self._seconds["cluster"] = time.perf_counter() - begun
            for table in self.tables:
                table._cluster, table._tries = cluster, cluster.tries
            try:
                yield
            finally:
                for table in self.tables:
                    table._cluster = None

    def process(self) -> Processed:
        """Do every part, on the cluster that is open, else on one for this table alone."""
        prepared = self.scan()
        if self._cluster is None:
            with self.cluster():
                return self.process()
        with self.phase("process"):
            prepared.keep_aside()
            self._processed = process(
                self._cluster.client,
                prepared,
                self._cluster.candidate,
                on_progress=self._tell,
                gpu_fallback=self.profile.cluster.gpu_fallback,
            )
        return self._processed

    def commit(self) -> DatasetVersion:
        """Make the finished parts one new version."""
        prepared = self.prepared
        if self._processed is None:
            raise RuntimeError("process() has not been called")
        receipts = self._processed.receipts
        files = [file for receipt in receipts for file in receipt.files]
        if prepared.request.format is Format.PARQUET:
            with self.phase("commit"):
                self._committed = PlainFolder(prepared.target).finish(
                    files, run_key=prepared.run_key, run=self.run_id
                )
            self._finished = datetime.now(UTC)
            return self._committed.dataset
        with self.phase("commit"):
            self._committed = Dataset(prepared.target).commit(
                files,
                schema=prepared.schema,
                partition_by=prepared.request.partition_by,
                mode=prepared.request.mode,
                app_id=prepared.run_key,
                revision=prepared.revision,
                drift=prepared.request.read.drift,
                metadata={
                    "run": self.run_id,
                    "flow": FLOW,
                    "job": prepared.job.name,
                    "rows": sum(receipt.rows_out for receipt in receipts),
                    "headwater": installed_version("headwater"),
                    **({"approximate": bounds} if (bounds := prepared.job.approximations) else {}),
                },
            )
        self._finished = datetime.now(UTC)
        self._point_followers()
        return self._committed.dataset

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block in the receipt: its time under ``name``, and its store calls."""
        begun = time.perf_counter()
        with counting() as retries:
            try:
                yield
            finally:
                spent = time.perf_counter() - begun
                self._seconds[name] = self._seconds.get(name, 0.0) + spent
                self._store_retries += retries.count

    def receipt(self, error: BaseException | None = None) -> RunReceipt:
        """What the run leaves behind, as it stands now.

        Args:
            error: What stopped it; ``None`` where nothing did.
        """
        prepared, processed, now = self._prepared, self._processed, datetime.now(UTC)
        receipts = processed.receipts if processed else ()
        inputs: list[InputSummary] = []
        if prepared:
            inputs = [prepared.source.summary(), *(side.summary(n) for n, side in prepared.sides)]
        counted = self._progress
        return RunReceipt(
            run_id=self.run_id,
            run_key=prepared.run_key if prepared else "",
            flow=FLOW,
            status=self._status(error),
            started=self._started,
            finished=max(filter(None, (table._finished for table in self.tables)), default=now)
            if error is None
            else now,
            inputs=tuple(inputs),
            target=str(prepared.target) if prepared else self.request.target,
            mode=self.request.mode,
            partition_by=(prepared.request if prepared else self.request).partition_by,
            job=prepared.job.name if prepared else self.request.job_name,
            dataset=self._dataset(),
            rows_in=counted.rows_in if counted else 0,
            rows_out=counted.rows_out if counted else 0,
            bytes_read=sum(r.bytes_read for r in receipts),
            bytes_written=sum(r.bytes_written for r in receipts),
            parts=counted.parts if counted else 0,
            resumed_parts=processed.resumed if processed else 0,
            retries=counted.retries if counted else 0,
            seconds=dict(self._seconds),
            engine=self._engine(),
            device=self._device(),
            gpu_fallbacks=sum(r.gpu_fallbacks for r in receipts),
            store_retries=self._store_retries + (counted.store_retries if counted else 0),
            window=self.request.window,
            plan=self._plan if self._plan.candidates else None,
            tries=self._tries,
            error=_message(error),
            hint=error.hint if isinstance(error, HeadwaterError) else "",
            versions={
                "headwater": installed_version("headwater"),
                "dask": installed_version("dask"),
                "polars": pl.__version__,
                "deltalake": installed_version("deltalake"),
                "python": platform.python_version(),
            },
            approximate=prepared.job.approximations if prepared else {},
            format=self.request.format,
            drift=prepared.drift if prepared else (),
            bad_rows=len(prepared.source.bad) if prepared else 0,
            aside=str(prepared.aside) if prepared and prepared.aside else "",
            placement=self._placement,
            gathered=self._gatherer.gathered if self.request.gather else (),
            then=tuple(
                table.receipt(None if table._dataset() else error)
                for table in self.then
                if table._prepared is not None
            ),
        )

    def keep(self, receipt: RunReceipt) -> None:
        """Put the receipt into the store of receipts."""
        ReceiptStore().add(receipt)

    def _dataset(self) -> DatasetVersion | None:
        if self._committed is not None:
            return self._committed.dataset
        return self._prepared.committed if self._prepared else None

    def _status(self, error: BaseException | None) -> Status:
        if isinstance(error, Exception):
            return Status.FAILED if self._prepared or self._gatherer.has_moved else Status.REFUSED
        if error is not None:
            return Status.INTERRUPTED
        if self._was_there:
            return Status.ALREADY_COMMITTED
        return Status.COMMITTED

    @property
    def _was_there(self) -> bool:
        return self.is_there or (self._committed is not None and self._committed.already)

    def _engine(self) -> str:
        if self._prepared is None or self._prepared.job.frames == "polars":
            return f"polars {pl.__version__}"
        backend = "cudf" if self._device() == Device.CUDA else "pandas"
        return f"dask.dataframe {installed_version('dask')} ({backend})"

    def _device(self) -> str:
        if not self._tries:
            return Device.CPU.value
        opened = len(self._tries) - 1
        return self._plan.candidates[opened].device.value

    def _tell(self, progress: Progress) -> None:
        self._progress = progress
        self._on_progress(progress)


def _message(error: BaseException | None) -> str:
    match error:
        case None:
            return ""
        case HeadwaterError():
            return error.message
        case _:
            return f"{type(error).__name__}: {error}".rstrip(": ")
