"""Cuts a state by its groups, where all groups together are too many for one worker.

A group goes to a partition by a digest of its keys that depends on nothing else, so that states
made by other processes, on other machines and by other versions of Polars are cut alike, and each
partition can be combined and finished on its own.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from headwater.infra.errors import InvalidRequest
from headwater.tasks.digests import digests

COMBINE_EXPANSION = 6
"""Memory that combining takes, as a multiple of all states: themselves, the table of groups, the
result, and half as much again."""


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
    found = digests(state.get_columns()[1 : 1 + keys])
    index = pl.Series("partition", found % np.uint64(partitions))
    return [state.filter(index == i) for i in range(partitions)]
