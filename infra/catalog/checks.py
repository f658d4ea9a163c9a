"""Whether tables of prices can be true: what `headwater prices check` and the tests look for."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from statistics import median

from headwater.infra.catalog.models import BILLED_GB_BYTES, EgressRate, Offer, RequestPrice
from headwater.infra.catalog.routes import ANYWHERE, INTERNET, NAT, Areas
from headwater.infra.models import Market

MAX_USD_PER_HOUR = 1000.0
"""No machine costs as much; the dearest of 2026 with eight GPUs is below a fifth of it."""

MAX_USD_PER_GB = 1.0

MAX_USD_PER_1000 = 1.0

GPU_COUNTS = (1, 2, 3, 4, 6, 8, 16, 72)
"""GPUs that machines are sold with."""

MAX_GPU_MEMORY_GIB = 512.0
"""More is a number of mebibytes."""

MEMORY_GIB_PER_VCPU = (0.25, 64.0)
"""What lies outside is in another unit."""

MAX_VCPUS = 1024

SPREAD = {Market.ON_DEMAND: (0.4, 2.5), Market.SPOT: (0.15, 5.0)}
"""How far a type's price in one region may be from its median over the regions."""

FAMILY_SPREAD = 1.35
"""How far a type's price on demand in one region, over its median, may be from that of its family
there: the types of a family differ by region alike."""

DESTINATIONS = (
    "same region",
    "same continent",
    "other continent",
    "other region",
    INTERNET,
    NAT,
)

SENTINEL = re.compile(r"9{3,}(\.9*)?")
"""What tables hold where there is no price, beside nothing, 0 and less."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that cannot be true.

    Attributes:
        row: Which one, by what names it.
        what: What is wrong, with the value.
    """

    row: str
    what: str

    def __str__(self) -> str:
        return f"{self.row}: {self.what}"


def check_offers(offers: Sequence[Offer], areas: Areas, *, today: date) -> list[Finding]:
    """What cannot be true of the single rows of one table, and of rows for the same machine."""
    found: list[Finding] = []
    for offer in offers:
        found += (Finding(named(offer), what) for what in _offer(offer, areas, today))
    counts = Counter((named(offer), offer.zone) for offer in offers)
    found += (Finding(name, f"is there {n} times") for (name, _), n in counts.items() if n > 1)
    return found


def check_market(offers: Sequence[Offer]) -> list[Finding]:
    """Spot prices that are above the price on demand of the same machine."""
    asked = {
        (o.cloud, o.region, o.instance_type): o.usd_per_hour
        for o in offers
        if o.market is Market.ON_DEMAND
    }
    return [
        Finding(named(o), f"spot at ${o.usd_per_hour:g} an hour, and on demand at ${listed:g}")
        for o in offers
        if o.market is Market.SPOT
        and (listed := asked.get((o.cloud, o.region, o.instance_type))) is not None
        and o.usd_per_hour > listed
    ]


def check_outliers(offers: Sequence[Offer]) -> list[Finding]:
    """Prices that are far from those of the same type, or of its family, in other regions."""
    types: dict[tuple[str, str, Market], list[Offer]] = defaultdict(list)
    for offer in offers:
        types[offer.cloud, offer.instance_type, offer.market].append(offer)
    found: list[Finding] = []
    over: dict[tuple[str, str, str], list[tuple[float, Offer]]] = defaultdict(list)
    for (cloud, _, market), sold in types.items():
        middle = median(o.usd_per_hour for o in sold)
        low, high = SPREAD[market]
        for offer in sold:
            ratio = offer.usd_per_hour / middle
            if not low <= ratio <= high:
                found.append(
                    Finding(
                        named(offer),
                        f"${offer.usd_per_hour:g} an hour is {ratio:.2f} times the ${middle:g} of"
                        f" the middle region",
                    )
                )
            elif market is Market.ON_DEMAND and len(sold) > 2:
                key = (cloud, family(offer.instance_type), offer.region)
                over[key].append((ratio, offer))
    for (_, kin, region), members in over.items():
        middle = median(ratio for ratio, _ in members)
        found += (
            Finding(
                named(offer),
                f"{ratio:.2f} times its middle price, while family {kin} is at {middle:.2f} times"
                f" in {region}",
            )
            for ratio, offer in members
            if not 1 / FAMILY_SPREAD <= ratio / middle <= FAMILY_SPREAD
        )
    return found


def check_egress(rates: Sequence[EgressRate], areas: Areas, *, today: date) -> list[Finding]:
    """What cannot be true of egress rates: gaps, rising tiers, units, dates, unknown places."""
    found: list[Finding] = []
    continents = set(areas.values())
    for rate in rates:
        row = f"{rate.cloud} {rate.scope} to {rate.to}"
        found += (Finding(row, what) for what in _tiers(rate))
        found += (Finding(row, what) for what in _dated(rate.as_of, today))
        known = {region for cloud, region in areas if cloud is rate.cloud} | continents
        if rate.to not in known and rate.to not in DESTINATIONS:
            found.append(Finding(row, f"'{rate.to}' is no destination"))
        for part in (part.strip() for part in rate.scope.split(",")):
            begins = part.endswith("*") and any(name.startswith(part[:-1]) for name in known)
            if part != ANYWHERE and part not in known and not begins:
                found.append(Finding(row, f"'{part}' is no region of {rate.cloud}"))
    counts = Counter((r.cloud, r.scope, r.to) for r in rates)
    found += (
        Finding(f"{cloud} {scope} to {to}", f"is there {n} times")
        for (cloud, scope, to), n in counts.items()
        if n > 1
    )
    return found


def check_requests(prices: Sequence[RequestPrice], *, today: date) -> list[Finding]:
    """What cannot be true of the prices of requests."""
    found: list[Finding] = []
    for price in prices:
        row = f"{price.cloud} {price.region} {price.operation} requests"
        if not 0 <= price.usd_per_1000 <= MAX_USD_PER_1000:
            found.append(Finding(row, f"${price.usd_per_1000:g} for 1,000"))
        found += (Finding(row, what) for what in _dated(price.as_of, today))
    return found


def named(offer: Offer) -> str:
    """What messages call ``offer``."""
    zone = f" {offer.zone}" if offer.zone else ""
    return f"{offer.cloud} {offer.region}{zone} {offer.instance_type} {offer.market}"


def family(instance_type: str) -> str:
    """The machines that ``instance_type`` is one size of.

    Examples:
        >>> family("g5.12xlarge"), family("g2-standard-4"), family("Standard_NC24ads_A100_v4")
        ('g5', 'g2-standard', 'NCads_A100_v4')
    """
    if instance_type.startswith("Standard_"):
        return re.sub(r"\d+", "", instance_type.removeprefix("Standard_"), count=1)
    if "." in instance_type:
        return instance_type.split(".")[0]
    return re.sub(r"-\d+g?$", "", instance_type)


def _offer(offer: Offer, areas: Areas, today: date) -> Iterator[str]:
    price = offer.usd_per_hour
    if not math.isfinite(price) or price <= 0 or SENTINEL.fullmatch(f"{price:g}"):
        yield f"${price:g} an hour stands for no price"
    elif price > MAX_USD_PER_HOUR:
        yield f"${price:g} an hour is above ${MAX_USD_PER_HOUR:g}"
    if (offer.cloud, offer.region) not in areas:
        yield f"'{offer.region}' is no region of {offer.cloud}"
    if not 1 <= offer.vcpus <= MAX_VCPUS:
        yield f"{offer.vcpus} vCPUs"
    else:
        low, high = MEMORY_GIB_PER_VCPU
        if not low <= offer.memory_gib / offer.vcpus <= high:
            yield f"{offer.memory_gib:g} GiB of memory for {offer.vcpus} vCPUs"
    if bool(offer.gpu) != bool(offer.gpus) or bool(offer.gpus) != bool(offer.gpu_memory_gib):
        yield (
            f"{offer.gpus} GPUs named '{offer.gpu}' with {offer.gpu_memory_gib:g} GiB each do not"
            " go together"
        )
    elif offer.gpus and offer.gpus not in GPU_COUNTS:
        yield f"{offer.gpus} GPUs: machines have {', '.join(map(str, GPU_COUNTS))}"
    elif offer.gpu_memory_gib > MAX_GPU_MEMORY_GIB:
        yield f"{offer.gpu_memory_gib:g} GiB in one GPU"
    yield from _dated(offer.as_of, today)


def _tiers(rate: EgressRate) -> Iterator[str]:
    if not rate.tiers:
        yield "has no tiers"
        return
    if rate.tiers[0].from_gb != 0:
        yield f"begins at {rate.tiers[0].from_gb:g} GB"
    if rate.tiers[-1].to_gb is not None:
        yield f"ends at {rate.tiers[-1].to_gb:g} GB"
    for tier, after in pairwise(rate.tiers):
        if tier.to_gb != after.from_gb or after.from_gb <= tier.from_gb:
            end = "nowhere" if tier.to_gb is None else f"{tier.to_gb:g}"
            yield (
                f"the tier from {tier.from_gb:g} ends at {end}, and the next begins at"
                f" {after.from_gb:g}"
            )
    prices = [tier.usd_per_gb for tier in rate.tiers]
    told = ", ".join(f"${price:g}" for price in prices)
    if any(not 0 <= price <= MAX_USD_PER_GB for price in prices):
        yield f"{told} per GB: prices lie between $0 and ${MAX_USD_PER_GB:g}"
    paid = prices[1:] if prices[0] == 0 else prices  # what comes first may be free
    if (0 in paid and len(prices) > 1) or any(a < b for a, b in pairwise(paid)):
        yield f"{told} per GB: after what is free, tiers are paid and fall"
    if rate.gb_bytes not in (10**9, BILLED_GB_BYTES):
        yield f"a GB of {rate.gb_bytes} bytes"


def _dated(as_of: date | None, today: date) -> Iterator[str]:
    if as_of is not None and as_of > today:
        yield f"its date {as_of} is in the future"
