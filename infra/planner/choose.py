"""The choice among priced offers: exhaustive, exact, and slow to leave the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from headwater.infra.catalog.models import Offer
from headwater.infra.planner.costs import Money, Priced, Rows, node_counts, price, rows_of
from headwater.infra.planner.denials import (
    Denials,
    deny_before_pricing,
    deny_by_limits,
    over_limits,
    schedulers_of,
)
from headwater.infra.planner.models import (
    Costs,
    Estimate,
    Machines,
    PlacementCandidate,
    PlanRequest,
    Strategy,
    Times,
)
from headwater.infra.planner.offers import Flags, Floats, Ints, OfferTable, Site
from headwater.infra.planner.sites import Sites, home_sites
from headwater.infra.planner.times import exceeded, expected
from headwater.infra.policies import Rules

LEAST_SAVING_SHARE = 0.10
LEAST_SAVING_USD = 1.0
"""The work leaves the data only where that saves more than both: less is within the error of the
figures, and moved data is a copy that somebody has to look after."""

KEPT = 20
"""Candidates of a plan; a cluster walks them where a cloud has no machine."""

KEPT_SITES = 10
"""Other places that a plan shows with their best offer, beyond those."""


class Gather:
    """Every offer priced for one request, with all bytes brought to its place.

    Args:
        only: Places that are considered; all by default.

    Attributes:
        denials: What the rules keep out.
        unfit: Offers that lack what the work needs.
        priced: What is expected, of ``rows``.
    """

    def __init__(
        self,
        request: PlanRequest,
        table: OfferTable,
        rules: Rules,
        only: frozenset[Site] | None = None,
    ) -> None:
        self.request, self.table, self.rules = request, table, rules
        self.sites = Sites(request, table, only)
        nodes, fits = node_counts(request, table)
        if only is not None:
            wanted = np.array([site in only for site in table.sites], bool)
            fits = fits & wanted[table.site]
        self.unfit = int(len(fits) - fits.sum())
        self.denials = Denials(table, fits.copy())
        self.schedulers = schedulers_of(request, rules, table)
        deny_before_pricing(self.denials, request, rules, self.sites, self.schedulers)
        index = np.flatnonzero(self.denials.allowed)
        self.rows = rows_of(request, table, index, nodes, self.schedulers.usd)
        homes = home_sites(request)
        is_home = np.array([site in homes for site in table.sites], bool)
        self.at_home: Flags = is_home[self.rows.site]
        self._has_home = bool(self.at_home.any())
        self.assume = expected(request)
        self.priced = self._price(self.rows, 1.0)
        deny_by_limits(self.denials, rules, self.rows, self.priced)
        self.allowed: Flags = self.denials.allowed[index]

    def chosen(self) -> int | None:
        """Row of the offer that wins; ``None`` where none is allowed."""
        return self._choose(self.priced, self.allowed)

    def place_at(self, scale: float) -> Site | None:
        """The place that wins where all inputs are ``scale`` times their size."""
        money = self._money(scale)
        allowed = np.ones(len(self.rows.index), bool)
        for over, _, _ in over_limits(self.rules, self.table, self.rows, money):
            allowed &= ~over
        row = self._choose(money, allowed)
        return None if row is None else self.site_of(row)

    def site_of(self, row: int) -> Site:
        """Place of a row."""
        return self.table.sites[self.rows.site[row]]

    def best(self, among: Flags) -> int | None:
        """The cheapest allowed row of ``among``."""
        return self._cheapest(self.priced, self.allowed & among)

    def ranked(self) -> list[int]:
        """Rows worth keeping: the chosen one, then by cost."""
        first = self.chosen()
        if first is None:
            return []
        rows = np.flatnonzero(self.allowed)
        usd = self.priced.usd[rows]
        if len(rows) > KEPT:
            bound = np.partition(usd, KEPT - 1)[KEPT - 1]
            near = rows[usd <= bound]
        else:
            near = rows
        kept = sorted(near.tolist(), key=self._order)[:KEPT]
        kept += self._best_of_other_sites(rows, {int(self.rows.site[row]) for row in kept})
        return [first, *(row for row in kept if row != first)]

    def candidates(self, rows: Sequence[int]) -> list[PlacementCandidate]:
        """What ``rows`` cost and take, in their order."""
        subset = _take(self.rows, np.array(rows, np.int64))
        high = price(
            self.request,
            self.table,
            self.sites,
            subset,
            exceeded(self.request),
        )
        return [self._candidate(row, i, high) for i, row in enumerate(rows)]

    def _money(self, scale: float) -> Money:
        """What ``_price`` would say of another size, without its parts.

        Of elastic work every phase grows with the size of the inputs, so two sizes give all.
        """
        if self.request.work.rework == "gang":
            return self._price(self.rows, scale)
        rows, at = self.rows, self.sites.money(self.assume, scale)
        seconds = self._seconds_of_nothing + self._seconds_of_size * scale
        of_site = at.egress + at.nat + at.requests
        usd = self._usd_per_second * np.maximum(seconds, rows.least) + of_site[rows.site]
        return Money(seconds, at.egress[rows.site], usd)

    @cached_property
    def _seconds_of_nothing(self) -> Floats:
        return self._price(self.rows, 0.0).seconds

    @cached_property
    def _seconds_of_size(self) -> Floats:
        return self.priced.seconds - self._seconds_of_nothing

    @cached_property
    def _usd_per_second(self) -> Floats:
        return (self.rows.usd + self.rows.disks) / 3600

    def _price(self, rows: Rows, scale: float) -> Priced:
        return price(self.request, self.table, self.sites, rows, self.assume, scale)

    def _choose(self, priced: Money, allowed: Flags) -> int | None:
        best = self._cheapest(priced, allowed)
        home = self._cheapest(priced, allowed & self.at_home) if self._has_home else None
        if best is None or home is None:
            return best
        return best if is_worth_moving(priced.usd[home], priced.usd[best]) else home

    def _cheapest(self, priced: Money, allowed: Flags) -> int | None:
        """The least that is paid, then the shortest, then by name: one answer in any order."""
        if not allowed.any():
            return None
        usd = np.where(allowed, priced.usd, np.inf)
        ties = np.flatnonzero(usd == usd.min())
        if len(ties) > 1:
            seconds = priced.seconds[ties]
            ties = ties[seconds == seconds.min()]
        return int(min(ties.tolist(), key=self._name) if len(ties) > 1 else ties[0])

    def _order(self, row: int) -> tuple[Any, ...]:
        return (self.priced.usd[row], self.priced.seconds[row], self._name(row))

    def _name(self, row: int) -> tuple[str, ...]:
        offer = self._offer(row)
        return (offer.cloud, offer.region, offer.instance_type, offer.market, offer.zone)

    def _offer(self, row: int) -> Offer:
        offer: Offer = self.table.offers[int(self.rows.index[row])]
        return offer

    def _best_of_other_sites(self, rows: Ints, known: set[int]) -> list[int]:
        least = np.full(len(self.table.sites), np.inf)
        np.minimum.at(least, self.rows.site[rows], self.priced.usd[rows])
        others = [int(site) for site in np.argsort(least, kind="stable") if site not in known]
        best = (self.best(self.rows.site == site) for site in others[:KEPT_SITES])
        return sorted((row for row in best if row is not None), key=self._order)

    def _candidate(self, row: int, at: int, high: Priced) -> PlacementCandidate:
        low = self.priced

        def of(name: str) -> Estimate:
            return Estimate(float(getattr(low, name)[row]), float(getattr(high, name)[at]))

        offer, site = self._offer(row), int(self.rows.site[row])
        scheduler = self.schedulers.offers[site]
        if scheduler is None:
            raise RuntimeError(f"{offer.cloud} {offer.region} was allowed without a scheduler")
        output = self.request.output
        return PlacementCandidate(
            strategy=Strategy.GATHER,
            machines=(Machines(offer, int(self.rows.nodes[row]), scheduler),),
            seconds=Times(of("start"), of("read"), of("compute"), of("write"), of("lost")),
            usd=Costs(
                of("compute_usd"),
                of("rework_usd"),
                of("disks_usd"),
                of("egress_usd"),
                of("requests_usd"),
                of("nat_usd"),
            ),
            output_place=output.place or f"{offer.cloud} {offer.region}",
            moved=self.sites.bytes_out(site, self.assume),
        )


def is_worth_moving(home_usd: float, away_usd: float) -> bool:
    """Whether leaving the data saves more than ``LEAST_SAVING_SHARE`` and ``LEAST_SAVING_USD``.

    Example:
        >>> is_worth_moving(100.0, 89.0), is_worth_moving(100.0, 91.0), is_worth_moving(1.5, 0.6)
        (True, False, False)
    """
    saving = home_usd - away_usd
    return bool(saving > LEAST_SAVING_USD and saving > LEAST_SAVING_SHARE * home_usd)


def _take(rows: Rows, which: Ints) -> Rows:
    return replace(rows, **{one.name: getattr(rows, one.name)[which] for one in fields(rows)})
