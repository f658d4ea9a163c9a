"""The plan against every offer priced alone, in generated cases: the same winner, the same cost."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.planner_helpers import (
    EAST_US,
    IOWA,
    IRELAND,
    OHIO,
    TODAY,
    VIRGINIA,
    data,
    offer,
    rules,
    world,
)
from tests.unit.planner_oracle import allowed_answers, best, price

from headwater.infra.catalog.models import Offer
from headwater.infra.models import Cloud
from headwater.infra.planner.learning import Factor, Learned
from headwater.infra.planner.models import DataInput, MonthToDate, Needs, Output, PlanRequest, Work
from headwater.infra.planner.offers import OfferTable
from headwater.infra.planner.plan import plan
from headwater.infra.planner.spot import SpotUse
from headwater.infra.policies import Rules

PLACES = (
    VIRGINIA,
    OHIO,
    IRELAND,
    IOWA,
    EAST_US,
    (Cloud.GCP, "europe-west4"),
    (Cloud.AZURE, "westeurope"),
    (Cloud.AWS, "ap-northeast-1"),
)
NORTH_AMERICA = frozenset({"us-central1", "us-east1", "us-west1"})
CASES = 500


def test_fifty_generated_cases_have_the_winner_of_brute_force() -> None:
    for seed in range(50):
        compare(seed)


@pytest.mark.trial
@pytest.mark.parametrize("first", range(0, CASES, 50))
def test_five_hundred_generated_cases_have_the_winner_of_brute_force(first: int) -> None:
    for seed in range(first, first + 50):
        compare(seed)


def compare(seed: int) -> None:
    rng = random.Random(seed)
    table, request, some = case(rng)

    planned = plan(request, table, some)
    found = best(request, table.catalog, some)

    if found is None:
        assert planned.candidates == (), seed
        assert planned.denied, seed
        return
    first = planned.first
    assert first.machines[0].offer == found.offer, seed
    assert first.usd.total.p50 == pytest.approx(found.usd, rel=1e-9), seed
    assert first.seconds.total.p50 == pytest.approx(found.seconds, rel=1e-9), seed
    assert first.usd.total.p90 >= first.usd.total.p50, seed
    answers = allowed_answers(request, table.catalog, some)
    denied = sum(one.offers for one in planned.denied)
    assert len(answers) + denied + planned.unfit == len(table.offers), seed
    for candidate in planned.candidates:
        again = price(request, table.catalog, candidate.machines[0].offer, some)
        assert candidate.usd.total.p50 == pytest.approx(again.usd, rel=1e-9), seed


def case(rng: random.Random) -> tuple[OfferTable, PlanRequest, Rules]:
    """A world, something to do in it, and rules."""
    table = world(*(some_offer(rng, n) for n in range(rng.randint(3, 40))))
    inputs = tuple(some_input(rng, n) for n in range(rng.randint(1, 3)))
    needs = rng.choice(
        [Needs(gpus=rng.choice([1, 4, 9])), Needs(), Needs(gpus=2, gpu_names=("A100", "l4"))]
    )
    if needs.gpu_names and not {"A100", "L4"} <= set(table.gpu_names):
        needs = replace(needs, gpu_names=())
    if needs.gpus and not any(table.gpus):
        needs = Needs()
    request = PlanRequest(
        inputs,
        some_output(rng),
        TODAY,
        needs,
        Work(
            rework=rng.choice(["elastic", "gang"]),
            unit_hours=rng.choice([None, 10 ** rng.uniform(-1, 3)]),
            output_ratio=rng.choice([None, 0.0, rng.uniform(0, 2)]),
        ),
        endpoints={cloud: rng.choice([True, False, None]) for cloud in Cloud},
        month_to_date=(MonthToDate(Cloud.AWS, "internet", 10 ** rng.uniform(9, 14)),),
        learned=Learned(
            Factor(10 ** rng.uniform(-1, 1), 2.0, 3),
            Factor(rng.uniform(0.1, 2), 1.2, 3),
            (SpotUse(Cloud.AWS, "L4", rng.uniform(0, 1000), rng.randint(0, 40)),),
        ),
    )
    return table, request, some_rules(rng)


def some_offer(rng: random.Random, n: int) -> Offer:
    gpu, gib = rng.choice([("L4", 22.35), ("A100", 39.4), ("T4", 14.6), ("", 0.0)])
    gpus = rng.choice([1, 2, 4, 8]) if gpu else 0
    made = offer(rng.choice(PLACES), rng.uniform(0.1, 4) * max(1, gpus), spot=rng.random() < 0.5)
    return replace(
        made,
        instance_type=f"{rng.choice(['m', 'g', 'p'])}{rng.randint(1, 3)}.x{n}",
        gpu=gpu,
        gpus=gpus,
        gpu_memory_gib=gib,
        vcpus=rng.choice([2, 8, 32]),
        memory_gib=float(rng.choice([4, 32, 128])),
        network_gbps=rng.choice([None, 1.0, 10.0, 100.0]),
        as_of=rng.choice([None, TODAY, TODAY - timedelta(days=rng.randint(1, 400))]),
    )


def some_input(rng: random.Random, n: int) -> DataInput:
    one = data(rng.choice(PLACES), 10 ** rng.uniform(-1, 5), objects=rng.randint(1, 5000))
    return replace(one, regions=NORTH_AMERICA) if one.cloud is Cloud.GCP and n == 2 else one


def some_output(rng: random.Random) -> Output:
    cloud, region = rng.choice(PLACES)
    return rng.choice(
        [Output(follows=True), Output("out"), Output("s3://out", cloud, frozenset({region}))]
    )


def some_rules(rng: random.Random) -> Rules:
    said = {
        "clouds": ["aws", "gcp"],
        "regions": ["us-*", "europe-west4", "eastus"],
        "instance_families": rng.choice([["g*", "m*", "small"], ["g*", "m*"]]),
        "spot": rng.choice(["forbid", "require"]),
        "max_price_age_days": rng.choice([10, 200]),
        "limits": {
            key: 10 ** rng.uniform(low, high)
            for key, low, high in (
                ("usd_per_hour", 0, 2),
                ("usd_per_run", 0, 4),
                ("egress_usd", -1, 4),
            )
            if rng.random() < 0.5
        },
    }
    return rules(**{key: value for key, value in said.items() if rng.random() < 0.2})
