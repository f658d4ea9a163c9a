"""All tables of prices there are, each checked by itself, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from headwater.infra.catalog.checks import (
    Finding,
    check_egress,
    check_market,
    check_offers,
    check_outliers,
    check_requests,
)
from headwater.infra.catalog.files import (
    PACKAGED,
    overlay,
    packaged_areas,
    read_egress,
    read_offers,
    read_requests,
)
from headwater.infra.catalog.negotiated import read_negotiated


@dataclass(frozen=True, slots=True)
class Table:
    """One table, and what in it cannot be true.

    Attributes:
        name: The file; ``all offers`` for what the tables say together.
        rows: Prices in it.
    """

    name: str
    rows: int
    findings: tuple[Finding, ...]


def review(refreshed: list[Path], negotiated: Path | None, *, today: date) -> list[Table]:
    """Every table of prices with what is wrong in it.

    Args:
        refreshed: Tables that a refresh wrote.
        negotiated: The user's own prices. They are not held against those of other regions:
            discounts may be deep.
    Raises:
        InvalidRequest: A table cannot be read at all; the row is named.
    """
    areas = packaged_areas()
    offers = read_offers(PACKAGED / "offers.csv")
    rates = read_egress(PACKAGED / "egress.csv")
    prices = read_requests(PACKAGED / "requests.csv")
    tables = [
        Table("offers.csv", len(offers), tuple(check_offers(offers, areas, today=today))),
        Table("egress.csv", len(rates), tuple(check_egress(rates, areas, today=today))),
        Table("requests.csv", len(prices), tuple(check_requests(prices, today=today))),
    ]
    for path in refreshed:
        fresh = read_offers(path)
        tables.append(Table(str(path), len(fresh), tuple(check_offers(fresh, areas, today=today))))
        offers = overlay(offers, fresh)
    tables.append(
        Table("all offers", len(offers), tuple(check_market(offers) + check_outliers(offers)))
    )
    if negotiated is not None:
        own = read_negotiated(negotiated, offers)
        findings = [
            *check_offers(own.offers, areas, today=today),
            *check_egress(own.rates, areas, today=today),
            *check_requests(own.request_prices, today=today),
        ]
        rows = len(own.offers) + len(own.rates) + len(own.request_prices)
        tables.append(Table(str(negotiated), rows, tuple(findings)))
    return tables
