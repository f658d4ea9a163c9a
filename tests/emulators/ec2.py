"""EC2 on loopback: ``moto`` in a process of its own, behind a layer that does what it does not.

The layer refuses calls as the test's script says, keeps ``ClientToken`` idempotent, lets an
instance be terminated twice, puts tags on network interfaces, and says why an instance ended. The
addresses of instances are loopback ones; nothing ever connects to a public address that ``moto``
makes up.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.emulators import ec2_xml
from tests.emulators.ec2_networks import Networks
from tests.emulators.http_service import LOST, Reply, Request, serve
from tests.emulators.machines import Machine
from tests.emulators.s3 import REGION, Moto
from tests.emulators.script import Fault, Refused, Script

IMAGE = "ami-0c0ffee000000cafe"
ZONES = tuple(f"{REGION}{letter}" for letter in "abc")

_NAMES = """
RunInstances TerminateInstances StopInstances DescribeInstances
DescribeInstanceStatus DescribeInstanceAttribute ModifyInstanceAttribute
DescribeInstanceTypes DescribeInstanceTypeOfferings DescribeSpotInstanceRequests
CancelSpotInstanceRequests DescribeSpotPriceHistory DescribeImages CreateTags DeleteTags
DescribeTags CreateVolume DescribeVolumes DeleteVolume DetachVolume CreateNetworkInterface
DescribeNetworkInterfaces DeleteNetworkInterface AllocateAddress DescribeAddresses
ReleaseAddress DescribeSecurityGroups DescribeSecurityGroupRules CreateSecurityGroup
AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress DeleteSecurityGroup DescribeSubnets
CreateSubnet DescribeVpcs CreateVpc DescribeAvailabilityZones DescribeRegions
DescribeRouteTables DescribeVpcEndpoints
"""
OPERATIONS = frozenset(_NAMES.split())

STATUSES = {
    "AuthFailure": 401,
    "InsufficientHostCapacity": 500,
    "InsufficientInstanceCapacity": 500,
    "InternalError": 500,
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "UnauthorizedOperation": 403,
}
"""HTTP status of the codes that do not come with 400."""

TIMEOUT_SECONDS = 60.0


def settings(folder: Path) -> dict[str, str]:
    """Variables for ``moto``: one image, and instance types and images are checked.

    Args:
        folder: Gets the file with the image. Without it ``moto`` reads thousands.
    """
    image = {
        "ami_id": IMAGE,
        "name": "headwater-gpu-1",
        "description": "",
        "owner_id": "801119661308",
        "state": "available",
        "public": True,
        "image_location": "amazon/headwater-gpu-1",
        "image_type": "machine",
        "platform": "",
        "architecture": "x86_64",
        "virtualization_type": "hvm",
        "hypervisor": "xen",
        "sriov": "simple",
        "root_device_type": "ebs",
        "root_device_name": "/dev/sda1",
        "creation_date": "2026-11-01T00:00:00.000Z",
    }
    path = folder / "images.json"
    path.write_text(json.dumps([image]), encoding="utf-8")
    return {
        "MOTO_AMIS_PATH": str(path),
        "MOTO_ENABLE_AMI_VALIDATION": "true",
        "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
    }


@dataclass
class Ec2(Networks):
    """A running service, with its networks.

    Attributes:
        url: Its endpoint, as ``AWS_ENDPOINT_URL_EC2`` takes it.
        script: What goes wrong, and what was asked through ``url``.
    """

    script: Script = field(default_factory=lambda: Script(OPERATIONS))
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    _machines: dict[str, Machine] = field(default_factory=dict)
    _on_shutdown: dict[str, str] = field(default_factory=dict)
    _terminated: set[str] = field(default_factory=set)
    _reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    _tokens: dict[str, tuple[Mapping[str, str], Reply]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which boto3 reaches this service for EC2, and ``moto`` for the rest."""
        return {**self.upstream.environment, "AWS_ENDPOINT_URL_EC2": self.url}

    @property
    def endpoints(self) -> dict[str, str]:
        """Variables for an instance, which has an identity of its own."""
        return {
            "AWS_ENDPOINT_URL": self.upstream.url,
            "AWS_ENDPOINT_URL_EC2": self.url,
            "AWS_DEFAULT_REGION": REGION,
        }

    def machines(self) -> dict[str, Machine]:
        """The instances that are switched on."""
        with self._lock:
            return dict(self._machines)

    def powered_off(self, machine_id: str) -> None:
        """Stop or terminate, as the instance's shutdown behaviour says."""
        code = "Client.InstanceInitiatedShutdown"
        reason = (code, f"{code}: Instance initiated shutdown")
        with self._lock:
            if machine_id not in self._machines:
                return
            if self._on_shutdown[machine_id] == "terminate":
                self._terminate(machine_id, reason)
            else:
                self._reasons[machine_id] = reason
                region = self._machines.pop(machine_id).region
                self.clients[region].stop_instances(InstanceIds=[machine_id])

    def reclaim(self, machine_id: str) -> None:
        """Terminate a spot instance as the service does."""
        code = "Server.SpotInstanceTermination"
        with self._lock:
            if machine_id in self._machines:
                self._terminate(machine_id, (code, f"{code}: Instance terminated by Amazon EC2"))

    def reset(self) -> None:
        """Forget the script and the calls, and end all that is left in these networks."""
        with self._lock:
            for name in list(self._machines):
                self._terminate(name, ("Client.UserInitiatedShutdown", ""))
            self.clear()
            self._tokens.clear()
            self.script = Script(OPERATIONS)

    def handle(self, request: Request) -> Reply:
        """Pass a call on, or say as the API does why not."""
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        operation = form.get("Action", "")
        try:
            return self._answer(operation, form, request)
        except Refused as refused:
            return ec2_xml.refusal(refused)

    def _answer(self, operation: str, form: dict[str, str], request: Request) -> Reply:
        if operation not in OPERATIONS:
            raise Refused(501, "NotImplemented", f"not emulated: {operation or request.path}")
        where = self._where(form, request)
        fault = self.script.enter(operation, where, form)
        self.ended.wait(self.script.seconds(operation, where))
        if fault is not None and fault.is_refused:
            raise fault.refusal(STATUSES, 400)
        reply = self._carry_out(operation, form, request, fault)
        return Reply(LOST) if fault is not None and fault.is_lost else reply

    def _carry_out(
        self, operation: str, form: dict[str, str], request: Request, fault: Fault | None
    ) -> Reply:
        if operation == "RunInstances":
            with self._lock:
                return self._run(form, request, fault)
        if operation in ("TerminateInstances", "StopInstances"):
            with self._lock:
                return self._switch_off(operation, form, request)
        reply = self._forward(request, form)
        if operation == "DescribeInstances" and self._reasons:
            return Reply(reply.status, ec2_xml.with_reasons(reply.body, self._reasons))
        return reply

    def _run(self, form: dict[str, str], request: Request, fault: Fault | None) -> Reply:
        token = form.get("ClientToken", "")
        asked = {key: value for key, value in form.items() if key != "Version"}
        if token and token in self._tokens:
            before, reply = self._tokens[token]
            if before != asked:
                raise Refused(
                    400,
                    "IdempotentParameterMismatch",
                    "The client token you have provided is associated with a resource that was"
                    " created with other parameters",
                )
            return reply
        reply = self._forward(request, form)
        if reply.status != 200:
            return reply
        if token:
            self._tokens[token] = (asked, reply)
        tags = ec2_xml.tags(form)
        for instance in ec2_xml.instances(reply.body):
            if instance.cards and (wanted := tags.get("network-interface")):
                pairs = [{"Key": key, "Value": value} for key, value in wanted.items()]
                client = self.clients[_region(request)]
                client.create_tags(Resources=list(instance.cards), Tags=pairs)
            behaviour = form.get("InstanceInitiatedShutdownBehavior", "stop")
            self._on_shutdown[instance.id] = behaviour
            self._machines[instance.id] = Machine(
                cloud="aws",
                id=instance.id,
                name=tags.get("instance", {}).get("Name", instance.id),
                address=instance.address,
                region=_region(request),
                zone=instance.zone,
                kind=instance.kind,
                user_data=base64.b64decode(form.get("UserData", "")).decode(),
                spot=form.get("InstanceMarketOptions.MarketType") == "spot",
                account="123456789012",
                tags=tags.get("instance", {}),
            )
            if fault is not None and fault.late:
                code = f"Server.{fault.code}"
                self._terminate(instance.id, (code, f"{code}: {fault.message}"))
        return reply

    def _switch_off(self, operation: str, form: dict[str, str], request: Request) -> Reply:
        ids = [value for key, value in form.items() if key.startswith("InstanceId.")]
        gone = [identity for identity in ids if identity in self._terminated]
        if gone and operation == "TerminateInstances":
            # moto looks for the network interfaces again, which it has deleted.
            form = {key: value for key, value in form.items() if value not in gone}
            if len(gone) == len(ids):
                return Reply(body=ec2_xml.terminated(gone), headers=ec2_xml.HEADERS)
        reply = self._forward(request, form)
        if reply.status == 200:
            for identity in ids:
                self._machines.pop(identity, None)
            if operation == "TerminateInstances":
                self._terminated.update(ids)
                return Reply(200, ec2_xml.terminated(gone, reply.body), ec2_xml.HEADERS)
        return reply

    def _terminate(self, machine_id: str, reason: tuple[str, str]) -> None:
        self._reasons[machine_id] = reason
        self._terminated.add(machine_id)
        region = self._machines.pop(machine_id).region
        self.clients[region].terminate_instances(InstanceIds=[machine_id])

    def _where(self, form: Mapping[str, str], request: Request) -> str:
        zone = form.get("Placement.AvailabilityZone", "")
        subnet = form.get("SubnetId", form.get("NetworkInterface.1.SubnetId", ""))
        zones = {known: zone for zone, known in self.subnets.items()}
        return zone or zones.get(subnet, _region(request))

    def _forward(self, request: Request, form: Mapping[str, str]) -> Reply:
        kept = ("authorization", "content-type", "x-amz-date", "x-amz-security-token", "user-agent")
        headers = {name: value for name, value in request.headers.items() if name in kept}
        address = urlsplit(self.upstream.url).netloc
        connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", "/", body=urlencode(form), headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), ec2_xml.HEADERS)
        finally:
            connection.close()


@contextmanager
def ec2(server: Moto, network: IPv4Network) -> Iterator[Ec2]:
    """A service for as long as the body runs, with a network in its first region.

    Args:
        server: Started with ``settings``.
        network: A /16 of loopback.
    """
    cloud = Ec2(server)
    try:
        cloud.add_region(REGION, network)
        with serve(cloud.handle) as cloud.url:
            yield cloud
    finally:
        cloud.ended.set()
        cloud.close()


def _region(request: Request) -> str:
    """In which the call was made, as its signature says."""
    signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/", request.headers.get("authorization", ""))
    return signed[1] if signed else REGION
