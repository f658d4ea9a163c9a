"""What an emulated machine can ask about itself: the metadata services of the three clouds."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.emulators.http_service import Handle, Reply, Request
from tests.emulators.machines import Machine

ROLE = "headwater-node"
TOKEN_SECONDS = 3600
WAIT_SECONDS = 5.0
"""The longest that a request with ``wait_for_change`` is held."""


@dataclass
class Notice:
    """That a machine will be taken back.

    Attributes:
        at: When, in UTC; None while nothing is announced.
        accepted: The machine has said that it is ready.
        is_gone: The machine has ended; nobody waits for an answer.
    """

    at: datetime | None = None
    accepted: bool = False
    is_gone: bool = False


def service(machine: Machine, notice: Notice) -> Handle:
    """The metadata service of a machine's cloud."""
    services: dict[str, Callable[[], Handle]] = {
        "aws": lambda: _Ec2(machine, notice).handle,
        "gcp": lambda: _Gce(machine, notice).handle,
        "azure": lambda: _Azure(machine, notice).handle,
    }
    return services[machine.cloud]()


def environment(machine: Machine, url: str) -> dict[str, str]:
    """Variables by which the cloud's own SDK finds the service at ``url``."""
    host = url.removeprefix("http://")
    return {
        "aws": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
        "gcp": {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host},
        "azure": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url},
    }[machine.cloud]


@dataclass
class _Ec2:
    """IMDSv2: nothing without a session token."""

    machine: Machine
    notice: Notice
    tokens: dict[str, float] = field(default_factory=dict)

    def handle(self, request: Request) -> Reply:
        path = request.path.removeprefix("/latest/").rstrip("/")
        if request.method == "PUT" and path == "api/token":
            seconds = int(request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "0"))
            if not 1 <= seconds <= 21600:
                return Reply(400, "the token's time to live must be 1 to 21600 seconds")
            token = uuid.uuid4().hex
            self.tokens[token] = time.monotonic() + seconds
            return Reply(200, token, {"x-aws-ec2-metadata-token-ttl-seconds": str(seconds)})
        token = request.headers.get("x-aws-ec2-metadata-token", "")
        if self.tokens.get(token, 0.0) < time.monotonic():
            return Reply(401, "Unauthorized")
        found = self._values().get(path)
        return Reply(404, "Not Found") if found is None else Reply(200, found)

    def _values(self) -> dict[str, str]:
        machine = self.machine
        values = {
            "user-data": machine.user_data,
            "meta-data/ami-launch-index": "0",
            "meta-data/instance-id": machine.id,
            "meta-data/instance-type": machine.kind,
            "meta-data/instance-life-cycle": "spot" if machine.spot else "on-demand",
            "meta-data/local-ipv4": machine.address,
            "meta-data/placement/availability-zone": machine.zone,
            "meta-data/placement/region": machine.region,
            "meta-data/iam/security-credentials": ROLE,
            f"meta-data/iam/security-credentials/{ROLE}": json.dumps(_credentials()),
            "meta-data/tags/instance": "\n".join(machine.tags),
            "dynamic/instance-identity/document": json.dumps(
                {
                    "accountId": machine.account,
                    "instanceId": machine.id,
                    "instanceType": machine.kind,
                    "privateIp": machine.address,
                    "region": machine.region,
                    "availabilityZone": machine.zone,
                }
            ),
        }
        values |= {f"meta-data/tags/instance/{key}": tag for key, tag in machine.tags.items()}
        if self.notice.at is not None:
            at = f"{self.notice.at:%Y-%m-%dT%H:%M:%SZ}"
            values["meta-data/spot/instance-action"] = json.dumps(
                {"action": "terminate", "time": at}
            )
            values["meta-data/spot/termination-time"] = at
        return values


@dataclass
class _Gce:
    """Nothing without the header that no browser sends."""

    machine: Machine
    notice: Notice

    def handle(self, request: Request) -> Reply:
        flavor = {"metadata-flavor": "Google"}
        if request.path == "/":
            return Reply(200, "computeMetadata/\n", flavor)
        if request.headers.get("metadata-flavor") != "Google":
            return Reply(403, "Missing Metadata-Flavor:Google header")
        path = request.path.removeprefix("/computeMetadata/v1/").strip("/")
        value = self._value(path)
        if request.query.get("wait_for_change") == "true":
            limit = min(float(request.query.get("timeout_sec", WAIT_SECONDS)), WAIT_SECONDS)
            end = time.monotonic() + limit
            while self._value(path) == value and time.monotonic() < end and not self.notice.is_gone:
                time.sleep(0.02)
            value = self._value(path)
        if value is None:
            return Reply(404, "not found", flavor)
        if isinstance(value, str):
            return Reply(200, value, {**flavor, "content-type": "application/text"})
        if request.query.get("recursive") == "true" or path.endswith("/token"):
            return Reply(200, value, {**flavor, "content-type": "application/json"})
        return Reply(200, "\n".join(_listed(value)), flavor)

    def _value(self, path: str) -> Any:
        machine = self.machine
        account = {
            "aliases": ["default"],
            "email": f"{ROLE}@{machine.account}.iam.gserviceaccount.com",
            "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
            "token": {
                "access_token": "emulated-token",
                "expires_in": TOKEN_SECONDS,
                "token_type": "Bearer",
            },
        }
        number = "123456789012"
        value: Any = {
            "instance": {
                "id": machine.id.rsplit("/", 1)[-1],
                "name": machine.name,
                "hostname": f"{machine.name}.internal",
                "zone": f"projects/{number}/zones/{machine.zone}",
                "machine-type": f"projects/{number}/machineTypes/{machine.kind}",
                "preempted": "TRUE" if self.notice.at else "FALSE",
                "maintenance-event": "NONE",
                "scheduling": {"preemptible": str(machine.spot).upper()},
                "attributes": dict(machine.attributes),
                "network-interfaces": {"0": {"ip": machine.address}},
                "service-accounts": {"default": account, str(account["email"]): account},
            },
            "project": {"project-id": machine.account, "numeric-project-id": number},
        }
        for part in filter(None, path.split("/")):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


@dataclass
class _Azure:
    """Nothing without its header."""

    machine: Machine
    notice: Notice
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()).upper())

    def handle(self, request: Request) -> Reply:
        if request.headers.get("metadata", "").lower() != "true":
            return Reply(400, {"error": "Bad request. Required metadata header not specified"})
        if "api-version" not in request.query:
            return Reply(400, {"error": "Bad request. api-version was not specified"})
        path = request.path.removeprefix("/metadata/").rstrip("/")
        if path == "identity/oauth2/token":
            return self._token(request.query)
        if path == "scheduledevents":
            return self._events(request)
        value: Any = {"instance": self._instance()}
        for part in path.split("/"):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            return Reply(404, {"error": "Not found"})
        return Reply(200, value)

    def _token(self, query: Mapping[str, str]) -> Reply:
        if "resource" not in query:
            return Reply(400, {"error": "invalid_request", "error_description": "no resource"})
        now = int(time.time())
        return Reply(
            200,
            {
                "access_token": "emulated-token",
                "expires_in": str(TOKEN_SECONDS),
                "expires_on": str(now + TOKEN_SECONDS),
                "not_before": str(now),
                "resource": query["resource"],
                "token_type": "Bearer",
            },
        )

    def _events(self, request: Request) -> Reply:
        if request.method == "POST":
            started = [item["EventId"] for item in request.json().get("StartRequests", [])]
            if self.event_id not in started or self.notice.at is None:
                return Reply(400, {"error": "no such event"})
            self.notice.accepted = True
            return Reply(200, "")
        events = []
        if self.notice.at is not None:
            events.append(
                {
                    "EventId": self.event_id,
                    "EventType": "Preempt",
                    "ResourceType": "VirtualMachine",
                    "Resources": [self.machine.name],
                    "EventStatus": "Started" if self.notice.accepted else "Scheduled",
                    "NotBefore": f"{self.notice.at:%a, %d %b %Y %H:%M:%S GMT}",
                    "Description": "",
                    "EventSource": "Platform",
                    "DurationInSeconds": -1,
                }
            )
        return Reply(200, {"DocumentIncarnation": len(events), "Events": events})

    def _instance(self) -> dict[str, Any]:
        machine = self.machine
        tags = [{"name": key, "value": value} for key, value in machine.tags.items()]
        return {
            "compute": {
                "name": machine.name,
                "vmId": machine.id,
                "vmSize": machine.kind,
                "location": machine.region,
                "zone": machine.zone.partition("-")[2],
                "priority": "Spot" if machine.spot else "",
                "subscriptionId": machine.account,
                "resourceGroupName": machine.group,
                "resourceId": machine.attributes.get("resourceId", ""),
                "tagsList": tags,
                "tags": ";".join(f"{tag['name']}:{tag['value']}" for tag in tags),
            },
            "network": {
                "interface": [{"ipv4": {"ipAddress": [{"privateIpAddress": machine.address}]}}]
            },
        }


def _credentials() -> dict[str, str]:
    now = datetime.now().astimezone()
    expires = (now + timedelta(seconds=6 * TOKEN_SECONDS)).astimezone()
    return {
        "Code": "Success",
        "LastUpdated": now.isoformat(timespec="seconds"),
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAEMULATEDNODE0000",
        "SecretAccessKey": "node-secret-0123456789",
        "Token": "node-token",
        "Expiration": expires.isoformat(timespec="seconds"),
    }


def _listed(value: Mapping[str, Any]) -> list[str]:
    return [f"{key}/" if isinstance(child, Mapping) else key for key, child in value.items()]
