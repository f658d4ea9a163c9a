"""A plan in 80 columns: every place fits, and nothing that matters is left out."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from tests.unit.planner_helpers import IOWA, IRELAND, OHIO, VIRGINIA, data, offer, request, world

from headwater.flows.plan_text import (
    SHOWN_OF_PLACE,
    as_json,
    as_text,
    elsewhere_line,
    placement_line,
    placement_of,
    shown,
)
from headwater.infra.models import DENIALS_KEPT, Placement, to_jsonable
from headwater.infra.planner.models import (
    Denial,
    Estimate,
    Flip,
    Needs,
    PlacementPlan,
    Strategy,
    Work,
)
from headwater.infra.planner.plan import plan

ENDLESS = Estimate(math.inf, math.inf)
LONG = "a1-with-quite-a-long-name-as-azure-likes-them-v4"


def some_plan() -> PlacementPlan:
    table = world(
        *(
            offer(place, usd, kind=f"{LONG}-{n}", spot=n % 2 == 0)
            for place in (VIRGINIA, OHIO, IOWA, IRELAND)
            for n, usd in enumerate((1.0, 2.0, 40.0))
        ),
    )
    can = Work(unit_hours=400, output_ratio=0.0, strategies=frozenset(Strategy))
    asked = request(data(VIRGINIA, 20_000), data(IOWA, 900), work=can, needs=Needs(gpus=8))
    return plan(asked, table)


def test_every_line_fits_and_each_place_has_a_few_rows() -> None:
    planned = some_plan()

    lines = as_text(planned).splitlines()

    assert max(map(len, lines)) <= 80
    ranks = [line[:4] for line in lines if line[:2].strip().isdigit()]
    gathers = [one for one in planned.candidates if one.strategy is Strategy.GATHER]
    places = {one.where for one in gathers}
    assert len(ranks) == len(places) * SHOWN_OF_PLACE + 3  # and three other strategies
    assert " ".join(" ".join(lines).split()).count("not runnable yet") == 3
    assert lines[2].startswith(" 1  aws us-east-1, 8 x ")


def test_flips_limits_and_dates_are_told_in_words() -> None:
    planned = replace(
        some_plan(),
        flips=(Flip("below", 40 * 2**30, "gcp us-central1"), Flip("above", 2.5 * 2**40, "")),
        denied=(Denial("azure: 35 regions", "clouds of policy 'team'", "team.toml", "", 163),),
    )

    text = as_text(planned)

    assert "flips    below 40.0 GiB of input gcp us-central1 would win" in text
    assert "flips    above 2.5 TiB of input no place would be within the limits" in text
    assert "denied   azure: 35 regions (163 offers): clouds of policy 'team' (team.toml)" in text
    assert "prices   of 2026-11-18" in text


def test_the_json_has_all_candidates_and_their_parts_add_up() -> None:
    planned = some_plan()

    told = json.loads(json.dumps(as_json(planned)))

    assert len(told["candidates"]) == len(planned.candidates)
    for one in told["candidates"]:
        for amounts in (one["usd"], one["seconds"]):
            total = amounts.pop("total")
            for end in ("p50", "p90"):
                assert abs(sum(part[end] for part in amounts.values()) - total[end]) < 1e-6
    first = told["candidates"][0]["machines"][0]
    assert (first["nodes"], first["gpus"], first["price_date"]) == (8, 8, "2026-11-18")


def test_what_may_never_end_is_null_in_the_json() -> None:
    first = some_plan().first
    endless = replace(first, seconds=replace(first.seconds, rework=Estimate(1.0, math.inf)))

    told = json.loads(json.dumps(as_json(replace(some_plan(), candidates=(endless,)))))

    assert told["candidates"][0]["seconds"]["rework"] == {"p50": 1.0, "p90": None}
    assert told["candidates"][0]["seconds"]["total"]["p90"] is None


def test_a_placement_is_one_line() -> None:
    free = Placement("this machine", (0.0, 0.0), None, "no cloud bills for its data")
    unknown = Placement("this machine", why="what its bytes cost is not known: no answer")

    assert placement_line(free) == "this machine, free: no cloud bills for its data"
    assert placement_line(unknown).startswith("this machine: what its bytes cost is not known")


def test_a_receipt_keeps_the_table_as_it_is_shown_and_a_bounded_list_of_denials() -> None:
    denial = Denial("azure: 35 regions", "clouds of policy 'team'", "team.toml", "", 163)
    planned = replace(some_plan(), denied=(denial,) * (DENIALS_KEPT + 2))
    endless = replace(planned.candidates[0], usd=replace(planned.first.usd, rework=ENDLESS))
    planned = replace(planned, candidates=(endless, *planned.candidates[1:]))

    kept = placement_of(planned)

    assert [(one.rank, one.where) for one in kept.ranking] == [
        (rank, one.where) for rank, one in shown(planned)
    ]
    assert kept.ranking[0].usd == (None, None)
    assert kept.ranking[0].parts["rework"] is None
    second, candidate = kept.ranking[1], planned.candidates[kept.ranking[1].rank - 1]
    assert second.usd == (candidate.usd.total.p50, candidate.usd.total.p90)
    assert second.seconds == (candidate.seconds.total.p50, candidate.seconds.total.p90)
    assert sum(amount or 0 for amount in second.parts.values()) == pytest.approx(second.usd[0])
    assert (len(kept.denied), kept.denied_more) == (DENIALS_KEPT, 2)
    json.dumps(to_jsonable(kept.ranking), allow_nan=False)
    assert elsewhere_line(kept).endswith(f"; {DENIALS_KEPT + 2} denied by rules")
