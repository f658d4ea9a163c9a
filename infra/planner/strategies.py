"""Ways to work on inputs in several places without bringing all bytes to one.

Each is made of smaller plans of the kind that gathers, at the places where inputs are: it is
priced by the same functions. None can be run yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import Cloud
from headwater.infra.planner.choose import Gather
from headwater.infra.planner.models import (
    RUNNABLE,
    Costs,
    DataInput,
    Denial,
    Estimate,
    Output,
    PlacementCandidate,
    PlanRequest,
    Strategy,
    Times,
)
from headwater.infra.planner.offers import OfferTable, Site
from headwater.infra.policies import Cited, Rules

NOT_RUNNABLE = "not runnable yet"


def other_strategies(
    request: PlanRequest, table: OfferTable, rules: Rules
) -> tuple[list[PlacementCandidate], list[Denial]]:
    """What the job declares that it can do beside gathering, priced; and what rules deny of it.

    Nothing where all inputs are in one place, or are copied to one: then there is nothing to bring
    together.
    """
    groups = _groups(request.inputs)
    found: list[PlacementCandidate] = []
    denied: list[Denial] = []
    if request.copies or len(groups) < 2 or any(one.cloud is None for one in request.inputs):
        return found, denied
    for strategy, price in PRICED.items():
        if strategy in request.work.strategies:
            try:
                candidate = price(request, groups, table, rules)
            except InvalidRequest as exc:  # what would travel may not be there
                denied.append(Denial(strategy.value, exc.message))
                continue
            if candidate is None:
                denied.append(Denial(strategy.value, "a place that it needs has no allowed offer"))
            elif (limit := _limit_over(candidate, rules)) is not None:
                detail = f"${candidate.usd.total.p50:,.2f}"
                denied.append(Denial(strategy.value, limit.name, limit.source, detail))
            else:
                found.append(candidate)
    return found, denied


Groups = Sequence[tuple[DataInput, ...]]


def _federate(
    request: PlanRequest, groups: Groups, table: OfferTable, rules: Rules
) -> PlacementCandidate | None:
    """The largest place combines what the others aggregate."""
    main, *others = groups
    written = _size(request.inputs) * _output_ratio(request)
    work = replace(request.work, output_ratio=written / max(1, _size(main)))
    first = _at_home(request, main, request.output, work.output_ratio, table, rules)
    if first is None:
        return None
    combined = _output_at(first)
    parts = [
        _at_home(request, group, combined, request.work.partial_ratio, table, rules)
        for group in others
    ]
    return _side_by_side(Strategy.FEDERATE, [first, *parts])


def _scatter(
    request: PlanRequest, groups: Groups, table: OfferTable, rules: Rules
) -> PlacementCandidate | None:
    """Each place writes its own share of the result."""
    ratio = request.work.output_ratio
    parts = [_at_home(request, group, request.output, ratio, table, rules) for group in groups]
    return _side_by_side(Strategy.SCATTER, parts)


def _semi_join(
    request: PlanRequest, groups: Groups, table: OfferTable, rules: Rules
) -> PlacementCandidate | None:
    """The large place keeps the rows that match the others' keys; the rest happens there."""
    main, *others = groups
    small = [one for group in others for one in group]
    then_at = others[0][0]
    if then_at.cloud is None:
        return None
    target = Output("", then_at.cloud, frozenset({min(then_at.regions)}))
    keys = [
        replace(one, size_bytes=int(one.size_bytes * request.work.partial_ratio)) for one in small
    ]
    read = [*main, *keys]
    matched = _size(main) * request.work.match_ratio
    first = _at(request, read, target, matched / max(1, _size(read)), _homes(main), table, rules)
    matches = DataInput(main[0].uri, target.cloud, target.regions, int(matched))
    joined = [*small, matches]
    ratio = _size(request.inputs) * _output_ratio(request) / max(1, _size(joined))
    second = _at(request, joined, request.output, ratio, _homes(others[0]), table, rules)
    if first is None or second is None:
        return None
    return replace(
        _joined(Strategy.SEMI_JOIN, [first, second]),
        seconds=Times(
            *(
                getattr(first.seconds, name) + getattr(second.seconds, name)
                for name in ("start", "read", "compute", "write", "rework")
            )
        ),
        output_place=second.output_place,
    )


Price = Callable[[PlanRequest, Groups, OfferTable, Rules], "PlacementCandidate | None"]

PRICED: dict[Strategy, Price] = {
    Strategy.FEDERATE: _federate,
    Strategy.SCATTER: _scatter,
    Strategy.SEMI_JOIN: _semi_join,
}


def _groups(inputs: Sequence[DataInput]) -> list[tuple[DataInput, ...]]:
    """Inputs that lie together, the largest group first."""
    by_place: dict[tuple[Cloud | None, frozenset[str]], list[DataInput]] = {}
    for one in inputs:
        by_place.setdefault((one.cloud, one.regions), []).append(one)
    return sorted((tuple(group) for group in by_place.values()), key=_size, reverse=True)


def _size(inputs: Sequence[DataInput]) -> int:
    return sum(one.size_bytes for one in inputs)


def _output_ratio(request: PlanRequest) -> float:
    ratio = request.work.output_ratio
    return request.learned.output_ratio.center if ratio is None else ratio


def _homes(group: Sequence[DataInput]) -> frozenset[Site]:
    return frozenset(
        (one.cloud, region) for one in group if one.cloud is not None for region in one.regions
    )


def _at_home(
    request: PlanRequest,
    group: Sequence[DataInput],
    output: Output,
    ratio: float | None,
    table: OfferTable,
    rules: Rules,
) -> PlacementCandidate | None:
    return _at(request, group, output, ratio, _homes(group), table, rules)


def _at(
    request: PlanRequest,
    group: Sequence[DataInput],
    output: Output,
    ratio: float | None,
    places: frozenset[Site],
    table: OfferTable,
    rules: Rules,
) -> PlacementCandidate | None:
    """The cheapest way to do ``group`` alone in one of ``places``."""
    share = _size(group) / max(1, request.size_bytes)
    hours = request.work.unit_hours
    work = replace(
        request.work, output_ratio=ratio, unit_hours=None if hours is None else hours * share
    )
    then = request.then if output is request.output else ()  # made where the result is
    alone = replace(request, inputs=tuple(group), output=output, work=work, then=then)
    gathered = Gather(alone, table, rules, only=places)
    row = gathered.chosen()
    return None if row is None else gathered.candidates([row])[0]


def _output_at(candidate: PlacementCandidate) -> Output:
    offer = candidate.machines[0].offer
    return Output("", offer.cloud, frozenset({offer.region}))


def _side_by_side(
    strategy: Strategy, parts: Sequence[PlacementCandidate | None]
) -> PlacementCandidate | None:
    """Plans that run at one time: the slowest decides."""
    known = [part for part in parts if part is not None]
    return _joined(strategy, known) if len(known) == len(parts) else None


def _joined(strategy: Strategy, parts: Sequence[PlacementCandidate]) -> PlacementCandidate:
    slowest = max(parts, key=lambda part: part.seconds.total.p50)
    names = ("compute", "rework", "disks", "egress", "requests", "nat")
    return PlacementCandidate(
        strategy=strategy,
        machines=tuple(machines for part in parts for machines in part.machines),
        seconds=slowest.seconds,
        usd=Costs(*(Estimate.total(getattr(p.usd, name) for p in parts) for name in names)),
        output_place=" + ".join(dict.fromkeys(part.output_place for part in parts)),
        runnable=strategy in RUNNABLE,
        note="" if strategy in RUNNABLE else NOT_RUNNABLE,
    )


def _limit_over(candidate: PlacementCandidate, rules: Rules) -> Cited | None:
    """The limit that all places together are beyond, though each alone is not."""
    gpus = sum(one.nodes * one.offer.gpus for one in candidate.machines)
    hourly = sum(one.usd_per_hour for one in candidate.machines)
    for rule, value in (
        (rules.gpus, gpus),
        (rules.usd_per_hour, hourly),
        (rules.egress_usd, candidate.usd.egress.p50),
        (rules.usd_per_run, candidate.usd.total.p50),
    ):
        if rule is not None and value > rule.value:
            return rule
    return None
