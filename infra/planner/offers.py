"""All offers as columns, so that thousands are priced at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.infra.catalog.models import EgressRate, Offer, Operation
from headwater.infra.catalog.tables import Catalog
from headwater.infra.errors import PriceUnknown
from headwater.infra.models import Cloud, Market

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

Site = tuple[Cloud, str]
"""A cloud and one of its regions."""

CLOUDS = tuple(Cloud)
"""By their numbers in columns."""

UNDATED = 0
"""Day of an offer whose source gives no date; days are counted as ``date.toordinal``."""

SCHEDULER_VCPUS = 2
SCHEDULER_MEMORY_GIB = 8.0
"""What the scheduler needs: it holds the graph and no data."""


@dataclass(frozen=True, eq=False)
class Schedulers:
    """The small machine beside the workers, by site.

    Attributes:
        offers: ``None`` where nothing that may be used is sold on demand.
        usd: Per hour; NaN likewise.
    """

    offers: tuple[Offer | None, ...]
    usd: Floats


@dataclass(eq=False)
class OfferTable:
    """The offers of a catalog as columns, one row for each offer in the catalog's order.

    Build it once: it keeps what it looked up for each place.

    Attributes:
        site: Index into ``sites``; ``types`` and ``gpu_names`` likewise.
        usd: Per hour.
        network_gbps: NaN where it is unknown.
        day: Of the price, or ``UNDATED``.
    """

    catalog: Catalog
    offers: Sequence[Offer]
    sites: tuple[Site, ...]
    types: tuple[str, ...]
    gpu_names: tuple[str, ...]
    site: Ints
    type: Ints
    gpu: Ints
    usd: Floats
    vcpus: Floats
    memory_gib: Floats
    gpus: Floats
    gpu_memory_gib: Floats
    network_gbps: Floats
    is_spot: Flags
    day: Ints
    _rates: dict[tuple[Any, ...], EgressRate | PriceUnknown] = field(default_factory=dict)
    _requests: dict[tuple[str, str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, catalog: Catalog) -> OfferTable:
        """The columns of ``catalog``'s offers."""
        offers = catalog.offers
        sites: dict[Site, int] = {}
        types: dict[str, int] = {}
        gpus: dict[str, int] = {}
        days: dict[date | None, int] = {None: UNDATED}
        for day in {o.as_of for o in offers}:
            if day is not None:
                days[day] = day.toordinal()
        of_cloud: dict[Cloud, dict[str, int]] = {cloud: {} for cloud in Cloud}
        aws, gcp, azure = (of_cloud[c] for c in (Cloud.AWS, Cloud.GCP, Cloud.AZURE))
        site = []
        for o in offers:  # an enum's hash is slow, its identity is not
            cloud = o.cloud
            regions = aws if cloud is Cloud.AWS else gcp if cloud is Cloud.GCP else azure
            index = regions.get(o.region)
            if index is None:
                index = regions[o.region] = sites[(cloud, o.region)] = len(sites)
            site.append(index)
        count = len(offers)
        return cls(
            catalog=catalog,
            offers=offers,
            sites=tuple(sites),
            site=np.array(site, np.int64),
            type=_coded((o.instance_type for o in offers), types, count),
            gpu=_coded((o.gpu for o in offers), gpus, count),
            types=tuple(types),
            gpu_names=tuple(gpus),
            usd=np.fromiter((o.usd_per_hour for o in offers), float, count),
            vcpus=np.fromiter((o.vcpus for o in offers), float, count),
            memory_gib=np.fromiter((o.memory_gib for o in offers), float, count),
            gpus=np.fromiter((o.gpus for o in offers), float, count),
            gpu_memory_gib=np.fromiter((o.gpu_memory_gib for o in offers), float, count),
            network_gbps=np.array([o.network_gbps for o in offers], float),
            is_spot=np.fromiter((o.market is Market.SPOT for o in offers), bool, count),
            day=np.fromiter((days[o.as_of] for o in offers), np.int64, count),
        )

    @cached_property
    def schedulers(self) -> Schedulers:
        """What schedulers run on where no rule is against a machine."""
        return self.schedulers_among(np.ones(len(self.offers), bool))

    def schedulers_among(self, usable: Flags) -> Schedulers:
        """What schedulers run on where only ``usable`` offers may be.

        In each place the cheapest on demand that holds one: of those without a GPU where one has
        a price, else of all, since a price is never guessed.
        """
        fits = usable & ~self.is_spot & (self.vcpus >= SCHEDULER_VCPUS)
        fits &= self.memory_gib >= SCHEDULER_MEMORY_GIB
        rows = np.flatnonzero(fits)
        order = np.lexsort((rows, self.usd[rows], self.gpus[rows] > 0, self.site[rows]))
        rows = rows[order]
        found: list[Offer | None] = [None] * len(self.sites)
        first = np.flatnonzero(np.diff(self.site[rows], prepend=-1))
        for row in rows[first]:
            found[self.site[row]] = self.offers[row]
        prices = [np.nan if one is None else one.usd_per_hour for one in found]
        return Schedulers(tuple(found), np.array(prices, float))

    @cached_property
    def site_cloud(self) -> Ints:
        """Index of each site's cloud in ``CLOUDS``."""
        return np.array([CLOUDS.index(cloud) for cloud, _ in self.sites], np.int64)

    def egress(self, from_: Site, to: tuple[Cloud | None, str]) -> EgressRate | PriceUnknown:
        """The rate of a way, or the error that says that there is none.

        Raises:
            UnknownName: A region does not exist.
        """
        # Wherever else the bytes go, they go over the internet, and one price holds.
        way = to if to[0] is from_[0] else (None, "")
        return self._kept(("egress", *from_, *way), lambda: self.catalog.egress(*from_, *way))

    def nat(self, site: Site) -> EgressRate | PriceUnknown:
        """What a NAT gateway takes there, or the error that says that it is not known."""
        return self._kept(("nat", *site), lambda: self.catalog.nat(*site))

    def request_usd(self, cloud: Cloud, region: str, operation: Operation) -> float:
        """Price of one request there.

        Raises:
            PriceUnknown: None is recorded.
        """
        key = (cloud.value, region, operation)
        if key not in self._requests:
            self._requests[key] = self.catalog.requests(cloud, region, operation).usd_per_1000
        return self._requests[key] / 1000

    def _kept(self, key: tuple[Any, ...], ask: Any) -> EgressRate | PriceUnknown:
        if key not in self._rates:
            try:
                self._rates[key] = ask()
            except PriceUnknown as exc:
                self._rates[key] = exc
        return self._rates[key]


def _coded(values: Any, codes: dict[str, int], count: int) -> Ints:
    """Each value as the number it was first seen as."""
    setdefault = codes.setdefault
    return np.fromiter((setdefault(value, len(codes)) for value in values), np.int64, count)
