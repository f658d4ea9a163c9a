"""One place after the other, until one has a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from headwater.infra.clusters import walk
from headwater.infra.clusters.blueprint import Place
from headwater.infra.clusters.walk import Walk
from headwater.infra.errors import InvalidLaunch, LaunchError, NoCapacity, QuotaExceeded
from headwater.infra.launchers.base import Node
from headwater.infra.models import Market

A = Place("us-east-1", "us-east-1a", "g6.xlarge", Market.SPOT)
B = replace(A, zone="us-east-1b")
WEST = replace(A, region="us-west-2", zone="us-west-2a")
NODE = cast("Node", "a machine")


class Region:
    """Refuses in some places, and counts what it was asked."""

    def __init__(self, **refusals: LaunchError) -> None:
        self.refusals = refusals
        self.asked: list[str] = []

    def launch_in(self, place: Place) -> Node:
        self.asked.append(place.zone)
        if (refusal := self.refusals.get(place.zone.replace("-", "_"))) is not None:
            raise refusal
        return NODE


def test_the_first_place_that_has_one_gives_it() -> None:
    region, steps = Region(us_east_1a=NoCapacity("none is free")), Walk()

    assert steps.launch(region.launch_in, [A, B, WEST]) == NODE

    assert region.asked == ["us-east-1a", "us-east-1b"]
    assert [(one.outcome, one.reason) for one in steps.tries] == [
        ("failed", "none is free"),
        ("opened", ""),
    ]


def test_a_quota_is_its_whole_regions() -> None:
    region = Region(us_east_1a=QuotaExceeded("8 vCPUs at most"))

    assert Walk().launch(region.launch_in, [A, B, WEST]) == NODE

    assert region.asked == ["us-east-1a", "us-west-2a"]


def test_a_place_without_capacity_is_not_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region, steps = Region(us_east_1a=NoCapacity("none is free")), Walk()

    for _ in range(2):
        steps.launch(region.launch_in, [A, B])
    assert region.asked == ["us-east-1a", "us-east-1b", "us-east-1b"]

    monkeypatch.setattr(walk, "EMPTY_SECONDS", 0.0)
    steps.launch(region.launch_in, [A, B])
    assert region.asked[3:] == ["us-east-1a", "us-east-1b"]


def test_what_no_other_place_mends_ends_the_walk() -> None:
    region = Region(us_east_1a=InvalidLaunch("no such image"))

    with pytest.raises(InvalidLaunch, match="no such image"):
        Walk().launch(region.launch_in, [A, B])

    assert region.asked == ["us-east-1a"]


def test_what_each_place_said_is_told_and_how_to_have_more() -> None:
    region = Region(
        us_east_1a=NoCapacity("none is free", hint="wait"),
        us_west_2a=QuotaExceeded("8 vCPUs at most", hint="ask for more at the console"),
    )

    with pytest.raises(NoCapacity) as caught:
        Walk().launch(region.launch_in, [A, WEST])

    assert caught.value.message == (
        "no place has a machine (us-east-1a g6.xlarge spot: none is free;"
        " us-west-2a g6.xlarge spot: 8 vCPUs at most)"
    )
    assert caught.value.hint == "ask for more at the console"
