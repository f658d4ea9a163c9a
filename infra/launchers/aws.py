"""Machines of Amazon EC2."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from headwater.infra.errors import (
    AuthenticationFailed,
    InvalidLaunch,
    LaunchError,
    MissingDependency,
)
from headwater.infra.launchers.base import (
    Inventory,
    LaunchSettings,
    Leftover,
    LeftoverKind,
    Node,
    NodeSpec,
    State,
    Unseen,
)
from headwater.infra.launchers.calls import (
    CREATE,
    DELETE,
    LOGINS,
    LOOK,
    Blame,
    CallFailed,
    Failure,
    Patience,
    call_error,
    launch_error,
    patiently,
)
from headwater.infra.launchers.codes import Kind
from headwater.infra.launchers.network import IngressRule
from headwater.infra.launchers.removal import Refusal, remove_all
from headwater.infra.launchers.tags import CLUSTER, NODE, has_tags, require_tags
from headwater.infra.launchers.user_data import require_user_data
from headwater.infra.models import Cloud, Market
from headwater.infra.storage.retries import threads

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

Result = TypeVar("Result")

INSTALL = "pip install 'headwater[aws]'"

HOME_REGION = "us-east-1"
"""Asked for the list of regions, where none is set."""

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60

REGIONS_TOGETHER = 8
IDS_TOGETHER = 100
"""Machines in one call."""

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


class AwsLauncher:
    """EC2 in one account, with the credentials of botocore's chain.

    Args:
        settings: What the cluster profile says of AWS.
        regions: Where ``list`` looks; empty is every region of the account.
    Raises:
        MissingDependency: Amazon's SDK is not installed.
        AuthenticationFailed: There are no credentials.
    """

    cloud = Cloud.AWS

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        regions: Sequence[str] = (),
        create: Patience = CREATE,
        look: Patience = LOOK,
        delete: Patience = DELETE,
    ) -> None:
        self._settings = settings
        self._regions = tuple(regions)
        self._create, self._look, self._delete = create, look, delete
        self._lock = threading.Lock()
        self._clients: dict[str, EC2Client] = {}
        self._devices: dict[tuple[str, str], str] = {}
        self._places: dict[str, Mapping[str, str]] = {}
        try:
            import boto3
        except ImportError as exc:  # botocore comes with s3fs, boto3 does not
            raise MissingDependency("aws: boto3 is not installed", hint=INSTALL) from exc
        try:
            self._session = boto3.Session()
            has_credentials = self._session.get_credentials() is not None
        except boto.BotoCoreError as exc:
            raise AuthenticationFailed(f"aws: {exc}", hint=LOGINS[Cloud.AWS]) from exc
        if not has_credentials:
            raise AuthenticationFailed(
                "aws: no credentials (looked in AWS_ACCESS_KEY_ID, in the profile that AWS_PROFILE"
                " names, in SSO, and in the machine's role)",
                hint=LOGINS[Cloud.AWS],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See ``Launcher.close``."""
        for client in self._clients.values():
            client.close()

    def create(self, spec: NodeSpec) -> Node:
        """See ``Launcher.create``."""
        require_user_data(spec.user_data)
        require_tags(spec.tags)
        try:
            subnet = self._subnet(spec)
            image = spec.image or self._image()
            device = self._root_device(spec.region, image)
            body = instance_request(spec, self._settings, image, device, subnet)
            # EC2 itself gives back the machine of a token that it knows, but also a dead one.
            found = self._named(spec)
            if found is not None:
                return found
            client = self._client(spec.region)
            call = partial(client.run_instances, **body)
            made = patiently(call, _translate, self._create)["Instances"][0]
        except CallFailed as exc:
            more = _more(spec)
            raise launch_error(exc.failure, spec, self._settings, blames=BLAMES, more=more) from exc
        return _node(made, spec.region)

    def describe(self, node: Node) -> Node:
        """See ``Launcher.describe``."""
        found = self._instances(node.region, [{"Name": "instance-id", "Values": [node.id]}])
        return found[0] if found else replace(node, state=State.GONE)

    def list(self, tags: Mapping[str, str], *, region: str = "") -> Inventory:
        """See ``Launcher.list``."""
        regions = (region,) if region else self._regions or self._every_region()
        with threads(min(REGIONS_TOGETHER, len(regions))) as pool:
            found = list(pool.map(partial(self._of_region, tags), regions))
        leftovers = [one for part in found for one in part.leftovers]
        return Inventory(tuple(leftovers), tuple(one for part in found for one in part.unseen))

    def destroy(self, leftovers: Iterable[Leftover]) -> None:
        """See ``Launcher.destroy``."""
        remove_all(leftovers, self._ask_to_delete, self._present, self._delete)

    def leftover(self, node: Node) -> Leftover:
        """See ``Launcher.leftover``."""
        return Leftover(
            "instance",
            node.id,
            node.name,
            Cloud.AWS,
            node.region,
            node.zone,
            node.tags,
            removal_command("instance", node.id, node.region),
            node.created,
            node,
        )

    def zones(self, region: str) -> tuple[str, ...]:
        """See ``Launcher.zones``: those that have a subnet of the profile's."""
        self._require_named("subnets", self._settings.network.get("subnets", ()))
        try:
            return tuple(sorted(set(self._zones_of_subnets(region).values())))
        except CallFailed as exc:
            raise call_error(exc.failure, f"could not read the subnets in {region}") from exc

    def ingress_rules(self, region: str) -> tuple[IngressRule, ...]:
        """See ``Launcher.ingress_rules``."""
        ids = list(self._settings.network.get("security_groups", ()))
        self._require_named("security_groups", ids)
        regions = (region,) if region else self._regions or self._every_region()
        with threads(min(REGIONS_TOGETHER, len(regions))) as pool:
            found = list(pool.map(partial(self._rules_of, ids), regions))
        if all(rules is None for rules in found):
            where = region or f"any of {len(regions)} regions"
            raise InvalidLaunch(
                f"none of the security groups {', '.join(ids)} is in aws {where}",
                hint=f"mend {self._settings.line('network.aws.security_groups')}",
            )
        return tuple(rule for rules in found for rule in rules or ())

    def _rules_of(self, ids: Sequence[str], region: str) -> Sequence[IngressRule] | None:
        """The rules of those groups that are in the region; ``None`` where none is."""
        client = self._client(region)
        filters: Any = [{"Name": "group-id", "Values": ids}]
        groups = self._ask(
            lambda: client.describe_security_groups(Filters=filters)["SecurityGroups"],
            f"could not read the security groups in {region}",
        )
        rules = [rule for group in groups for rule in security_rules(group, region)]
        return rules if groups else None

    # --- what a machine needs before it can be made ---------------------------------------------

    def _subnet(self, spec: NodeSpec) -> str:
        """The profile's subnet in the zone of ``spec``; any of its region where no zone is said."""
        ids = self._settings.network.get("subnets", ())
        self._require_named("subnets", ids)
        self._require_named("security_groups", self._settings.network.get("security_groups", ()))
        zones = self._zones_of_subnets(spec.region)
        fitting = [id_ for id_, zone in zones.items() if spec.zone in ("", zone)]
        if not fitting:
            there = ", ".join(f"{id_} in {zone}" for id_, zone in zones.items())
            raise InvalidLaunch(
                f"none of the subnets {', '.join(ids)} is in {spec.place}"
                + (f" (there is {there})" if there else ""),
                hint=f"add one to {self._settings.line('network.aws.subnets')}, or allow"
                " only the regions and zones that have one",
            )
        return fitting[0]

    def _zones_of_subnets(self, region: str) -> Mapping[str, str]:
        """The zone of each of the profile's subnets that is in ``region``."""
        if region not in self._places:
            ids = list(self._settings.network.get("subnets", ()))
            client = self._client(region)
            call = partial(client.describe_subnets, Filters=[{"Name": "subnet-id", "Values": ids}])
            found = patiently(call, _translate, self._look)["Subnets"]
            zones = {one["SubnetId"]: one["AvailabilityZone"] for one in found}
            self._places[region] = {id_: zones[id_] for id_ in ids if id_ in zones}
        return self._places[region]

    def _image(self) -> str:
        if not self._settings.image:
            raise InvalidLaunch(
                "no image for AWS is named",
                hint=f"give the id of an AMI in {self._settings.line('image.aws')}",
            )
        return self._settings.image

    def _root_device(self, region: str, image: str) -> str:
        """Where the image expects its disk; asking also tells whether it is there."""
        if (region, image) not in self._devices:
            client = self._client(region)
            call = partial(client.describe_images, ImageIds=[image])
            found = patiently(call, _translate, self._look)["Images"]
            if not found:
                raise InvalidLaunch(
                    f"there is no image {image} in aws {region}",
                    hint=f"mend {self._settings.line('image.aws')}: each region has its own ids",
                )
            self._devices[region, image] = found[0].get("RootDeviceName") or "/dev/xvda"
        return self._devices[region, image]

    def _require_named(self, key: str, names: Sequence[str]) -> None:
        if not names:
            raise InvalidLaunch(
                f"no {key.replace('_', ' ')} for AWS are named",
                hint=f"give their ids in {self._settings.line(f'network.aws.{key}')}",
            )

    # --- what is there --------------------------------------------------------------------------

    def _named(self, spec: NodeSpec) -> Node | None:
        """The living machine of this name in the region, where there is one."""
        found = self._instances(spec.region, [_tag_filter(NODE, spec.name)])
        living = [one for one in found if one.state in (State.PENDING, State.RUNNING)]
        return living[0] if living else None

    def _instances(self, region: str, filters: Sequence[Any]) -> Sequence[Node]:
        client = self._client(region)

        def call() -> Sequence[Node]:
            pages = client.get_paginator("describe_instances").paginate(Filters=filters)
            return [
                _node(one, region)
                for page in pages
                for reservation in page["Reservations"]
                for one in reservation["Instances"]
            ]

        return self._ask(call, f"could not list the machines in {region}")

    def _of_region(self, tags: Mapping[str, str], region: str) -> Inventory:
        try:
            filters = [_tag_filter(key, value) for key, value in tags.items()]
            filters.append({"Name": "tag-key", "Values": [CLUSTER]})
            nodes = [one for one in self._instances(region, filters) if one.state is not State.GONE]
            others = self._loose(region, filters)
        except LaunchError as exc:
            return Inventory((), (Unseen(f"aws {region}", exc.message, exc.hint),))
        found = [*(self.leftover(node) for node in nodes), *others]
        return Inventory(tuple(one for one in found if has_tags(one.tags, tags)))

    def _loose(self, region: str, filters: Sequence[Any]) -> Sequence[Leftover]:
        """Disks, cards and addresses that no machine holds."""
        client = self._client(region)

        def call() -> Sequence[Leftover]:
            found = []
            volumes = client.get_paginator("describe_volumes").paginate(Filters=filters)
            for page in volumes:
                found += [
                    _leftover("disk", one["VolumeId"], region, one)
                    for one in page["Volumes"]
                    if one["State"] in ("available", "error")
                ]
            cards = client.get_paginator("describe_network_interfaces").paginate(Filters=filters)
            for cards_page in cards:
                found += [
                    _leftover("network card", one["NetworkInterfaceId"], region, one)
                    for one in cards_page["NetworkInterfaces"]
                    if one["Status"] == "available"
                ]
            addresses = client.describe_addresses(Filters=filters)["Addresses"]
            found += [
                _leftover("address", one["AllocationId"], region, one)
                for one in addresses
                if not one.get("AssociationId")
            ]
            return found

        return self._ask(call, f"could not list disks, cards and addresses in {region}")

    def _every_region(self) -> tuple[str, ...]:
        client = self._client(self._session.region_name or HOME_REGION)
        call = lambda: client.describe_regions()["Regions"]  # noqa: E731
        found = self._ask(call, "could not list the account's regions")
        return tuple(sorted(one["RegionName"] for one in found))

    # --- removal --------------------------------------------------------------------------------

    def _ask_to_delete(self, leftovers: Sequence[Leftover]) -> dict[str, Refusal]:
        refusals: dict[str, Refusal] = {}
        for region, there in _by_region(leftovers).items():
            nodes = [one for one in there if one.kind == "instance"]
            for ids in _batches([one.id for one in nodes]):
                refusals |= self._terminate(region, ids)
            for one in there:
                if one.kind != "instance":
                    refusals |= self._try(partial(self._delete_one, one), [one.id])
        return refusals

    def _terminate(self, region: str, ids: Sequence[str]) -> dict[str, Refusal]:
        client = self._client(region)
        # Of many ids, one that is gone makes the whole call fail.
        living = [
            one.id
            for one in self._instances(region, [{"Name": "instance-id", "Values": ids}])
            if one.state not in (State.GONE, State.STOPPING)
        ]
        if not living:
            return {}
        return self._try(lambda: client.terminate_instances(InstanceIds=living), living)

    def _delete_one(self, one: Leftover) -> object:
        client = self._client(one.region)
        match one.kind:
            case "disk":
                return client.delete_volume(VolumeId=one.id)
            case "network card":
                return client.delete_network_interface(NetworkInterfaceId=one.id)
            case _:
                return client.release_address(AllocationId=one.id)

    def _try(self, call: Callable[[], object], ids: Sequence[str]) -> dict[str, Refusal]:
        try:
            patiently(call, _translate, self._delete)
        except CallFailed as exc:
            kind, said = exc.failure.kind, str(exc)
            if kind is Kind.GONE:
                return {}
            is_busy = kind is Kind.IN_USE or "in use" in said.lower()
            return {id_: Refusal(said, is_final=not is_busy) for id_ in ids}
        return {}

    def _present(self, leftovers: Sequence[Leftover]) -> Set[str]:
        here: set[str] = set()
        for region, there in _by_region(leftovers).items():
            nodes = [one.id for one in there if one.kind == "instance"]
            for ids in _batches(nodes):
                found = self._instances(region, [{"Name": "instance-id", "Values": ids}])
                here |= {one.id for one in found if one.state is not State.GONE}
            if len(nodes) < len(there):
                here |= self._loose_present(region, there)
        return here

    def _loose_present(self, region: str, there: Sequence[Leftover]) -> set[str]:
        client = self._client(region)
        ids = {kind: [one.id for one in there if one.kind == kind] for kind in COMMANDS}

        def call() -> set[str]:
            here: set[str] = set()
            if ids["disk"]:
                filters: Any = [{"Name": "volume-id", "Values": ids["disk"]}]
                volumes = client.describe_volumes(Filters=filters)["Volumes"]
                here |= {one["VolumeId"] for one in volumes if one["State"] != "deleting"}
            if ids["network card"]:
                filters = [{"Name": "network-interface-id", "Values": ids["network card"]}]
                cards = client.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
                here |= {one["NetworkInterfaceId"] for one in cards}
            if ids["address"]:
                filters = [{"Name": "allocation-id", "Values": ids["address"]}]
                addresses = client.describe_addresses(Filters=filters)["Addresses"]
                here |= {one["AllocationId"] for one in addresses}
            return here

        return self._ask(call, f"could not see what is left in {region}")

    # --- calls ----------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], Result], what: str) -> Result:
        try:
            return patiently(call, _translate, self._look)
        except CallFailed as exc:
            raise call_error(exc.failure, what) from exc

    def _client(self, region: str) -> EC2Client:
        with self._lock:  # making a client is not safe in several threads
            if region not in self._clients:
                self._clients[region] = self._session.client(
                    "ec2",
                    region_name=region,
                    config=Config(
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=ANSWER_SECONDS,
                        # Tries are counted in one place (calls.py).
                        retries={"total_max_attempts": 1},
                        max_pool_connections=32,
                    ),
                )
            return self._clients[region]


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


def _translate(exc: Exception) -> Failure | None:
    """botocore's exception as a failure."""
    match exc:
        case boto.ClientError():
            error = exc.response.get("Error", {})
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code, said = str(error.get("Code", "")), str(error.get("Message", exc))
            return Failure.of(Cloud.AWS, code, said, status)
        case (
            boto.NoCredentialsError()
            | boto.PartialCredentialsError()
            | boto.CredentialRetrievalError()
            | boto.TokenRetrievalError()
            | boto.SSOError()
            | boto.ProfileNotFound()
        ):
            return Failure(Cloud.AWS, Kind.AUTHENTICATION, "", str(exc))
        case boto.HTTPClientError() | boto.ConnectionError() | ResponseParserError():
            return Failure(Cloud.AWS, Kind.UNAVAILABLE, "", str(exc))
        case boto.ParamValidationError() | boto.NoRegionError() | boto.InvalidRegionError():
            return Failure(Cloud.AWS, Kind.INVALID, "", str(exc))
        case _:
            return None


def _more(spec: NodeSpec) -> str:
    family = spec.instance_type[0]
    first = family if (family, spec.market) in QUOTAS else ""
    if spec.instance_type.startswith("vt"):
        first = "g"
    return (
        "`aws service-quotas request-service-quota-increase --service-code ec2 --quota-code"
        f" {QUOTAS[first, spec.market]} --region {spec.region} --desired-value VCPUS`"
    )


def _node(one: Mapping[str, Any], region: str) -> Node:
    tags = _tags(one)
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


def _leftover(kind: LeftoverKind, id_: str, region: str, one: Mapping[str, Any]) -> Leftover:
    tags = _tags(one)
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


def _tags(one: Mapping[str, Any]) -> dict[str, str]:
    # Network cards alone call theirs a TagSet.
    return {tag["Key"]: tag["Value"] for tag in one.get("Tags") or one.get("TagSet") or ()}


def _tag_filter(key: str, value: str) -> dict[str, Any]:
    return {"Name": f"tag:{key}", "Values": [value]}


def _by_region(leftovers: Iterable[Leftover]) -> dict[str, list[Leftover]]:
    found: dict[str, list[Leftover]] = {}
    for one in leftovers:
        found.setdefault(one.region, []).append(one)
    return found


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[i : i + IDS_TOGETHER] for i in range(0, len(ids), IDS_TOGETHER)]
