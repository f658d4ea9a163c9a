"""Whether a run may do its work on this machine, and what that costs, before it begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from tempfile import gettempdir
from typing import Self

from headwater.flows.consent import Ask, ask_to_pass
from headwater.flows.gathering import data_inputs, require_copies_allowed
from headwater.flows.plan_text import placement_of
from headwater.infra.errors import HeadwaterError, InvalidRequest
from headwater.infra.locations.locate import locate
from headwater.infra.locations.residency import data_of, require_resident
from headwater.infra.models import DataRef, JobRequest, Placement
from headwater.infra.planner.models import (
    HERE,
    Copying,
    DataInput,
    FollowUp,
    Here,
    Output,
    PlacementPlan,
    PlanRequest,
)
from headwater.infra.policies import Cited, Rules
from headwater.infra.profiles import ClusterProfile, effective_rules, load_policies
from headwater.infra.storage.gather import GatherPlan
from headwater.infra.storage.receipts import ReceiptStore
from headwater.tasks.prepare import Prepared


@dataclass(frozen=True, slots=True)
class Reads:
    """What a run reads, and where it writes.

    Attributes:
        inputs: The files of each input, by their own names also where copies are read.
        target: Address of what it writes.
        job: Name of its job.
        then: Requests of the tables that it makes from its result.
        gather: What it copies to one place first.
    """

    inputs: tuple[tuple[DataRef, ...], ...]
    target: str
    job: str
    then: tuple[JobRequest, ...] = ()
    gather: GatherPlan | None = None

    @classmethod
    def of(cls, prepared: Prepared, then: Sequence[JobRequest] = ()) -> Self:
        """Of a request that is scanned."""
        inputs = [prepared.source, *(side for _, side in prepared.sides)]
        files = tuple(tuple(file.pinned for file in one.files) for one in inputs)
        return cls(files, str(prepared.target), prepared.job.name, tuple(then))

    @classmethod
    def gathering(
        cls, plan: GatherPlan, request: JobRequest, then: Sequence[JobRequest] = ()
    ) -> Self:
        """Of a request whose inputs are copied before they are scanned."""
        files = tuple(named.refs for named in plan.named.values())
        return cls(files, request.target, request.job_name, tuple(then), plan)

    @property
    def uris(self) -> list[str]:
        """Addresses of all files."""
        return [ref.uri for refs in self.inputs for ref in refs]


def place_run(reads: Reads, profile: ClusterProfile, ask: Ask) -> Placement:
    """This machine as the place of a run: what its bytes cost, and who allowed that.

    Where all data is on this machine or in its network nothing is billed and no price is looked
    up.

    Args:
        ask: Called where a limit of the cluster profile would be passed. What a policy limits is
            refused without a question.
    Raises:
        InvalidRequest: A rule keeps the data off this machine, or out of a place where something
            of it would be kept; or a limit would be passed.
        UnknownLocation: Where data is cannot be told, and a limit on money depends on it.
    """
    policies = load_policies()
    rules = effective_rules(profile, policies)
    _require_allowed(rules, reads, profile)
    try:
        data, copies = data_inputs(reads.inputs, profile.locations, reads.gather)
    except HeadwaterError as exc:
        if rules.usd_per_run or rules.egress_usd:
            raise
        return Placement(HERE, why=f"what its bytes cost is not known: {exc.message}")
    moved = (*data, *(one.source for one in copies))
    if all(one.cloud is None for one in moved):
        return Placement(HERE, usd=(0.0, 0.0), why="no cloud bills for its data")
    plan = _plan(data, copies, reads, profile, rules)
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
        plan = _plan(data, copies, reads, profile, Rules.of(policies))
        if not plan.candidates:
            raise InvalidRequest(f"{plan.denied[0].detail} here is beyond {plan.denied[0].rule}")
    return placement_of(plan)


def _require_allowed(rules: Rules, reads: Reads, profile: ClusterProfile) -> None:
    """Hold this machine, where the data is read and spilled, and what is kept to the rules."""
    if not rules.residency:
        return
    uris = reads.uris
    for rule in rules.residency_of(uris):
        if not rule.value.here:
            raise InvalidRequest(
                f"{rule} keeps {data_of(rule, uris)} off this machine, which would read it and"
                f" spill it to {gettempdir()}",
                hint="run it where the rule allows: `headwater plan etl` shows the places",
            )
    kept = {"receipts store": str(ReceiptStore().uri), "output": reads.target}
    kept |= {f"table {n}": one.target for n, one in enumerate(reads.then, 2)}
    require_resident(rules, uris, kept, declared=profile.locations)
    if reads.gather is not None:
        require_copies_allowed(rules, reads.gather, profile.locations)


def _plan(
    data: tuple[DataInput, ...],
    copies: tuple[Copying, ...],
    reads: Reads,
    profile: ClusterProfile,
    rules: Rules,
) -> PlacementPlan:
    from headwater.flows.placing import past_copies, past_runs
    from headwater.infra.catalog.tables import load_catalog
    from headwater.infra.planner.history import month_to_date
    from headwater.infra.planner.learning import learn, observed
    from headwater.infra.planner.offers import OfferTable
    from headwater.infra.planner.plan import plan

    receipts, _ = past_runs()
    moved, _ = past_copies()
    cores, today = os.cpu_count() or 1, datetime.now(UTC).date()
    (target,) = locate([reads.target], declared=profile.locations, measure=False)
    request = PlanRequest(
        data,
        Output(target.uri, target.cloud, target.regions),
        today,
        here=Here(cores),
        month_to_date=month_to_date(receipts, today, moved),
        learned=learn(observed(receipts, reads.job, cores=cores)),
        copies=copies,
        then=tuple(
            FollowUp(learn(observed(receipts, one.job_name, cores=cores))) for one in reads.then
        ),
    )
    return plan(request, OfferTable.of(load_catalog()), rules)
