"""How long a plan takes, and what one saves against a choice that does not look at the data."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import replace
from datetime import date

from tests.benchmarks.chart import Line, write_chart
from tests.benchmarks.measure import HERE, Result

from headwater.infra.catalog.tables import Catalog, load_catalog
from headwater.infra.models import Cloud
from headwater.infra.planner.choose import Gather
from headwater.infra.planner.models import DataInput, Needs, Output, PlanRequest, Strategy, Work
from headwater.infra.planner.offers import OfferTable, Site
from headwater.infra.planner.plan import plan
from headwater.infra.policies import Rules

TODAY = date(2026, 11, 25)
PLANS = 100
JOB = "8 GPU-hours on four GPUs of 22 GiB"
PLOT = HERE.parent.parent / "docs" / "data_blind.svg"

SHAPE = {1: 1.0, 10: 1.0, 100: 1.46, 1000: 8.9, 10_000: 72.0}
"""Data-blind over planned cost by GB of input, as a study of the method found with other prices."""

WITHIN = 1.5
"""Factor within which the shape counts as reproduced: prices have moved since."""

SCHEMES = {
    Cloud.AWS: "s3://a",
    Cloud.GCP: "gs://a",
    Cloud.AZURE: "abfss://a@b.dfs.core.windows.net",
}


def planning(offers: int, target_ms: float) -> Result:
    """The 95th percentile of plans for three inputs, among the packaged offers or generated ones.

    Each plan is of a new request; the columns of the offers are made once, as in a command. Time
    is the processor's: a plan waits for nothing, and other work on the machine is not its own.
    """
    packaged = load_catalog()
    catalog = packaged if offers <= len(packaged.offers) else _generated(packaged, offers)
    begun = time.perf_counter()
    table = OfferTable.of(catalog)
    columns = time.perf_counter() - begun
    rng = random.Random(3)
    wall, cpu = [], []
    for _ in range(PLANS):
        request = _request(rng, list(packaged.areas))
        begun, begun_cpu = time.perf_counter(), time.process_time()
        plan(request, table)
        wall.append((time.perf_counter() - begun) * 1e3)
        cpu.append((time.process_time() - begun_cpu) * 1e3)
    return Result(
        f"planning_{offers}",
        "processor time from located inputs to a ranked plan, 95th percentile of"
        f" {PLANS} plans for three inputs among {len(catalog.offers):,} offers",
        _p95(cpu),
        "ms",
        target_ms,
        {
            "median ms": statistics.median(cpu),
            "median ms on the clock": statistics.median(wall),
            "p95 ms on the clock": _p95(wall),
            "ms to make the columns once": columns * 1e3,
        },
    )


def data_blind() -> tuple[Result, ...]:
    """Cost of the cheapest machines anywhere over planned cost, by size of the input."""
    table = OfferTable.of(load_catalog())
    results, means, low, high = [], [], [], []
    for gb, shape in SHAPE.items():
        ratios = _blind_over_planned(table, gb)
        mean = statistics.fmean(ratios)
        tenths = statistics.quantiles(ratios, n=10)
        means.append((float(gb), mean))
        low.append((float(gb), tenths[0]))
        high.append((float(gb), tenths[-1]))
        results.append(
            Result(
                f"data_blind_{gb}gb",
                f"how far data-blind over planned cost is from the shape {shape:g}, for {gb:,} GB"
                f" and {JOB}, mean over the data being in each of {len(ratios)} regions",
                max(mean / shape, shape / mean),
                "times",
                WITHIN,
                {
                    "data-blind over planned": mean,
                    "median": statistics.median(ratios),
                    "shape": shape,
                },
            )
        )
    write_chart(
        PLOT,
        "Cost of the cheapest machines anywhere, over planned cost",
        f"GB of input; {JOB}, data in each region in turn",
        (
            Line("mean over regions", means),
            Line("a tenth of the regions is below", low, dashed=True),
            Line("a tenth of the regions is above", high, dashed=True),
            Line("shape to reproduce", [(float(x), y) for x, y in SHAPE.items()], points_only=True),
        ),
    )
    return tuple(results)


def _blind_over_planned(table: OfferTable, gb: int) -> list[float]:
    """One figure for each region that the data may be in and that has a plan."""
    ratios = []
    for cloud, region in (site for site in table.sites if _has_gpus(table, site)):
        one = DataInput(f"{SCHEMES[cloud]}/x", cloud, frozenset({region}), gb * 10**9, gb * 10)
        request = PlanRequest(
            (one,),
            Output(follows=True),
            TODAY,
            Needs(gpus=4, gpu_memory_gib=22),
            Work(unit_hours=8, output_ratio=0.0),
        )
        gather = Gather(request, table, Rules())
        chosen = gather.chosen()
        if chosen is None:  # no such GPU there, and no price for the bytes to leave
            continue
        blind = min(range(len(gather.rows.usd)), key=gather.rows.usd.__getitem__)
        ratios.append(float(gather.priced.usd[blind] / gather.priced.usd[chosen]))
    return ratios


def _has_gpus(table: OfferTable, site: Site) -> bool:
    return any(o.gpus and (o.cloud, o.region) == site for o in table.offers)


def _request(rng: random.Random, places: list[Site]) -> PlanRequest:
    inputs = []
    for index in range(3):
        cloud, region = rng.choice(places)
        size = int(10 ** rng.uniform(9, 13))
        inputs.append(DataInput(f"{SCHEMES[cloud]}/{index}", cloud, frozenset({region}), size, 100))
    return PlanRequest(
        tuple(inputs),
        Output(follows=True),
        TODAY,
        rng.choice((Needs(gpus=4, gpu_memory_gib=20), Needs(), Needs(gpus=1))),
        Work(strategies=frozenset(rng.choice(((), tuple(Strategy))))),
    )


def _generated(packaged: Catalog, count: int) -> Catalog:
    """Offers like the packaged ones, in every region and of more types."""
    rng = random.Random(1)
    places = list(packaged.areas)
    offers = []
    for index in range(count):
        like = rng.choice(packaged.offers)
        cloud, region = rng.choice(places)
        offers.append(
            replace(
                like,
                cloud=cloud,
                region=region,
                instance_type=f"{like.instance_type}.{index // 5000}",
                usd_per_hour=like.usd_per_hour * rng.uniform(0.7, 1.5),
            )
        )
    return Catalog(tuple(offers), packaged.rates, packaged.request_prices, packaged.areas)


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]
