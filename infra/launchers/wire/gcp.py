"""What Compute Engine is asked for and what it answers, by the names of Google's own classes.

No SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from headwater.infra.launchers.base import (
    LaunchSettings,
    Leftover,
    LeftoverKind,
    Node,
    NodeSpec,
    State,
)
from headwater.infra.launchers.calls import Blame, Failure
from headwater.infra.launchers.codes import Kind
from headwater.infra.launchers.network import IngressRule, port_range
from headwater.infra.models import Cloud, Market

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

GPU_FAMILIES = ("a2-", "a3-", "a4-", "a4x-", "g2-", "g4-")
"""Types with a GPU: they cannot be moved to another host while they run."""

STATES = {
    "PROVISIONING": State.PENDING,
    "STAGING": State.PENDING,
    "PENDING": State.PENDING,
    "RUNNING": State.RUNNING,
    "REPAIRING": State.PENDING,
    "STOPPING": State.STOPPING,
    "PENDING_STOP": State.STOPPING,
    "SUSPENDING": State.STOPPING,
    "DEPROVISIONING": State.STOPPING,
    "SUSPENDED": State.STOPPED,
    "STOPPED": State.STOPPED,
    "TERMINATED": State.STOPPED,
}

BLAMES = (
    Blame(("images/", "sourceimage", "resource.images"), "image.gcp"),
    Blame(("subnetwork",), "network.gcp.subnetwork"),
    Blame(("network",), "network.gcp.network"),
    Blame(("serviceaccount", "service account", "service_account"), "identity.gcp"),
    Blame(("project",), "network.gcp.project"),
)

COLLECTIONS: dict[LeftoverKind, str] = {
    "instance": "instances",
    "disk": "disks",
    "address": "addresses",
}


def instance_body(
    spec: NodeSpec, settings: LaunchSettings, project: str, image: str
) -> dict[str, Any]:
    """What an insert is asked for, by the names of Google's own classes."""
    labels = dict(spec.tags)
    zone = f"projects/{project}/zones/{spec.zone}"
    card: dict[str, Any] = {}  # without an access config it has no public address
    if subnetwork := settings.named("subnetwork"):
        inside = f"projects/{project}/regions/{spec.region}/subnetworks/{subnetwork}"
        card["subnetwork"] = subnetwork if "/" in subnetwork else inside
    if network := settings.named("network"):
        inside = f"projects/{project}/global/networks/{network}"
        card["network"] = network if "/" in network else inside
    is_spot = spec.market is Market.SPOT
    is_fixed = is_spot or spec.instance_type.startswith(GPU_FAMILIES)
    scheduling: dict[str, Any] = {
        "provisioning_model": "SPOT" if is_spot else "STANDARD",
        "automatic_restart": False,  # a lost node is replaced by another, under another name
        "on_host_maintenance": "TERMINATE" if is_fixed else "MIGRATE",
    }
    if is_spot or spec.run_limit_seconds:
        scheduling["instance_termination_action"] = "DELETE"
    if spec.run_limit_seconds:
        scheduling["max_run_duration"] = {"seconds": spec.run_limit_seconds}
    is_cloud_config = spec.user_data.startswith("#cloud-config")
    body: dict[str, Any] = {
        "name": spec.name,
        "machine_type": f"zones/{spec.zone}/machineTypes/{spec.instance_type}",
        "labels": labels,
        "disks": [
            {
                "boot": True,
                "auto_delete": True,
                # Google encrypts every disk.
                "initialize_params": {
                    "source_image": image,
                    "disk_size_gb": spec.disk_gib,
                    "disk_type": f"{zone}/diskTypes/pd-balanced",
                    "labels": labels,
                },
            }
        ],
        "network_interfaces": [card],
        "scheduling": scheduling,
        "metadata": {
            "items": [
                {
                    "key": "user-data" if is_cloud_config else "startup-script",
                    "value": spec.user_data,
                },
                {"key": "block-project-ssh-keys", "value": "true"},
            ]
        },
    }
    if network_tags := settings.network.get("network_tags"):
        body["tags"] = {"items": list(network_tags)}
    if settings.identity:
        body["service_accounts"] = [{"email": settings.identity, "scopes": [SCOPE]}]
    return body


def operation_failure(operation: Mapping[str, Any]) -> Failure | None:
    """Why an operation that is done has failed; ``None`` where it has not.

    Of several errors the one that says most decides: a quota or a lack of machines.
    """
    errors = (operation.get("error") or {}).get("errors") or ()
    status = operation.get("http_error_status_code") or None
    failures = [
        Failure.of(Cloud.GCP, str(one.get("code", "")), str(one.get("message", "")), status)
        for one in errors
    ]
    telling = [one for one in failures if one.kind in (Kind.CAPACITY, Kind.QUOTA)]
    if telling or failures:
        return (telling or failures)[0]
    if status and status >= 400:
        return Failure.of(Cloud.GCP, "", str(operation.get("http_error_message", "")), status)
    return None


def firewall_rules(
    firewall: Mapping[str, Any], project: str, network_tags: Set[str], identity: str
) -> Sequence[IngressRule]:
    """The rules of one firewall, by the names of Google's own classes; none where it is not ours.

    Args:
        network_tags: Those that our machines have.
        identity: The service account that they have.
    """
    targets = set(firewall.get("target_tags") or ())
    accounts = set(firewall.get("target_service_accounts") or ())
    is_ours = (not targets or targets & network_tags) and (not accounts or identity in accounts)
    if firewall.get("disabled") or firewall.get("direction") == "EGRESS" or not is_ours:
        return ()
    is_narrowed = firewall.get("source_tags") or firewall.get("source_service_accounts")
    sources = tuple(firewall.get("source_ranges") or (() if is_narrowed else ("0.0.0.0/0",)))
    name = str(firewall["name"])
    return [
        IngressRule(
            f"network {str(firewall['network']).rpartition('/')[2]}",
            f"firewall rule {name}",
            sources,
            str(one.get("I_p_protocol", "all")),
            tuple(port_range(port) for port in one.get("ports") or ()),
            int(firewall.get("priority", 1000)),
            allows,
            f"gcloud compute firewall-rules update {name} --disabled --project {project}",
        )
        for allows, key in ((True, "allowed"), (False, "denied"))
        for one in firewall.get(key) or ()
    ]


def removal_command(kind: LeftoverKind, name: str, place: str, project: str) -> str:
    """The command of Google's own tool that removes one thing.

    Example:
        >>> removal_command("disk", "hw-1", "us-central1-a", "p")
        'gcloud compute disks delete hw-1 --zone us-central1-a --project p --quiet'
    """
    level = "region" if kind == "address" else "zone"
    return (
        f"gcloud compute {COLLECTIONS[kind]} delete {name} --{level} {place} --project {project}"
        " --quiet"
    )


def more_quota(project: str) -> str:
    """How to ask for a greater quota."""
    return f"https://console.cloud.google.com/iam-admin/quotas?project={project}"


def node_of(one: Mapping[str, Any]) -> Node:
    """A machine, of the answer that describes it."""
    zone = str(one["zone"]).rpartition("/")[2]
    cards = one.get("network_interfaces") or [{}]
    labels = dict(one.get("labels") or {})
    model = (one.get("scheduling") or {}).get("provisioning_model", "")
    return Node(
        f"zones/{zone}/instances/{one['name']}",
        str(one["name"]),
        Cloud.GCP,
        _region(zone),
        zone,
        str(one["machine_type"]).rpartition("/")[2],
        Market.SPOT if model == "SPOT" else Market.ON_DEMAND,
        str(cards[0].get("network_i_p", "")),
        STATES.get(str(one.get("status", "")), State.PENDING),
        labels,
        _time(one),
    )


def leftover_of(kind: LeftoverKind, one: Mapping[str, Any], project: str) -> Leftover:
    """Something beside a machine, of the answer that describes it."""
    zone = str(one.get("zone", "")).rpartition("/")[2]
    region = str(one.get("region", "")).rpartition("/")[2] or _region(zone)
    name = str(one["name"])
    return Leftover(
        kind,
        path_of(one["self_link"]),
        name,
        Cloud.GCP,
        region,
        zone,
        dict(one.get("labels") or {}),
        removal_command(kind, name, zone or region, project),
        _time(one),
        size_gib=float(one.get("size_gb") or 0),
    )


def _time(one: Mapping[str, Any]) -> datetime | None:
    said = one.get("creation_timestamp")
    return datetime.fromisoformat(said) if said else None


def _region(zone: str) -> str:
    return zone.rpartition("-")[0]


def path_of(link: str) -> str:
    """A resource's address from its place on: ``zones/us-central1-a/disks/hw-1``."""
    return "/".join(link.rsplit("/", 4)[1:])
