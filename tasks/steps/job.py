"""A step file as a job of a run: its text travels to the workers, which compile it there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from headwater.infra.errors import HeadwaterError
from headwater.infra.models import Scope, StepsText
from headwater.tasks.aggregates.sketches import error_bounds
from headwater.tasks.jobs import Job
from headwater.tasks.stages import explained_by
from headwater.tasks.steps.aggregate import AggregateStep
from headwater.tasks.steps.base import ROWS
from headwater.tasks.steps.compile import Compiled, Stage, compile_steps, require_unique_keys
from headwater.tasks.steps.files import StepFile, parse_steps
from headwater.tasks.steps.loss import lost_at


@dataclass(frozen=True, slots=True)
class StepsJob(Job):
    """A job that is a list of steps.

    Its ``spec`` is the file's name.

    Attributes:
        text: The steps as TOML or JSON.
        addresses: Side tables with the addresses that the joins give, where they give one.
    """

    text: str = ""
    addresses: tuple[tuple[str, str], ...] = ()

    @property
    def approximations(self) -> dict[str, str]:
        """The error bound of each column that an aggregate makes by a sketch, by its name there."""
        steps = (numbered.step for numbered in self.load().file.steps)
        plans = [step.to_engine() for step in steps if isinstance(step, AggregateStep)]
        return {name: str(bound) for plan in plans for name, bound in error_bounds(plan).items()}

    @property
    def can_spread(self) -> bool:
        """Every step can."""
        return True

    def load(self) -> StepsTransform:
        """The steps as a transform."""
        return StepsTransform(parse_steps(self.text, self.spec))

    def schema_on(self, schema: pl.Schema, sides: Mapping[str, pl.Schema]) -> pl.Schema:
        """Columns that the steps give: each step knows, without a plan."""
        return compile_steps(self.load().file.steps, schema, sides).schema

    def stages(
        self,
        schema: pl.Schema,
        sides: Mapping[str, pl.Schema],
        result: pl.Schema,  # noqa: ARG002 - each step knows what it gives
    ) -> tuple[Stage, ...]:
        """The steps as stages, one for all neighbours that look at one row at a time."""
        return compile_steps(self.load().file.steps, schema, sides).stages

    def check_sides(self, sides: Mapping[str, pl.LazyFrame]) -> None:
        """Returns when the side tables, whole, are fit to be joined.

        Raises:
            ValueLost: A join would multiply rows that must not be.
        """
        require_unique_keys(self.load().file.steps, sides)

    def explained(
        self,
        error: BaseException,
        frames: Sequence[pl.LazyFrame],
        sides: Mapping[str, pl.LazyFrame],
        where: str,
    ) -> HeadwaterError | None:
        """Which values were lost that made the job fail on ``frames``; else ``None``."""
        if not frames or lost_at(error) is None:
            return None
        compiled = self.load().compiled(frames[0], sides)
        return explained_by(compiled.stages, error, frames, sides, where)


@dataclass(frozen=True, slots=True)
class StepsTransform:
    """Steps as a function from a frame to a frame."""

    file: StepFile

    def __call__(self, frame: pl.LazyFrame, **sides: pl.LazyFrame) -> pl.LazyFrame:
        """The result of all steps on ``frame``."""
        for stage in self.compiled(frame, sides).stages:
            frame = stage.apply(frame, sides)
        return frame

    def compiled(self, frame: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> Compiled:
        """The steps on the columns of ``frame``."""
        schemas = {name: side.collect_schema() for name, side in sides.items()}
        return compile_steps(self.file.steps, frame.collect_schema(), schemas)


def steps_job(steps: StepsText) -> tuple[StepsJob, tuple[str, ...]]:
    """The job that ``steps`` are, and the columns that they partition the target by.

    Raises:
        HeadwaterError: The text is refused, as ``files.parse_steps`` says.
    """
    file = parse_steps(steps.text, steps.name)
    looks_across = any(numbered.step.scope(()) != ROWS for numbered in file.steps)
    digest = hashlib.sha256(steps.text.encode()).hexdigest()
    sides = file.sides
    addresses = tuple((name, uri) for name, uri in sides.items() if uri)
    job = StepsJob(
        steps.name,
        (),
        digest,
        tuple(sides),
        Scope.WHOLE if looks_across else Scope.ROWS,
        text=steps.text,
        addresses=addresses,
    )
    return job, file.partition_by
