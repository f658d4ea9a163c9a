"""The values that go into the planner and come out of it. No I/O.

Each amount of time or money is an estimate of two numbers: what is expected, and what one run in
ten exceeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from enum import StrEnum
from typing import Literal

from headwater.infra.catalog.models import Offer
from headwater.infra.models import Cloud, Market
from headwater.infra.planner.learning import NOTHING_LEARNED, Learned

Rework = Literal["elastic", "gang"]
"""What a lost machine costs: ``elastic`` only the part it had under way (Dask), ``gang`` all work
of all machines since the last checkpoint (training)."""

HERE = "this machine"


class Strategy(StrEnum):
    """How inputs that lie in several places come together."""

    GATHER = "gather"
    """All bytes go to one place."""
    FEDERATE = "federate"
    """Partial aggregates are made where each input is, and only those travel."""
    SCATTER = "scatter"
    """Each input is worked on alone where it is; the results travel."""
    SEMI_JOIN = "semi-join"
    """The keys of the small inputs go to the large one, and only its matches are read."""


RUNNABLE = frozenset({Strategy.GATHER})
"""Strategies that a run can follow; the others are priced, shown, and never first."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected (``p50``), and what one run in ten exceeds (``p90``)."""

    p50: float
    p90: float

    def __add__(self, other: Estimate) -> Estimate:
        """Both together; what is late is taken to be late together."""
        return Estimate(self.p50 + other.p50, self.p90 + other.p90)

    @classmethod
    def total(cls, parts: Iterable[Estimate]) -> Estimate:
        """The sum of ``parts``, exact."""
        both = list(parts)
        return cls(math.fsum(one.p50 for one in both), math.fsum(one.p90 for one in both))


NONE = Estimate(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class DataInput:
    """One input, and where its bytes are.

    Attributes:
        cloud: ``None`` is this machine.
        regions: One, or all of a bucket that lies in several; empty on this machine.
        objects: How many objects hold it.
    """

    uri: str
    cloud: Cloud | None
    regions: frozenset[str]
    size_bytes: int
    objects: int = 1


@dataclass(frozen=True, slots=True)
class Output:
    """Where the result is written.

    Attributes:
        cloud: ``None`` is this machine, or no place yet where ``follows``.
        follows: No place was asked for: the result stays in the region that the work runs in.
    """

    uri: str = ""
    cloud: Cloud | None = None
    regions: frozenset[str] = frozenset()
    follows: bool = False

    @property
    def place(self) -> str:
        """Where it was asked for; empty where it follows the work."""
        if self.follows:
            return ""
        return HERE if self.cloud is None else f"{self.cloud} {', '.join(sorted(self.regions))}"


@dataclass(frozen=True, slots=True)
class Copying:
    """Bytes that are copied to another place before the work reads them there.

    Attributes:
        source: What is copied, and where it is; not what is there already.
        target: Where to.
        by_store: One store copies by itself; else the bytes pass the machines that work.
    """

    source: DataInput
    target: Output
    by_store: bool = False


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One more table, made from the one that the work writes, on the same machines.

    It is written beside that one.

    Attributes:
        learned: Of its own job.
    """

    learned: Learned = NOTHING_LEARNED


@dataclass(frozen=True, slots=True)
class Needs:
    """What the work needs of its machines, all together where nothing else is said.

    Attributes:
        gpus: 0 works without.
        gpu_names: Models that will do; empty takes any.
        gpu_memory_gib: That each GPU must have, as it reports it.
        disk_gib: Of each machine. The default holds the system, the container and spilled parts.
    """

    gpus: int = 0
    gpu_names: tuple[str, ...] = ()
    gpu_memory_gib: float = 0.0
    vcpus: int = 8
    memory_gib: float = 32.0
    disk_gib: float = 100.0


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of the work itself.

    Attributes:
        unit_hours: Hours that one GPU (one vCPU where no GPU is needed) takes for all of it;
            ``None`` follows from the bytes and what is known of the speed. Where a flip is looked
            for they grow with the inputs.
        output_ratio: Bytes written for each byte of the inputs; ``None`` is learned or a prior.
        partial_ratio: Bytes of the partial aggregates for each byte of an input.
        match_ratio: Part of the large input that the keys of the small ones match.
        strategies: What the job declares that it can do beside ``gather``.
    """

    rework: Rework = "elastic"
    unit_hours: float | None = None
    output_ratio: float | None = None
    partial_ratio: float = 0.01
    match_ratio: float = 0.1
    strategies: frozenset[Strategy] = frozenset()


@dataclass(frozen=True, slots=True)
class Here:
    """This machine, where it may do the work: nothing is billed but bytes that leave a cloud.

    Attributes:
        gpu: Name of its GPUs; empty without one.
        gbps: Of its way to the clouds.
    """

    vcpus: int
    gpus: int = 0
    gpu: str = ""
    gbps: float = 1.0


@dataclass(frozen=True, slots=True)
class MonthToDate:
    """Bytes that left a cloud since the month began.

    Attributes:
        to: Kind of destination, as ``EgressRate.to``.
    """

    cloud: Cloud
    to: str
    moved_bytes: float


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """All that a plan depends on beside the prices and the rules.

    Attributes:
        endpoints: Whether machines in a cloud reach its object store without the NAT; ``None``
            or a missing cloud is unknown, which is priced as yes and warned of.
        here: This machine where the profile runs there; ``None`` is never a candidate.
        copies: What is copied first, so that the inputs are where they say.
        then: Tables that are made from the result; each counts as far as bytes decide, so not
            where the hours of the work were given.
        today: For the age of prices.
    """

    inputs: tuple[DataInput, ...]
    output: Output
    today: date
    needs: Needs = Needs()
    work: Work = Work()
    endpoints: Mapping[Cloud, bool | None] = field(default_factory=dict)
    here: Here | None = None
    month_to_date: tuple[MonthToDate, ...] = ()
    learned: Learned = NOTHING_LEARNED
    copies: tuple[Copying, ...] = ()
    then: tuple[FollowUp, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all inputs."""
        return sum(one.size_bytes for one in self.inputs)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds by phase; ``rework`` is what lost spot machines add."""

    start: Estimate = NONE
    read: Estimate = NONE
    compute: Estimate = NONE
    write: Estimate = NONE
    rework: Estimate = NONE

    @property
    def total(self) -> Estimate:
        """From the order of the machines to the last byte written."""
        return Estimate.total(getattr(self, one.name) for one in fields(self))


@dataclass(frozen=True, slots=True)
class Costs:
    """US dollars by what they are paid for.

    Attributes:
        compute: Workers and the scheduler, as long as they are billed.
        rework: What lost spot machines add to that.
        egress: Bytes that leave a region, of inputs and output.
        nat: Bytes that pass a NAT gateway.
    """

    compute: Estimate = NONE
    rework: Estimate = NONE
    disks: Estimate = NONE
    egress: Estimate = NONE
    requests: Estimate = NONE
    nat: Estimate = NONE

    @property
    def total(self) -> Estimate:
        """All of it."""
        return Estimate.total(getattr(self, one.name) for one in fields(self))


@dataclass(frozen=True, slots=True)
class Machines:
    """Machines of one type in one place.

    Attributes:
        scheduler: The small machine beside them, always on demand.
    """

    offer: Offer
    nodes: int
    scheduler: Offer

    @property
    def usd_per_hour(self) -> float:
        """Of all of them, with the scheduler."""
        return self.nodes * self.offer.usd_per_hour + self.scheduler.usd_per_hour

    @property
    def place(self) -> str:
        """Cloud and region."""
        return f"{self.offer.cloud} {self.offer.region}"


@dataclass(frozen=True, slots=True)
class PlacementCandidate:
    """One way to run the work.

    Attributes:
        machines: In each place that works; none is this machine.
        output_place: Where the result will be.
        moved: Bytes that leave a region.
        runnable: Whether a run can follow it today.
        note: Why not, or what is odd about it.
    """

    strategy: Strategy
    machines: tuple[Machines, ...]
    seconds: Times
    usd: Costs
    output_place: str
    moved: tuple[MonthToDate, ...] = ()
    runnable: bool = True
    note: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is this machine."""
        return not self.machines

    @property
    def where(self) -> str:
        """Its places, for people."""
        return " + ".join(dict.fromkeys(one.place for one in self.machines)) or HERE

    @property
    def market(self) -> str:
        """How its machines are sold."""
        kinds = {one.offer.market for one in self.machines}
        return Market.SPOT.value if kinds == {Market.SPOT} else " + ".join(sorted(kinds)) or "free"


@dataclass(frozen=True, slots=True)
class Denial:
    """Offers that a rule keeps out.

    Attributes:
        where: What they have in common, for people.
        rule: Name of the rule.
        source: File that says it; empty where it was not read from one.
        detail: Figures, where the rule is a limit.
        offers: How many.
    """

    where: str
    rule: str
    source: str = ""
    detail: str = ""
    offers: int = 0


@dataclass(frozen=True, slots=True)
class Flip:
    """Where the place changes as the inputs grow or shrink, all by one factor.

    Attributes:
        size_bytes: Of all inputs together.
        to: The place beyond it; empty where no place is allowed there.
    """

    direction: Literal["above", "below"]
    size_bytes: float
    to: str


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """Where the work should run, what it will cost and take, and why not elsewhere.

    Attributes:
        candidates: The best, ranked; the first is what runs.
        considered: Offers that were priced.
        unfit: Offers that lack what the work needs.
        why: Why the first won.
        oldest_price: Of those in the candidates; ``newest_price`` likewise.
        undated: Candidates whose price has no date.
        low_confidence: No run like this one is known, so times are priors.
    """

    candidates: tuple[PlacementCandidate, ...]
    denied: tuple[Denial, ...]
    considered: int
    unfit: int
    why: str
    flips: tuple[Flip, ...] = ()
    oldest_price: date | None = None
    newest_price: date | None = None
    undated: int = 0
    warnings: tuple[str, ...] = ()
    low_confidence: bool = True
    size_bytes: int = 0

    @property
    def first(self) -> PlacementCandidate:
        """What runs."""
        return self.candidates[0]
