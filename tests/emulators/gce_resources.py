"""What an emulated Compute Engine holds: resources by place and name, and their operations."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network
from itertools import pairwise
from typing import Any

from tests.emulators.gce_filter import compile_filter
from tests.emulators.machines import Addresses
from tests.emulators.script import Refused, Timeline

PROJECT = "emulated"
ZONES = ("us-central1-a", "us-central1-b", "us-central1-c", "europe-west4-a", "europe-west4-b")
REGIONS = ("us-central1", "europe-west4")
MACHINE_TYPES = {
    "e2-small": (2, 2, ""),
    **{
        f"{family}-standard-{cores}": (cores, 4 * cores, "")
        for family in ("e2", "n1", "n2")
        for cores in (2, 4, 8, 16)
    },
    **{
        f"g2-standard-{cores}": (cores, 4 * cores, f"nvidia-l4:{gpus}")
        for cores, gpus in ((4, 1), (8, 1), (12, 1), (16, 1), (24, 2), (32, 1), (48, 4), (96, 8))
    },
    **{
        f"{family}-{gpus}g": (cores * gpus, memory_gib * gpus, f"{gpu}:{gpus}")
        for family, cores, memory_gib, gpu in (
            ("a2-highgpu", 12, 85, "nvidia-tesla-a100"),
            ("a2-ultragpu", 12, 170, "nvidia-a100-80gb"),
            ("a3-highgpu", 26, 234, "nvidia-h100-80gb"),
            ("a3-megagpu", 26, 234, "nvidia-h100-mega-80gb"),
        )
        for gpus in (1, 2, 4, 8)
    },
}
"""vCPUs, GiB of memory, and the GPUs that come with it."""

ZONAL = ("instances", "disks", "machineTypes")
ROOT = f"/compute/v1/projects/{PROJECT}"


@dataclass(slots=True)
class Resource:
    """One thing with a name in a place: a zone, a region, or ``""`` for the whole project."""

    collection: str
    place: str
    name: str
    body: dict[str, Any]

    @property
    def link(self) -> str:
        """Its address without the host."""
        if not self.place:
            return f"{ROOT}/global/{self.collection}/{self.name}"
        level = "zones" if self.place in ZONES else "regions"
        return f"{ROOT}/{level}/{self.place}/{self.collection}/{self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """What has begun when an operation is accepted.

    Attributes:
        finish: Done when the operation succeeds.
        undo: Done when it fails.
    """

    target: Resource
    finish: Callable[[], object]
    undo: Callable[[], object]


class Store:
    """All resources of one project.

    Attributes:
        release_seconds: How long a disk stays in use after its instance is gone.
    """

    def __init__(self, network: IPv4Network) -> None:
        self.timeline = Timeline()
        self.release_seconds = 0.0
        self.addresses: dict[str, Addresses] = {}
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self._operations: dict[tuple[str, str], dict[str, Any]] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self.add("networks", "", {"name": "default"})
        for region, subnet in zip(REGIONS, network.subnets(new_prefix=22), strict=False):
            self.addresses[region] = Addresses(subnet)
            self.add(
                "subnetworks",
                region,
                {"name": "default", "ipCidrRange": str(subnet), "network": _global("networks")},
            )
        for zone in ZONES:
            for name, size in MACHINE_TYPES.items():
                self.add("machineTypes", zone, _machine_type(name, *size))
        self.add("images", "", {"name": "headwater-gpu-1", "family": "headwater-gpu"})

    def add(self, collection: str, place: str, body: Mapping[str, Any]) -> Resource:
        """Put a resource there at once, such as a firewall rule that a test needs."""
        resource = Resource(collection, place, str(body["name"]), dict(body))
        key = (collection, place, resource.name)
        if key in self._resources:
            raise Refused(409, "alreadyExists", f"The resource '{resource.link}' already exists")
        resource.body |= {
            "id": str(uuid.uuid4().int >> 66),
            "selfLink": resource.link,
            "creationTimestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if place:
            level = "zones" if place in ZONES else "regions"
            resource.body[level[:-1]] = f"{ROOT}/{level}/{place}"
        if collection in ("instances", "disks", "addresses"):
            resource.body["labelFingerprint"] = _fingerprint(resource.body)
        self._resources[key] = resource
        return resource

    def all(self) -> list[Resource]:
        """Every resource."""
        return list(self._resources.values())

    def of(self, collection: str, place: str | None = None) -> list[Resource]:
        """Those of one kind, by name, in one place or in all."""
        found = [item for item in self._resources.values() if item.collection == collection]
        found = [item for item in found if place is None or item.place == place]
        return sorted(found, key=lambda item: (item.place, item.name))

    def get(self, collection: str, place: str, name: str) -> Resource:
        """One resource.

        Raises:
            Refused: It is not there.
        """
        found = self._resources.get((collection, place, name))
        if found is None:
            link = Resource(collection, place, name, {}).link.removeprefix("/compute/v1/")
            raise Refused(404, "notFound", f"The resource '{link}' was not found")
        return found

    def drop(self, resource: Resource) -> None:
        """Take a resource away; one that is gone already stays gone."""
        self._resources.pop((resource.collection, resource.place, resource.name), None)

    def image_of_family(self, family: str) -> dict[str, Any]:
        """The newest image of a family."""
        for image in self.of("images"):
            if image.body.get("family") == family:
                return image.body
        raise Refused(404, "notFound", f"The resource 'images/family/{family}' was not found")

    def linked(self, link: str, collection: str) -> Resource:
        """The resource that a body names by its whole or partial address.

        Raises:
            Refused: There is none, as the API says it of a field in a body.
        """
        parts = link.split("/")
        if parts[-3:-1] == ["images", "family"]:
            return self.get("images", "", str(self.image_of_family(parts[-1])["name"]))
        place = next((there for level, there in pairwise(parts) if level in _LEVELS), "")
        found = self._resources.get((collection, place, parts[-1]))
        if found is None:
            raise Refused(
                404 if collection == "images" else 400,
                "notFound" if collection == "images" else "invalid",
                f"Invalid value for field 'resource.{collection}': '{link}'."
                " The referenced resource cannot be found.",
            )
        return found

    def insert(self, collection: str, place: str, body: Mapping[str, Any]) -> Change:
        """A disk or an address of its own."""
        resource = self.add(collection, place, {"status": "CREATING", **body})
        if collection == "addresses" and "address" not in body:
            resource.body["address"] = self.addresses[place].take()
        ready = {"status": "RESERVED" if collection == "addresses" else "READY"}
        return Change(resource, lambda: resource.body.update(ready), lambda: self.drop(resource))

    def delete(self, resource: Resource) -> Change:
        """Of a disk or an address that nothing uses."""
        if resource.body.get("users"):
            raise Refused(
                400,
                "resourceInUseByAnotherResource",
                f"The {resource.collection[:-1]} resource '{resource.link}' is already being used"
                f" by '{resource.body['users'][0]}'",
            )
        return Change(resource, lambda: self.drop(resource), lambda: None)

    def set_labels(self, resource: Resource, body: Mapping[str, Any]) -> Change:
        """New labels, where the fingerprint of the old ones is right."""
        if body.get("labelFingerprint") != resource.body["labelFingerprint"]:
            raise Refused(412, "conditionNotMet", "Labels fingerprint either invalid or outdated")

        def change() -> None:
            resource.body["labels"] = dict(body.get("labels", {}))
            resource.body["labelFingerprint"] = _fingerprint(resource.body)

        return Change(resource, change, lambda: None)

    def start(
        self, verb: str, change: Change, seconds: float, late: Refused | None, *, request_id: str
    ) -> dict[str, Any]:
        """An operation that ends in ``seconds``, with ``late`` where that is an error."""
        name = f"operation-{uuid.uuid4().hex}"
        place = change.target.place
        level = "zones" if place in ZONES else "regions"
        operation: dict[str, Any] = {
            "kind": "compute#operation",
            "id": str(uuid.uuid4().int >> 66),
            "name": name,
            "operationType": verb,
            "status": "RUNNING",
            "progress": 0,
            level[:-1]: f"{ROOT}/{level}/{place}",
            "targetLink": change.target.link,
            "selfLink": f"{ROOT}/{level}/{place}/operations/{name}",
            "clientOperationId": request_id,
        }
        self._operations[place, name] = operation
        if request_id:
            self._requests[request_id] = operation

        def end() -> None:
            operation.update(status="DONE", progress=100)
            if late is None:
                change.finish()
                return
            change.undo()
            operation.update(
                error={"errors": [{"code": late.code, "message": late.message}]},
                httpErrorStatusCode=late.status,
                httpErrorMessage=late.code.replace("_", " "),
            )

        self.timeline.after(seconds, end)
        return operation

    def repeated(self, request_id: str) -> dict[str, Any] | None:
        """The operation that an earlier request with this id has started."""
        return self._requests.get(request_id)

    def operation(self, place: str, name: str) -> dict[str, Any]:
        """An operation, as it stands."""
        found = self._operations.get((place, name))
        if found is None:
            raise Refused(404, "notFound", f"The resource 'operations/{name}' was not found")
        return found

    def page(
        self, collection: str, place: str, query: Mapping[str, str], *, aggregated: bool, size: int
    ) -> dict[str, Any]:
        """What a list call answers, one page of it."""
        try:
            matches = compile_filter(query.get("filter", ""))
        except ValueError as error:
            raise Refused(400, "invalid", str(error)) from error
        found = self.of(collection, None if aggregated else place)
        passing = [item for item in found if matches(item.body)]
        first = int(query.get("pageToken") or 0)
        last = first + min(size, int(query.get("maxResults") or size))
        answer: dict[str, Any] = {"kind": f"compute#{collection}"}
        if last < len(passing):
            answer["nextPageToken"] = str(last)
        shown = passing[first:last]
        answer["items"] = (
            dict(_scopes(collection, shown)) if aggregated else [item.body for item in shown]
        )
        return answer


_LEVELS = ("zones", "regions")


def _scopes(collection: str, shown: list[Resource]) -> Iterator[tuple[str, dict[str, Any]]]:
    """By zone or region; where there is nothing, the API says so."""
    zonal = collection in ZONAL
    for place in ZONES if zonal else REGIONS:
        items = [item.body for item in shown if item.place == place]
        empty = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results"}}
        yield f"{'zones' if zonal else 'regions'}/{place}", {collection: items} if items else empty


def _machine_type(name: str, cores: int, memory_gib: int, gpus: str) -> dict[str, Any]:
    body: dict[str, Any] = {"name": name, "guestCpus": cores, "memoryMb": memory_gib * 1024}
    if gpus:
        kind, count = gpus.split(":")
        accelerator = {"guestAcceleratorType": kind, "guestAcceleratorCount": int(count)}
        body["accelerators"] = [accelerator]
    return body


def _global(collection: str) -> str:
    return f"{ROOT}/global/{collection}/default"


def _fingerprint(body: Mapping[str, Any]) -> str:
    labels = json.dumps(body.get("labels", {}), sort_keys=True)
    return base64.b64encode(hashlib.sha256(labels.encode()).digest()[:8]).decode()
