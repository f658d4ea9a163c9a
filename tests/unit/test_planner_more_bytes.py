"""What a plan counts beside its inputs: copies that are made first, and tables that come after."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.planner_helpers import GB, IOWA, OHIO, VIRGINIA, data, offer, request, world

from headwater.infra.models import Cloud
from headwater.infra.planner.learning import Factor, Learned
from headwater.infra.planner.models import Copying, DataInput, FollowUp, Here, Output, Work
from headwater.infra.planner.plan import plan

ONLY_VIRGINIA = world(offer(VIRGINIA, 3.6))
IN_VIRGINIA = Output("s3://data/copies", Cloud.AWS, frozenset({"us-east-1"}))
ON_DISK = Output("file:///copies", None)
LOCAL = DataInput("s3://data/x", None, frozenset(), 100 * GB)


def test_a_copy_costs_what_reading_from_afar_would_and_then_reading_is_free() -> None:
    afar = plan(request(data(IOWA, 200)), ONLY_VIRGINIA).first
    copying = request(data(VIRGINIA, 200), copies=(Copying(data(IOWA, 200), IN_VIRGINIA),))
    copied = plan(copying, ONLY_VIRGINIA).first
    again = plan(request(data(VIRGINIA, 200)), ONLY_VIRGINIA).first

    assert afar.usd.egress.p50 > 1
    assert copied.usd.egress == afar.usd.egress
    assert copied.moved == afar.moved
    assert again.usd.egress.p50 == 0
    # It is read once here and once there: 200 GB at 2.5 Gbit/s and at half of 10
    assert copied.seconds.read.p50 == pytest.approx(afar.seconds.read.p50 + 320)
    assert copied.seconds.write.p50 == pytest.approx(320)
    assert copied.usd.requests.p50 > again.usd.requests.p50


def test_a_store_that_copies_by_itself_sends_nothing_through_the_machines() -> None:
    copying = Copying(data(OHIO, 100), IN_VIRGINIA, by_store=True)

    first = plan(request(data(VIRGINIA, 100), copies=(copying,)), ONLY_VIRGINIA).first
    read_there = plan(request(data(OHIO, 100)), ONLY_VIRGINIA).first

    assert first.usd.egress == read_there.usd.egress
    assert first.usd.nat.p50 == 0


def test_copies_to_this_machine_leave_the_cloud_once() -> None:
    here = Here(8)
    read = plan(request(data(VIRGINIA, 150), here=here), ONLY_VIRGINIA).first
    copying = Copying(data(VIRGINIA, 150), ON_DISK)
    gathered = plan(request(LOCAL, here=here, copies=(copying,)), ONLY_VIRGINIA).first
    through = Copying(data(IOWA, 150), IN_VIRGINIA)
    twice = plan(request(data(VIRGINIA, 150), here=here, copies=(through,)), ONLY_VIRGINIA).first

    assert gathered.is_here
    assert gathered.usd.egress == read.usd.egress
    assert gathered.moved == read.moved
    assert gathered.usd.egress.p50 == pytest.approx(
        (150 * GB / 2**30 - 100) * 0.09  # 100 GiB of a month are free
    )
    # To Virginia and back: out of GCP, and then out of AWS
    assert {one.cloud: one.moved_bytes for one in twice.moved} == {
        Cloud.AWS: 150 * GB,
        Cloud.GCP: 150 * GB,
    }
    assert twice.seconds.write.p50 == pytest.approx(150 * 8)  # at 1 Gbit/s


def test_a_follow_up_reads_the_result_and_writes_its_own() -> None:
    work = Work(output_ratio=0.5)
    alone = plan(request(data(VIRGINIA, 100), work=work), ONLY_VIRGINIA).first

    both = plan(
        request(data(VIRGINIA, 100), work=work, then=(FollowUp(), FollowUp())), ONLY_VIRGINIA
    ).first

    # Two tables, each from half of the bytes, and each as large as what it is made from
    assert both.seconds.compute.p50 == pytest.approx(2 * alone.seconds.compute.p50)
    assert both.seconds.read.p50 == pytest.approx(2 * alone.seconds.read.p50)
    assert both.seconds.write.p50 == pytest.approx(3 * alone.seconds.write.p50)
    assert both.usd.total.p50 > alone.usd.total.p50
    assert both.usd.egress.p50 == alone.usd.egress.p50 == 0


def test_what_is_known_of_a_follow_up_counts() -> None:
    slow = FollowUp(Learned(slowness=Factor(4.0, 1.5, 3), output_ratio=Factor(0.25, 1.2, 3)))
    base = request(data(VIRGINIA, 100), work=Work(output_ratio=1.0))

    alone = plan(base, ONLY_VIRGINIA).first
    then = plan(replace(base, then=(slow,)), ONLY_VIRGINIA).first

    assert then.seconds.compute.p50 == pytest.approx(5 * alone.seconds.compute.p50)
    assert then.seconds.write.p50 == pytest.approx(1.25 * alone.seconds.write.p50)


@pytest.mark.parametrize("here", [None, Here(8)])
def test_a_result_in_another_place_is_read_back_from_there(here: Here | None) -> None:
    output = Output("gs://data/out", Cloud.GCP, frozenset({"us-central1"}))
    base = request(data(VIRGINIA, 500), work=Work(output_ratio=1.0), output=output, here=here)

    alone = plan(base, ONLY_VIRGINIA).first
    then = plan(replace(base, then=(FollowUp(),)), ONLY_VIRGINIA).first

    back = {one.cloud: one.moved_bytes for one in then.moved}
    assert back[Cloud.GCP] == 500 * GB
    assert Cloud.GCP not in {one.cloud for one in alone.moved}
    assert then.usd.egress.p50 > alone.usd.egress.p50
