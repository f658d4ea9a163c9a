"""Virtual machines of Microsoft Azure.

Bodies are dicts in the format of the wire: the SDKs send those as they are.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from headwater.infra.errors import (
    AuthenticationFailed,
    InvalidLaunch,
    LaunchError,
    LeftBehind,
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
from headwater.infra.launchers.codes import AZURE, Kind
from headwater.infra.launchers.network import IngressRule, port_range
from headwater.infra.launchers.removal import Refusal, delete_each, remove_all
from headwater.infra.launchers.tags import CLUSTER, NODE, has_tags, require_tags
from headwater.infra.launchers.user_data import require_user_data
from headwater.infra.models import Cloud, Market
from headwater.infra.storage.filesystems.azure_management import manager_of

if TYPE_CHECKING:
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient

Result = TypeVar("Result")

INSTALL = "pip install 'headwater[azure]'"

SUBSCRIPTION = "AZURE_SUBSCRIPTION_ID"
"""Variable that names the subscription, where the profile does not."""

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
POLL_SECONDS = 3.0
"""Between two looks at something that takes long, where Azure names no time."""

GRANT_SECONDS = 900.0
"""How long a machine may take: a refusal for lack of capacity can come late."""

UNDO = Patience(20, 0.5)
"""For what a failed launch has made. Azure keeps a card of such a machine reserved for minutes;
that one is free of charge, and goes with the sweep after the cluster."""

ADMIN = "headwater"
"""Name of the user that Azure insists on. Nobody has the key that it asks for."""

STATES = {
    "Creating": State.PENDING,
    "Updating": State.RUNNING,
    "Succeeded": State.RUNNING,
    "Deleting": State.STOPPING,
    "Failed": State.FAILED,
}
POWER = {
    "PowerState/stopped": State.STOPPED,
    "PowerState/deallocated": State.STOPPED,
    "PowerState/deallocating": State.STOPPING,
    "PowerState/stopping": State.STOPPING,
}

BLAMES = (
    Blame(("image", "galleries"), "image.azure"),
    Blame(("/subnets/", "subnet"), "network.azure.subnet"),
    Blame(("virtualnetworks",), "network.azure.virtual_network"),
    Blame(("networksecuritygroup",), "network.azure.security_group"),
    Blame(("userassignedidentities", "identity"), "identity.azure"),
    Blame(("resourcegroupnotfound", "resource group"), "network.azure.resource_group"),
    Blame(("subscription",), "network.azure.subscription"),
)

COMMANDS: dict[LeftoverKind, str] = {
    "instance": "az vm delete --yes --ids",
    "disk": "az disk delete --yes --ids",
    "network card": "az network nic delete --ids",
    "address": "az network public-ip delete --ids",
}


class AzureLauncher:
    """Virtual machines of one resource group, with ``DefaultAzureCredential``.

    What it lists is all of the subscription's.

    Args:
        settings: What the cluster profile says of Azure.
        endpoint: Another Resource Manager; by default that of the public cloud, or what
            ``HEADWATER_AZURE_MANAGER`` names. No credentials are sent to one without TLS.
    Raises:
        MissingDependency: The SDKs are not installed.
        AuthenticationFailed: There are no credentials.
        InvalidLaunch: No subscription is named.
    """

    cloud = Cloud.AZURE

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        endpoint: str = "",
        create: Patience = CREATE,
        look: Patience = LOOK,
        delete: Patience = DELETE,
    ) -> None:
        self._settings = settings
        self._create, self._look, self._delete = create, look, delete
        self._subscription = settings.named("subscription") or os.environ.get(SUBSCRIPTION, "")
        if not self._subscription:
            raise InvalidLaunch(
                "azure: no subscription is named",
                hint=f"give it in {settings.line('network.azure.subscription')}, or in"
                f" {SUBSCRIPTION}",
            )
        self._group = settings.named("resource_group")
        self._compute, self._network = _clients(endpoint or manager_of(""), self._subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See ``Launcher.close``."""
        self._compute.close()
        self._network.close()

    def create(self, spec: NodeSpec) -> Node:
        """See ``Launcher.create``."""
        require_user_data(spec.user_data)
        require_tags(spec.tags)
        self._require_named("resource_group", "virtual_network", "subnet")
        card = card_body(spec, self._settings, self._subscription)
        machine = machine_body(spec, self._settings, self._subscription, ssh_key=self._ssh_key)
        try:
            nic = self._made_card(card_name(spec), card)
            made = self._made_machine(spec.name, machine)
        except CallFailed as exc:
            error = launch_error(
                exc.failure, spec, self._settings, blames=BLAMES, more=_more(spec.region)
            )
            self._undo(spec, error)
            raise error from exc
        return replace(_node(made), private_address=_private_address(nic))

    def describe(self, node: Node) -> Node:
        """See ``Launcher.describe``."""
        group, name = _group_of(node.id), node.name
        call = partial(self._compute.virtual_machines.get, group, name, expand="instanceView")
        try:
            found = _node(patiently(call, translate, self._look).as_dict())
        except CallFailed as exc:
            if exc.failure.kind is Kind.GONE:
                return replace(node, state=State.GONE)
            raise call_error(exc.failure, f"could not look at {node.name}") from exc
        return replace(found, private_address=node.private_address)

    def list(self, tags: Mapping[str, str], *, region: str = "") -> Inventory:
        """See ``Launcher.list``."""
        try:
            found = self._ask(self._held, "could not list what is there")
        except LaunchError as exc:
            where = f"azure subscription {self._subscription}"
            return Inventory((), (Unseen(where, exc.message, exc.hint),))
        wanted = (one for one in found if has_tags(one.tags, tags))
        return Inventory(tuple(one for one in wanted if region in ("", one.region)))

    def destroy(self, leftovers: Iterable[Leftover]) -> None:
        """See ``Launcher.destroy``."""
        self._remove(leftovers, self._delete)

    def leftover(self, node: Node) -> Leftover:
        """See ``Launcher.leftover``."""
        return Leftover(
            "instance",
            node.id,
            node.name,
            Cloud.AZURE,
            node.region,
            node.zone,
            node.tags,
            removal_command("instance", node.id),
            node.created,
            node,
        )

    def zones(self, region: str) -> tuple[str, ...]:  # noqa: ARG002 - the same in all
        """See ``Launcher.zones``: Azure chooses one where none is said, among all of the region."""
        return ()

    def ingress_rules(self, region: str) -> tuple[IngressRule, ...]:  # noqa: ARG002 - as in all
        """See ``Launcher.ingress_rules``: of the machine's own group, else of the subnet's."""
        self._require_named("resource_group")
        if group := self._settings.named("security_group"):
            return self._rules_of(self._group, group)
        self._require_named("virtual_network", "subnet")
        vnet, subnet = self._settings.named("virtual_network"), self._settings.named("subnet")
        found = self._ask(
            lambda: self._network.subnets.get(self._group, vnet, subnet).as_dict(),
            f"could not read the subnet {subnet}",
        )
        of_subnet = found.get("properties", {}).get("networkSecurityGroup", {}).get("id", "")
        if of_subnet:
            return self._rules_of(_group_of(of_subnet), of_subnet.rpartition("/")[2])
        # Without any group Azure lets everybody in.
        line = self._settings.line("network.azure.security_group")
        return (
            IngressRule(f"subnet {subnet}", "no rule", ("*",), "*", close=f"name one in {line}"),
        )

    # --- how a machine is made ------------------------------------------------------------------

    def _made_card(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A network card, which has its address as soon as it is accepted."""
        cards: Any = self._network.network_interfaces
        call = partial(cards.begin_create_or_update, self._group, name, body, polling=False)
        made: dict[str, Any] = patiently(call, translate, self._create).result().as_dict()
        if not _private_address(made):
            get = partial(cards.get, self._group, name)
            made = patiently(get, translate, self._create).as_dict()
        return made

    def _made_machine(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A machine that is granted: a refusal may come long after the request was accepted."""
        machines: Any = self._compute.virtual_machines
        call = partial(machines.begin_create_or_update, self._group, name, body)
        # The card may not be ready for a moment.
        poller = patiently(call, translate, self._create, also=frozenset({Kind.IN_USE}))
        try:
            made = poller.result(timeout=GRANT_SECONDS)
        except Exception as exc:
            failure = translate(exc)
            if failure is None:
                raise
            raise CallFailed(failure) from exc
        if not poller.done():
            said = f"{name} is not there after {GRANT_SECONDS:.0f} s"
            raise CallFailed(Failure(Cloud.AZURE, Kind.UNAVAILABLE, "", said))
        shown: dict[str, Any] = made.as_dict()
        return shown

    def _undo(self, spec: NodeSpec, error: LaunchError) -> None:
        """Remove what a refused launch has made: a machine that failed stays in Azure."""
        inventory = self.list({NODE: spec.name, CLUSTER: spec.tags.get(CLUSTER, "")})
        for unseen in inventory.unseen:
            error.add_note(f"what it had made could not be looked for: {unseen.reason}")
        try:
            self._remove(inventory.leftovers, UNDO)
        except LeftBehind as left:
            error.add_note(f"after it: {left.message}")

    @cached_property
    def _ssh_key(self) -> str:
        """A public key whose private one is thrown away: Azure insists on a way to log in."""
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = generate_private_key(public_exponent=65537, key_size=2048).public_key()
        return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def _require_named(self, *keys: str) -> None:
        for key in keys:
            if not self._settings.named(key):
                raise InvalidLaunch(
                    f"no {key.replace('_', ' ')} for Azure is named",
                    hint=f"give its name in {self._settings.line(f'network.azure.{key}')}",
                )

    # --- what is there --------------------------------------------------------------------------

    def _held(self) -> Sequence[Leftover]:
        """All of ours: machines, and what no machine holds."""
        machines = [one.as_dict() for one in self._compute.virtual_machines.list_all()]
        found = [self.leftover(_node(one)) for one in machines if CLUSTER in _tags(one)]
        living = {str(one["id"]).lower() for one in machines}
        cards = [one.as_dict() for one in self._network.network_interfaces.list_all()]
        used = {str(one["id"]).lower() for one in cards if _holder(one, "virtualMachine") in living}
        for disk in self._compute.disks.list():
            one = disk.as_dict()
            if str(one.get("managedBy", "")).lower() not in living:
                found.append(_leftover("disk", one))
        found += [
            _leftover("network card", one) for one in cards if str(one["id"]).lower() not in used
        ]
        for address in self._network.public_ip_addresses.list_all():
            one = address.as_dict()
            card = _holder(one, "ipConfiguration").partition("/ipconfigurations/")[0]
            if card not in used:
                found.append(_leftover("address", one))
        return found

    def _rules_of(self, group: str, name: str) -> tuple[IngressRule, ...]:
        found = self._ask(
            lambda: self._network.network_security_groups.get(group, name).as_dict(),
            f"could not read the security group {name}",
        )
        rules = found.get("properties", {}).get("securityRules", ())
        return tuple(rule for one in rules for rule in security_rules(one, group, name))

    # --- removal --------------------------------------------------------------------------------

    def _remove(self, leftovers: Iterable[Leftover], patience: Patience) -> None:
        remove_all(
            leftovers,
            lambda some: delete_each(some, partial(self._delete_one, patience)),
            self._present,
            patience,
        )

    def _delete_one(self, patience: Patience, one: Leftover) -> Refusal | None:
        group, name = _group_of(one.id), one.name
        operations: Any = {
            "instance": self._compute.virtual_machines,
            "disk": self._compute.disks,
            "network card": self._network.network_interfaces,
            "address": self._network.public_ip_addresses,
        }[one.kind]
        # It is not waited for here: `remove_all` looks at all of them together.
        call = partial(operations.begin_delete, group, name, polling=False)
        try:
            patiently(call, translate, patience)
        except CallFailed as exc:
            if exc.failure.kind is Kind.GONE:
                return None
            return Refusal(str(exc), is_final=exc.failure.kind is not Kind.IN_USE)
        return None

    def _present(self, leftovers: Sequence[Leftover]) -> Set[str]:
        kinds = {one.kind for one in leftovers}

        def call() -> set[str]:
            here: set[str] = set()
            listings: dict[LeftoverKind, Callable[[], Iterable[Any]]] = {
                "instance": self._compute.virtual_machines.list_all,
                "disk": self._compute.disks.list,
                "network card": self._network.network_interfaces.list_all,
                "address": self._network.public_ip_addresses.list_all,
            }
            for kind in kinds:
                here |= {str(one.id) for one in listings[kind]()}
            return here

        found = {one.lower() for one in self._ask(call, "could not see what is left")}
        return {one.id for one in leftovers if one.id.lower() in found}

    def _ask(self, call: Callable[[], Result], what: str) -> Result:
        try:
            return patiently(call, translate, self._look)
        except CallFailed as exc:
            raise call_error(exc.failure, what) from exc


def card_name(spec: NodeSpec) -> str:
    """Name of the network card of a machine."""
    return f"{spec.name}-nic"


def card_body(spec: NodeSpec, settings: LaunchSettings, subscription: str) -> dict[str, Any]:
    """A network card: a private address in the profile's subnet, and no public one."""
    group = f"/subscriptions/{subscription}/resourceGroups/{settings.named('resource_group')}"
    network = f"{group}/providers/Microsoft.Network"
    subnet = settings.named("subnet")
    properties: dict[str, Any] = {
        "ipConfigurations": [
            {
                "name": "private",
                "properties": {
                    "subnet": {
                        "id": f"{network}/virtualNetworks/{settings.named('virtual_network')}"
                        f"/subnets/{subnet}"
                    },
                    "privateIPAllocationMethod": "Dynamic",
                },
            }
        ]
    }
    if security_group := settings.named("security_group"):
        properties["networkSecurityGroup"] = {
            "id": f"{network}/networkSecurityGroups/{security_group}"
        }
    return {"location": spec.region, "tags": dict(spec.tags), "properties": properties}


def machine_body(
    spec: NodeSpec, settings: LaunchSettings, subscription: str, *, ssh_key: str
) -> dict[str, Any]:
    """A virtual machine; its disk begins with its tags.

    Args:
        ssh_key: Public key of its one user.
    Raises:
        InvalidLaunch: No image is named.
    """
    group = f"/subscriptions/{subscription}/resourceGroups/{settings.named('resource_group')}"
    card = f"{group}/providers/Microsoft.Network/networkInterfaces/{card_name(spec)}"
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": spec.instance_type},
        "storageProfile": {
            "imageReference": _image(spec.image or settings.image, settings),
            "osDisk": {
                "name": f"{spec.name}-disk",
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "diskSizeGB": spec.disk_gib,
                # Azure encrypts every managed disk.
                "managedDisk": {"storageAccountType": "StandardSSD_LRS"},
            },
        },
        "osProfile": {
            "computerName": spec.name,
            "adminUsername": ADMIN,
            "customData": base64.b64encode(spec.user_data.encode()).decode(),
            "linuxConfiguration": {
                "disablePasswordAuthentication": True,
                "ssh": {
                    "publicKeys": [
                        {"path": f"/home/{ADMIN}/.ssh/authorized_keys", "keyData": ssh_key}
                    ]
                },
            },
        },
        "networkProfile": {
            "networkInterfaces": [
                {"id": card, "properties": {"primary": True, "deleteOption": "Delete"}}
            ]
        },
    }
    if spec.market is Market.SPOT:
        properties |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": -1},  # up to the price on demand
        }
    body: dict[str, Any] = {
        "location": spec.region,
        "tags": dict(spec.tags),
        "properties": properties,
    }
    if spec.zone:
        body["zones"] = [spec.zone.rpartition("-")[2]]
    if settings.identity:
        body["identity"] = {
            "type": "UserAssigned",
            "userAssignedIdentities": {_identity(settings, subscription): {}},
        }
    return body


def security_rules(one: Mapping[str, Any], group: str, name: str) -> Sequence[IngressRule]:
    """One rule of a network security group, by the names of the wire; none for what goes out."""
    said = one.get("properties", {})
    if said.get("direction") != "Inbound":
        return ()
    sources = said.get("sourceAddressPrefixes") or [said.get("sourceAddressPrefix", "")]
    spans = said.get("destinationPortRanges") or [said.get("destinationPortRange", "*")]
    return [
        IngressRule(
            name,
            f"rule {one['name']}",
            tuple(sources),
            str(said.get("protocol", "*")),
            tuple(port_range(span) for span in spans),
            int(said.get("priority", 0)),
            said.get("access") == "Allow",
            f"az network nsg rule delete --resource-group {group} --nsg-name {name}"
            f" --name {one['name']}",
        )
    ]


def removal_command(kind: LeftoverKind, id_: str) -> str:
    """The command of Azure's own tool that removes one thing.

    Example:
        >>> removal_command("disk", "/subscriptions/s/x/disks/d")
        'az disk delete --yes --ids /subscriptions/s/x/disks/d'
    """
    return f"{COMMANDS[kind]} {id_}"


def translate(exc: Exception) -> Failure | None:
    """The exception of Azure's SDKs as a failure."""
    from azure.core import exceptions as azure

    match exc:
        case azure.ClientAuthenticationError() if exc.status_code is None:
            return Failure(Cloud.AZURE, Kind.AUTHENTICATION, "", str(exc.message))
        case azure.HttpResponseError():
            code, message = _said(exc.error, str(exc.message))
            return Failure.of(Cloud.AZURE, code, message, exc.status_code)
        case azure.ServiceRequestError() | azure.ServiceResponseError():
            return Failure(Cloud.AZURE, Kind.UNAVAILABLE, "", str(exc.message))
        case _:
            return None


def _said(error: Any, message: str) -> tuple[str, str]:
    """Code and message; where the outer ones are not known, those of what they are about."""
    if error is None:
        return "", message
    found, inner = error, list(error.details or ())
    while found.code not in AZURE and inner:
        found = inner.pop(0)
        inner += found.details or ()
    if found.code not in AZURE:
        found = error
    return str(found.code or ""), str(found.message or message)


def _image(name: str, settings: LaunchSettings) -> dict[str, str]:
    if not name:
        raise InvalidLaunch(
            "no image for Azure is named",
            hint=f"give a URN or an id in {settings.line('image.azure')}",
        )
    if name.lower().startswith("/communitygalleries/"):
        return {"communityGalleryImageId": name}
    if name.lower().startswith("/sharedgalleries/"):
        return {"sharedGalleryImageId": name}
    if name.startswith("/"):
        return {"id": name}
    parts = name.split(":")
    if len(parts) != 4:
        raise InvalidLaunch(
            f"'{name}' is no image of Azure",
            hint=f"write PUBLISHER:OFFER:SKU:VERSION or an id in {settings.line('image.azure')}",
        )
    return dict(zip(("publisher", "offer", "sku", "version"), parts, strict=True))


def _identity(settings: LaunchSettings, subscription: str) -> str:
    if settings.identity.startswith("/"):
        return settings.identity
    return (
        f"/subscriptions/{subscription}/resourceGroups/{settings.named('resource_group')}"
        f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{settings.identity}"
    )


def _more(region: str) -> str:
    return (
        "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"
        f" (Compute, {region})"
    )


def _node(one: Mapping[str, Any]) -> Node:
    said = one.get("properties", {})
    state = STATES.get(str(said.get("provisioningState", "")), State.PENDING)
    statuses = said.get("instanceView", {}).get("statuses", ())
    if state is State.RUNNING:
        codes = (str(status.get("code", "")) for status in statuses)
        state = next((POWER[code] for code in codes if code in POWER), state)
    zones = one.get("zones") or [""]
    region = str(one["location"])
    return Node(
        str(one["id"]),
        str(one["name"]),
        Cloud.AZURE,
        region,
        f"{region}-{zones[0]}" if zones[0] else "",
        str(said.get("hardwareProfile", {}).get("vmSize", "")),
        Market.SPOT if said.get("priority") == "Spot" else Market.ON_DEMAND,
        "",
        state,
        _tags(one),
        _time(said),
    )


def _leftover(kind: LeftoverKind, one: Mapping[str, Any]) -> Leftover:
    zones = one.get("zones") or [""]
    region, said = str(one["location"]), one.get("properties", {})
    return Leftover(
        kind,
        str(one["id"]),
        str(one["name"]),
        Cloud.AZURE,
        region,
        f"{region}-{zones[0]}" if zones[0] else "",
        _tags(one),
        removal_command(kind, str(one["id"])),
        _time(said),
        size_gib=float(said.get("diskSizeGB") or 0),
    )


def _tags(one: Mapping[str, Any]) -> dict[str, str]:
    return dict(one.get("tags") or {})


def _time(said: Mapping[str, Any]) -> datetime | None:
    text = said.get("timeCreated")
    return datetime.fromisoformat(str(text)) if text else None


def _holder(one: Mapping[str, Any], key: str) -> str:
    """Id of what holds ``one``, in small letters: Azure does not keep to one way."""
    return str((one.get("properties", {}).get(key) or {}).get("id", "")).lower()


def _private_address(nic: Mapping[str, Any]) -> str:
    configurations = nic.get("properties", {}).get("ipConfigurations") or [{}]
    return str(configurations[0].get("properties", {}).get("privateIPAddress", ""))


def _group_of(id_: str) -> str:
    """The resource group in an id."""
    parts = id_.split("/")
    return parts[4]


def _clients(
    endpoint: str, subscription: str
) -> tuple[ComputeManagementClient, NetworkManagementClient]:
    try:
        from azure.mgmt.compute import ComputeManagementClient
        from azure.mgmt.network import NetworkManagementClient
    except ImportError as exc:
        raise MissingDependency(
            "azure: azure-mgmt-compute and azure-mgmt-network are not installed", hint=INSTALL
        ) from exc
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import ClientAuthenticationError
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.identity import DefaultAzureCredential

    class Nobody:
        """Stands where credentials would, for an endpoint that is sent none."""

        def get_token(self, *scopes: str, **_: object) -> AccessToken:
            raise ClientAuthenticationError(f"no credentials are sent to {endpoint}, for {scopes}")

    scope = f"{endpoint}/.default"
    settings: dict[str, Any] = {
        "base_url": endpoint,
        "credential_scopes": [scope],
        "polling_interval": POLL_SECONDS,
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": ANSWER_SECONDS,
        "retry_total": 0,  # tries are counted in one place (calls.py)
    }
    credential: Any
    if endpoint.startswith("http://"):
        credential = Nobody()
        settings |= {"authentication_policy": SansIOHTTPPolicy(), "polling_interval": 0.05}
    else:
        credential = DefaultAzureCredential()
        try:
            credential.get_token(scope)
        except ClientAuthenticationError as exc:
            said = str(exc.message).splitlines()[0]
            raise AuthenticationFailed(
                f"azure: no credentials ({said})", hint=LOGINS[Cloud.AZURE]
            ) from exc
    return (
        ComputeManagementClient(credential, subscription, **settings),
        NetworkManagementClient(credential, subscription, **settings),
    )
