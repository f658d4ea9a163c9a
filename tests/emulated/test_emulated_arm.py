"""The emulated Resource Manager, asked by azure-mgmt-compute and azure-mgmt-network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core import exceptions
from tests.emulators.arm import Arm
from tests.emulators.arm_resources import GROUP
from tests.emulators.every_cloud import AzureUser

errors: Any = exceptions  # its types leave open what an answer has

pytestmark = pytest.mark.trial
"""The launchers' own tests run on it every time; what is shown here is the emulator itself."""


@pytest.fixture
def user(arm: Arm) -> Iterator[AzureUser]:
    user = AzureUser(arm)
    yield user
    user.close()


def test_machine_runs_and_takes_its_disk_and_card_along(user: AzureUser, arm: Arm) -> None:
    user.launch("vm1", "#!/bin/sh\n")

    found = user.compute.virtual_machines.get(GROUP, "vm1", expand="instanceView")
    assert (found.priority, found.eviction_policy, found.tags) == (
        "Spot",
        "Delete",
        {"hw_run": "r1"},
    )
    assert found.os_profile.custom_data is None
    assert found.instance_view.statuses[-1].code == "PowerState/running"
    [machine] = arm.machines().values()
    assert (machine.user_data, machine.address[:4]) == ("#!/bin/sh\n", "127.")
    kinds = [name.split("/")[0] for name in arm.left(hw_run="r1")]
    assert kinds == ["disks", "networkInterfaces", "virtualMachines"]

    user.terminate("vm1")
    assert arm.left() == []
    user.terminate("vm1")  # what is gone already is no error
    assert arm.script.calls["virtualMachines.delete"] == 2


REFUSALS = [
    ("SkuNotAvailable", "ResourceExistsError", 409),
    ("ZonalAllocationFailed", "ResourceExistsError", 409),
    ("QuotaExceeded", "ResourceExistsError", 409),
    ("OperationNotAllowed", "ResourceExistsError", 409),
    ("AuthorizationFailed", "HttpResponseError", 403),
    ("ExpiredAuthenticationToken", "ClientAuthenticationError", 401),
]


def test_refusals_come_with_the_services_status_and_code(user: AzureUser, arm: Arm) -> None:
    card = user.card("card1")
    for code, error, status in REFUSALS:
        arm.script.fail("virtualMachines.createOrUpdate", code, where="eastus")
        with pytest.raises(getattr(errors, error)) as caught:
            user.create("vm1", user.request(card))
        assert (caught.value.error.code, caught.value.status_code) == (code, status)
    assert arm.left() == ["networkInterfaces/card1"]


def test_machine_whose_allocation_fails_stays_as_failed(user: AzureUser, arm: Arm) -> None:
    arm.script.fail("virtualMachines.createOrUpdate", "AllocationFailed", late=True)
    with pytest.raises(errors.HttpResponseError) as caught:
        user.launch("vm1", "")
    assert caught.value.error.code == "AllocationFailed"
    found = user.compute.virtual_machines.get(GROUP, "vm1")
    assert found.provisioning_state == "Failed"
    assert arm.machines() == {}
    user.terminate("vm1")
    assert arm.left() == []


def test_zone_is_told_from_its_region(user: AzureUser, arm: Arm) -> None:
    arm.script.fail("virtualMachines.createOrUpdate", "ZonalAllocationFailed", where="eastus-1")
    body = user.request(user.card("card1"))
    with pytest.raises(errors.ResourceExistsError):
        user.create("vm1", body | {"zones": ["1"]})
    user.create("vm1", body | {"zones": ["2"]})
    [machine] = arm.machines().values()
    assert (machine.region, machine.zone) == ("eastus", "eastus-2")


def test_throttled_call_is_tried_again_when_the_service_says(user: AzureUser, arm: Arm) -> None:
    arm.script.fail("virtualMachines.listAll", "TooManyRequests", retry_after_seconds=0)
    assert list(user.compute.virtual_machines.list_all()) == []
    assert arm.script.calls["virtualMachines.listAll"] == 2
    arm.script.fail("virtualMachines.listAll", "TooManyRequests", retry_after_seconds=7)
    with pytest.raises(errors.HttpResponseError) as caught:
        list(user.compute.virtual_machines.list_all(retry_total=0))
    assert caught.value.response.headers["retry-after"] == "7"


def test_what_is_in_use_cannot_be_deleted(user: AzureUser, arm: Arm) -> None:
    user.launch("vm1", "")
    cards, disks = user.network.network_interfaces, user.compute.disks
    [disk] = disks.list_by_resource_group(GROUP)
    for delete, name, code in (
        (cards.begin_delete, "vm1-card", "NicInUse"),
        (disks.begin_delete, disk.name, "OperationNotAllowed"),
    ):
        with pytest.raises(errors.HttpResponseError) as caught:
            delete(GROUP, name)
        assert caught.value.error.code == code
    with pytest.raises(errors.HttpResponseError, match="NicInUse"):
        user.create("vm2", user.request(user.network.network_interfaces.get(GROUP, "vm1-card").id))


def test_what_is_detached_stays_and_its_card_is_reserved_for_a_while(
    user: AzureUser, arm: Arm
) -> None:
    arm.group.release_seconds = 0.1
    body = user.request(user.card("card1"))
    for spec in (
        body["properties"]["storageProfile"]["osDisk"],
        body["properties"]["networkProfile"]["networkInterfaces"][0]["properties"],
    ):
        spec["deleteOption"] = "Detach"
    user.create("vm1", body)
    user.terminate("vm1")
    disk, card = arm.left(hw_run="r1")
    with pytest.raises(errors.HttpResponseError, match="NicReservedForAnotherVm"):
        user.network.network_interfaces.begin_delete(GROUP, card.split("/")[1])
    time.sleep(0.12)
    user.network.network_interfaces.begin_delete(GROUP, card.split("/")[1]).result()
    user.compute.disks.begin_delete(GROUP, disk.split("/")[1]).result()
    assert arm.left() == []


def test_public_address_follows_its_delete_option(user: AzureUser, arm: Arm) -> None:
    addresses = user.network.public_ip_addresses
    body = {"location": "eastus", "tags": {"hw_run": "r1"}, "properties": {}}
    address = addresses.begin_create_or_update(GROUP, "ip1", body).result()
    assert address.ip_address.startswith("203.0.113.")
    subnet = user.network.subnets.get(GROUP, "vnet-eastus", "default")
    public = {"id": address.id, "properties": {"deleteOption": "Delete"}}
    config = {"subnet": {"id": subnet.id}, "publicIPAddress": public}
    card = body | {"properties": {"ipConfigurations": [{"name": "main", "properties": config}]}}
    user.network.network_interfaces.begin_create_or_update(GROUP, "card1", card).result()
    with pytest.raises(errors.HttpResponseError, match="PublicIPAddressCannotBeDeleted"):
        addresses.begin_delete(GROUP, "ip1")
    user.network.network_interfaces.begin_delete(GROUP, "card1").result()
    assert arm.left() == []


def test_operation_takes_as_long_as_the_script_says(user: AzureUser, arm: Arm) -> None:
    arm.script.delay("virtualMachines.createOrUpdate", 0.15)
    body = user.request(user.card("card1"))
    started = time.monotonic()
    poller = user.compute.virtual_machines.begin_create_or_update(GROUP, "vm1", body)
    assert user.compute.virtual_machines.get(GROUP, "vm1").provisioning_state == "Creating"
    assert poller.result().provisioning_state == "Succeeded"
    assert 0.15 <= time.monotonic() - started < 2.5


def test_what_a_request_names_must_be_there(user: AzureUser, arm: Arm) -> None:
    card = user.card("card1")
    image = {"imageReference": {"id": "/subscriptions/x/images/none"}}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"hardwareProfile": {"vmSize": "Standard_None"}}, "InvalidParameter"),
        ({"storageProfile": image}, "ImageNotFound"),
    ]
    for more, code in wrong:
        with pytest.raises(errors.HttpResponseError, match=code):
            user.create("vm1", user.request(card, **more))
    with pytest.raises(errors.HttpResponseError, match="same region"):
        user.card("card2", location="westeurope")
    with pytest.raises(errors.ResourceNotFoundError, match="ResourceGroupNotFound"):
        user.compute.virtual_machines.get("other", "vm1")
    with pytest.raises(errors.ResourceNotFoundError, match="ResourceNotFound"):
        user.compute.virtual_machines.get(GROUP, "vm1")
    assert arm.left() == ["networkInterfaces/card1"]


def test_lists_come_in_pages(user: AzureUser, arm: Arm) -> None:
    arm.page_size = 1
    for name in ("vm1", "vm2"):
        user.launch(name, "")
    assert [vm.name for vm in user.compute.virtual_machines.list_all()] == ["vm1", "vm2"]
    assert arm.script.calls["virtualMachines.listAll"] == 2
    assert len(list(user.network.network_interfaces.list_all())) == 2


def test_security_groups_can_be_read(user: AzureUser, arm: Arm) -> None:
    subnet = user.network.subnets.get(GROUP, "vnet-eastus", "default")
    closed = subnet.network_security_group.id.rsplit("/", 1)[1]
    assert user.network.network_security_groups.get(GROUP, closed).security_rules == []
    rule = {"name": "open", "properties": {"access": "Allow", "destinationPortRange": "8786"}}
    arm.group.add("networkSecurityGroups", "nsg-open", "eastus", {"securityRules": [rule]})
    found = {group.name: group for group in user.network.network_security_groups.list_all()}
    assert found["nsg-open"].security_rules[0].destination_port_range == "8786"


def test_answer_may_be_lost_after_the_work_is_done(user: AzureUser, arm: Arm) -> None:
    arm.script.lose("virtualMachines.createOrUpdate")
    body = user.request(user.card("card1"))
    with pytest.raises(errors.ServiceResponseError):
        user.compute.virtual_machines.begin_create_or_update(GROUP, "vm1", body, retry_total=0)
    assert [machine.name for machine in arm.machines().values()] == ["vm1"]
