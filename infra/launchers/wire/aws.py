"""What EC2 is asked for and what it answers, as plain values. No SDK."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from headwater.infra.launchers.base import (
    LaunchSettings,
    Leftover,
    LeftoverKind,
    Node,
    NodeSpec,
    State,
)
from headwater.infra.launchers.calls import Blame
from headwater.infra.launchers.network import IngressRule
from headwater.infra.models import Cloud, Market

HOP_LIMIT = 2
"""Of the metadata service's answers: a container is one hop farther than its machine."""

STATES = {
    "pending": State.PENDING,
    "running": State.RUNNING,
    "shutting-down": State.STOPPING,
    "stopping": State.STOPPING,
    "stopped": State.STOPPED,
    "terminated": State.GONE,
}

QUOTAS = {
    ("g", Market.ON_DEMAND): "L-DB2E81BA",
    ("g", Market.SPOT): "L-3819A6DF",
    ("p", Market.ON_DEMAND): "L-417A185B",
    ("p", Market.SPOT): "L-7212CCBC",
    ("", Market.ON_DEMAND): "L-1216C47A",
    ("", Market.SPOT): "L-34B43A08",
}
"""Codes of the quotas of running vCPUs: of types with a GPU by their first letter, of others."""

BLAMES = (
    Blame(("amiid", "image id"), "image.aws"),
    Blame(("subnet",), "network.aws.subnets"),
    Blame(("securitygroup", "security group", "invalidgroup"), "network.aws.security_groups"),
    Blame(("instance profile", "iaminstanceprofile", "nosuchentity"), "identity.aws"),
)

COMMANDS: dict[LeftoverKind, str] = {
    "instance": "terminate-instances --instance-ids",
    "disk": "delete-volume --volume-id",
    "network card": "delete-network-interface --network-interface-id",
    "address": "release-address --allocation-id",
}


def instance_request(
    spec: NodeSpec, settings: LaunchSettings, image: str, device: str, subnet: str
) -> dict[str, Any]:
    """What RunInstances is asked for.

    Args:
        device: Where the image expects its disk.
    """
    tags = [{"Key": key, "Value": value} for key, value in {**spec.tags, "Name": spec.name}.items()]
    kinds = ["instance", "volume", "network-interface"]
    body: dict[str, Any] = {
        "ImageId": image,
        "InstanceType": spec.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": spec.token,
        "UserData": spec.user_data,
        # The dead man's switch: a machine that shuts itself down is gone, not stopped.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": HOP_LIMIT,
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": device,
                "Ebs": {
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                    "VolumeSize": spec.disk_gib,
                    "VolumeType": "gp3",
                },
            }
        ],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet,
                "Groups": list(settings.network.get("security_groups", ())),
                "AssociatePublicIpAddress": False,
                "DeleteOnTermination": True,
            }
        ],
    }
    if spec.zone:
        body["Placement"] = {"AvailabilityZone": spec.zone}
    if settings.identity:
        key = "Arn" if settings.identity.startswith("arn:") else "Name"
        body["IamInstanceProfile"] = {key: settings.identity}
    if spec.market is Market.SPOT:
        kinds.append("spot-instances-request")
        body["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        }
    body["TagSpecifications"] = [{"ResourceType": kind, "Tags": tags} for kind in kinds]
    return body


def removal_command(kind: LeftoverKind, id_: str, region: str) -> str:
    """The command of Amazon's own tool that removes one thing.

    Example:
        >>> removal_command("disk", "vol-1", "us-east-1")
        'aws ec2 delete-volume --volume-id vol-1 --region us-east-1'
    """
    return f"aws ec2 {COMMANDS[kind]} {id_} --region {region}"


def security_rules(group: Mapping[str, Any], region: str) -> list[IngressRule]:
    """The rules of one group of DescribeSecurityGroups."""
    rules = []
    for permission in group.get("IpPermissions", ()):
        protocol = str(permission["IpProtocol"])
        spans: tuple[tuple[int, int], ...] = ()
        if protocol != "-1" and permission.get("FromPort", -1) != -1:
            spans = ((permission["FromPort"], permission["ToPort"]),)
        ranges = [one["CidrIp"] for one in permission.get("IpRanges", ())]
        ranges += [one["CidrIpv6"] for one in permission.get("Ipv6Ranges", ())]
        for source in ranges:
            said = _permission(permission, source)
            rules.append(
                IngressRule(
                    group["GroupId"],
                    "an inbound rule",
                    (source,),
                    protocol,
                    spans,
                    close="aws ec2 revoke-security-group-ingress --region"
                    f" {region} --group-id {group['GroupId']} --ip-permissions {shlex.quote(said)}",
                )
            )
    return rules


def _permission(permission: Mapping[str, Any], source: str) -> str:
    """One permission in the short form of Amazon's tool, with one of its sources."""
    said = f"IpProtocol={permission['IpProtocol']}"
    if permission.get("FromPort") is not None and permission["IpProtocol"] != "-1":
        said += f",FromPort={permission['FromPort']},ToPort={permission['ToPort']}"
    if ":" in source:
        return f"{said},Ipv6Ranges=[{{CidrIpv6={source}}}]"
    return f"{said},IpRanges=[{{CidrIp={source}}}]"


def more_quota(spec: NodeSpec) -> str:
    """How to ask for a greater quota."""
    family = spec.instance_type[0]
    first = family if (family, spec.market) in QUOTAS else ""
    if spec.instance_type.startswith("vt"):
        first = "g"
    return (
        "`aws service-quotas request-service-quota-increase --service-code ec2 --quota-code"
        f" {QUOTAS[first, spec.market]} --region {spec.region} --desired-value VCPUS`"
    )


def node_of(one: Mapping[str, Any], region: str) -> Node:
    """A machine, of the answer that describes it."""
    tags = tags_of(one)
    return Node(
        one["InstanceId"],
        tags.get("Name", ""),
        Cloud.AWS,
        region,
        one.get("Placement", {}).get("AvailabilityZone", ""),
        one["InstanceType"],
        Market.SPOT if one.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        one.get("PrivateIpAddress", ""),
        STATES[one["State"]["Name"]],
        tags,
        one.get("LaunchTime"),
    )


def leftover_of(kind: LeftoverKind, id_: str, region: str, one: Mapping[str, Any]) -> Leftover:
    """Something beside a machine, of the answer that describes it."""
    tags = tags_of(one)
    return Leftover(
        kind,
        id_,
        tags.get("Name", ""),
        Cloud.AWS,
        region,
        one.get("AvailabilityZone", ""),
        tags,
        removal_command(kind, id_, region),
        one.get("CreateTime"),
        size_gib=float(one.get("Size", 0)),
    )


def tags_of(one: Mapping[str, Any]) -> dict[str, str]:
    """Its tags."""
    # Network cards alone call theirs a TagSet.
    return {tag["Key"]: tag["Value"] for tag in one.get("Tags") or one.get("TagSet") or ()}
