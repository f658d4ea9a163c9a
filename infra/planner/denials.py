"""Which offers the rules keep out, and which rule it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import Market
from headwater.infra.planner.costs import Money, Rows
from headwater.infra.planner.models import Denial, PlanRequest
from headwater.infra.planner.offers import UNDATED, Flags, Ints, OfferTable, Schedulers
from headwater.infra.planner.sites import Sites
from headwater.infra.policies import Cited, Residence, Rule, Rules
from headwater.infra.regions import HERE

PLACES_NAMED = 3
"""Places of a denial that are named; more are counted."""

UNKNOWN_PRICE = "a price is not recorded, and none is guessed"
NO_SCHEDULER = "no machine on demand that may be used, for the scheduler"
NEVER_ENDS = "spot machines of its kind are taken back faster than the work can be kept"


@dataclass(slots=True)
class Denials:
    """Denials as they are found; an offer is denied once, by the first rule against it."""

    table: OfferTable
    allowed: Flags
    found: list[Denial] = field(default_factory=list)

    def deny(self, which: Flags, rule: str, source: str = "", detail: str = "") -> None:
        """Keep out those of ``which`` that were allowed so far."""
        hit = which & self.allowed
        count = int(hit.sum())
        if count:
            self.allowed &= ~hit
            self.found.append(Denial(self._where(hit), rule, source, detail, count))

    def deny_by(self, which: Flags, rule: Cited, detail: str = "") -> None:
        """The same, by a rule that is cited."""
        self.deny(which, rule.name, rule.source, detail)

    def _where(self, hit: Flags) -> str:
        """What the offers have in common: their places, and type or market where it is one."""
        sites = [self.table.sites[i] for i in _codes_in(self.table.site[hit])]
        types = _codes_in(self.table.type[hit])
        spot_only = bool(self.table.is_spot[hit].all())
        if len(sites) <= PLACES_NAMED:
            places = ", ".join(f"{cloud} {region}" for cloud, region in sites)
        else:
            clouds = ", ".join(dict.fromkeys(cloud.value for cloud, _ in sites))
            places = f"{clouds}: {len(sites)} regions"
        kind = self.table.types[types[0]] if len(types) == 1 else ""
        market = Market.SPOT.value if spot_only else ""
        return " ".join(part for part in (places, kind, market) if part)


def schedulers_of(request: PlanRequest, rules: Rules, table: OfferTable) -> Schedulers:
    """The schedulers that the rules on types and on the age of prices leave.

    They are on demand whatever is said of spot: a graph that is lost with its machine is all lost.
    """
    if not rules.instance_families and rules.max_price_age_days is None:
        return table.schedulers
    types = [rules.denies_type(name) is None for name in table.types]
    usable = np.array(types, bool)[table.type]
    if rules.max_price_age_days is not None:
        usable &= table.day >= _oldest_day(request, rules.max_price_age_days)
    return table.schedulers_among(usable)


def deny_before_pricing(
    denials: Denials, request: PlanRequest, rules: Rules, sites: Sites, schedulers: Schedulers
) -> None:
    """Apply what does not depend on money: places, machines, markets, and the age of prices.

    Raises:
        InvalidRequest: The output lies where its inputs' data may not be.
    """
    table = denials.table
    residency = rules.residency_of([one.uri for one in request.inputs])
    _require_allowed_output(request, residency)
    if request.output.uri:
        residency = tuple(dict.fromkeys((*residency, *rules.residency_of([request.output.uri]))))
    if rules.clouds or rules.regions or residency:
        _by_code(
            denials,
            table.site,
            len(table.sites),
            lambda i: rules.denies_place(*table.sites[i], residency),
        )
    if rules.instance_families:
        _by_code(denials, table.type, len(table.types), lambda i: rules.denies_type(table.types[i]))
    for market, which in ((Market.SPOT, table.is_spot), (Market.ON_DEMAND, ~table.is_spot)):
        if (rule := rules.denies_market(market)) is not None:
            denials.deny_by(which, rule)
    if (age := rules.max_price_age_days) is not None:
        oldest = _oldest_day(request, age)
        denials.deny_by(table.day == UNDATED, age, "the price has no date")
        denials.deny_by(table.day < oldest, age, "the price is older")
    if (gpus := rules.gpus) is not None and request.needs.gpus > gpus.value:
        denials.deny_by(table.gpus > 0, gpus, f"the work needs {request.needs.gpus}")
    if sites.unknown:
        first = next(iter(sites.unknown.values()))
        unknown = np.isin(table.site, list(sites.unknown))
        denials.deny(unknown, UNKNOWN_PRICE, detail=f"{first.message}: {first.hint}")
    denials.deny(np.isnan(schedulers.usd)[table.site], NO_SCHEDULER)


def deny_by_limits(denials: Denials, rules: Rules, rows: Rows, priced: Money) -> None:
    """Apply the limits on machines and money to what was priced."""
    table = denials.table
    for which, rule, detail in over_limits(rules, table, rows, priced):
        hit = np.zeros(len(table.offers), bool)
        hit[rows.index[which]] = True
        if rule is None:
            denials.deny(hit, detail)
        else:
            denials.deny_by(hit, rule, detail)


def over_limits(
    rules: Rules, table: OfferTable, rows: Rows, priced: Money
) -> list[tuple[Flags, Cited | None, str]]:
    """For each limit the rows beyond it, and the least that they would take."""
    found: list[tuple[Flags, Cited | None, str]] = []
    never = ~np.isfinite(priced.usd)
    if never.any():
        found.append((never, None, NEVER_ENDS))
    for rule, values, what in (
        (rules.gpus, rows.nodes * table.gpus[rows.index], "{:.0f} GPUs"),
        (rules.usd_per_hour, rows.usd, "${:,.2f} per hour"),
        (rules.egress_usd, priced.egress_usd, "${:,.2f} of egress"),
        (rules.usd_per_run, priced.usd, "${:,.2f}"),
    ):
        if rule is not None:
            over = values > rule.value
            if over.any():
                least = what.format(values[over].min())
                found.append((over, rule, f"at least {least}"))
    return found


def _oldest_day(request: PlanRequest, age: Rule[float]) -> float:
    return request.today.toordinal() - age.value


def _codes_in(codes: Ints) -> list[int]:
    """The codes that occur, each once; faster than sorting them."""
    return [int(code) for code in np.flatnonzero(np.bincount(codes))]


def _by_code(
    denials: Denials, codes: Ints, count: int, rule_of: Callable[[int], Cited | None]
) -> None:
    """Ask once for each code, and deny what one rule says together."""
    said: dict[Cited, list[int]] = {}
    for code in range(count):
        if (rule := rule_of(code)) is not None:
            said.setdefault(rule, []).append(code)
    for rule, denied in said.items():
        hit = np.zeros(count, bool)
        hit[denied] = True
        denials.deny_by(hit[codes], rule)


def _require_allowed_output(request: PlanRequest, residency: tuple[Rule[Residence], ...]) -> None:
    output = request.output
    if output.follows:
        return
    for rule in residency:
        places = output.regions if output.cloud is not None else frozenset({HERE})
        outside = sorted(places - rule.value.places)
        if outside:
            raise InvalidRequest(
                f"the output {output.uri} would be in {', '.join(outside)}, and {rule} keeps it"
                " elsewhere",
                hint=f"write to one of: {', '.join(sorted(rule.value.places))}",
            )
