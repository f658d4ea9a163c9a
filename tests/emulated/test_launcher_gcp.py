"""Machines of Compute Engine, through Google's own SDK."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from tests.contract.launchers import LauncherContract, Refuse, named, tags_of
from tests.emulators import gce

from headwater.infra.errors import AuthenticationFailed, InvalidLaunch, NoCapacity
from headwater.infra.launchers.base import LaunchSettings, NodeSpec
from headwater.infra.launchers.calls import Patience
from headwater.infra.launchers.gcp import GcpLauncher
from headwater.infra.launchers.network import openings
from headwater.infra.launchers.removal import sweep
from headwater.infra.models import Cloud, Market

SHORT = Patience(5, 0.02, 0.1)
SETTINGS = LaunchSettings(
    "mine",
    Cloud.GCP,
    {
        "project": ("emulated",),
        "network": ("default",),
        "subnetwork": ("default",),
        "network_tags": ("nodes",),
    },
    "headwater-gpu",
    "",
    {},
    "mine.toml",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with gce.gce(IPv4Network("127.83.0.0/16")) as server:
        yield server


@pytest.fixture(scope="module")
def launcher(server: Any) -> Iterator[GcpLauncher]:
    with GcpLauncher(
        SETTINGS, endpoint=server.url, create=SHORT, look=SHORT, delete=SHORT
    ) as launcher:
        yield launcher


@pytest.fixture
def spec() -> NodeSpec:
    cluster = f"hw{uuid.uuid4().hex[:8]}"
    name = f"{cluster}-w0"
    return NodeSpec(
        name,
        "worker",
        Cloud.GCP,
        "us-central1",
        "g2-standard-4",
        Market.SPOT,
        "#cloud-config\n",
        tags_of(name, cluster),
        zone="us-central1-a",
    )


class TestGcpLauncher(LauncherContract):
    capacity = "ZONE_RESOURCE_POOL_EXHAUSTED"
    quota = "QUOTA_EXCEEDED"
    elsewhere = "europe-west4"

    @pytest.fixture(params=[False, True], ids=["at once", "in the operation"])
    def refuse(self, server: Any, request: pytest.FixtureRequest) -> Refuse:
        return lambda code, _: server.script.fail("instances.insert", code, late=request.param)


def test_a_disk_that_outlived_its_machine_and_an_address_are_found_and_removed(
    server: Any, launcher: GcpLauncher, spec: NodeSpec
) -> None:
    labels = {"labels": dict(spec.tags)}
    server.store.add("disks", spec.zone, {"name": f"{spec.name}-old", "sizeGb": "73", **labels})
    server.store.add("addresses", spec.region, {"name": f"{spec.name}-ip", **labels})
    launcher.create(spec)

    removed = sweep(launcher, named(spec))

    assert [one.kind for one in removed] == ["instance", "disk", "address"]
    assert [one.size_gib for one in removed if one.kind == "disk"] == [73]
    assert server.left(**named(spec)) == []


def test_an_image_that_does_not_exist_is_told_with_its_line(
    server: Any, launcher: GcpLauncher, spec: NodeSpec
) -> None:
    with pytest.raises(InvalidLaunch, match="nobody") as error:
        launcher.create(replace(spec, image="nobody"))

    assert "mend image.gcp of cluster profile 'mine' (mine.toml)" in error.value.hint
    assert server.left(**named(spec)) == []


def test_a_throttled_api_is_waited_for(server: Any, launcher: GcpLauncher, spec: NodeSpec) -> None:
    for operation in ("instances.insert", "instances.get", "instances.delete"):
        server.script.fail(operation, "rateLimitExceeded", times=2)

    launcher.create(spec)
    removed = sweep(launcher, named(spec))

    assert [one.name for one in removed] == [spec.name]


def test_authentication_stops_at_once(server: Any, launcher: GcpLauncher, spec: NodeSpec) -> None:
    server.script.fail("instances.insert", "forbidden")

    with pytest.raises(AuthenticationFailed, match="forbidden") as error:
        launcher.create(spec)
    assert "gcloud auth application-default login" in error.value.hint


def test_an_insert_that_is_slow_is_waited_for(
    server: Any, launcher: GcpLauncher, spec: NodeSpec
) -> None:
    server.script.delay("instances.insert", 0.3)
    server.script.fail("instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", late=True)

    with pytest.raises(NoCapacity):
        launcher.create(spec)
    assert server.left(**named(spec)) == []


def test_a_firewall_that_lets_the_world_in_is_found(server: Any, launcher: GcpLauncher) -> None:
    wide = {
        "name": "wide",
        "network": "https://x/projects/emulated/global/networks/default",
        "direction": "INGRESS",
        "priority": 1000,
        "sourceRanges": ["0.0.0.0/0"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["8000-9000"]}],
    }
    before = openings(launcher.ingress_rules("us-central1"))
    server.store.add("firewalls", "", wide)

    after = openings(launcher.ingress_rules("us-central1"))

    assert before == ()
    assert [one.ports for one in after] == [(8786, 8787)]
    assert "gcloud compute firewall-rules update wide" in after[0].rule.close
