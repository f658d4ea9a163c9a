"""Cells that keep values: the first by an order, the top ones, sketches and sets."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from headwater.infra.storage.types import column_of
from headwater.tasks.aggregates import sketches
from headwater.tasks.aggregates.states import (
    At,
    Cell,
    Fields,
    Types,
    kept,
    kept_type,
    one_zero,
)


@dataclass(frozen=True)
class Pick(Cell):
    """The value in the row of the least or greatest order; of equal ones such a value."""

    column: str
    order: str
    greatest: bool

    def types(self, schema: pl.Schema) -> Types:
        """The order, and the value there."""
        return {
            "order": kept_type(schema[self.order]),
            "value": kept_type(schema[self.column]),
        }

    def bases(self, at: At, schema: pl.Schema, *, merged: bool) -> Fields:
        """The least or greatest order."""
        order = at(self, "order") if merged else ordering(self.order, schema)
        return {"best": order.max() if self.greatest else order.min()}

    def partial(self, at: At, schema: pl.Schema) -> Fields:
        """Of rows."""
        values = kept(column_of(self.column), schema[self.column])
        return self._of(ordering(self.order, schema), values, at, schema)

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Of states."""
        return self._of(at(self, "order"), at(self, "value"), at, schema)

    def _of(self, order: pl.Expr, values: pl.Expr, at: At, schema: pl.Schema) -> Fields:
        best = at(self, "best")
        tied = pl.when(order == best).then(values)
        value = tied.max() if self.greatest else tied.min()
        return {
            "order": one_zero(best.min(), schema[self.order]),
            "value": one_zero(value, schema[self.column]),
        }


@dataclass(frozen=True)
class Top(Cell):
    """The ``n`` rows of the greatest or least order, and among equal ones of such a value."""

    column: str
    order: str
    n: int
    descending: bool

    def types(self, schema: pl.Schema) -> Types:
        """A list of rows; ``rank`` puts null values last."""
        order, value = kept_type(schema[self.order]), kept_type(schema[self.column])
        row = pl.Struct({"order": order, "rank": pl.Boolean(), "value": value})
        return {"rows": pl.List(row)}

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Of rows."""
        order = one_zero(ordering(self.order, schema), schema[self.order])
        dtype = schema[self.column]
        value = one_zero(kept(column_of(self.column), dtype), dtype)
        rank = value.is_not_null() if self.descending else value.is_null()
        rows = pl.struct(order.alias("order"), rank.alias("rank"), value.alias("value"))
        # Sorted as one column: with several, Polars finds groups of other lengths after a filter.
        best = rows.filter(order.is_not_null()).sort(descending=self.descending)
        return {"rows": best.head(self.n).implode()}

    def merge(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """All the states' rows; ``settle`` keeps the best."""
        return {"rows": at(self, "rows").explode(empty_as_null=False).implode()}

    def settle(self, field: str, value: pl.Expr, *, merged: bool) -> pl.Expr:  # noqa: ARG002
        """The best of all."""
        return value.list.sort(descending=self.descending).list.head(self.n) if merged else value


@dataclass(frozen=True)
class Quantiles(Cell):
    """A sketch of the ranks of all values."""

    column: str
    k: int

    def types(self, schema: pl.Schema) -> Types:  # noqa: ARG002
        """The sketch's bytes."""
        return {"sketch": pl.Binary()}

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """The values; ``settle`` makes the sketch."""
        values = column_of(self.column).cast(pl.Float64).fill_nan(None)
        return {"sketch": values.drop_nulls().implode()}

    def merge(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """The sketches; ``settle`` merges them."""
        return {"sketch": at(self, "sketch").implode()}

    def settle(self, field: str, value: pl.Expr, *, merged: bool) -> pl.Expr:  # noqa: ARG002
        """A sketch of all."""
        if merged:
            return sketches.merged_quantiles(value, self.k)
        return sketches.quantile_sketches(value, self.k)


@dataclass(frozen=True)
class Distinct(Cell):
    """A sketch of the set of values."""

    column: str
    entries: int

    def types(self, schema: pl.Schema) -> Types:  # noqa: ARG002
        """The sketch's bytes."""
        return {"sketch": pl.Binary()}

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """The distinct values; ``settle`` makes the sketch."""
        values = _hashable(column_of(self.column), schema[self.column])
        return {"sketch": values.drop_nulls().unique().implode()}

    def merge(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """The sketches; ``settle`` merges them."""
        return {"sketch": at(self, "sketch").implode()}

    def settle(self, field: str, value: pl.Expr, *, merged: bool) -> pl.Expr:  # noqa: ARG002
        """A sketch of all."""
        if merged:
            return sketches.merged_distinct(value, self.entries)
        return sketches.distinct_sketches(value, self.entries)


@dataclass(frozen=True)
class Values(Cell):
    """The set of values itself."""

    column: str

    def types(self, schema: pl.Schema) -> Types:
        """A list in no order."""
        return {"values": pl.List(kept_type(schema[self.column]))}

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Of rows."""
        dtype = schema[self.column]
        values = one_zero(kept(column_of(self.column), dtype), dtype)
        return {"values": values.drop_nulls().unique().implode()}

    def merge(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Of states."""
        return {"values": at(self, "values").explode(empty_as_null=False).unique().implode()}


def ordering(column: str, schema: pl.Schema) -> pl.Expr:
    """The values of a column that orders rows; those of no place are null."""
    values, dtype = kept(column_of(column), schema[column]), schema[column]
    return values.fill_nan(None) if dtype.is_float() else values


def _hashable(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """``values`` as the sketches hash them: equal values alike on every machine."""
    match dtype:
        case pl.UInt64():
            return values.reinterpret(signed=True)
        case pl.Decimal() | pl.Categorical() | pl.Enum():
            return values.cast(pl.String)
        case pl.Binary():
            return values.bin.encode("hex")
        case _ if dtype.is_float():
            return values.cast(pl.Float64)
        case _ if dtype.is_temporal():
            return values.to_physical().cast(pl.Int64)
        case pl.String():
            return values
        case _:
            return values.cast(pl.Int64)
