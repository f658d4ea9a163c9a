"""Virtual machines of an emulated resource group, with the disks and cards that hang on them."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from typing import Any

from tests.emulators.arm_network import Cards
from tests.emulators.arm_resources import (
    SUBSCRIPTION,
    Effect,
    Group,
    Resource,
    check_location,
    unique,
)
from tests.emulators.machines import Machine
from tests.emulators.script import Refused

SIZES = (
    "Standard_B2s",
    "Standard_D2s_v5",
    "Standard_D4s_v5",
    "Standard_D8s_v5",
    "Standard_E4s_v5",
    "Standard_E8s_v5",
    "Standard_F4s_v2",
    "Standard_F8s_v2",
    "Standard_F16s_v2",
    "Standard_NC4as_T4_v3",
    "Standard_NC8as_T4_v3",
    "Standard_NC16as_T4_v3",
    "Standard_NC64as_T4_v3",
    "Standard_NC24ads_A100_v4",
    "Standard_NC48ads_A100_v4",
    "Standard_NC96ads_A100_v4",
    "Standard_NC40ads_H100_v5",
    "Standard_NC80adis_H100_v5",
    "Standard_ND96asr_v4",
    "Standard_ND96isr_H100_v5",
)
IMAGE_GALLERY = "headwater"
"""Images whose address has this in it are there; so is what is named by its publisher."""


class VirtualMachines:
    """What the calls on virtual machines do."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._cards = Cards(group)

    def put(self, name: str, body: Mapping[str, Any]) -> tuple[Resource, Effect, Effect]:
        """Creating at once, running when the operation ends.

        One whose operation fails stays, as Failed, and so do its disk and its card: the service
        leaves it to the caller to delete them.
        """
        location = check_location(body)
        known = self._group.find("virtualMachines", name)
        if known is not None:
            if known.properties["provisioningState"] == "Deleting":
                raise Refused(409, "Conflict", f"The VM '{name}' is being deleted.")
            known.body["tags"] = dict(body.get("tags", {}))
            return known, lambda: None, lambda: None
        properties = copy.deepcopy(dict(body["properties"]))
        _check(properties)
        cards = self._free_cards(properties)
        vm = self._group.add(
            "virtualMachines", name, location, properties, tags=body.get("tags"), state="Creating"
        )
        vm.body |= {key: body[key] for key in ("zones", "identity") if key in body}
        vm.power = "starting"
        vm.properties["vmId"] = unique("vm")
        profile = vm.properties.get("osProfile", {})
        sent = profile.pop("customData", "") or vm.properties.get("userData", "")
        vm.secret = base64.b64decode(sent).decode()
        self._make_disks(vm)
        cards += self._make_cards(vm)
        for card in cards:
            card.properties["virtualMachine"] = {"id": vm.id}

        def finish() -> None:
            vm.properties["provisioningState"] = "Succeeded"
            vm.power = "running"

        def fail() -> None:
            vm.properties["provisioningState"] = "Failed"
            vm.power = "stopped"

        return vm, finish, fail

    def change(self, verb: str, vm: Resource) -> tuple[Effect, Effect]:
        """What ends a call on a machine that is there: delete, deallocate or start."""
        if verb == "delete":
            vm.properties["provisioningState"] = "Deleting"
            vm.power = "stopped"

            def undo() -> None:
                vm.properties["provisioningState"] = "Failed"

            return lambda: self._drop(vm), undo
        power = {"deallocate": "deallocated", "start": "running"}[verb]

        def switch() -> None:
            vm.power = power

        return switch, lambda: None

    def instance_view(self, vm: Resource) -> dict[str, Any]:
        """Its state, in the words of the API."""
        state = str(vm.properties["provisioningState"]).lower()
        return {
            "computerName": vm.name,
            "statuses": [
                {"code": f"ProvisioningState/{state}", "level": "Info"},
                {"code": f"PowerState/{vm.power}", "level": "Info"},
            ],
        }

    def machines(self) -> dict[str, Machine]:
        """Those that run."""
        return {
            str(vm.properties["vmId"]): self._machine(vm)
            for vm in self._group.of("virtualMachines")
            if vm.power == "running"
        }

    def powered_off(self, machine_id: str) -> None:
        """Stopped, and not deallocated: it goes on costing its full price."""
        for vm in self._found(machine_id):
            vm.power = "stopped"

    def reclaim(self, machine_id: str) -> None:
        """Gone or deallocated, as its eviction policy says."""
        for vm in self._found(machine_id):
            if vm.properties.get("evictionPolicy") == "Delete":
                self._drop(vm)
            else:
                vm.power = "deallocated"

    def _found(self, machine_id: str) -> list[Resource]:
        vms = self._group.of("virtualMachines")
        return [vm for vm in vms if vm.properties["vmId"] == machine_id]

    def _free_cards(self, properties: Mapping[str, Any]) -> list[Resource]:
        """The cards that a machine names, none of which another machine has."""
        named = properties.get("networkProfile", {}).get("networkInterfaces", [])
        cards = [self._group.linked(card["id"]) for card in named]
        for card in cards:
            if owner := card.properties.get("virtualMachine"):
                raise Refused(
                    400, "NicInUse", f"Network Interface {card.id} is used by existing {owner}."
                )
        return cards

    def _make_disks(self, vm: Resource) -> None:
        storage = vm.properties.setdefault("storageProfile", {})
        disks = [storage.setdefault("osDisk", {"createOption": "FromImage"})]
        disks += storage.setdefault("dataDisks", [])
        for number, spec in enumerate(disks, start=1):
            kind = "OsDisk" if number == 1 else "DataDisk"
            spec.setdefault("name", unique(f"{vm.name}_{kind}_{number}"))
            size = {"diskSizeGB": spec.get("diskSizeGB", 30), "diskState": "Attached"}
            # A disk that is made with its machine begins with the machine's tags.
            disk = self._group.add(
                "disks", spec["name"], vm.body["location"], size, tags=vm.body["tags"]
            )
            disk.body["managedBy"] = vm.id
            spec.setdefault("managedDisk", {})["id"] = disk.id

    def _make_cards(self, vm: Resource) -> list[Resource]:
        """Cards that the service makes, for a machine that describes them."""
        network = vm.properties.setdefault("networkProfile", {})
        made = []
        for config in network.pop("networkInterfaceConfigurations", []):
            card = self._cards.make(
                unique(config["name"]),
                vm.body["location"],
                config["properties"],
                config.get("tags", {}),
            )
            option = config["properties"].get("deleteOption", "Detach")
            network.setdefault("networkInterfaces", []).append(
                {"id": card.id, "properties": {"primary": not made, "deleteOption": option}}
            )
            made.append(card)
        return made

    def _drop(self, vm: Resource) -> None:
        """Take a machine away, with what is to go with it; the rest is free, later."""
        self._group.drop(vm)
        storage = vm.properties["storageProfile"]
        for spec in (storage["osDisk"], *storage["dataDisks"]):
            disk = self._group.linked(spec["managedDisk"]["id"])
            if spec.get("deleteOption") == "Delete":
                self._group.drop(disk)
            else:
                disk.body.pop("managedBy")
                disk.properties["diskState"] = "Unattached"
        for spec in vm.properties["networkProfile"].get("networkInterfaces", []):
            card = self._group.linked(spec["id"])
            card.properties.pop("virtualMachine")
            if spec.get("properties", {}).get("deleteOption") == "Delete":
                self._cards.drop(card)
            else:
                self._reserve(card)

    def _reserve(self, card: Resource) -> None:
        card.reserved = True

        def free() -> None:
            card.reserved = False

        self._group.timeline.after(self._group.release_seconds, free)

    def _machine(self, vm: Resource) -> Machine:
        cards = vm.properties["networkProfile"].get("networkInterfaces", [])
        address = ""
        if cards:
            config = self._group.linked(cards[0]["id"]).properties["ipConfigurations"][0]
            address = config["properties"]["privateIPAddress"]
        location = vm.body["location"]
        return Machine(
            cloud="azure",
            id=str(vm.properties["vmId"]),
            name=vm.name,
            address=address,
            region=location,
            zone=f"{location}-{vm.body['zones'][0]}" if vm.body.get("zones") else location,
            kind=vm.properties["hardwareProfile"]["vmSize"],
            user_data=vm.secret,
            spot=vm.properties.get("priority") == "Spot",
            account=SUBSCRIPTION,
            group=self._group.name,
            tags=dict(vm.body["tags"]),
            attributes={"resourceId": vm.id},
        )


def _check(properties: Mapping[str, Any]) -> None:
    size = properties.get("hardwareProfile", {}).get("vmSize", "")
    if size not in SIZES:
        raise Refused(
            400,
            "InvalidParameter",
            f"The value {size} provided for the VM size is not valid. The valid sizes are:"
            f" {', '.join(SIZES)}.",
        )
    image = properties.get("storageProfile", {}).get("imageReference", {}).get("id", "")
    if image and IMAGE_GALLERY not in image:
        raise Refused(404, "ImageNotFound", f"The Image '{image}' cannot be found.")
