"""Google Compute Engine on loopback, for the REST clients of ``google-cloud-compute``.

It keeps what a launcher touches: instances, disks, addresses, and to read networks, firewalls,
machine types and images. Operations take as long as the test's script says, may fail after they
were accepted, and give the same answer again for the same ``requestId``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from tests.emulators.gce_instances import Instances
from tests.emulators.gce_resources import PROJECT, Change, Store
from tests.emulators.http_service import LOST, Reply, Request, serve
from tests.emulators.machines import Machine
from tests.emulators.script import Fault, Refused, Script

OPERATIONS = frozenset(
    f"{collection}.{verb}"
    for collection, verbs in {
        "instances": "insert get list aggregatedList delete setLabels stop",
        "disks": "insert get list aggregatedList delete setLabels",
        "addresses": "insert get list aggregatedList delete setLabels",
        "firewalls": "get list",
        "networks": "get list",
        "subnetworks": "get list",
        "machineTypes": "get list",
        "images": "get getFromFamily",
        "zoneOperations": "get wait",
        "regionOperations": "get wait",
    }.items()
    for verb in verbs.split()
)

STATUSES = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": 503,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": 503,
    "VM_MIN_COUNT_NOT_REACHED": 503,
    "QUOTA_EXCEEDED": 403,
    "quotaExceeded": 403,
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": 400,
    "RESOURCE_NOT_READY": 400,
    "alreadyExists": 409,
    "authError": 401,
    "backendError": 503,
    "forbidden": 403,
    "internalError": 500,
    "invalid": 400,
    "notFound": 404,
    "rateLimitExceeded": 429,
    "resourceInUseByAnotherResource": 400,
    "userRateLimitExceeded": 429,
}
"""HTTP status of each code; of those in capitals, inside an operation."""

WAIT_SECONDS = 2.0
"""How long ``wait`` holds an answer; the real service does for two minutes."""

_PATH = re.compile(
    r"/compute/v1/projects/(?P<project>[^/]+)/"
    r"(?:(?P<level>zones|regions)/(?P<place>[^/]+)|(?P<other>global|aggregated))/"
    r"(?P<collection>\w+)(?:/(?P<name>[^/]+))?(?:/(?P<verb>[^/]+))?"
)


@dataclass
class Gce:
    """A running service.

    Attributes:
        url: Its endpoint, as ``client_options={"api_endpoint": url}`` takes it.
        script: What goes wrong, and what was asked.
        store: What there is.
    """

    store: Store
    instances: Instances
    script: Script = field(default_factory=lambda: Script(OPERATIONS))
    url: str = ""
    page_size: int = 500
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def machines(self) -> dict[str, Machine]:
        """The instances that are switched on, by name with zone."""
        with self._lock:
            self.store.timeline.settle()
            return self.instances.machines()

    def powered_off(self, machine_id: str) -> None:
        """An instance that switches itself off is TERMINATED, and its disk is paid for."""
        with self._lock:
            self.instances.powered_off(machine_id)

    def reclaim(self, machine_id: str) -> None:
        """Do with a spot instance what its termination action says."""
        with self._lock:
            self.instances.reclaim(machine_id)

    def left(self, **labels: str) -> list[str]:
        """All that costs money and carries ``labels``: ``instances/vm1``, ``disks/vm1``."""
        with self._lock:
            self.store.timeline.settle()
            return sorted(
                f"{resource.collection}/{resource.name}"
                for resource in self.store.all()
                if resource.collection in ("instances", "disks", "addresses")
                and labels.items() <= resource.body.get("labels", {}).items()
            )

    def handle(self, request: Request) -> Reply:
        """Answer a call, or say as the API does why not."""
        try:
            return self._route(request)
        except Refused as refused:
            return _refusal(refused)

    def _route(self, request: Request) -> Reply:
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise Refused(404, "notFound", f"no such path: {request.path}")
        place = found["place"] or ""
        operation = _operation(request.method, found)
        if operation not in OPERATIONS:
            raise Refused(501, "notImplemented", f"not emulated: {operation} ({request.path})")
        body = request.json()
        with self._lock:
            self.store.timeline.settle()
            fault = self.script.enter(operation, place, body)
            if fault is not None and fault.is_refused:
                raise fault.refusal(STATUSES, 400)
            if operation.split(".")[0] != "images" and found["project"] != PROJECT:
                raise Refused(
                    404, "notFound", f"The resource 'projects/{found['project']}' was not found"
                )
            if operation not in ("zoneOperations.wait", "regionOperations.wait"):
                answer = self._answer(operation, found, request, body, fault)
                return Reply(LOST if fault is not None and fault.is_lost else 200, answer)
        return Reply(body=self._wait(place, found["name"]))

    def _answer(
        self,
        operation: str,
        found: re.Match[str],
        request: Request,
        body: dict[str, Any],
        fault: Fault | None,
    ) -> dict[str, Any]:
        collection, verb = operation.split(".")
        place, name = found["place"] or "", found["name"] or ""
        if verb == "get" and collection.endswith("Operations"):
            return self.store.operation(place, name)
        if verb == "get":
            return self.store.get(collection, place, name).body
        if verb == "getFromFamily":
            return self.store.image_of_family(found["verb"])
        if verb in ("list", "aggregatedList"):
            aggregated = verb == "aggregatedList"
            return self.store.page(
                collection, place, request.query, aggregated=aggregated, size=self.page_size
            )
        again = self.store.repeated(request.query.get("requestId", ""))
        if again is not None:
            return again
        seconds = self.script.seconds(operation, place)
        change = self._change(operation, place, name, body)
        late = fault.refusal(STATUSES, 400) if fault and fault.late else None
        return self.store.start(
            verb, change, seconds, late, request_id=request.query.get("requestId", "")
        )

    def _change(self, operation: str, place: str, name: str, body: dict[str, Any]) -> Change:
        collection, verb = operation.split(".")
        if verb == "setLabels":
            return self.store.set_labels(self.store.get(collection, place, name), body)
        if collection == "instances":
            if verb == "insert":
                return self.instances.insert(place, body)
            instance = self.store.get(collection, place, name)
            if verb == "stop":
                return self.instances.stop(instance)
            return self.instances.delete(instance)
        if verb == "insert":
            return self.store.insert(collection, place, body)
        return self.store.delete(self.store.get(collection, place, name))

    def _wait(self, place: str, name: str) -> dict[str, Any]:
        """The operation when it is done, or as it is after ``WAIT_SECONDS``."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            with self._lock:
                self.store.timeline.settle()
                operation = self.store.operation(place, name)
            if operation["status"] == "DONE" or time.monotonic() > end:
                return operation
            time.sleep(0.02)


@contextmanager
def gce(network: IPv4Network, *, time_scale: float = 1.0) -> Iterator[Gce]:
    """A service for as long as the body runs.

    Args:
        network: A /16 of loopback; its instances get their addresses from it.
        time_scale: Real seconds that stand for one of the cloud's in run-time limits.
    """
    store = Store(network)
    cloud = Gce(store, Instances(store, time_scale))
    with serve(cloud.handle) as cloud.url:
        yield cloud


def _operation(method: str, found: re.Match[str]) -> str:
    collection, name, verb = found["collection"], found["name"], found["verb"]
    if collection == "operations":
        collection = "zoneOperations" if found["level"] == "zones" else "regionOperations"
    if found["other"] == "aggregated":
        return f"{collection}.aggregatedList"
    if collection == "images" and name == "family":
        return "images.getFromFamily"
    if verb:
        return f"{collection}.{verb}"
    if not name:
        return f"{collection}.{'insert' if method == 'POST' else 'list'}"
    return f"{collection}.{'delete' if method == 'DELETE' else 'get'}"


def _refusal(refused: Refused) -> Reply:
    error = {"message": refused.message, "domain": "global", "reason": refused.code}
    body = {"error": {"code": refused.status, "message": refused.message, "errors": [error]}}
    headers = {}
    if refused.retry_after_seconds is not None:
        headers["retry-after"] = str(refused.retry_after_seconds)
    return Reply(refused.status, body, headers)
