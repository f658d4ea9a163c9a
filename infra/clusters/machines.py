"""The nodes of a cluster as Dask's cluster classes handle them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Protocol

from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from headwater.infra.clusters.blueprint import Blueprint
from headwater.infra.errors import LaunchError, NotFound
from headwater.infra.launchers.base import Launcher, Node, Role, State
from headwater.infra.node.roles import SCHEDULER_PORT
from headwater.infra.storage.filesystems import open_filesystem

BOOT_SECONDS = 900.0
"""From the cloud's grant to a node that serves: a large container comes over the network first."""

LOOK_SECONDS = 1.0

CONNECT_SECONDS = 2.0

ALIVE = (State.PENDING, State.RUNNING)


class Holder(Protocol):
    """The cluster that a node is of."""

    blueprint: Blueprint
    launcher: Launcher

    def launch(self, name: str, role: Role, scheduler: str) -> Node:
        """A machine of that name."""
        ...

    def destroy(self, node: Node) -> None:
        """End ``node``."""
        ...


class Machine(ProcessInterface):
    """One node: made when it starts, destroyed when it closes.

    Attributes:
        node: What the cloud granted; ``None`` before, and where it never did.
        failure: Why there is none.
        granted: When, by ``time.monotonic``.
        seen: Whether its workers were ever in the cluster.
        missing_since: Since when none is, by ``time.monotonic``; ``None`` where one is.
    """

    role: Role

    def __init__(
        self, scheduler: str | None = None, *, cluster: Holder, name: str | None = None
    ) -> None:
        super().__init__(scheduler=scheduler, name=name)
        self.cluster = cluster
        self.name = name or f"{cluster.blueprint.cluster}-s"
        self.scheduler_address = scheduler or ""
        self.node: Node | None = None
        self.failure: LaunchError | None = None
        self.granted = 0.0
        self.seen = False
        self.missing_since: float | None = None

    async def close(self) -> None:
        """Destroy the node; one that is gone already is no error."""
        if self.status in (Status.closing, Status.closed):
            return
        self.status = Status.closing
        if self.node is not None:
            await asyncio.to_thread(self.cluster.destroy, self.node)
        await super().close()

    async def _launch(self) -> Node:
        node = await asyncio.to_thread(
            self.cluster.launch, self.name, self.role, self.scheduler_address
        )
        self.node, self.granted = node, time.monotonic()
        return node

    def said(self) -> str:
        """What the node last left in the store where that is no good news; empty otherwise."""
        uri = self.cluster.blueprint.folder / f"{self.name}.json"
        fs = open_filesystem(uri)
        try:
            state = json.loads(fs.read(fs.stat(uri)))
        except NotFound:
            return ""
        return "" if state["state"] == "serves" else str(state["said"])


class SchedulerMachine(Machine):
    """The scheduler's node; the cluster starts when it takes connections."""

    role: Role = "scheduler"

    async def start(self) -> None:
        """Make it, and wait until it takes connections.

        Raises:
            LaunchError: No place has one, or it did not come up.
        """
        node = await self._launch()
        end = time.monotonic() + BOOT_SECONDS
        while True:
            if node.private_address and await _takes_connections(node.private_address):
                break
            node = await asyncio.to_thread(self.cluster.launcher.describe, node)
            said = "" if node.state in ALIVE else f"it is {node.state}"
            said = await asyncio.to_thread(self.said) or said
            if not said and time.monotonic() > end:
                said = f"it did not answer within {BOOT_SECONDS:.0f} s"
            if said:
                raise LaunchError(
                    f"the scheduler {self.name} in {node.place} did not come up: {said}",
                    hint="see the cluster profile's [image] and [network]",
                )
            await asyncio.sleep(LOOK_SECONDS)
        self.node = node
        self.address = f"tls://{node.private_address}:{SCHEDULER_PORT}"
        await super().start()


class WorkerMachine(Machine):
    """A node with workers; it is there when the cloud grants it, and its workers come later."""

    role: Role = "worker"

    async def start(self) -> None:
        """Make it. What goes wrong is kept in ``failure``: other nodes can do its work."""
        try:
            await self._launch()
        except LaunchError as exc:
            self.failure = exc
            self.status = Status.failed
            return
        self.missing_since = time.monotonic()
        await super().start()


async def _takes_connections(host: str) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, SCHEDULER_PORT)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
