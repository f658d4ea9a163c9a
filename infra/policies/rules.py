"""What several policies and a cluster profile leave together; each rule keeps what it is cited by.

Each can only narrow what the others leave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Generic, Self, TypeVar

from fsspec.utils import glob_translate

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import Cloud, Market
from headwater.infra.policies.models import Policy, Spot
from headwater.infra.regions import HERE, REGIONS, regions_named
from headwater.infra.storage.uris import Uri

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Number = TypeVar("Number", int, float)


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
    """Where the data below ``prefix`` may be.

    Attributes:
        here: Also on this machine and in its network.
    """

    prefix: Uri
    regions: frozenset[str]
    here: bool = False

    @property
    def places(self) -> frozenset[str]:
        """The regions, and ``HERE`` where that is one of the places."""
        return self.regions | {HERE} if self.here else self.regions


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

    def denies_here(self, residency: Iterable[Rule[Residence]]) -> Cited | None:
        """The rule that keeps data off this machine, which is in no region; ``None`` if none.

        Args:
            residency: Rules of the data at hand, from ``residency_of``.
        """
        return next((rule for rule in residency if not rule.value.here), None)

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
            for rule in self.residency:
                if takes_in(uri, rule.value.prefix):
                    found.setdefault(rule, text)
        left = _nothing_left([(rule, rule.value.places) for rule in found])
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
            _require_common([(r, r.value.places) for r in around])
            if not any(r.value.here for r in around):
                _require_common([*((r, r.value.places) for r in around), *places])


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


def takes_in(uri: Uri, prefix: Uri) -> bool:
    """Whether data at ``uri``, a file, folder or pattern, may be below ``prefix``.

    Examples:
        >>> prefix = Uri.parse("s3://lake/patients/raw")
        >>> [takes_in(Uri.parse(f"s3://lake/{key}"), prefix) for key in ("", "*/raw/x", "pat*/**")]
        [True, True, True]
        >>> [takes_in(Uri.parse(f"s3://lake/{key}"), prefix) for key in ("trips-*/raw", "*/new/*")]
        [False, False]
    """
    root = uri.glob_root
    if root is None:
        return prefix.contains(uri) or uri.contains(prefix)
    if not (prefix.contains(root) or root.contains(prefix)):
        return False
    for wanted, step in zip(uri.key.split("/"), prefix.key.rstrip("/").split("/"), strict=False):
        if "**" in wanted:
            return True
        if not re.match(glob_translate(wanted), step):
            return False
    return True


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
        regions = regions_named((r for r in rule.regions if r.lower() != HERE), where=where)
        name = f"residency '{rule.name or rule.prefix}' of {policy.label}"
        yield Rule(
            name,
            policy.source,
            Residence(Uri.parse(rule.prefix), regions, HERE in map(str.lower, rule.regions)),
        )


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
