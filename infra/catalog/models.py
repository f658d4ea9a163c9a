"""What clouds sell and what they ask for it: machines, moved bytes, requests. No I/O.

Every value says where it was read and when. Prices are in US dollars, without taxes and without
any discount that was not negotiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from headwater.infra.models import Cloud, Market

BILLED_GB_BYTES = 2**30
"""Bytes of the "GB" that all three clouds bill moved bytes by: they count in powers of two."""

Operation = Literal["read", "write", "list"]
"""Kinds of requests to an object store that have a price."""

Confidence = Literal["high", "medium", "low"]
"""``high``: the cloud's own page or price list, or two sources agree; ``medium``: one other
source; ``low``: one source that is years old or covers more places than it names."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine type in one place, as it is sold.

    Attributes:
        usd_per_hour: Of one machine with all its GPUs; billed per second by all three clouds.
        gpu: Name such as ``A10G``; empty without one.
        gpus: GPUs in one machine.
        gpu_memory_gib: Memory of one GPU that programs can use, as measured where that is known,
            else what its maker says.
        network_gbps: Gigabits per second that the machine is said to keep up; ``None`` is unknown.
        zone: Where the price holds; empty for all zones of the region.
        source: Where the price was read.
        as_of: When; ``None`` where the source does not say.
    """

    cloud: Cloud
    region: str
    instance_type: str
    market: Market
    usd_per_hour: float
    vcpus: int
    memory_gib: float
    gpu: str = ""
    gpus: int = 0
    gpu_memory_gib: float = 0.0
    network_gbps: float | None = None
    zone: str = ""
    source: str = ""
    as_of: date | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """One step of a price that depends on how much was moved in the month so far.

    Attributes:
        from_gb: Where it begins, counted from the first byte of the month in units of the rate's
            ``gb_bytes``; free bytes are counted as well.
        to_gb: Where it ends; ``None`` is nowhere.
    """

    from_gb: float
    to_gb: float | None
    usd_per_gb: float


@dataclass(frozen=True, slots=True)
class EgressRate:
    """What it costs to move bytes from one place to another; tiers begin at 0 without gaps.

    Attributes:
        scope: Where the bytes leave: a region, a group of regions, or ``any``.
        to: Kind of destination: ``same region``, ``same continent``, ``other continent``,
            ``other region``, ``internet`` (and with it other clouds), ``nat``, or one region or
            continent by name.
        gb_bytes: Bytes of one "GB" of the tiers.
    """

    cloud: Cloud
    scope: str
    to: str
    tiers: tuple[Tier, ...]
    source: str = ""
    as_of: date | None = None
    confidence: Confidence = "high"
    gb_bytes: int = BILLED_GB_BYTES


@dataclass(frozen=True, slots=True)
class RequestPrice:
    """What an object store asks for requests, in its standard storage class."""

    cloud: Cloud
    region: str
    operation: Operation
    usd_per_1000: float
    source: str = ""
    as_of: date | None = None
    confidence: Confidence = "high"
