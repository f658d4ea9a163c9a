"""A Dask cluster on machines of a cloud, which keeps its nodes' number and leaves none behind."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from distributed import Security
from distributed.core import Status
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.spec import SpecCluster
from distributed.utils import NoOpAwaitable

from headwater.infra.clusters.blueprint import Blueprint, Place
from headwater.infra.clusters.machines import (
    ALIVE,
    BOOT_SECONDS,
    Machine,
    SchedulerMachine,
    WorkerMachine,
)
from headwater.infra.clusters.walk import Walk
from headwater.infra.errors import HeadwaterError, LaunchError, RunError
from headwater.infra.launchers.base import Launcher, Node, NodeSpec, Role
from headwater.infra.launchers.intents import Intents
from headwater.infra.launchers.removal import launch, sweep
from headwater.infra.launchers.tags import CLUSTER, node_tags
from headwater.infra.models import LaunchTry
from headwater.infra.node.checks import installed
from headwater.infra.node.orders import Orders, Tls, write_orders
from headwater.infra.node.user_data import user_data
from headwater.infra.storage.filesystems import open_filesystem

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

log = logging.getLogger(__name__)

WATCH_SECONDS = 2.0
"""How often the nodes are looked after."""

RESTART_SECONDS = 120.0
"""How long a node that still runs may be without its workers: a process on a GPU that died takes
this long to come back at worst."""

RENEW_SHARE = 0.5
"""Of the lease; it is renewed when less than this is left."""

MOST_FAILURES = 3
"""Nodes that may fail one after the other before none is made any more."""

ADAPT_SECONDS = 15.0
"""How often an adaptive cluster decides: a machine takes minutes to come, and is billed by then."""

ADAPT_WAIT = 8
"""Decisions in a row before a node goes: two minutes, in which the next parts may come."""


class GPUCluster(SpecCluster):
    """Nodes of one cloud; ``scale`` counts workers, of which a node with several GPUs has several.

    A node that is lost is replaced under a new name. When it closes, all that carries its tag is
    removed, whatever its objects remember.

    Args:
        launcher: The account that the nodes are made in; it stays open.
        blueprint: What is made.
        nodes: How many with workers.
        intents: Folder of the log of what was about to be made; ``None`` is the user's.
    """

    def __init__(
        self,
        launcher: Launcher,
        blueprint: Blueprint,
        *,
        nodes: int,
        intents: Path | None = None,
        asynchronous: bool = False,
    ) -> None:
        self.launcher, self.blueprint = launcher, blueprint
        self.failures: list[str] = []
        self.lost = 0
        self._walk = Walk()
        self._intents = Intents(blueprint.cluster, intents)
        self._count = 0
        self._failed_in_a_row = 0
        self._watching: asyncio.Task[None] | None = None
        made = Security.temporary()
        self._tls = Tls(made.tls_ca_file, made.tls_worker_cert, made.tls_worker_key)
        self._lease_until = datetime.now(UTC) + blueprint.lease
        worker: dict[str, Any] = {"cls": WorkerMachine, "options": {"cluster": self}}
        if blueprint.workers_per_node > 1:
            worker["group"] = [f"-{i}" for i in range(blueprint.workers_per_node)]
        super().__init__(
            workers={self._next_name(): worker for _ in range(nodes)},
            worker=worker,
            scheduler={"cls": SchedulerMachine, "options": {"cluster": self}},
            security=self._tls.security(),
            name=blueprint.cluster,
            asynchronous=asynchronous,
        )

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def tries(self) -> tuple[LaunchTry, ...]:
        """Every try to have a machine, in the order in which they ended."""
        return tuple(self._walk.tries)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The machines that it holds, the scheduler's first."""
        machines = [self.scheduler, *self.workers.values()]
        return tuple(
            machine.node
            for machine in machines
            if isinstance(machine, Machine) and machine.node is not None
        )

    def wait_until_ready(self, workers: int, timeout_seconds: float) -> None:
        """Return when ``workers`` are there.

        Raises:
            RunError: They are not within the time, or none is to come; the message tells what
                became of the nodes.
        """
        end = time.monotonic() + timeout_seconds
        while len(self.scheduler_info["workers"]) < workers:
            if not self.worker_spec and not self.scheduler_info["workers"]:
                raise RunError(
                    f"no node came up: {self._told()}",
                    hint="see the cluster profile's [image], [network] and [identity]",
                )
            if time.monotonic() > end:
                raise RunError(
                    f"{len(self.scheduler_info['workers'])} of {workers} workers came within"
                    f" {timeout_seconds:.0f} s: {self._told()}",
                    hint="allow more places in the cluster profile, or fewer nodes",
                )
            time.sleep(0.1)

    def scale(self, n: int = 0, memory: Any = None, cores: Any = None) -> Any:  # noqa: ARG002
        """Have ``n`` workers, or the next more that whole nodes give.

        Dask's ``memory`` and ``cores`` are not counted in: a node has what its type has.
        """
        nodes = math.ceil(n / self.blueprint.workers_per_node)
        serving = self._serving()
        # Those that are not there yet go first, then the newest.
        for name in sorted(self.worker_spec, key=lambda name: (name in serving, -_number(name))):
            if len(self.worker_spec) > nodes:
                del self.worker_spec[name]
        if self.status not in (Status.closing, Status.closed):
            while len(self.worker_spec) < nodes:
                self.worker_spec |= self.new_worker_spec()
        cast("IOLoop", self.loop).add_callback(self._correct_state)
        return NoOpAwaitable() if self.asynchronous else None

    scale_up = scale

    def new_worker_spec(self) -> dict[str, Any]:
        """One more node; its name was never used."""
        return {self._next_name(): self.new_spec}

    def adapt(self, *args: Any, **given: Any) -> Adaptive:
        """Have as many workers as the work needs, whole nodes at a time; see Dask's ``adapt``."""
        slow = {"interval": f"{ADAPT_SECONDS}s", "wait_count": ADAPT_WAIT}
        whole = {"worker_key": lambda worker: _node_of(worker.name)}
        return super().adapt(*args, **{**slow, **whole, **given})

    def launch(self, name: str, role: Role, scheduler: str) -> Node:
        """A machine of that name, in the first of its places that has one.

        Args:
            scheduler: Its address; empty for the scheduler itself.
        Raises:
            LaunchError: No place has.
        """
        places = self.blueprint.workers if role == "worker" else self.blueprint.scheduler

        def launch_in(place: Place) -> Node:
            return launch(self.launcher, self._spec(name, role, scheduler, place), self._intents)

        return self._walk.launch(launch_in, places)

    def destroy(self, node: Node) -> None:
        """End ``node``; what is gone already is no error.

        Raises:
            LeftBehind: It is still there.
        """
        self.launcher.destroy([self.launcher.leftover(node)])

    def _spec(self, name: str, role: Role, scheduler: str, place: Place) -> NodeSpec:
        plan = self.blueprint
        return NodeSpec(
            name=name,
            role=role,
            cloud=plan.cloud,
            region=place.region,
            zone=place.zone,
            instance_type=place.instance_type,
            market=place.market,
            user_data=user_data(
                plan.folder,
                cloud=plan.cloud,
                name=name,
                image=plan.container,
                most_minutes=plan.most_minutes,
                scheduler=scheduler,
                gpus=plan.settings.gpus if role == "worker" else 0,
            ),
            tags=node_tags(
                run=plan.run,
                cluster=plan.cluster,
                owner=plan.owner,
                role=role,
                node=name,
                # Tags are not renewed with the lease, and a reaper takes what is past this.
                expires=datetime.now(UTC) + timedelta(minutes=plan.most_minutes),
                profile_tags=plan.tags,
            ),
            run_limit_seconds=plan.most_minutes * 60,
        )

    def _orders(self) -> Orders:
        plan = self.blueprint
        return Orders(
            plan.cluster,
            self._tls,
            self._lease_until,
            plan.idle_seconds,
            plan.lost_seconds,
            installed(),
            plan.settings,
        )

    async def _start(self) -> None:
        if self.status == Status.created:
            await asyncio.to_thread(write_orders, self.blueprint.folder, self._orders())
        await super()._start()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        try:
            await super()._close()
        finally:
            await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        """Remove all that is tagged as this cluster's, and what its nodes read and left.

        Raises:
            LeftBehind: Something is still there.
        """
        regions = {place.region for place in (*self.blueprint.scheduler, *self.blueprint.workers)}
        for region in sorted(regions):
            sweep(self.launcher, {CLUSTER: self.blueprint.cluster}, region=region)
        for intent in self._intents.open():
            self._intents.destroyed(intent.token)
        self._intents.close()
        fs = open_filesystem(self.blueprint.folder)
        for ref in list(fs.list(self.blueprint.folder)):
            fs.delete(self.blueprint.folder / ref.uri.rpartition("/")[2])

    async def _watch(self) -> None:
        """Renew the lease, and replace nodes that are lost, for as long as the cluster runs."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._renew()
                await self._replace_lost()
            except HeadwaterError as exc:
                log.warning("the nodes of %s: %s", self.name, exc.message)

    async def _renew(self) -> None:
        left = (self._lease_until - datetime.now(UTC)).total_seconds()
        if left < RENEW_SHARE * self.blueprint.lease.total_seconds():
            self._lease_until = datetime.now(UTC) + self.blueprint.lease
            await asyncio.to_thread(write_orders, self.blueprint.folder, self._orders())

    async def _replace_lost(self) -> None:
        serving, now = self._serving(), time.monotonic()
        missing: list[WorkerMachine] = []
        for name, machine in self.workers.items():
            if name in serving:
                machine.seen, machine.missing_since = True, None
                self._failed_in_a_row = 0
            else:
                machine.missing_since = machine.missing_since or now
                missing.append(machine)
        if not missing:
            return
        alive = await asyncio.to_thread(self._alive, {machine.name for machine in missing})
        for machine in missing:
            reason = await self._lost(machine, alive, now)
            if reason and machine.name in self.worker_spec:
                await self._replace(machine, reason)

    def _alive(self, names: Iterable[str]) -> set[str]:
        """Which of the nodes the cloud still runs; one call for all of a region."""
        wanted = set(names)
        regions = {node.region for node in self.nodes if node.name in wanted}
        return {
            node.name
            for region in sorted(regions)
            for node in self.launcher.list({CLUSTER: self.blueprint.cluster}, region=region).nodes
            if node.state in ALIVE
        }

    async def _lost(self, machine: WorkerMachine, alive: set[str], now: float) -> str:
        """Why the node will not come back; empty where it may."""
        if machine.failure is not None:
            return machine.failure.message
        if machine.name not in alive:
            return await asyncio.to_thread(machine.said) or "the cloud took it"
        said = await asyncio.to_thread(machine.said)
        if said:
            return said
        patience = RESTART_SECONDS if machine.seen else BOOT_SECONDS
        if now - (machine.missing_since or now) > patience:
            return f"no worker of it for {patience:.0f} s"
        return ""

    async def _replace(self, machine: WorkerMachine, reason: str) -> None:
        self.lost += 1
        self.failures.append(f"{machine.name}: {reason}")
        log.info("node %s is lost: %s", machine.name, reason)
        if not machine.seen:
            self._failed_in_a_row += 1
        del self.worker_spec[machine.name]
        self.workers.pop(machine.name, None)
        if self.status == Status.running and self._failed_in_a_row < MOST_FAILURES:
            self.worker_spec |= self.new_worker_spec()
        await machine.close()
        # Dask shares one task among all who ask: who stops waiting may not stop it.
        await asyncio.shield(self._correct_state())

    def _serving(self) -> set[str]:
        return {_node_of(worker["name"]) for worker in self.scheduler_info["workers"].values()}

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # Past SpecCluster's own: it drops a node for good after a fixed time.
        super(SpecCluster, self)._update_worker_status(op, msg)

    def _next_name(self) -> str:
        self._count += 1
        return f"{self.blueprint.cluster}-w{self._count}"

    def _told(self) -> str:
        failed = [f"{one.candidate}: {one.reason}" for one in self.tries if one.reason]
        return "; ".join([*self.failures, *failed][-5:]) or "the cloud has granted them"


def launch_failure(exc: RuntimeError) -> LaunchError | None:
    """Our error inside the one that Dask makes of a scheduler that did not start."""
    return exc.__cause__ if isinstance(exc.__cause__, LaunchError) else None


def _node_of(worker: object) -> str:
    """The node of a worker: ``c1-w2`` and ``c1-w2-0`` are on ``c1-w2``."""
    parts = str(worker).split("-")
    return str(worker) if parts[-1].startswith("w") else "-".join(parts[:-1])


def _number(name: str) -> int:
    return int(name.rpartition("w")[2])
