"""The step that puts a value where one is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Literal

import polars as pl
from polars.exceptions import PolarsError
from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr, model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, Step, require_columns, require_type

Value = StrictBool | StrictInt | StrictFloat | datetime | date | time | StrictStr
"""A value as TOML has it; text is never taken for a number."""

FLOATS = (pl.Float32, pl.Float64)


class Fill(Step):
    """Put a value where one is missing: null, NaN, or both.

    The value comes from `value`, or from the first of the columns in `from_columns` that has one.
    Without either, NaN becomes null. A value that the column's type does not hold is refused.

    Example:
        in:
            wind:Float64  gust:Float64
            7.5           null
            NaN           12.0
            null          null
        steps:
            kind = "fill"
            columns = ["wind"]
            missing = "both"
            from_columns = ["gust"]
            value = 0.0
        out:
            wind:Float64  gust:Float64
            7.5           null
            12.0          12.0
            0.0           null
    """

    kind: Literal["fill"]
    columns: Names
    """Columns in which values are missing."""
    missing: Literal["null", "nan", "both"] = "null"
    """What counts as missing."""
    from_columns: tuple[str, ...] = ()
    """Columns of the same type that are looked into, one after the other."""
    value: Value | None = None
    """Taken where nothing else was found."""

    @model_validator(mode="after")
    def _gives_something(self) -> Fill:
        if self.missing == "null" and self.value is None and not self.from_columns:
            raise ValueError("say which value takes the place of null: value or from_columns")
        return self

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_columns(given.schema, self.from_columns)
        if self.missing != "null":
            require_type(given.schema, self.columns, FLOATS, "only floats have NaN")
        for name in self.columns:
            for other in self.from_columns:
                if given.schema[other] != given.schema[name]:
                    raise InvalidRequest(
                        f"column '{other}' is {given.schema[other]}, and '{name}' is"
                        f" {given.schema[name]}",
                        hint="cast one of them first",
                    )
            self._literal(given.schema[name], name)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.with_columns(
            [self._filled(name, given.schema[name]).alias(name) for name in self.columns]
        )

    def _filled(self, name: str, dtype: pl.DataType) -> pl.Expr:
        own = column_of(name)
        options = [column_of(other) for other in self.from_columns]
        if self.value is not None:
            options.append(self._literal(dtype, name))
        if self.missing == "null":
            return pl.coalesce([own, *options])
        if self.missing == "both":
            return pl.coalesce([expr.fill_nan(None) for expr in (own, *options)])
        filled = pl.coalesce([expr.fill_nan(None) for expr in options]) if options else pl.lit(None)
        return pl.when(own.is_nan()).then(filled).otherwise(own)

    def _literal(self, dtype: pl.DataType, name: str) -> pl.Expr:
        try:
            value = _dated(self.value, dtype)
            kept = pl.Series([value], dtype=dtype, strict=True).first()
        except (PolarsError, TypeError, ValueError, OverflowError) as exc:
            raise self._unfit(dtype, name) from exc
        if value is not None and not _is_same(value, kept, dtype):
            raise self._unfit(dtype, name)
        return pl.lit(kept, dtype=dtype)

    def _unfit(self, dtype: pl.DataType, name: str) -> InvalidRequest:
        return InvalidRequest(
            f"{self.value!r} is no value of column '{name}', which is {dtype}",
            hint="give a value of that type, or cast the column first",
        )


def _is_same(value: object, kept: object, dtype: pl.DataType) -> bool:
    """Whether a column of ``dtype`` keeps the value as it is, and means the same by it."""
    match value:
        case bool():
            return isinstance(dtype, pl.Boolean)
        case datetime():
            if not isinstance(dtype, pl.Datetime):
                return False
            return (dtype.time_zone is None) == (value.tzinfo is None) and value == kept
        case int() | float() if isinstance(kept, Decimal):
            return Decimal(str(value)) == kept
        case float() if math.isnan(value):
            return True
        case str() if isinstance(kept, Decimal):
            return Decimal(value) == kept
        case int() if dtype.is_float():
            return value == kept
        case _:
            return type(value) is type(kept) and value == kept


def _dated(value: object, dtype: pl.DataType) -> object:
    """A form has no dates: it writes them as text."""
    if not isinstance(value, str):
        return value
    match dtype:
        case pl.Date():
            return date.fromisoformat(value)
        case pl.Datetime():
            return datetime.fromisoformat(value)
        case pl.Time():
            return time.fromisoformat(value)
        case _:
            return value
