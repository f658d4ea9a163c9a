"""AWS's prices: on demand from the Price List, spot from the history of each region."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from headwater.infra.catalog.files import packaged_areas, packaged_shapes
from headwater.infra.catalog.models import Offer
from headwater.infra.catalog.sources.base import Fetched, in_order, offer_of
from headwater.infra.errors import AccessDenied, MissingDependency, PriceListFailed, first_line
from headwater.infra.models import Cloud, Market

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config

PRICE_LIST_REGION = "us-east-1"
"""The Price List is served from few regions; this one has the prices of all."""

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
"""Codes of errors that more tries do not mend."""

TRIES = 6


@dataclass(slots=True)
class AwsPrices:
    """On demand prices in all regions, and spot prices of each zone of the account's regions.

    Attributes:
        regions: Whose spot prices are read; those that the account has enabled by default.
        types: Machine types; those that Headwater knows by default.
        tries: How often one call is made; botocore waits between them, longer each time.
    """

    regions: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    tries: int = TRIES
    name: str = "AWS Price List and spot price history"
    clouds: tuple[Cloud, ...] = (Cloud.AWS,)

    def fetch(self, cloud: Cloud, *, today: date) -> Fetched:
        """All offers of AWS; see ``PriceSource``."""
        names = sorted(self.types or (name for of, name in packaged_shapes() if of is cloud))
        with _told_as_ours():
            session = _session()
            listed, skipped = self._listed(session, names, today)
            spot, left_out = self._spot(session, names, today)
        return Fetched(in_order(listed + spot), skipped + left_out)

    def _listed(
        self, session: boto3.Session, names: list[str], today: date
    ) -> tuple[list[Offer], int]:
        client = session.client("pricing", region_name=PRICE_LIST_REGION, config=self._config())
        found: dict[tuple[str, str], float] = {}
        skipped = 0
        for name in names:
            for text in self._rows(
                client.get_paginator("get_products"),
                "PriceList",
                ServiceCode="AmazonEC2",
                Filters=[
                    {"Type": "TERM_MATCH", "Field": field, "Value": value}
                    for field, value in (
                        ("instanceType", name),
                        ("operatingSystem", "Linux"),
                        ("tenancy", "Shared"),
                        ("preInstalledSw", "NA"),
                        ("capacitystatus", "Used"),
                        ("locationType", "AWS Region"),
                    )
                ],
            ):
                region, price = _listed_price(str(text))
                if price <= 0 or (Cloud.AWS, region) not in packaged_areas():
                    skipped += 1
                    continue
                # Of two products the dearer, so that no plan is too cheap.
                found[name, region] = max(price, found.get((name, region), 0.0))
        offers = [
            self._offer(name, region, Market.ON_DEMAND, price, today)
            for (name, region), price in found.items()
        ]
        return offers, skipped

    def _spot(
        self, session: boto3.Session, names: list[str], today: date
    ) -> tuple[list[Offer], int]:
        now = datetime.now(UTC)
        offers: list[Offer] = []
        skipped = 0
        for region in self.regions or self._enabled(session):
            if (Cloud.AWS, region) not in packaged_areas():
                skipped += 1
                continue
            client = session.client("ec2", region_name=region, config=self._config())
            latest: dict[tuple[str, str], tuple[datetime, float]] = {}
            # The history pages by zone; one page hides the others.
            for row in self._rows(
                client.get_paginator("describe_spot_price_history"),
                "SpotPriceHistory",
                InstanceTypes=names,
                ProductDescriptions=["Linux/UNIX"],
                StartTime=now,
            ):
                key = (str(row["InstanceType"]), str(row["AvailabilityZone"]))
                seen = latest.get(key)
                if seen is None or row["Timestamp"] > seen[0]:
                    latest[key] = (row["Timestamp"], float(row["SpotPrice"]))
            for (name, zone), (_, price) in latest.items():
                offers.append(self._offer(name, region, Market.SPOT, price, today, zone))
        return offers, skipped

    def _rows(self, paginator: Any, key: str, **asked: object) -> list[Any]:
        """What all pages hold under ``key``; asked for anew where an answer was cut.

        botocore takes the half of an answer for a whole one that says something else.
        """
        from botocore.parsers import ResponseParserError

        said = f"an answer without {key}"
        for _ in range(self.tries):
            try:
                pages = list(paginator.paginate(**asked))
            except ResponseParserError as exc:
                said = first_line(exc)
                continue
            if all(key in page for page in pages):
                return [row for page in pages for row in page[key]]
        raise PriceListFailed(
            f"AWS sent an answer that was cut: {said}",
            hint="the tables are as they were; run it again later",
        )

    def _enabled(self, session: boto3.Session) -> list[str]:
        client = session.client("ec2", region_name=PRICE_LIST_REGION, config=self._config())
        return sorted(str(r["RegionName"]) for r in client.describe_regions()["Regions"])

    def _config(self) -> Config:
        from botocore.config import Config

        return Config(retries={"mode": "standard", "total_max_attempts": self.tries})

    def _offer(
        self, name: str, region: str, market: Market, price: float, today: date, zone: str = ""
    ) -> Offer:
        key = (Cloud.AWS, name)
        source = "AWS spot price history" if market is Market.SPOT else "AWS Price List"
        return offer_of(
            key,
            packaged_shapes()[key],
            region,
            market,
            price,
            source=source,
            as_of=today,
            zone=zone,
        )


def _listed_price(text: str) -> tuple[str, float]:
    """Region and dollars an hour of one product of the Price List; 0 where it is no offer."""
    try:
        product: dict[str, Any] = json.loads(text)
        told = product["product"]["attributes"]
        region = str(told["regionCode"])
        if told.get("marketoption", "OnDemand") != "OnDemand":  # capacity that is reserved ahead
            return region, 0.0
        (term,) = product["terms"]["OnDemand"].values()
        (price,) = term["priceDimensions"].values()
        if price["unit"] != "Hrs":
            raise ValueError(f"a price for {price['unit']}, not Hrs")
        return region, float(price["pricePerUnit"]["USD"])
    except (ValueError, KeyError) as exc:
        raise PriceListFailed(
            f"the AWS Price List: a product cannot be read: {first_line(exc)}",
            hint="the tables are as they were; run it again later",
        ) from exc


def _session() -> boto3.Session:
    try:
        import boto3
    except ImportError as exc:
        raise MissingDependency(
            f"boto3 is not installed: {exc}", hint="pip install 'headwater[aws]'"
        ) from exc
    return boto3.Session()


@contextmanager
def _told_as_ours() -> Iterator[None]:
    """Errors of the SDK as ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as exc:
        raise AccessDenied(
            "AWS's price list and spot history want credentials, and there are none",
            hint="set them as for the AWS command line, or name another --source",
        ) from exc
    except ClientError as exc:
        said = exc.response.get("Error", {})
        message = f"AWS answered {said.get('Code')}: {said.get('Message')}"
        if said.get("Code") in DENIED:
            raise AccessDenied(
                message,
                hint="allow pricing:GetProducts, ec2:DescribeRegions and"
                " ec2:DescribeSpotPriceHistory",
            ) from exc
        raise PriceListFailed(
            message, hint="the tables are as they were; run it again later"
        ) from exc
    except BotoCoreError as exc:
        raise PriceListFailed(
            f"AWS did not answer: {first_line(exc)}",
            hint="the tables are as they were; run it again later",
        ) from exc
