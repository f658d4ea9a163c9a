"""Time and money of many offers at once: nodes x price x billed seconds, and all around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwater.infra.models import Cloud
from headwater.infra.planner.models import PlanRequest
from headwater.infra.planner.offers import CLOUDS, Flags, Floats, Ints, OfferTable
from headwater.infra.planner.sites import Sites
from headwater.infra.planner.spot import elastic_hours, gang_hours
from headwater.infra.planner.times import (
    START_SECONDS,
    Assumptions,
    Networks,
    bytes_per_second,
    loss_rates,
)

BILLED_SECONDS_LEAST = {Cloud.AWS: 60.0, Cloud.GCP: 60.0, Cloud.AZURE: 60.0}
"""All three bill by the second from the first minute on. Sources: the clouds' pages on billing of
Linux machines (EC2 "per-second billing", Compute Engine "1 minute minimum"; Azure bills by whole
minutes, of which the first is the least)."""

DISK_USD_PER_GIB_MONTH = {Cloud.AWS: 0.08, Cloud.GCP: 0.10, Cloud.AZURE: 0.075}
"""gp3, balanced persistent disk, standard SSD, in the region where each cloud asks least: judged to
do for all. A disk of 100 GiB is about a cent an hour, and other regions ask up to half more."""

HOURS_PER_MONTH = 730.0

SCHEDULER_DISK_GIB = 30.0


@dataclass(frozen=True, slots=True)
class Rows:
    """The offers that are priced, as columns that do not depend on the size of the inputs.

    Attributes:
        index: Row of each in the table.
        nodes: How many machines of it the work needs.
        rate: Bytes that one machine works through in a second, or its units of given hours.
        usd: Of all machines, with the scheduler, per hour.
        disks: Of all machines, per hour.
        near: Seconds that a byte takes to or from the machines' region; ``far`` another region of
            their cloud, ``abroad`` another cloud.
        least: Seconds that are billed at least.
    """

    index: Ints
    site: Ints
    cloud: Ints
    gpu: Ints
    is_spot: Flags
    nodes: Floats
    rate: Floats
    near: Floats
    far: Floats
    abroad: Floats
    usd: Floats
    disks: Floats
    start: Floats
    least: Floats


@dataclass(frozen=True)
class Money:
    """What a choice looks at, by row: all seconds, all US dollars, and those for egress."""

    seconds: Floats
    egress_usd: Floats
    usd: Floats


@dataclass(frozen=True)
class Priced(Money):
    """Seconds and US dollars by row and by what they are for."""

    start: Floats
    read: Floats
    compute: Floats
    write: Floats
    lost: Floats
    compute_usd: Floats
    rework_usd: Floats
    disks_usd: Floats
    requests_usd: Floats
    nat_usd: Floats


def node_counts(request: PlanRequest, table: OfferTable) -> tuple[Floats, Flags]:
    """How many machines of each offer the work needs, and which offers will do at all."""
    needs = request.needs
    if needs.gpus:
        fits = (table.gpus > 0) & (table.gpu_memory_gib >= needs.gpu_memory_gib)
        if needs.gpu_names:
            wanted = {name.lower() for name in needs.gpu_names}
            of_gpu = np.array([name.lower() in wanted for name in table.gpu_names], bool)
            fits &= of_gpu[table.gpu]
        return np.ceil(needs.gpus / np.maximum(table.gpus, 1.0)), fits
    nodes = np.ceil(np.maximum(needs.vcpus / table.vcpus, needs.memory_gib / table.memory_gib))
    return np.maximum(nodes, 1.0), np.ones(len(nodes), bool)


def rows_of(
    request: PlanRequest, table: OfferTable, index: Ints, nodes: Floats, scheduler_usd: Floats
) -> Rows:
    """Columns of the offers ``index``; ``scheduler_usd`` is the price at each site."""
    site, work = table.site[index], request.work
    cloud = table.site_cloud[site]
    count = nodes[index]
    networks = Networks.of(table.network_gbps[index], count)
    gib_hour = np.array([DISK_USD_PER_GIB_MONTH[one] / HOURS_PER_MONTH for one in CLOUDS])
    gpus, vcpus = table.gpus[index], table.vcpus[index]
    if work.unit_hours is None:
        use_gpu = gpus if request.needs.gpus else np.zeros(len(index))
        rate = bytes_per_second(table.gpu[index], table.gpu_names, vcpus, use_gpu)
    else:
        rate = gpus if request.needs.gpus else vcpus
    return Rows(
        index=index,
        site=site,
        cloud=cloud,
        gpu=table.gpu[index],
        is_spot=table.is_spot[index],
        nodes=count,
        rate=rate,
        near=networks.near,
        far=networks.far,
        abroad=networks.abroad,
        usd=count * table.usd[index] + scheduler_usd[site],
        disks=(count * request.needs.disk_gib + SCHEDULER_DISK_GIB) * gib_hour[cloud],
        start=np.array([START_SECONDS[one] for one in CLOUDS])[cloud],
        least=np.array([BILLED_SECONDS_LEAST[one] for one in CLOUDS])[cloud],
    )


def price(
    request: PlanRequest,
    table: OfferTable,
    sites: Sites,
    rows: Rows,
    assume: Assumptions,
    scale: float = 1.0,
) -> Priced:
    """Time and money of ``rows`` where all inputs are ``scale`` times their size."""
    at = sites.money(assume, scale)
    start, read, compute, write = _phases(request, sites, rows, assume, scale)
    work = read + compute + write
    lost = _lost_seconds(request, table, rows, assume, work, start)
    base = start + work
    seconds = base + lost
    compute_usd = rows.usd * np.maximum(base, rows.least) / 3600
    billed_usd = rows.usd * np.maximum(seconds, rows.least) / 3600
    rework_usd = np.where(np.isfinite(billed_usd), billed_usd - compute_usd, np.inf)
    disks_usd = rows.disks * np.maximum(seconds, rows.least) / 3600
    egress, nat, requests = at.egress[rows.site], at.nat[rows.site], at.requests[rows.site]
    return Priced(
        start=start,
        read=read,
        compute=compute,
        write=write,
        lost=lost,
        seconds=seconds,
        compute_usd=compute_usd,
        rework_usd=rework_usd,
        disks_usd=disks_usd,
        egress_usd=egress,
        requests_usd=requests,
        nat_usd=nat,
        usd=compute_usd + rework_usd + disks_usd + egress + requests + nat,
    )


def _phases(
    request: PlanRequest, sites: Sites, rows: Rows, assume: Assumptions, scale: float
) -> tuple[Floats, Floats, Floats, Floats]:
    hours = request.work.unit_hours
    if hours is None:
        amount = request.size_bytes * scale * (assume.compute + assume.then_compute)
    else:
        amount = hours * 3600 * scale * assume.compute
    compute = amount / (rows.rate * rows.nodes)
    read, write = (_transfer(one, rows) * assume.network for one in sites.moved(assume, scale))
    return rows.start * assume.start, read, compute, write


def _transfer(moved: Floats, rows: Rows) -> Floats:
    """Seconds for bytes by kind of way and site."""
    seconds = np.zeros(len(rows.index))
    for by_site, per_byte in zip(moved, (rows.near, rows.far, rows.abroad), strict=True):
        if by_site.any():
            seconds += by_site[rows.site] * per_byte
    return seconds


def _lost_seconds(
    request: PlanRequest,
    table: OfferTable,
    rows: Rows,
    assume: Assumptions,
    work: Floats,
    start: Floats,
) -> Floats:
    """What lost spot machines add."""
    lost = np.zeros(len(rows.index))
    spot = rows.is_spot
    rates = loss_rates(CLOUDS, table.gpu_names, request.learned.spot, assume.high)
    rate = rates[rows.cloud[spot], rows.gpu[spot]]
    hours, restart = work[spot] / 3600, start[spot] / 3600
    if request.work.rework == "gang":
        grown = gang_hours(hours, rate, rows.nodes[spot], restart)
    else:
        grown = elastic_hours(hours, rate, restart)
    lost[spot] = np.maximum(grown - hours, 0.0) * 3600
    return lost
