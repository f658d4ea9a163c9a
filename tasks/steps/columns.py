"""Steps that choose and name columns: select, drop, rename, partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, Step, require_columns, require_new


class Select(Step):
    """Keep the named columns, in this order.

    Example:
        in:
            origin  dest  distance:Int64
            EWR     IAH   1400
            LGA     null  1416
        steps:
            kind = "select"
            columns = ["distance", "origin"]
        out:
            distance:Int64  origin
            1400            EWR
            1416            LGA
    """

    kind: Literal["select"]
    columns: Names
    """Columns to keep; all others are dropped."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.select([column_of(name) for name in self.columns])


class Drop(Step):
    """Leave out the named columns.

    Example:
        in:
            origin  dest  distance:Int64
            EWR     IAH   1400
        steps:
            kind = "drop"
            columns = ["dest"]
        out:
            origin  distance:Int64
            EWR     1400
    """

    kind: Literal["drop"]
    columns: Names
    """Columns to leave out; each must be there."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        if len(self.columns) == len(given.schema):
            raise InvalidRequest("no column would be left", hint="keep at least one")

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.select([column_of(n) for n in given.schema if n not in self.columns])


class Rename(Step):
    """Give columns other names; they keep their place.

    All are renamed at once, so two columns can change names with each other. A name that another
    column has is refused.

    Example:
        in:
            faa  tzone             alt:Int64
            EWR  America/New_York  18
        steps:
            kind = "rename"
            columns = { faa = "airport", alt = "altitude_feet" }
        out:
            airport  tzone             altitude_feet:Int64
            EWR      America/New_York  18
    """

    kind: Literal["rename"]
    columns: dict[str, str] = Field(min_length=1)
    """Old name -> new name."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return tuple(self.columns)

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        kept = {n: None for n in given.schema if n not in self.columns}
        require_new(kept, self.columns.values())

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.select(
            [column_of(n).alias(self.columns.get(n, n)) for n in given.schema.names()]
        )


class Partition(Step):
    """Partition the target by columns of the result.

    It changes no row; the table keeps the rows of each combination of values in files of their
    own, so readers that ask for one of them skip the others. Text, integers, booleans and dates
    can be partition columns. A later step must leave them in place.

    Example:
        in:
            origin  flight:Int64
            EWR     1545
        steps:
            kind = "partition"
            columns = ["origin"]
        out:
            origin  flight:Int64
            EWR     1545
    """

    SCOPE: ClassVar[str] = "rows"

    kind: Literal["partition"]
    columns: Names
    """Columns that the target is partitioned by, the outermost first."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame


def require_kept(partition_by: tuple[str, ...], result: pl.Schema) -> None:
    """Returns when the partition columns are in the result.

    Raises:
        UnknownName: One is not there any more.
    """
    require_columns(result, partition_by, where="the result to partition by")
