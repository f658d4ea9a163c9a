"""Which column types a dataset can hold exactly, and how a frame is brought to them.

Delta has no unsigned integers, no time of day and no duration, and keeps time stamps in
microseconds. A type that has an exact counterpart is cast to it; one that has none is refused by
name, before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import polars as pl
import polars.selectors as cs

from headwater.infra.errors import UnsupportedData

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

MAX_DECIMAL_DIGITS = 38
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""What readers take for null in a folder's name; a real value of this text cannot be told apart."""

_EXACT: dict[pl.DataType, pl.DataType] = {
    pl.UInt8(): pl.Int16(),
    pl.UInt16(): pl.Int32(),
    pl.UInt32(): pl.Int64(),
}
_KEPT = (
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.Float32,
    pl.Float64,
    pl.Boolean,
    pl.String,
    pl.Binary,
    pl.Date,
)
_PARTITION_TYPES = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Boolean, pl.String, pl.Date)


def stored_schema(schema: pl.Schema) -> pl.Schema:
    """The schema that a dataset of these columns has.

    Raises:
        UnsupportedData: A column has no exact counterpart, or two names differ only by case.

    Examples:
        >>> stored_schema(pl.Schema({"n": pl.UInt32, "at": pl.Datetime("ns")}))
        Schema([('n', Int64), ('at', Datetime(time_unit='us', time_zone=None))])
    """
    if not schema:
        raise UnsupportedData(
            "the result has no column", hint="let the job return at least one column"
        )
    _require_distinct(schema)
    return pl.Schema({name: stored_type(dtype, name) for name, dtype in schema.items()})


def stored_type(dtype: pl.DataType, column: str) -> pl.DataType:
    """The type that ``column`` has in a dataset.

    Raises:
        UnsupportedData: There is no exact counterpart.
    """
    if dtype in _EXACT:
        return _EXACT[dtype]
    if isinstance(dtype, _KEPT):
        return dtype
    match dtype:
        case pl.Datetime(time_zone=None):
            return pl.Datetime("us")
        case pl.Datetime():
            return pl.Datetime("us", "UTC")
        case pl.Categorical() | pl.Enum():
            return pl.String()
        case pl.Decimal(precision=precision, scale=scale):
            return pl.Decimal(precision or MAX_DECIMAL_DIGITS, scale)
        case pl.List(inner=inner) | pl.Array(inner=inner):
            return pl.List(stored_type(as_instance(inner), f"{column}[]"))
        case pl.Struct(fields=fields):
            _require_distinct([f"{column}.{f.name}" for f in fields])
            return pl.Struct(
                {f.name: stored_type(as_instance(f.dtype), f"{column}.{f.name}") for f in fields}
            )
        case _:
            raise UnsupportedData(
                f"column '{column}' has type {dtype}, which a table cannot hold exactly",
                hint=_ADVICE.get(type(dtype), "cast it in the job, for example to String"),
            )


def column_of(name: str) -> pl.Expr:
    """The column of exactly this name, where ``pl.col`` takes ``*`` and ``^…$`` for patterns."""
    return cs.by_name(name).as_expr()


def match_names(have: Iterable[str], want: Iterable[str]) -> dict[str, str]:
    """Of each name in ``want`` the one in ``have`` that is meant; by case-fold, if need be.

    Examples:
        >>> match_names(["N", "s", "S"], ["n", "S", "x"])
        {'n': 'N', 'S': 'S'}
    """
    names = list(have)
    by_fold = {name.casefold(): name for name in reversed(names)}
    found = {}
    for name in want:
        if name in names:
            found[name] = name
        elif (other := by_fold.get(name.casefold())) is not None:
            found[name] = other
    return found


def require_partitionable(schema: pl.Schema, partition_by: Sequence[str]) -> None:
    """Refuse partition columns whose values a table's log cannot keep exactly.

    Raises:
        UnsupportedData: A column has such a type or name, or no other column would be left.
    """
    for column in partition_by:
        if quote(column, safe="") != column:
            # Polars finds no column whose name is encoded in a folder's name or in a URL.
            raise UnsupportedData(
                f"cannot partition by '{column}': not every reader finds a column of this name",
                hint="rename it in the job: ASCII letters, digits, '_', '-', '.' and '~'",
            )
        if not isinstance(schema[column], _PARTITION_TYPES):
            raise UnsupportedData(
                f"cannot partition by '{column}' of type {schema[column]}",
                hint="partition by text, integers, booleans or dates; derive such a column",
            )
    if len(set(partition_by)) == len(schema):
        raise UnsupportedData(
            "every column is a partition column, so the files would have none",
            hint="leave at least one column out of --partition-by",
        )


def partition_text(value: object, column: str) -> str | None:
    """A partition value as a table's log writes it; ``None`` is null.

    Raises:
        UnsupportedData: The value could not be told from another one when it is read back.

    Examples:
        >>> partition_text(7, "n"), partition_text("007", "n"), partition_text(None, "n")
        ('7', '007', None)
        >>> partition_text(date(2013, 1, 2), "day"), partition_text(True, "b")
        ('2013-01-02', 'true')
    """
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case "":
            raise UnsupportedData(
                f"partition column '{column}' holds an empty string, which reads back as null",
                hint="replace it in the job, for example with null or 'none'",
            )
        case str() if value == NULL_FOLDER:
            raise UnsupportedData(
                f"partition column '{column}' holds '{NULL_FOLDER}', which reads back as null",
                hint="replace it in the job",
            )
        case datetime():
            raise UnsupportedData(f"partition column '{column}' holds a time stamp")
        case date():
            return value.isoformat()
        case _:
            return str(value)


def partition_literal(text: str | None, dtype: pl.DataType, column: str) -> pl.Expr:
    """A literal column of ``dtype`` from a value's text in a log or a folder's name."""
    if text is None:
        return pl.lit(None, dtype=dtype).alias(column)
    if isinstance(dtype, pl.Boolean):
        return pl.lit(text.lower() == "true").alias(column)
    if isinstance(dtype, pl.Date):
        return pl.lit(date.fromisoformat(text)).alias(column)
    return pl.lit(text).cast(dtype, strict=True).alias(column)


def _require_distinct(names: Iterable[str]) -> None:
    by_case: dict[str, str] = {}
    for name in names:
        other = by_case.setdefault(name.casefold(), name)
        if other != name:
            raise UnsupportedData(
                f"columns '{other}' and '{name}' differ only by case, and tables do not tell"
                " them apart",
                hint="rename one of them in the job",
            )


def as_instance(dtype: PolarsDataType) -> pl.DataType:
    """``dtype`` as an instance; Polars takes ``pl.Int64`` for ``pl.Int64()``."""
    return dtype() if isinstance(dtype, type) else dtype


_ADVICE: dict[type[pl.DataType], str] = {
    pl.UInt64: "cast it to Int64, or to Decimal(20, 0) where values exceed 2^63",
    pl.Int128: "cast it to Int64, or to Decimal(38, 0)",
    pl.Null: "it has only nulls and no type: cast it to the type that is meant",
    pl.Time: "cast it to String, or join it with a date",
    pl.Duration: "turn it into a number, for example with .dt.total_microseconds()",
}
