"""The `etl` flow: a few Prefect tasks, each driving a whole Dask graph.

A Prefect task for each part would cost tens of times what Dask needs for one, and the workers
would need Prefect's server; so the parts are Dask's and the steps are Prefect's.
"""

# No ``from __future__ import annotations`` here: Prefect resolves the types when a flow is run.

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from headwater.flows.etl_run import EtlRun
from headwater.flows.parameters import EtlParameters
from headwater.flows.receipts import as_markdown
from headwater.infra.errors import HeadwaterError
from headwater.infra.models import RunReceipt, Status
from headwater.infra.profiles import load_profile
from headwater.infra.storage.transfer.run import TransferProgress
from headwater.tasks.progress import Progress

LOG_SECONDS = 10.0
"""Between two lines about copies in a run's log."""

_RUN: ContextVar[EtlRun | None] = ContextVar("headwater_etl_run", default=None)


@contextmanager
def continuing(run: EtlRun) -> Iterator[None]:
    """In the block, `etl` goes on with ``run``, whose scan is done already, not with a new one."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


@flow(name="etl", persist_result=False)
def etl(parameters: EtlParameters) -> RunReceipt:
    """Read the sources, apply the job to each part, commit the result as one version.

    Args:
        parameters: What to read, what to do and where to write.
    """
    run = _RUN.get() or EtlRun(
        parameters.to_request(),
        load_profile(parameters.profile),
        then=parameters.to_follow_ups(),
        on_progress=_log_progress,
        on_copied=_LogCopied(),
    )
    try:
        scan(run)
        if not run.is_done:
            run.place()
            if run.request.gather and not run.is_there:
                gather(run)
            with run.cluster():
                for table in run.tables:
                    _make(table)
    except BaseException as exc:
        _leave(run, run.receipt(exc), on_page=isinstance(exc, Exception))
        raise
    receipt = run.receipt()
    _leave(run, receipt, on_page=True)
    return receipt


def _make(table: EtlRun) -> None:
    """One table of the run; one made from another is scanned when that is there."""
    if table.is_there:
        return
    if not table.is_scanned:
        scan(table)
    if not table.is_there:
        process(table)
        commit(table)


def _leave(run: EtlRun, receipt: RunReceipt, *, on_page: bool) -> None:
    """Keep the receipt and show it on the run's page.

    What the run did stands whether or not its receipt can be kept.
    """
    if receipt.status is not Status.REFUSED:
        try:
            run.keep(receipt)
        except (HeadwaterError, OSError) as exc:
            get_run_logger().warning("the receipt could not be kept: %s", exc)
    if on_page:
        create_markdown_artifact(
            markdown=as_markdown(receipt),
            key="receipt",
            description=f"Receipt of {receipt.target}",
        )


@task(persist_result=False, cache_policy=NO_CACHE)
def scan(run: EtlRun) -> None:
    """Pin the inputs, resolve schemas, refuse what cannot work."""
    prepared = run.scan()
    get_run_logger().info(
        "%d files, %s rows, run key %s",
        len(prepared.source.files),
        "uncounted" if prepared.source.rows is None else prepared.source.rows,
        prepared.run_key,
    )
    for note in prepared.drift:
        get_run_logger().info("drift: %s", note)


@task(persist_result=False, cache_policy=NO_CACHE)
def gather(run: EtlRun) -> None:
    """Copy the inputs that lie elsewhere, where that was asked for."""
    run.gather()
    for one in run.receipt().gathered:
        get_run_logger().info(
            "%d of %d objects of %s copied to %s", one.copied, one.objects, one.source, one.target
        )


@task(persist_result=False, cache_policy=NO_CACHE)
def process(run: EtlRun) -> None:
    """Read, transform and write every part on the cluster."""
    processed = run.process()
    get_run_logger().info(
        "%d parts done, %d taken up from an earlier attempt, %d retries",
        len(processed.receipts),
        processed.resumed,
        processed.retries,
    )


@task(persist_result=False, cache_policy=NO_CACHE)
def commit(run: EtlRun) -> None:
    """Make the finished parts one version."""
    dataset = run.commit()
    named = "plain Parquet in" if dataset.version is None else f"version {dataset.version} of"
    get_run_logger().info("%s %s", named, dataset.uri)


class _LogCopied:
    """Tells the run's log now and then how far its copies are."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, progress: TransferProgress) -> None:
        if time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            get_run_logger().info(
                "%d of %d objects gathered", progress.objects_done, progress.objects
            )


def _log_progress(progress: Progress) -> None:
    get_run_logger().info("%d of %d parts done", progress.parts_done, progress.parts)
