"""Where the work should run: every offer priced, ranked, and the reasons kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np

from headwater.infra.errors import InvalidRequest, PriceUnknown, UnknownName
from headwater.infra.planner.choose import Gather
from headwater.infra.planner.explain import warnings_of, why_first
from headwater.infra.planner.flip import flips
from headwater.infra.planner.learning import VCPU_BYTES_PER_SECOND, gpu_bytes_per_second
from headwater.infra.planner.models import (
    HERE,
    Costs,
    Denial,
    Estimate,
    Here,
    PlacementCandidate,
    PlacementPlan,
    PlanRequest,
    Strategy,
    Times,
)
from headwater.infra.planner.offers import OfferTable
from headwater.infra.planner.strategies import other_strategies
from headwater.infra.planner.times import Assumptions, exceeded, expected
from headwater.infra.policies import Residence, Rule, Rules


def plan(request: PlanRequest, table: OfferTable, rules: Rules | None = None) -> PlacementPlan:
    """Every way to run ``request``, priced and ranked; the first is what runs.

    Where the rules allow nothing there are no candidates, and the denials say why.

    Raises:
        UnknownName: A region does not exist, or nobody sells a GPU of this name.
        PriceUnknown: What the inputs' stores ask is not recorded.
        InvalidRequest: Nobody sells what the work needs, or rules leave no place for the data.
    """
    rules = rules or Rules()
    _require_regions(request, table)
    _require_sold(request, table)
    gather = Gather(request, table, rules)
    here, kept_out = _here(request, gather, rules) if request.here else (None, None)
    rows = gather.ranked()
    candidates = gather.candidates(rows)
    others, denied = other_strategies(request, table, rules)
    ranked = _ranked(candidates, others)
    if request.here is not None:
        ranked = [here, *ranked] if here else []
    dates = [day for one in ranked for day in _dates(one)]
    dated = [day for day in dates if day is not None]
    result = PlacementPlan(
        candidates=tuple(ranked),
        denied=(*([kept_out] if kept_out else []), *gather.denials.found, *denied),
        considered=len(gather.rows.index),
        unfit=gather.unfit,
        why="",
        flips=flips(gather.place_at, request.size_bytes) if rows and not request.here else (),
        oldest_price=min(dated, default=None),
        newest_price=max(dated, default=None),
        undated=sum(1 for one in ranked if None in _dates(one)),
        low_confidence=request.learned.runs == 0 and request.work.unit_hours is None,
        size_bytes=request.size_bytes,
    )
    return replace(
        result,
        why=why_first(result, gather),
        warnings=warnings_of(result, request, rules),
    )


def _ranked(
    candidates: list[PlacementCandidate], others: list[PlacementCandidate]
) -> list[PlacementCandidate]:
    """The chosen one first, the rest by cost; what cannot run is never first."""
    if not candidates:
        return others if any(one.runnable for one in others) else []
    first, *rest = candidates
    return [first, *sorted([*rest, *others], key=lambda one: one.usd.total.p50)]


def _here(
    request: PlanRequest, gather: Gather, rules: Rules
) -> tuple[PlacementCandidate | None, Denial | None]:
    """This machine as a candidate, or the rule that keeps the work off it."""
    machine = request.here
    if machine is None:
        raise RuntimeError("the request does not allow this machine")
    low, high = expected(request), exceeded(request)
    try:
        usual = gather.sites.here(low, gather.table)
        seldom = gather.sites.here(high, gather.table)
    except PriceUnknown as exc:
        return None, Denial(HERE, exc.message, detail=exc.hint, offers=1)
    egress = Estimate(usual.egress, seldom.egress)
    requests = Estimate(usual.requests, seldom.requests)
    total = egress.p50 + requests.p50
    if (rule := _denies_here(request, rules, egress.p50, total)) is not None:
        bytes_usd = "" if isinstance(rule.value, Residence) else f"${total:,.2f} of bytes"
        return None, Denial(HERE, rule.name, rule.source, bytes_usd, 1)
    compute = request.size_bytes / _rate(machine)
    read_low, write_low = _transfers_here(request, machine, low)
    read_high, write_high = _transfers_here(request, machine, high)
    return (
        PlacementCandidate(
            strategy=Strategy.GATHER,
            machines=(),
            seconds=Times(
                read=Estimate(read_low, read_high),
                compute=Estimate(
                    compute * (request.learned.slowness.center + low.then_compute),
                    compute * (request.learned.slowness.high + high.then_compute),
                ),
                write=Estimate(write_low, write_high),
            ),
            usd=Costs(egress=egress, requests=requests),
            output_place=request.output.place or HERE,
            moved=usual.moved,
        ),
        None,
    )


def _transfers_here(
    request: PlanRequest, machine: Here, assume: Assumptions
) -> tuple[float, float]:
    """Seconds that bytes take to this machine, and from it."""
    passing = [one for one in request.copies if not one.by_store]
    read = float(sum(one.size_bytes for one in request.inputs if one.cloud is not None))
    read += sum(one.source.size_bytes for one in passing if one.source.cloud is not None)
    written = float(sum(one.source.size_bytes for one in passing if one.target.cloud is not None))
    if request.output.cloud is not None:
        read += request.size_bytes * assume.reread_ratio
        written += request.size_bytes * (assume.output_ratio + assume.then_ratio)
    per_byte = 8 / (machine.gbps * 1e9) * assume.network
    return read * per_byte, written * per_byte


def _rate(machine: Here) -> float:
    if machine.gpus:
        return machine.gpus * gpu_bytes_per_second(machine.gpu)
    return machine.vcpus * VCPU_BYTES_PER_SECOND


def _denies_here(
    request: PlanRequest, rules: Rules, egress_usd: float, total_usd: float
) -> Rule[object] | None:
    """The rule that keeps the work off this machine."""
    residency = rules.residency_of([one.uri for one in request.inputs])
    away: list[Rule[object]] = [rule for rule in residency if not rule.value.here]
    for limit, value in ((rules.egress_usd, egress_usd), (rules.usd_per_run, total_usd)):
        if limit is not None and value > limit.value:
            away.append(limit)
    return away[0] if away else None


def _dates(candidate: PlacementCandidate) -> list[date | None]:
    return [one.offer.as_of for one in candidate.machines]


def _require_regions(request: PlanRequest, table: OfferTable) -> None:
    """Refuse regions that do not exist, before their prices are asked for."""
    places = [(one.cloud, one.regions) for one in request.inputs]
    for cloud, regions in (*places, (request.output.cloud, request.output.regions)):
        if cloud is not None:
            for region in sorted(regions):
                table.catalog.require_region(cloud, region)


def _require_sold(request: PlanRequest, table: OfferTable) -> None:
    """Refuse needs that no offer of any cloud meets."""
    needs = request.needs
    sold = {name.lower(): name for name in table.gpu_names if name}
    for name in needs.gpu_names:
        if name.lower() not in sold:
            raise UnknownName.of("GPU", name, sold.values(), where="any offer")
    if not needs.gpus:
        return
    most = float(table.gpu_memory_gib[_named(request, table)].max(initial=0.0))
    if most < needs.gpu_memory_gib or not most:
        names = ", ".join(needs.gpu_names) or "GPU"
        raise InvalidRequest(
            f"nobody sells {names} with {needs.gpu_memory_gib:g} GiB of memory that programs can"
            f" use: the most is {most:g}",
            hint="ask for less memory for each GPU, or for another one",
        )


def _named(request: PlanRequest, table: OfferTable) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows with a GPU of the names that will do."""
    wanted = {name.lower() for name in request.needs.gpu_names}
    of_gpu = np.array([not wanted or name.lower() in wanted for name in table.gpu_names], bool)
    return of_gpu[table.gpu] & (table.gpus > 0)
