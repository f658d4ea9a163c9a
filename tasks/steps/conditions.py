"""Steps written as SQL expressions: filter and derive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.tasks.steps.base import Given, Step, require_new
from headwater.tasks.steps.expressions import expression, read_sql


def condition(text: str, schema: pl.Schema) -> pl.Expr:
    """The SQL condition that ``text`` is on columns of ``schema``: one row, true, false or null.

    Raises:
        UnknownName: It names a column that is not there.
        ScopeViolation: It looks at more than one row.
        InvalidRequest: It is no expression, or none that is true or false.
    """
    found = expression(text, schema)
    if not isinstance(found.dtype, pl.Boolean):
        raise InvalidRequest(
            f"the condition '{text}' is {found.dtype}, not Boolean",
            hint="compare it with something",
        )
    return found.expr


class Filter(Step):
    """Keep the rows for which a condition holds.

    The condition is an SQL expression over one row; a row for which it is null is left out, as in
    SQL. What an expression can say, and where it means something else than in other databases,
    stands in "Expressions".

    Example:
        in:
            carrier  delay:Int64
            UA       75
            AA       -3
            UA       null
            B6       90
        steps:
            kind = "filter"
            where = "delay > 60 AND carrier IN ('UA', 'AA')"
        out:
            carrier  delay:Int64
            UA       75
    """

    kind: Literal["filter"]
    where: str
    """SQL expression; rows for which it is true stay."""

    @override
    def check(self, given: Given) -> None:
        condition(self.where, given.schema)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.filter(read_sql(self.where))


class Derive(Step):
    """Add columns that are computed from their row.

    Each is an SQL expression over the columns that reach the step; none sees another one of the
    same step. A name that is there already is refused, unless `overwrite = true`. Integers wrap
    around where they overflow: cast them to Float64 or a Decimal first where they might.

    Example:
        in:
            dep_delay:Int64  arr_delay:Int64
            2                11
            90               null
        steps:
            kind = "derive"
            [steps.columns]
            made_up = "dep_delay - arr_delay"
            late = "COALESCE(dep_delay, 0) >= 15"
        out:
            dep_delay:Int64  arr_delay:Int64  made_up:Int64  late:Boolean
            2                11               -9             false
            90               null             null           true
    """

    kind: Literal["derive"]
    columns: dict[str, str] = Field(min_length=1)
    """Name -> SQL expression."""
    overwrite: bool = False
    """Whether a column of the same name gives way."""

    @override
    def check(self, given: Given) -> None:
        require_new(given.schema, self.columns, overwrite=self.overwrite)
        for text in self.columns.values():
            expression(text, given.schema)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.with_columns(
            [read_sql(text).alias(name) for name, text in self.columns.items()]
        )
