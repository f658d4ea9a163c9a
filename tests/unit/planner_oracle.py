"""The planner's arithmetic once more, an offer at a time in plain Python, to compare with.

It shares the planner's constants and the catalog's prices, and none of its functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headwater.infra.catalog.models import EgressRate, Offer
from headwater.infra.catalog.tables import Catalog
from headwater.infra.models import Cloud, Market
from headwater.infra.planner import costs, learning, sites, spot, times
from headwater.infra.planner.models import DataInput, PlanRequest
from headwater.infra.policies import Rules


@dataclass(frozen=True)
class Answer:
    """What one offer costs and takes."""

    offer: Offer
    usd: float
    seconds: float
    hourly: float
    egress: float
    gpus: int


def allowed_answers(request: PlanRequest, catalog: Catalog, rules: Rules) -> list[Answer]:
    """Every offer that fits and that no rule denies."""
    found = []
    for offer in catalog.offers:
        if not _fits(request, offer) or _denied(request, offer, rules):
            continue
        if _scheduler(request, catalog, (offer.cloud, offer.region), rules) is None:
            continue
        answer = price(request, catalog, offer, rules)
        limits = (
            (rules.gpus, answer.gpus),
            (rules.usd_per_hour, answer.hourly),
            (rules.egress_usd, answer.egress),
            (rules.usd_per_run, answer.usd),
        )
        if math.isfinite(answer.usd) and all(
            rule is None or value <= rule.value for rule, value in limits
        ):
            found.append(answer)
    return found


def best(request: PlanRequest, catalog: Catalog, rules: Rules) -> Answer | None:
    """The offer that should win."""
    answers = allowed_answers(request, catalog, rules)
    if not answers:
        return None
    cheapest = min(answers, key=_order)
    homes = _homes(request)
    at_home = [one for one in answers if (one.offer.cloud, one.offer.region) in homes]
    if not at_home:
        return cheapest
    home = min(at_home, key=_order)
    saving = home.usd - cheapest.usd
    return cheapest if saving > 1 and saving > home.usd / 10 else home


def price(request: PlanRequest, catalog: Catalog, offer: Offer, rules: Rules) -> Answer:
    """What ``request`` costs and takes on machines of ``offer``."""
    nodes = _nodes(request, offer)
    needs, work = request.needs, request.work
    ratio = work.output_ratio
    written = request.size_bytes * (request.learned.output_ratio.center if ratio is None else ratio)
    used = {(one.cloud, one.to): one.moved_bytes for one in request.month_to_date}
    egress = nat = 0.0
    read = write = 0.0
    place = (offer.cloud, offer.region)
    has_endpoint = request.endpoints.get(offer.cloud) is not False
    gateway = catalog.nat(*place)
    legs: list[tuple[Cloud | None, frozenset[str], float, DataInput | None]] = [
        (one.cloud, one.regions, float(one.size_bytes), one) for one in request.inputs
    ]
    if request.output.follows:
        write = written / _speed("near", offer, nodes)
    else:
        legs.append((request.output.cloud, request.output.regions, written, None))
    for cloud, regions, size, source in legs:
        kind = _kind(cloud, regions, place)
        rate = _rate(catalog, source, cloud, regions, place)
        if rate is not None:
            key = (rate.cloud, rate.to)
            egress += _tiers(rate, used.get(key, 0.0) + size) - _tiers(rate, used.get(key, 0.0))
            used[key] = used.get(key, 0.0) + size
        direct = kind == "near" or (kind == "far" and offer.cloud is not Cloud.AWS)
        if not (has_endpoint and direct):
            nat += _tiers(gateway, size)
        seconds = size / _speed(kind, offer, nodes)
        if source is None:
            write += seconds
        else:
            read += seconds
    if work.unit_hours is not None:
        units = offer.gpus if needs.gpus else offer.vcpus
        compute = work.unit_hours * 3600 / (units * nodes)
    else:
        one = (
            offer.gpus * learning.gpu_bytes_per_second(offer.gpu)
            if needs.gpus
            else offer.vcpus * learning.VCPU_BYTES_PER_SECOND
        )
        compute = request.size_bytes / (one * nodes) * request.learned.slowness.center
    start = times.START_SECONDS[offer.cloud]
    lost = _lost(request, offer, nodes, read + compute + write, start)
    total = start + read + compute + write + lost
    machine = _scheduler(request, catalog, place, rules)
    assert machine is not None
    billed = max(total, 60.0) / 3600
    hourly = nodes * offer.usd_per_hour + machine
    gib = nodes * needs.disk_gib + costs.SCHEDULER_DISK_GIB
    disks = gib * costs.DISK_USD_PER_GIB_MONTH[offer.cloud] / 730 * billed
    usd = hourly * billed + disks + egress + nat + _requests(request, catalog, place, written)
    return Answer(offer, usd, total, hourly, egress, nodes * offer.gpus)


def _order(one: Answer) -> tuple[object, ...]:
    o = one.offer
    return (one.usd, one.seconds, o.cloud, o.region, o.instance_type, o.market, o.zone)


def _fits(request: PlanRequest, offer: Offer) -> bool:
    needs = request.needs
    if not needs.gpus:
        return True
    names = {name.lower() for name in needs.gpu_names} or {offer.gpu.lower()}
    return (
        offer.gpus > 0
        and offer.gpu.lower() in names
        and offer.gpu_memory_gib >= needs.gpu_memory_gib
    )


def _denied(request: PlanRequest, offer: Offer, rules: Rules) -> bool:
    residency = rules.residency_of([one.uri for one in request.inputs])
    return bool(
        rules.denies_place(offer.cloud, offer.region, residency)
        or rules.denies_type(offer.instance_type)
        or rules.denies_market(offer.market)
        or _too_old(request, offer, rules)
    )


def _nodes(request: PlanRequest, offer: Offer) -> int:
    needs = request.needs
    if needs.gpus:
        return -(-needs.gpus // offer.gpus)
    return max(
        1, math.ceil(needs.vcpus / offer.vcpus), math.ceil(needs.memory_gib / offer.memory_gib)
    )


def _homes(request: PlanRequest) -> set[tuple[Cloud, str]]:
    held: dict[tuple[Cloud, str], int] = {}
    for one in request.inputs:
        for region in one.regions:
            if one.cloud is not None:
                held[one.cloud, region] = held.get((one.cloud, region), 0) + one.size_bytes
    return {place for place, size in held.items() if size == max(held.values())}


def _kind(cloud: Cloud | None, regions: frozenset[str], place: tuple[Cloud, str]) -> str:
    if cloud is not place[0]:
        return "abroad"
    return "near" if place[1] in regions else "far"


def _rate(
    catalog: Catalog,
    source: DataInput | None,
    cloud: Cloud | None,
    regions: frozenset[str],
    place: tuple[Cloud, str],
) -> EgressRate | None:
    if source is None:
        if cloud is place[0] and place[1] in regions:
            return None
        return catalog.egress(*place, cloud, min(regions) if regions else "")
    if cloud is None:
        return None
    many = len(regions) > 2
    if cloud is place[0] and place[1] in regions and not many:
        return catalog.egress(cloud, place[1], *place)
    ways = [
        catalog.egress(cloud, region, *place)
        for region in sorted(regions)
        if (cloud, region) != place
    ]
    return min(ways, key=lambda rate: _tiers(rate, source.size_bytes))


def _tiers(rate: EgressRate, size: float) -> float:
    gb = size / rate.gb_bytes
    usd = 0.0
    for tier in rate.tiers:
        top = math.inf if tier.to_gb is None else tier.to_gb
        usd += max(0.0, min(gb, top) - tier.from_gb) * tier.usd_per_gb
    return usd


def _speed(kind: str, offer: Offer, nodes: int) -> float:
    """Bytes per second."""
    one = times.UNKNOWN_GBPS if offer.network_gbps is None else offer.network_gbps
    gbps = {
        "near": one * times.STORE_SHARE * nodes,
        "far": min(min(one, times.OTHER_REGION_GBPS) * nodes, times.OTHER_REGION_MOST),
        "abroad": min(min(one, times.OTHER_CLOUD_GBPS) * nodes, times.OTHER_CLOUD_MOST),
    }
    return gbps[kind] * 1e9 / 8


def _lost(request: PlanRequest, offer: Offer, nodes: int, work: float, start: float) -> float:
    if offer.market is not Market.SPOT:
        return 0.0
    prior = spot.LOSSES_PER_HOUR.get(offer.gpu, spot.OTHER_LOSSES_PER_HOUR)
    seen = [one for one in request.learned.spot if (one.cloud, one.gpu) == (offer.cloud, offer.gpu)]
    losses = prior * spot.PRIOR_HOURS + sum(one.losses for one in seen)
    rate = losses / (spot.PRIOR_HOURS + sum(one.hours for one in seen))
    hours, restart = work / 3600, start / 3600
    if request.work.rework == "elastic":
        part = rate * spot.PART_HOURS
        return work * (math.expm1(part) / part * (1 + rate * restart) - 1)
    between, delta = 1 / (rate * nodes), spot.CHECKPOINT_HOURS
    interval = between
    if delta < 2 * between:
        x = delta / (2 * between)
        interval = math.sqrt(2 * delta * between) * (1 + math.sqrt(x) / 3 + x / 9) - delta
    interval = max(min(interval, hours), 1e-9)
    if (interval + delta + restart) / between >= spot.MAX_EXPONENT:
        return math.inf
    steps = math.exp(restart / between) * math.expm1((interval + delta) / between)
    return max(0.0, between * steps * hours / interval - hours) * 3600


def _scheduler(
    request: PlanRequest, catalog: Catalog, place: tuple[Cloud, str], rules: Rules
) -> float | None:
    fit = [
        (one.gpus > 0, one.usd_per_hour)
        for one in catalog.offers
        if (one.cloud, one.region) == place
        and one.market is Market.ON_DEMAND
        and one.vcpus >= 2
        and one.memory_gib >= 8
        and rules.denies_type(one.instance_type) is None
        and not _too_old(request, one, rules)
    ]
    return min(fit)[1] if fit else None


def _too_old(request: PlanRequest, offer: Offer, rules: Rules) -> bool:
    age = rules.max_price_age_days
    return age is not None and (
        offer.as_of is None or (request.today - offer.as_of).days > age.value
    )


def _requests(
    request: PlanRequest, catalog: Catalog, place: tuple[Cloud, str], written: float
) -> float:
    usd = 0.0
    for one in request.inputs:
        if one.cloud is not None:
            at = (one.cloud, min(one.regions))
            reads = max(one.objects, math.ceil(one.size_bytes / sites.READ_CUT_BYTES))
            usd += reads * catalog.requests(*at, "read").usd_per_1000 / 1000
            listed = math.ceil(one.objects / 1000)
            usd += listed * catalog.requests(*at, "list").usd_per_1000 / 1000
    output = request.output
    if not output.follows:
        if output.cloud is None:
            return usd
        place = (output.cloud, min(output.regions))
    writes = written / sites.READ_CUT_BYTES
    return usd + writes * catalog.requests(*place, "write").usd_per_1000 / 1000
