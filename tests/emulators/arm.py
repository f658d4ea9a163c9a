"""Azure's Resource Manager on loopback, for azure-mgmt-compute and azure-mgmt-network.

It keeps what a launcher touches: virtual machines, disks, network interfaces and addresses, and
to read security groups, networks and subnets. Changes are asynchronous, with the headers that the
SDK polls by, take as long as the test's script says, and may fail after they were accepted.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from tests.emulators.arm_machines import VirtualMachines
from tests.emulators.arm_network import Cards, PublicAddresses
from tests.emulators.arm_resources import SUBSCRIPTION, Group, Resource
from tests.emulators.http_service import LOST, Reply, Request, serve
from tests.emulators.machines import Machine
from tests.emulators.script import Refused, Script

OPERATIONS = frozenset(
    f"{kind}.{verb}"
    for kind, verbs in {
        "virtualMachines": "createOrUpdate get list listAll delete instanceView deallocate start",
        "disks": "createOrUpdate get listByResourceGroup list delete",
        "networkInterfaces": "createOrUpdate get list listAll delete",
        "publicIPAddresses": "createOrUpdate get list listAll delete",
        "networkSecurityGroups": "get list listAll",
        "virtualNetworks": "get list listAll",
        "subnets": "get list",
        "operations": "get",
    }.items()
    for verb in verbs.split()
)

STATUSES = {
    "AllocationFailed": 409,
    "AuthenticationFailed": 401,
    "AuthorizationFailed": 403,
    "Conflict": 409,
    "ExpiredAuthenticationToken": 401,
    "ImageNotFound": 404,
    "InternalServerError": 500,
    "InvalidAuthenticationToken": 401,
    "InvalidParameter": 400,
    "LinkedAuthorizationFailed": 403,
    "NicInUse": 400,
    "OperationNotAllowed": 409,
    "OverconstrainedAllocationRequest": 409,
    "OverconstrainedZonalAllocationRequest": 409,
    "QuotaExceeded": 409,
    "ResourceGroupNotFound": 404,
    "ResourceNotFound": 404,
    "ServiceUnavailable": 503,
    "SkuNotAvailable": 409,
    "TooManyRequests": 429,
    "ZonalAllocationFailed": 409,
}
"""HTTP status of each code."""

_PATH = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?"
    r"/providers/Microsoft\.(?P<provider>\w+)/(?P<kind>\w+)(?:/(?P<name>[^/]+)"
    r"(?:/(?P<verb>\w+)(?:/(?P<child>[^/]+))?)?)?",
    re.IGNORECASE,
)

_SUCCEEDED = {"status": "Succeeded"}


@dataclass
class Arm:
    """A running service.

    Attributes:
        url: Its endpoint, as ``base_url`` takes it.
        script: What goes wrong, and what was asked.
        group: The one resource group there is, and all that lies in it.
    """

    group: Group
    vms: VirtualMachines
    script: Script = field(default_factory=lambda: Script(OPERATIONS))
    url: str = ""
    page_size: int = 500
    _operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def machines(self) -> dict[str, Machine]:
        """The virtual machines that are switched on."""
        with self._lock:
            self.group.timeline.settle()
            return self.vms.machines()

    def powered_off(self, machine_id: str) -> None:
        """A machine that switches itself off is stopped, and goes on costing its full price."""
        with self._lock:
            self.vms.powered_off(machine_id)

    def reclaim(self, machine_id: str) -> None:
        """Do with a spot machine what its eviction policy says."""
        with self._lock:
            self.vms.reclaim(machine_id)

    def left(self, **tags: str) -> list[str]:
        """All that costs money and carries ``tags``: ``disks/vm1_OsDisk``."""
        with self._lock:
            self.group.timeline.settle()
            return sorted(
                f"{resource.kind}/{resource.name}"
                for resource in self.group.all()
                if resource.kind in _CREATED and tags.items() <= resource.body["tags"].items()
            )

    def handle(self, request: Request) -> Reply:
        """Answer a call, or say as the API does why not."""
        try:
            with self._lock:
                return self._route(request)
        except Refused as refused:
            headers = {}
            if refused.retry_after_seconds is not None:
                headers["retry-after"] = str(refused.retry_after_seconds)
            error = {"code": refused.code, "message": refused.message}
            return Reply(refused.status, {"error": error}, headers)

    def _route(self, request: Request) -> Reply:
        self.group.timeline.settle()
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise Refused(404, "InvalidResourceType", f"no such path: {request.path}")
        operation = _operation(request.method, found)
        if operation not in OPERATIONS:
            raise Refused(501, "NotImplemented", f"not emulated: {operation} ({request.path})")
        kind, verb = operation.split(".")
        body = request.json()
        where = self._where(kind, found["name"] or "", body)
        fault = self.script.enter(operation, where, body)
        if fault is not None and fault.is_refused:
            raise fault.refusal(STATUSES, 409)
        if kind == "operations":
            return Reply(body=self._operations.get(found["child"], {"status": "Canceled"}))
        self._check_scope(found)
        if verb in ("get", "list", "listAll", "listByResourceGroup", "instanceView"):
            reply = Reply(body=self._read(kind, verb, found, request))
        else:
            late = fault.refusal(STATUSES, 409) if fault and fault.late else None
            reply = self._change(kind, verb, found["name"], body, where, late)
        return Reply(LOST) if fault is not None and fault.is_lost else reply

    def _read(self, kind: str, verb: str, found: re.Match[str], request: Request) -> dict[str, Any]:
        if kind == "subnets":
            subnets = self.group.get("virtualNetworks", found["name"]).body["properties"]["subnets"]
            for subnet in subnets:
                if subnet["name"] == found["child"]:
                    return dict(subnet)
            if verb == "list":
                return {"value": subnets}
            raise Refused(404, "NotFound", f"Resource {request.path} not found.")
        if verb == "instanceView":
            return self.vms.instance_view(self.group.get(kind, found["name"]))
        if verb == "get":
            resource = self.group.get(kind, found["name"])
            answer = resource.shown()
            if kind == "virtualMachines" and request.query.get("$expand") == "instanceView":
                answer["properties"]["instanceView"] = self.vms.instance_view(resource)
            return answer
        first = int(request.query.get("$skiptoken") or 0)
        items = self.group.of(kind)
        answer: dict[str, Any] = {
            "value": [item.shown() for item in items[first : first + self.page_size]]
        }
        if first + self.page_size < len(items):
            path = request.target.split("&$skiptoken")[0].split("&%24skiptoken")[0]
            answer["nextLink"] = f"{self.url}{path}&$skiptoken={first + self.page_size}"
        return answer

    def _change(
        self,
        kind: str,
        verb: str,
        name: str,
        body: dict[str, Any],
        where: str,
        late: Refused | None,
    ) -> Reply:
        known = self.group.find(kind, name)
        if verb == "createOrUpdate":
            status = 201 if known is None else 200
            resource, finish, fail = self._makers[kind](name, body)
        elif known is None:
            if verb == "delete":
                return Reply(204)
            raise Refused(404, "ResourceNotFound", f"The Resource '{kind}/{name}' was not found.")
        else:
            status = 202
            resource = known
            finish, fail = self._ends(verb, known)
        headers = self._start(f"{kind}.{verb}", where, finish, fail, late)
        return Reply(status, "" if status == 202 else resource.shown(), headers)

    @property
    def _makers(self) -> Mapping[str, Callable[[str, dict[str, Any]], Started]]:
        return {
            "virtualMachines": self.vms.put,
            "disks": self.group.put_disk,
            "networkInterfaces": Cards(self.group).put,
            "publicIPAddresses": PublicAddresses(self.group).put,
        }

    def _ends(self, verb: str, resource: Resource) -> tuple[Effect, Effect]:
        if resource.kind == "virtualMachines":
            return self.vms.change(verb, resource)
        if resource.kind == "networkInterfaces":
            return Cards(self.group).delete(resource)
        if resource.kind == "publicIPAddresses":
            return PublicAddresses(self.group).delete(resource)
        return self.group.delete_disk(resource)

    def _start(
        self, operation: str, where: str, finish: Effect, fail: Effect, late: Refused | None
    ) -> dict[str, str]:
        """Begin what ends later; return the headers by which its end is asked for."""
        number = str(uuid.uuid4())
        state: dict[str, Any] = {"name": number, "status": "InProgress"}
        self._operations[number] = state

        def end() -> None:
            if late is None:
                finish()
                state.update(_SUCCEEDED)
            else:
                fail()
                state.update(status="Failed", error={"code": late.code, "message": late.message})

        self.group.timeline.after(self.script.seconds(operation, where), end)
        location = where.split("-")[0] or "eastus"
        url = f"{self.url}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations"
        url += f"/{location}/operations/{number}?api-version=2026-04-01"
        return {"azure-asyncoperation": url, "location": url}

    def _where(self, kind: str, name: str, body: Mapping[str, Any]) -> str:
        known = self.group.find(kind, name)
        source = body if "location" in body else known.body if known else {}
        zones = source.get("zones") or []
        location = str(source.get("location", ""))
        return f"{location}-{zones[0]}" if zones else location

    def _check_scope(self, found: re.Match[str]) -> None:
        if found["subscription"] != SUBSCRIPTION:
            raise Refused(
                404,
                "SubscriptionNotFound",
                f"The subscription '{found['subscription']}' could not be found.",
            )
        if found["group"] is not None and found["group"].lower() != self.group.name:
            raise Refused(
                404,
                "ResourceGroupNotFound",
                f"Resource group '{found['group']}' could not be found.",
            )


Effect = Callable[[], None]
Started = tuple[Resource, Effect, Effect]

_CREATED = ("virtualMachines", "disks", "networkInterfaces", "publicIPAddresses")
_KINDS = {operation.split(".")[0].lower(): operation.split(".")[0] for operation in OPERATIONS}


@contextmanager
def arm(network: IPv4Network) -> Iterator[Arm]:
    """A service for as long as the body runs.

    Args:
        network: A /16 of loopback; its machines get their addresses from it.
    """
    group = Group(network)
    cloud = Arm(group, VirtualMachines(group))
    with serve(cloud.handle) as cloud.url:
        yield cloud


def _operation(method: str, found: re.Match[str]) -> str:
    kind = _KINDS.get(found["kind"].lower(), found["kind"])
    if kind == "locations":
        return f"{found['verb']}.get"
    if kind == "virtualNetworks" and found["verb"]:
        return f"{found['verb']}.{'get' if found['child'] else 'list'}"
    if found["verb"]:
        return f"{kind}.{found['verb']}"
    if found["name"]:
        return f"{kind}.{ {'PUT': 'createOrUpdate', 'DELETE': 'delete'}.get(method, 'get') }"
    if kind == "disks":
        return f"disks.{'listByResourceGroup' if found['group'] else 'list'}"
    return f"{kind}.{'list' if found['group'] else 'listAll'}"
