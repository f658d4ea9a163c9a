"""What each place asks for the bytes that come to it and go from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headwater.infra.catalog.models import EgressRate
from headwater.infra.errors import InvalidRequest, PriceUnknown
from headwater.infra.models import Cloud
from headwater.infra.planner.models import (
    Copying,
    DataInput,
    MonthToDate,
    Output,
    PlanRequest,
)
from headwater.infra.planner.offers import Floats, OfferTable, Site
from headwater.infra.planner.tiers import egress_usd
from headwater.infra.planner.times import Assumptions
from headwater.infra.units import MIB

READ_CUT_BYTES = 8e6
"""Bytes of one read request: reads are staged in cuts of about this size."""

COPY_PART_BYTES = 32 * MIB
"""Bytes of one request of a copy: its parts are of this size."""

LISTED = 1000
"""Objects that one listing request tells."""

NEAR, FAR, ABROAD, LOCAL = 0, 1, 2, 3
"""Kinds of ways: within a region, within a cloud, to another cloud, from or to this machine."""

NOWHERE: tuple[None, str] = (None, "")
"""Stands for this machine, where a place is asked for."""

MULTI_REGION = 3
"""A bucket of this many regions is a multi-region: even reading it from inside is not free."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One way that bytes take.

    Attributes:
        index: Which of the amounts: inputs, then copies, then the output, then what follow-up
            tables read of it.
        rate: What leaving costs; ``None`` where nothing leaves a cloud.
        nat: What the NAT gateway takes, where the bytes pass one.
        written: The bytes go from the machines; else they come to them.
    """

    index: int
    kind: int
    rate: EgressRate | None
    nat: EgressRate | None
    written: bool = False


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
        read = (*request.inputs, *(one.source for one in request.copies))
        self._read_usd = sum(_read_requests_usd(one, table) for one in read)
        self._read_usd += sum(_copied_requests_usd(one, table) for one in request.copies)
        self._write_usd_per_byte, self._reread_usd_per_byte = self._of_output(table)

    def money(self, assume: Assumptions, scale: float) -> SiteMoney:
        """What moved bytes cost where all inputs are ``scale`` times their size."""
        amounts = self._amounts(assume, scale)
        usd = np.array([self._legs_usd(legs, amounts) for legs in self._groups])
        egress, nat = usd.T[:, self._group]
        requests = self._read_usd * scale + self._write_usd_per_byte * amounts[self._output]
        requests = requests + self._reread_usd_per_byte * amounts[self._reread]
        return SiteMoney(egress, nat, requests)

    def moved(self, assume: Assumptions, scale: float) -> tuple[Floats, Floats]:
        """Bytes that are read and that are written, by kind of way and by site."""
        amounts = self._amounts(assume, scale)
        read, write = np.zeros((2, len(self._groups), 3))
        for row, legs in enumerate(self._groups):
            for leg in legs:
                kind = min(leg.kind, ABROAD)  # this machine is reached like another cloud
                (write if leg.written else read)[row, kind] += amounts[leg.index]
        if self.request.output.follows:
            write[:, NEAR] += amounts[self._output]
            read[:, NEAR] += amounts[self._reread]
        return read[self._group].T, write[self._group].T

    def _amounts(self, assume: Assumptions, scale: float) -> list[float]:
        """Bytes by the index of a leg."""
        inputs = [one.size_bytes * scale for one in self.request.inputs]
        copies = [one.source.size_bytes * scale for one in self.request.copies]
        total = math.fsum(inputs)
        written = total * (assume.output_ratio + assume.then_ratio)
        return [*inputs, *copies, written, total * assume.reread_ratio]

    @property
    def _output(self) -> int:
        return len(self.request.inputs) + len(self.request.copies)

    @property
    def _reread(self) -> int:
        return self._output + 1

    def bytes_out(self, site: int, assume: Assumptions) -> tuple[MonthToDate, ...]:
        """What leaves a region where the work is at the place of this index."""
        return _bytes_out(self._groups[self._group[site]], self._amounts(assume, 1.0))

    def here(self, assume: Assumptions, table: OfferTable) -> HereFigures:
        """Egress and requests where this machine does the work.

        Raises:
            PriceUnknown: No price is recorded for one of the ways.
        """
        amounts = self._amounts(assume, 1.0)
        legs = list(self._copy_legs(None, table))
        for i, one in enumerate(self.request.inputs):
            if one.cloud is not None:
                legs.append(Leg(i, ABROAD, cheapest_rate(one, NOWHERE, table), None))
        requests = self._read_usd
        output = self.request.output
        target = _place_of(output)
        if target is not None:
            requests += amounts[self._output] * _write_usd_per_byte(target, table)
            requests += amounts[self._reread] * self._reread_usd(target, table)
            if amounts[self._reread]:
                rate = cheapest_rate(_as_input(output, amounts[self._reread]), NOWHERE, table)
                legs.append(Leg(self._reread, ABROAD, rate, None))
        egress, _ = self._legs_usd(legs, amounts)
        return HereFigures(egress, requests, _bytes_out(legs, amounts))

    def _legs_usd(self, legs: Sequence[Leg], amounts: Sequence[float]) -> tuple[float, float]:
        """Egress and NAT; bytes of one kind of destination fill its tiers one after another."""
        used, egress, nat = dict(self._used), 0.0, 0.0
        for leg in legs:
            size = amounts[leg.index]
            if leg.rate is not None:
                kind = (leg.rate.cloud, leg.rate.to)
                before = used.get(kind, 0.0)
                egress += egress_usd(leg.rate, size, before)
                used[kind] = before + size
            if leg.nat is not None:
                nat += egress_usd(leg.nat, size)
        return egress, nat

    def _legs(self, site: Site, table: OfferTable) -> tuple[Leg, ...]:
        legs = list(self._copy_legs(site, table))
        for index, one in enumerate(self.request.inputs):
            kind = _kind(one.cloud, one.regions, site)
            rate = None if one.cloud is None else cheapest_rate(one, site, table)
            legs.append(Leg(index, kind, rate, self._nat(kind, site, table)))
        output = self.request.output
        if not output.follows:
            legs.append(self._written(self._output, output, site, table))
            if self.request.then:
                kind = _kind(output.cloud, output.regions, site)
                back = None
                if output.cloud is not None:
                    back = cheapest_rate(_as_input(output, 1.0), site, table)
                legs.append(Leg(self._reread, kind, back, self._nat(kind, site, table)))
        return tuple(legs)

    def _copy_legs(self, site: Site | None, table: OfferTable) -> Iterator[Leg]:
        """The ways of what is copied first, by the machines at ``site`` or by this one."""
        for index, one in enumerate(self.request.copies, len(self.request.inputs)):
            source, target = one.source, one.target
            to = _place_of(target)
            if one.by_store and to is not None:
                kind = _kind(source.cloud, source.regions, to)
                yield Leg(index, kind, cheapest_rate(source, to, table), None)
                continue
            if source.cloud is not None:
                kind = ABROAD if site is None else _kind(source.cloud, source.regions, site)
                rate = cheapest_rate(source, site or NOWHERE, table)
                yield Leg(index, kind, rate, self._nat(kind, site, table))
            elif site is not None:
                yield Leg(index, LOCAL, None, self._nat(LOCAL, site, table))
            if site is not None:
                yield self._written(index, target, site, table)

    def _written(self, index: int, output: Output, site: Site, table: OfferTable) -> Leg:
        """The way of an amount from the machines at ``site``."""
        kind = _kind(output.cloud, output.regions, site)
        rate = None if kind == NEAR else _known(table.egress(site, _nearest(output, site)))
        return Leg(index, kind, rate, self._nat(kind, site, table), written=True)

    def _nat(self, kind: int, site: Site | None, table: OfferTable) -> EgressRate | None:
        """Machines have no public address: what leaves the cloud passes the NAT, and so does
        what goes to the store where no endpoint leads there. S3's endpoint serves one region."""
        if site is None:
            return None
        has_endpoint = self.request.endpoints.get(site[0]) is not False
        reached = NEAR if site[0] is Cloud.AWS else FAR
        if kind <= reached and has_endpoint:
            return None
        return _known(table.nat(site))

    def _of_output(self, table: OfferTable) -> tuple[Floats, Floats]:
        """What a byte asks for in requests, written to the output and read from there again."""
        output = self.request.output
        written, reread = np.zeros((2, len(self.sites)))
        if not output.follows:
            place = _place_of(output)
            if place is not None:
                written[:] = _write_usd_per_byte(place, table)
                reread[:] = self._reread_usd(place, table)
            return written, reread
        for index, site in self._looked_at:
            try:
                written[index] = _write_usd_per_byte(site, table)
                reread[index] = self._reread_usd(site, table)
            except PriceUnknown as exc:
                self.unknown.setdefault(index, exc)
        return written, reread

    def _reread_usd(self, place: Site, table: OfferTable) -> float:
        if not self.request.then:
            return 0.0
        return table.request_usd(*place, "read") / READ_CUT_BYTES


def home_sites(request: PlanRequest) -> frozenset[Site]:
    """The places that hold the most of the inputs' bytes; none where all are on this machine."""
    held: dict[Site, int] = {}
    for one in request.inputs:
        if one.cloud is not None:
            for region in one.regions:
                held[(one.cloud, region)] = held.get((one.cloud, region), 0) + one.size_bytes
    most = max(held.values(), default=0)
    return frozenset(site for site, size in held.items() if size == most)


def _bytes_out(legs: Sequence[Leg], amounts: Sequence[float]) -> tuple[MonthToDate, ...]:
    """By kind of destination; what stays in its region is left out."""
    moved: dict[tuple[Cloud, str], float] = {}
    for leg in legs:
        if leg.rate is not None and leg.kind != NEAR:
            way = (leg.rate.cloud, leg.rate.to)
            moved[way] = moved.get(way, 0.0) + amounts[leg.index]
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


def _copied_requests_usd(one: Copying, table: OfferTable) -> float:
    """What a copy is written with; one that its store makes is one request for each object."""
    place = _place_of(one.target)
    if place is None:
        return 0.0
    parts = 0 if one.by_store else math.ceil(one.source.size_bytes / COPY_PART_BYTES)
    return max(one.source.objects, parts) * table.request_usd(*place, "write")


def _as_input(output: Output, size_bytes: float) -> DataInput:
    return DataInput(output.uri, output.cloud, output.regions, int(size_bytes))


def _write_usd_per_byte(place: Site, table: OfferTable) -> float:
    return table.request_usd(*place, "write") / READ_CUT_BYTES
