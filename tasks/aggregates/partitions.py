"""Cuts a state by its groups, where all groups together are too many for one worker.

A group goes to a partition by a digest of its keys that depends on nothing else, so that states
made by other processes, on other machines and by other versions of Polars are cut alike, and each
partition can be combined and finished on its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from headwater.infra.errors import InvalidRequest

COMBINE_EXPANSION = 6
"""Memory that combining takes, as a multiple of all states: themselves, the table of groups, the
result, and half as much again."""

_NULL = 0x9E3779B97F4A7C15
_Words = npt.NDArray[np.uint64]


def partitions_needed(state_bytes: Iterable[int], memory_bytes: float) -> int:
    """How many partitions keep the combining of one inside ``memory_bytes``.

    Args:
        state_bytes: Size in memory of each part's state; groups that they share count each time.
        memory_bytes: What one worker's thread may use.

    Examples:
        >>> partitions_needed([10, 20], 1000), partitions_needed([4000] * 40, 100_000)
        (1, 10)
    """
    return max(1, -int(-COMBINE_EXPANSION * sum(state_bytes) // memory_bytes))


def partition_state(state: pl.DataFrame, keys: int, partitions: int) -> list[pl.DataFrame]:
    """``state`` cut into ``partitions``; a group is in the same one in every state.

    Args:
        keys: How many keys the plan has: the columns that follow the state's first.

    Raises:
        InvalidRequest: There are no keys, so that all rows are one group.
    """
    if not keys:
        raise InvalidRequest("a state without keys has one group, which cannot be cut")
    index = pl.Series("partition", _digests(state, keys) % np.uint64(partitions))
    return [state.filter(index == i) for i in range(partitions)]


def _digests(state: pl.DataFrame, keys: int) -> _Words:
    digests = np.zeros(state.height, dtype=np.uint64)
    for column in state.get_columns()[1 : 1 + keys]:
        digests = _mixed(digests ^ _words(column))
    return digests


def _words(column: pl.Series) -> _Words:
    """64 bits of each value: the value itself, or a checksum of its text."""
    dtype = column.dtype
    if isinstance(dtype, pl.String | pl.Decimal):
        return _checksums(column.cast(pl.String).cast(pl.Binary))
    if isinstance(dtype, pl.Binary):
        return _checksums(column)
    if dtype.is_float():
        whole = column.cast(pl.Float64).fill_nan(None).reinterpret(dtype=pl.UInt64)
    else:
        whole = column.to_physical()
        if not isinstance(whole.dtype, pl.UInt64):
            whole = whole.cast(pl.Int64).reinterpret(signed=False)
    return whole.fill_null(_NULL).to_numpy()


def _checksums(texts: pl.Series) -> _Words:
    sums = [_NULL if text is None else zlib.crc32(text) for text in texts]
    return np.array(sums, dtype=np.uint64)


def _mixed(words: _Words) -> _Words:
    """Every bit of a word spread over all of it: the finalizer of SplitMix64.

    Source: https://prng.di.unimi.it/splitmix64.c
    """
    words = words + np.uint64(_NULL)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
