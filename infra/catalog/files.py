"""Tables of prices as CSV: the packaged ones, those that a refresh wrote, and the user's own.

All tables of offers have the columns of ``OFFER_COLUMNS``; only those of ``NEEDED`` must be there.
What a machine is (its vCPUs, memory and GPUs) may be left empty for types of the packaged
``shapes.csv``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import cast, get_args

from headwater.infra.catalog.models import (
    Confidence,
    EgressRate,
    Offer,
    Operation,
    RequestPrice,
    Tier,
)
from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.infra.models import Cloud, Market

PACKAGED = Path(__file__).with_name("data")
"""Folder of the tables that come with Headwater; its README says what they mean."""

OFFER_COLUMNS = (
    "cloud",
    "region",
    "zone",
    "instance_type",
    "market",
    "usd_per_hour",
    "vcpus",
    "memory_gib",
    "gpu",
    "gpus",
    "gpu_memory_gib",
    "network_gbps",
    "source",
    "as_of",
)

NEEDED = ("cloud", "region", "instance_type", "market", "usd_per_hour")

ShapeKey = tuple[Cloud, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a machine type is, wherever it is sold."""

    vcpus: int
    memory_gib: float
    gpu: str = ""
    gpus: int = 0
    gpu_memory_gib: float = 0.0
    network_gbps: float | None = None


@cache
def packaged_shapes() -> Mapping[ShapeKey, Shape]:
    """The machine types that Headwater knows, by cloud and name."""
    return {
        (Cloud(row["cloud"]), row["instance_type"]): Shape(
            vcpus=int(row["vcpus"]),
            memory_gib=float(row["memory_gib"]),
            gpu=row["gpu"],
            gpus=int(row["gpus"]),
            gpu_memory_gib=float(row["gpu_memory_gib"]),
            network_gbps=float(row["network_gbps"]) if row["network_gbps"] else None,
        )
        for _, row in _rows(PACKAGED / "shapes.csv")
    }


def packaged_areas() -> dict[tuple[Cloud, str], str]:
    """The continent of each region of each cloud, as egress prices tell them apart."""
    return {
        (Cloud(row["cloud"]), row["region"]): row["area"]
        for _, row in _rows(PACKAGED / "regions.csv")
    }


def read_offers(path: Path) -> list[Offer]:
    """The offers of the table at ``path``, in its order.

    Raises:
        InvalidRequest: A column is missing, or a row cannot be read; it is named.
        UnknownName: A column, a cloud or a market that does not exist, or a machine type that is
            not known and whose row does not say what it is.
    """
    shapes = packaged_shapes()
    offers: list[Offer] = []
    clouds, markets = {str(c): c for c in Cloud}, {str(m): m for m in Market}
    days: dict[str, date] = {}
    for line, row in _rows(path, NEEDED, OFFER_COLUMNS):
        try:
            cloud = clouds[row["cloud"]]
            shape = shapes.get((cloud, row["instance_type"]))
            if row.get("vcpus"):
                shape = _shape(row)
            if shape is None:
                raise UnknownName(
                    f"no machine type '{row['instance_type']}' of {cloud} is known"
                    f" ({path}, line {line})",
                    hint="fill in its vcpus, memory_gib, gpu, gpus and gpu_memory_gib",
                )
            as_of = row.get("as_of")
            if as_of and as_of not in days:
                days[as_of] = date.fromisoformat(as_of)
            offers.append(
                Offer(
                    cloud,
                    row["region"],
                    row["instance_type"],
                    markets[row["market"]],
                    float(row["usd_per_hour"]),
                    shape.vcpus,
                    shape.memory_gib,
                    shape.gpu,
                    shape.gpus,
                    shape.gpu_memory_gib,
                    shape.network_gbps,
                    row.get("zone", ""),
                    row.get("source", ""),
                    days[as_of] if as_of else None,
                )
            )
        except KeyError as exc:
            raise UnknownName.of(
                "cloud or market",
                str(exc.args[0]),
                [*clouds, *markets],
                where=f"{path}, line {line}",
            ) from exc
        except ValueError as exc:
            raise InvalidRequest(f"{path}, line {line}: {exc}", hint="mend the row") from exc
    return offers


def read_egress(path: Path) -> list[EgressRate]:
    """The rates of an egress table; rows of one scope and destination are its tiers."""
    grouped: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for _, row in _rows(path):
        grouped.setdefault((row["cloud"], row["scope"], row["to"]), []).append(row)
    return [
        EgressRate(
            cloud=Cloud(cloud),
            scope=scope,
            to=to,
            tiers=tuple(
                Tier(
                    float(row["from_gb"]),
                    float(row["to_gb"]) if row["to_gb"] else None,
                    float(row["usd_per_gb"]),
                )
                for row in rows
            ),
            source=rows[0]["source"],
            as_of=_day(rows[0]["as_of"]),
            confidence=confidence_of(rows[0]["confidence"]),
        )
        for (cloud, scope, to), rows in grouped.items()
    ]


def read_requests(path: Path) -> list[RequestPrice]:
    """The prices of a table of requests; ``region`` is the scope of each."""
    return [
        RequestPrice(
            cloud=Cloud(row["cloud"]),
            region=row["scope"],
            operation=_operation(row["operation"]),
            usd_per_1000=float(row["usd_per_1000"]),
            source=row["source"],
            as_of=_day(row["as_of"]),
            confidence=confidence_of(row["confidence"]),
        )
        for _, row in _rows(path)
    ]


def write_offers(path: Path, offers: Iterable[Offer]) -> None:
    """Put a table of ``offers`` at ``path``: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(OFFER_COLUMNS)
            for offer in offers:
                values = (getattr(offer, column) for column in OFFER_COLUMNS)
                table.writerow(["" if value is None else value for value in values])
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def confidence_of(text: str) -> Confidence:
    """``text`` as a confidence.

    Raises:
        ValueError: It is none.
    """
    if text not in get_args(Confidence):
        raise ValueError(f"'{text}' is no confidence: {', '.join(get_args(Confidence))}")
    return cast("Confidence", text)


def _operation(text: str) -> Operation:
    if text not in get_args(Operation):
        raise ValueError(f"'{text}' is no operation: {', '.join(get_args(Operation))}")
    return cast("Operation", text)


def _shape(row: Mapping[str, str]) -> Shape:
    network = row.get("network_gbps")
    return Shape(
        vcpus=int(row["vcpus"]),
        memory_gib=float(row.get("memory_gib") or "nothing"),
        gpu=row.get("gpu", ""),
        gpus=int(row.get("gpus") or 0),
        gpu_memory_gib=float(row.get("gpu_memory_gib") or 0),
        network_gbps=float(network) if network else None,
    )


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _rows(
    path: Path, needed: Iterable[str] = (), known: Iterable[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with its line; the header is checked against ``needed`` and ``known``."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(file, strict=True)
        try:
            header = next(table, [])
            lines = [(table.line_num, values) for values in table if values]
        except (csv.Error, UnicodeDecodeError) as exc:
            raise InvalidRequest(
                f"{path}, line {table.line_num + 1} is no CSV: {exc}", hint="mend the file"
            ) from exc
    for column in needed:
        if column not in header:
            raise InvalidRequest(
                f"{path} has no column '{column}'", hint=f"it has: {', '.join(header)}"
            )
    names = set(known)
    for column in header if names else ():
        if column not in names:
            raise UnknownName.of("column", column, names, where=str(path))
    for line, values in lines:
        if len(values) != len(header):
            raise InvalidRequest(
                f"{path}, line {line}: {len(values)} values for {len(header)} columns",
                hint="mend the row",
            )
        yield line, dict(zip(header, values, strict=True))


def overlay(below: Iterable[Offer], above: Iterable[Offer]) -> list[Offer]:
    """``below`` with the prices of ``above`` in the place of those for the same machines.

    A price for a whole region takes the place of those of all its zones; a price for one zone that
    of this zone, and of the region, which no longer holds in all zones.
    """
    above = list(above)
    whole = {_key(offer) for offer in above if not offer.zone}
    zones = {(*_key(offer), offer.zone) for offer in above}
    zoned = {_key(offer) for offer in above if offer.zone}
    kept = [
        offer
        for offer in below
        if _key(offer) not in whole
        and (*_key(offer), offer.zone) not in zones
        and not (not offer.zone and _key(offer) in zoned)
    ]
    return kept + above


def _key(offer: Offer) -> tuple[Cloud, str, str, Market]:
    return (offer.cloud, offer.region, offer.instance_type, offer.market)
