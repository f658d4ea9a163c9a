"""Dask on this machine: in process, on worker processes, or one CUDA worker for each GPU."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, cast

from headwater.infra.errors import InvalidRequest, MemoryExhausted, MissingDependency
from headwater.infra.gpu import GpuProbe
from headwater.infra.models import Candidate, Device, Plan, Rejection
from headwater.infra.profiles import ClusterProfile
from headwater.infra.units import GIB

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from tornado.ioloop import IOLoop

MEMORY_SHARE = 0.6
"""Part of this machine's memory that workers may plan with; the rest is for the driver, Polars'
buffers and everybody else on the machine."""

PROCESS_SHARE = 0.9
"""Part of this machine's memory that the driver may have with the parts it runs in process."""

MAX_THREADS = 4
"""Parts under way in one process. Polars uses all cores for each; more than a few only hide the
waiting for an object store, and each costs memory."""

START_TIMEOUT = "60s"
DASHBOARD_ADDRESS = "127.0.0.1:0"
"""Dask listens on all interfaces where none is named, also without a dashboard."""

LOST_WORKER_TIMEOUT = "120s"
"""A CUDA worker that restarts slowly is otherwise dropped for good."""


def local_plan(profile: ClusterProfile, gpu_probe: GpuProbe) -> Plan:
    """Where on this machine the profile's work runs.

    Raises:
        InvalidRequest: The profile is for another launcher.
        MissingDependency: The profile requires a GPU and none passed the probe.
    """
    settings = profile.cluster
    if settings.launcher != "local":
        raise InvalidRequest(
            f"cluster profile '{profile.name}' is for the launcher '{settings.launcher}', which"
            " cannot start machines yet",
            hint="take the profile 'local', which runs on this machine",
        )
    rejected: list[Rejection] = []
    if settings.gpu != "never":
        report = gpu_probe()
        if report.usable:
            smallest = min(report.memory_bytes) / GIB
            gpu = Candidate("local", Device.CUDA, True, len(report.names), 1, smallest)
            return Plan((gpu,))
        if settings.gpu == "require":
            raise MissingDependency(
                f"cluster profile '{profile.name}' requires a GPU: {report.reason}",
                hint='set gpu = "auto" to fall back to the CPU, or run `headwater doctor`',
            )
        rejected.append(Rejection("local cuda", report.reason))
    cores = os.cpu_count() or 1
    workers = settings.workers or (max(1, cores // 2) if settings.processes else 1)
    threads = settings.threads_per_worker or min(MAX_THREADS, max(1, cores // workers))
    memory = settings.memory_gib_per_worker or _memory_gib() * MEMORY_SHARE / workers
    cpu = Candidate("local", Device.CPU, settings.processes, workers, threads, memory)
    if not settings.processes:
        bound = settings.process_memory_gib or _memory_gib() * PROCESS_SHARE
        cpu = replace(cpu, process_memory_gib=bound)
    return Plan((cpu,), tuple(rejected))


@contextmanager
def open_local(candidate: Candidate) -> Iterator[Client]:
    """A client of a cluster on this machine; its workers end with the block."""
    from dask import config as dask_config
    from distributed import Client, LocalCluster
    from distributed.comm.inproc import global_manager

    config = {
        "distributed.deploy.lost-worker-timeout": LOST_WORKER_TIMEOUT,
        "distributed.scheduler.allowed-failures": 2,
        "distributed.admin.log-format": "%(message)s",
        "distributed.worker.daemon": True,
    }
    if not candidate.processes:
        # The limit would be the whole process's, which holds the user's own objects too.
        config["distributed.worker.memory.terminate"] = False
        # Dask asks which address leads to 8.8.8.8, and warns on a machine without a network.
        global_manager._ip = "127.0.0.1"
    with dask_config.set(config), _loop(candidate.processes) as loop:
        if candidate.device is Device.CUDA:
            from dask_cuda import LocalCUDACluster  # pyright: ignore[reportMissingImports] - an extra

            cluster = LocalCUDACluster(
                n_workers=candidate.workers,
                dashboard_address=DASHBOARD_ADDRESS,
                worker_dashboard_address=DASHBOARD_ADDRESS,
                host="127.0.0.1",
                rmm_async=True,
                loop=loop,
            )
        else:
            cluster = LocalCluster(
                n_workers=0,  # they are started below, where an interrupt finds what to close
                threads_per_worker=candidate.threads_per_worker,
                processes=candidate.processes,
                memory_limit=int(candidate.memory_gib_per_worker * GIB)
                if candidate.processes
                else 0,
                dashboard_address=DASHBOARD_ADDRESS,
                worker_dashboard_address=DASHBOARD_ADDRESS,
                host="127.0.0.1" if candidate.processes else None,
                loop=loop,
            )
        with cluster:
            if candidate.device is not Device.CUDA:
                cluster.scale(candidate.workers)
                # Not `cluster.sync`: interrupted, it cancels the start, and what is left of one
                # cannot be closed.
                inner = cast("asyncio.AbstractEventLoop", cluster.sync(_running_loop))
                starting = asyncio.run_coroutine_threadsafe(_started(cluster), inner)
                try:
                    starting.result()
                finally:
                    starting.exception()
            with Client(cluster, timeout=START_TIMEOUT, set_as_default=False) as client:
                try:
                    yield client
                except BaseException as exc:
                    # Nothing stops a thread in native code, so it is not waited for.
                    is_stuck = isinstance(exc, MemoryExhausted) or not isinstance(exc, Exception)
                    if not candidate.processes and is_stuck:
                        cluster.sync(_abandon, cluster)
                    raise


@contextmanager
def _loop(processes: bool) -> Iterator[IOLoop]:
    """Dask's event loop, in a thread that takes no SIGINT; nor do the workers started from it.

    A terminal sends Ctrl-C to workers too. They would end with a trace each, and before the
    driver has decided what becomes of their parts.
    """
    from distributed.utils import LoopRunner

    if processes:
        # Its start, with the first process, would unblock SIGINT in the thread that starts that.
        resource_tracker.ensure_running()
    runner = LoopRunner()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield cast("IOLoop", runner.loop)
    finally:
        runner.stop()


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _started(cluster: LocalCluster) -> None:
    await cluster


async def _abandon(cluster: LocalCluster) -> None:
    """Close workers that are threads here without the wait for the parts they have under way.

    Their threads stay until the process ends; what they write no receipt names.
    """
    await asyncio.gather(
        *(worker.close(executor_wait=False) for worker in cluster.workers.values())
    )


def _memory_gib() -> float:
    """Memory that this process may use: the machine's, or what its control group allows."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(limit).read_text("ascii")) / GIB)
    return total
