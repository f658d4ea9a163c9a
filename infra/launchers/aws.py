"""Machines of Amazon EC2."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, TypeVar

from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from headwater.infra.errors import (
    AuthenticationFailed,
    InvalidLaunch,
    LaunchError,
    MissingDependency,
    NoCapacity,
)
from headwater.infra.launchers.base import (
    Inventory,
    LaunchSettings,
    Leftover,
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
from headwater.infra.launchers.wire.aws import (
    BLAMES,
    COMMANDS,
    instance_request,
    leftover_of,
    more_quota,
    node_of,
    removal_command,
    security_rules,
)
from headwater.infra.models import Cloud
from headwater.infra.storage.retries import threads

Result = TypeVar("Result")

INSTALL = "pip install 'headwater[aws]'"

HOME_REGION = "us-east-1"
"""Asked for the list of regions, where none is set."""

CONNECT_SECONDS = 10

ANSWER_SECONDS = 60

REGIONS_TOGETHER = 8

UNLISTED_SECONDS = 60.0
"""How long a machine that was just made may be missing from what EC2 lists."""

IDS_TOGETHER = 100
"""Machines in one call."""


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
        self._clients: dict[str, Any] = {}
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
            more = more_quota(spec)
            raise launch_error(exc, spec, self._settings, blames=BLAMES, more=more) from exc
        node = node_of(made, spec.region)
        if node.state in (State.STOPPING, State.GONE):
            raise NoCapacity(
                f"{spec.name} was made in {spec.place}, and is {node.state} already",
                hint="names are never used again; take another",
            )
        return node

    def describe(self, node: Node) -> Node:
        """See ``Launcher.describe``."""
        found = self._instances(node.region, [{"Name": "instance-id", "Values": [node.id]}])
        if not found and _is_young(node.created):
            return node
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
                node_of(one, region)
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
                    leftover_of("disk", one["VolumeId"], region, one)
                    for one in page["Volumes"]
                    if one["State"] in ("available", "error")
                ]
            cards = client.get_paginator("describe_network_interfaces").paginate(Filters=filters)
            for cards_page in cards:
                found += [
                    leftover_of("network card", one["NetworkInterfaceId"], region, one)
                    for one in cards_page["NetworkInterfaces"]
                    if one["Status"] == "available"
                ]
            addresses = client.describe_addresses(Filters=filters)["Addresses"]
            found += [
                leftover_of("address", one["AllocationId"], region, one)
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
            for some in _batches(nodes):
                refusals |= self._terminate(region, some)
            for one in there:
                if one.kind != "instance":
                    refusals |= self._try(partial(self._delete_one, one), [one.id])
        return refusals

    def _terminate(self, region: str, nodes: Sequence[Leftover]) -> dict[str, Refusal]:
        client = self._client(region)
        states = self._states(region, nodes)
        # Of many ids, one that is gone makes the whole call fail.
        living = [id_ for id_, state in states.items() if state not in (State.GONE, State.STOPPING)]
        unseen = [one.id for one in nodes if one.id not in states and _is_young(one.created)]
        refusals: dict[str, Refusal] = {}
        for ids in ([living] if living else []) + [[id_] for id_ in unseen]:
            refusals |= self._try(partial(client.terminate_instances, InstanceIds=ids), ids)
        return refusals

    def _states(self, region: str, nodes: Sequence[Leftover]) -> dict[str, State]:
        filters = [{"Name": "instance-id", "Values": [one.id for one in nodes]}]
        return {one.id: one.state for one in self._instances(region, filters)}

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
            nodes = [one for one in there if one.kind == "instance"]
            for some in _batches(nodes):
                states = self._states(region, some)
                here |= {id_ for id_, state in states.items() if state is not State.GONE}
                here |= {x.id for x in some if x.id not in states and _is_young(x.created)}
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

    def _client(self, region: str) -> Any:  # the stubs take every key of an answer for optional
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


def _tag_filter(key: str, value: str) -> dict[str, Any]:
    return {"Name": f"tag:{key}", "Values": [value]}


def _by_region(leftovers: Iterable[Leftover]) -> dict[str, list[Leftover]]:
    found: dict[str, list[Leftover]] = {}
    for one in leftovers:
        found.setdefault(one.region, []).append(one)
    return found


def _batches(nodes: Sequence[Leftover]) -> list[Sequence[Leftover]]:
    return [nodes[i : i + IDS_TOGETHER] for i in range(0, len(nodes), IDS_TOGETHER)]


def _is_young(created: datetime | None) -> bool:
    """Whether something was made so lately that EC2's lists may lack it."""
    return created is not None and (datetime.now(UTC) - created).total_seconds() < UNLISTED_SECONDS
