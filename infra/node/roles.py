"""The Dask processes of a node: a scheduler, or one worker for each GPU."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headwater.infra.node.orders import Orders, WorkerSettings
from headwater.infra.units import GIB

if TYPE_CHECKING:
    from distributed import Nanny, Scheduler

SCHEDULER_PORT = 8786
DASHBOARD_PORT = 8787

CLOSE_SECONDS = 10.0
"""Enough for processes that answer; the machine is ended after it either way."""


class Role(Protocol):
    """What runs on the node."""

    async def finished(self) -> None:
        """Return when it has ended by itself: idle, closed by its cluster, or without one."""
        ...

    async def drain(self, seconds: float) -> None:
        """Take no more work and hand over results, for at most ``seconds``."""
        ...


@dataclass
class SchedulerRole:
    """A running scheduler."""

    scheduler: Scheduler

    async def finished(self) -> None:
        """See ``Role.finished``."""
        await self.scheduler.finished()

    async def drain(self, seconds: float) -> None:
        """See ``Role.drain``: without its scheduler a cluster has nobody to hand over to."""


@dataclass
class WorkerRole:
    """The running workers of one node.

    Attributes:
        nannies: Each watches one worker process.
    """

    nannies: Sequence[Nanny]
    scheduler: str
    tls: Any

    async def finished(self) -> None:
        """See ``Role.finished``."""
        await asyncio.gather(*(nanny.finished() for nanny in self.nannies))

    async def drain(self, seconds: float) -> None:
        """See ``Role.drain``; the scheduler moves what they hold to other workers."""
        from distributed import rpc

        addresses = [n.worker_address for n in self.nannies if n.worker_address]
        async with asyncio.timeout(max(0.0, seconds)):
            async with rpc(self.scheduler, connection_args=self.tls) as scheduler:
                await scheduler.retire_workers(workers=addresses, close_workers=True, remove=True)


@asynccontextmanager
async def scheduler_role(orders: Orders, host: str) -> AsyncIterator[SchedulerRole]:
    """A scheduler that takes TLS connections at ``host`` for as long as the body runs."""
    from distributed import Scheduler

    scheduler = await Scheduler(
        host=host,
        port=SCHEDULER_PORT,
        protocol="tls",
        security=orders.tls.security(),
        idle_timeout=orders.idle_seconds,
        dashboard_address=f"{host}:{DASHBOARD_PORT}",
    )
    try:
        yield SchedulerRole(scheduler)
    finally:
        await _closed(scheduler.close())


@asynccontextmanager
async def worker_role(
    orders: Orders, host: str, name: str, scheduler: str
) -> AsyncIterator[WorkerRole]:
    """The workers of this node for as long as the body runs; ``name`` is the node's.

    A node with one worker gives it its own name, others add ``-0``, ``-1`` and so on.
    """
    security = orders.tls.security()
    settings = orders.worker
    common: dict[str, Any] = {
        "security": security,
        "death_timeout": orders.lost_seconds,
        "local_directory": settings.local_directory or None,
        "host": host,
        "memory_limit": int(settings.memory_gib * GIB) or "auto",
    }
    nannies = _cuda(settings, scheduler, name, common) if settings.gpus else None
    if nannies is None:
        from distributed import Nanny

        nannies = [
            Nanny(
                scheduler,
                name=name,
                nthreads=settings.threads,
                protocol="tls",
                dashboard=False,
                **common,
            )
        ]
    try:
        await asyncio.gather(*nannies)
        yield WorkerRole(nannies, scheduler, security.get_connection_args("worker"))
    finally:
        await _closed(asyncio.gather(*(nanny.close() for nanny in nannies)))


def _cuda(
    settings: WorkerSettings, scheduler: str, name: str, common: dict[str, Any]
) -> list[Nanny]:
    """One worker for each GPU, pinned to it."""
    from dask_cuda import CUDAWorker  # pyright: ignore[reportMissingImports] - an extra

    worker = CUDAWorker(
        scheduler=scheduler,
        name=name,
        nthreads=settings.threads,
        rmm_async=settings.rmm_async,
        rmm_pool_size=settings.rmm_pool_share or None,
        enable_cudf_spill=settings.cudf_spill,
        protocol="tls",
        resources="GPU=1",
        dashboard=False,
        **common,
    )
    nannies: list[Nanny] = worker.nannies
    return nannies


async def _closed(closing: Any) -> None:
    """Wait for an end that may never come, for a bounded time."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing
    except TimeoutError:
        return
