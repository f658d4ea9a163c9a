"""What a copy costs: the bytes that leave a cloud for it, and its requests. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from headwater.infra.catalog.models import EgressRate, Operation
from headwater.infra.errors import PriceUnknown
from headwater.infra.locations.models import Location
from headwater.infra.models import Cloud, Egress, TransferPrice
from headwater.infra.planner.models import DataInput, MonthToDate
from headwater.infra.planner.offers import OfferTable
from headwater.infra.planner.sites import cheapest_rate
from headwater.infra.planner.tiers import egress_usd
from headwater.infra.policies import Rule, Rules
from headwater.infra.storage.transfer.traffic import Traffic


def price_transfer(
    traffic: Traffic,
    source: Location,
    target: Location,
    table: OfferTable,
    month_to_date: Iterable[MonthToDate] = (),
) -> TransferPrice:
    """What ``traffic`` between two places costs.

    What passes this machine leaves its cloud for the internet, and comes into the other one for
    nothing. What a store copies by itself leaves the source's region for the target's, and is free
    within one.

    Raises:
        PriceUnknown: No price is recorded for one of the ways.
        UnknownName: A region does not exist.
    """
    used = {(one.cloud, one.to): one.moved_bytes for one in month_to_date}
    egress, rates = [], []
    for place, to, size_bytes in (
        (source, (None, ""), traffic.from_source),
        (source, _beside(source, target), traffic.by_store),
        (target, (None, ""), traffic.from_target),
    ):
        if place.cloud is None or not size_bytes:
            continue
        data = DataInput(place.uri, place.cloud, place.regions, size_bytes)
        rate = _within(data, to, target.regions, table) or cheapest_rate(data, to, table)
        way = (rate.cloud, rate.to)
        usd = egress_usd(rate, size_bytes, used.get(way, 0.0))
        used[way] = used.get(way, 0.0) + size_bytes
        rates.append(rate)
        regions = tuple(sorted(place.regions))
        egress.append(Egress(place.cloud, regions, rate.to, size_bytes, usd))
    prices = [
        (table.catalog.requests(place.cloud, min(place.regions), operation), count)
        for place, operation, count in _requests(traffic, source, target)
        if place.cloud is not None and count
    ]
    days = [rate.as_of for rate in rates] + [price.as_of for price, _ in prices]
    return TransferPrice(
        tuple(egress),
        sum(price.usd_per_1000 * count / 1000 for price, count in prices),
        min((day for day in days if day is not None), default=None),
    )


def beyond(price: TransferPrice, rules: Rules) -> Rule[float] | None:
    """The limit that ``price`` passes; ``None`` where it passes none."""
    usd = price.usd
    for limit, value in ((rules.egress_usd, price.egress_usd), (rules.usd_per_run, usd)):
        if limit is not None and value is not None and value > limit.value:
            return limit
    return None


def _beside(source: Location, target: Location) -> tuple[Cloud | None, str]:
    """The target as a place that the source's store reaches by itself."""
    shared = source.regions & target.regions
    return target.cloud, min(shared or target.regions, default="")


def _within(
    data: DataInput, to: tuple[Cloud | None, str], regions: frozenset[str], table: OfferTable
) -> EgressRate | None:
    """The rate between buckets of the very same regions, which is free also where reading one of
    many regions is not; ``None`` for all other ways."""
    if data.cloud is None or to[0] is not data.cloud or regions != data.regions:
        return None
    rate = table.egress((data.cloud, to[1]), to)
    if isinstance(rate, PriceUnknown):
        raise rate
    return rate


def _requests(
    traffic: Traffic, source: Location, target: Location
) -> Iterable[tuple[Location, Operation, int]]:
    yield source, "read", traffic.source_reads
    yield source, "list", traffic.source_lists
    yield target, "read", traffic.target_reads
    yield target, "list", traffic.target_lists
    yield target, "write", traffic.target_writes
