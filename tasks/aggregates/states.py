"""What is kept of a group: cells, each of a few columns that two states can be joined by.

A cell knows the expressions that make its columns from rows (``partial``) and from states
(``merge``), both for one group, and which columns they are (``types``). Aggregations that need the
same cell share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from headwater.infra.storage.types import column_of

Fields = dict[str, pl.Expr]
Types = dict[str, pl.DataType]
At = Callable[["Cell", str], pl.Expr]
"""The column that holds a field of a cell, or one of its bases."""


@dataclass(frozen=True)
class Cell:
    """Base of all cells."""

    def types(self, schema: pl.Schema) -> Types:
        """The cell's columns."""
        raise NotImplementedError

    def bases(self, at: At, schema: pl.Schema, *, merged: bool) -> Fields:  # noqa: ARG002
        """Values of a whole group that ``partial`` or ``merge`` needs beside each of its rows."""
        return {}

    def partial(self, at: At, schema: pl.Schema) -> Fields:
        """Its columns from the rows of one group."""
        raise NotImplementedError

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Its columns from the states of one group."""
        raise NotImplementedError

    def settle(self, field: str, value: pl.Expr, *, merged: bool) -> pl.Expr:  # noqa: ARG002
        """What is left to do to a column once the groups are made."""
        return value


@dataclass(frozen=True)
class Count(Cell):
    """How many rows, or how many values that are not null (where ``where`` is not, either)."""

    column: str | None = None
    where: str | None = None

    def types(self, schema: pl.Schema) -> Types:  # noqa: ARG002
        """One count."""
        return {"n": pl.Int64()}

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Rows or values."""
        counted = pl.len() if self.column is None else values_of(self.column, self.where).count()
        return {"n": counted.cast(pl.Int64)}

    def merge(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Counts add up."""
        return {"n": at(self, "n").sum()}


@dataclass(frozen=True)
class Extreme(Cell):
    """The least or the greatest value."""

    column: str
    greatest: bool

    def types(self, schema: pl.Schema) -> Types:
        """One value."""
        return {"value": kept_type(schema[self.column])}

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Of rows."""
        return {"value": self._of(kept(column_of(self.column), schema[self.column]), schema)}

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Of states."""
        return {"value": self._of(at(self, "value"), schema)}

    def _of(self, values: pl.Expr, schema: pl.Schema) -> pl.Expr:
        extreme = values.max() if self.greatest else values.min()
        return one_zero(extreme, schema[self.column])


@dataclass(frozen=True)
class Histogram(Cell):
    """How many values reach each edge: counts between edges are differences of these."""

    column: str
    edges: tuple[float, ...]

    def types(self, schema: pl.Schema) -> Types:  # noqa: ARG002
        """A count for each edge, of NaN, and of all."""
        names = ["all", "nan", *(f"from{i}" for i in range(len(self.edges)))]
        return dict.fromkeys(names, pl.Int64())

    def partial(self, at: At, schema: pl.Schema) -> Fields:  # noqa: ARG002
        """Of rows."""
        values = column_of(self.column).cast(pl.Float64)
        # NaN is above everything for Polars, and beside everything for cuDF.
        numbers = values.fill_nan(None)
        counts = {f"from{i}": (numbers >= edge).sum() for i, edge in enumerate(self.edges)}
        counts |= {"all": values.count(), "nan": values.is_nan().sum()}
        return {name: count.cast(pl.Int64) for name, count in counts.items()}

    def merge(self, at: At, schema: pl.Schema) -> Fields:
        """Counts add up."""
        return {field: at(self, field).sum() for field in self.types(schema)}


# --- values as states keep them -----------------------------------------------------------------


def kept_type(dtype: pl.DataType) -> pl.DataType:
    """The type in which a state keeps a value of ``dtype``."""
    if isinstance(dtype, pl.Categorical):
        return pl.String()  # a category's number is this process's own
    if isinstance(dtype, pl.Enum):
        return pl.UInt32()
    return dtype


def kept(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """``values`` as a state keeps them."""
    if isinstance(dtype, pl.Enum):
        return values.to_physical().cast(pl.UInt32)
    return values.cast(pl.String) if isinstance(dtype, pl.Categorical) else values


def unkept(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """``values`` of a state in their own type again."""
    if isinstance(dtype, pl.Enum):
        names = dtype.categories
        return values.replace_strict(range(len(names)), names, return_dtype=dtype)
    return values.cast(dtype) if isinstance(dtype, pl.Categorical) else values


def one_zero(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """``values`` with 0.0 for -0.0: they are equal, and the order of rows must not choose."""
    if not dtype.is_float():
        return values
    zero = pl.lit(0.0, dtype=dtype)
    return pl.when(values == zero).then(zero).otherwise(values)


def values_of(column: str, where: str | None) -> pl.Expr:
    """A column's values, or those in rows where ``where`` is not null."""
    values = column_of(column)
    return values if where is None else pl.when(column_of(where).is_not_null()).then(values)
