"""What each place asks for the bytes that come to it and go from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.infra.catalog.models import EgressRate
from headwater.infra.errors import InvalidRequest, PriceUnknown
from headwater.infra.models import Cloud
from headwater.infra.planner.models import DataInput, MonthToDate, Output, PlanRequest
from headwater.infra.planner.offers import Floats, OfferTable, Site
from headwater.infra.planner.tiers import egress_usd
from headwater.infra.planner.times import Assumptions

READ_CUT_BYTES = 8e6
"""Bytes of one read request: reads are staged in cuts of about this size."""

LISTED = 1000
"""Objects that one listing request tells."""

NEAR, FAR, ABROAD, LOCAL = 0, 1, 2, 3
"""Kinds of ways: within a region, within a cloud, to another cloud, from or to this machine."""

MULTI_REGION = 3
"""A bucket of this many regions is a multi-region: even reading it from inside is not free."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One way that bytes take.

    Attributes:
        index: Which input; ``None`` is the output.
        rate: What leaving costs; ``None`` where nothing leaves a cloud.
        nat: What the NAT gateway takes, where the bytes pass one.
    """

    index: int | None
    kind: int
    rate: EgressRate | None
    nat: EgressRate | None


@dataclass(frozen=True, slots=True)
class SiteMoney:
    """US dollars by site for one size of the inputs."""

    egress: Floats
    nat: Floats
    requests: Floats


@dataclass(frozen=True, slots=True)
class HereFigures:
    """The same where this machine does the work, with the bytes that leave a cloud for it."""

    egress: float
    requests: float
    moved: tuple[MonthToDate, ...]


class Sites:
    """The ways to and from each place of a table, for one request.

    Args:
        only: Places that are looked at; all by default.

    Attributes:
        unknown: By index of the site, the price that is missing there.
    """

    def __init__(
        self, request: PlanRequest, table: OfferTable, only: frozenset[Site] | None = None
    ) -> None:
        self.request = request
        self.sites = table.sites
        self.unknown: dict[int, PriceUnknown] = {}
        self._used = {(one.cloud, one.to): one.moved_bytes for one in request.month_to_date}
        groups: dict[tuple[object, ...], int] = {(): 0}
        self._groups: list[tuple[Leg, ...]] = [()]
        self._looked_at = [
            (i, site) for i, site in enumerate(table.sites) if only is None or site in only
        ]
        self._group = np.zeros(len(self.sites), np.int64)
        for index, site in self._looked_at:
            try:
                legs = self._legs(site, table)
            except PriceUnknown as exc:
                self.unknown[index] = exc
                legs = ()
            key = tuple((leg.kind, id(leg.rate), id(leg.nat)) for leg in legs)
            if key not in groups:
                groups[key] = len(self._groups)
                self._groups.append(legs)
            self._group[index] = groups[key]
        self._read_usd = sum(_read_requests_usd(one, table) for one in request.inputs)
        self._write_usd_per_byte = self._writes(table)

    def money(self, assume: Assumptions, scale: float) -> SiteMoney:
        """What moved bytes cost where all inputs are ``scale`` times their size."""
        sizes, output = self._sizes(assume, scale)
        usd = np.array([self._legs_usd(legs, sizes, output) for legs in self._groups])
        egress, nat = usd.T[:, self._group]
        requests = self._read_usd * scale + self._write_usd_per_byte * output
        return SiteMoney(egress, nat, requests)

    def moved(self, assume: Assumptions, scale: float) -> tuple[Floats, Floats]:
        """Bytes that are read and that are written, by kind of way and by site."""
        sizes, output = self._sizes(assume, scale)
        read, write = np.zeros((2, len(self._groups), 3))
        for row, legs in enumerate(self._groups):
            for leg in legs:
                kind = min(leg.kind, ABROAD)  # this machine is reached like another cloud
                if leg.index is None:
                    write[row, kind] += output
                else:
                    read[row, kind] += sizes[leg.index]
        if self.request.output.follows:
            write[:, NEAR] = output
        return read[self._group].T, write[self._group].T

    def _sizes(self, assume: Assumptions, scale: float) -> tuple[list[float], float]:
        sizes = [one.size_bytes * scale for one in self.request.inputs]
        return sizes, math.fsum(sizes) * assume.output_ratio

    def bytes_out(self, site: int, assume: Assumptions) -> tuple[MonthToDate, ...]:
        """What leaves a region where the work is at the place of this index."""
        sizes, output = self._sizes(assume, 1.0)
        return _bytes_out(self._groups[self._group[site]], sizes, output)

    def here(self, assume: Assumptions, table: OfferTable) -> HereFigures:
        """Egress and requests where this machine does the work.

        Raises:
            PriceUnknown: No price is recorded for one of the ways.
        """
        request = self.request
        sizes, written = self._sizes(assume, 1.0)
        legs = [
            Leg(i, ABROAD, cheapest_rate(one, (None, ""), table), None)
            for i, one in enumerate(request.inputs)
            if one.cloud is not None
        ]
        requests = self._read_usd
        target = _place_of(request.output)
        if target is not None:
            requests += written * _write_usd_per_byte(target, table)
        egress, _ = self._legs_usd(legs, sizes, 0.0)
        return HereFigures(egress, requests, _bytes_out(legs, sizes, 0.0))

    def _legs_usd(
        self, legs: Sequence[Leg], sizes: Sequence[float], output: float
    ) -> tuple[float, float]:
        """Egress and NAT; bytes of one kind of destination fill its tiers one after another."""
        used, egress, nat = dict(self._used), 0.0, 0.0
        for leg in legs:
            size = output if leg.index is None else sizes[leg.index]
            if leg.rate is not None:
                kind = (leg.rate.cloud, leg.rate.to)
                before = used.get(kind, 0.0)
                egress += egress_usd(leg.rate, size, before)
                used[kind] = before + size
            if leg.nat is not None:
                nat += egress_usd(leg.nat, size)
        return egress, nat

    def _legs(self, site: Site, table: OfferTable) -> tuple[Leg, ...]:
        legs = []
        for index, one in enumerate(self.request.inputs):
            kind = _kind(one.cloud, one.regions, site)
            rate = None if one.cloud is None else cheapest_rate(one, site, table)
            legs.append(Leg(index, kind, rate, self._nat(kind, site, table)))
        output = self.request.output
        if not output.follows:
            kind = _kind(output.cloud, output.regions, site)
            to = _nearest(output, site)
            rate = None if kind == NEAR else _known(table.egress(site, to))
            legs.append(Leg(None, kind, rate, self._nat(kind, site, table)))
        return tuple(legs)

    def _nat(self, kind: int, site: Site, table: OfferTable) -> EgressRate | None:
        """Machines have no public address: what leaves the cloud passes the NAT, and so does
        what goes to the store where no endpoint leads there. S3's endpoint serves one region."""
        has_endpoint = self.request.endpoints.get(site[0]) is not False
        reached = NEAR if site[0] is Cloud.AWS else FAR
        if kind <= reached and has_endpoint:
            return None
        return _known(table.nat(site))

    def _writes(self, table: OfferTable) -> Floats:
        output = self.request.output
        if not output.follows:
            place = _place_of(output)
            usd = 0.0 if place is None else _write_usd_per_byte(place, table)
            return np.full(len(self.sites), usd)
        asked = np.zeros(len(self.sites))
        for index, site in self._looked_at:
            try:
                asked[index] = _write_usd_per_byte(site, table)
            except PriceUnknown as exc:
                self.unknown.setdefault(index, exc)
        return asked


def home_sites(request: PlanRequest) -> frozenset[Site]:
    """The places that hold the most of the inputs' bytes; none where all are on this machine."""
    held: dict[Site, int] = {}
    for one in request.inputs:
        if one.cloud is not None:
            for region in one.regions:
                held[(one.cloud, region)] = held.get((one.cloud, region), 0) + one.size_bytes
    most = max(held.values(), default=0)
    return frozenset(site for site, size in held.items() if size == most)


def _bytes_out(
    legs: Sequence[Leg], sizes: Sequence[float], output: float
) -> tuple[MonthToDate, ...]:
    """By kind of destination; what stays in its region is left out."""
    moved: dict[tuple[Cloud, str], float] = {}
    for leg in legs:
        if leg.rate is not None and leg.kind != NEAR:
            way = (leg.rate.cloud, leg.rate.to)
            moved[way] = moved.get(way, 0.0) + (output if leg.index is None else sizes[leg.index])
    return tuple(MonthToDate(cloud, to, size) for (cloud, to), size in moved.items())


def _kind(cloud: Cloud | None, regions: frozenset[str], site: Site) -> int:
    if cloud is None:
        return LOCAL
    if cloud is not site[0]:
        return ABROAD
    return NEAR if site[1] in regions else FAR


def cheapest_rate(one: DataInput, to: tuple[Cloud | None, str], table: OfferTable) -> EgressRate:
    """The rate of reading ``one``, from the best of its regions.

    A bucket of one or two regions is read for nothing inside them. One of a whole continent asks
    for each byte what another region of the continent would.
    """
    if one.cloud is None:
        raise InvalidRequest(f"{one.uri} is on this machine and leaves no cloud")
    inside = to[0] is one.cloud and to[1] in one.regions
    if inside and len(one.regions) < MULTI_REGION:
        return _known(table.egress((one.cloud, to[1]), to))
    ways = [
        table.egress((one.cloud, region), to)
        for region in sorted(one.regions)
        if not (inside and region == to[1])
    ]
    rates = [way for way in ways if isinstance(way, EgressRate)]
    if not rates:
        return _known(ways[0])
    return min(rates, key=lambda rate: egress_usd(rate, one.size_bytes))


def _nearest(output: Output, site: Site) -> tuple[Cloud | None, str]:
    if output.cloud is None:
        return None, ""
    if output.cloud is site[0] and site[1] in output.regions:
        return site
    return output.cloud, min(output.regions)


def _place_of(output: Output) -> Site | None:
    return None if output.cloud is None else (output.cloud, min(output.regions))


def _known(rate: EgressRate | PriceUnknown) -> EgressRate:
    if isinstance(rate, PriceUnknown):
        raise rate
    return rate


def _read_requests_usd(one: DataInput, table: OfferTable) -> float:
    if one.cloud is None:
        return 0.0
    place = (one.cloud, min(one.regions))
    read = table.request_usd(*place, "read")
    listed = table.request_usd(*place, "list")
    reads = max(one.objects, math.ceil(one.size_bytes / READ_CUT_BYTES))
    return reads * read + math.ceil(one.objects / LISTED) * listed


def _write_usd_per_byte(place: Site, table: OfferTable) -> float:
    return table.request_usd(*place, "write") / READ_CUT_BYTES
