"""What a copy costs, by hand: egress by tiers of the month, requests, and what stays free."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from tests.unit.planner_helpers import (
    EAST_US,
    GB,
    IOWA,
    IRELAND,
    OHIO,
    TODAY,
    VIRGINIA,
    rules,
    world,
)

from headwater.infra.errors import PriceUnknown
from headwater.infra.locations.models import Location
from headwater.infra.models import Cloud, Egress, TransferPrice
from headwater.infra.planner.history import month_to_date
from headwater.infra.planner.models import MonthToDate
from headwater.infra.planner.transfers import beyond, price_transfer
from headwater.infra.regions import REGIONS
from headwater.infra.storage.transfer import TransferReceipt, Unit
from headwater.infra.storage.transfer.traffic import Traffic

GIB = 2**30
HERE = Location("/data", None, frozenset(), "local", 0, 0)


def place(site: tuple[Cloud, str], *more: str) -> Location:
    return Location("s3://data/x", site[0], frozenset({site[1], *more}), "api", 0, 0)


def used(cloud: Cloud, gib: float, to: str = "internet") -> tuple[MonthToDate, ...]:
    return (MonthToDate(cloud, to, gib * GIB),)


def read(gib: float) -> Traffic:
    return Traffic(from_source=int(gib * GIB))


def receipt(price: TransferPrice | None, started: datetime) -> TransferReceipt:
    ends = ("s3://a", "gs://b")
    return TransferReceipt(
        Unit.FOLDER, *ends, None, 1, 1, 1, 1, 0, 0, started, 1.0, "m", 0, price=price
    )


@pytest.mark.parametrize(
    ("gib", "before", "usd"),
    [
        (100, 0, 0.0),  # the first 100 GB of a month are free
        (101, 0, 0.09),
        (1, 100, 0.09),
        (2, 99, 0.09),
        (10, 10_335, 5 * 0.09 + 5 * 0.085),
    ],
)
def test_bytes_that_come_here_are_billed_by_the_tiers_of_the_month(
    gib: float, before: float, usd: float
) -> None:
    price = price_transfer(
        read(gib), place(VIRGINIA), place(EAST_US), world(), used(Cloud.AWS, before)
    )

    (egress,) = price.egress
    assert egress.usd == pytest.approx(usd)
    assert (egress.cloud, egress.regions, egress.to) == (Cloud.AWS, ("us-east-1",), "internet")
    assert price.as_of == date(2026, 5, 6)


def test_what_comes_from_here_costs_its_requests_alone() -> None:
    price = price_transfer(
        replace(read(500), target_writes=1000, target_lists=1), HERE, place(VIRGINIA), world()
    )

    assert price.egress == ()
    assert price.usd == pytest.approx(0.005 + 0.005 / 1000)


def test_requests_are_billed_by_the_place_that_they_go_to() -> None:
    asked = Traffic(source_reads=10_000, source_lists=10, target_writes=2000, target_reads=500)

    price = price_transfer(asked, place(VIRGINIA), place(IOWA), world())

    aws = 10 * 0.0004 + 0.01 * 0.005
    gcp = 2 * 0.005 + 0.5 * 0.0004
    assert price.requests_usd == pytest.approx(aws + gcp)


@pytest.mark.parametrize(
    ("target", "usd", "to"),
    [(VIRGINIA, 0.0, "same region"), (OHIO, 10.0, "us-east-2"), (IRELAND, 20.0, "other region")],
)
def test_what_a_store_copies_itself_never_leaves_its_cloud(
    target: tuple[Cloud, str], usd: float, to: str
) -> None:
    price = price_transfer(Traffic(by_store=1000 * GIB), place(VIRGINIA), place(target), world())

    (egress,) = price.egress
    assert (egress.usd, egress.to) == (pytest.approx(usd), to)


def test_buckets_of_the_very_same_regions_copy_for_nothing() -> None:
    europe = sorted(r for r in REGIONS[Cloud.GCP] if r.startswith("europe-west"))[:4]
    wide = place((Cloud.GCP, europe[0]), *europe[1:])

    within = price_transfer(Traffic(by_store=1000 * GIB), wide, wide, world())
    out = price_transfer(Traffic(by_store=1000 * GIB), wide, place((Cloud.GCP, europe[0])), world())

    assert within.egress_usd == 0
    assert out.egress_usd == pytest.approx(20.0)


def test_both_ends_of_one_cloud_fill_the_same_tiers() -> None:
    # 60 GB each way: 20 of them are beyond the month's 100.
    both = Traffic(from_source=60 * GIB, from_target=60 * GIB)

    price = price_transfer(both, place(VIRGINIA), place(OHIO), world())

    assert [one.usd for one in price.egress] == [0.0, pytest.approx(20 * 0.09)]


def test_a_way_without_a_price_is_refused() -> None:
    bare = world()
    catalog = replace(bare.catalog, rates=((),))
    table = replace(bare, catalog=catalog)

    with pytest.raises(PriceUnknown, match="no price from aws us-east-1 to the internet"):
        price_transfer(read(1), place(VIRGINIA), place(IOWA), table)


def test_the_tightest_limit_that_is_passed_is_named() -> None:
    price = TransferPrice((Egress(Cloud.AWS, ("us-east-1",), "internet", GB, 2.0),), 1.0)

    assert beyond(price, rules(limits={"usd_per_run": 3, "egress_usd": 2})) is None
    over = beyond(price, rules(limits={"usd_per_run": 2.5}))
    egress = beyond(price, rules(limits={"usd_per_run": 2.5, "egress_usd": 1}))
    assert over is not None
    assert over.name == "limits.usd_per_run = 2.5 of policy 'team'"
    assert egress is not None
    assert egress.name == "limits.egress_usd = 1 of policy 'team'"


def test_copies_of_this_month_count_in_its_sum() -> None:
    price = TransferPrice((Egress(Cloud.AWS, ("us-east-1",), "internet", 7 * GB, 0.5),))
    today = datetime.combine(TODAY, datetime.min.time(), UTC)
    copies = [
        receipt(price, today),
        receipt(price, today.replace(day=1)),
        receipt(price, today.replace(month=10)),
        receipt(None, today),
    ]

    assert month_to_date([], TODAY, copies) == (MonthToDate(Cloud.AWS, "internet", 14 * GB),)
