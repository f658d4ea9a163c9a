"""Virtual machines of Azure, through Microsoft's own SDKs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from tests.contract.launchers import LauncherContract, Refuse, named, tags_of
from tests.emulators import arm

from headwater.infra.errors import AuthenticationFailed, InvalidLaunch, NoCapacity
from headwater.infra.launchers.azure import AzureLauncher
from headwater.infra.launchers.base import LaunchSettings, NodeSpec
from headwater.infra.launchers.calls import Patience
from headwater.infra.launchers.network import openings
from headwater.infra.launchers.removal import sweep
from headwater.infra.models import Cloud, Market

SHORT = Patience(5, 0.02, 0.1)
SETTINGS = LaunchSettings(
    "mine",
    Cloud.AZURE,
    {
        "subscription": ("00000000-0000-0000-0000-000000000000",),
        "resource_group": ("headwater",),
        "virtual_network": ("vnet-eastus",),
        "subnet": ("default",),
        "security_group": ("nsg-eastus",),
    },
    "publisher:offer:sku:latest",
    "node",
    {},
    "mine.toml",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with arm.arm(IPv4Network("127.84.0.0/16")) as server:
        yield server


@pytest.fixture(scope="module")
def launcher(server: Any) -> Iterator[AzureLauncher]:
    with AzureLauncher(
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
        Cloud.AZURE,
        "eastus",
        "Standard_NC4as_T4_v3",
        Market.SPOT,
        "#cloud-config\n",
        tags_of(name, cluster),
        zone="eastus-1",
    )


class TestAzureLauncher(LauncherContract):
    capacity = "ZonalAllocationFailed"
    quota = "QuotaExceeded"
    elsewhere = "westus2"

    @pytest.fixture(params=[False, True], ids=["at once", "in the operation"])
    def refuse(self, server: Any, request: pytest.FixtureRequest) -> Refuse:
        return lambda code, _: server.script.fail(
            "virtualMachines.createOrUpdate", code, late=request.param
        )


def test_what_outlived_its_machine_is_found_and_removed(
    server: Any, launcher: AzureLauncher, spec: NodeSpec
) -> None:
    for kind in ("disks", "publicIPAddresses"):
        said = {"diskSizeGB": 73} if kind == "disks" else {}
        server.group.add(kind, f"{spec.name}-{kind}", spec.region, said, tags=spec.tags)
    launcher.create(spec)

    removed = sweep(launcher, named(spec))

    assert {one.kind for one in removed} == {"instance", "disk", "address"}
    assert [one.size_gib for one in removed if one.kind == "disk"] == [73]
    assert server.left(**named(spec)) == []


def test_a_card_that_azure_keeps_for_a_while_goes_with_the_sweep(
    server: Any, launcher: AzureLauncher, spec: NodeSpec
) -> None:
    server.script.fail("networkInterfaces.delete", "NicReservedForAnotherVm")
    server.script.fail("virtualMachines.createOrUpdate", "SkuNotAvailable")

    with pytest.raises(NoCapacity):
        launcher.create(spec)
    sweep(launcher, named(spec))

    assert server.left(**named(spec)) == []


def test_a_launch_takes_few_calls(server: Any, launcher: AzureLauncher, spec: NodeSpec) -> None:
    before = server.script.calls.copy()

    launcher.create(spec)

    # One look at a machine that is made at once; a slow one is looked at every few seconds.
    assert dict(server.script.calls - before) == {
        "networkInterfaces.createOrUpdate": 1,
        "virtualMachines.createOrUpdate": 1,
        "operations.get": 1,
        "virtualMachines.get": 1,
    }


def test_a_subnet_in_another_region_is_told_with_its_line(
    server: Any, launcher: AzureLauncher, spec: NodeSpec
) -> None:
    with pytest.raises(InvalidLaunch, match="InvalidResourceReference") as error:
        launcher.create(replace(spec, region="westus2", zone=""))

    assert "mend network.azure.subnet of cluster profile 'mine' (mine.toml)" in error.value.hint
    assert server.left(**named(spec)) == []


def test_a_throttled_api_is_waited_for(
    server: Any, launcher: AzureLauncher, spec: NodeSpec
) -> None:
    for operation in ("virtualMachines.createOrUpdate", "virtualMachines.delete"):
        server.script.fail(operation, "TooManyRequests", times=2)

    launcher.create(spec)
    removed = sweep(launcher, named(spec))

    assert [one.name for one in removed] == [spec.name]


def test_authentication_stops_at_once(server: Any, launcher: AzureLauncher, spec: NodeSpec) -> None:
    server.script.fail("networkInterfaces.createOrUpdate", "ExpiredAuthenticationToken")

    with pytest.raises(AuthenticationFailed, match="ExpiredAuthenticationToken") as error:
        launcher.create(spec)
    assert "az login" in error.value.hint


def test_a_rule_that_lets_the_world_in_is_found(server: Any, launcher: AzureLauncher) -> None:
    wide = {
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "Tcp",
        "priority": 100,
        "sourceAddressPrefix": "*",
        "destinationPortRange": "8787",
    }
    before = openings(launcher.ingress_rules("eastus"))
    group = server.group.get("networkSecurityGroups", "nsg-eastus")
    group.properties["securityRules"] = [{"name": "wide", "properties": wide}]

    after = openings(launcher.ingress_rules("eastus"))

    assert before == ()
    assert [one.ports for one in after] == [(8787,)]
    assert "--nsg-name nsg-eastus --name wide" in after[0].rule.close
