"""A plan as a person reads it, in 80 columns, and as one JSON object."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from headwater.infra.models import (
    DENIALS_KEPT,
    DeniedPlace,
    Moved,
    Placement,
    RankedPlace,
    to_jsonable,
)
from headwater.infra.planner.models import (
    HERE,
    Costs,
    Denial,
    Flip,
    Machines,
    PlacementCandidate,
    PlacementPlan,
    Strategy,
    Times,
)
from headwater.infra.units import human_bytes, human_seconds

if TYPE_CHECKING:
    from headwater.infra.storage.gather import GatherPlan

WIDTH = 80
SHOWN = 8
SHOWN_OF_PLACE = 2
"""Candidates in the table, and those of one place; all are in the JSON."""

PLACES_IN_RECEIPT = 3
"""Other places in a receipt's text; all that are kept are in its JSON."""

FIGURES = "    {:<23}{:>10}{:>10}{:>9}{:>22}"


def as_text(plan: PlacementPlan) -> str:
    """The table, and what has to be said about it."""
    lines: list[str] = []
    if plan.candidates:
        lines += [
            " #  where, machines, market",
            FIGURES.format("time p50/p90", "compute", "egress", "rework", "total p50/p90"),
        ]
        for rank, candidate in shown(plan):
            lines += [*_wrapped(f"{rank:>2}  ", _machines(candidate)), _figures(candidate)]
        left = len(plan.candidates) - len(shown(plan))
        more = f" {left} more are in --json." if left else ""
        lines += _wrapped(
            "    ",
            "In US dollars: compute with disks and requests, egress with the NAT gateway." + more,
        )
    for denial in plan.denied:
        lines += _wrapped("denied   ", _denied(denial))
    lines += _wrapped("why      ", plan.why)
    if plan.candidates:
        place = plan.first.output_place
        lines += _wrapped("output   ", f"{'on' if place == HERE else 'in'} {place}")
    for flip in plan.flips:
        lines += _wrapped("flips    ", _flip(flip))
    if dates := _dates(plan):
        lines += _wrapped("prices   ", dates)
    for warning in plan.warnings:
        lines += _wrapped("warning  ", warning)
    return "\n".join(lines)


def placement_line(placement: Placement) -> str:
    """Where a run is, and for how much, in one line.

    Example:
        >>> placement_line(Placement("this machine", (0.5, 0.7), (90.0, 200.0), "it is near"))
        'this machine, $0.50 (p90 $0.70), 2 min (p90 3 min): it is near'
    """
    amounts = []
    if placement.usd is not None:
        usd, high = placement.usd
        amounts.append(f"${_usd(usd)} (p90 ${_usd(high)})" if high else "free")
    if placement.seconds is not None:
        seconds, high = placement.seconds
        amounts.append(f"{_seconds(seconds)} (p90 {_seconds(high)})")
    return f"{', '.join([placement.where, *amounts])}: {placement.why}"


def gather_line(plan: GatherPlan) -> str:
    """What a run copies first, in one line."""
    there = f"; {plan.kept:,} there already" if plan.kept else ""
    if not plan.objects:
        return f"nothing to copy to {plan.folder.display}{there}"
    return (
        f"{plan.objects:,} objects, {human_bytes(plan.size_bytes)}, to copy to"
        f" {plan.folder.display}{there}"
    )


def placement_of(plan: PlacementPlan) -> Placement:
    """What a receipt keeps of a plan: its first place, and its table as it is shown."""
    first = plan.first
    usd, seconds = first.usd.total, first.seconds.total
    return Placement(
        first.where,
        (usd.p50, usd.p90),
        (seconds.p50, seconds.p90),
        plan.why,
        tuple(Moved(one.cloud, one.to, int(one.moved_bytes)) for one in first.moved),
        tuple(_ranked(rank, one) for rank, one in shown(plan)),
        tuple(
            DeniedPlace(one.where, one.rule, one.source, one.detail, one.offers)
            for one in plan.denied[:DENIALS_KEPT]
        ),
        max(0, len(plan.denied) - DENIALS_KEPT),
    )


def elsewhere_line(placement: Placement) -> str:
    """What other places would have cost, and how many rules kept some out; empty if none.

    Example:
        >>> there = RankedPlace(2, "gather", "gcp us-east1", "1 x g2", "spot", (60, 90), (1, 2), {})
        >>> elsewhere_line(Placement("this machine", ranking=(there,)))
        'gcp us-east1 for $1.00 (spot, 1 min)'
    """
    best: dict[str, RankedPlace] = {}
    for one in placement.ranking:
        if one.where != placement.where:
            best.setdefault(one.where, one)
    said = [_ranked_text(one) for one in list(best.values())[:PLACES_IN_RECEIPT]]
    denials = len(placement.denied) + placement.denied_more
    if denials:
        said.append(f"{denials} denied by rules")
    return "; ".join(said)


def as_json(plan: PlacementPlan) -> dict[str, Any]:
    """All of the plan; amounts are in US dollars and seconds."""
    return {
        "candidates": [_candidate(rank, one) for rank, one in enumerate(plan.candidates, 1)],
        "denied": [to_jsonable(one) for one in plan.denied],
        "why": plan.why,
        "flips": [to_jsonable(one) for one in plan.flips],
        "prices": {
            "oldest": None if plan.oldest_price is None else plan.oldest_price.isoformat(),
            "newest": None if plan.newest_price is None else plan.newest_price.isoformat(),
            "undated": plan.undated,
        },
        "warnings": list(plan.warnings),
        "low_confidence": plan.low_confidence,
        "considered": plan.considered,
        "unfit": plan.unfit,
        "size_bytes": plan.size_bytes,
    }


def _candidate(rank: int, one: PlacementCandidate) -> dict[str, Any]:
    return {
        "rank": rank,
        "strategy": one.strategy.value,
        "where": one.where,
        "runnable": one.runnable,
        "note": one.note,
        "market": one.market,
        "output_place": one.output_place,
        "machines": [_machine(machines) for machines in one.machines],
        "seconds": _amounts(one.seconds),
        "usd": _amounts(one.usd),
    }


def _amounts(of: Times | Costs) -> dict[str, dict[str, float | None]]:
    """Each part and the total; ``null`` has no end, which JSON cannot say."""
    parts = {one.name: getattr(of, one.name) for one in fields(of)} | {"total": of.total}
    return {
        name: {
            end: value if math.isfinite(value) else None
            for end, value in (("p50", estimate.p50), ("p90", estimate.p90))
        }
        for name, estimate in parts.items()
    }


def _machine(one: Machines) -> dict[str, Any]:
    offer = one.offer
    return {
        "cloud": offer.cloud.value,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "market": offer.market.value,
        "nodes": one.nodes,
        "gpu": offer.gpu,
        "gpus": one.nodes * offer.gpus,
        "vcpus": one.nodes * offer.vcpus,
        "usd_per_hour": one.usd_per_hour,
        "scheduler": one.scheduler.instance_type,
        "price_source": offer.source,
        "price_date": None if offer.as_of is None else offer.as_of.isoformat(),
    }


def shown(plan: PlacementPlan) -> list[tuple[int, PlacementCandidate]]:
    """The first of each place, and every other strategy, with their ranks."""
    shown: list[tuple[int, PlacementCandidate]] = []
    places: Counter[str] = Counter()
    for rank, one in enumerate(plan.candidates, 1):
        if one.strategy is not Strategy.GATHER:
            shown.append((rank, one))
        elif places.total() < SHOWN and places[one.where] < SHOWN_OF_PLACE:
            places[one.where] += 1
            shown.append((rank, one))
    return shown


def _ranked(rank: int, one: PlacementCandidate) -> RankedPlace:
    seconds, usd = _amounts(one.seconds), _amounts(one.usd)
    return RankedPlace(
        rank,
        one.strategy.value,
        one.where,
        " + ".join(_nodes(machines) for machines in one.machines),
        one.market,
        (seconds["total"]["p50"], seconds["total"]["p90"]),
        (usd["total"]["p50"], usd["total"]["p90"]),
        {name: amount["p50"] for name, amount in usd.items() if name != "total"},
        one.note,
    )


def _ranked_text(one: RankedPlace) -> str:
    usd, seconds = one.usd[0], one.seconds[0]
    price = "an amount without end" if usd is None else f"${_usd(usd)}"
    facts = [one.market, "" if seconds is None else _seconds(seconds), one.note]
    return f"{one.where} for {price} ({', '.join(fact for fact in facts if fact)})"


def _machines(one: PlacementCandidate) -> str:
    strategy = "" if one.strategy is Strategy.GATHER else f"{one.strategy}: "
    kinds = " + ".join(_nodes(machines) for machines in one.machines)
    return ", ".join(part for part in (strategy + one.where, kinds, one.market, one.note) if part)


def _nodes(machines: Machines) -> str:
    offer = machines.offer
    gpus = f" ({machines.nodes * offer.gpus} {offer.gpu})" if offer.gpus else ""
    return f"{machines.nodes} x {offer.instance_type}{gpus}"


def _figures(one: PlacementCandidate) -> str:
    usd, seconds = one.usd, one.seconds.total
    return FIGURES.format(
        f"{_seconds(seconds.p50)}/{_seconds(seconds.p90)}",
        _usd((usd.compute + usd.disks + usd.requests).p50),
        _usd((usd.egress + usd.nat).p50),
        _usd(usd.rework.p50),
        f"${_usd(usd.total.p50)}/${_usd(usd.total.p90)}",
    )


def _denied(one: Denial) -> str:
    count = "" if one.offers < 2 else f" ({one.offers:,} offers)"
    rule = f"{one.rule} ({one.source})" if one.source else one.rule
    return f"{one.where}{count}: {rule}" + (f"; {one.detail}" if one.detail else "")


def _flip(flip: Flip) -> str:
    to = f"{flip.to} would win" if flip.to else "no place would be within the limits"
    return f"{flip.direction} {human_bytes(flip.size_bytes)} of input {to}"


def _dates(plan: PlacementPlan) -> str:
    undated = f"{plan.undated} without a date" if plan.undated else ""
    if plan.oldest_price is None or plan.newest_price is None:
        return undated
    span = f"of {plan.oldest_price}"
    if plan.newest_price != plan.oldest_price:
        span += f" to {plan.newest_price}"
    return ", ".join(part for part in (span, undated) if part)


def _usd(amount: float) -> str:
    """Dollars to the cent, or whole where cents say nothing.

    Examples:
        >>> _usd(0.004), _usd(12.345), _usd(1234.5), _usd(123456)
        ('0.00', '12.35', '1,234.50', '123,456')
    """
    return f"{amount:,.0f}" if amount >= 10_000 else f"{amount:,.2f}"


def _seconds(seconds: float) -> str:
    """A duration in a few characters.

    Examples:
        >>> _seconds(0.4), _seconds(75), _seconds(1007), _seconds(7260), _seconds(400_000)
        ('0.40 s', '1 min', '17 min', '2 h 01 min', '111 h')
    """
    if seconds < 60:
        return human_seconds(seconds)
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return human_seconds(seconds) if seconds < 36_000 else f"{seconds / 3600:.0f} h"


def _wrapped(label: str, text: str) -> Iterable[str]:
    """``text`` beside its label, in lines that fit."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
