"""From steps to plans: schemas after each step, stages by scope, and one plan for each stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
from polars.exceptions import PolarsError

from headwater.infra.errors import DataError, HeadwaterError, InvalidRequest, first_line
from headwater.tasks.steps.base import ROWS, Given, Scope
from headwater.tasks.steps.columns import Partition, require_kept
from headwater.tasks.steps.files import NumberedStep
from headwater.tasks.steps.join import Join
from headwater.tasks.steps.loss import lost_at, lost_values


@dataclass(frozen=True, slots=True)
class Placed:
    """A step on the columns that reach it.

    Attributes:
        result: Columns that it gives.
    """

    numbered: NumberedStep
    given: Given
    result: pl.Schema

    def apply(self, frame: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
        """The step's plan on ``frame``."""
        return self.numbered.step.apply(frame, self.given, sides)


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps that can be one plan, because they ask for the same rows.

    Attributes:
        scope: Which rows the plan has to see together.
        steps: At least one; exactly one where the scope is not ``rows``.
    """

    scope: Scope
    steps: tuple[Placed, ...]

    @property
    def schema(self) -> pl.Schema:
        """Columns that the stage gives."""
        return self.steps[-1].result

    def apply(self, frame: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
        """The stage's plan on ``frame``, which holds the rows that the scope asks for."""
        for placed in self.steps:
            frame = placed.apply(frame, sides)
        return frame

    def over(
        self, frames: Sequence[pl.LazyFrame], sides: Mapping[str, pl.LazyFrame]
    ) -> list[pl.LazyFrame]:
        """The stage's plans on ``frames``, which are all its rows: one plan where it has to see
        them together."""
        seen = frames if self.scope == ROWS else [pl.concat(frames)]
        return [self.apply(frame, sides) for frame in seen]

    def explained(
        self,
        error: BaseException,
        frames: Sequence[pl.LazyFrame],
        sides: Mapping[str, pl.LazyFrame],
        where: str,
    ) -> HeadwaterError | None:
        """Which values the step lost that made the plan fail; ``None`` for another error.

        Args:
            frames: What the plan was run on, in pieces that can be read again.
            where: Names them, in a message.
        """
        number = lost_at(error)
        for placed in self.steps:
            if placed.numbered.number == number:
                losses = placed.numbered.step.losses(placed.given)
                return lost_values(frames, losses, placed.numbered.label, where)
            frames = [placed.apply(frame, sides) for frame in frames]
        return None


@dataclass(frozen=True, slots=True)
class Compiled:
    """Steps that fit the columns they are for.

    Attributes:
        stages: In the order they run.
        schema: Columns of the result.
        partition_by: Columns that the target is partitioned by.
    """

    stages: tuple[Stage, ...]
    schema: pl.Schema
    partition_by: tuple[str, ...]

    @property
    def joins(self) -> tuple[NumberedStep, ...]:
        """The steps that join a side table."""
        steps = (placed.numbered for stage in self.stages for placed in stage.steps)
        return tuple(n for n in steps if isinstance(n.step, Join))


def compile_steps(
    steps: Sequence[NumberedStep], schema: pl.Schema, sides: Mapping[str, pl.Schema]
) -> Compiled:
    """``steps`` as stages of plans, on columns of ``schema``.

    Args:
        sides: Columns of the side tables that the joins name.
    Raises:
        UnknownName: A column is not there; the step, its line and the near ones are named.
        ScopeViolation: An expression looks across rows.
        InvalidRequest: Types do not fit, or two columns would have one name.
    """
    placed = resolve(steps, schema, sides)
    partitions = [p for p in placed if isinstance(p.numbered.step, Partition)]
    if len(partitions) > 1:
        raise InvalidRequest(
            f"{partitions[1].numbered.label}: the target is partitioned already, by"
            f" {partitions[0].numbered.label}",
            hint="name all partition columns in one step",
        )
    result = placed[-1].result if placed else schema
    partition_by: tuple[str, ...] = ()
    for one in partitions:
        partition_by = one.numbered.step.own_columns
        with _named(one.numbered):
            require_kept(partition_by, result)
    return Compiled(_stages(placed), result, partition_by)


def resolve(
    steps: Iterable[NumberedStep], schema: pl.Schema, sides: Mapping[str, pl.Schema]
) -> tuple[Placed, ...]:
    """Each step with the columns that reach it and those that it gives; raises what
    ``compile_steps`` does."""
    found = []
    for numbered in steps:
        given = Given(schema, sides, numbered.number)
        with _named(numbered):
            numbered.step.check(given)
            schema = _result(numbered, given)
        found.append(Placed(numbered, given, schema))
    return tuple(found)


def scope_of(
    steps: Iterable[NumberedStep], schema: pl.Schema, sides: Mapping[str, pl.Schema]
) -> tuple[Stage, ...]:
    """The stages that ``steps`` need, one for all neighbours that look at one row at a time."""
    return _stages(resolve(steps, schema, sides))


def require_unique_keys(steps: Iterable[NumberedStep], sides: Mapping[str, pl.LazyFrame]) -> None:
    """Returns when no join multiplies rows that must not; looks at the side tables, once.

    Raises:
        ValueLost: A side table has a key twice; the first ones are named.
    """
    for numbered in steps:
        if isinstance(numbered.step, Join):
            with _named(numbered):
                numbered.step.require_unique(sides[numbered.step.side])


def _result(numbered: NumberedStep, given: Given) -> pl.Schema:
    try:
        return numbered.step.result(given)
    except PolarsError as exc:
        said = first_line(exc)
        raise InvalidRequest(said, hint="mend the step") from exc


def _stages(placed: Iterable[Placed]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for one in placed:
        scope = one.numbered.step.scope(one.given.schema)
        if scope == ROWS and stages and stages[-1].scope == ROWS:
            stages[-1] = Stage(ROWS, (*stages[-1].steps, one))
        else:
            stages.append(Stage(scope, (one,)))
    return tuple(stages)


@contextmanager
def _named(numbered: NumberedStep) -> Iterator[None]:
    """In the block, an error says which step it is about."""
    try:
        yield
    except (InvalidRequest, DataError) as exc:
        raise type(exc)(f"{numbered.label}: {exc.message}", hint=exc.hint) from exc
