"""Each source of prices against a server that gives recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
from tests.contract.price_sources import TODAY, PriceSourceContract
from tests.emulators.recorded import Answer, Recorded, Request, json_answer

from headwater.infra.catalog.sources.aws import AwsPrices
from headwater.infra.catalog.sources.azure import AzureRetailPrices
from headwater.infra.catalog.sources.base import PriceSource
from headwater.infra.catalog.sources.gcp import KEY_VARIABLE, GcpBillingCatalog
from headwater.infra.catalog.sources.pages import Pages
from headwater.infra.errors import PriceListFailed
from headwater.infra.models import Cloud, Market

HOUR, SPOT = Market.ON_DEMAND, Market.SPOT


def pages(name: str, waits: list[float] | None = None) -> Pages:
    """Pages that are asked for at once."""
    kept = [] if waits is None else waits
    return Pages(name, wait=kept.append, jitter=lambda: 1.0)


def meter(region: str, size: str, price: float, **changes: Any) -> dict[str, Any]:
    """One item of the Retail Prices API, as it was recorded."""
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": region,
        "effectiveStartDate": "2025-01-01T00:00:00Z",
        "meterName": size.removeprefix("Standard_").replace("_", " "),
        "productName": "Virtual Machines NCasT4_v3 Series",
        "skuName": size.removeprefix("Standard_").replace("_", " "),
        "serviceName": "Virtual Machines",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
        **changes,
    }


T4 = "Standard_NC4as_T4_v3"
A100 = "Standard_NC24ads_A100_v4"

METERS = [
    [
        meter("eastus", T4, 0.500, effectiveStartDate="2021-01-01T00:00:00Z"),
        meter("eastus", T4, 0.526),
        meter("eastus", T4, 0.1, skuName="NC4as T4 v3 Spot"),
        meter("eastus", T4, 0.2, skuName="NC4as T4 v3 Low Priority"),
    ],
    [
        meter("eastus", T4, 0.71, productName="Virtual Machines NCasT4_v3 Series Windows"),
        meter("westeurope", A100, 4.775),
        meter("attatlanta1", A100, 4.0),
        meter("westus", A100, 0.0),
        meter("westus2", A100, 2.0, type="DevTestConsumption"),
    ],
]


class TestAzureRetailPrices(PriceSourceContract):
    cloud = Cloud.AZURE
    expected: ClassVar = {
        ("eastus", "", T4, HOUR): 0.526,
        ("eastus", "", T4, SPOT): 0.1,
        ("westeurope", "", A100, HOUR): 4.775,
    }

    def answers(self, server: Recorded) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            # As the service does: the address of the next page holds the whole query.
            at = int(request.query.get("$skip", 0))
            if not at and T4 not in request.query["$filter"]:
                return json_answer({"Items": [], "NextPageLink": None, "Count": 0})
            after = f"{server.url}/?$skip={at + 1}" if at + 1 < len(METERS) else None
            return json_answer(
                {"Items": METERS[at], "NextPageLink": after, "Count": len(METERS[at])}
            )

        return answer

    def source(self, server: Recorded) -> PriceSource:
        return AzureRetailPrices(url=f"{server.url}/", pages=pages("Azure"))

    def throttled(self) -> Answer:
        return json_answer({"Error": "Too many requests"}, 429, **{"Retry-After": "7"})

    def denied(self) -> Answer:
        return json_answer({"Error": "no"}, 403)

    def test_the_filter_names_linux_machines_that_are_known(self, server: Recorded) -> None:
        self.source(server).fetch(self.cloud, today=TODAY)

        filters = [r.query["$filter"] for r in server.asked if "$filter" in r.query]
        assert all("serviceName eq 'Virtual Machines'" in text for text in filters)
        assert sum(text.count("armSkuName eq") for text in filters) == 19
        assert {r.query["currencyCode"] for r in server.asked if "$filter" in r.query} == {"'USD'"}

    def test_waits_as_long_as_it_is_asked_to_and_longer_each_time(self, server: Recorded) -> None:
        waits: list[float] = []
        busy = json_answer({}, 503)
        server.first.extend([self.throttled(), busy, busy])

        AzureRetailPrices(url=f"{server.url}/", pages=pages("Azure", waits)).fetch(
            self.cloud, today=TODAY
        )

        assert waits == [7.0, 2.0, 4.0]

    @pytest.mark.parametrize(
        ("page", "message"),
        [
            ({"Items": [], "Count": 100}, "a page has 0 prices and says 100"),
            ({"Count": 0}, "a page has no prices"),
            (
                {"Items": [meter("eastus", T4, 1, currencyCode="EUR")], "Count": 1},
                "a price in EUR, asked in USD",
            ),
        ],
    )
    def test_a_page_that_is_not_whole_is_refused(
        self, server: Recorded, page: dict[str, Any], message: str
    ) -> None:
        server.answer = lambda _: json_answer(page)

        with pytest.raises(PriceListFailed, match=message):
            self.source(server).fetch(self.cloud, today=TODAY)

    def test_pages_that_go_round_in_a_circle_end(self, server: Recorded) -> None:
        server.answer = lambda _: json_answer(
            {"Items": METERS[0], "NextPageLink": f"{server.url}/?again", "Count": len(METERS[0])}
        )

        with pytest.raises(PriceListFailed, match="round in a circle"):
            self.source(server).fetch(self.cloud, today=TODAY)


def sku(told: str, usd: float, *regions: str, usage: str = "OnDemand") -> dict[str, Any]:
    """One SKU of the billing catalog, as it was recorded."""
    return {
        "name": f"services/6F81-5844-456A/skus/{abs(hash(told)):X}",
        "skuId": told,
        "description": told,
        "category": {"resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "pricingExpression": {
                    "usageUnit": "h",
                    "tieredRates": [
                        {
                            "startUsageAmount": 0,
                            "unitPrice": {
                                "currencyCode": "USD",
                                "units": str(int(usd)),
                                "nanos": round((usd - int(usd)) * 1e9),
                            },
                        }
                    ],
                }
            }
        ],
    }


SKUS = [
    [
        sku("G2 Instance Core running in Americas", 0.02, "us-central1", "us-east1"),
        sku("G2 Instance Ram running in Americas", 0.003, "us-central1", "us-east1"),
        sku("Nvidia L4 GPU running in Americas", 0.5, "us-central1"),
        sku("N2D AMD Instance Core running in Americas", 0.9, "us-central1"),
    ],
    [
        sku("N2 Instance Core running in Belgium", 0.03, "europe-west1"),
        sku("N2 Instance Ram running in Belgium", 0.004, "europe-west1"),
        sku("N2 Custom Instance Core running in Belgium", 9.0, "europe-west1"),
        sku(
            "Spot Preemptible N2 Instance Core running in Belgium",
            0.01,
            "europe-west1",
            usage="Preemptible",
        ),
        sku(
            "Spot Preemptible N2 Instance Ram running in Belgium",
            0.001,
            "europe-west1",
            usage="Preemptible",
        ),
        sku("Commitment v1: N2 Cpu in Belgium for 1 Year", 0.01, "europe-west1", usage="Commit1Yr"),
    ],
]


class TestGcpBillingCatalog(PriceSourceContract):
    cloud = Cloud.GCP
    expected: ClassVar = {
        # Cores and GiB of memory at .02 and .003, an L4 at .50.
        ("us-central1", "", "g2-standard-4", HOUR): 4 * 0.02 + 16 * 0.003 + 0.5,
        ("us-central1", "", "g2-standard-8", HOUR): 8 * 0.02 + 32 * 0.003 + 0.5,
        ("us-central1", "", "g2-standard-12", HOUR): 12 * 0.02 + 48 * 0.003 + 0.5,
        ("us-central1", "", "g2-standard-16", HOUR): 16 * 0.02 + 64 * 0.003 + 0.5,
        ("us-central1", "", "g2-standard-24", HOUR): 24 * 0.02 + 96 * 0.003 + 1.0,
        ("us-central1", "", "g2-standard-32", HOUR): 32 * 0.02 + 128 * 0.003 + 0.5,
        ("us-central1", "", "g2-standard-48", HOUR): 48 * 0.02 + 192 * 0.003 + 2.0,
        ("us-central1", "", "g2-standard-96", HOUR): 96 * 0.02 + 384 * 0.003 + 4.0,
        ("europe-west1", "", "n2-standard-4", HOUR): 4 * 0.03 + 16 * 0.004,
        ("europe-west1", "", "n2-standard-8", HOUR): 8 * 0.03 + 32 * 0.004,
        ("europe-west1", "", "n2-standard-16", HOUR): 16 * 0.03 + 64 * 0.004,
        ("europe-west1", "", "n2-standard-4", SPOT): 4 * 0.01 + 16 * 0.001,
        ("europe-west1", "", "n2-standard-8", SPOT): 8 * 0.01 + 32 * 0.001,
        ("europe-west1", "", "n2-standard-16", SPOT): 16 * 0.01 + 64 * 0.001,
    }

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch: pytest.MonkeyPatch, server: Recorded) -> None:
        monkeypatch.setenv(KEY_VARIABLE, "a-key")

    def answers(self, server: Recorded) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            at = int(request.query["pageToken"] or 0)
            after = str(at + 1) if at + 1 < len(SKUS) else ""
            return json_answer({"skus": SKUS[at], "nextPageToken": after})

        return answer

    def source(self, server: Recorded) -> PriceSource:
        return GcpBillingCatalog(url=server.url, pages=pages("Google"))

    def throttled(self) -> Answer:
        return json_answer({"error": {"status": "RESOURCE_EXHAUSTED"}}, 429)

    def denied(self) -> Answer:
        return json_answer({"error": {"status": "PERMISSION_DENIED"}}, 403)

    def test_the_key_travels_in_a_header_and_not_in_the_address(self, server: Recorded) -> None:
        self.source(server).fetch(self.cloud, today=TODAY)

        assert {r.headers["x-goog-api-key"] for r in server.asked} == {"a-key"}
        assert "a-key" not in str([r.query for r in server.asked])

    def test_a_sku_without_a_price_is_refused(self, server: Recorded) -> None:
        broken = {**SKUS[0][0], "pricingInfo": []}
        server.answer = lambda _: json_answer({"skus": [broken]})

        with pytest.raises(PriceListFailed, match="G2 Instance Core running in Americas has no"):
            self.source(server).fetch(self.cloud, today=TODAY)


def product(region: str, usd: str, unit: str = "Hrs", **attributes: str) -> str:
    """One product of the Price List, as it was recorded: text in JSON."""
    return json.dumps(
        {
            "product": {
                "productFamily": "Compute Instance",
                "attributes": {
                    "instanceType": "g5.xlarge",
                    "regionCode": region,
                    "marketoption": "OnDemand",
                    **attributes,
                },
                "sku": region,
            },
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {
                    f"{region}.JRTCKXETXF": {
                        "priceDimensions": {
                            f"{region}.JRTCKXETXF.6YS6EN2CT7": {
                                "unit": unit,
                                "beginRange": "0",
                                "endRange": "Inf",
                                "pricePerUnit": {"USD": usd},
                            }
                        }
                    }
                }
            },
        }
    )


PRODUCTS = [
    [product("us-east-1", "1.0060000000"), product("us-gov-west-1", "1.2")],
    [
        product("eu-west-1", "1.1230000000"),
        product("us-west-2", "0.0000000000"),
        product("eu-west-1", "9.0000000000", marketoption="CapacityBlock"),
    ],
]

HISTORY = [
    [("us-east-1a", "0.41", "2026-11-25T10:00:00"), ("us-east-1a", "0.40", "2026-11-25T08:00:00")],
    [("us-east-1b", "0.45", "2026-11-25T09:00:00")],
]


def history(rows: list[tuple[str, str, str]], after: str) -> Answer:
    """A page of the spot history, as EC2 writes it."""
    items = "".join(
        f"<item><instanceType>g5.xlarge</instanceType>"
        f"<productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>"
        f"<timestamp>{time}.000Z</timestamp><availabilityZone>{zone}</availabilityZone></item>"
        for zone, price, time in rows
    )
    return Answer(
        '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{after}</nextToken>"
        "</DescribeSpotPriceHistoryResponse>".encode(),
        headers={"Content-Type": "text/xml"},
    )


AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "nobody",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


class TestAwsPrices(PriceSourceContract):
    cloud = Cloud.AWS
    expected: ClassVar = {
        ("us-east-1", "", "g5.xlarge", HOUR): 1.006,
        ("eu-west-1", "", "g5.xlarge", HOUR): 1.123,
        ("us-east-1", "us-east-1a", "g5.xlarge", SPOT): 0.41,
        ("us-east-1", "us-east-1b", "g5.xlarge", SPOT): 0.45,
    }

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch: pytest.MonkeyPatch, server: Recorded) -> None:
        for name, value in {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)

    def answers(self, server: Recorded) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            if "x-amz-target" in request.headers:
                return self._products(json.loads(request.body))
            form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
            if form["Action"] == "DescribeRegions":
                return Answer(
                    b"<DescribeRegionsResponse><regionInfo><item><regionName>us-east-1"
                    b"</regionName></item><item><regionName>us-gov-east-1</regionName></item>"
                    b"</regionInfo></DescribeRegionsResponse>"
                )
            at = int(form.get("NextToken", 0))
            return history(HISTORY[at], str(at + 1) if at + 1 < len(HISTORY) else "")

        return answer

    def _products(self, asked: dict[str, Any]) -> Answer:
        wanted = {one["Field"]: one["Value"] for one in asked["Filters"]}
        assert wanted["operatingSystem"] == "Linux"
        if wanted["instanceType"] != "g5.xlarge":
            return json_answer({"FormatVersion": "aws_v1", "PriceList": []})
        at = int(asked.get("NextToken", 0))
        after = {"NextToken": str(at + 1)} if at + 1 < len(PRODUCTS) else {}
        return json_answer({"FormatVersion": "aws_v1", "PriceList": PRODUCTS[at], **after})

    def source(self, server: Recorded) -> PriceSource:
        return AwsPrices(types=("g5.xlarge", "g5.2xlarge"), tries=2)

    def throttled(self) -> Answer:
        return json_answer({"__type": "ThrottlingException", "message": "Rate exceeded"}, 400)

    def denied(self) -> Answer:
        return json_answer({"__type": "AccessDeniedException", "message": "no pricing"}, 400)

    def test_a_product_in_another_unit_is_refused(self, server: Recorded) -> None:
        server.answer = lambda _: json_answer(
            {"PriceList": [product("us-east-1", "1", "Quantity")]}
        )

        with pytest.raises(PriceListFailed, match="a price for Quantity, not Hrs"):
            self.source(server).fetch(self.cloud, today=TODAY)
