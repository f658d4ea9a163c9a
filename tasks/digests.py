"""Digests of keys: 64 bits that depend on the values alone.

Rows go to a bucket, and groups to a partition, by the digest of their key. Equal keys have equal
digests on every machine and in every version of Polars, which Polars' own hashes do not promise;
unequal ones may share theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from headwater.infra.errors import UnsupportedData
from headwater.infra.storage.types import as_instance

_NULL = 0x9E3779B97F4A7C15
_WITHOUT_JSON = (pl.Binary, pl.Object, pl.Time, pl.Duration)
"""Polars stops the process's thread instead of writing them as JSON."""

Words = npt.NDArray[np.uint64]


def digests(keys: Sequence[pl.Series]) -> Words:
    """One digest for each row of ``keys``, which are at least one column.

    Null equals null, NaN equals NaN, and -0.0 equals 0.0, as in a group-by.

    Raises:
        UnsupportedData: A column's type has no digest.
    """
    mixed = np.zeros(len(keys[0]), dtype=np.uint64)
    for column in keys:
        mixed = _mixed(mixed ^ _words(column))
    return mixed


def _words(column: pl.Series) -> Words:
    """64 bits of each value: the value itself, or a checksum of its text."""
    dtype = column.dtype
    if dtype.is_float():
        return _of_floats(column.cast(pl.Float64))
    if isinstance(dtype, pl.Null):
        return np.full(len(column), _NULL, dtype=np.uint64)
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Decimal | pl.Int128):
        return _checksums(column.cast(pl.String).cast(pl.Binary))
    if isinstance(dtype, pl.Binary):
        return _checksums(column)
    if dtype.is_nested():
        return _checksums(_as_json(column).cast(pl.Binary))
    whole = column.to_physical()
    if not isinstance(whole.dtype, pl.UInt64):
        whole = whole.cast(pl.Int64).reinterpret(signed=False)
    return whole.fill_null(_NULL).to_numpy()


def require_digestible(name: str, dtype: pl.DataType) -> None:
    """Returns when the values of a column have digests.

    Raises:
        UnsupportedData: They have none, so rows cannot be brought together by them.
    """
    if dtype.is_nested() and any(isinstance(t, _WITHOUT_JSON) for t in _inner(dtype)):
        raise UnsupportedData(
            f"rows cannot be brought together by '{name}' of type {dtype}",
            hint="unnest it, or bring them together by plain columns",
        )


def _inner(dtype: pl.DataType) -> Iterator[pl.DataType]:
    match dtype:
        case pl.List(inner=inner) | pl.Array(inner=inner):
            yield from _inner(as_instance(inner))
        case pl.Struct(fields=fields):
            for field in fields:
                yield from _inner(as_instance(field.dtype))
        case _:
            yield dtype


def _of_floats(column: pl.Series) -> Words:
    numbers = column.fill_null(0.0).to_numpy() + 0.0  # makes -0.0 the other zero
    missing = np.isnan(numbers) | column.is_null().to_numpy()
    return np.where(missing, np.uint64(_NULL), numbers.view(np.uint64))


def _as_json(column: pl.Series) -> pl.Series:
    require_digestible(column.name, column.dtype)
    text = pl.struct(column.alias("")).struct.json_encode()
    # Minus zero again; that "-0.0" inside a text is taken for it does no harm.
    return pl.select(text.str.replace_all(r"-0\.0\b", "0.0")).to_series()


def _checksums(values: pl.Series) -> Words:
    # Keys repeat: a checksum of each value once.
    unique = values.unique()
    sums = [_NULL if value is None else zlib.crc32(value) for value in unique]
    return values.replace_strict(unique, pl.Series(sums, dtype=pl.UInt64)).to_numpy()


def _mixed(words: Words) -> Words:
    """Every bit of a word spread over all of it: the finalizer of SplitMix64.

    Source: https://prng.di.unimi.it/splitmix64.c
    """
    words = words + np.uint64(_NULL)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
