"""Azure's prices, from its Retail Prices API; it wants no credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from headwater.infra.catalog.files import packaged_areas, packaged_shapes
from headwater.infra.catalog.models import Offer
from headwater.infra.catalog.sources.base import Fetched, in_order, offer_of
from headwater.infra.catalog.sources.pages import Pages
from headwater.infra.errors import PriceListFailed
from headwater.infra.models import Cloud, Market

URL = "https://prices.azure.com/api/retail/prices"

API_VERSION = "2023-01-01-preview"

TYPES_PER_QUERY = 8
"""Machine types that one query names: filters must be short."""


@dataclass(slots=True)
class AzureRetailPrices:
    """On demand and spot prices of the machine types that Headwater knows, in all regions."""

    url: str = URL
    pages: Pages = field(default_factory=lambda: Pages("the Azure Retail Prices API"))
    name: str = "Azure Retail Prices API"
    clouds: tuple[Cloud, ...] = (Cloud.AZURE,)

    def fetch(self, cloud: Cloud, *, today: date) -> Fetched:
        """All offers of Azure; see ``PriceSource``."""
        names = [name for of, name in packaged_shapes() if of is cloud]
        found: dict[tuple[str, str, Market], tuple[str, float]] = {}
        skipped = 0
        for start in range(0, len(names), TYPES_PER_QUERY):
            for item in self._items(names[start : start + TYPES_PER_QUERY]):
                key = _machine(item)
                price = float(item["retailPrice"])
                if key is None or price <= 0:
                    skipped += 1
                    continue
                # A machine has a meter for each price it ever had; the last that began holds.
                began = str(item.get("effectiveStartDate", ""))
                if key not in found or began > found[key][0]:
                    found[key] = (began, price)
        offers: list[Offer] = []
        areas, shapes = packaged_areas(), packaged_shapes()
        for (region, name, market), (_, price) in found.items():
            shape = shapes.get((cloud, name))
            if shape is None or (cloud, region) not in areas:
                skipped += 1
                continue
            offers.append(
                offer_of((cloud, name), shape, region, market, price, source=self.name, as_of=today)
            )
        return Fetched(in_order(offers), skipped)

    def _items(self, names: list[str]) -> list[dict[str, Any]]:
        """The meters of these machine types, from all pages."""
        types = " or ".join(f"armSkuName eq '{name}'" for name in names)
        params: dict[str, str] | None = {
            "api-version": API_VERSION,
            "currencyCode": "'USD'",
            "$filter": f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption'"
            f" and ({types})",
        }
        url, seen, items = self.url, set[str](), list[dict[str, Any]]()
        while url:
            page = self.pages.get(url, params)
            got = page.get("Items")
            if not isinstance(got, list) or page.get("Count", len(got)) != len(got):
                raise PriceListFailed(
                    f"{self.name}: a page has {len(got) if isinstance(got, list) else 'no'} prices"
                    f" and says {page.get('Count')}",
                    hint="the tables are as they were; run it again later",
                )
            for item in got:
                if item.get("currencyCode") != "USD":
                    raise PriceListFailed(
                        f"{self.name}: a price in {item.get('currencyCode')}, asked in USD"
                    )
            items += got
            # The next page's address holds the whole query; twice the same would never end.
            seen.add(url)
            url, params = str(page.get("NextPageLink") or ""), None
            if url in seen:
                raise PriceListFailed(f"{self.name}: its pages go round in a circle at {url}")
        return items


def _machine(item: dict[str, Any]) -> tuple[str, str, Market] | None:
    """Region, machine type and market of a meter; ``None`` where it is none of a Linux machine."""
    meter, product = str(item.get("skuName", "")), str(item.get("productName", ""))
    if (
        "Windows" in product
        or "Low Priority" in meter
        or item.get("type") != "Consumption"
        or item.get("unitOfMeasure") != "1 Hour"
    ):
        return None
    market = Market.SPOT if meter.endswith("Spot") else Market.ON_DEMAND
    return str(item.get("armRegionName", "")), str(item.get("armSkuName", "")), market
