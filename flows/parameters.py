"""Parameters of the flows: the models behind the command's options and Prefect's forms."""

# No ``from __future__ import annotations`` here: Prefect resolves the types when a flow is run.

from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import (
    MAX_EXPANSION,
    BadRows,
    Drift,
    Format,
    JobRequest,
    Mode,
    ReadOptions,
    StepsText,
)


class _StepsForm:
    """What a form shows for a list of steps: the models of all kinds.

    They import Polars, so only a form does: the command spawns Prefect's server before that.
    """

    def __get_pydantic_json_schema__(
        self, _: object, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        from headwater.tasks.steps.catalog import AnyStep

        return handler(TypeAdapter(list[AnyStep]).core_schema)


class ThenParameters(BaseModel):
    """One more table, made from the one that the run has just committed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str = Field(
        min_length=1,
        description="The dataset that is written: a folder of its own.",
        examples=["s3://lake/clean/trips-daily"],
    )
    job: str | None = Field(default=None, description="MODULE:FUNCTION, as for the first table.")
    steps_file: Path | None = Field(
        default=None, description="TOML file of steps, instead of a function."
    )
    sides: dict[str, str] = Field(
        default_factory=dict, description="Small tables that the job joins: name -> address."
    )
    partition_by: list[str] = Field(
        default_factory=list, description="Columns that this table is partitioned by."
    )


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
    steps: Annotated[list[dict[str, Any]], _StepsForm()] = Field(
        default_factory=list, description="The job as a list of steps, instead of a function."
    )
    steps_file: Path | None = Field(
        default=None,
        description="TOML file of steps, instead of a list; it is read where the run starts.",
        examples=["jobs/trips.toml"],
    )
    sides: dict[str, str] = Field(
        default_factory=dict,
        description="Small tables that the job joins: name of the job's parameter, or of the steps'"
        " side -> address.",
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
    format: Literal["delta", "parquet"] = Field(
        default="delta",
        description="delta: a table with versions. parquet: plain files in a new folder, hive"
        " folders where it is partitioned, _SUCCESS last; never overwritten.",
    )
    drift: Drift = Field(
        default=Drift.WIDEN,
        description="Where files differ, or appended rows from their table. widen: read them as"
        " one schema that holds the values of all exactly (columns renamed by case, integers"
        " widened, missing columns null). strict: refuse with a diff of the columns.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="A given schema instead: name of a column -> type. Columns are cast exactly or"
        " refused; those that are not named are left out.",
        examples=[{"fare": "Decimal(12, 2)", "day": "Date"}],
    )
    bad_rows: BadRows = Field(
        default=BadRows.REFUSE,
        description="Rows of CSV and JSON lines that cannot be read. refuse: name the first one and"
        " start nothing. skip: leave them out and count them. aside: also keep them in a file"
        " beside the target's versions.",
    )
    encoding: str = Field(
        default="utf-8",
        description="Encoding of text files.",
        examples=["utf-8", "utf-16", "cp1252"],
    )
    delimiter: str = Field(
        default="",
        max_length=1,
        description="Between the fields of CSV. Empty takes the first of , ; tab | that the header"
        " has.",
    )
    max_expansion: int = Field(
        default=MAX_EXPANSION,
        ge=1,
        description="How many times its size a file may unpack to, above some tens of megabytes.",
    )
    gather: str | None = Field(
        default=None,
        min_length=1,
        description="Folder that inputs are copied to before they are read, those that lie in"
        " another store or bucket. Every byte is checked, and what has not changed is copied once."
        " Empty reads them where they are.",
        examples=["s3://lake/gathered"],
    )
    profile: str = Field(default="local", description="Cluster profile: where the work runs.")
    fresh: bool = Field(
        default=False, description="Do every part anew, also those an earlier attempt finished."
    )
    again: bool = Field(
        default=False, description="Commit once more what this very request committed before."
    )

    then: list[ThenParameters] = Field(
        default_factory=list,
        description="More tables, each made from the version that this run commits to the target,"
        " on the same cluster and in the same receipt.",
    )

    def to_follow_ups(self) -> tuple[JobRequest, ...]:
        """The tables made from the first one; their sources are known when that is committed.

        Raises:
            HeadwaterError: The steps are refused.
        """
        return tuple(
            JobRequest(
                sources=(self.target,),
                target=table.target,
                job=table.job or None,
                sides=tuple(sorted(table.sides.items())),
                partition_by=tuple(table.partition_by),
                fresh=self.fresh,
                again=self.again,
                steps=_steps_of(table.steps_file) if table.steps_file else None,
                read=ReadOptions(drift=self.drift, max_expansion=self.max_expansion),
            )
            for table in self.then
        )

    def to_request(self) -> JobRequest:
        """The same as a frozen value for the layers below.

        Raises:
            HeadwaterError: The steps are refused.
        """
        return JobRequest(
            sources=tuple(self.sources),
            target=self.target,
            job=self.job or None,
            sides=tuple(sorted(self.sides.items())),
            partition_by=tuple(self.partition_by),
            mode=self.mode,
            fresh=self.fresh,
            again=self.again,
            steps=self._steps_text(),
            format=Format(self.format),
            read=self._read_options(),
            gather=self.gather,
        )

    def _read_options(self) -> ReadOptions:
        columns: tuple[tuple[str, str], ...] = ()
        if self.columns:
            from headwater.infra.storage.dtypes import columns_of

            columns = columns_of(self.columns, "the given schema")
        return ReadOptions(
            self.drift,
            columns,
            self.bad_rows,
            self.encoding,
            self.delimiter,
            self.max_expansion,
        )

    def _steps_text(self) -> StepsText | None:
        if not self.steps and self.steps_file is None:
            return None
        from headwater.tasks.steps.files import written_steps

        if self.steps_file is None:
            return StepsText("steps", written_steps(self.steps))
        if self.steps:
            raise InvalidRequest(
                f"both steps and a file of steps ({self.steps_file}) are given",
                hint="give one of the two",
            )
        return _steps_of(self.steps_file)


def _steps_of(path: Path) -> StepsText:
    from headwater.tasks.steps.files import load_steps

    file = load_steps(path)
    return StepsText(file.name, file.text)


class DriftParameters(TypedDict, total=False):
    """The two fields that say what happens where files differ."""

    drift: Drift
    columns: dict[str, str]


def drift_parameters(text: str) -> DriftParameters:
    """What ``--drift`` says: a policy, or a schema as text or as the name of a file.

    Raises:
        HeadwaterError: It is neither.
    """
    if text in [policy.value for policy in Drift]:
        return {"drift": Drift(text)}
    if ":" not in text and Path(text).suffix.lower() not in (".toml", ".json"):
        raise InvalidRequest(
            f"--drift {text} is no policy and no schema",
            hint="write strict, widen, a schema such as 'fare: Float64, day: Date', or the name of"
            " a .toml or .json file of it",
        )
    from headwater.infra.storage.dtypes import written_columns

    return {"columns": dict(written_columns(text))}


def read_options(
    drift: str, bad_rows: BadRows, encoding: str, delimiter: str, max_expansion: int
) -> ReadOptions:
    """How the options of a command say that files are read.

    Raises:
        HeadwaterError: ``drift`` is no policy and no schema.
    """
    said = drift_parameters(drift)
    return ReadOptions(
        said.get("drift", Drift.WIDEN),
        tuple(said.get("columns", {}).items()),
        bad_rows,
        encoding,
        delimiter_of(delimiter),
        max_expansion,
    )


def delimiter_of(text: str) -> str:
    """A delimiter as a shell's user writes it: ``\\t`` is a tab."""
    return "\t" if text == "\\t" else text


def invalid(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong with parameters, by the name of its field."""
    first = error.errors()[0]
    name = ".".join(str(step) for step in first["loc"])
    return InvalidRequest(f"{name}: {first['msg']}", hint=f"correct the value of {name}")
