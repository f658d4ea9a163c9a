"""What an emulated resource group holds."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from tests.emulators.machines import Addresses
from tests.emulators.script import Refused, Timeline

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "headwater"
LOCATIONS = ("eastus", "westus2", "westeurope")
PROVIDERS = {"virtualMachines": "Compute", "disks": "Compute"}
"""All other kinds are of Microsoft.Network."""

Effect = Callable[[], None]


@dataclass(slots=True)
class Resource:
    """One thing with a name.

    Attributes:
        body: As the API shows it.
        secret: What was sent and is never shown: a machine's custom data.
        power: Of a virtual machine: starting, running, stopped, deallocated.
    """

    kind: str
    name: str
    body: dict[str, Any]
    secret: str = ""
    power: str = ""
    reserved: bool = field(default=False)

    @property
    def id(self) -> str:
        """As other resources name it."""
        return resource_id(self.kind, self.name)

    @property
    def properties(self) -> dict[str, Any]:
        """What the kind is about."""
        found: dict[str, Any] = self.body["properties"]
        return found

    def shown(self) -> dict[str, Any]:
        """A copy of the body."""
        return copy.deepcopy(self.body)


class Group:
    """One resource group.

    Attributes:
        release_seconds: How long a network interface stays reserved after its machine is gone.
    """

    def __init__(self, network: IPv4Network) -> None:
        self.name = GROUP
        self.timeline = Timeline()
        self.release_seconds = 0.0
        self.addresses: dict[str, Addresses] = {}
        self._resources: dict[tuple[str, str], Resource] = {}
        for location, subnet in zip(LOCATIONS, network.subnets(new_prefix=22), strict=False):
            self.addresses[location] = Addresses(subnet)
            closed = self.add(
                "networkSecurityGroups", f"nsg-{location}", location, {"securityRules": []}
            )
            vnet = f"vnet-{location}"
            default = {
                "id": f"{resource_id('virtualNetworks', vnet)}/subnets/default",
                "name": "default",
                "properties": {
                    "addressPrefix": str(subnet),
                    "networkSecurityGroup": {"id": closed.id},
                },
            }
            self.add("virtualNetworks", vnet, location, {"subnets": [default]})

    def add(
        self,
        kind: str,
        name: str,
        location: str,
        properties: Mapping[str, Any],
        *,
        tags: Mapping[str, str] | None = None,
        state: str = "Succeeded",
    ) -> Resource:
        """Put a resource there at once, such as a security group that a test needs."""
        provider = PROVIDERS.get(kind, "Network")
        body = {
            "id": resource_id(kind, name),
            "name": name,
            "type": f"Microsoft.{provider}/{kind}",
            "location": location,
            "tags": dict(tags or {}),
            "properties": {**copy.deepcopy(dict(properties)), "provisioningState": state},
        }
        self._resources[kind, name.lower()] = Resource(kind, name, body)
        return self._resources[kind, name.lower()]

    def all(self) -> list[Resource]:
        """Every resource."""
        return list(self._resources.values())

    def of(self, kind: str) -> list[Resource]:
        """Those of one kind, by name."""
        found = [item for item in self._resources.values() if item.kind == kind]
        return sorted(found, key=lambda item: item.name)

    def find(self, kind: str, name: str) -> Resource | None:
        """A resource, or None; names are compared without case."""
        return self._resources.get((kind, name.lower()))

    def get(self, kind: str, name: str) -> Resource:
        """A resource.

        Raises:
            Refused: It is not there.
        """
        found = self.find(kind, name)
        if found is None:
            raise Refused(
                404,
                "ResourceNotFound",
                f"The Resource '{resource_id(kind, name)}' under resource group '{self.name}' was"
                " not found.",
            )
        return found

    def linked(self, identity: str) -> Resource:
        """The resource that a body names.

        Raises:
            Refused: It is not there, as the API says it of what a body names.
        """
        parts = identity.split("/")
        found = self.find(parts[-2], parts[-1]) if len(parts) > 2 else None
        if found is None:
            raise Refused(400, "InvalidResourceReference", f"Resource {identity} was not found.")
        return found

    def drop(self, resource: Resource) -> None:
        """Take a resource away; one that is gone already stays gone."""
        self._resources.pop((resource.kind, resource.name.lower()), None)

    def put_disk(self, name: str, body: Mapping[str, Any]) -> tuple[Resource, Effect, Effect]:
        """A disk of its own."""
        disk = self.add(
            "disks", name, check_location(body), body.get("properties", {}), tags=body.get("tags")
        )
        disk.properties.setdefault("diskState", "Unattached")
        return disk, lambda: None, lambda: self.drop(disk)

    def delete_disk(self, disk: Resource) -> tuple[Effect, Effect]:
        """Of a disk that no machine has."""
        if disk.body.get("managedBy"):
            raise Refused(
                409,
                "OperationNotAllowed",
                f"Disk {disk.name} is attached to VM {disk.body['managedBy']}.",
            )
        return lambda: self.drop(disk), lambda: None


def resource_id(kind: str, name: str) -> str:
    """As the API names a resource."""
    provider = PROVIDERS.get(kind, "Network")
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    return f"{group}/providers/Microsoft.{provider}/{kind}/{name}"


def check_location(body: Mapping[str, Any]) -> str:
    """Where a resource is to lie.

    Raises:
        Refused: There is no such place.
    """
    location = str(body.get("location", ""))
    if location not in LOCATIONS:
        raise Refused(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available. List of available regions:"
            f" {', '.join(LOCATIONS)}.",
        )
    return location


def unique(prefix: str) -> str:
    """A name as the service makes one up."""
    return f"{prefix}_{uuid.uuid4().hex}"
