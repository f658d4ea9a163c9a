"""What launchers take and give: frozen values, and the protocol that each cloud's file follows.

A launcher is for one account of one cloud. Whatever it makes carries Headwater's tags, so that it
is found again by them alone, from any machine and without any record of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from headwater.infra.launchers.network import IngressRule
from headwater.infra.models import Cloud, Market
from headwater.infra.profiles import ClusterProfile

DISK_GIB = 100
"""Of a machine, where nothing is said: an image with a driver and a container takes about 40."""

Role = Literal["scheduler", "worker"]

LeftoverKind = Literal["instance", "disk", "network card", "address"]


class State(StrEnum):
    """How far a node is."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    """On its way out; it may still be billed."""
    STOPPED = "stopped"
    """Switched off but there: its disk is billed, and on Azure the machine too."""
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One machine to be made.

    Attributes:
        name: Unique for all time: of a name that is used again, a cloud may give back the dead one.
        region: As its cloud calls it.
        zone: Empty leaves it to the cloud, where that may choose.
        user_data: What the machine does at boot; see ``require_user_data``.
        tags: Of the machine, its disk, its network card and its address; see ``require_tags``.
        image: Takes the place of the profile's.
        disk_gib: Of its one disk.
        run_limit_seconds: After so long the cloud itself deletes it, where it can (GCP); elsewhere
            the machine has to end itself. 0 is no limit.
    """

    name: str
    role: Role
    cloud: Cloud
    region: str
    instance_type: str
    market: Market
    user_data: str
    tags: Mapping[str, str]
    zone: str = ""
    image: str = ""
    disk_gib: int = DISK_GIB
    run_limit_seconds: int = 0

    @property
    def token(self) -> str:
        """The same for the same machine in the same place, however often it is asked for.

        The place is part of it: clouds refuse a token that comes again with another request.
        """
        place = (self.name, self.cloud, self.region, self.zone, self.instance_type, self.market)
        return hashlib.sha256("\0".join(place).encode()).hexdigest()[:32]

    @property
    def place(self) -> str:
        """Where, as a person reads it."""
        return f"{self.cloud} {self.zone or self.region}"

    def elsewhere(
        self, *, region: str, zone: str = "", instance_type: str = "", market: Market | None = None
    ) -> NodeSpec:
        """The same machine in another place, or of another type."""
        return replace(
            self,
            region=region,
            zone=zone,
            instance_type=instance_type or self.instance_type,
            market=market or self.market,
        )


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that we hold.

    Attributes:
        id: What its cloud knows it by.
        zone: Empty where its cloud does not say.
        private_address: Empty until it has one; it never has a public one.
        created: When its cloud says; ``None`` where it does not.
    """

    id: str
    name: str
    cloud: Cloud
    region: str
    zone: str
    instance_type: str
    market: Market
    private_address: str
    state: State
    tags: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None

    @property
    def place(self) -> str:
        """Where, as a person reads it."""
        return f"{self.cloud} {self.zone or self.region}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something of ours that a cloud still holds.

    Attributes:
        command: The command of the cloud's own tool that removes it.
        node: The machine, where it is one.
        size_gib: Of a disk.
    """

    kind: LeftoverKind
    id: str
    name: str
    cloud: Cloud
    region: str
    zone: str
    tags: Mapping[str, str]
    command: str
    created: datetime | None = None
    node: Node | None = None
    size_gib: float = 0.0

    @property
    def place(self) -> str:
        """Where, as a person reads it."""
        return f"{self.cloud} {self.zone or self.region}"


@dataclass(frozen=True, slots=True)
class Unseen:
    """A part of a cloud that could not be looked at, and why."""

    place: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one account of a cloud holds of ours.

    Attributes:
        leftovers: Machines, and what outlived its machine; a disk that goes with a living machine
            is not listed beside it.
        unseen: Where nobody could look; what is there is not in ``leftovers``.
    """

    leftovers: tuple[Leftover, ...]
    unseen: tuple[Unseen, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The machines alone."""
        return tuple(one.node for one in self.leftovers if one.node is not None)


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What a cluster profile says of one cloud's machines.

    Attributes:
        network: Names in the profile's ``[network.CLOUD]`` table, by their key there.
        origins: File of each value of the profile, by its dotted key.
    """

    profile: str
    cloud: Cloud
    network: Mapping[str, tuple[str, ...]]
    image: str
    identity: str
    tags: Mapping[str, str]
    source: str = ""
    origins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, profile: ClusterProfile, cloud: Cloud) -> LaunchSettings:
        """What ``profile`` says of ``cloud``."""
        said = getattr(profile.network, cloud).model_dump(exclude={"storage_endpoint"})
        network = {
            key: (value,) if isinstance(value, str) and value else tuple(value)
            for key, value in said.items()
        }
        return cls(
            profile.name,
            cloud,
            network,
            getattr(profile.image, cloud),
            getattr(profile.identity, cloud),
            profile.tags,
            profile.source,
            profile.origins,
        )

    def named(self, key: str) -> str:
        """The one name that ``[network.CLOUD]`` gives for ``key``, or an empty text."""
        return next(iter(self.network.get(key, ())), "")

    def line(self, key: str) -> str:
        """The setting ``key``, with the file that says it, for the message of an error."""
        of = f"of cluster profile '{self.profile}'" if self.profile else "of the cluster profile"
        said = self.origins.get(key) or self.source
        return f"{key} {of}" + (f" ({said})" if said and said != self.profile else "")


class Launcher(Protocol):
    """One account of one cloud; see the module's first lines. A context manager: it closes."""

    @property
    def cloud(self) -> Cloud:
        """Whose machines these are."""
        ...

    def create(self, spec: NodeSpec) -> Node:
        """The machine of ``spec``, made now or by an earlier call with the same one.

        Returns when the cloud has granted it, which may be before it runs. A call that fails
        leaves nothing that its cloud has told of.

        Raises:
            NoCapacity: Another place may have what this one has not.
            QuotaExceeded: Another region may; the hint says how to ask for more.
            AuthenticationFailed: The credentials do not do.
            InvalidLaunch: The request is wrong; the message names the profile's line.
            Throttled, CloudUnavailable: It was tried for as long as is waited.
        """
        ...

    def describe(self, node: Node) -> Node:
        """``node`` as it is now; one that its cloud does not know any more is ``State.GONE``."""
        ...

    def list(self, tags: Mapping[str, str], *, region: str = "") -> Inventory:
        """What carries all of ``tags``; with none, all that is Headwater's.

        Args:
            region: Look there alone; empty is wherever this launcher looks.
        """
        ...

    def destroy(self, leftovers: Iterable[Leftover]) -> None:
        """Remove them, and return when they are gone; what is gone already is no error.

        Raises:
            LeftBehind: Some are still there; the message tells which, the hint how to remove them.
        """
        ...

    def leftover(self, node: Node) -> Leftover:
        """``node`` as something to be removed."""
        ...

    def zones(self, region: str) -> tuple[str, ...]:
        """The zones of ``region`` in which this profile's machines can be; empty where none is
        named there."""
        ...

    def ingress_rules(self, region: str) -> tuple[IngressRule, ...]:
        """The rules that let somebody reach the machines of this profile in ``region``.

        Args:
            region: Empty is wherever this launcher looks.
        Raises:
            InvalidLaunch: The profile names no network, or one that is not there.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
