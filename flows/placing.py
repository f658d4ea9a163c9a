"""What a run needs, where its data is and what is known of it: all that a plan is made from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.flows.gathering import gather_plan, gathered_inputs, require_copies_allowed
from headwater.infra.errors import DataError, StorageError
from headwater.infra.gpu import GpuProbe, probe
from headwater.infra.locations.locate import locate
from headwater.infra.locations.models import Location
from headwater.infra.models import Cloud, JobRequest, RunReceipt
from headwater.infra.planner.history import month_to_date
from headwater.infra.planner.learning import GPU_BYTES_PER_SECOND, Learned, learn, observed
from headwater.infra.planner.models import (
    Copying,
    DataInput,
    FollowUp,
    Here,
    Needs,
    Output,
    PlacementPlan,
    PlanRequest,
    Strategy,
    Work,
)
from headwater.infra.planner.offers import OfferTable
from headwater.infra.planner.plan import plan
from headwater.infra.profiles import ClusterProfile, effective_rules, load_policies
from headwater.infra.storage.gather import GatherPlan
from headwater.infra.storage.receipts import ReceiptStore
from headwater.infra.storage.transfer.models import TransferReceipt
from headwater.infra.storage.transfer.receipts import TransferReceiptStore

if TYPE_CHECKING:
    from headwater.tasks.jobs import Job


@dataclass(frozen=True, slots=True)
class Placed:
    """A plan and what it was made from.

    Attributes:
        note: Why past runs are not in it, where they could not be read.
        gathering: What would be copied first, where that was asked for.
    """

    request: PlanRequest
    plan: PlacementPlan
    note: str = ""
    gathering: GatherPlan | None = None


def place(
    request: JobRequest,
    profile: ClusterProfile,
    *,
    then: Sequence[JobRequest] = (),
    folder: Path | None = None,
    gpu_probe: GpuProbe = probe,
    today: date | None = None,
) -> Placed:
    """Find the data of ``request`` and plan where to run it.

    Args:
        then: Requests of the tables that are made from its result, in the same place.
        folder: Where the job's module is looked for first; the working folder by default.
        today: For the age of prices; in UTC by default.
    Raises:
        HeadwaterError: The request is refused: no such job, data that cannot be located, rules
            that leave nothing for it.
    """
    from headwater.infra.catalog.tables import load_catalog

    rules = effective_rules(profile, load_policies())
    folder = folder or Path.cwd()
    job = _job(request, folder)
    for one in then:
        _job(one, folder)
    gathering = None if request.gather is None else gather_plan([request, *then], folder=folder)
    copies: tuple[Copying, ...] = ()
    if gathering is None:
        inputs = _inputs(request, then, profile)
    else:
        require_copies_allowed(rules, gathering, profile.locations)
        inputs, copies = gathered_inputs(gathering, profile.locations)
    (target,) = locate([request.target], declared=profile.locations, missing_ok=True)
    here = _here(profile, gpu_probe) if profile.cluster.launcher == "local" else None
    receipts, note = past_runs()
    moved, unread = past_copies()
    day = today or datetime.now(UTC).date()
    asked = PlanRequest(
        inputs=inputs,
        output=Output(target.uri, target.cloud, target.regions),
        today=day,
        needs=_needs(profile),
        work=Work(strategies=frozenset(Strategy(name) for name in job.strategies)),
        endpoints=_endpoints(profile),
        here=here,
        month_to_date=month_to_date(receipts, day, moved),
        learned=_learned(receipts, request.job_name, here),
        copies=copies,
        then=tuple(FollowUp(_learned(receipts, one.job_name, here)) for one in then),
    )
    placed = plan(asked, OfferTable.of(load_catalog()), rules)
    return Placed(asked, placed, note or unread, gathering)


def _job(request: JobRequest, folder: Path) -> Job:
    from headwater.tasks.jobs import COPY, find_job

    return find_job(request.job, folder=folder) if request.job else COPY


def _inputs(
    request: JobRequest, then: Sequence[JobRequest], profile: ClusterProfile
) -> tuple[DataInput, ...]:
    sides = [side for one in (request, *then) for _, side in one.sides]
    found = locate([*request.sources, *sides], declared=profile.locations)
    return tuple(_input(one) for one in found)


def _input(one: Location) -> DataInput:
    return DataInput(one.uri, one.cloud, one.regions, one.size_bytes, one.objects)


def _needs(profile: ClusterProfile) -> Needs:
    gpu, cluster = profile.gpu, profile.cluster
    default = Needs()
    threads = cluster.threads_per_worker or 1
    return Needs(
        gpus=gpu.count or (1 if gpu.name or gpu.memory_gib else 0),
        gpu_names=gpu.name,
        gpu_memory_gib=gpu.memory_gib,
        vcpus=cluster.workers * threads or default.vcpus,
        memory_gib=cluster.workers * cluster.memory_gib_per_worker or default.memory_gib,
    )


def _endpoints(profile: ClusterProfile) -> dict[Cloud, bool | None]:
    network = profile.network
    return {
        Cloud.AWS: network.aws.storage_endpoint,
        Cloud.GCP: network.gcp.storage_endpoint,
        Cloud.AZURE: network.azure.storage_endpoint,
    }


def _here(profile: ClusterProfile, gpu_probe: GpuProbe) -> Here:
    cores = os.cpu_count() or 1
    if profile.cluster.gpu == "never":
        return Here(cores)
    report = gpu_probe()
    if not report.usable:
        return Here(cores)
    return Here(cores, len(report.names), _model_of(report.names[0]))


def _model_of(name: str) -> str:
    """What a catalog calls a GPU that NVML calls ``name``.

    Examples:
        >>> _model_of("NVIDIA L4"), _model_of("NVIDIA A100-SXM4-80GB"), _model_of("GeForce")
        ('L4', 'A100', 'GeForce')
    """
    words = re.split(r"[\s-]+", name)
    return next((word for word in words if word in GPU_BYTES_PER_SECOND), name)


def past_runs() -> tuple[Sequence[RunReceipt], str]:
    """Past runs, and why there are none where they could not be read: a plan goes without."""
    try:
        return tuple(ReceiptStore().list()), ""
    except (StorageError, DataError) as exc:
        return (), f"past runs could not be read, so the plan knows none: {exc.message}"


def past_copies() -> tuple[Sequence[TransferReceipt], str]:
    """Past copies that a cloud billed for, and why there are none, as with runs."""
    try:
        return tuple(TransferReceiptStore().list()), ""
    except (StorageError, DataError) as exc:
        return (), f"past copies could not be read, so the plan knows none: {exc.message}"


def _learned(receipts: Iterable[RunReceipt], job: str, here: Here | None) -> Learned:
    cores, gpu = (here.vcpus, here.gpu) if here else (os.cpu_count() or 1, "")
    return learn(observed(receipts, job, cores=cores, gpu=gpu))
