"""What a source of prices does: read the offers of one cloud, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from headwater.infra.catalog.files import Shape, ShapeKey
from headwater.infra.catalog.models import Offer
from headwater.infra.models import Cloud, Market


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source gave.

    Attributes:
        offers: In the order of cloud, region, machine type and market.
        skipped: Prices that were left out: of machines that are not known, in places that are no
            region, or of no money at all.
    """

    offers: tuple[Offer, ...]
    skipped: int = 0


class PriceSource(Protocol):
    """Reads what one or more clouds ask now. It writes nothing."""

    name: str
    """What is said of it, such as ``Azure Retail Prices API``."""

    clouds: tuple[Cloud, ...]
    """Whose prices it has."""

    def fetch(self, cloud: Cloud, *, today: date) -> Fetched:
        """All offers of ``cloud``, dated ``today``.

        Raises:
            PriceListFailed: It could not be read whole.
            AccessDenied: It wants credentials that are not there.
            MissingDependency: A package that it needs is not installed.
        """
        ...


def offer_of(
    key: ShapeKey,
    shape: Shape,
    region: str,
    market: Market,
    usd_per_hour: float,
    *,
    source: str,
    as_of: date,
    zone: str = "",
) -> Offer:
    """An offer of the machine ``key`` in one place."""
    cloud, instance_type = key
    return Offer(
        cloud=cloud,
        region=region,
        instance_type=instance_type,
        market=market,
        usd_per_hour=usd_per_hour,
        vcpus=shape.vcpus,
        memory_gib=shape.memory_gib,
        gpu=shape.gpu,
        gpus=shape.gpus,
        gpu_memory_gib=shape.gpu_memory_gib,
        network_gbps=shape.network_gbps,
        zone=zone,
        source=source,
        as_of=as_of,
    )


def in_order(offers: list[Offer]) -> tuple[Offer, ...]:
    """``offers`` in the order of the tables, so that two refreshes differ by prices alone."""
    return tuple(
        sorted(offers, key=lambda o: (o.cloud, o.region, o.instance_type, o.market, o.zone))
    )
