"""How long a node lives: until its work, its lease or its machine ends, whichever is first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

import httpx

from headwater.infra.errors import HeadwaterError
from headwater.infra.node.orders import Orders
from headwater.infra.node.platform import Platform, Reclaim
from headwater.infra.node.roles import Role

log = logging.getLogger(__name__)

NOTICE_SECONDS = 5.0
"""How often the cloud is asked whether it takes the machine back: AWS advises this, and of half a
minute's notice it leaves most."""

MARGIN_SECONDS = 5.0
"""Of a notice, what is kept for the end itself."""

LONGEST_DRAIN_SECONDS = 60.0
"""At the lease's end; what is not handed over by then is done again elsewhere."""


class Ending(StrEnum):
    """Why a node ended."""

    FINISHED = "finished"
    """Its Dask process ended: idle, closed by its cluster, or left without a scheduler."""
    LEASE = "the lease ended"
    RECLAIMED = "the cloud took it back"


async def live(
    role: Role, orders: Orders, platform: Platform, renew: Callable[[], Orders]
) -> Ending:
    """Return when the node has to end, with its results handed over as far as there was time.

    Args:
        renew: Reads the orders again; called when the lease ends, which may have been renewed.
    """
    finished = asyncio.create_task(role.finished())
    leased = asyncio.create_task(_lease_end(orders, renew))
    noticed = asyncio.create_task(_notice(platform))
    tasks = (finished, leased, noticed)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if finished.done():
            finished.result()
            return Ending.FINISHED
        if noticed.done():
            left = (noticed.result().at - datetime.now(UTC)).total_seconds()
            log.info("the cloud takes this machine back in %.0f s", left)
            await _drained(role, left - MARGIN_SECONDS)
            return Ending.RECLAIMED
        leased.result()
        await _drained(role, LONGEST_DRAIN_SECONDS)
        return Ending.LEASE
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _lease_end(orders: Orders, renew: Callable[[], Orders]) -> None:
    """Return when the lease has ended and nobody has renewed it."""
    while (left := orders.lease_left()) > 0:
        await asyncio.sleep(left)
        try:
            orders = await asyncio.to_thread(renew)
        except HeadwaterError as exc:
            log.warning("the lease could not be renewed: %s", exc.message)
            return


async def _notice(platform: Platform) -> Reclaim:
    """The cloud's notice, when it comes; a service that does not answer is asked again."""
    is_silent = False
    while True:
        try:
            found = await platform.reclaim()
            is_silent = False
        except (httpx.HTTPError, KeyError, ValueError) as exc:
            found = None
            if not is_silent:
                log.warning("the cloud's metadata service does not answer: %s", exc)
            is_silent = True
        if found is not None:
            return found
        await asyncio.sleep(NOTICE_SECONDS)


async def _drained(role: Role, seconds: float) -> None:
    try:
        await role.drain(seconds)
    except (TimeoutError, OSError) as exc:
        log.warning("not all results could be handed over: %s", exc or "there was no time")
