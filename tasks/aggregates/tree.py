"""Joins the states of many parts on a Dask cluster, a few at a time.

All joins are submitted at once and none waits inside a task, so that one worker with one thread is
enough. A join goes before parts that are still to be read, and its inputs are let go after it:
a worker holds some ``FAN_IN`` states of each level, however many parts there are. States travel
as bytes (``tasks.arrow``).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import TYPE_CHECKING

import polars as pl

from headwater.infra.errors import InvalidRequest
from headwater.tasks.aggregate import combine
from headwater.tasks.aggregates.partitions import partition_state
from headwater.tasks.aggregates.plan import AggregatePlan
from headwater.tasks.arrow import pack, unpack

if TYPE_CHECKING:
    from distributed import Client, Future

FAN_IN = 8
"""States joined by one task: fewer make more tasks, more make each hold more memory."""

JOIN_PRIORITY = 10
"""Above that of parts."""


def tree(
    client: Client,
    states: Sequence[Future[bytes]],
    plan: AggregatePlan,
    schema: pl.Schema,
    *,
    fan_in: int = FAN_IN,
) -> Future[bytes]:
    """The state of all rows.

    Args:
        states: One of each part. Let go of them after this call, and each lives no longer than
            its join.
        schema: Columns of the input that the states are of.
    """
    if fan_in < 2:
        raise InvalidRequest(f"fan_in is {fan_in}: a join takes two states or more")
    level = list(states)
    while True:
        groups = [level[i : i + fan_in] for i in range(0, len(level), fan_in)] or [[]]
        level = [
            client.submit(joined, group, plan, schema, pure=False, priority=JOIN_PRIORITY)
            for group in groups
        ]
        if len(level) == 1:
            return level[0]


def forest(
    client: Client,
    states: Sequence[Future[bytes]],
    plan: AggregatePlan,
    schema: pl.Schema,
    *,
    partitions: int,
    fan_in: int = FAN_IN,
) -> list[Future[bytes]]:
    """The states of ``partitions`` disjoint sets of groups, none larger than its share.

    Without keys all rows are one group, and there is one partition.
    """
    if partitions == 1 or not plan.by:
        return [tree(client, states, plan, schema, fan_in=fan_in)]
    cuts = [
        client.submit(cut, state, len(plan.by), partitions, pure=False, priority=JOIN_PRIORITY)
        for state in states
    ]
    return [
        tree(
            client,
            [client.submit(getitem, one, i, pure=False, priority=JOIN_PRIORITY) for one in cuts],
            plan,
            schema,
            fan_in=fan_in,
        )
        for i in range(partitions)
    ]


def joined(states: Sequence[bytes], plan: AggregatePlan, schema: pl.Schema) -> bytes:
    """The joint state of ``states``; runs on a worker."""
    frames = [unpack(state) for state in states]
    return pack(combine(frames, plan, schema).collect(engine="streaming"))


def cut(state: bytes, keys: int, partitions: int) -> list[bytes]:
    """``state`` as ``partition_state`` cuts it; runs on a worker."""
    return [pack(piece) for piece in partition_state(unpack(state), keys, partitions)]
