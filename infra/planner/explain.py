"""Why the first candidate won, and what to know before trusting the figures."""

from __future__ import annotations

from datetime import timedelta

from headwater.infra.models import Cloud, Market
from headwater.infra.planner.choose import (
    LEAST_SAVING_SHARE,
    LEAST_SAVING_USD,
    Gather,
    is_worth_moving,
)
from headwater.infra.planner.models import HERE, PlacementPlan, PlanRequest
from headwater.infra.planner.sites import MULTI_REGION, home_sites
from headwater.infra.policies import Rules

LEAST_TOLD_USD = 0.005
"""What would be shown as a cent."""

OLD_DAYS_SPOT = 14
OLD_DAYS = 180
"""Days after which prices are called old: spot prices moved by a sixth in ten weeks, others did
not move at all."""


def why_first(plan: PlacementPlan, gather: Gather) -> str:
    """One or two sentences on the choice."""
    if not plan.candidates:
        return "nothing is allowed: each offer is denied by a rule, or lacks what the work needs"
    first = plan.first
    if first.is_here:
        return _why_here(plan)
    others = [one for one in plan.candidates[1:] if one.runnable]
    row = gather.chosen()
    if row is None or not others:
        return f"{first.where} is the only place that is allowed"
    cheapest = min(others, key=lambda one: one.usd.total.p50)
    elsewhere = next((one for one in others if one.where != first.where), None)
    here, best = first.usd.total.p50, cheapest.usd.total.p50
    if best < here:
        return (
            f"{first.where} holds the data; {cheapest.where} would save"
            f" ${here - best:,.2f} ({_share(here - best, here)}), and work leaves the data only"
            f" for more than ${LEAST_SAVING_USD:g} and {LEAST_SAVING_SHARE:.0%}"
        )
    against = ""
    if elsewhere is not None:
        against = f"; the best elsewhere is {elsewhere.where} for ${elsewhere.usd.total.p50:,.2f}"
    if gather.at_home[row]:
        return f"{first.where} holds the data and is the cheapest, ${here:,.2f}{against}"
    home = gather.best(gather.at_home)
    if home is None:
        kept_out = " where the data is no offer is allowed" if home_sites(gather.request) else ""
        return f"{first.where} is the cheapest, ${here:,.2f}{against};{kept_out}".rstrip(";")
    at_home = float(gather.priced.usd[home])
    if not is_worth_moving(at_home, here):
        raise RuntimeError("the work would leave the data for too small a saving")
    return (
        f"{first.where} saves ${at_home - here:,.2f} ({_share(at_home - here, at_home)}) against"
        f" {_place(gather, home)}, which holds the data and would cost ${at_home:,.2f}"
    )


def warnings_of(plan: PlacementPlan, request: PlanRequest, rules: Rules) -> tuple[str, ...]:
    """What may surprise whoever pays."""
    found = [_multi_region(request)]
    if plan.candidates:
        found += [
            _nat(plan, request),
            _scheduler(plan),
            _limit(plan, rules),
            _age(plan, request),
            _undated(plan),
            _confidence(plan),
        ]
    return tuple(text for text in found if text)


def _why_here(plan: PlacementPlan) -> str:
    usd = plan.first.usd.total.p50
    cost = (
        f"${usd:,.2f} for bytes that leave a cloud"
        if usd >= LEAST_TOLD_USD
        else "nothing is billed"
    )
    clouds = [one for one in plan.candidates[1:] if one.runnable]
    if not clouds:
        return f"the cluster profile runs on {HERE}: {cost}; no cloud is allowed"
    best = clouds[0]
    return (
        f"the cluster profile runs on {HERE}: {cost}; the cloud would have cost"
        f" ${best.usd.total.p50:,.2f} in {best.where}"
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _place(gather: Gather, row: int) -> str:
    cloud, region = gather.site_of(row)
    return f"{cloud} {region}"


def _nat(plan: PlacementPlan, request: PlanRequest) -> str:
    first = plan.first
    if first.is_here:
        return ""
    cloud = first.machines[0].offer.cloud
    endpoint = request.endpoints.get(cloud)
    if first.usd.nat.p50 >= LEAST_TOLD_USD:
        cause = (
            "the network has no endpoint to the store"
            if endpoint is False
            else "they come from or go to elsewhere, and machines have no public address"
        )
        return f"${first.usd.nat.p50:,.2f} goes to the NAT gateway for bytes that pass it: {cause}"
    if endpoint is False:
        return f"the network in {cloud} has no endpoint to the store: the NAT bills each byte"
    if endpoint is None:
        return (
            f"the cluster profile does not say whether its network in {cloud} has an endpoint to"
            " the store; without one the NAT gateway bills each byte"
        )
    return ""


def _multi_region(request: PlanRequest) -> str:
    wide = [one.uri for one in request.inputs if len(one.regions) >= MULTI_REGION]
    if not wide:
        return ""
    cost = " and reading it is billed in every one" if _gcp(request) else ""
    return f"{', '.join(wide)} lies in many regions{cost}"


def _gcp(request: PlanRequest) -> bool:
    return any(one.cloud is Cloud.GCP for one in request.inputs if len(one.regions) >= MULTI_REGION)


def _scheduler(plan: PlacementPlan) -> str:
    first = plan.first
    dear = next((one.scheduler for one in first.machines if one.scheduler.gpus), None)
    if dear is None:
        return ""
    return (
        f"no price of a machine without a GPU is known in {dear.cloud} {dear.region}: the scheduler"
        f" is priced as {dear.instance_type}, ${dear.usd_per_hour:,.2f} per hour"
    )


def _limit(plan: PlacementPlan, rules: Rules) -> str:
    rule, high = rules.usd_per_run, plan.first.usd.total.p90
    if rule is None or high <= rule.value:
        return ""
    return f"one run in ten would cost more than ${high:,.2f}, beyond {rule}"


def _age(plan: PlacementPlan, request: PlanRequest) -> str:
    first = plan.first
    for one in first.machines:
        day = one.offer.as_of
        most = OLD_DAYS_SPOT if one.offer.market is Market.SPOT else OLD_DAYS
        if day is not None and request.today - day > timedelta(days=most):
            return (
                f"the price in {one.place} is of {day}, {(request.today - day).days} days old:"
                " `headwater prices refresh` asks for today's"
            )
    return ""


def _undated(plan: PlacementPlan) -> str:
    undated = [one for one in plan.first.machines if one.offer.as_of is None]
    return f"the price in {undated[0].place} has no date" if undated else ""


def _confidence(plan: PlacementPlan) -> str:
    if not plan.low_confidence:
        return ""
    return "low confidence: no finished run of this job is known, so its times are first guesses"
