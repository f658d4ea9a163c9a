"""Prices of all three clouds from gpuhunt's catalog, which is collected anew each day.

It is an extra, imported when it is asked for, and wants no credentials.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwater.infra.catalog.files import Shape, packaged_areas, packaged_shapes
from headwater.infra.catalog.models import Offer
from headwater.infra.catalog.sources.base import Fetched, in_order, offer_of
from headwater.infra.errors import MissingDependency, PriceListFailed, first_line
from headwater.infra.models import Cloud, Market

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class GpuhuntCatalog:
    """On demand and spot prices of machines with and without NVIDIA GPUs.

    A machine type that Headwater does not know is taken as gpuhunt describes it.
    """

    name: str = "gpuhunt"
    clouds: tuple[Cloud, ...] = tuple(Cloud)

    def fetch(self, cloud: Cloud, *, today: date) -> Fetched:
        """All offers of ``cloud``; see ``PriceSource``."""
        items = self._items(cloud)
        areas, shapes = packaged_areas(), packaged_shapes()
        found: dict[tuple[str, str, Market], Offer] = {}
        skipped = 0
        for item in items:
            # Google's machines are listed by zone; their prices are those of the region.
            region = item.location.rsplit("-", 1)[0] if cloud is Cloud.GCP else item.location
            foreign = item.gpu_count and item.gpu_vendor.value != "nvidia"
            arm = item.cpu_arch.value != "x86"
            if (cloud, region) not in areas or foreign or arm or item.price <= 0:
                skipped += 1
                continue
            market = Market.SPOT if item.spot else Market.ON_DEMAND
            key = (cloud, item.instance_name)
            shape = shapes.get(key) or Shape(
                vcpus=item.cpu,
                memory_gib=float(item.memory),
                gpu=item.gpu_name or "",
                gpus=item.gpu_count,
                gpu_memory_gib=float(item.gpu_memory or 0),
            )
            found[region, item.instance_name, market] = offer_of(
                key, shape, region, market, float(item.price), source=self.name, as_of=today
            )
        return Fetched(in_order(list(found.values())), skipped)

    def _items(self, cloud: Cloud) -> Sequence[Any]:
        try:
            gpuhunt = import_module("gpuhunt")  # an extra: no type checker may find it
        except ImportError as exc:
            raise MissingDependency(
                f"gpuhunt is not installed: {exc}", hint="pip install 'headwater[gpuhunt]'"
            ) from exc
        catalog = gpuhunt.Catalog(balance_resources=False, auto_reload=False)
        later = "the tables are as they were; run it again later"
        with _heard() as heard:
            try:
                catalog.load()
                items: Sequence[Any] = catalog.query(provider=str(cloud))
            except (gpuhunt.GPUHuntError, OSError) as exc:
                said = "; ".join([first_line(exc), *heard])
                raise PriceListFailed(
                    f"gpuhunt's catalog could not be read: {said}", hint=later
                ) from exc
        # Of a provider that could not be loaded it gives nothing, and says why in its log.
        if not items:
            said = f": {'; '.join(heard)}" if heard else ""
            raise PriceListFailed(f"gpuhunt has no prices of {cloud}{said}", hint=later)
        return items


class _Ear(logging.Handler):
    """Keeps what a log says, with the error behind it."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = f" ({type(error).__name__}: {first_line(error)})" if error else ""
        self._heard.append(record.getMessage() + told)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What gpuhunt logs in the block; it is not printed."""
    heard: list[str] = []
    log, ear = logging.getLogger("gpuhunt"), _Ear(heard)
    before, log.propagate = log.propagate, False
    log.addHandler(ear)
    try:
        yield heard
    finally:
        log.removeHandler(ear)
        log.propagate = before
