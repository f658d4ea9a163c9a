"""What Azure is asked for and what it answers, in the format of the wire. No SDK."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from headwater.infra.errors import InvalidLaunch
from headwater.infra.launchers.base import (
    LaunchSettings,
    Leftover,
    LeftoverKind,
    Node,
    NodeSpec,
    State,
)
from headwater.infra.launchers.calls import Blame
from headwater.infra.launchers.network import IngressRule, port_range
from headwater.infra.models import Cloud, Market

ADMIN = "headwater"
"""Name of the user that Azure insists on. Nobody has the key that it asks for."""

STATES = {
    "Creating": State.PENDING,
    "Updating": State.RUNNING,
    "Succeeded": State.RUNNING,
    "Deleting": State.STOPPING,
    "Failed": State.FAILED,
}

POWER = {
    "PowerState/stopped": State.STOPPED,
    "PowerState/deallocated": State.STOPPED,
    "PowerState/deallocating": State.STOPPING,
    "PowerState/stopping": State.STOPPING,
}

BLAMES = (
    Blame(("image", "galleries"), "image.azure"),
    Blame(("/subnets/", "subnet"), "network.azure.subnet"),
    Blame(("virtualnetworks",), "network.azure.virtual_network"),
    Blame(("networksecuritygroup",), "network.azure.security_group"),
    Blame(("userassignedidentities", "identity"), "identity.azure"),
    Blame(("resourcegroupnotfound", "resource group"), "network.azure.resource_group"),
    Blame(("subscription",), "network.azure.subscription"),
)

COMMANDS: dict[LeftoverKind, str] = {
    "instance": "az vm delete --yes --ids",
    "disk": "az disk delete --yes --ids",
    "network card": "az network nic delete --ids",
    "address": "az network public-ip delete --ids",
}


def card_name(spec: NodeSpec) -> str:
    """Name of the network card of a machine."""
    return f"{spec.name}-nic"


def card_body(spec: NodeSpec, settings: LaunchSettings, subscription: str) -> dict[str, Any]:
    """A network card: a private address in the profile's subnet, and no public one."""
    group = f"/subscriptions/{subscription}/resourceGroups/{settings.named('resource_group')}"
    network = f"{group}/providers/Microsoft.Network"
    subnet = settings.named("subnet")
    properties: dict[str, Any] = {
        "ipConfigurations": [
            {
                "name": "private",
                "properties": {
                    "subnet": {
                        "id": f"{network}/virtualNetworks/{settings.named('virtual_network')}"
                        f"/subnets/{subnet}"
                    },
                    "privateIPAllocationMethod": "Dynamic",
                },
            }
        ]
    }
    if security_group := settings.named("security_group"):
        properties["networkSecurityGroup"] = {
            "id": f"{network}/networkSecurityGroups/{security_group}"
        }
    return {"location": spec.region, "tags": dict(spec.tags), "properties": properties}


def machine_body(
    spec: NodeSpec, settings: LaunchSettings, subscription: str, *, ssh_key: str
) -> dict[str, Any]:
    """A virtual machine; its disk begins with its tags.

    Args:
        ssh_key: Public key of its one user.
    Raises:
        InvalidLaunch: No image is named.
    """
    group = f"/subscriptions/{subscription}/resourceGroups/{settings.named('resource_group')}"
    card = f"{group}/providers/Microsoft.Network/networkInterfaces/{card_name(spec)}"
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": spec.instance_type},
        "storageProfile": {
            "imageReference": _image(spec.image or settings.image, settings),
            "osDisk": {
                "name": f"{spec.name}-disk",
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "diskSizeGB": spec.disk_gib,
                # Azure encrypts every managed disk.
                "managedDisk": {"storageAccountType": "StandardSSD_LRS"},
            },
        },
        "osProfile": {
            "computerName": spec.name,
            "adminUsername": ADMIN,
            "customData": base64.b64encode(spec.user_data.encode()).decode(),
            "linuxConfiguration": {
                "disablePasswordAuthentication": True,
                "ssh": {
                    "publicKeys": [
                        {"path": f"/home/{ADMIN}/.ssh/authorized_keys", "keyData": ssh_key}
                    ]
                },
            },
        },
        "networkProfile": {
            "networkInterfaces": [
                {"id": card, "properties": {"primary": True, "deleteOption": "Delete"}}
            ]
        },
    }
    if spec.market is Market.SPOT:
        properties |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": -1},  # up to the price on demand
        }
    body: dict[str, Any] = {
        "location": spec.region,
        "tags": dict(spec.tags),
        "properties": properties,
    }
    if spec.zone:
        body["zones"] = [spec.zone.rpartition("-")[2]]
    if settings.identity:
        body["identity"] = {
            "type": "UserAssigned",
            "userAssignedIdentities": {_identity(settings, subscription): {}},
        }
    return body


def security_rules(one: Mapping[str, Any], group: str, name: str) -> Sequence[IngressRule]:
    """One rule of a network security group, by the names of the wire; none for what goes out."""
    said = one.get("properties", {})
    if said.get("direction") != "Inbound":
        return ()
    sources = said.get("sourceAddressPrefixes") or [said.get("sourceAddressPrefix", "")]
    spans = said.get("destinationPortRanges") or [said.get("destinationPortRange", "*")]
    return [
        IngressRule(
            name,
            f"rule {one['name']}",
            tuple(sources),
            str(said.get("protocol", "*")),
            tuple(port_range(span) for span in spans),
            int(said.get("priority", 0)),
            said.get("access") == "Allow",
            f"az network nsg rule delete --resource-group {group} --nsg-name {name}"
            f" --name {one['name']}",
        )
    ]


def removal_command(kind: LeftoverKind, id_: str) -> str:
    """The command of Azure's own tool that removes one thing.

    Example:
        >>> removal_command("disk", "/subscriptions/s/x/disks/d")
        'az disk delete --yes --ids /subscriptions/s/x/disks/d'
    """
    return f"{COMMANDS[kind]} {id_}"


def _image(name: str, settings: LaunchSettings) -> dict[str, str]:
    if not name:
        raise InvalidLaunch(
            "no image for Azure is named",
            hint=f"give a URN or an id in {settings.line('image.azure')}",
        )
    if name.lower().startswith("/communitygalleries/"):
        return {"communityGalleryImageId": name}
    if name.lower().startswith("/sharedgalleries/"):
        return {"sharedGalleryImageId": name}
    if name.startswith("/"):
        return {"id": name}
    parts = name.split(":")
    if len(parts) != 4:
        raise InvalidLaunch(
            f"'{name}' is no image of Azure",
            hint=f"write PUBLISHER:OFFER:SKU:VERSION or an id in {settings.line('image.azure')}",
        )
    return dict(zip(("publisher", "offer", "sku", "version"), parts, strict=True))


def _identity(settings: LaunchSettings, subscription: str) -> str:
    if settings.identity.startswith("/"):
        return settings.identity
    return (
        f"/subscriptions/{subscription}/resourceGroups/{settings.named('resource_group')}"
        f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{settings.identity}"
    )


def more_quota(region: str) -> str:
    """How to ask for a greater quota."""
    return (
        "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"
        f" (Compute, {region})"
    )


def node_of(one: Mapping[str, Any]) -> Node:
    """A machine, of the answer that describes it."""
    said = one.get("properties", {})
    state = STATES.get(str(said.get("provisioningState", "")), State.PENDING)
    statuses = said.get("instanceView", {}).get("statuses", ())
    if state is State.RUNNING:
        codes = (str(status.get("code", "")) for status in statuses)
        state = next((POWER[code] for code in codes if code in POWER), state)
    zones = one.get("zones") or [""]
    region = str(one["location"])
    return Node(
        str(one["id"]),
        str(one["name"]),
        Cloud.AZURE,
        region,
        f"{region}-{zones[0]}" if zones[0] else "",
        str(said.get("hardwareProfile", {}).get("vmSize", "")),
        Market.SPOT if said.get("priority") == "Spot" else Market.ON_DEMAND,
        "",
        state,
        tags_of(one),
        _time(said),
    )


def leftover_of(kind: LeftoverKind, one: Mapping[str, Any]) -> Leftover:
    """Something beside a machine, of the answer that describes it."""
    zones = one.get("zones") or [""]
    region, said = str(one["location"]), one.get("properties", {})
    return Leftover(
        kind,
        str(one["id"]),
        str(one["name"]),
        Cloud.AZURE,
        region,
        f"{region}-{zones[0]}" if zones[0] else "",
        tags_of(one),
        removal_command(kind, str(one["id"])),
        _time(said),
        size_gib=float(said.get("diskSizeGB") or 0),
    )


def tags_of(one: Mapping[str, Any]) -> dict[str, str]:
    """Its tags."""
    return dict(one.get("tags") or {})


def _time(said: Mapping[str, Any]) -> datetime | None:
    text = said.get("timeCreated")
    return datetime.fromisoformat(str(text)) if text else None


def holder_of(one: Mapping[str, Any], key: str) -> str:
    """Id of what holds ``one``, in small letters: Azure does not keep to one way."""
    return str((one.get("properties", {}).get(key) or {}).get("id", "")).lower()


def private_address(nic: Mapping[str, Any]) -> str:
    """The address that the card has in its subnet; empty until it has one."""
    configurations = nic.get("properties", {}).get("ipConfigurations") or [{}]
    return str(configurations[0].get("properties", {}).get("privateIPAddress", ""))


def group_of(id_: str) -> str:
    """The resource group in an id."""
    parts = id_.split("/")
    return parts[4]
