"""The packaged tables can be true, and each kind of row that cannot is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from headwater.infra.catalog.checks import (
    check_egress,
    check_market,
    check_offers,
    check_outliers,
    check_requests,
)
from headwater.infra.catalog.files import packaged_areas, write_offers
from headwater.infra.catalog.models import EgressRate, Offer, RequestPrice, Tier
from headwater.infra.catalog.review import review
from headwater.infra.catalog.tables import load_catalog
from headwater.infra.models import Cloud, Market

TODAY = date(2026, 11, 25)
AREAS = packaged_areas()
GOOD = Offer(
    Cloud.AWS, "us-east-1", "g5.xlarge", Market.ON_DEMAND, 1.006, 4, 16.0, "A10G", 1, 22.352
)
TIERS = (Tier(0, 100, 0), Tier(100, 10_340, 0.09), Tier(10_340, None, 0.085))
RATE = EgressRate(Cloud.AWS, "us-east-1", "internet", TIERS)


def test_the_packaged_tables_hold_nothing_that_cannot_be_true() -> None:
    tables = review([], None, today=TODAY)

    assert [t.name for t in tables] == ["offers.csv", "egress.csv", "requests.csv", "all offers"]
    assert [str(f) for t in tables for f in t.findings] == []
    assert tables[0].rows > 1_500


def test_every_packaged_price_has_a_source(tmp_path: Path) -> None:
    catalog = load_catalog(refreshed=tmp_path)

    assert [o for o in catalog.offers if not o.source] == []
    assert [r for r in [*catalog.rates[0], *catalog.request_prices[0]] if not r.source] == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"usd_per_hour": 0.0}, "$0 an hour stands for no price"),
        ({"usd_per_hour": -1.0}, "$-1 an hour stands for no price"),
        ({"usd_per_hour": 9999.0}, "$9999 an hour stands for no price"),
        ({"usd_per_hour": 999.99}, "$999.99 an hour stands for no price"),
        ({"usd_per_hour": float("inf")}, "$inf an hour stands for no price"),
        ({"usd_per_hour": 1234.5}, "$1234.5 an hour is above $1000"),
        ({"gpus": 0}, "0 GPUs named 'A10G' with 22.352 GiB each do not go together"),
        ({"gpu": ""}, "1 GPUs named '' with 22.352 GiB each do not go together"),
        ({"gpu_memory_gib": 0.0}, "1 GPUs named 'A10G' with 0 GiB each do not go together"),
        ({"gpus": 5}, "5 GPUs: machines have 1, 2"),
        ({"gpu_memory_gib": 22888.0}, "22888 GiB in one GPU"),
        ({"memory_gib": 16384.0}, "16384 GiB of memory for 4 vCPUs"),
        ({"vcpus": 0}, "0 vCPUs"),
        ({"region": "us-est-1"}, "'us-est-1' is no region of aws"),
        ({"as_of": date(2026, 11, 26)}, "its date 2026-11-26 is in the future"),
    ],
)
def test_an_offer_that_cannot_be_true_is_named(change: dict[str, object], found: str) -> None:
    (finding,) = check_offers([replace(GOOD, **change)], AREAS, today=TODAY)  # type: ignore[arg-type]

    assert finding.row.startswith("aws ")
    assert finding.row.endswith("g5.xlarge on demand")
    assert found in finding.what
    assert check_offers([GOOD], AREAS, today=TODAY) == []


def test_two_prices_for_one_machine_are_named() -> None:
    findings = check_offers([GOOD, replace(GOOD, usd_per_hour=1.1)], AREAS, today=TODAY)

    assert [str(f) for f in findings] == ["aws us-east-1 g5.xlarge on demand: is there 2 times"]


def test_spot_above_the_price_on_demand_is_named() -> None:
    spot = replace(GOOD, market=Market.SPOT, usd_per_hour=1.2)

    assert [str(f) for f in check_market([GOOD, spot])] == [
        "aws us-east-1 g5.xlarge spot: spot at $1.2 an hour, and on demand at $1.006"
    ]
    assert check_market([GOOD, replace(spot, usd_per_hour=0.5)]) == []


def family(ratios: dict[str, dict[str, float]]) -> list[Offer]:
    """Offers of types over regions, at these multiples of $1."""
    return [
        replace(GOOD, region=region, instance_type=name, usd_per_hour=ratio)
        for name, over in ratios.items()
        for region, ratio in over.items()
    ]


ALIKE = {"us-east-1": 1.0, "us-west-2": 1.0, "eu-west-1": 1.1, "ap-south-1": 1.2}


def test_a_price_far_from_those_of_other_regions_is_named() -> None:
    offers = family({"g5.xlarge": {**ALIKE, "us-west-2": 10.0}})

    (finding,) = check_outliers(offers)

    assert finding.row == "aws us-west-2 g5.xlarge on demand"
    assert finding.what == "$10 an hour is 8.70 times the $1.15 of the middle region"


def test_a_price_unlike_its_family_in_that_region_is_named() -> None:
    names = ("g5.xlarge", "g5.2xlarge", "g5.4xlarge")
    offers = family({**dict.fromkeys(names, ALIKE), "g5.8xlarge": {**ALIKE, "eu-west-1": 2.0}})

    (finding,) = check_outliers(offers)

    assert finding.row == "aws eu-west-1 g5.8xlarge on demand"
    assert "while family g5 is at" in finding.what
    assert check_outliers(family(dict.fromkeys(names, ALIKE))) == []


def tiers(*steps: tuple[float, float | None, float]) -> tuple[Tier, ...]:
    return tuple(Tier(*step) for step in steps)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"tiers": ()}, "has no tiers"),
        ({"tiers": tiers((1, None, 0.09))}, "begins at 1 GB"),
        ({"tiers": tiers((0, 100, 0.09))}, "ends at 100 GB"),
        (
            {"tiers": tiers((0, 100, 0), (101, None, 0.09))},
            "the tier from 0 ends at 100, and the next begins at 101",
        ),
        (
            {"tiers": tiers((0, 100, 0), (100, 200, 0.08), (200, None, 0.09))},
            "$0, $0.08, $0.09 per GB: after what is free, tiers are paid and fall",
        ),
        (
            {"tiers": tiers((0, 100, 0.09), (100, None, 0))},
            "$0.09, $0 per GB: after what is free, tiers are paid and fall",
        ),
        ({"tiers": tiers((0, None, 9.0))}, "$9 per GB: prices lie between $0 and $1"),
        ({"gb_bytes": 1}, "a GB of 1 bytes"),
        ({"to": "the moon"}, "'the moon' is no destination"),
        ({"scope": "us-est-1"}, "'us-est-1' is no region of aws"),
        ({"scope": "xx-*"}, "'xx-*' is no region of aws"),
        ({"as_of": date(2027, 1, 1)}, "its date 2027-01-01 is in the future"),
    ],
)
def test_an_egress_rate_that_cannot_be_true_is_named(change: dict[str, object], found: str) -> None:
    (finding,) = check_egress([replace(RATE, **change)], AREAS, today=TODAY)  # type: ignore[arg-type]

    assert found in finding.what
    assert check_egress([RATE], AREAS, today=TODAY) == []


def test_two_rates_for_one_way_are_named() -> None:
    (finding,) = check_egress([RATE, RATE], AREAS, today=TODAY)

    assert str(finding) == "aws us-east-1 to internet: is there 2 times"


def test_a_request_price_in_another_unit_is_named() -> None:
    price = RequestPrice(Cloud.AWS, "us-east-1", "write", 0.005)

    assert check_requests([price], today=TODAY) == []
    (finding,) = check_requests([replace(price, usd_per_1000=5.0)], today=TODAY)
    assert str(finding) == "aws us-east-1 write requests: $5 for 1,000"


def test_the_users_tables_are_checked_as_well(tmp_path: Path) -> None:
    fresh = tmp_path / "offers-aws.csv"
    write_offers(fresh, [replace(GOOD, usd_per_hour=9999.0)])
    own = tmp_path / "prices.toml"
    own.write_text(
        '[[offers]]\ncloud = "aws"\nregion = "us-est-1"\ninstance_type = "g5.xlarge"\n'
        "usd_per_hour = 0.1\n"
    )

    named = {t.name: [str(f) for f in t.findings] for t in review([fresh], own, today=TODAY)}

    assert named[str(fresh)] == [
        "aws us-east-1 g5.xlarge on demand: $9999 an hour stands for no price"
    ]
    assert named[str(own)] == ["aws us-est-1 g5.xlarge on demand: 'us-est-1' is no region of aws"]
    assert any("9999" in text for text in named["all offers"])
