"""What it costs an hour to keep what a cloud holds of ours, by the catalog's prices."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from headwater.infra.catalog.tables import load_catalog
from headwater.infra.launchers.base import Leftover, Node
from headwater.infra.models import Cloud, Market
from headwater.infra.planner.costs import DISK_USD_PER_GIB_MONTH, HOURS_PER_MONTH


def usd_per_hour(one: Leftover) -> float | None:
    """Price of one hour more; ``None`` where no price is recorded.

    Network cards cost nothing in any of the three clouds. Of a machine its disk is not counted.
    """
    match one.kind:
        case "instance" if one.node is not None:
            return node_usd_per_hour(one.node)
        case "disk" if one.size_gib:
            return one.size_gib * DISK_USD_PER_GIB_MONTH[one.cloud] / HOURS_PER_MONTH
        case "network card":
            return 0.0
        case _:
            return None


def node_usd_per_hour(node: Node) -> float | None:
    """Price of one hour of ``node``; ``None`` where the catalog has none."""
    return _prices(node.cloud, node.region).get((node.instance_type, node.market))


def usd_so_far(one: Leftover, now: datetime) -> float | None:
    """What it has cost since it was made; ``None`` where its age or its price is not known."""
    price = usd_per_hour(one)
    if price is None or one.created is None:
        return None
    return max(0.0, (now - one.created).total_seconds()) / 3600 * price


def said_price(price: float | None) -> str:
    """A price as a person reads it.

    Example:
        >>> said_price(1.006), said_price(None)
        ('$1.006 an hour', 'no price is recorded')
    """
    return "no price is recorded" if price is None else f"${price:.3f} an hour"


@lru_cache(maxsize=256)
def _prices(cloud: Cloud, region: str) -> dict[tuple[str, Market], float]:
    """Prices of a region by type and market; of several zones the dearest counts."""
    found: dict[tuple[str, Market], float] = {}
    for offer in load_catalog().offers:
        if (offer.cloud, offer.region) == (cloud, region):
            key = (offer.instance_type, offer.market)
            found[key] = max(offer.usd_per_hour, found.get(key, 0.0))
    return found
