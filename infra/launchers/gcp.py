"""Machines of Google's Compute Engine."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeVar

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
from headwater.infra.launchers.network import IngressRule, port_range
from headwater.infra.launchers.removal import Refusal, delete_each, remove_all
from headwater.infra.launchers.tags import CLUSTER, NODE, has_tags, require_tags
from headwater.infra.launchers.user_data import require_user_data
from headwater.infra.models import Cloud, Market

if TYPE_CHECKING:
    from google.cloud import compute_v1

Result = TypeVar("Result")

INSTALL = "pip install 'headwater[gcp]'"

ENDPOINT = "HEADWATER_GCP_COMPUTE"
"""Names another address of the Compute Engine API. No credentials are sent to one without TLS."""

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

ANSWER_SECONDS = 60.0
"""Of one call."""

GRANT_SECONDS = 300.0
"""How long an insert that was accepted may take to be granted or refused."""

GPU_FAMILIES = ("a2-", "a3-", "a4-", "a4x-", "g2-", "g4-")
"""Types with a GPU: they cannot be moved to another host while they run."""

STATES = {
    "PROVISIONING": State.PENDING,
    "STAGING": State.PENDING,
    "PENDING": State.PENDING,
    "RUNNING": State.RUNNING,
    "REPAIRING": State.PENDING,
    "STOPPING": State.STOPPING,
    "PENDING_STOP": State.STOPPING,
    "SUSPENDING": State.STOPPING,
    "DEPROVISIONING": State.STOPPING,
    "SUSPENDED": State.STOPPED,
    "STOPPED": State.STOPPED,
    "TERMINATED": State.STOPPED,
}

BLAMES = (
    Blame(("images/", "sourceimage", "resource.images"), "image.gcp"),
    Blame(("subnetwork",), "network.gcp.subnetwork"),
    Blame(("network",), "network.gcp.network"),
    Blame(("serviceaccount", "service account", "service_account"), "identity.gcp"),
    Blame(("project",), "network.gcp.project"),
)

COLLECTIONS: dict[LeftoverKind, str] = {
    "instance": "instances",
    "disk": "disks",
    "address": "addresses",
}

TYPES: dict[LeftoverKind, str] = {"instance": "Instance", "disk": "Disk", "address": "Address"}
LOOSE: tuple[LeftoverKind, ...] = ("disk", "address")
"""What may outlive its machine; a network card is a part of it here."""

_CALL = re.compile(r"^[A-Z]+ https?://\S+: ")
"""What Google's SDK puts before a message."""


class GcpLauncher:
    """Compute Engine in one project, with application default credentials.

    Args:
        settings: What the cluster profile says of GCP.
        endpoint: Another address of the API; by default what ``ENDPOINT`` names.
    Raises:
        MissingDependency: Google's SDK is not installed.
        AuthenticationFailed: There are no credentials.
        InvalidLaunch: No project is named, neither by the profile nor by the credentials.
    """

    cloud = Cloud.GCP

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
        self._sdk = _sdk()
        self._endpoint = endpoint or os.environ.get(ENDPOINT, "")
        self._credentials, default_project = _credentials(self._endpoint)
        self._project = settings.named("project") or default_project
        if not self._project:
            raise InvalidLaunch(
                "gcp: no project is named",
                hint=f"give it in {settings.line('network.gcp.project')}, or in"
                " GOOGLE_CLOUD_PROJECT",
            )
        self._clients: dict[str, Any] = {}
        self._images: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See ``Launcher.close``."""
        for client in self._clients.values():
            client.transport.close()

    def create(self, spec: NodeSpec) -> Node:
        """See ``Launcher.create``."""
        require_user_data(spec.user_data)
        require_tags(spec.tags)
        if not spec.zone:
            raise InvalidLaunch(
                f"{spec.name}: a machine of GCP is made in a zone, and none is said",
                hint=f"name one of {spec.region}'s",
            )
        try:
            image = self._image(spec.image)
            body = instance_body(spec, self._settings, self._project, image)
            self._insert(spec, body)
            found = self._get(spec.zone, spec.name, self._create)
        except CallFailed as exc:
            raise launch_error(
                exc.failure, spec, self._settings, blames=BLAMES, more=_more(self._project)
            ) from exc
        node = _node(found)
        if node.tags.get(NODE) != spec.name or node.tags.get(CLUSTER) != spec.tags.get(CLUSTER):
            raise InvalidLaunch(
                f"gcp: another machine in {spec.zone} is named {spec.name}",
                hint="names are never used again; take another",
            )
        return node

    def describe(self, node: Node) -> Node:
        """See ``Launcher.describe``."""
        try:
            return _node(self._get(node.zone, node.name, self._look))
        except CallFailed as exc:
            if exc.failure.kind is Kind.GONE:
                return replace(node, state=State.GONE)
            raise call_error(exc.failure, f"could not look at {node.name}") from exc

    def list(self, tags: Mapping[str, str], *, region: str = "") -> Inventory:
        """See ``Launcher.list``."""
        try:
            found = self._ask(partial(self._held, tags), "could not list what is there")
        except LaunchError as exc:
            return Inventory((), (Unseen(f"gcp {self._project}", exc.message, exc.hint),))
        return Inventory(tuple(one for one in found if region in ("", one.region)))

    def destroy(self, leftovers: Iterable[Leftover]) -> None:
        """See ``Launcher.destroy``."""
        remove_all(
            leftovers,
            lambda some: delete_each(some, self._delete_one),
            self._present,
            self._delete,
        )

    def leftover(self, node: Node) -> Leftover:
        """See ``Launcher.leftover``."""
        return Leftover(
            "instance",
            node.id,
            node.name,
            Cloud.GCP,
            node.region,
            node.zone,
            node.tags,
            removal_command("instance", node.name, node.zone, self._project),
            node.created,
            node,
        )

    def zones(self, region: str) -> tuple[str, ...]:
        """See ``Launcher.zones``."""
        client = self._client("RegionsClient")
        found = self._ask(
            partial(
                client.get, project=self._project, region=region, retry=None, timeout=ANSWER_SECONDS
            ),
            f"could not list the zones of {region}",
        )
        return tuple(sorted(link.rpartition("/")[2] for link in found.zones))

    def ingress_rules(self, region: str) -> tuple[IngressRule, ...]:  # noqa: ARG002 - as in all
        """See ``Launcher.ingress_rules``: a firewall is of its network, in all regions."""
        network = self._settings.named("network").rpartition("/")[2]
        if not network:
            raise InvalidLaunch(
                "no network for GCP is named",
                hint=f"give its name in {self._settings.line('network.gcp.network')}",
            )
        client = self._client("FirewallsClient")
        call = partial(client.list, project=self._project, retry=None, timeout=ANSWER_SECONDS)
        found = self._ask(
            lambda: [self._sdk.Firewall.to_dict(one) for one in call()],
            "could not read the firewall rules",
        )
        here = (one for one in found if one["network"].rpartition("/")[2] == network)
        tags = frozenset(self._settings.network.get("network_tags", ()))
        return tuple(
            rule
            for one in here
            for rule in firewall_rules(one, self._project, tags, self._settings.identity)
        )

    # --- how a machine is made ------------------------------------------------------------------

    def _insert(self, spec: NodeSpec, body: Mapping[str, Any]) -> None:
        """Ask for it, and wait until it is granted: a refusal may come in the operation."""
        client = self._client("InstancesClient")
        request = self._sdk.InsertInstanceRequest(
            project=self._project,
            zone=spec.zone,
            instance_resource=self._sdk.Instance(body),
            request_id=str(uuid.UUID(spec.token)),
        )
        call = partial(client.insert_unary, request, retry=None, timeout=ANSWER_SECONDS)
        try:
            operation = patiently(call, self._translate, self._create)
        except CallFailed as exc:
            if exc.failure.kind is Kind.EXISTS:
                return
            raise
        failure = operation_failure(self._sdk.Operation.to_dict(self._done(spec, operation)))
        if failure is not None and failure.kind is not Kind.EXISTS:
            raise CallFailed(failure)

    def _done(self, spec: NodeSpec, operation: compute_v1.Operation) -> compute_v1.Operation:
        client = self._client("ZoneOperationsClient")
        end = self._create.clock() + GRANT_SECONDS
        while operation.status != self._sdk.Operation.Status.DONE:
            if self._create.clock() > end:
                said = f"{operation.name} is not done after {GRANT_SECONDS:.0f} s"
                raise CallFailed(Failure(Cloud.GCP, Kind.UNAVAILABLE, "", said))
            # It answers when the operation is done, or after two minutes.
            call = partial(
                client.wait,
                project=self._project,
                zone=spec.zone,
                operation=operation.name,
                retry=None,
                timeout=ANSWER_SECONDS * 3,
            )
            operation = patiently(call, self._translate, self._create)
        return operation

    def _image(self, name: str) -> str:
        """The image as a request names it; asking also tells whether it is there."""
        wanted = name or self._settings.image
        if not wanted:
            raise InvalidLaunch(
                "no image for GCP is named",
                hint=f"give its name in {self._settings.line('image.gcp')}",
            )
        if "/" in wanted:
            return wanted
        if wanted not in self._images:
            client = self._client("ImagesClient")
            call = partial(
                client.get,
                project=self._project,
                image=wanted,
                retry=None,
                timeout=ANSWER_SECONDS,
            )
            place = f"projects/{self._project}/global/images"
            try:
                patiently(call, self._translate, self._look)
                self._images[wanted] = f"{place}/{wanted}"
            except CallFailed as exc:
                if exc.failure.kind is not Kind.GONE:
                    raise
                self._images[wanted] = f"{place}/family/{wanted}"
        return self._images[wanted]

    def _get(self, zone: str, name: str, patience: Patience) -> dict[str, Any]:
        client = self._client("InstancesClient")
        call = partial(
            client.get,
            project=self._project,
            zone=zone,
            instance=name,
            retry=None,
            timeout=ANSWER_SECONDS,
        )
        found: dict[str, Any] = self._sdk.Instance.to_dict(
            patiently(call, self._translate, patience)
        )
        return found

    # --- what is there --------------------------------------------------------------------------

    def _held(self, tags: Mapping[str, str]) -> Sequence[Leftover]:
        machines = self._aggregated("instance", tags)
        found = [self.leftover(_node(one)) for one in machines]
        living = {_path(one["self_link"]) for one in machines}
        found += [
            _leftover(kind, one, self._project)
            for kind in LOOSE
            for one in self._aggregated(kind, tags)
            if not living & {_path(user) for user in one.get("users") or ()}
        ]
        return [one for one in found if has_tags(one.tags, tags)]

    def _aggregated(self, kind: LeftoverKind, tags: Mapping[str, str]) -> Sequence[dict[str, Any]]:
        """All of one kind with our labels, in every place of the project."""
        labels = [f'labels.{key} = "{value}"' for key, value in tags.items()]
        request = {
            "project": self._project,
            "filter": " AND ".join(f"({one})" for one in (f"labels.{CLUSTER}:*", *labels)),
        }
        collection, name = COLLECTIONS[kind], TYPES[kind]
        pager = self._client(f"{collection.capitalize()}Client").aggregated_list(
            request=request, retry=None, timeout=ANSWER_SECONDS
        )
        to_dict = getattr(self._sdk, name).to_dict
        return [to_dict(one) for _, scope in pager for one in getattr(scope, collection)]

    def _present(self, leftovers: Sequence[Leftover]) -> Set[str]:
        def call() -> set[str]:
            kinds = {one.kind for one in leftovers}
            return {_path(one["self_link"]) for kind in kinds for one in self._aggregated(kind, {})}

        return self._ask(call, "could not see what is left")

    def _delete_one(self, one: Leftover) -> Refusal | None:
        place, name = one.zone or one.region, one.name
        if one.kind == "instance":
            client, said = self._client("InstancesClient"), {"instance": name, "zone": place}
        elif one.kind == "disk":
            client, said = self._client("DisksClient"), {"disk": name, "zone": place}
        else:
            client, said = self._client("AddressesClient"), {"address": name, "region": place}
        call = partial(
            client.delete_unary, project=self._project, **said, retry=None, timeout=ANSWER_SECONDS
        )
        try:
            patiently(call, self._translate, self._delete)
        except CallFailed as exc:
            if exc.failure.kind is Kind.GONE:
                return None
            return Refusal(str(exc), is_final=exc.failure.kind is not Kind.IN_USE)
        return None

    # --- calls ----------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], Result], what: str) -> Result:
        try:
            return patiently(call, self._translate, self._look)
        except CallFailed as exc:
            raise call_error(exc.failure, what) from exc

    def _client(self, name: str) -> Any:
        if name not in self._clients:
            options = {"api_endpoint": self._endpoint} if self._endpoint else None
            self._clients[name] = getattr(self._sdk, name)(
                credentials=self._credentials, client_options=options
            )
        return self._clients[name]

    def _translate(self, exc: Exception) -> Failure | None:
        return translate(exc)


def instance_body(
    spec: NodeSpec, settings: LaunchSettings, project: str, image: str
) -> dict[str, Any]:
    """What an insert is asked for, by the names of Google's own classes."""
    labels = dict(spec.tags)
    zone = f"projects/{project}/zones/{spec.zone}"
    card: dict[str, Any] = {}  # without an access config it has no public address
    if subnetwork := settings.named("subnetwork"):
        inside = f"projects/{project}/regions/{spec.region}/subnetworks/{subnetwork}"
        card["subnetwork"] = subnetwork if "/" in subnetwork else inside
    if network := settings.named("network"):
        inside = f"projects/{project}/global/networks/{network}"
        card["network"] = network if "/" in network else inside
    is_spot = spec.market is Market.SPOT
    is_fixed = is_spot or spec.instance_type.startswith(GPU_FAMILIES)
    scheduling: dict[str, Any] = {
        "provisioning_model": "SPOT" if is_spot else "STANDARD",
        "automatic_restart": False,  # a lost node is replaced by another, under another name
        "on_host_maintenance": "TERMINATE" if is_fixed else "MIGRATE",
    }
    if is_spot or spec.run_limit_seconds:
        scheduling["instance_termination_action"] = "DELETE"
    if spec.run_limit_seconds:
        scheduling["max_run_duration"] = {"seconds": spec.run_limit_seconds}
    is_cloud_config = spec.user_data.startswith("#cloud-config")
    body: dict[str, Any] = {
        "name": spec.name,
        "machine_type": f"zones/{spec.zone}/machineTypes/{spec.instance_type}",
        "labels": labels,
        "disks": [
            {
                "boot": True,
                "auto_delete": True,
                # Google encrypts every disk.
                "initialize_params": {
                    "source_image": image,
                    "disk_size_gb": spec.disk_gib,
                    "disk_type": f"{zone}/diskTypes/pd-balanced",
                    "labels": labels,
                },
            }
        ],
        "network_interfaces": [card],
        "scheduling": scheduling,
        "metadata": {
            "items": [
                {
                    "key": "user-data" if is_cloud_config else "startup-script",
                    "value": spec.user_data,
                },
                {"key": "block-project-ssh-keys", "value": "true"},
            ]
        },
    }
    if network_tags := settings.network.get("network_tags"):
        body["tags"] = {"items": list(network_tags)}
    if settings.identity:
        body["service_accounts"] = [{"email": settings.identity, "scopes": [SCOPE]}]
    return body


def operation_failure(operation: Mapping[str, Any]) -> Failure | None:
    """Why an operation that is done has failed; ``None`` where it has not.

    Of several errors the one that says most decides: a quota or a lack of machines.
    """
    errors = (operation.get("error") or {}).get("errors") or ()
    status = operation.get("http_error_status_code") or None
    failures = [
        Failure.of(Cloud.GCP, str(one.get("code", "")), str(one.get("message", "")), status)
        for one in errors
    ]
    telling = [one for one in failures if one.kind in (Kind.CAPACITY, Kind.QUOTA)]
    if telling or failures:
        return (telling or failures)[0]
    if status and status >= 400:
        return Failure.of(Cloud.GCP, "", str(operation.get("http_error_message", "")), status)
    return None


def firewall_rules(
    firewall: Mapping[str, Any], project: str, network_tags: Set[str], identity: str
) -> Sequence[IngressRule]:
    """The rules of one firewall, by the names of Google's own classes; none where it is not ours.

    Args:
        network_tags: Those that our machines have.
        identity: The service account that they have.
    """
    targets = set(firewall.get("target_tags") or ())
    accounts = set(firewall.get("target_service_accounts") or ())
    is_ours = (not targets or targets & network_tags) and (not accounts or identity in accounts)
    if firewall.get("disabled") or firewall.get("direction") == "EGRESS" or not is_ours:
        return ()
    is_narrowed = firewall.get("source_tags") or firewall.get("source_service_accounts")
    sources = tuple(firewall.get("source_ranges") or (() if is_narrowed else ("0.0.0.0/0",)))
    name = str(firewall["name"])
    return [
        IngressRule(
            f"network {str(firewall['network']).rpartition('/')[2]}",
            f"firewall rule {name}",
            sources,
            str(one.get("I_p_protocol", "all")),
            tuple(port_range(port) for port in one.get("ports") or ()),
            int(firewall.get("priority", 1000)),
            allows,
            f"gcloud compute firewall-rules update {name} --disabled --project {project}",
        )
        for allows, key in ((True, "allowed"), (False, "denied"))
        for one in firewall.get(key) or ()
    ]


def removal_command(kind: LeftoverKind, name: str, place: str, project: str) -> str:
    """The command of Google's own tool that removes one thing.

    Example:
        >>> removal_command("disk", "hw-1", "us-central1-a", "p")
        'gcloud compute disks delete hw-1 --zone us-central1-a --project p --quiet'
    """
    level = "region" if kind == "address" else "zone"
    return (
        f"gcloud compute {COLLECTIONS[kind]} delete {name} --{level} {place} --project {project}"
        " --quiet"
    )


def translate(exc: Exception) -> Failure | None:
    """The exception of Google's SDK as a failure."""
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from requests import exceptions as http

    match exc:
        case api.GoogleAPICallError():
            errors = [one for one in exc.errors or () if isinstance(one, dict)]
            code = str(errors[0].get("reason", "")) if errors else str(exc.reason or "")
            status = exc.code if isinstance(exc.code, int) else None
            return Failure.of(Cloud.GCP, code, _CALL.sub("", str(exc.message)), status)
        case auth.TransportError() | http.ConnectionError() | http.Timeout() | api.RetryError():
            return Failure(Cloud.GCP, Kind.UNAVAILABLE, "", str(exc))
        case auth.GoogleAuthError():
            return Failure(Cloud.GCP, Kind.AUTHENTICATION, "", str(exc))
        case _:
            return None


def _more(project: str) -> str:
    return f"https://console.cloud.google.com/iam-admin/quotas?project={project}"


def _node(one: Mapping[str, Any]) -> Node:
    zone = str(one["zone"]).rpartition("/")[2]
    cards = one.get("network_interfaces") or [{}]
    labels = dict(one.get("labels") or {})
    model = (one.get("scheduling") or {}).get("provisioning_model", "")
    return Node(
        f"zones/{zone}/instances/{one['name']}",
        str(one["name"]),
        Cloud.GCP,
        _region(zone),
        zone,
        str(one["machine_type"]).rpartition("/")[2],
        Market.SPOT if model == "SPOT" else Market.ON_DEMAND,
        str(cards[0].get("network_i_p", "")),
        STATES.get(str(one.get("status", "")), State.PENDING),
        labels,
        _time(one),
    )


def _leftover(kind: LeftoverKind, one: Mapping[str, Any], project: str) -> Leftover:
    zone = str(one.get("zone", "")).rpartition("/")[2]
    region = str(one.get("region", "")).rpartition("/")[2] or _region(zone)
    name = str(one["name"])
    return Leftover(
        kind,
        _path(one["self_link"]),
        name,
        Cloud.GCP,
        region,
        zone,
        dict(one.get("labels") or {}),
        removal_command(kind, name, zone or region, project),
        _time(one),
        size_gib=float(one.get("size_gb") or 0),
    )


def _time(one: Mapping[str, Any]) -> datetime | None:
    said = one.get("creation_timestamp")
    return datetime.fromisoformat(said) if said else None


def _region(zone: str) -> str:
    return zone.rpartition("-")[0]


def _path(link: str) -> str:
    """A resource's address from its place on: ``zones/us-central1-a/disks/hw-1``."""
    return "/".join(link.rsplit("/", 4)[1:])


@cache
def _sdk() -> ModuleType:
    try:
        from google.cloud import compute_v1
    except ImportError as exc:
        raise MissingDependency("gcp: google-cloud-compute is not installed", hint=INSTALL) from exc
    return compute_v1


def _credentials(endpoint: str) -> tuple[Any, str]:
    """Credentials, and the project that they name."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError

    if endpoint.startswith("http://"):
        anonymous: Any = AnonymousCredentials
        return anonymous(), os.environ.get("GOOGLE_CLOUD_PROJECT", "")
    try:
        credentials, project = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as exc:
        raise AuthenticationFailed(
            "gcp: no credentials (looked in GOOGLE_APPLICATION_CREDENTIALS, in gcloud's own, and"
            " in the machine's)",
            hint=LOGINS[Cloud.GCP],
        ) from exc
    return credentials, project or ""
