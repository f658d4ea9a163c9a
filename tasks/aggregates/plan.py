"""What an aggregation asks for, and which columns come out of it.

Every function skips nulls. Apart from that:

- ``count`` counts rows, or with a column its values that are not null.
- ``sum`` of nothing is 0. Integers are summed without a limit and refused where the total does
  not fit its type; so are decimals. Sums of floats: see ``moments.Sum``.
- ``mean``, ``variance``, ``standard_deviation``, ``covariance``: 64-bit floats; null where there
  are too few values. NaN and infinities propagate as in any sum; a value whose square could pass
  a float's range (``moments.SQUARABLE``) makes the last three NaN.
- ``min``, ``max``: NaN is passed over unless there is nothing else; false is less than true;
  categories compare as text, and enums by their own order.
- ``first``, ``last``: the value in the row with the least or greatest ``order``, null if it is null
  there. Rows whose order is null or NaN are passed over. Of rows with an equal order ``first``
  takes the least value and ``last`` the greatest, null where there is no other, whatever the
  rows' places.
- ``top``: the ``n`` rows with the greatest (or least) ``order``, and of equal ones those with the
  greatest (or least) value, null values last.
- ``quantile``: by a KLL sketch; NaN is passed over. ``approx_distinct``: by a theta sketch.
  ``distinct`` is exact and holds every distinct value in memory. NaN counts as one value.
- ``histogram``: counts of ``edges[i] <= value < edges[i + 1]``, with those below the first edge,
  from the last edge up, and NaN apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import polars as pl

from headwater.infra.errors import InvalidRequest, UnknownName, UnsupportedData
from headwater.infra.storage.types import MAX_DECIMAL_DIGITS

MAX_EDGES = 1000
"""Each edge is one more pass over the column."""

MAX_TOP = 10_000
"""Rows kept for each group."""

QUANTILE_K = 512
"""Size of a quantile sketch: about 12 kB for a group of many rows."""

DISTINCT_ENTRIES = 4096
"""Hashes that a distinct count keeps of each group, 8 bytes each; up to as many it is exact."""

WIDE_DECIMAL = pl.Decimal(MAX_DECIMAL_DIGITS, 0)


class AggregateFunction(StrEnum):
    """What is made of the values of a group."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    VARIANCE = "variance"
    STANDARD_DEVIATION = "standard_deviation"
    COVARIANCE = "covariance"
    FIRST = "first"
    LAST = "last"
    TOP = "top"
    QUANTILE = "quantile"
    APPROX_DISTINCT = "approx_distinct"
    DISTINCT = "distinct"
    HISTOGRAM = "histogram"


_ORDERED = (AggregateFunction.FIRST, AggregateFunction.LAST, AggregateFunction.TOP)
_NUMERIC = (
    AggregateFunction.SUM,
    AggregateFunction.MEAN,
    AggregateFunction.VARIANCE,
    AggregateFunction.STANDARD_DEVIATION,
    AggregateFunction.COVARIANCE,
    AggregateFunction.QUANTILE,
    AggregateFunction.HISTOGRAM,
)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One column of the result.

    Attributes:
        name: Of the result's column.
        column: What is aggregated; only ``count`` may go without.
        order: For ``first``, ``last`` and ``top``: the column that orders the rows.
        other: For ``covariance``: the second column.
        ddof: For variance and its kin: 1 is the sample's, 0 the population's.
        q: For ``quantile``: between 0 and 1.
        edges: For ``histogram``: finite and ascending.
        n: For ``top``: how many rows.
        descending: For ``top``: the greatest first.
        exact: For sums of floats and what is made of them: whether they are the same however the
            rows are cut (the default), or added in whatever order they come, in half the time.
        size: Of a sketch; larger is closer. Default: ``QUANTILE_K`` or ``DISTINCT_ENTRIES``.

    Raises:
        InvalidRequest: A setting is missing or out of range.
    """

    name: str
    function: AggregateFunction
    column: str | None = None
    order: str | None = None
    other: str | None = None
    ddof: int = 1
    q: float = 0.5
    edges: tuple[float, ...] = ()
    n: int = 10
    descending: bool = True
    exact: bool = True
    size: int | None = None

    def __post_init__(self) -> None:
        function = self.function
        if self.column is None and function is not AggregateFunction.COUNT:
            raise self._refused("needs a column")
        if function in _ORDERED and self.order is None:
            raise self._refused("needs an order: the column that says which row comes first")
        if function is AggregateFunction.COVARIANCE and self.other is None:
            raise self._refused("needs a second column: other")
        if self.ddof < 0:
            raise self._refused(f"ddof is {self.ddof}, and must be 0 or more")
        if not 0 <= self.q <= 1:
            raise self._refused(f"q is {self.q}, and must lie between 0 and 1")
        if not 1 <= self.n <= MAX_TOP:
            raise self._refused(f"n is {self.n}, and must lie between 1 and {MAX_TOP}")
        if function is AggregateFunction.HISTOGRAM:
            self._require_edges()
        if self.size is not None:
            self._require_size(self.size)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that this reads."""
        used = [self.column]
        if self.function in _ORDERED:
            used.append(self.order)
        if self.function is AggregateFunction.COVARIANCE:
            used.append(self.other)
        return tuple(dict.fromkeys(name for name in used if name is not None))

    @property
    def source(self) -> str:
        """The aggregated column, where the function has one."""
        if self.column is None:
            raise self._refused("has no column")
        return self.column

    def _require_edges(self) -> None:
        if not 2 <= len(self.edges) <= MAX_EDGES:
            raise self._refused(f"has {len(self.edges)} edges, and needs 2 to {MAX_EDGES}")
        ascending = all(a < b for a, b in pairwise(self.edges))
        if not ascending or not all(math.isfinite(edge) for edge in self.edges):
            raise self._refused("needs edges that are finite and ascend")

    def _require_size(self, size: int) -> None:
        if self.function is AggregateFunction.QUANTILE and not 8 <= size <= 65535:
            raise self._refused(f"size is {size}, and must lie between 8 and 65535")
        if self.function is AggregateFunction.APPROX_DISTINCT and (
            size & (size - 1) or not 32 <= size <= 2**26
        ):
            raise self._refused(f"size is {size}, and must be a power of two from 32 to 2^26")

    def _refused(self, what: str) -> InvalidRequest:
        return InvalidRequest(f"aggregate '{self.name}': {self.function} {what}")


@dataclass(frozen=True, slots=True)
class AggregatePlan:
    """The groups and what is made of each.

    Attributes:
        by: Columns whose values make a group; null is a value like others. Without any, all rows
            are one group, and there is a result also where there are no rows.

    Raises:
        InvalidRequest: Two columns of the result have one name, or there is none.
    """

    by: tuple[str, ...]
    aggregations: tuple[Aggregation, ...]

    def __post_init__(self) -> None:
        names = [*self.by, *(a.name for a in self.aggregations)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidRequest(
                f"aggregate: two columns of the result are called '{twice[0]}'",
                hint="give one of them another name",
            )
        if not names:
            raise InvalidRequest(
                "aggregate: neither keys nor functions", hint="name at least one of either"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that are read."""
        read = [*self.by, *(name for a in self.aggregations for name in a.columns)]
        return tuple(dict.fromkeys(read))


def output_schema(plan: AggregatePlan, schema: pl.Schema) -> pl.Schema:
    """Columns of the result of ``plan`` over an input of ``schema``: the keys, then the rest.

    Raises:
        UnknownName: The input has no such column.
        UnsupportedData: A function has no meaning for its column's type.

    Examples:
        >>> delay = Aggregation("delay", AggregateFunction.MEAN, "dep_delay")
        >>> plan = AggregatePlan(("origin",), (delay,))
        >>> output_schema(plan, pl.Schema({"origin": pl.String, "dep_delay": pl.Int32}))
        Schema([('origin', String), ('delay', Float64)])
    """
    for name in plan.columns:
        if name not in schema:
            raise UnknownName.of("column", name, schema.names(), where="the input of aggregate")
    for name in plan.by:
        _require_flat(schema[name], f"cannot group by '{name}'")
    fields = {name: schema[name] for name in plan.by}
    return pl.Schema(fields | {a.name: _output_type(a, schema) for a in plan.aggregations})


def is_whole(dtype: pl.DataType) -> bool:
    """Whether sums of ``dtype`` are sums of integers."""
    return dtype.is_integer() or isinstance(dtype, pl.Boolean)


def sum_type(dtype: pl.DataType) -> pl.DataType:
    """The type of a sum of ``dtype``.

    Examples:
        >>> sum_type(pl.Int8()), sum_type(pl.UInt64()), sum_type(pl.Decimal(9, 2))
        (Int64, Decimal(precision=38, scale=0), Decimal(precision=38, scale=2))
    """
    match dtype:
        case pl.Decimal(scale=scale):
            return pl.Decimal(MAX_DECIMAL_DIGITS, scale)
        case pl.UInt64():
            return WIDE_DECIMAL
        case _ if is_whole(dtype):
            return pl.Int64()
        case _:
            return pl.Float64()


def _output_type(aggregation: Aggregation, schema: pl.Schema) -> pl.DataType:
    function = aggregation.function
    for name in aggregation.columns:
        _require_type(aggregation, name, schema[name])
    if function in (
        AggregateFunction.COUNT,
        AggregateFunction.DISTINCT,
        AggregateFunction.APPROX_DISTINCT,
    ):
        return pl.Int64()
    dtype = schema[aggregation.source]
    match function:
        case AggregateFunction.SUM:
            return sum_type(dtype)
        case AggregateFunction.HISTOGRAM:
            return histogram_type()
        case AggregateFunction.TOP:
            return pl.List(pl.Struct(top_fields(aggregation, schema)))
        case _ if function in _NUMERIC:
            return pl.Float64()
        case _:
            return dtype


def histogram_type() -> pl.Struct:
    """The type of a histogram: what lies below, in and above the edges, and NaN."""
    count = pl.Int64()
    return pl.Struct({"below": count, "counts": pl.List(count), "above": count, "nan": count})


def top_fields(aggregation: Aggregation, schema: pl.Schema) -> Mapping[str, pl.DataType]:
    """Fields of one row of ``top``: the order, and the value where that is another column."""
    names = dict.fromkeys((aggregation.order or "", aggregation.source))
    return {name: schema[name] for name in names}


def _require_type(aggregation: Aggregation, column: str, dtype: pl.DataType) -> None:
    function = aggregation.function
    said = f"aggregate '{aggregation.name}': {function} cannot take '{column}' of type {dtype}"
    if function is AggregateFunction.COUNT:
        return
    _require_flat(dtype, said)
    numeric = dtype.is_numeric() or isinstance(dtype, pl.Boolean)
    if function in _NUMERIC and not numeric:
        raise UnsupportedData(said, hint="it takes numbers; cast the column, or use min and max")


def _require_flat(dtype: pl.DataType, said: str) -> None:
    if dtype.is_nested() or isinstance(
        dtype, pl.Object | pl.Null | pl.Int128 | pl.UInt128 | pl.Unknown
    ):
        raise UnsupportedData(
            f"{said}: type {dtype}" if str(dtype) not in said else said,
            hint="unnest it, or cast it: the widest integers are of type Decimal(38, 0)",
        )
