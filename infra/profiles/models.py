"""What a cluster profile may say, as frozen values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from headwater.infra.models import Cloud
from headwater.infra.policies import Allowed, Frozen, Names, Policy, require_prefix
from headwater.infra.regions import HERE, cloud_of, require_one_cloud
from headwater.infra.storage.uris import Uri

PROFILE_VERSION = 1
"""Format of the files; newer ones are refused by name."""

ASK = "ask"
"""Location of a store that speaks for its cloud at another address than the cloud's own."""


class ClusterSettings(Frozen):
    """The ``[cluster]`` table."""

    launcher: Literal["local", "cloud"] = Field(
        default="local",
        description="What starts the cluster; 'local' is this machine, 'cloud' the place that a"
        " plan ranks first.",
    )
    processes: bool = Field(
        default=False,
        description="Workers are processes of their own. In process nothing has to start, and"
        " Polars uses all cores either way; processes keep the driver alive when a job crashes.",
    )
    workers: int = Field(
        default=0, ge=0, le=256, description="Worker processes; 0 chooses from the cores."
    )
    threads_per_worker: int = Field(
        default=0, ge=0, le=256, description="Parts that a worker has under way; 0 chooses."
    )
    memory_gib_per_worker: float = Field(
        default=0, ge=0, description="Memory of one worker; 0 shares this machine's memory."
    )
    process_memory_gib: float = Field(
        default=0,
        ge=0,
        description="In process: memory of the whole process at which a run is stopped, before"
        " the machine has none left; 0 is nine tenths of this machine's.",
    )
    gpu: Literal["auto", "never", "require"] = Field(
        default="auto",
        description="'auto' uses GPUs that pass the probe; 'require' fails where none does.",
    )
    gpu_fallback: Literal["allow", "refuse"] = Field(
        default="allow",
        description="What happens to a plan that the GPU engine cannot run: 'allow' runs it on"
        " the CPU and counts it, 'refuse' stops the run.",
    )


class GpuNeed(Frozen):
    """The ``[gpu]`` table: what the work needs in a cloud; nothing said needs none."""

    name: Names = Field(default=(), description="Models that will do: 'L4' or ['L4', 'A10G'].")
    count: int = Field(default=0, ge=0, le=4096, description="GPUs of all machines together.")
    memory_gib: float = Field(
        default=0, ge=0, description="Memory that each must have, as it reports it."
    )


class AwsNetwork(Frozen):
    """The ``[network.aws]`` table: names and ids of what is there already."""

    vpc: str = ""
    subnets: Names = ()
    security_groups: Names = ()
    storage_endpoint: bool | None = Field(
        default=None,
        description="Whether S3 is reached through a gateway endpoint. Without one each byte"
        " passes the NAT, which bills for it.",
    )


class GcpNetwork(Frozen):
    """The ``[network.gcp]`` table."""

    project: str = ""
    network: str = ""
    subnetwork: str = ""
    network_tags: Names = ()
    storage_endpoint: bool | None = Field(
        default=None, description="Whether the subnetwork has Private Google Access."
    )


class AzureNetwork(Frozen):
    """The ``[network.azure]`` table."""

    subscription: str = ""
    resource_group: str = ""
    virtual_network: str = ""
    subnet: str = ""
    security_group: str = ""
    storage_endpoint: bool | None = Field(
        default=None, description="Whether the subnet has a service or private endpoint to storage."
    )


class Network(Frozen):
    """The ``[network]`` tables, one for each cloud."""

    aws: AwsNetwork = AwsNetwork()
    gcp: GcpNetwork = GcpNetwork()
    azure: AzureNetwork = AzureNetwork()


class Identity(Frozen):
    """The ``[identity]`` table: who the machines are. Names only; the cloud hands out the rest."""

    aws: str = Field(default="", description="Name of an instance profile.")
    gcp: str = Field(default="", description="Address of a service account.")
    azure: str = Field(default="", description="Name or id of a user-assigned managed identity.")


class Image(Frozen):
    """The ``[image]`` table: what the machines boot, and the container that they run."""

    aws: str = Field(default="", description="Id of an AMI.")
    gcp: str = Field(default="", description="Name of an image or of a family of images.")
    azure: str = Field(default="", description="URN or id of an image.")
    container: str = Field(default="", description="Container that the workers run in.")


class DeclaredLocation(Frozen):
    """One ``[[locations]]`` table: where the bytes below a prefix are.

    It is taken as it is, and no cloud is asked. Of several prefixes the longest decides.
    """

    prefix: str = Field(description="Address of a bucket, of a folder in one, or a whole scheme.")
    location: Names = Field(
        min_length=1,
        description=f"Name of a region, or of all regions of one bucket; '{HERE}' for a store in"
        f" this machine's network; '{ASK}' where an endpoint that is not the cloud's own may be"
        " asked, and its answer is true.",
    )

    @field_validator("prefix")
    @classmethod
    def _is_an_address(cls, prefix: str) -> str:
        require_prefix(f"{prefix}any" if _scheme_of(prefix) else prefix)
        return prefix

    @field_validator("location")
    @classmethod
    def _is_one_kind(cls, location: tuple[str, ...]) -> tuple[str, ...]:
        named = tuple(name.lower() for name in location)
        if len(named) > 1 and {HERE, ASK} & set(named):
            raise ValueError(f"'{HERE}' and '{ASK}' stand alone")
        return named

    @property
    def cloud(self) -> Cloud | None:
        """The cloud of its regions; ``None`` where it names none."""
        return cloud_of(self.location[0])

    @property
    def regions(self) -> frozenset[str]:
        """Its regions; empty where it names none."""
        return frozenset() if self.cloud is None else frozenset(self.location)

    def require_regions(self) -> None:
        """Refuse regions that do not exist, or are of several clouds.

        Raises:
            UnknownName: No cloud has such a region; the near ones are listed.
            InvalidRequest: They are regions of several clouds.
        """
        if self.location not in ((HERE,), (ASK,)):
            require_one_cloud(self.location, where=f"the location of {self.prefix}")

    def holds(self, uri: Uri) -> bool:
        """Whether ``uri`` is below its prefix."""
        if scheme := _scheme_of(self.prefix):
            return Uri.parse(f"{scheme}://any").scheme is uri.scheme
        return Uri.parse(self.prefix).contains(uri)


class ClusterProfile(Allowed):
    """One validated profile, and where it and each of its values came from.

    Attributes:
        origins: File of each value that is not a default, by its dotted key.
    """

    version: int = PROFILE_VERSION
    description: str = ""
    extends: str = Field(
        default="", description="Profile whose values hold where this one says nothing."
    )
    cluster: ClusterSettings = ClusterSettings()
    gpu: GpuNeed = GpuNeed()
    network: Network = Network()
    identity: Identity = Identity()
    image: Image = Image()
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of all that is started, for those who pay for it."
    )
    locations: tuple[DeclaredLocation, ...] = ()
    name: str = ""
    source: str = ""
    origins: dict[str, str] = Field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """What it allows, to be combined with the policies that hold."""
        said = {key: getattr(self, key) for key in Allowed.model_fields}
        return Policy(
            name=self.name,
            kind="cluster profile",
            source=self.source,
            origins=self.origins,
            **said,
        )


def _scheme_of(prefix: str) -> str:
    """The scheme of a prefix that names nothing else; empty where it names more."""
    scheme, separator, rest = prefix.partition("://")
    return scheme if separator and not rest else ""
