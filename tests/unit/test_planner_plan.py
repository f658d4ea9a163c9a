"""What a plan chooses, what it denies and why, in worlds small enough to work out by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.planner_helpers import (
    EAST_US,
    IOWA,
    IRELAND,
    OHIO,
    VIRGINIA,
    data,
    offer,
    request,
    rules,
    scheduler,
    table_of,
    world,
)

from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.infra.models import Cloud
from headwater.infra.planner.choose import is_worth_moving
from headwater.infra.planner.learning import Factor, Learned
from headwater.infra.planner.models import Here, MonthToDate, Needs, Output, Strategy, Work
from headwater.infra.planner.plan import plan

TWO_HOURS = Work(unit_hours=2, output_ratio=0.0)
"""On one GPU; nothing is written."""


def places(*plans: object) -> list[str]:
    return [one.first.where for one in plans]  # type: ignore[attr-defined]


def test_each_part_of_the_cost_is_the_one_done_by_hand() -> None:
    table = world(offer(VIRGINIA, 3.6))

    first = plan(request(data(VIRGINIA, 9), work=TWO_HOURS), table).first

    # 150 s to start; 9 GB at half of 10 Gbit/s; 2 h of work; nothing is written
    assert first.seconds.start.p50 == 150
    assert first.seconds.read.p50 == pytest.approx(14.4)
    assert first.seconds.compute.p50 == 7200
    hours = 7364.4 / 3600
    assert first.usd.compute.p50 == pytest.approx((3.6 + 0.1) * hours)
    # 100 GiB of the worker and 30 of the scheduler at $0.08 a month of 730 h
    assert first.usd.disks.p50 == pytest.approx(130 * 0.08 / 730 * hours)
    # 1,125 cuts of 8 MB at $0.0004 per 1,000, and one listing at $0.005
    assert first.usd.requests.p50 == pytest.approx(1125 * 0.0004 / 1000 + 0.005 / 1000)
    assert first.usd.egress.p50 == first.usd.nat.p50 == first.usd.rework.p50 == 0
    assert first.usd.total.p50 == pytest.approx(
        first.usd.compute.p50 + first.usd.disks.p50 + first.usd.requests.p50
    )


def test_the_total_counts_every_machine_its_disk_and_the_scheduler() -> None:
    table = world(offer(VIRGINIA, 1.0))

    one = plan(request(data(VIRGINIA, 1), work=TWO_HOURS, needs=Needs(gpus=1)), table).first
    four = plan(request(data(VIRGINIA, 1), work=TWO_HOURS, needs=Needs(gpus=4)), table).first

    assert (one.machines[0].nodes, four.machines[0].nodes) == (1, 4)
    assert four.machines[0].usd_per_hour == pytest.approx(4.1)
    assert four.seconds.compute.p50 == 1800


def test_the_first_minute_is_billed_whole_and_then_each_second() -> None:
    table = world(offer(VIRGINIA, 3.6))
    none = replace(data(VIRGINIA, 0), size_bytes=0)

    first = plan(request(none, work=Work(unit_hours=0, output_ratio=0.0)), table).first

    assert first.usd.compute.p50 == pytest.approx(3.7 * 150 / 3600)


def test_plan_keeps_data_in_region_when_egress_costs_more() -> None:
    table = world(offer(VIRGINIA, 3.0), offer(IOWA, 1.0))

    small = plan(request(data(VIRGINIA, 10), work=Work(unit_hours=20, output_ratio=0)), table)
    large = plan(request(data(VIRGINIA, 1000), work=Work(unit_hours=20, output_ratio=0)), table)

    assert places(small, large) == ["gcp us-central1", "aws us-east-1"]
    egress = large.candidates[1].usd.egress.p50
    # The first 100 of 931.3 GiB are free
    assert egress == pytest.approx((1000e9 / 2**30 - 100) * 0.09)
    assert "holds the data and is the cheapest" in large.why
    assert "saves $" in small.why


@pytest.mark.parametrize(
    ("home", "away", "moves"),
    [
        (100.0, 90.1, False),  # a dollar and more, but less than a tenth
        (100.0, 89.9, True),
        (5.0, 4.1, False),  # more than a tenth, but less than a dollar
        (5.0, 3.9, True),
        (1.0, 0.0, False),  # just a dollar
    ],
)
def test_work_leaves_the_data_only_for_a_tenth_and_a_dollar(
    home: float, away: float, moves: bool
) -> None:
    assert is_worth_moving(home, away) is moves


def test_a_small_saving_elsewhere_is_told_and_not_taken() -> None:
    table = world(offer(VIRGINIA, 1.0), offer(OHIO, 0.9))

    planned = plan(request(data(VIRGINIA, 1), work=TWO_HOURS), table)

    assert planned.first.where == "aws us-east-1"
    assert planned.first.usd.total.p50 > planned.candidates[1].usd.total.p50
    assert "aws us-east-2 would save $0.1" in planned.why
    assert "only for more than $1 and 10%" in planned.why


def test_the_choice_does_not_depend_on_the_order_of_offers() -> None:
    rng = random.Random(4)
    offers = [offer(place, 1.0, kind=kind) for place in (OHIO, IOWA, VIRGINIA) for kind in "abc"]
    offers += [scheduler(place) for place in (OHIO, IOWA, VIRGINIA)]
    asked = request(data(EAST_US, 1), work=TWO_HOURS)
    first = plan(asked, table_of(offers)).first

    for _ in range(10):
        rng.shuffle(offers)
        assert plan(asked, table_of(offers)).first == first


# The output.


def test_the_output_stays_with_the_run_unless_its_place_is_given() -> None:
    table = world(offer(VIRGINIA, 1.0))
    copy = Work(unit_hours=1, output_ratio=1.0)

    here = plan(request(data(VIRGINIA, 100), work=copy), table).first
    there = plan(
        request(
            data(VIRGINIA, 100),
            work=copy,
            output=Output("s3://out/x", Cloud.AWS, frozenset({"us-west-2"})),
        ),
        table,
    ).first

    assert (here.output_place, here.usd.egress.p50) == ("aws us-east-1", 0)
    assert there.output_place == "aws us-west-2"
    assert there.usd.egress.p50 == pytest.approx(100e9 / 2**30 * 0.02)


def test_an_output_that_is_larger_than_its_input_pulls_the_work_to_itself() -> None:
    table = world(offer(VIRGINIA, 1.0), offer(IOWA, 1.0))
    grows = Work(unit_hours=1, output_ratio=10.0)
    target = Output("gs://out/x", Cloud.GCP, frozenset({"us-central1"}))

    planned = plan(request(data(VIRGINIA, 90), work=grows, output=target), table)

    assert planned.first.where == "gcp us-central1"


# NAT, several inputs, buckets of many regions, and what moved before.


def test_a_network_without_an_endpoint_pays_the_nat_for_each_byte_and_is_warned() -> None:
    table = world(offer(VIRGINIA, 1.0))
    asked = request(data(VIRGINIA, 100), work=TWO_HOURS)

    without = plan(replace(asked, endpoints={Cloud.AWS: False}), table)
    unknown = plan(asked, table)
    having = plan(replace(asked, endpoints={Cloud.AWS: True}), table)

    nat = 100e9 / 2**30 * 0.045
    assert without.first.usd.nat.p50 == pytest.approx(nat)
    assert any("no endpoint to the store" in text for text in without.warnings)
    assert unknown.first.usd.nat.p50 == having.first.usd.nat.p50 == 0
    assert any("does not say whether its network" in text for text in unknown.warnings)
    assert not any("endpoint" in text for text in having.warnings)


def test_two_inputs_share_the_free_bytes_of_a_month() -> None:
    table = world(offer(IOWA, 1.0))
    two = request(data(VIRGINIA, 80, "s3://a/x"), data(VIRGINIA, 80, "s3://b/x"), work=TWO_HOURS)

    first = plan(two, table).first

    assert first.usd.egress.p50 == pytest.approx((160e9 / 2**30 - 100) * 0.09)


def test_bytes_that_left_before_in_the_month_have_used_the_free_ones() -> None:
    table = world(offer(IOWA, 1.0))
    used = (MonthToDate(Cloud.AWS, "internet", 100 * 2**30),)

    first = plan(request(data(VIRGINIA, 10), work=TWO_HOURS, month_to_date=used), table).first

    assert first.usd.egress.p50 == pytest.approx(10e9 / 2**30 * 0.09)


def test_a_bucket_of_many_regions_is_billed_inside_them_and_told() -> None:
    table = world(offer(IOWA, 1.0))
    wide = frozenset({"us-central1", "us-east1", "us-west1"})
    pair = frozenset({"us-central1", "us-east1"})
    one = data(IOWA, 100)

    many = plan(request(replace(one, regions=wide), work=TWO_HOURS), table)
    two = plan(request(replace(one, regions=pair), work=TWO_HOURS), table)

    assert many.first.usd.egress.p50 == pytest.approx(100e9 / 2**30 * 0.02)
    assert any("lies in many regions" in text for text in many.warnings)
    assert two.first.usd.egress.p50 == 0
    assert not any("many regions" in text for text in two.warnings)


# Rules.


def test_a_denial_names_the_rule_its_file_and_how_many_offers_it_keeps_out() -> None:
    table = world(offer(VIRGINIA, 1.0), offer(IOWA, 0.1), offer(IRELAND, 0.1))

    planned = plan(
        request(data(VIRGINIA, 10), work=TWO_HOURS),
        table,
        rules(clouds=["aws"], regions=["us-*"]),
    )

    assert [one.where for one in planned.candidates] == ["aws us-east-1"]
    assert [(one.where, one.rule, one.source, one.offers) for one in planned.denied] == [
        ("gcp us-central1 gpu1", "clouds of policy 'team'", "team.toml", 1),
        ("aws eu-west-1 gpu1", "regions of policy 'team'", "team.toml", 1),
    ]


@pytest.mark.parametrize(
    ("said", "rule", "detail"),
    [
        ({"spot": "forbid"}, "spot = 'forbid' of policy 'team'", ""),
        ({"instance_families": ["p5"]}, "instance_families of policy 'team'", ""),
        ({"limits": {"gpus": 2}}, "limits.gpus = 2 of policy 'team'", "the work needs 4"),
        (
            {"limits": {"usd_per_hour": 4}},
            "limits.usd_per_hour = 4 of policy 'team'",
            "at least $4.10 per hour",
        ),
        (
            {"limits": {"egress_usd": 0}},
            "limits.egress_usd = 0 of policy 'team'",
            "at least $7.45 of egress",
        ),
        (
            {"max_price_age_days": 3},
            "max_price_age_days = 3 of policy 'team'",
            "the price is older",
        ),
    ],
)
def test_each_limit_denies_with_its_figures(
    said: dict[str, object], rule: str, detail: str
) -> None:
    table = world(offer(OHIO, 1.0, spot=True))
    asked = request(data(VIRGINIA, 800), work=TWO_HOURS, needs=Needs(gpus=4))

    planned = plan(asked, table, rules(**said))

    assert planned.candidates == ()
    assert (planned.denied[0].rule, planned.denied[0].detail) == (rule, detail)
    assert "nothing is allowed" in planned.why


def test_a_run_limit_denies_what_is_expected_and_warns_of_what_may_be() -> None:
    table = world(offer(VIRGINIA, 1.0))
    asked = request(data(VIRGINIA, 4000), work=Work(output_ratio=0.0))
    usual = plan(asked, table).first.usd.total

    above = plan(asked, table, rules(limits={"usd_per_run": usual.p50 * 0.99}))
    between = plan(asked, table, rules(limits={"usd_per_run": usual.p50 * 1.01}))

    assert above.candidates == ()
    assert between.candidates
    assert any("one run in ten would cost more than" in text for text in between.warnings)


def test_residency_keeps_work_and_output_where_the_data_may_be() -> None:
    table = world(offer(VIRGINIA, 0.1), offer(IRELAND, 5.0))
    resident = rules(
        residency=[{"name": "eu", "prefix": "s3://patients", "regions": ["eu-west-1"]}]
    )
    asked = request(data(IRELAND, 1, "s3://patients/x"), work=TWO_HOURS)
    abroad = Output("s3://out/x", Cloud.AWS, frozenset({"us-east-1"}))

    planned = plan(asked, table, resident)

    assert [one.where for one in planned.candidates] == ["aws eu-west-1"]
    assert planned.denied[0].rule == "residency 'eu' of policy 'team'"
    with pytest.raises(InvalidRequest, match=r"output s3://out/x would be in us-east-1.*'eu'"):
        plan(replace(asked, output=abroad), table, resident)
    here = plan(replace(asked, here=Here(8)), table, resident)
    assert here.candidates == ()
    assert (here.denied[0].where, here.denied[0].rule) == (
        "this machine",
        "residency 'eu' of policy 'team'",
    )


def test_residency_that_names_here_allows_this_machine() -> None:
    table = world(offer(IRELAND, 5.0))
    both = rules(
        residency=[{"name": "eu", "prefix": "s3://patients", "regions": ["eu-west-1", "here"]}]
    )
    asked = request(
        data(IRELAND, 1, "s3://patients/x"), here=Here(8), output=Output("out"), work=TWO_HOURS
    )

    planned = plan(asked, table, both)

    assert planned.first.is_here
    assert planned.candidates[1].where == "aws eu-west-1"


def test_a_price_without_a_date_is_told_and_refused_where_age_is_limited() -> None:
    table = world(replace(offer(VIRGINIA, 1.0), as_of=None))
    asked = request(data(VIRGINIA, 1), work=TWO_HOURS)

    planned = plan(asked, table)
    refused = plan(asked, table, rules(max_price_age_days=1000))

    assert planned.undated == 1
    assert "the price in aws us-east-1 has no date" in planned.warnings
    assert refused.candidates == ()


def test_the_scheduler_is_a_machine_that_the_rules_allow() -> None:
    table = world(offer(VIRGINIA, 1.0), offer(VIRGINIA, 0.5, kind="cpu.large", gpus=0))
    asked = request(data(VIRGINIA, 1), work=TWO_HOURS)

    free = plan(asked, table).first.machines[0]
    without_small = plan(asked, table, rules(instance_families=["gpu1", "cpu"])).first.machines[0]
    workers_alone = plan(asked, table, rules(instance_families=["gpu1"])).first.machines[0]

    assert free.scheduler.instance_type == "small"
    assert without_small.scheduler.instance_type == "cpu.large"
    assert without_small.usd_per_hour == pytest.approx(1.5)
    assert workers_alone.scheduler.instance_type == "gpu1"


def test_old_prices_are_told_with_their_date() -> None:
    old = replace(offer(VIRGINIA, 1.0, spot=True), as_of=date(2026, 10, 1))

    planned = plan(request(data(VIRGINIA, 1), work=TWO_HOURS), world(old))

    assert planned.oldest_price == date(2026, 10, 1)
    assert any("2026-10-01, 55 days old" in text for text in planned.warnings)


# Bad input.


def test_a_region_that_does_not_exist_is_refused_with_the_near_ones() -> None:
    table = world(offer(VIRGINIA, 1.0))

    with pytest.raises(UnknownName, match="us-east-11"):
        plan(request(data((Cloud.AWS, "us-east-11"), 1)), table)


def test_a_gpu_that_nobody_sells_is_refused_with_those_that_are_sold() -> None:
    table = world(offer(VIRGINIA, 1.0))

    with pytest.raises(UnknownName, match="no GPU 'B200'"):
        plan(request(data(VIRGINIA, 1), needs=Needs(gpus=1, gpu_names=("B200",))), table)
    with pytest.raises(InvalidRequest, match=r"80 GiB .* the most is 22\.35"):
        plan(request(data(VIRGINIA, 1), needs=Needs(gpus=1, gpu_memory_gib=80)), table)


# This machine.


def test_the_local_profile_runs_here_and_says_what_the_cloud_would_have_cost() -> None:
    table = world(offer(VIRGINIA, 1.0))
    asked = request(data(VIRGINIA, 1), work=TWO_HOURS, here=Here(vcpus=8))

    planned = plan(asked, table)

    assert planned.first.is_here
    assert (planned.first.where, planned.first.market) == ("this machine", "free")
    assert planned.first.usd.total.p50 < 0.001
    assert "the cloud would have cost $" in planned.why
    far = plan(replace(asked, inputs=(data(VIRGINIA, 1000),)), table).first
    assert far.usd.egress.p50 == pytest.approx((1000e9 / 2**30 - 100) * 0.09)


# Strategies.


def test_other_strategies_are_shown_for_jobs_that_can_and_are_never_first() -> None:
    table = world(offer(VIRGINIA, 1.0), offer(IOWA, 1.0))
    both = (data(VIRGINIA, 2000), data(IOWA, 1900))
    can = Work(unit_hours=10, output_ratio=0.01, strategies=frozenset(Strategy))

    planned = plan(request(*both, work=can), table)
    plain = plan(request(*both, work=replace(can, strategies=frozenset())), table)
    together = plan(request(data(VIRGINIA, 1), data(VIRGINIA, 1), work=can), table)

    assert {one.strategy for one in planned.candidates} == set(Strategy)
    assert planned.first.strategy is Strategy.GATHER
    others = [one for one in planned.candidates if one.strategy is not Strategy.GATHER]
    assert {one.note for one in others} == {"not runnable yet"}
    federate = next(one for one in others if one.strategy is Strategy.FEDERATE)
    assert federate.usd.total.p50 < planned.first.usd.total.p50
    assert federate.where == "aws us-east-1 + gcp us-central1"
    assert federate.output_place == "aws us-east-1"
    # A hundredth of 1,900 GB leaves Iowa, of which 100 GiB are free
    assert federate.usd.egress.p50 == 0
    # Each half of the work has machines of its own
    assert federate.seconds.compute.p50 == pytest.approx(36000 * 2000 / 3900)
    assert {one.strategy for one in plain.candidates} == {Strategy.GATHER}
    assert {one.strategy for one in together.candidates} == {Strategy.GATHER}


def test_partial_results_do_not_travel_where_the_data_may_not_be() -> None:
    table = world(offer(VIRGINIA, 1.0), offer(IRELAND, 1.0))
    resident = rules(
        residency=[{"name": "eu", "prefix": "s3://patients", "regions": ["eu-west-1"]}]
    )
    both = (data(VIRGINIA, 2000), data(IRELAND, 10, "s3://patients/x"))
    can = Work(unit_hours=1, output_ratio=0.0, strategies=frozenset({Strategy.FEDERATE}))

    planned = plan(request(*both, work=can), table, resident)

    assert {one.strategy for one in planned.candidates} == {Strategy.GATHER}
    assert any(one.where == "federate" and "'eu'" in one.rule for one in planned.denied)


# Flips.


def test_the_choice_flips_where_egress_outgrows_the_saving() -> None:
    table = world(offer(VIRGINIA, 3.0), offer(IOWA, 1.0))
    large = data(VIRGINIA, 2000)
    work, learned = Work(output_ratio=0.0), Learned(Factor(100.0, 1.5, 5))

    planned = plan(request(large, work=work, learned=learned), table)

    # Iowa costs less for the free bytes of a month, and again where the last tiers begin.
    assert [flip.direction for flip in planned.flips] == ["below", "above"]
    for flip in planned.flips:
        sizes = [int(flip.size_bytes * share) for share in (0.99, 1.01)]
        below, above = (
            plan(request(replace(large, size_bytes=size), work=work, learned=learned), table)
            for size in sizes
        )
        near, beyond = (above, below) if flip.direction == "below" else (below, above)
        assert places(near, beyond) == [planned.first.where, flip.to]
        assert planned.first.where == "aws us-east-1"


def test_a_flip_to_nothing_says_that_a_limit_is_reached() -> None:
    table = world(offer(VIRGINIA, 1.0))
    asked = request(data(VIRGINIA, 100), work=Work(output_ratio=0.0))

    planned = plan(asked, table, rules(limits={"usd_per_run": 1}))

    (flip,) = planned.flips
    assert (flip.direction, flip.to) == ("above", "")
    ten = request(replace(data(VIRGINIA, 0), size_bytes=int(flip.size_bytes * 1.01)))
    assert plan(ten, table, rules(limits={"usd_per_run": 1})).candidates == ()


# Learning.


def test_what_is_known_of_a_job_changes_its_time_and_ends_the_warning() -> None:
    table = world(offer(VIRGINIA, 1.0))
    asked = request(data(VIRGINIA, 100))

    guess = plan(asked, table)
    known = plan(replace(asked, learned=Learned(slowness=Factor(4.0, 1.2, 5))), table)

    assert guess.low_confidence
    assert any(text.startswith("low confidence") for text in guess.warnings)
    assert not known.low_confidence
    assert known.first.seconds.compute.p50 == pytest.approx(4 * guess.first.seconds.compute.p50)
    assert known.first.seconds.compute.p90 == pytest.approx(1.2 * known.first.seconds.compute.p50)


# Laws.


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 5), st.floats(0, 3000), st.booleans())
def test_no_plan_is_cheaper_when_a_price_rises(
    here: float, there: float, rise: float, gb: float, spot: bool
) -> None:
    asked = request(data(VIRGINIA, gb), work=TWO_HOURS)

    def least(home: float) -> float:
        table = world(offer(VIRGINIA, home, spot=spot), offer(IOWA, there))
        return min(one.usd.total.p50 for one in plan(asked, table).candidates)

    assert least(here) <= least(here + rise)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_no_plan_is_cheaper_when_there_is_more_data(few: float, more: float) -> None:
    few, more = sorted((few, more))
    table = world(offer(VIRGINIA, 2.0), offer(IOWA, 1.0), offer(OHIO, 1.5, spot=True))

    def costs(gb: float) -> dict[str, float]:
        planned = plan(request(data(VIRGINIA, gb)), table)
        return {one.where: one.usd.total.p50 for one in planned.candidates}

    small, large = costs(few), costs(more)
    assert all(small[place] <= large[place] for place in small)
