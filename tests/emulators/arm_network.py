"""Network interfaces and public addresses of an emulated resource group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.emulators.arm_resources import Effect, Group, Resource, check_location
from tests.emulators.script import Refused


class Cards:
    """What the calls on network interfaces do."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def put(self, name: str, body: Mapping[str, Any]) -> tuple[Resource, Effect, Effect]:
        """An interface with an address of its subnet; of one that is there, the tags change."""
        location = check_location(body)
        known = self._group.find("networkInterfaces", name)
        if known is not None:
            known.body["tags"] = dict(body.get("tags", {}))
            return known, lambda: None, lambda: None
        card = self.make(name, location, body["properties"], body.get("tags", {}))
        return card, lambda: None, lambda: self.drop(card)

    def make(
        self, name: str, location: str, properties: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Resource:
        """An interface, at once."""
        for config in properties.get("ipConfigurations", []):
            self._check_subnet(config["properties"]["subnet"]["id"], location)
            if public := config["properties"].get("publicIPAddress"):
                self._group.linked(public["id"])
        card = self._group.add("networkInterfaces", name, location, properties, tags=tags)
        for config in card.properties["ipConfigurations"]:
            address = self._group.addresses[location].take()
            config["id"] = f"{card.id}/ipConfigurations/{config['name']}"
            config["properties"]["privateIPAddress"] = address
            if public := config["properties"].get("publicIPAddress"):
                used = self._group.linked(public["id"])
                used.properties["ipConfiguration"] = {"id": config["id"]}
        return card

    def delete(self, card: Resource) -> tuple[Effect, Effect]:
        """Of an interface that no machine has or had just now."""
        if machine := card.properties.get("virtualMachine"):
            raise Refused(
                400, "NicInUse", f"Network Interface {card.id} is used by existing {machine['id']}."
            )
        if card.reserved:
            raise Refused(
                400,
                "NicReservedForAnotherVm",
                f"Nic(s) in request is reserved for another Virtual Machine for"
                f" {self._group.release_seconds} seconds: {card.id}.",
            )
        return lambda: self.drop(card), lambda: None

    def drop(self, card: Resource) -> None:
        """Take an interface away, and the public addresses that go with it."""
        self._group.drop(card)
        for config in card.properties["ipConfigurations"]:
            location = card.body["location"]
            self._group.addresses[location].give(config["properties"]["privateIPAddress"])
            if public := config["properties"].get("publicIPAddress"):
                address = self._group.linked(public["id"])
                del address.properties["ipConfiguration"]
                if public.get("properties", {}).get("deleteOption") == "Delete":
                    self._group.drop(address)

    def _check_subnet(self, identity: str, location: str) -> None:
        vnet_id, _, name = identity.partition("/subnets/")
        vnet = self._group.linked(vnet_id)
        if vnet.body["location"] != location or name not in (
            subnet["name"] for subnet in vnet.properties["subnets"]
        ):
            raise Refused(
                400,
                "InvalidResourceReference",
                f"Resource {identity} referenced by a resource in {location} was not found. Please"
                " make sure that both are in the same region.",
            )


class PublicAddresses:
    """What the calls on public addresses do; each is from a block for documentation."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def put(self, name: str, body: Mapping[str, Any]) -> tuple[Resource, Effect, Effect]:
        """An address that nobody else has."""
        number = len(self._group.of("publicIPAddresses")) + 1
        address = self._group.add(
            "publicIPAddresses",
            name,
            check_location(body),
            {"ipAddress": f"203.0.113.{number}", **body.get("properties", {})},
            tags=body.get("tags"),
        )
        return address, lambda: None, lambda: self._group.drop(address)

    def delete(self, address: Resource) -> tuple[Effect, Effect]:
        """Of an address that no interface has."""
        if used := address.properties.get("ipConfiguration"):
            raise Refused(
                400,
                "PublicIPAddressCannotBeDeleted",
                f"Public IP address {address.id} can not be deleted since it is still allocated to"
                f" resource {used['id']}.",
            )
        return lambda: self._group.drop(address), lambda: None
