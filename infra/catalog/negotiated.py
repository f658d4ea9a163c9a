"""The user's own prices: a TOML file with offers, egress and requests, or a CSV table of offers.

    version = 1

    [[offers]]
    cloud = "aws"
    region = "us-east-1"
    instance_type = "g5.xlarge"
    usd_per_hour = 0.81
    as_of = 2026-11-01

    [[egress]]
    cloud = "gcp"
    scope = "europe"            # a region, beginnings of regions (eu-*), a continent, or any
    to = "internet"             # also what other clouds are reached through
    usd_per_gb = 0

A CSV table has the columns of the packaged ones, and needs ``cloud``, ``region``,
``instance_type``, ``market`` and ``usd_per_hour``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headwater.infra.catalog.files import Shape, packaged_shapes, read_offers
from headwater.infra.catalog.models import EgressRate, Offer, Operation, RequestPrice, Tier
from headwater.infra.errors import InvalidRequest, UnknownName, UnsupportedData
from headwater.infra.models import Cloud, Market

NEGOTIATED_VERSION = 1
"""Format of the TOML file; newer ones are refused by name."""

SOURCE = "negotiated"
"""Source of a price whose row names none."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a file of the user's own prices holds."""

    offers: tuple[Offer, ...] = ()
    rates: tuple[EgressRate, ...] = ()
    request_prices: tuple[RequestPrice, ...] = ()


def read_negotiated(path: Path, known: Sequence[Offer] = ()) -> Negotiated:
    """The prices in the file at ``path``.

    Args:
        known: Offers that say what a machine type is, beside the packaged shapes.
    Raises:
        InvalidRequest: The file cannot be read; the message names the key or the row.
        UnknownName: A key, a cloud or a machine type that does not exist.
    """
    if path.suffix == ".csv":
        offers = read_offers(path)
        return Negotiated(tuple(replace(o, source=o.source or SOURCE) for o in offers))
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{path} is no valid TOML: {exc}", hint="mend the file") from exc
    version = table.get("version", NEGOTIATED_VERSION)
    if isinstance(version, int) and version > NEGOTIATED_VERSION:
        raise UnsupportedData(
            f"{path} has format {version}, newer than {NEGOTIATED_VERSION}",
            hint="upgrade Headwater",
        )
    try:
        file = _File.model_validate(table)
    except ValidationError as exc:
        raise _refusal(path, exc) from exc
    shapes = {**{(o.cloud, o.instance_type): _shape_of(o) for o in known}, **packaged_shapes()}
    return Negotiated(
        tuple(row.offer(path, shapes) for row in file.offers),
        tuple(row.rate() for row in file.egress),
        tuple(row.price() for row in file.requests),
    )


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cloud: Cloud
    source: str = SOURCE
    as_of: date | None = None


class _Offer(_Row):
    region: str
    zone: str = ""
    instance_type: str
    market: Market = Market.ON_DEMAND
    usd_per_hour: float = Field(gt=0)
    vcpus: int | None = Field(default=None, gt=0)
    memory_gib: float | None = Field(default=None, gt=0)
    gpu: str = ""
    gpus: int = Field(default=0, ge=0)
    gpu_memory_gib: float = Field(default=0, ge=0)
    network_gbps: float | None = None

    def offer(self, path: Path, shapes: dict[tuple[Cloud, str], Shape]) -> Offer:
        shape = shapes.get((self.cloud, self.instance_type))
        if self.vcpus is not None and self.memory_gib is not None:
            shape = Shape(
                self.vcpus,
                self.memory_gib,
                self.gpu,
                self.gpus,
                self.gpu_memory_gib,
                self.network_gbps,
            )
        if shape is None:
            raise UnknownName.of(
                f"machine type of {self.cloud}",
                self.instance_type,
                [name for cloud, name in shapes if cloud is self.cloud],
                where=str(path),
                hint="or say what it is: vcpus, memory_gib, gpu, gpus and gpu_memory_gib",
            )
        return Offer(
            cloud=self.cloud,
            region=self.region,
            instance_type=self.instance_type,
            market=self.market,
            usd_per_hour=self.usd_per_hour,
            vcpus=shape.vcpus,
            memory_gib=shape.memory_gib,
            gpu=shape.gpu,
            gpus=shape.gpus,
            gpu_memory_gib=shape.gpu_memory_gib,
            network_gbps=shape.network_gbps,
            zone=self.zone,
            source=self.source,
            as_of=self.as_of,
        )


class _Tier(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    from_gb: float = Field(ge=0)
    usd_per_gb: float = Field(ge=0)


class _Egress(_Row):
    scope: str
    to: str
    usd_per_gb: float | None = Field(default=None, ge=0)
    tiers: tuple[_Tier, ...] = ()

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if (self.usd_per_gb is None) == (not self.tiers):
            raise ValueError("give usd_per_gb, or tiers of from_gb and usd_per_gb")
        starts = [tier.from_gb for tier in self.tiers]
        if starts and (starts[0] != 0 or sorted(set(starts)) != starts):
            raise ValueError(f"tiers begin at 0 and rise; these begin at {starts}")
        return self

    def rate(self) -> EgressRate:
        steps = self.tiers or (_Tier(from_gb=0, usd_per_gb=self.usd_per_gb or 0),)
        ends = [*(step.from_gb for step in steps[1:]), None]
        return EgressRate(
            cloud=self.cloud,
            scope=self.scope,
            to=self.to,
            tiers=tuple(
                Tier(step.from_gb, end, step.usd_per_gb)
                for step, end in zip(steps, ends, strict=True)
            ),
            source=self.source,
            as_of=self.as_of,
        )


class _Requests(_Row):
    scope: str = "any"
    operation: Operation
    usd_per_1000: float = Field(ge=0)

    def price(self) -> RequestPrice:
        return RequestPrice(
            cloud=self.cloud,
            region=self.scope,
            operation=self.operation,
            usd_per_1000=self.usd_per_1000,
            source=self.source,
            as_of=self.as_of,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = NEGOTIATED_VERSION
    offers: tuple[_Offer, ...] = ()
    egress: tuple[_Egress, ...] = ()
    requests: tuple[_Requests, ...] = ()


_KEYS = (
    *_File.model_fields,
    *(f"offers.{name}" for name in _Offer.model_fields),
    *(f"egress.{name}" for name in _Egress.model_fields),
    *(f"requests.{name}" for name in _Requests.model_fields),
)


def _refusal(path: Path, exc: ValidationError) -> InvalidRequest:
    errors = exc.errors()
    # A key that does not exist is told before what is missing for it.
    error = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    named = [str(step) for step in error["loc"] if not isinstance(step, int)]
    place = ".".join(str(step) for step in error["loc"])
    if error["type"] == "extra_forbidden":
        return UnknownName.of("key", ".".join(named), _KEYS, where=str(path))
    return InvalidRequest(f"{path}: {place}: {error['msg']}", hint="mend the file")


def _shape_of(offer: Offer) -> Shape:
    return Shape(
        offer.vcpus,
        offer.memory_gib,
        offer.gpu,
        offer.gpus,
        offer.gpu_memory_gib,
        offer.network_gbps,
    )
