"""What a cluster tells its nodes: one file in the object store, read with the node's own identity.

It holds the keys of the cluster's connections, so it is private to the cluster's identities and
removed when the cluster closes. Nothing of it travels in user-data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headwater.infra.errors import NotFound, RunError
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

if TYPE_CHECKING:
    from distributed import Security

FILE = "orders.json"
"""Name of the file in the cluster's folder, beside what its nodes leave there."""

ORDERS_VERSION = 1
"""Format of the file; a newer one is refused by name."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What the cluster's own authority has signed, as PEM text."""

    ca: str = field(repr=False)
    cert: str = field(repr=False)
    key: str = field(repr=False)

    def security(self) -> Security:
        """The same for Dask; a peer without a certificate of this authority is turned away."""
        from distributed import Security

        return Security(
            require_encryption=True,
            tls_ca_file=self.ca,
            tls_scheduler_cert=self.cert,
            tls_scheduler_key=self.key,
            tls_worker_cert=self.cert,
            tls_worker_key=self.key,
            tls_client_cert=self.cert,
            tls_client_key=self.key,
        )


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the workers of one node run; see ``settings_for``.

    Attributes:
        gpus: One worker each; 0 is one worker on the CPU.
        threads: Of each worker.
        memory_gib: Of each worker; 0 shares what the machine has.
        rmm_async: The driver's own pool, which grows and shrinks.
        rmm_pool_share: Part of the GPU's memory that is taken at once; 0 takes none.
        cudf_spill: cuDF moves frames to the host where the GPU is full.
        local_directory: Where they spill; empty is the system's place for what is temporary.
    """

    gpus: int = 0
    threads: int = 1
    memory_gib: float = 0.0
    rmm_async: bool = False
    rmm_pool_share: float = 0.0
    cudf_spill: bool = False
    local_directory: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """One cluster's orders to its nodes.

    Attributes:
        cluster: Its id, which is the tag ``hw_cluster`` of all it has made.
        lease_until: When a node ends by itself. Whoever holds the cluster renews it by writing
            the file again; a holder that died does not.
        idle_seconds: The scheduler ends after this time without work; more than a machine takes
            to boot.
        lost_seconds: A worker ends after this time without a scheduler.
        versions: Of the packages that must be the same on all sides, as ``installed`` tells them.
    """

    cluster: str
    tls: Tls
    lease_until: datetime
    idle_seconds: float
    lost_seconds: float
    versions: Mapping[str, str]
    worker: WorkerSettings = WorkerSettings()
    version: int = ORDERS_VERSION

    def lease_left(self) -> float:
        """Seconds until the lease ends; negative where it has."""
        return (self.lease_until - datetime.now(UTC)).total_seconds()


def write_orders(folder: Uri, orders: Orders) -> None:
    """Leave the orders in the cluster's ``folder``, or renew them."""
    uri = folder / FILE
    value = {**asdict(orders), "lease_until": orders.lease_until.isoformat()}
    open_filesystem(uri).write(uri, json.dumps(value).encode())


def read_orders(folder: Uri) -> Orders:
    """The orders in the cluster's ``folder``.

    Raises:
        NotFound: There are none: the cluster was closed.
        AccessDenied: The node's identity may not read them.
        RunError: A newer Headwater wrote them.
    """
    uri = folder / FILE
    fs = open_filesystem(uri)
    try:
        value = json.loads(fs.read(fs.stat(uri)))
    except NotFound as exc:
        raise NotFound(f"no orders at {uri}: the cluster was closed") from exc
    if value["version"] > ORDERS_VERSION:
        raise RunError(
            f"the orders at {uri} have format {value['version']}; this Headwater knows formats up"
            f" to {ORDERS_VERSION}",
            hint="start the cluster from the version that is in the nodes' image",
        )
    return Orders(
        cluster=value["cluster"],
        tls=Tls(**value["tls"]),
        lease_until=datetime.fromisoformat(value["lease_until"]),
        idle_seconds=value["idle_seconds"],
        lost_seconds=value["lost_seconds"],
        versions=value["versions"],
        worker=WorkerSettings(**value["worker"]),
        version=value["version"],
    )
