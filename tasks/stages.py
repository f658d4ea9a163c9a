"""Stages of a job: what can be one plan, because it asks for the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from headwater.infra.errors import HeadwaterError
from headwater.tasks.aggregates.plan import AggregatePlan
from headwater.tasks.steps.base import Scope


class RowOrder(Protocol):
    """An order of rows."""

    @property
    def order_by(self) -> tuple[str, ...]:
        """The columns that make it."""
        ...

    def in_order(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """The rows in that order, and equal ones in the order of their other columns.

        Args:
            schema: Columns of the frame, which are at least those of ``order_by``.
        """
        ...


class JobStage(Protocol):
    """A plan that is right once the rows that its scope asks for are together."""

    @property
    def scope(self) -> Scope:
        """Which rows it has to see together."""
        ...

    @property
    def schema(self) -> pl.Schema:
        """Columns that it gives."""
        ...

    @property
    def aggregates(self) -> AggregatePlan | None:
        """What it is, where it is an aggregate: then states are brought together, not rows."""
        ...

    @property
    def sorts(self) -> RowOrder | None:
        """The order of its result, where that is all it makes."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether to apply it to pieces first, and then to what is left of all, changes nothing."""
        ...

    def apply(self, frame: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
        """Its plan on ``frame``, which holds the rows that the scope asks for."""
        ...

    def explained(
        self,
        error: BaseException,
        frames: Sequence[pl.LazyFrame],
        sides: Mapping[str, pl.LazyFrame],
        where: str,
    ) -> HeadwaterError | None:
        """What it knows of why it failed on ``frames``; ``None`` for another's error."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionStage:
    """A function of the user's, as the only stage of its job."""

    scope: Scope
    schema: pl.Schema
    load: Callable[[], Callable[..., pl.LazyFrame]]

    aggregates: None = None
    sorts: None = None
    is_repeatable: bool = False

    def apply(self, frame: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
        """The function's plan."""
        return self.load()(frame, **sides)

    def explained(
        self,
        error: BaseException,  # noqa: ARG002 - the protocol's
        frames: Sequence[pl.LazyFrame],  # noqa: ARG002
        sides: Mapping[str, pl.LazyFrame],  # noqa: ARG002
        where: str,  # noqa: ARG002
    ) -> None:
        """A function knows nothing of its errors."""
        return


def explained_by(
    stages: Sequence[JobStage],
    error: BaseException,
    frames: Sequence[pl.LazyFrame],
    sides: Mapping[str, pl.LazyFrame],
    where: str,
) -> HeadwaterError | None:
    """What the stages know of why they failed on ``frames``, one after the other.

    Args:
        frames: What the first one got, in pieces that can be read again.
        where: Names them, in a message.
    """
    for stage in stages:
        if (found := stage.explained(error, frames, sides, where)) is not None:
            return found
        if stage.scope.kind != "rows":
            frames = [pl.concat(frames)] if frames else []
        frames = [stage.apply(frame, sides) for frame in frames]
    return None
