"""Which egress rate or request price holds in a place: the nearest of those that cover it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from headwater.infra.catalog.models import EgressRate, RequestPrice
from headwater.infra.models import Cloud

ANYWHERE = "any"

INTERNET = "internet"
NAT = "nat"

Areas = Mapping[tuple[Cloud, str], str]
"""The continent of each region."""

Price = TypeVar("Price", EgressRate, RequestPrice)


def destinations(
    areas: Areas, from_: tuple[Cloud, str], to: tuple[Cloud | None, str]
) -> tuple[str, ...]:
    """What ``EgressRate.to`` may say of a way, the nearest first.

    Args:
        to: Another cloud, or ``None`` for none, is the internet.
    """
    cloud, region = from_
    to_cloud, to_region = to
    if to_cloud is not cloud:
        return (INTERNET,)
    if to_region == region:
        return ("same region",)
    here, there = areas.get((cloud, region), ""), areas.get((cloud, to_region), "")
    if here and here == there:
        return (to_region, "same continent", "other region")
    if here and there:
        return (to_region, there, "other continent", "other region")
    return (to_region, "other region")


def nearest(areas: Areas, cloud: Cloud, region: str, prices: Iterable[Price]) -> Price | None:
    """The one of ``prices`` whose scope is closest about ``region``, or ``None``."""
    found: tuple[tuple[int, int], Price] | None = None
    for price in prices:
        if price.cloud is cloud:
            scope = price.scope if isinstance(price, EgressRate) else price.region
            fit = _fit(scope, region, areas.get((cloud, region), ""))
            if fit is not None and (found is None or fit > found[0]):
                found = (fit, price)
    return found[1] if found else None


def _fit(scope: str, region: str, area: str) -> tuple[int, int] | None:
    """How closely ``scope`` names ``region``, or ``None`` where it does not.

    A scope is ``any``, or a list of regions, beginnings of regions (``eu-*``) and continents.

    Examples:
        >>> _fit("us-east-1", "us-east-1", "north america")
        (3, 9)
        >>> _fit("us-*, eu-*", "eu-west-1", "europe"), _fit("europe", "eu-west-1", "europe")
        ((2, 3), (1, 0))
        >>> _fit("any", "eu-west-1", "europe"), _fit("asia", "eu-west-1", "europe")
        ((0, 0), None)
    """
    fits: list[tuple[int, int]] = []
    for part in scope.split(","):
        name = part.strip()
        if name == region:
            fits.append((3, len(name)))
        elif name.endswith("*") and region.startswith(name[:-1]):
            fits.append((2, len(name) - 1))
        elif name == area:
            fits.append((1, 0))
        elif name == ANYWHERE:
            fits.append((0, 0))
    return max(fits, default=None)
