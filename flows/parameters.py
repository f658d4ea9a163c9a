"""Parameters of the flows: the models behind the command's options and Prefect's forms."""

# No ``from __future__ import annotations`` here: Prefect resolves the types when a flow is run.

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import JobRequest, Mode


class EtlParameters(BaseModel):
    """What one `etl` run reads, does and writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: list[str] = Field(
        min_length=1,
        description="Inputs: files, folders, globs or tables, as s3://, gs://, abfss://, file://"
        " or plain paths. All of one format and one schema.",
        examples=[["s3://lake/trips/2024/"]],
    )
    target: str = Field(
        min_length=1,
        description="The dataset that is written: a folder of its own, made if it is not there.",
        examples=["s3://lake/clean/trips"],
    )
    job: str | None = Field(
        default=None,
        description="MODULE:FUNCTION that takes and gives a polars.LazyFrame and looks at one row"
        " at a time. Empty copies the rows as they are.",
        examples=["jobs.trips:clean"],
    )
    sides: dict[str, str] = Field(
        default_factory=dict,
        description="Small tables that the job joins: name of the job's parameter -> address.",
        examples=[{"airports": "s3://lake/airports.csv"}],
    )
    partition_by: list[str] = Field(
        default_factory=list, description="Columns that the target is partitioned by."
    )
    mode: Mode = Field(
        default=Mode.OVERWRITE,
        description="overwrite: the new rows take the place of all rows. append: they are added."
        " replace: they take the place of the partitions that they have.",
    )
    profile: str = Field(default="local", description="Cluster profile: where the work runs.")
    fresh: bool = Field(
        default=False, description="Do every part anew, also those an earlier attempt finished."
    )
    again: bool = Field(
        default=False, description="Commit once more what this very request committed before."
    )

    def to_request(self) -> JobRequest:
        """The same as a frozen value for the layers below."""
        return JobRequest(
            sources=tuple(self.sources),
            target=self.target,
            job=self.job or None,
            sides=tuple(sorted(self.sides.items())),
            partition_by=tuple(self.partition_by),
            mode=self.mode,
            fresh=self.fresh,
            again=self.again,
        )


def invalid(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong with parameters, by the name of its field."""
    first = error.errors()[0]
    name = ".".join(str(step) for step in first["loc"])
    return InvalidRequest(f"{name}: {first['msg']}", hint=f"correct the value of {name}")
