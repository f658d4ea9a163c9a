"""What one policy says, as frozen values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from headwater.infra.errors import InvalidUri
from headwater.infra.models import Cloud
from headwater.infra.storage.uris import Uri

POLICY_VERSION = 1
"""Format of the files; newer ones are refused by name."""


class Spot(StrEnum):
    """What is said of machines that their cloud may take back."""

    ALLOW = "allow"
    REQUIRE = "require"
    FORBID = "forbid"


class Frozen(BaseModel):
    """A value from outside: unknown keys are refused, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: object) -> object:
    """One name as a list of one."""
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed)]
"""One name or a list of them."""


def require_prefix(prefix: str) -> str:
    """``prefix``, if it is the address of a bucket or of a folder in one.

    A pattern is refused: as a prefix it would be a folder of that name, and so hold for nothing.

    Raises:
        ValueError: It is not.
    """
    try:
        uri = Uri.parse(prefix)
    except InvalidUri as exc:
        raise ValueError(f"{exc.message}; {exc.hint}") from exc
    if uri.is_local:
        raise ValueError(f"'{prefix}' is on one machine, and no bucket")
    if uri.glob_root is not None or set("*?[") & set(uri.bucket):
        raise ValueError(f"'{prefix}' is a pattern; a prefix holds for all that is below it")
    return prefix


class Limits(Frozen):
    """The ``[limits]`` table; what is not said is not limited."""

    usd_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Price of all machines together."
    )
    usd_per_run: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="All that one run costs, by its plan."
    )
    egress_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="What bytes that leave a region may cost in one run; 0 keeps them there.",
    )
    gpus: int | None = Field(default=None, ge=0, description="GPUs of all machines together.")


class Residency(Frozen):
    """One ``[[residency]]`` table: where data of a prefix may be.

    It holds for what computes on the data, and for the output, spill, checkpoints and logs of
    such a run. Of several inputs only the regions that all of them allow remain.
    """

    name: str = Field(default="", description="What a denial cites; by default the prefix.")
    prefix: str = Field(description="Address of a bucket, or of a folder in one.")
    regions: Names = Field(
        min_length=1,
        description="Names of regions; '*' stands for any text, and 'here' for the machine that"
        " plans, which else is none of them.",
    )

    @field_validator("prefix")
    @classmethod
    def _is_in_a_bucket(cls, prefix: str) -> str:
        return require_prefix(prefix)


class Allowed(Frozen):
    """What a policy and a cluster profile may both say; what is not said is allowed."""

    clouds: Annotated[tuple[Cloud, ...], BeforeValidator(_listed)] | None = Field(
        default=None, min_length=1, description="Clouds that may be used."
    )
    regions: Names | None = Field(
        default=None,
        min_length=1,
        description="Regions that may be used, of whichever cloud; '*' stands for any text.",
    )
    instance_families: Names | None = Field(
        default=None,
        min_length=1,
        description="Families of machines: 'g6' (not g6e), 'a2-highgpu', 'Standard_NC*'.",
    )
    spot: Spot = Field(
        default=Spot.ALLOW,
        description="'allow' takes what is cheapest, 'require' only spot, 'forbid' none.",
    )
    max_price_age_days: float | None = Field(
        default=None, ge=0, description="Older prices are refused."
    )
    limits: Limits = Limits()


class Policy(Allowed):
    """One validated policy, and where it came from."""

    version: int = POLICY_VERSION
    name: str = Field(default="", description="What a denial cites; by default the file's name.")
    description: str = ""
    residency: tuple[Residency, ...] = ()
    source: str = Field(default="", description="File that it was read from.")
    kind: str = Field(default="policy", description="What messages call it.")
    origins: dict[str, str] = Field(
        default_factory=dict, description="Files of values that came from others, by their keys."
    )

    @property
    def label(self) -> str:
        """What messages call it, with its name."""
        return f"{self.kind} '{self.name}'" if self.name else f"a {self.kind}"

    def source_of(self, key: str) -> str:
        """File that says what is under the dotted ``key``."""
        return self.origins.get(key, self.source)
