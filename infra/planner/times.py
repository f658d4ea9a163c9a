"""How long the work takes on each kind of machine: start, read, compute, write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from headwater.infra.models import Cloud
from headwater.infra.planner.learning import VCPU_BYTES_PER_SECOND, gpu_bytes_per_second
from headwater.infra.planner.models import PlanRequest
from headwater.infra.planner.offers import Floats, Ints
from headwater.infra.planner.spot import SpotUse, loss_rate

START_SECONDS = {Cloud.AWS: 150.0, Cloud.GCP: 120.0, Cloud.AZURE: 210.0}
"""From the order of a machine to a worker that takes work: judged, with a container to fetch."""

START_SPREAD = 2.0
NETWORK_SPREAD = 1.5
"""How far starts and transfers may be off, one time in ten."""

UNKNOWN_GBPS = 5.0
"""Of a machine whose network is not known: what the smaller ones keep up."""

STORE_SHARE = 0.5
"""Part of its network that one machine's reads from a store in its region reach."""

OTHER_REGION_GBPS, OTHER_REGION_MOST = 5.0, 25.0
OTHER_CLOUD_GBPS, OTHER_CLOUD_MOST = 2.5, 20.0
"""Between regions and between clouds: of one machine, and of all together."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """The figures that differ between what is expected and what one run in ten exceeds.

    Attributes:
        start: Factor on ``START_SECONDS``.
        network: Factor on the time of transfers.
        compute: Factor on the time of the work.
        output_ratio: Bytes written for each byte of the inputs.
        reread_ratio: Bytes that follow-up tables read of those.
        then_compute: Work of the follow-up tables, in units of the guess for a byte of the inputs.
        then_ratio: Bytes that follow-up tables write for each byte of the inputs.
        high: Spot machines are taken as often as one kind in ten is.
    """

    start: float
    network: float
    compute: float
    output_ratio: float
    high: bool
    reread_ratio: float = 0.0
    then_compute: float = 0.0
    then_ratio: float = 0.0


def expected(request: PlanRequest) -> Assumptions:
    """What half of the runs keep to."""
    work, learned = request.work, request.learned
    ratio = learned.output_ratio.center if work.output_ratio is None else work.output_ratio
    given = work.unit_hours is not None
    return Assumptions(
        start=1.0,
        network=1.0,
        compute=1.0 if given else learned.slowness.center,
        output_ratio=ratio,
        high=False,
        reread_ratio=ratio * len(request.then),
        then_compute=ratio * sum(one.learned.slowness.center for one in request.then),
        then_ratio=ratio * sum(one.learned.output_ratio.center for one in request.then),
    )


def exceeded(request: PlanRequest) -> Assumptions:
    """What one run in ten exceeds. Hours that were given are taken as they are."""
    work, learned = request.work, request.learned
    ratio = learned.output_ratio.high if work.output_ratio is None else work.output_ratio
    given = work.unit_hours is not None
    return Assumptions(
        start=START_SPREAD,
        network=NETWORK_SPREAD,
        compute=1.0 if given else learned.slowness.high,
        output_ratio=ratio,
        high=True,
        reread_ratio=ratio * len(request.then),
        then_compute=ratio * sum(one.learned.slowness.high for one in request.then),
        then_ratio=ratio * sum(one.learned.output_ratio.high for one in request.then),
    )


@dataclass(frozen=True, slots=True)
class Networks:
    """Seconds for one byte, by kind of way, of all machines of each row together."""

    near: Floats
    far: Floats
    abroad: Floats

    @classmethod
    def of(cls, network_gbps: Floats, nodes: Floats) -> Networks:
        """The networks of ``nodes`` machines.

        Args:
            network_gbps: Of one machine; NaN is unknown.
        """
        gbps = np.where(np.isnan(network_gbps), UNKNOWN_GBPS, network_gbps)
        far = np.minimum(np.minimum(OTHER_REGION_GBPS, gbps) * nodes, OTHER_REGION_MOST)
        abroad = np.minimum(np.minimum(OTHER_CLOUD_GBPS, gbps) * nodes, OTHER_CLOUD_MOST)
        bits = 8 / 1e9
        return cls(bits / (gbps * STORE_SHARE * nodes), bits / far, bits / abroad)


def bytes_per_second(gpu: Ints, gpu_names: tuple[str, ...], vcpus: Floats, gpus: Floats) -> Floats:
    """What one machine works through, by the guess: its GPUs where it has some, else its vCPUs."""
    of_gpu = np.array([gpu_bytes_per_second(name) for name in gpu_names], float)
    rates: Floats = np.where(gpus > 0, gpus * of_gpu[gpu], vcpus * VCPU_BYTES_PER_SECOND)
    return rates


@lru_cache(maxsize=16)
def loss_rates(
    clouds: tuple[Cloud, ...], gpu_names: tuple[str, ...], spot: tuple[SpotUse, ...], high: bool
) -> Floats:
    """Losses of a spot machine per hour, by index of cloud and of GPU."""
    rates = np.zeros((len(clouds), len(gpu_names)))
    for row, cloud in enumerate(clouds):
        for column, gpu in enumerate(gpu_names):
            used = [one for one in spot if one.cloud is cloud and one.gpu == gpu]
            hours, losses = sum(one.hours for one in used), sum(one.losses for one in used)
            rates[row, column] = loss_rate(gpu, hours, losses)[high]
    return rates
