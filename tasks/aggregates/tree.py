"""Joins the states of many parts on a Dask cluster, a few at a time.

All joins are submitted at once and none waits inside a task, so that one worker with one thread is
enough. A join goes before parts that are still to be read, and its inputs are let go after it:
a worker holds some ``FAN_IN`` states of each level, however many parts there are.
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

if TYPE_CHECKING:
    from distributed import Client, Future

FAN_IN = 8
"""States joined by one task: fewer make more tasks, more make each hold more memory."""

JOIN_PRIORITY = 10
"""Above that of parts."""


def tree(
    client: Client,
    states: Sequence[Future[pl.DataFrame]],
    plan: AggregatePlan,
    schema: pl.Schema,
    *,
    fan_in: int = FAN_IN,
) -> Future[pl.DataFrame]:
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
    states: Sequence[Future[pl.DataFrame]],
    plan: AggregatePlan,
    schema: pl.Schema,
    *,
    partitions: int,
    fan_in: int = FAN_IN,
) -> list[Future[pl.DataFrame]]:
    """The states of ``partitions`` disjoint sets of groups, none larger than its share.

    Without keys all rows are one group, and there is one partition.
    """
    if partitions == 1 or not plan.by:
        return [tree(client, states, plan, schema, fan_in=fan_in)]
    cuts = [
        client.submit(
            partition_state, state, len(plan.by), partitions, pure=False, priority=JOIN_PRIORITY
        )
        for state in states
    ]
    return [
        tree(
            client,
            [client.submit(getitem, cut, i, pure=False, priority=JOIN_PRIORITY) for cut in cuts],
            plan,
            schema,
            fan_in=fan_in,
        )
        for i in range(partitions)
    ]


def joined(states: Sequence[pl.DataFrame], plan: AggregatePlan, schema: pl.Schema) -> pl.DataFrame:
    """The joint state of ``states``; runs on a worker."""
    return combine(states, plan, schema).collect(engine="streaming")
