"""`headwater-node`: one node of a cluster, from its orders to its end.

The last lines it has to say are also left in the store beside the orders, since a machine that is
gone has no log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import httpx

from headwater.infra import gpu
from headwater.infra.errors import HeadwaterError, first_line
from headwater.infra.gpu import GpuProbe
from headwater.infra.models import Cloud
from headwater.infra.node.checks import installed, require_gpus, require_same
from headwater.infra.node.life import live
from headwater.infra.node.orders import Orders, read_orders
from headwater.infra.node.platform import Platform
from headwater.infra.node.registry import platform_of
from headwater.infra.node.roles import scheduler_role, worker_role
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

log = logging.getLogger(__name__)

OFF_TRIES = 5
OFF_PAUSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a node is told at its boot.

    Attributes:
        folder: Where its cluster's orders are, and where it leaves its state.
        scheduler: Address of the scheduler; empty is the scheduler itself.
        host: Address that it listens at; empty is the machine's own.
    """

    folder: Uri
    cloud: Cloud
    name: str
    scheduler: str = ""
    host: str = ""


def main(argv: Sequence[str] | None = None, probe: GpuProbe = gpu.probe) -> int:
    """Run the node; the exit code is 0 where it ended as it should.

    Args:
        probe: Tells which GPUs can be used. What it finds is believed: a test over simulated GPUs
            passes one that only counts them.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each question to the cloud
    arguments = _parse(argv)
    platform = platform_of(arguments.cloud)
    return asyncio.run(run(arguments, platform, probe))


async def run(arguments: Arguments, platform: Platform, probe: GpuProbe) -> int:
    """See ``main``. The machine is switched off on every way out."""
    try:
        try:
            ending = await _serve(arguments, platform, probe)
        except HeadwaterError as exc:
            log.error("%s", exc)
            await asyncio.to_thread(_leave, arguments, "failed", str(exc))
            return 1
        except Exception as exc:
            await asyncio.to_thread(_leave, arguments, "failed", first_line(exc))
            raise
        log.info("ends: %s", ending)
        await asyncio.to_thread(_leave, arguments, "ended", ending)
        return 0
    finally:
        await _switch_off(platform)


async def _serve(arguments: Arguments, platform: Platform, probe: GpuProbe) -> str:
    renew = partial(read_orders, arguments.folder)
    orders = await asyncio.to_thread(renew)
    require_same(orders.versions, installed())
    host = arguments.host or _own_address()
    if not arguments.scheduler:
        async with scheduler_role(orders, host) as scheduler:
            await asyncio.to_thread(_leave, arguments, "serves", f"scheduler at {host}")
            return await live(scheduler, orders, platform, renew)
    if orders.worker.gpus:
        require_gpus(await asyncio.to_thread(probe), orders.worker.gpus)
    async with worker_role(orders, host, arguments.name, arguments.scheduler) as workers:
        await asyncio.to_thread(_leave, arguments, "serves", _said(orders))
        return await live(workers, orders, platform, renew)


def _leave(arguments: Arguments, state: str, said: str) -> None:
    """Write the node's state into its cluster's folder; a store that fails keeps no node alive.

    It is a JSON object: ``node``, ``state`` (serves, ended, failed), ``said``, ``at``.
    """
    uri = arguments.folder / f"{arguments.name}.json"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    value = {"node": arguments.name, "state": state, "said": said, "at": at}
    try:
        open_filesystem(uri).write(uri, json.dumps(value).encode())
    except HeadwaterError as exc:
        log.warning("%s", exc.message)


async def _switch_off(platform: Platform) -> None:
    for tried in range(OFF_TRIES):
        try:
            await platform.switch_off()
            return
        except httpx.HTTPError as exc:
            log.warning("the machine could not be switched off by its cloud: %s", exc)
            if tried + 1 < OFF_TRIES:
                await asyncio.sleep(OFF_PAUSE_SECONDS)


def _said(orders: Orders) -> str:
    gpus = orders.worker.gpus
    if not gpus:
        return f"a worker of {orders.worker.threads} threads"
    return f"{gpus} workers, one for each GPU" if gpus > 1 else "a worker with a GPU"


def _own_address() -> str:
    """The address that others reach this machine at; no packet is sent for that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 1))
        return str(probe.getsockname()[0])


def _parse(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(prog="headwater-node", description=__doc__)
    parser.add_argument("folder", help="address of the cluster's folder in the store")
    parser.add_argument("--cloud", required=True, choices=[cloud.value for cloud in Cloud])
    parser.add_argument("--name", required=True, help="the node's name in its cluster")
    parser.add_argument("--scheduler", default="", help="its address; without it, be the scheduler")
    parser.add_argument("--host", default="", help="address to listen at; else the machine's own")
    given = parser.parse_args(argv)
    return Arguments(
        Uri.parse(given.folder), Cloud(given.cloud), given.name, given.scheduler, given.host
    )


if __name__ == "__main__":
    sys.exit(main())
