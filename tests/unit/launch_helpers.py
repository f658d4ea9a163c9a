"""Values with which the tests of launchers begin."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headwater.infra.launchers.base import LaunchSettings, Leftover, NodeSpec
from headwater.infra.launchers.calls import Patience
from headwater.infra.launchers.tags import node_tags
from headwater.infra.models import Cloud, Market

PLACES = {
    Cloud.AWS: ("us-east-1", "us-east-1a", "g4dn.xlarge"),
    Cloud.GCP: ("us-central1", "us-central1-a", "g2-standard-4"),
    Cloud.AZURE: ("eastus", "", "Standard_NC4as_T4_v3"),
}
NETWORKS: dict[Cloud, dict[str, tuple[str, ...]]] = {
    Cloud.AWS: {"subnets": ("subnet-1",), "security_groups": ("sg-1", "sg-2")},
    Cloud.GCP: {
        "project": ("p",),
        "network": ("net",),
        "subnetwork": ("sub",),
        "network_tags": ("nodes",),
    },
    Cloud.AZURE: {
        "subscription": ("s",),
        "resource_group": ("rg",),
        "virtual_network": ("vnet",),
        "subnet": ("sub",),
        "security_group": ("nsg",),
    },
}
IDENTITIES = {
    Cloud.AWS: "node-role",
    Cloud.GCP: "node@p.iam.gserviceaccount.com",
    Cloud.AZURE: "node-identity",
}
TAGS = node_tags(
    run="r1",
    cluster="c1",
    owner="Ada",
    role="worker",
    node="c1-w0",
    expires=datetime(2026, 1, 1, tzinfo=UTC),
)


def spec_in(cloud: Cloud, **changes: Any) -> NodeSpec:
    """A worker on spot, with ``changes``."""
    region, zone, kind = PLACES[cloud]
    spec = NodeSpec(
        "c1-w0", "worker", cloud, region, kind, Market.SPOT, "#cloud-config\n", TAGS, zone
    )
    return replace(spec, **changes)


def settings_of(cloud: Cloud, **changes: Any) -> LaunchSettings:
    """A profile that names everything."""
    settings = LaunchSettings(
        "mine",
        cloud,
        NETWORKS[cloud],
        "an:image:of:mine",
        IDENTITIES[cloud],
        {},
        "mine",
        {f"image.{cloud}": "profiles/mine.toml"},
    )
    return replace(settings, **changes)


def disk(name: str, **changes: Any) -> Leftover:
    """A disk of 730 GiB in ``us-east-1``, which costs $0.08 an hour."""
    one = Leftover(
        "disk",
        name,
        name,
        Cloud.AWS,
        "us-east-1",
        "us-east-1a",
        TAGS,
        f"remove {name}",
        size_gib=730,
    )
    return replace(one, **changes)


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def patience(self, seconds: float, jitter: float = 1.0) -> Patience:
        """Waits as long as it may, or a half of it with ``jitter`` 0."""
        return Patience(seconds, wait=self.wait, clock=lambda: self.now, jitter=lambda: jitter)
