"""The step that aggregates groups: what it is asked for, as the engine's plan.

How parts are aggregated and put together is the engine's, in ``tasks.aggregate``; ``apply`` is for
rows that are there as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.tasks.aggregate import aggregate
from headwater.tasks.aggregates import plan as engine
from headwater.tasks.steps.base import WHOLE, Given, Scope, Step

Function = Literal[
    "count",
    "sum",
    "min",
    "max",
    "mean",
    "variance",
    "standard_deviation",
    "covariance",
    "first",
    "last",
    "top",
    "quantile",
    "approx_distinct",
    "distinct",
    "histogram",
]

_KEYS: Mapping[str, tuple[str, ...]] = {
    "sum": ("exact",),
    "mean": ("exact",),
    "variance": ("ddof", "exact"),
    "standard_deviation": ("ddof", "exact"),
    "covariance": ("other", "ddof", "exact"),
    "first": ("order",),
    "last": ("order",),
    "top": ("order", "n", "descending"),
    "quantile": ("q", "size"),
    "approx_distinct": ("size",),
    "histogram": ("edges",),
}
"""Keys that a function takes beside its name and column."""


class Aggregation(BaseModel):
    """One value of each group."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """Column of the result."""
    function: Function
    """What is computed. `count` can do without a column: then it counts rows."""
    column: str | None = None
    """Column that is aggregated; its nulls are left out."""
    order: str | None = None
    """`first`, `last`, `top`: the column that says which row comes first."""
    other: str | None = None
    """`covariance`: the second column."""
    ddof: int = Field(default=1, ge=0)
    """`variance` and its kin: 1 for a sample, 0 for a whole population."""
    q: float = Field(default=0.5, ge=0, le=1)
    """`quantile`: which one; 0.5 is the median."""
    edges: tuple[float, ...] = ()
    """`histogram`: edges of the bins, from low to high; a bin holds its lower edge."""
    n: int = Field(default=10, ge=1)
    """`top`: how many."""
    descending: bool = True
    """`top`: the greatest ones, not the least."""
    exact: bool = True
    """Sums of floats, and what is made of them: the same for any cut, or faster."""
    size: int | None = None
    """`quantile`, `approx_distinct`: size of the sketch; larger is closer."""

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> Aggregation:
        takes = ("name", "function", "column", *_KEYS.get(self.function, ()))
        for key in type(self).model_fields:
            if key in self.model_fields_set and key not in takes:
                raise ValueError(f"{self.function} takes no {key}")
        try:
            self.to_engine()
        except InvalidRequest as exc:
            raise ValueError(exc.message) from exc
        return self

    def to_engine(self) -> engine.Aggregation:
        """The same as the engine takes it."""
        return engine.Aggregation(
            name=self.name,
            function=engine.AggregateFunction(self.function),
            column=self.column,
            order=self.order,
            other=self.other,
            ddof=self.ddof,
            q=self.q,
            edges=self.edges,
            n=self.n,
            descending=self.descending,
            exact=self.exact,
            size=self.size,
        )


class AggregateStep(Step):
    """Make one row of each group, with values that are computed from all its rows.

    Functions: `count`, `sum`, `min`, `max`, `mean`, `variance`, `standard_deviation`, `covariance`
    (with `other`), `first` and `last` (by `order`), `top` (the `n` rows that come first by
    `order`), `quantile` (with `q`), `distinct` (exact), `approx_distinct` and `histogram` (on
    `edges`). Sums of integers and decimals are exact, and one that does not fit makes the run fail.
    Quantiles and `approx_distinct` are approximate where there are many values.

    Null is a group of its own. The order of the groups is not said; sort them.

    Example:
        in:
            origin  delay:Int64
            EWR     11
            EWR     null
            LGA     33
            EWR     20
        steps:
            kind = "aggregate"
            by = ["origin"]
            aggs = [
                { name = "flights", function = "count" },
                { name = "delay", function = "mean", column = "delay" },
                { name = "worst", function = "max", column = "delay" },
            ]
        out:
            origin  flights:Int64  delay:Float64  worst:Int64
            EWR     3              15.5           20
            LGA     1              33.0           33
    """

    SCOPE: ClassVar[str] = "key (by), or whole"

    kind: Literal["aggregate"]
    by: tuple[str, ...] = ()
    """Columns of the groups; none for one group of all rows."""
    aggs: tuple[Aggregation, ...] = Field(min_length=1)
    """Values of each group."""

    @model_validator(mode="after")
    def _is_a_plan(self) -> AggregateStep:
        try:
            self.to_engine()
        except InvalidRequest as exc:
            raise ValueError(exc.message) from exc
        return self

    def to_engine(self) -> engine.AggregatePlan:
        """The same as the engine takes it."""
        return engine.AggregatePlan(self.by, tuple(agg.to_engine() for agg in self.aggs))

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.by

    @override
    def scope(self, columns: Iterable[str]) -> Scope:
        return Scope("key", self.by) if self.by else WHOLE

    @override
    def result(self, given: Given) -> pl.Schema:
        return engine.output_schema(self.to_engine(), given.schema)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        # It collects what it aggregates, as a total that does not fit is refused by looking at it.
        return aggregate(frame, self.to_engine(), given.schema)
