"""Instances of an emulated Compute Engine, with the disks and addresses that hang on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.emulators.gce_resources import PROJECT, Change, Resource, Store
from tests.emulators.machines import Machine
from tests.emulators.script import Refused

USER_DATA = ("user-data", "startup-script")
"""Metadata keys that a machine runs at boot, the first that is there."""

PUBLIC = "203.0.113.9"
"""From a block for documentation: nobody's address."""


class Instances:
    """What the calls on instances do.

    Args:
        time_scale: Real seconds that stand for one of the cloud's in run-time limits.
    """

    def __init__(self, store: Store, time_scale: float) -> None:
        self._store = store
        self.time_scale = time_scale

    def insert(self, zone: str, body: Mapping[str, Any]) -> Change:
        """PROVISIONING at once, RUNNING when the operation ends, gone when it fails."""
        self._store.linked(str(body.get("machineType", "")), "machineTypes")
        region = zone.rsplit("-", 1)[0]
        for card in body.get("networkInterfaces", []):
            self._check_subnet(str(card.get("subnetwork", "")), region)
        for disk in body.get("disks", []):
            if image := disk.get("initializeParams", {}).get("sourceImage"):
                self._store.linked(image, "images")
        instance = self._store.add("instances", zone, {**body, "status": "PROVISIONING"})
        made: list[Resource] = []
        try:
            instance.body["disks"] = [
                self._attach(instance, disk, number, made)
                for number, disk in enumerate(body.get("disks", []))
            ]
        except Refused:
            for resource in (*made, instance):
                self._store.drop(resource)
            raise
        cards = [dict(card) for card in body.get("networkInterfaces", [])]
        for card in cards:
            card.setdefault("networkIP", self._store.addresses[region].take())
            for config in card.get("accessConfigs", []):
                config.setdefault("natIP", PUBLIC)
        instance.body["networkInterfaces"] = cards
        self._use_addresses(instance, in_use=True)

        def undo() -> None:
            self._let_go(instance)
            for resource in made:
                self._store.drop(resource)

        return Change(instance, lambda: self._run(instance), undo)

    def delete(self, instance: Resource) -> Change:
        """STOPPING at once, gone when the operation ends."""
        if instance.body.get("deletionProtection"):
            raise Refused(400, "resourceNotReady", f"{instance.name} is protected from deletion")
        before = instance.body["status"]
        instance.body["status"] = "STOPPING"
        return Change(
            instance,
            lambda: self._let_go(instance),
            lambda: instance.body.update(status=before),
        )

    def stop(self, instance: Resource) -> Change:
        """STOPPING at once, TERMINATED when the operation ends."""
        instance.body["status"] = "STOPPING"
        return Change(
            instance, lambda: instance.body.update(status="TERMINATED"), lambda: self._run(instance)
        )

    def powered_off(self, machine_id: str) -> None:
        """TERMINATED: stopped, with a disk that is paid for."""
        instance = self._find(machine_id)
        if instance is not None:
            instance.body["status"] = "TERMINATED"

    def reclaim(self, machine_id: str) -> None:
        """Gone or stopped, as the termination action says."""
        instance = self._find(machine_id)
        if instance is not None:
            self._end(instance)

    def machines(self) -> dict[str, Machine]:
        """Those that run."""
        return {
            machine_id(instance): _machine(instance)
            for instance in self._store.of("instances")
            if instance.body["status"] == "RUNNING"
        }

    def _find(self, wanted: str) -> Resource | None:
        found = (item for item in self._store.of("instances") if machine_id(item) == wanted)
        return next(found, None)

    def _check_subnet(self, link: str, region: str) -> None:
        if not link:
            return
        subnet = self._store.linked(link, "subnetworks")
        if subnet.place != region:
            raise Refused(
                400,
                "invalid",
                f"Invalid value for field 'resource.networkInterfaces[0].subnetwork': '{link}'."
                " The specified subnetwork must be in the same region as the instance.",
            )

    def _attach(
        self, instance: Resource, disk: Mapping[str, Any], number: int, made: list[Resource]
    ) -> dict[str, Any]:
        attached = {key: value for key, value in disk.items() if key != "initializeParams"}
        params = disk.get("initializeParams")
        if params is None:
            found = self._store.linked(str(disk["source"]), "disks")
            if found.body.get("users"):
                raise Refused(
                    400,
                    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
                    f"The disk resource '{found.link}' is already being used by"
                    f" '{found.body['users'][0]}'",
                )
        else:
            default = instance.name if disk.get("boot") else f"{instance.name}-{number}"
            body = {
                "name": params.get("diskName") or default,
                "sizeGb": str(params.get("diskSizeGb", 10)),
                "type": params.get("diskType", "pd-balanced"),
                "labels": dict(params.get("labels", {})),
                "status": "READY",
            }
            found = self._store.add("disks", instance.place, body)
            made.append(found)
        found.body["users"] = [instance.link]
        return {**attached, "source": found.link, "autoDelete": bool(disk.get("autoDelete"))}

    def _run(self, instance: Resource) -> None:
        instance.body["status"] = "RUNNING"
        limit = instance.body.get("scheduling", {}).get("maxRunDuration", {}).get("seconds")
        if limit is None:
            return

        def end() -> None:
            if self._store.of("instances").count(instance) and instance.body["status"] == "RUNNING":
                self._end(instance)

        self._store.timeline.after(float(limit) * self.time_scale, end)

    def _end(self, instance: Resource) -> None:
        action = instance.body.get("scheduling", {}).get("instanceTerminationAction", "STOP")
        if action == "DELETE":
            self._let_go(instance)
        else:
            instance.body["status"] = "TERMINATED"

    def _let_go(self, instance: Resource) -> None:
        """Take an instance away, with the disks that go with it; the others are free later."""
        self._store.drop(instance)
        region = instance.place.rsplit("-", 1)[0]
        for card in instance.body.get("networkInterfaces", []):
            self._store.addresses[region].give(card["networkIP"])
        self._use_addresses(instance, in_use=False)
        for attached in instance.body.get("disks", []):
            disk = self._store.linked(attached["source"], "disks")
            if attached["autoDelete"]:
                self._store.drop(disk)
            else:
                self._store.timeline.after(self._store.release_seconds, disk.body["users"].clear)

    def _use_addresses(self, instance: Resource, *, in_use: bool) -> None:
        used = set(_addresses(instance.body))
        for address in self._store.of("addresses"):
            if address.body.get("address") in used:
                address.body["users"] = [instance.link] if in_use else []
                address.body["status"] = "IN_USE" if in_use else "RESERVED"


def machine_id(instance: Resource) -> str:
    """By which the hypervisor knows it: an instance that has its name again is another one."""
    return f"{instance.place}/{instance.name}/{instance.body['id']}"


def _addresses(body: Mapping[str, Any]) -> Iterator[str]:
    for card in body.get("networkInterfaces", []):
        yield str(card["networkIP"])
        yield from (str(config["natIP"]) for config in card.get("accessConfigs", []))


def _machine(instance: Resource) -> Machine:
    body = instance.body
    items = {item["key"]: item["value"] for item in body.get("metadata", {}).get("items", [])}
    user_data = next((items[key] for key in USER_DATA if key in items), "")
    cards = body.get("networkInterfaces", [])
    return Machine(
        cloud="gcp",
        id=machine_id(instance),
        name=instance.name,
        address=cards[0]["networkIP"] if cards else "",
        region=instance.place.rsplit("-", 1)[0],
        zone=instance.place,
        kind=str(body["machineType"]).rsplit("/", 1)[-1],
        user_data=user_data,
        spot=body.get("scheduling", {}).get("provisioningModel") == "SPOT",
        account=PROJECT,
        tags=dict(body.get("labels", {})),
        attributes=items,
    )
