"""The catalog: what clouds sell and what they ask for it, as one value.

Prices come from three layers. The packaged tables hold what public sources say; what
``headwater prices refresh`` wrote wins over them, price by price; and what the user negotiated
(``prices.toml`` or ``prices.csv`` in the user's configuration folder) wins over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path

from platformdirs import user_config_path, user_data_path

from headwater.infra.catalog.files import (
    PACKAGED,
    overlay,
    packaged_areas,
    read_egress,
    read_offers,
    read_requests,
)
from headwater.infra.catalog.models import EgressRate, Offer, Operation, RequestPrice
from headwater.infra.catalog.routes import NAT, Areas, destinations, nearest
from headwater.infra.errors import PriceUnknown, UnknownName
from headwater.infra.models import Cloud, Market
from headwater.infra.regions import require_region_of

NEGOTIATED_NAMES = ("prices.toml", "prices.csv")
"""Files of the user's own prices, in the user's configuration folder."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """Prices of machines, moved bytes and requests.

    Attributes:
        offers: Machines by cloud, region and market; a price for each machine and zone.
        rates: Layers of egress rates; one of an earlier layer wins wherever it holds.
        request_prices: Layers of request prices, likewise; ``region`` is a scope.
        areas: The continent of each known region.
    """

    offers: Sequence[Offer]
    rates: Sequence[Sequence[EgressRate]]
    request_prices: Sequence[Sequence[RequestPrice]]
    areas: Areas
    _ways: dict[tuple[object, ...], EgressRate] = field(default_factory=dict, repr=False)

    def regions(self, cloud: Cloud) -> tuple[str, ...]:
        """All known regions of ``cloud``, also those where nothing is offered."""
        here = {region for of, region in self.areas if of is cloud}
        return tuple(sorted(here | {o.region for o in self.offers if o.cloud is cloud}))

    def require_region(self, cloud: Cloud, region: str) -> None:
        """Refuse a region that does not exist, or of which nothing is known.

        Raises:
            UnknownName: There is none of this name; the near ones are told.
            PriceUnknown: No table says anything of it, as of China's and the governments' regions.
        """
        if (cloud, region) in self.areas or region in self.regions(cloud):
            return
        require_region_of(cloud, region)
        raise PriceUnknown(
            f"no prices are known in {cloud} {region}",
            hint=f"give those of its machines in {negotiated_path()}",
        )

    def gpus(self) -> tuple[str, ...]:
        """Names of the GPUs that somebody sells."""
        return tuple(sorted({o.gpu for o in self.offers if o.gpu}))

    def offers_for(
        self,
        *,
        cloud: Cloud | None = None,
        region: str | None = None,
        gpu: str | None = None,
        market: Market | None = None,
    ) -> tuple[Offer, ...]:
        """The offers that are as asked, the cheapest first.

        Args:
            region: Of any cloud, where ``cloud`` is not given.
            gpu: Name in any case; empty for machines without one.
        Raises:
            UnknownName: A region that does not exist, or a GPU that nobody sells.
        """
        if region is not None:
            clouds = [cloud] if cloud else list(Cloud)
            known = [name for one in clouds for name in self.regions(one)]
            if region not in known:
                raise UnknownName.of(f"region of {cloud}" if cloud else "region", region, known)
        if gpu:
            names = {name.lower(): name for name in self.gpus()}
            if gpu.lower() not in names:
                raise UnknownName.of("GPU", gpu, names.values(), where="any offer")
            gpu = names[gpu.lower()]
        found = (
            offer
            for offer in self.offers
            if (cloud is None or offer.cloud is cloud)
            and (region is None or offer.region == region)
            and (gpu is None or offer.gpu == gpu)
            and (market is None or offer.market is market)
        )
        return tuple(
            sorted(found, key=lambda o: (o.usd_per_hour, o.cloud, o.region, o.instance_type))
        )

    def egress(
        self, from_cloud: Cloud, from_region: str, to_cloud: Cloud | None, to_region: str
    ) -> EgressRate:
        """What moving bytes from one region to another costs the account they leave.

        Args:
            to_cloud: Another cloud is reached through the internet; so is a place in none
                (``None``), such as this machine.
        Raises:
            UnknownName: A region does not exist.
            PriceUnknown: No price is recorded for the route.
        """
        way = (from_cloud, from_region, to_cloud, to_region)
        if way not in self._ways:
            self.require_region(from_cloud, from_region)
            if to_cloud is not None:
                self.require_region(to_cloud, to_region)
            kinds = destinations(self.areas, (from_cloud, from_region), (to_cloud, to_region))
            target = f"{to_cloud} {to_region}" if to_cloud else "the internet"
            self._ways[way] = self._rate(
                from_cloud, from_region, kinds, f"from {from_cloud} {from_region} to {target}"
            )
        return self._ways[way]

    def nat(self, cloud: Cloud, region: str) -> EgressRate:
        """What a NAT gateway asks for each GB that it passes on, beside the egress itself.

        Raises:
            UnknownName: The region does not exist.
            PriceUnknown: No price is recorded.
        """
        self.require_region(cloud, region)
        return self._rate(cloud, region, (NAT,), f"for a NAT gateway in {cloud} {region}")

    def requests(self, cloud: Cloud, region: str, operation: Operation) -> RequestPrice:
        """What an object store in ``region`` asks for 1,000 requests.

        Raises:
            UnknownName: The region does not exist.
            PriceUnknown: No price is recorded.
        """
        self.require_region(cloud, region)
        for layer in self.request_prices:
            here = (price for price in layer if price.operation == operation)
            found = nearest(self.areas, cloud, region, here)
            if found:
                return replace(found, region=region)
        raise PriceUnknown(
            f"no price for {operation} requests in {cloud} {region}",
            hint=f"give it under [[requests]] in {negotiated_path()}",
        )

    @cached_property
    def _by_destination(self) -> list[dict[tuple[Cloud, str], list[EgressRate]]]:
        """``rates`` by where bytes leave and where to: a plan asks for hundreds of ways."""
        layers: list[dict[tuple[Cloud, str], list[EgressRate]]] = []
        for rates in self.rates:
            layers.append({})
            for rate in rates:
                layers[-1].setdefault((rate.cloud, rate.to), []).append(rate)
        return layers

    @property
    def oldest(self) -> date | None:
        """Date of the oldest price of a machine, of those that have one."""
        return min((o.as_of for o in self.offers if o.as_of), default=None)

    @property
    def newest(self) -> date | None:
        """Date of the newest price of a machine, of those that have one."""
        return max((o.as_of for o in self.offers if o.as_of), default=None)

    def _rate(self, cloud: Cloud, region: str, kinds: Sequence[str], what: str) -> EgressRate:
        for layer in self._by_destination:
            for kind in kinds:
                found = nearest(self.areas, cloud, region, layer.get((cloud, kind), ()))
                if found:
                    return found
        raise PriceUnknown(
            f"no price {what}",
            hint=f'give it in {negotiated_path()}: [[egress]] cloud = "{cloud}",'
            f' scope = "{region}", to = "{kinds[0]}", usd_per_gb = ...',
        )


def load_catalog(*, refreshed: Path | None = None, negotiated: Path | None = None) -> Catalog:
    """All prices: the packaged tables, under what was refreshed, under what was negotiated.

    Kept for the next call, until one of the user's files changes.

    Args:
        refreshed: Folder that ``headwater prices refresh`` writes to; the user's by default.
        negotiated: File of the user's own prices; by default the one of ``NEGOTIATED_NAMES`` that
            is in the user's configuration folder, where there is one.
    Raises:
        InvalidRequest: One of the user's tables cannot be read; the row is named.
    """
    own = negotiated or negotiated_there()
    return _load(_stamps(refreshed_tables(refreshed)), _stamps([own] if own else []))


def refreshed_folder() -> Path:
    """Where refreshed tables are kept."""
    return user_data_path("headwater") / "prices"


def refreshed_tables(folder: Path | None = None) -> list[Path]:
    """The tables in ``folder`` that a refresh wrote; in the user's by default."""
    return sorted((folder or refreshed_folder()).glob("offers-*.csv"))


def negotiated_path() -> Path:
    """Where the user's own prices are, or would be."""
    return negotiated_there() or user_config_path("headwater") / NEGOTIATED_NAMES[0]


def negotiated_there() -> Path | None:
    """The file of the user's own prices, where there is one."""
    folder = user_config_path("headwater")
    return next((folder / n for n in NEGOTIATED_NAMES if (folder / n).is_file()), None)


Stamps = tuple[tuple[Path, int, int], ...]
"""Files with their size and time, so that a changed one is read anew."""


def _stamps(paths: Sequence[Path]) -> Stamps:
    found = ((path, path.stat()) for path in paths)
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in found)


@lru_cache(maxsize=4)
def _load(refreshed: Stamps, negotiated: Stamps) -> Catalog:
    offers = read_offers(PACKAGED / "offers.csv")
    rates = [read_egress(PACKAGED / "egress.csv")]
    prices = [read_requests(PACKAGED / "requests.csv")]
    for path, *_ in refreshed:
        offers = overlay(offers, read_offers(path))
    for path, *_ in negotiated:
        # Validation takes longer to import than all tables take to read.
        from headwater.infra.catalog.negotiated import read_negotiated

        own = read_negotiated(path, offers)
        offers = overlay(offers, own.offers)
        rates.insert(0, list(own.rates))
        prices.insert(0, list(own.request_prices))
    return Catalog(tuple(offers), rates, prices, packaged_areas())
