"""What the columns of a pandas or cuDF frame are as Polars types, and their values brought there.

A frame of Dask says its types twice: in the frame without rows that the graph is built with, and
in each partition. The first is the promise that the target's schema is made from; the second may
differ, as where a partition without nulls has integers and its neighbour floats. A difference
that loses nothing is mended, any other is refused by the column's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import polars as pl
import pyarrow as pa

from headwater.infra.errors import SchemaMismatch, UnsupportedData, first_line

if TYPE_CHECKING:
    from collections.abc import Hashable

    from polars._typing import PolarsDataType

MAX_EXACT_FLOAT = 2**53
"""Whole numbers beyond it are not all floats, so one may have been rounded on its way."""

_NO_MEANING = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    TypeError,
    ValueError,
)
"""What Arrow and Polars raise for values that are not of one type, or of none that they know."""


def as_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """``frame`` with Arrow-backed columns, which keep every value, and null apart from NaN.

    Categories become text.
    """
    if not frame.width:
        return pd.DataFrame(index=pd.RangeIndex(frame.height))
    plain = pl.Schema({name: _plain(dtype) for name, dtype in frame.schema.items()})
    return frame.cast(plain).to_pandas(use_pyarrow_extension_array=True)


def index_names(frame: pd.DataFrame) -> tuple[Hashable, ...]:
    """Names of the index, level by level; ``None`` for a level without one."""
    return tuple(frame.index.names)


def with_index(frame: pd.DataFrame, names: Sequence[Hashable]) -> pd.DataFrame:
    """``frame`` with the named levels of its index as columns, without the others.

    Args:
        names: As ``index_names`` gave them of the frame without rows.
    """
    levels = [level for level, name in enumerate(names) if name is not None]
    return frame.reset_index(level=levels) if levels else frame


def promised(frame: pd.DataFrame, job: str) -> pl.Schema:
    """Columns and types that a frame without rows promises.

    Raises:
        UnsupportedData: A name is no text or there twice, or a type says too little or too much.
    """
    for name in frame.columns:
        if not isinstance(name, str):
            raise UnsupportedData(
                f"job {job} returns a column named {name!r}, and a table's columns are named by"
                " text",
                hint='name the columns, for example with .columns = ["a", "b"] after .agg(…)',
            )
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UnsupportedData(
            f"job {job} returns the column '{twice[0]}' twice", hint="rename or drop one of them"
        )
    return pl.Schema({str(name): _promised(frame[name], str(name), job) for name in frame})


def conformed(frame: pd.DataFrame, schema: pl.Schema, job: str, where: str) -> pl.DataFrame:
    """The values of ``frame`` with exactly the promised columns and types.

    ``frame`` is of pandas or of cuDF. A missing value of pandas' own columns (NaN, NaT, None) is
    null, as pandas itself writes it; an Arrow-backed column keeps NaN apart from null.

    Args:
        where: What messages call the frame.
    Raises:
        SchemaMismatch: The columns are others, or values are not of the promised type.
    """
    have = [str(name) for name in frame.columns]
    if set(have) != set(schema):
        raise SchemaMismatch(
            f"job {job} promised the columns {', '.join(schema)}, and {where} has"
            f" {', '.join(have)}",
            hint="give map_partitions or apply a meta of what their function returns",
        )
    columns = []
    for name, dtype in schema.items():
        try:
            found = _series(frame, name)
        except _NO_MEANING as exc:
            raise SchemaMismatch(
                f"job {job} promised column '{name}' of type {dtype}, and {where} holds values of"
                f" several types: {first_line(exc)}",
                hint=f"let the job cast it: {_cure(dtype)}",
            ) from exc
        columns.append(_exactly(found, dtype, job, where))
    return pl.DataFrame(columns)


def _plain(dtype: PolarsDataType) -> PolarsDataType:
    match dtype:
        case pl.Categorical() | pl.Enum():
            return pl.String()
        case pl.List(inner=inner):
            return pl.List(_plain(inner))
        case pl.Array(inner=inner, size=size):
            return pl.Array(_plain(inner), size)
        case pl.Struct(fields=fields):
            return pl.Struct({f.name: _plain(f.dtype) for f in fields})
        case _:
            return dtype


def _promised(column: pd.Series, name: str, job: str) -> pl.DataType:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = dtype.categories
        if pd.api.types.is_object_dtype(values) or isinstance(values.dtype, pd.StringDtype):
            return pl.String()  # also of categories that Dask does not know yet
        return _promised(values[:0].to_series(), name, job)
    if pd.api.types.is_object_dtype(dtype):
        raise UnsupportedData(
            f"job {job} returns column '{name}' of type object, which may hold anything",
            hint=f"cast it to what it holds: {_cure(pl.String())} for text,"
            ' .astype("Int64"), .astype("Float64") or .astype("boolean") for others',
        )
    try:
        array = pa.array(column, from_pandas=True)
        if isinstance(array.type, pa.BaseExtensionType):
            raise TypeError(str(array.type))
        return pl.Series(array).dtype
    except _NO_MEANING as exc:
        raise UnsupportedData(
            f"job {job} returns column '{name}' of type {dtype}, which a table cannot hold",
            hint="cast it in the job, for example to text or to a time stamp",
        ) from exc


def _series(frame: pd.DataFrame, name: str) -> pl.Series:
    array: pa.Array[Any] | pa.ChunkedArray[Any]
    if isinstance(frame, pd.DataFrame):
        array = pa.array(frame[name], from_pandas=True)
    else:
        array = frame[[name]].to_arrow(preserve_index=False).column(0)
    if pa.types.is_dictionary(array.type):
        array = array.cast(cast("pa.DictionaryType[Any, Any]", array.type).value_type)
    return pl.Series(name, array)


def _exactly(column: pl.Series, want: pl.DataType, job: str, where: str) -> pl.Series:
    """``column`` as ``want``, if no value is another one there."""
    have = column.dtype
    if have == want:
        return column
    if have == pl.Null() or not len(column):
        return pl.Series(column.name, [None] * len(column), dtype=want)
    lost = "they are of another kind"
    if _akin(have, want):
        try:
            there = column.cast(want, strict=True)
            back = there.cast(have, strict=True)
        except pl.exceptions.PolarsError as exc:
            lost = first_line(exc)
        else:
            if back.eq_missing(column).all() and not _may_be_rounded(column, want):
                return there
            lost = "values would change"
    raise SchemaMismatch(
        f"job {job} promised column '{column.name}' of type {want}, and {where} holds {have}:"
        f" {lost}",
        hint=f"let the job cast it: {_cure(want)}",
    )


def _akin(have: pl.DataType, want: pl.DataType) -> bool:
    """Whether a cast between the two keeps what values mean, where it keeps the values."""
    if have.is_numeric() and want.is_numeric():
        return True
    match have, want:
        case pl.Datetime(time_zone=a), pl.Datetime(time_zone=b):
            return (a is None) == (b is None)
        case pl.Duration(), pl.Duration():
            return True
        case ((pl.List() | pl.Array()), (pl.List() | pl.Array())):
            return _akin_or_same(have.inner, want.inner)
        case pl.Struct(), pl.Struct():
            return [f.name for f in have.fields] == [f.name for f in want.fields] and all(
                _akin_or_same(a.dtype, b.dtype)
                for a, b in zip(have.fields, want.fields, strict=True)
            )
        case _:
            return False


def _akin_or_same(have: PolarsDataType, want: PolarsDataType) -> bool:
    return have == want or _akin(cast("pl.DataType", have), cast("pl.DataType", want))


def _may_be_rounded(column: pl.Series, want: pl.DataType) -> bool:
    """Whether whole numbers came as floats that cannot tell them from their neighbours."""
    if not (column.dtype.is_float() and want.is_integer()):
        return False
    return bool((column.abs() > MAX_EXACT_FLOAT).any())


def _cure(dtype: pl.DataType) -> str:
    if dtype == pl.String():
        return '.astype("string[pyarrow]")'
    arrow = pl.Series([], dtype=dtype).to_arrow().type
    return f'.astype("{arrow}[pyarrow]")' if dtype.is_numeric() else f"to a column of {arrow}"
