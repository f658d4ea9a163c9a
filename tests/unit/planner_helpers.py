"""Small worlds to plan in: a few offers under the packaged prices of bytes and requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from headwater.infra.catalog.models import Offer
from headwater.infra.catalog.tables import Catalog, load_catalog
from headwater.infra.models import Cloud, Market
from headwater.infra.planner.models import DataInput, Needs, Output, PlanRequest, Work
from headwater.infra.planner.offers import OfferTable
from headwater.infra.policies import Policy, Rules

GB = 10**9
TODAY = date(2026, 11, 25)

VIRGINIA = (Cloud.AWS, "us-east-1")
OHIO = (Cloud.AWS, "us-east-2")
IRELAND = (Cloud.AWS, "eu-west-1")
IOWA = (Cloud.GCP, "us-central1")
EAST_US = (Cloud.AZURE, "eastus")


def offer(
    place: tuple[Cloud, str], usd: float, *, kind: str = "gpu1", spot: bool = False, gpus: int = 1
) -> Offer:
    """A machine with L4s, 10 Gbit/s, and a price of a week ago."""
    return Offer(
        *place,
        instance_type=kind,
        market=Market.SPOT if spot else Market.ON_DEMAND,
        usd_per_hour=usd,
        vcpus=8,
        memory_gib=32.0,
        gpu="L4" if gpus else "",
        gpus=gpus,
        gpu_memory_gib=22.35 if gpus else 0.0,
        network_gbps=10.0,
        source="test",
        as_of=date(2026, 11, 18),
    )


def scheduler(place: tuple[Cloud, str], usd: float = 0.1) -> Offer:
    """The small machine beside the workers."""
    small = offer(place, usd, kind="small", gpus=0)
    return replace(small, vcpus=2, memory_gib=8.0)


def world(*offers: Offer) -> OfferTable:
    """A table of ``offers``, with a scheduler at each of their places."""
    places = dict.fromkeys((one.cloud, one.region) for one in offers)
    return table_of([*offers, *(scheduler(place) for place in places)])


def table_of(offers: Iterable[Offer]) -> OfferTable:
    """A table of exactly ``offers``."""
    packaged = load_catalog()
    return OfferTable.of(
        Catalog(tuple(offers), packaged.rates, packaged.request_prices, packaged.areas)
    )


def data(place: tuple[Cloud, str], gb: float, uri: str = "", objects: int = 1) -> DataInput:
    """An input of ``gb`` (10⁹ bytes) at ``place``."""
    scheme = {Cloud.AWS: "s3", Cloud.GCP: "gs", Cloud.AZURE: "abfss"}[place[0]]
    bucket = "data@account.dfs.core.windows.net" if scheme == "abfss" else "data"
    return DataInput(
        uri or f"{scheme}://{bucket}/x", place[0], frozenset({place[1]}), int(gb * GB), objects
    )


def request(*inputs: DataInput, work: Work | None = None, **said: object) -> PlanRequest:
    """Work for one GPU that leaves its result where it runs."""
    return replace(
        PlanRequest(
            inputs, Output(follows=True), TODAY, Needs(gpus=1), work or Work(output_ratio=0.0)
        ),
        **said,  # type: ignore[arg-type]  # each is one of the fields
    )


def rules(**said: object) -> Rules:
    """What a policy with these keys says."""
    return Rules.of([Policy.model_validate({"name": "team", "source": "team.toml", **said})])
