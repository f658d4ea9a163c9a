"""`headwater prices`: what machines and moved bytes cost, whether that can be true, and anew."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any, Literal

from headwater.flows.console import EXIT_FAILED, EXIT_REFUSED, Console
from headwater.infra.catalog.models import EgressRate, Offer, Operation, RequestPrice
from headwater.infra.catalog.refresh import Refreshed, refresh
from headwater.infra.catalog.review import review
from headwater.infra.catalog.sources.base import PriceSource
from headwater.infra.catalog.tables import (
    Catalog,
    load_catalog,
    negotiated_there,
    refreshed_folder,
    refreshed_tables,
)
from headwater.infra.errors import HeadwaterError, NotFound, PriceUnknown
from headwater.infra.models import Cloud, Market, to_jsonable

OFFERS_SHOWN = 20
"""Offers that ``show`` lists where no limit is given; a screen's worth."""

FINDINGS_SHOWN = 20
"""Findings of one table that ``check`` lists; the rest is counted."""

OPERATIONS: tuple[Operation, ...] = ("read", "write", "list")

SourceKind = Literal["own", "gpuhunt"]

HEADER = ("cloud", "region", "machine", "market", "$/hour", "vCPU", "GiB", "GPUs", "as of")


def show(
    console: Console,
    *,
    cloud: Cloud | None,
    region: str | None,
    gpu: str | None,
    market: Market | None,
    limit: int | None,
) -> None:
    """Print the offers that are as asked, the cheapest first; of one region also its egress.

    Raises:
        UnknownName: A region that does not exist, or a GPU that nobody sells.
        NotFound: Nothing is sold as asked.
    """
    catalog = load_catalog()
    offers = catalog.offers_for(cloud=cloud, region=region, gpu=gpu, market=market)
    if not offers:
        named = [cloud, region, gpu, market]
        raise NotFound(
            f"no offer of {', '.join(str(one) for one in named if one)}",
            hint="ask for less: without --gpu, --region or --market",
        )
    ways = _ways(catalog, cloud, region) if cloud and region else {}
    asked = _requests(catalog, cloud, region) if cloud and region else []
    value = {
        "offers": [_jsonable(offer) for offer in offers],
        "egress": {name: _jsonable(rate) for name, rate in ways.items()},
        "requests": [_jsonable(price) for price in asked],
        "oldest": _texts(catalog.oldest),
        "newest": _texts(catalog.newest),
    }
    shown = limit or OFFERS_SHOWN
    lines = _table([HEADER, *(_row(offer) for offer in offers[:shown])])
    if len(offers) > shown:
        lines.append(f"and {len(offers) - shown:,} more (--limit, or --json for all)")
    undated = sum(1 for offer in offers if offer.as_of is None)
    dated = sorted(offer.as_of for offer in offers if offer.as_of)
    told = f"prices of {dated[0]} to {dated[-1]}" if dated else ""
    also = f"{undated:,} whose source gives no date" if undated else ""
    lines += ["", f"{len(offers):,} offers: " + ", ".join(text for text in (told, also) if text)]
    if ways:
        rows = [(name, _dated(rate), _tiers(rate)) for name, rate in ways.items()]
        rows += [
            (f"{price.operation} requests", _dated(price), f"${price.usd_per_1000:g} for 1,000")
            for price in asked
        ]
        lines += ["", *_table(rows)]
    console.result(value, "\n".join(lines))


def check(console: Console) -> None:
    """Print what cannot be true in any table of prices; exit 2 where there is something."""
    tables = review(refreshed_tables(), negotiated_there(), today=_today())
    broken = sum(len(table.findings) for table in tables)
    lines: list[str] = []
    for table in tables:
        found = len(table.findings)
        said = f"{found:,} cannot be true" if found else "ok"
        lines.append(f"{table.name}: {table.rows:,} prices, {said}")
        lines += (f"  {finding}" for finding in table.findings[:FINDINGS_SHOWN])
        if found > FINDINGS_SHOWN:
            lines.append(f"  and {found - FINDINGS_SHOWN:,} more (--json lists all)")
    console.result(
        {"ok": not broken, "tables": [asdict(table) for table in tables]}, "\n".join(lines)
    )
    if broken:
        sys.exit(EXIT_REFUSED)


def run_refresh(console: Console, clouds: Sequence[Cloud], kind: SourceKind) -> None:
    """Write new tables of prices, one cloud after the other; exit 1 where one of them failed."""
    console.started = True
    done: list[Refreshed] = []
    failed: list[tuple[Cloud, HeadwaterError]] = []
    sources = _sources(kind)
    for cloud in clouds or tuple(Cloud):
        source = sources[cloud]
        console.say(f"{cloud}: read {source.name}")
        try:
            done.append(refresh(source, cloud, refreshed_folder(), today=_today()))
        except HeadwaterError as exc:
            failed.append((cloud, exc))
    lines = [
        f"{one.cloud}: {one.offers:,} offers of {one.as_of} in {one.path}"
        + (f"; {one.skipped:,} prices of other things left out" if one.skipped else "")
        for one in done
    ]
    value = {
        "refreshed": [{**asdict(one), "path": str(one.path)} for one in done],
        "failed": [
            {"cloud": cloud, "error": error.message, "hint": error.hint} for cloud, error in failed
        ],
    }
    console.result(_texts(value), "\n".join(lines) if lines else "no table was written")
    for cloud, error in failed:
        console.say(f"error: {cloud}: {error}")
    if failed:
        sys.exit(EXIT_FAILED)


def _sources(kind: SourceKind) -> Mapping[Cloud, PriceSource]:
    if kind == "gpuhunt":
        from headwater.infra.catalog.sources.hunted import GpuhuntCatalog

        return dict.fromkeys(Cloud, GpuhuntCatalog())
    from headwater.infra.catalog.sources.aws import AwsPrices
    from headwater.infra.catalog.sources.azure import AzureRetailPrices
    from headwater.infra.catalog.sources.gcp import GcpBillingCatalog

    return {
        Cloud.AWS: AwsPrices(),
        Cloud.GCP: GcpBillingCatalog(),
        Cloud.AZURE: AzureRetailPrices(),
    }


def _ways(catalog: Catalog, cloud: Cloud, region: str) -> dict[str, EgressRate]:
    """What leaving a region costs, by where to; what has no price is left out."""
    rates: dict[str, EgressRate] = {}
    with suppress(PriceUnknown):
        rates["to the internet and other clouds"] = catalog.egress(cloud, region, None, "")
    for other in catalog.regions(cloud):
        with suppress(PriceUnknown):
            rate = catalog.egress(cloud, region, cloud, other)
            rates.setdefault(f"to {rate.to}", rate)  # one line for all that one rate reaches
    with suppress(PriceUnknown):
        rates["through a NAT gateway, besides"] = catalog.nat(cloud, region)
    return rates


def _requests(catalog: Catalog, cloud: Cloud, region: str) -> list[RequestPrice]:
    found: list[RequestPrice] = []
    for operation in OPERATIONS:
        with suppress(PriceUnknown):
            found.append(catalog.requests(cloud, region, operation))
    return found


def _row(offer: Offer) -> tuple[str, ...]:
    gpus = f"{offer.gpus} x {offer.gpu} {offer.gpu_memory_gib:.4g} GiB" if offer.gpus else "-"
    place = f"{offer.region} {offer.zone}".strip()
    return (
        offer.cloud,
        place,
        offer.instance_type,
        offer.market,
        f"{offer.usd_per_hour:,.4f}",
        str(offer.vcpus),
        f"{offer.memory_gib:g}",
        gpus,
        str(offer.as_of or "-"),
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _dated(price: EgressRate | RequestPrice) -> str:
    return f"{price.as_of or 'no date'}, confidence {price.confidence}"


def _tiers(rate: EgressRate) -> str:
    if len(rate.tiers) == 1:
        return f"${rate.tiers[0].usd_per_gb:g}/GB"
    return ", ".join(f"${t.usd_per_gb:g}/GB from {t.from_gb:,.0f} GB" for t in rate.tiers)


def _jsonable(value: object) -> Any:
    return _texts(to_jsonable(value))


def _texts(value: Any) -> Any:
    """``value`` with dates as text."""
    if isinstance(value, dict):
        return {key: _texts(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return str(value) if isinstance(value, date) else value


def _today() -> date:
    return datetime.now(UTC).date()
