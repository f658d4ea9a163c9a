"""What is allowed: clouds, regions, machines, money, and where data may be. No I/O.

Several policies and the cluster profile hold together: each can only narrow what the others
leave. Each rule keeps the name and the file that a denial cites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import Cloud, Market
from headwater.infra.regions import REGIONS, regions_named
from headwater.infra.storage.uris import Uri

POLICY_VERSION = 1
"""Format of the files; newer ones are refused by name."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Number = TypeVar("Number", int, float)


class Spot(StrEnum):
    """What is said of machines that their cloud may take back."""

    ALLOW = "allow"
    REQUIRE = "require"
    FORBID = "forbid"


class Frozen(BaseModel):
    """A value from outside: unknown keys are refused, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(Frozen):
    """The ``[limits]`` table; what is not said is not limited."""

    usd_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Price of all machines together."
    )
    usd_per_run: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="All that one run costs, by its plan."
    )
    egress_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="What bytes that leave a region may cost in one run; 0 keeps them there.",
    )
    gpus: int | None = Field(default=None, ge=0, description="GPUs of all machines together.")


class Residency(Frozen):
    """One ``[[residency]]`` table: where data of a prefix may be.

    It holds for what computes on the data, and for the output, spill, checkpoints and logs of
    such a run. Of several inputs only the regions that all of them allow remain.
    """

    name: str = Field(default="", description="What a denial cites; by default the prefix.")
    prefix: str = Field(description="Address of a bucket, or of a folder in one.")
    regions: tuple[str, ...] = Field(
        min_length=1, description="Names of regions; '*' stands for any text."
    )

    @field_validator("prefix")
    @classmethod
    def _is_in_a_bucket(cls, prefix: str) -> str:
        if Uri.parse(prefix).is_local:
            raise ValueError("residency is for buckets, and this is a file of one machine")
        return prefix


class Allowed(Frozen):
    """What a policy and a cluster profile may both say; what is not said is allowed."""

    clouds: tuple[Cloud, ...] | None = Field(
        default=None, min_length=1, description="Clouds that may be used."
    )
    regions: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Regions that may be used, of whichever cloud; '*' stands for any text.",
    )
    instance_families: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Families of machines: 'g6' (not g6e), 'a2-highgpu', 'Standard_NC*'.",
    )
    spot: Spot = Field(
        default=Spot.ALLOW,
        description="'allow' takes what is cheapest, 'require' only spot, 'forbid' none.",
    )
    max_price_age_days: float | None = Field(
        default=None, ge=0, description="Older prices are refused."
    )
    limits: Limits = Limits()


class Policy(Allowed):
    """One validated policy, and where it came from."""

    version: int = POLICY_VERSION
    name: str = Field(default="", description="What a denial cites; by default the file's name.")
    description: str = ""
    residency: tuple[Residency, ...] = ()
    source: str = Field(default="", description="File that it was read from.")
    kind: str = Field(default="policy", description="What messages call it.")
    origins: dict[str, str] = Field(
        default_factory=dict, description="Files of values that came from others, by their keys."
    )

    @property
    def label(self) -> str:
        """What messages call it, with its name."""
        return f"{self.kind} '{self.name}'" if self.name else f"a {self.kind}"

    def source_of(self, key: str) -> str:
        """File that says what is under the dotted ``key``."""
        return self.origins.get(key, self.source)


@dataclass(frozen=True, slots=True)
class Cited:
    """What a denial cites.

    Attributes:
        name: Which rule of which policy: ``limits.gpus = 8 of policy 'team'``.
        source: File that says it; empty where it was not read from one.
    """

    name: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source})" if self.source else self.name


@dataclass(frozen=True, slots=True)
class Rule(Cited, Generic[T_co]):
    """One thing that one policy says."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Residence:
    """Where the data below ``prefix`` may be."""

    prefix: Uri
    regions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """All that holds, from every policy and the cluster profile together.

    Of what is a list, every rule must allow a candidate. Of limits the tightest is here, and of
    ``spot`` one that requires or forbids; ``None`` is no limit.
    """

    clouds: tuple[Rule[frozenset[Cloud]], ...] = ()
    regions: tuple[Rule[frozenset[str]], ...] = ()
    instance_families: tuple[Rule[tuple[str, ...]], ...] = ()
    residency: tuple[Rule[Residence], ...] = ()
    spot: Rule[Spot] | None = None
    max_price_age_days: Rule[float] | None = None
    usd_per_hour: Rule[float] | None = None
    usd_per_run: Rule[float] | None = None
    egress_usd: Rule[float] | None = None
    gpus: Rule[int] | None = None

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> Self:
        """What ``policies`` say together, in whichever order.

        Raises:
            UnknownName: One names a region that does not exist.
            InvalidRequest: Two rules leave nothing; both are named, with their files.
        """
        rules = cls(
            clouds=_said(policies, "clouds", _clouds),
            regions=_said(policies, "regions", _regions),
            instance_families=_said(policies, "instance_families", lambda p: p.instance_families),
            residency=tuple(rule for policy in policies for rule in _residences(policy)),
            spot=_spot(policies),
            max_price_age_days=_least(
                policies, "max_price_age_days", lambda p: p.max_price_age_days
            ),
            usd_per_hour=_least(policies, "limits.usd_per_hour", lambda p: p.limits.usd_per_hour),
            usd_per_run=_least(policies, "limits.usd_per_run", lambda p: p.limits.usd_per_run),
            egress_usd=_least(policies, "limits.egress_usd", lambda p: p.limits.egress_usd),
            gpus=_least(policies, "limits.gpus", lambda p: p.limits.gpus),
        )
        rules._require_some_place()
        return rules

    @property
    def every(self) -> tuple[Rule[object], ...]:
        """All of them, in the order of the attributes."""
        single = (
            self.spot,
            self.max_price_age_days,
            self.usd_per_hour,
            self.usd_per_run,
            self.egress_usd,
            self.gpus,
        )
        return (
            *self.clouds,
            *self.regions,
            *self.instance_families,
            *self.residency,
            *(rule for rule in single if rule),
        )

    def denies_place(
        self, cloud: Cloud, region: str, residency: Iterable[Rule[Residence]] = ()
    ) -> Cited | None:
        """The rule that keeps work out of this region; ``None`` where none does.

        Args:
            residency: Rules of the data at hand, from ``residency_of``.
        """
        for clouds in self.clouds:
            if cloud not in clouds.value:
                return clouds
        for regions in self.regions:
            if region not in regions.value:
                return regions
        for residence in residency:
            if region not in residence.value.regions:
                return residence
        return None

    def denies_type(self, instance_type: str) -> Cited | None:
        """The rule that does not allow this type of machine; ``None`` where all do."""
        for rule in self.instance_families:
            if not any(in_family(instance_type, family) for family in rule.value):
                return rule
        return None

    def denies_market(self, market: Market) -> Cited | None:
        """The rule that does not allow this market; ``None`` where none is against it."""
        wanted = {Spot.REQUIRE: Market.SPOT, Spot.FORBID: Market.ON_DEMAND}
        rule = self.spot
        return rule if rule and wanted.get(rule.value, market) is not market else None

    def residency_of(self, uris: Iterable[str]) -> tuple[Rule[Residence], ...]:
        """Every rule on where data of ``uris`` may be.

        A rule holds for an address below its prefix, and for a folder or pattern that takes in
        data below it.

        Raises:
            InvalidRequest: Two inputs leave no region that both may be in; both are named.
        """
        found: dict[Rule[Residence], str] = {}
        for text in uris:
            uri = Uri.parse(text)
            root = uri.glob_root or uri
            for rule in self.residency:
                prefix = rule.value.prefix
                if prefix.contains(root) or root.contains(prefix):
                    found.setdefault(rule, text)
        left = _nothing_left([(rule, rule.value.regions) for rule in found])
        if left:
            said = "; ".join(f"{found[rule]}: {rule}" for rule in found if rule in left)
            raise InvalidRequest(
                f"no region may hold the data of all inputs: {said}",
                hint="read them in runs of their own, or have a rule changed",
            )
        return tuple(found)

    def _require_some_place(self) -> None:
        """Refuse rules that leave nothing, whatever is asked for."""
        places: list[tuple[Cited, frozenset[str]]] = [
            *((r, _of_clouds(r.value)) for r in self.clouds),
            *((r, r.value) for r in self.regions),
        ]
        _require_common(places)
        for inner in self.residency:
            around = [r for r in self.residency if r.value.prefix.contains(inner.value.prefix)]
            _require_common([*((r, r.value.regions) for r in around), *places])


def in_family(instance_type: str, family: str) -> bool:
    """Whether ``instance_type`` is of ``family``.

    A family is the beginning of a name, up to a mark between words; or a pattern with ``*`` for
    the whole name.

    Examples:
        >>> in_family("g6.xlarge", "g6"), in_family("g6e.xlarge", "g6")
        (True, False)
        >>> in_family("a2-highgpu-1g", "a2"), in_family("Standard_NC24ads_A100_v4", "standard_nc*")
        (True, True)
    """
    name, wanted = instance_type.lower(), family.lower()
    if "*" in wanted:
        return fnmatchcase(name, wanted)
    return name.startswith(wanted) and not name[len(wanted) : len(wanted) + 1].isalnum()


def _said(
    policies: Sequence[Policy], key: str, value: Callable[[Policy], T | None]
) -> tuple[Rule[T], ...]:
    """What each policy says under ``key``; those that say nothing are left out."""
    said = ((policy, value(policy)) for policy in policies)
    return tuple(
        Rule(f"{key} of {policy.label}", policy.source_of(key), found)
        for policy, found in said
        if found is not None
    )


def _clouds(policy: Policy) -> frozenset[Cloud] | None:
    return None if policy.clouds is None else frozenset(policy.clouds)


def _regions(policy: Policy) -> frozenset[str] | None:
    if policy.regions is None:
        return None
    return regions_named(policy.regions, where=_place(policy, "regions"))


def _residences(policy: Policy) -> Iterable[Rule[Residence]]:
    for rule in policy.residency:
        where = _place(policy, f"residency '{rule.name or rule.prefix}'")
        regions = regions_named(rule.regions, where=where)
        name = f"residency '{rule.name or rule.prefix}' of {policy.label}"
        yield Rule(name, policy.source, Residence(Uri.parse(rule.prefix), regions))


def _place(policy: Policy, key: str) -> str:
    return str(Cited(f"{key} of {policy.label}", policy.source_of(key)))


def _spot(policies: Sequence[Policy]) -> Rule[Spot] | None:
    strict: list[Rule[Spot]] = [
        Rule(f"spot = '{policy.spot}' of {policy.label}", policy.source_of("spot"), policy.spot)
        for policy in policies
        if policy.spot is not Spot.ALLOW
    ]
    for rule in strict[1:]:
        if rule.value is not strict[0].value:
            raise contradiction("machine", (strict[0], rule))
    return strict[0] if strict else None


def _least(
    policies: Sequence[Policy], key: str, value: Callable[[Policy], Number | None]
) -> Rule[Number] | None:
    """The tightest limit that any policy sets, and which one it is."""
    found: list[Rule[Number]] = [
        Rule(f"{key} = {limit:g} of {policy.label}", policy.source_of(key), limit)
        for policy in policies
        if (limit := value(policy)) is not None
    ]
    return min(found, key=lambda rule: rule.value, default=None)


def _of_clouds(clouds: Iterable[Cloud]) -> frozenset[str]:
    return frozenset[str]().union(*(REGIONS[cloud] for cloud in clouds))


def _require_common(places: Sequence[tuple[Cited, frozenset[str]]]) -> None:
    """Refuse rules that leave no region together."""
    if left := _nothing_left(places):
        raise contradiction("region", left)


def _nothing_left(places: Sequence[tuple[Cited, frozenset[str]]]) -> tuple[Cited, ...]:
    """The fewest of the rules that leave no region together; none where all leave one."""
    for first, second in combinations(places, 2):
        if not first[1] & second[1]:
            return first[0], second[0]
    if places and not frozenset.intersection(*(regions for _, regions in places)):
        return tuple(rule for rule, _ in places)
    return ()


def contradiction(what: str, rules: Sequence[Cited]) -> InvalidRequest:
    """The error that says that ``rules`` leave no ``what`` together."""
    return InvalidRequest(
        f"no {what} is left by {' and '.join(str(rule) for rule in rules)} together",
        hint="have one of them changed",
    )
