"""Google's prices, from the Cloud Billing Catalog.

Google sells cores, memory and GPUs, and a machine costs what its parts cost. Machines with local
disks built in (``a2-ultragpu``, ``a3``) are not composed: their packaged prices stay.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from headwater.infra.catalog.files import Shape, packaged_areas, packaged_shapes
from headwater.infra.catalog.models import Offer
from headwater.infra.catalog.sources.base import Fetched, in_order, offer_of
from headwater.infra.catalog.sources.pages import Pages
from headwater.infra.errors import AccessDenied, MissingDependency, PriceListFailed, first_line
from headwater.infra.models import Cloud, Market

URL = "https://cloudbilling.googleapis.com"

COMPUTE_ENGINE = "6F81-5844-456A"
"""The service whose SKUs are machines."""

KEY_VARIABLE = "GOOGLE_API_KEY"
"""Environment variable with an API key; without it the application default credentials are used."""

PAGE_SIZE = 5000

COMPOSED = ("g2-standard", "a2-highgpu", "a2-megagpu", "n2-standard", "e2-standard")
"""Families that cost what their cores, memory and GPUs cost, and nothing beside."""

PART = re.compile(
    r"(?:Spot Preemptible )?(?P<family>A2|E2|G2|N2) Instance (?P<part>Core|Ram) running in .*"
)
GPU = re.compile(
    r"Nvidia (?P<gpu>L4|Tesla A100) GPU (?:attached to Spot Preemptible VMs )?running in .*"
)
GPU_NAMES = {"L4": "L4", "Tesla A100": "A100"}

MARKETS = {"OnDemand": Market.ON_DEMAND, "Preemptible": Market.SPOT}

Parts = dict[tuple[str, Market], dict[str, float]]
"""By region and market: dollars an hour of a core, a GiB or a GPU, by what it is."""


@dataclass(slots=True)
class GcpBillingCatalog:
    """On demand and spot prices of the machine families of ``COMPOSED``, in all regions."""

    url: str = URL
    pages: Pages = field(default_factory=lambda: Pages("the Cloud Billing Catalog"))
    name: str = "Cloud Billing Catalog"
    clouds: tuple[Cloud, ...] = (Cloud.GCP,)

    def fetch(self, cloud: Cloud, *, today: date) -> Fetched:
        """All composed offers of Google; see ``PriceSource``."""
        parts: Parts = defaultdict(dict)
        skipped = 0
        for sku in self._skus():
            part = _part(sku)
            market = MARKETS.get(str(sku.get("category", {}).get("usageType")))
            if part is None or market is None:
                skipped += 1
                continue
            price = self._usd(sku)
            for region in sku.get("serviceRegions", []):
                parts[region, market][part] = price
        areas = packaged_areas()
        offers: list[Offer] = []
        for (region, market), sold in parts.items():
            for (of, name), shape in packaged_shapes().items():
                if of is not cloud or (cloud, region) not in areas:
                    continue
                whole = _composed(name, shape, sold)
                if whole:
                    offers.append(
                        offer_of(
                            (of, name), shape, region, market, whole, source=self.name, as_of=today
                        )
                    )
        return Fetched(in_order(offers), skipped)

    def _skus(self) -> Iterator[dict[str, Any]]:
        """Every SKU of Compute Engine, from all pages."""
        query, headers = _credentials()
        asked = replace(self.pages, headers={**self.pages.headers, **headers})
        token, seen = "", set[str]()
        while True:
            page = asked.get(
                f"{self.url}/v1/services/{COMPUTE_ENGINE}/skus",
                {**query, "currencyCode": "USD", "pageSize": str(PAGE_SIZE), "pageToken": token},
            )
            if not isinstance(page.get("skus"), list):
                raise PriceListFailed(f"{self.name}: a page without SKUs")
            yield from page["skus"]
            token = str(page.get("nextPageToken") or "")
            if not token:
                return
            if token in seen:
                raise PriceListFailed(f"{self.name}: its pages go round in a circle")
            seen.add(token)

    def _usd(self, sku: dict[str, Any]) -> float:
        """Dollars an hour of one unit."""
        try:
            rate = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"]
            if rate["currencyCode"] != "USD":
                raise PriceListFailed(
                    f"{self.name}: a price in {rate['currencyCode']}, asked in USD"
                )
            return int(rate.get("units") or 0) + int(rate.get("nanos") or 0) / 1e9
        except (KeyError, IndexError) as exc:
            raise PriceListFailed(
                f"{self.name}: SKU {sku.get('skuId')} has no price that can be read"
            ) from exc


def _part(sku: dict[str, Any]) -> str | None:
    """What of a machine a SKU is: ``G2 core``, ``G2 ram`` or the name of a GPU."""
    told = str(sku.get("description", ""))
    if found := PART.fullmatch(told):
        return f"{found['family']} {found['part'].lower()}"
    if found := GPU.fullmatch(told):
        return GPU_NAMES[found["gpu"]]
    return None


def _composed(name: str, shape: Shape, sold: dict[str, float]) -> float | None:
    """Dollars an hour of a machine, or ``None`` where a part of it has no price here."""
    if not name.startswith(COMPOSED):
        return None
    family = name.split("-")[0].upper()
    wanted = {f"{family} core": float(shape.vcpus), f"{family} ram": shape.memory_gib}
    if shape.gpus:
        wanted[shape.gpu] = float(shape.gpus)
    if any(not sold.get(part) for part in wanted):
        return None
    return round(sum(count * sold[part] for part, count in wanted.items()), 6)


def _credentials() -> tuple[dict[str, str], dict[str, str]]:
    """Query and headers that a call is allowed by."""
    key = os.environ.get(KEY_VARIABLE)
    if key:
        return {}, {"X-Goog-Api-Key": key}
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError as exc:
        raise MissingDependency(
            f"google-auth is not installed: {exc}", hint="pip install 'headwater[gcp]'"
        ) from exc
    try:
        credentials, _ = google.auth.default(
            scopes=["https://www.googleapis.com/auth/cloud-billing.readonly"]
        )
        # The library's own annotations leave this one call out.
        credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    except google.auth.exceptions.GoogleAuthError as exc:
        raise AccessDenied(
            f"the Cloud Billing Catalog wants credentials: {first_line(exc)}",
            hint=f"set {KEY_VARIABLE}, or run `gcloud auth application-default login`",
        ) from exc
    return {}, {"Authorization": f"Bearer {credentials.token}"}
