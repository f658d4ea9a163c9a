"""A network of an emulated EC2 with what a launcher needs, and what a test leaves behind in it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.emulators.ec2 import IMAGE
from tests.emulators.s3 import REGION, Moto

ZONES = (f"{REGION}a", f"{REGION}b")


@dataclass(frozen=True)
class Vpc:
    """A network with a subnet in each of ``ZONES`` and a closed security group.

    Attributes:
        ec2: Another client than the one that is tested.
    """

    ec2: Any = field(repr=False)
    id: str
    subnets: tuple[str, ...]
    group: str = ""
    image: str = IMAGE

    @classmethod
    def new(cls, moto: Moto) -> Vpc:
        """One of its own in ``REGION``, on loopback: nothing can reach a stranger's address."""
        ec2 = moto.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="127.77.0.0/16")["Vpc"]["VpcId"]
        subnets = tuple(
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"127.77.{number}.0/24", AvailabilityZone=zone)[
                "Subnet"
            ]["SubnetId"]
            for number, zone in enumerate(ZONES)
        )
        return cls(ec2, vpc, subnets).with_new_group()

    def with_new_group(self) -> Vpc:
        """The same network with a closed security group of its own."""
        name = f"nodes-{uuid.uuid4().hex[:8]}"
        made = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.id)
        return replace(self, group=made["GroupId"])

    def open_to(self, source: str, first: int, last: int) -> None:
        """A rule that lets ``source`` in."""
        key = ("Ipv6Ranges", "CidrIpv6") if ":" in source else ("IpRanges", "CidrIp")
        permission = {"IpProtocol": "tcp", "FromPort": first, "ToPort": last}
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group, IpPermissions=[{**permission, key[0]: [{key[1]: source}]}]
        )

    def leave_volume(self, tags: Mapping[str, str], gib: int = 73) -> str:
        """A disk that outlived its machine."""
        made = self.ec2.create_volume(
            AvailabilityZone=ZONES[0], Size=gib, TagSpecifications=_tagged("volume", tags)
        )
        return str(made["VolumeId"])

    def leave_card(self, tags: Mapping[str, str]) -> str:
        """A network card that outlived its machine."""
        made = self.ec2.create_network_interface(
            SubnetId=self.subnets[0], TagSpecifications=_tagged("network-interface", tags)
        )
        return str(made["NetworkInterface"]["NetworkInterfaceId"])

    def leave_address(self, tags: Mapping[str, str]) -> str:
        """A public address that nothing uses."""
        made = self.ec2.allocate_address(
            Domain="vpc", TagSpecifications=_tagged("elastic-ip", tags)
        )
        return str(made["AllocationId"])

    def alive(self) -> list[str]:
        """Names of its machines that are not gone."""
        pages = self.ec2.describe_instances(
            Filters=[
                {"Name": "vpc-id", "Values": [self.id]},
                {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]},
            ]
        )
        found = (one for part in pages["Reservations"] for one in part["Instances"])
        return sorted(tag["Value"] for one in found for tag in one["Tags"] if tag["Key"] == "Name")


def _tagged(kind: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return [{"ResourceType": kind, "Tags": listed}]
