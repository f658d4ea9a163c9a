"""Networks of an emulated EC2, made and looked at without the layer in front of ``moto``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from tests.emulators.s3 import REGION, Moto


@dataclass
class Networks:
    """A network of its own in each region that was added.

    Attributes:
        subnets: One for each zone.
        vpcs: The network of each region; instances of others on the same server are elsewhere.
        security_groups: Of each region, without any rule for what comes in.
        clients: Of each region, which see ``moto`` itself.
    """

    upstream: Moto
    subnets: dict[str, str] = field(default_factory=dict)
    vpcs: dict[str, str] = field(default_factory=dict)
    security_groups: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)

    @property
    def vpc(self) -> str:
        """The network of the first region."""
        return self.vpcs[REGION]

    @property
    def security_group(self) -> str:
        """That of the first region."""
        return self.security_groups[REGION]

    def add_region(self, region: str, network: IPv4Network, zones: Sequence[str] = "abc") -> None:
        """A network in ``region``, with a subnet and a security group.

        Args:
            network: A /16 of loopback.
            zones: The letters that follow the region.
        """
        client = self.clients[region] = self.upstream.client("ec2", region=region)
        vpc = self.vpcs[region] = client.create_vpc(CidrBlock=str(network))["Vpc"]["VpcId"]
        for letter, subnet in zip(zones, network.subnets(new_prefix=22), strict=False):
            zone = f"{region}{letter}"
            made = client.create_subnet(VpcId=vpc, CidrBlock=str(subnet), AvailabilityZone=zone)
            self.subnets[zone] = made["Subnet"]["SubnetId"]
        name = f"headwater-{network.network_address}"
        group = client.create_security_group(GroupName=name, Description="none in", VpcId=vpc)
        self.security_groups[region] = group["GroupId"]

    def left(self, **tags: str) -> list[str]:
        """All in these networks that costs money and carries ``tags``, by id."""
        return sorted(name for region in self.vpcs for name in self._left(region, tags))

    def clear(self) -> None:
        """Delete the network interfaces that are left, and forget all regions but the first."""
        for region, vpc in list(self.vpcs.items()):
            client = self.clients[region]
            here = [{"Name": "vpc-id", "Values": [vpc]}]
            cards = client.describe_network_interfaces(Filters=here)["NetworkInterfaces"]
            for card in cards:
                client.delete_network_interface(NetworkInterfaceId=card["NetworkInterfaceId"])
            if region != REGION:
                client.close()
                del self.vpcs[region], self.security_groups[region], self.clients[region]
        self.subnets = {zone: one for zone, one in self.subnets.items() if zone.startswith(REGION)}

    def close(self) -> None:
        """End the connections to ``moto``."""
        for client in self.clients.values():
            client.close()

    def _left(self, region: str, tags: Mapping[str, str]) -> list[str]:
        client = self.clients[region]
        wanted = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
        states = {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}
        here = {"Name": "vpc-id", "Values": [self.vpcs[region]]}
        found = client.describe_instances(Filters=[*wanted, states, here])["Reservations"]
        instances = [item for reservation in found for item in reservation["Instances"]]
        cards = client.describe_network_interfaces(Filters=[*wanted, here])
        volumes = client.describe_volumes(Filters=wanted)["Volumes"] if wanted else []
        return [
            *[item["InstanceId"] for item in instances],
            *[item["NetworkInterfaceId"] for item in cards["NetworkInterfaces"]],
            *[item["VolumeId"] for item in volumes],
        ]
