"""Brings rows together on a cluster: each piece gives every bucket its share.

The way there is Dask's peer-to-peer shuffle, which keeps what arrives on the workers' disks and
starts anew by itself where a worker is lost. What travels is not a pandas frame: a share is one
value, the Arrow bytes that Polars writes, so types come out as they went in, and are checked.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from dask._task_spec import GraphNode, Task, TaskRef

from headwater.infra.errors import SchemaMismatch
from headwater.tasks.arrow import pack, unpack
from headwater.tasks.digests import Words, digests

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

Graph = dict[str, GraphNode]
"""Tasks of Dask by their keys."""

_BUCKET, _ROWS = "bucket", "rows"

SHUFFLE_LOGGER = "distributed.shuffle._scheduler_plugin"
"""Warns of the beginning and the end of each peer-to-peer shuffle."""

_ORDINARY = ("Shuffle %s initialized by task", "Shuffle %s deactivated due to stimulus")
"""How those two begin; its other warnings are of something wrong."""


def buckets_by_key(frame: pl.DataFrame, keys: Sequence[str], buckets: int) -> Words:
    """The bucket of each row; rows with equal keys have the same one, from whatever piece."""
    return digests([frame[name] for name in keys]) % np.uint64(buckets)


def shares(frame: pl.DataFrame, bucket_of: Words) -> pd.DataFrame:
    """What a piece gives: a row for each bucket that gets some of its rows, with their bytes.

    Args:
        bucket_of: One for each row.
    """
    import pandas as pd

    order = np.argsort(bucket_of, kind="stable")
    ordered = frame[order]
    found, starts = np.unique(bucket_of[order], return_index=True)
    edges = [*map(int, starts), frame.height]
    data = [pack(ordered.slice(start, end - start)) for start, end in pairwise(edges)]
    return pd.DataFrame({_BUCKET: found.astype(np.int64), _ROWS: _as_column(data)})


def taken(arrived: pd.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The rows of a bucket, in the order of the pieces that they came from.

    Raises:
        SchemaMismatch: They have other types than the pieces had.
    """
    frames = [unpack(data) for data in arrived[_ROWS]]
    for frame in frames:
        if frame.schema != schema:
            wrong = [n for n in schema if frame.schema.get(n) != schema[n]] or frame.columns
            raise SchemaMismatch(
                f"column '{wrong[0]}' came out of the exchange between workers as"
                f" {frame.schema.get(wrong[0])}, and went in as {schema.get(wrong[0])}",
                hint="all workers must run the same version of Polars",
            )
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def add_exchange(
    graph: Graph, token: str, pieces: Sequence[TaskRef], buckets: int
) -> list[TaskRef]:
    """What each bucket gets, for ``taken``, as tasks that are added to ``graph``.

    Args:
        token: Names the exchange; no other of the cluster may have it.
        pieces: What each piece gives, from ``shares``.
    """
    # This is how Dask's own frames ask for the shuffle; the pinned version of Dask is what makes
    # it safe to do the same.
    from distributed.shuffle._core import P2PBarrierTask, ShuffleId, barrier_key, p2p_barrier
    from distributed.shuffle._shuffle import DataFrameShuffleSpec, shuffle_transfer, shuffle_unpack

    shuffle = ShuffleId(token)
    sent = [
        Task(f"shuffle-transfer-{token}-{i}", shuffle_transfer, piece, shuffle, i)
        for i, piece in enumerate(pieces)
    ]
    barrier = P2PBarrierTask(
        barrier_key(shuffle),
        p2p_barrier,
        shuffle,
        *(TaskRef(task.key) for task in sent),
        spec=DataFrameShuffleSpec(
            id=shuffle,
            npartitions=buckets,
            column=_BUCKET,
            meta=_empty(),
            parts_out=buckets,
            disk=True,
            drop_column=True,
        ),
    )
    got = [
        Task(f"shuffle-p2p-{token}-{i}", shuffle_unpack, shuffle, i, TaskRef(barrier.key))
        for i in range(buckets)
    ]
    graph.update({str(task.key): task for task in (*sent, barrier, *got)})
    return [TaskRef(task.key) for task in got]


@contextmanager
def quiet_exchanges(client: Client) -> Iterator[None]:
    """In the block the scheduler does not warn of exchanges that begin and end as they should."""
    block = _Quiet(uuid.uuid4().hex)
    client.run_on_scheduler(_hush, block)
    try:
        yield
    finally:
        if client.status == "running":
            client.run_on_scheduler(_unhush, block)


@dataclass(frozen=True)
class _Quiet:
    """Leaves out the two warnings that every shuffle gives."""

    block: str  # each removes its own

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_ORDINARY)


def _hush(block: _Quiet) -> None:
    logging.getLogger(SHUFFLE_LOGGER).addFilter(block)


def _unhush(block: _Quiet) -> None:
    logging.getLogger(SHUFFLE_LOGGER).removeFilter(block)


def _empty() -> pd.DataFrame:
    # Here, since to import it takes longer than most runs, which exchange nothing, need at all.
    import pandas as pd

    return pd.DataFrame({_BUCKET: np.array([], dtype=np.int64), _ROWS: _as_column([])})


def _as_column(data: Sequence[bytes]) -> pd.api.extensions.ExtensionArray:
    import pandas as pd
    import pyarrow as pa

    return pd.arrays.ArrowExtensionArray(pa.array(data, pa.large_binary()))
