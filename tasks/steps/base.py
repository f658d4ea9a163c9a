"""What every step of a job has: a kind, a scope, checks by name and type, and a plan.

A step is a frozen pydantic model, so that one JSON schema describes it to a form and to a TOML
file. It knows nothing of parts or workers: it turns a plan into a plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.tasks.steps.loss import Loss

ScopeKind = Literal["rows", "key", "whole"]

OnLoss = Literal["refuse", "null"]
"""What becomes of a value that does not survive a step: the run stops, or the value is null."""

Names = Annotated[tuple[str, ...], Field(min_length=1)]
"""Columns, at least one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a step has to see together.

    Attributes:
        kind: ``rows``: one at a time. ``key``: all of one key. ``whole``: all of them.
        keys: The key's columns, for ``key`` alone.
    """

    kind: ScopeKind
    keys: tuple[str, ...] = ()


ROWS = Scope("rows")
WHOLE = Scope("whole")


@dataclass(frozen=True, slots=True)
class Given:
    """What a step works on.

    Attributes:
        schema: Columns that reach the step.
        sides: Columns of the side tables.
        number: Of the step, from 1; it marks the plan's own failures.
    """

    schema: pl.Schema
    sides: Mapping[str, pl.Schema] = field(default_factory=dict)
    number: int = 1


class Step(BaseModel, ABC):
    """One entry of a step file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    SCOPE: ClassVar[str] = "rows"
    """The step's scope in one word, for lists."""

    name: str = ""
    """What messages and plans call the step, beside its number."""

    def scope(self, columns: Iterable[str]) -> Scope:  # noqa: ARG002 - some steps use them
        """Which rows the step has to see together.

        Args:
            columns: Names that reach the step.
        """
        return ROWS

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns of the input that the step's keys name; they must exist."""
        return ()

    def check(self, given: Given) -> None:
        """Refuse what cannot work on these columns.

        Raises:
            InvalidRequest: A column is missing, has the wrong type or would be there twice.
        """
        require_columns(given.schema, self.own_columns)

    def result(self, given: Given) -> pl.Schema:
        """Columns that the step gives, once ``check`` has passed.

        Raises:
            PolarsError: The types do not fit.
        """
        frame = pl.DataFrame(schema=given.schema).lazy()
        sides = {name: pl.DataFrame(schema=side).lazy() for name, side in given.sides.items()}
        # Some types are only checked where rows would be, even when there is none.
        return self.apply(frame, given, sides).collect().schema

    @abstractmethod
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        """The step's result as a plan on ``frame``, whose rows are all that its scope asks for."""

    def losses(self, given: Given) -> tuple[Loss, ...]:  # noqa: ARG002 - few steps lose values
        """Which values the step would lose, as conditions on its input."""
        return ()


def require_columns(schema: Mapping[str, object], names: Iterable[str], where: str = "") -> None:
    """Returns when every name is a column, and none is given twice.

    Raises:
        UnknownName: A column is not there; the near ones are listed.
        InvalidRequest: A name is given twice.
    """
    seen: set[str] = set()
    for name in names:
        if name not in schema:
            raise UnknownName.of("column", name, schema, where=where)
        if name in seen:
            raise InvalidRequest(f"column '{name}' is named twice", hint="name it once")
        seen.add(name)


def require_new(
    schema: Mapping[str, object], names: Iterable[str], *, overwrite: bool | None = None
) -> None:
    """Returns when no name is taken by a column of ``schema``, and none comes twice.

    Args:
        overwrite: Whether a taken name is meant to be overwritten; ``None`` where the step cannot.
    Raises:
        InvalidRequest: Two columns would have one name.
    """
    seen: set[str] = set()
    for name in names:
        if not name:
            raise InvalidRequest("a column would have an empty name", hint="give it a name")
        if name in seen or (name in schema and not overwrite):
            hint = "choose another name, or drop the column first"
            if overwrite is not None:
                hint = "choose another name, or set overwrite = true"
            raise InvalidRequest(f"there would be two columns '{name}'", hint=hint)
        seen.add(name)


def require_type(
    schema: pl.Schema, names: Iterable[str], allowed: tuple[type[pl.DataType], ...], hint: str
) -> None:
    """Returns when each column has one of the allowed types.

    Raises:
        InvalidRequest: One has not.
    """
    for name in names:
        if not isinstance(schema[name], allowed):
            said = " or ".join(t.__name__ for t in allowed)
            raise InvalidRequest(
                f"column '{name}' is {schema[name]}, where {said} is needed", hint=hint
            )
