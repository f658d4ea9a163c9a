"""What a cluster in a cloud is to be, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from headwater.infra.models import Cloud, Market
from headwater.infra.node.orders import WorkerSettings
from headwater.infra.storage.uris import Uri

LEASE = timedelta(minutes=20)
"""How long nodes live without news of whoever holds the cluster. More than a machine takes to boot,
and what a dead holder costs at most."""

IDLE_SECONDS = 900.0
"""How long a cluster lives without work; more than a machine with a large image takes to boot."""

LOST_SECONDS = 120.0
"""How long a worker waits for its scheduler."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine may be, and what it is.

    Attributes:
        zone: Empty leaves it to the cloud.
    """

    region: str
    zone: str
    instance_type: str
    market: Market

    def __str__(self) -> str:
        """As a person reads it.

        Examples:
            >>> str(Place("us-east-1", "us-east-1b", "g6.xlarge", Market.SPOT))
            'us-east-1b g6.xlarge spot'
        """
        return f"{self.zone or self.region} {self.instance_type} {self.market}"


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One cluster of one cloud.

    Attributes:
        cluster: Its id: unique for all time, of lower-case letters, digits and ``-``.
        run: Of the run that it is for.
        owner: Who pays for it.
        folder: Where its orders are, and what its nodes leave; it is emptied when it closes.
        container: What its nodes run.
        scheduler: Places to try for the scheduler, in order.
        workers: The same for each node with workers.
        settings: How the workers of one node run.
        most_minutes: Longest that one machine may run, whoever renews its lease.
        tags: Of the cluster profile.
    """

    cluster: str
    run: str
    owner: str
    cloud: Cloud
    folder: Uri
    container: str
    scheduler: tuple[Place, ...]
    workers: tuple[Place, ...]
    settings: WorkerSettings
    most_minutes: int
    lease: timedelta = LEASE
    idle_seconds: float = IDLE_SECONDS
    lost_seconds: float = LOST_SECONDS
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def workers_per_node(self) -> int:
        """One for each GPU, or one."""
        return max(1, self.settings.gpus)
