"""Egress by cumulative tiers, to the cent, and the laws that any such price keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.infra.catalog.models import Tier
from headwater.infra.catalog.tables import load_catalog
from headwater.infra.models import Cloud
from headwater.infra.planner.tiers import egress_usd, tiers_usd

TB = 1024
GIB = 2**30

# Each is a sum over the tiers of the cloud's price page, done by hand.
BY_HAND = {
    # 100 free; 10,240 at .09; 40,960 at .085; 102,400 at .07; the rest at .05
    (Cloud.AWS, "us-east-1"): {
        0: 0.00,
        99: 0.00,
        100: 0.00,
        101: 0.09,
        10 * TB: 912.60,
        11 * TB: 1000.14,
        50 * TB: 4394.70,
        60 * TB: 5113.00,
        150 * TB: 11564.20,
        500 * TB: 29486.20,
    },
    # 10,240 at .12; 143,360 at .11; the rest at .08
    (Cloud.GCP, "europe-west4"): {
        0: 0.00,
        99: 11.88,
        100: 12.00,
        101: 12.12,
        10 * TB: 1228.80,
        11 * TB: 1341.44,
        50 * TB: 5734.40,
        60 * TB: 6860.80,
        150 * TB: 16998.40,
        500 * TB: 45670.40,
    },
    # 100 free; to 10,335 at .087; to 51,295 at .083; to 153,695 at .07; the rest at .05
    (Cloud.AZURE, "eastus"): {
        0: 0.00,
        99: 0.00,
        100: 0.00,
        101: 0.087,
        10 * TB: 882.18,
        11 * TB: 967.552,
        50 * TB: 4282.24,
        60 * TB: 5000.275,
        150 * TB: 11451.475,
        500 * TB: 29373.375,
    },
}


@pytest.mark.parametrize(
    ("place", "gb", "usd"),
    [(place, gb, usd) for place, sums in BY_HAND.items() for gb, usd in sums.items()],
)
def test_each_sum_over_the_tiers_is_the_one_done_by_hand(
    place: tuple[Cloud, str], gb: int, usd: float
) -> None:
    rate = load_catalog().egress(*place, None, "")

    assert egress_usd(rate, gb * GIB) == pytest.approx(usd, abs=1e-6)


def test_what_was_moved_before_in_the_month_fills_the_tiers_first() -> None:
    rate = load_catalog().egress(Cloud.AWS, "us-east-1", None, "")

    # 45 TB used: 51,300 - 46,080 = 5,220 GB at .085, then 5,020 GB at .07
    assert egress_usd(rate, 10 * TB * GIB, 45 * TB * GIB) == pytest.approx(795.10, abs=1e-6)
    assert egress_usd(rate, 1 * GIB, 99 * GIB) == 0.0
    assert egress_usd(rate, 1 * GIB, 100 * GIB) == pytest.approx(0.09)


def test_nothing_moved_costs_nothing_wherever_the_month_stands() -> None:
    tiers = (Tier(0, 100, 0.0), Tier(100, None, 0.09))

    assert [tiers_usd(tiers, 0, used) for used in (0, 99.5, 100, 1e6)] == [0, 0, 0, 0]


sizes = st.floats(0, 1e7, allow_nan=False)
widths = st.lists(st.floats(1, 1e5), min_size=0, max_size=4)
prices = st.lists(st.floats(0, 0.2), min_size=5, max_size=5)


def tiers_of(widths: list[float], prices: list[float]) -> tuple[Tier, ...]:
    edges = [0.0]
    for width in widths:
        edges.append(edges[-1] + width)
    ends: list[float | None] = [*edges[1:], None]
    return tuple(Tier(a, b, p) for a, b, p in zip(edges, ends, prices, strict=False))


@given(widths, prices, sizes, sizes, sizes)
def test_more_bytes_never_cost_less(
    widths: list[float], prices: list[float], used: float, few: float, more: float
) -> None:
    tiers = tiers_of(widths, prices)
    few, more = sorted((few, more))

    assert tiers_usd(tiers, few, used) <= tiers_usd(tiers, more, used)


@given(widths, prices, sizes, sizes, st.floats(0, 1))
def test_a_little_more_costs_a_little_more(
    widths: list[float], prices: list[float], used: float, gb: float, little: float
) -> None:
    tiers = tiers_of(widths, prices)

    step = tiers_usd(tiers, gb + little, used) - tiers_usd(tiers, gb, used)
    assert step <= little * max(prices) + 1e-6


@given(widths, prices, sizes, sizes)
def test_two_moves_cost_what_one_of_both_does(
    widths: list[float], prices: list[float], first: float, second: float
) -> None:
    tiers = tiers_of(widths, prices)

    apart = tiers_usd(tiers, first) + tiers_usd(tiers, second, first)
    assert apart == pytest.approx(tiers_usd(tiers, first + second), rel=1e-9, abs=1e-6)


@given(widths, prices, sizes, sizes, st.integers(0, 4), st.floats(0, 1))
def test_a_price_that_rises_makes_nothing_cheaper(
    widths: list[float], prices: list[float], used: float, gb: float, which: int, rise: float
) -> None:
    dearer = [p + rise * (i == which) for i, p in enumerate(prices)]

    assert tiers_usd(tiers_of(widths, prices), gb, used) <= tiers_usd(
        tiers_of(widths, dearer), gb, used
    )
