"""Steps about the order of rows: sort, top and deduplicate.

Rows that an order leaves side by side are told apart by all their other columns, in the order of
the columns: so which row is the first does not depend on where a row came from, only on the rows.
Null comes before all values unless ``nulls = "last"``, and NaN after all numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field, model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import WHOLE, Given, Names, Scope, Step, require_columns

_ONE = "__headwater_one"


class Ordered(Step):
    """What the steps share that look at rows in an order."""

    order_by: tuple[str, ...]
    """Columns that say which row comes before which."""
    descending: tuple[str, ...] = ()
    """Those of them that go from high to low."""
    nulls: Literal["first", "last"] = "first"
    """Where null stands among the values."""

    @model_validator(mode="after")
    def _descends_known(self) -> Ordered:
        unknown = [name for name in self.descending if name not in self.order_by]
        if unknown:
            raise ValueError(f"descending names '{unknown[0]}', which is not in order_by")
        return self

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_columns(given.schema, self.order_by)

    def in_order(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """The rows in their order.

        Args:
            schema: Columns of the frame.
        """
        names = [*self.order_by, *(name for name in schema if name not in self.order_by)]
        # -0.0 equals 0.0, and yet they are two values: the one that divides to -inf comes first.
        zeros = [1 / column_of(name) for name, dtype in schema.items() if dtype.is_float()]
        return frame.sort(
            [*map(column_of, names), *zeros],
            descending=[*(name in self.descending for name in names), *(False for _ in zeros)],
            nulls_last=self.nulls == "last",
        )


class Sort(Ordered):
    """Put all rows in an order.

    The table's files keep it: readers that ask for a range of values skip files. Rows that are
    equal in `order_by` follow their other columns, so the order is always the same.

    Example:
        in:
            carrier  delay:Int64
            UA       3
            AA       null
            B6       12
        steps:
            kind = "sort"
            order_by = ["delay"]
            descending = ["delay"]
            nulls = "last"
        out:
            carrier  delay:Int64
            B6       12
            UA       3
            AA       null
    """

    SCOPE: ClassVar[str] = "whole"

    kind: Literal["sort"]
    order_by: Names
    """Columns that say which row comes before which."""

    @override
    def scope(self, columns: Iterable[str]) -> Scope:
        return WHOLE

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return self.in_order(frame, given.schema)


class Top(Ordered):
    """Keep the first rows of an order, of all or of each group.

    Rows that are equal in `order_by` are told apart by their other columns, so there are never
    more than `n`, and always the same.

    Example:
        in:
            origin  dest  delay:Int64
            EWR     IAH   11
            EWR     SFO   90
            LGA     IAH   33
            EWR     MIA   45
        steps:
            kind = "top"
            n = 2
            order_by = ["delay"]
            descending = ["delay"]
            per = ["origin"]
        out:
            origin  dest  delay:Int64
            EWR     SFO   90
            EWR     MIA   45
            LGA     IAH   33
    """

    SCOPE: ClassVar[str] = "key (per), or whole"

    kind: Literal["top"]
    n: int = Field(ge=1)
    """How many rows stay."""
    order_by: Names
    """Columns that say which row comes before which."""
    per: tuple[str, ...] = ()
    """Columns of the groups; none for all rows together. Nulls are a group, too."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.per

    @override
    def scope(self, columns: Iterable[str]) -> Scope:
        return Scope("key", self.per) if self.per else WHOLE

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        ordered = self.in_order(frame, given.schema)
        if not self.per:
            return ordered.head(self.n)
        # A running sum of ones and not int_range, which the GPU engine does not know.
        one = pl.lit(1, dtype=pl.UInt32).alias(_ONE)
        position = pl.col(_ONE).cum_sum().over([column_of(name) for name in self.per])
        kept = ordered.with_columns(one).filter(position <= self.n)
        return kept.select([column_of(name) for name in given.schema])


class Deduplicate(Ordered):
    """Keep one row of those that are equal, in some columns or in all.

    With `columns`, `order_by` says which one stays: the first in that order, or the last. Without
    `columns`, rows count as equal that are equal in all of them, and no order is needed. Null
    equals null here, and NaN equals NaN.

    Example:
        in:
            flight:Int64  status     at:Int64
            1545          boarding   1
            1545          departed   2
            1714          cancelled  1
        steps:
            kind = "deduplicate"
            columns = ["flight"]
            order_by = ["at"]
            keep = "last"
        out:
            flight:Int64  status     at:Int64
            1545          departed   2
            1714          cancelled  1
    """

    SCOPE: ClassVar[str] = "key (columns)"

    kind: Literal["deduplicate"]
    columns: tuple[str, ...] = ()
    """Columns in which equal rows are equal; none for all of them."""
    order_by: tuple[str, ...] = ()
    """Columns that say which row comes before which."""
    keep: Literal["first", "last"] = "first"
    """Which one of them stays, in the order of `order_by`."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def scope(self, columns: Iterable[str]) -> Scope:
        return Scope("key", self.columns or tuple(columns))

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        rest = set(given.schema) - set(self.columns)
        if self.columns and rest and not self.order_by:
            raise InvalidRequest(
                "which of several rows stays is not told", hint="add order_by = [...]"
            )

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        if not self.columns and not any(dtype.is_float() for dtype in given.schema.dtypes()):
            return frame.unique()  # equal rows are the same rows
        keys = self.columns or given.schema.names()
        ordered = self.in_order(frame, given.schema)
        return ordered.unique([column_of(n) for n in keys], keep=self.keep, maintain_order=True)
