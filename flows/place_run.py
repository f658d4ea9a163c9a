"""Whether a run may do its work on this machine, and what that costs, before it begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from headwater.flows.consent import Ask, ask_to_pass, require_here
from headwater.infra.errors import HeadwaterError, InvalidRequest
from headwater.infra.locations.locate import locate
from headwater.infra.models import DataRef, Moved, Placement
from headwater.infra.planner.models import (
    HERE,
    DataInput,
    Here,
    Output,
    PlacementPlan,
    PlanRequest,
)
from headwater.infra.policies import Cited, Rules
from headwater.infra.profiles import ClusterProfile, effective_rules, load_policies
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import Prepared


def place_run(prepared: Prepared, profile: ClusterProfile, ask: Ask) -> Placement:
    """This machine as the place of a run: what its bytes cost, and who allowed that.

    Where all data is on this machine or in its network nothing is billed and no price is looked
    up.

    Args:
        ask: Called where a limit of the cluster profile would be passed. What a policy limits is
            refused without a question.
    Raises:
        InvalidRequest: A rule keeps the data off this machine, or a limit would be passed.
        UnknownLocation: Where data is cannot be told, and a limit on money depends on it.
    """
    policies = load_policies()
    rules = effective_rules(profile, policies)
    inputs = [prepared.source, *(side for _, side in prepared.sides)]
    require_here(
        rules,
        [file.ref.uri for one in inputs for file in one.files] if rules.residency else [],
        hint="run it where the rule allows: `headwater plan etl` shows the places",
    )
    try:
        data = [one for each in inputs for one in _located(each, profile)]
    except HeadwaterError as exc:
        if rules.usd_per_run or rules.egress_usd:
            raise
        return Placement(HERE, why=f"what its bytes cost is not known: {exc.message}")
    if all(one.cloud is None for one in data):
        return Placement(HERE, usd=(0.0, 0.0), why="no cloud bills for its data")
    plan = _plan(data, prepared, profile, rules)
    if not plan.candidates:
        denial = plan.denied[0]
        said = f"reading {denial.detail or 'its data'} here is beyond {denial.rule}"
        ask_to_pass(
            Cited(denial.rule, denial.source),
            said,
            profile,
            ask,
            hint="`headwater plan etl` shows where it would cost less; or have the limit changed",
        )
        plan = _plan(data, prepared, profile, Rules.of(policies))
        if not plan.candidates:
            raise InvalidRequest(f"{plan.denied[0].detail} here is beyond {plan.denied[0].rule}")
    return _placement(plan)


def _located(source: Input, profile: ClusterProfile) -> list[DataInput]:
    """The files of an input by the bucket that they are in; the first tells where that is."""
    buckets: dict[tuple[str, str, str], list[DataRef]] = {}
    for file in source.files:
        uri = Uri.parse(file.ref.uri)
        buckets.setdefault((uri.scheme, uri.bucket, uri.account), []).append(file.ref)
    found = []
    for refs in buckets.values():
        (place,) = locate([refs[0].uri], declared=profile.locations, measure=False)
        size = sum(ref.size_bytes for ref in refs)
        found.append(DataInput(place.uri, place.cloud, place.regions, size, len(refs)))
    return found


def _plan(
    data: Sequence[DataInput], prepared: Prepared, profile: ClusterProfile, rules: Rules
) -> PlacementPlan:
    from headwater.flows.placing import past_copies, past_runs
    from headwater.infra.catalog.tables import load_catalog
    from headwater.infra.planner.history import month_to_date
    from headwater.infra.planner.learning import learn, observed
    from headwater.infra.planner.offers import OfferTable
    from headwater.infra.planner.plan import plan

    receipts, _ = past_runs()
    copies, _ = past_copies()
    cores, today = os.cpu_count() or 1, datetime.now(UTC).date()
    (target,) = locate([str(prepared.target)], declared=profile.locations, measure=False)
    request = PlanRequest(
        tuple(data),
        Output(target.uri, target.cloud, target.regions),
        today,
        here=Here(cores),
        month_to_date=month_to_date(receipts, today, copies),
        learned=learn(observed(receipts, prepared.job.name, cores=cores)),
    )
    return plan(request, OfferTable.of(load_catalog()), rules)


def _placement(plan: PlacementPlan) -> Placement:
    first = plan.first
    usd, seconds = first.usd.total, first.seconds.total
    return Placement(
        first.where,
        (usd.p50, usd.p90),
        (seconds.p50, seconds.p90),
        plan.why,
        tuple(Moved(one.cloud, one.to, int(one.moved_bytes)) for one in first.moved),
    )
