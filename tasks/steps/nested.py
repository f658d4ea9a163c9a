"""Steps about lists and structs: explode and unnest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
import polars.selectors as cs
from typing_extensions import override

from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, Step, require_new, require_type


class Explode(Step):
    """Give each value of a list a row of its own.

    Several columns are exploded together; in each row their lists must have one length, or the run
    fails. A row whose list is null or empty stays, with null, or is left out with `empty = "drop"`.

    Example:
        in:
            order  items:List(String)
            a      ["pen", "ink"]
            b      []
            c      null
        steps:
            kind = "explode"
            columns = ["items"]
        out:
            order  items
            a      pen
            a      ink
            b      null
            c      null
    """

    kind: Literal["explode"]
    columns: Names
    """List columns."""
    empty: Literal["null", "drop"] = "null"
    """What becomes of a row whose list is null or has no value."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_type(given.schema, self.columns, (pl.List, pl.Array), "only lists are exploded")

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        keep = self.empty == "null"
        columns = cs.by_name(*self.columns)
        return frame.explode(columns, empty_as_null=keep, keep_nulls=keep)


class Unnest(Step):
    """Make the fields of structs columns, in the place of the struct.

    Example:
        in:
            order  buyer:Struct({'id': Int64, 'city': String})
            a      {"id": 7, "city": "Pune"}
            b      null
        steps:
            kind = "unnest"
            columns = ["buyer"]
            prefix = "buyer_"
        out:
            order  buyer_id:Int64  buyer_city
            a      7               Pune
            b      null            null
    """

    kind: Literal["unnest"]
    columns: Names
    """Struct columns."""
    prefix: str = ""
    """Put before the names of the fields."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_type(given.schema, self.columns, (pl.Struct,), "only structs are unnested")
        kept = {n: None for n in given.schema if n not in self.columns}
        new = [self.prefix + f for n in self.columns for f in self._fields(given.schema[n])]
        require_new(kept, new)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        result = []
        for name, dtype in given.schema.items():
            if name not in self.columns:
                result.append(column_of(name))
                continue
            result += [
                column_of(name).struct.field(field).alias(self.prefix + field)
                for field in self._fields(dtype)
            ]
        return frame.select(result)

    @staticmethod
    def _fields(dtype: pl.DataType) -> list[str]:
        return [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
