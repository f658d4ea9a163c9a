"""What Dask's processes need for jobs in the pandas style, and what they say too much."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from dask.dataframe.dispatch import hash_object_dispatch
from distributed import WorkerPlugin

from headwater.tasks.jobs import Job

if TYPE_CHECKING:
    from distributed import Client, Worker

SHUFFLE_LOGGER = "distributed.shuffle._scheduler_plugin"
"""Warns of the beginning and the end of each peer-to-peer shuffle."""

_ORDINARY = ("Shuffle %s initialized by task", "Shuffle %s deactivated due to stimulus")
"""How those two begin; its other warnings are of something wrong."""

_MASKED = {
    "bool": pd.BooleanDtype(),
    "int8": pd.Int8Dtype(),
    "int16": pd.Int16Dtype(),
    "int32": pd.Int32Dtype(),
    "int64": pd.Int64Dtype(),
    "uint8": pd.UInt8Dtype(),
    "uint16": pd.UInt16Dtype(),
    "uint32": pd.UInt32Dtype(),
    "uint64": pd.UInt64Dtype(),
}
"""pandas' own nullable types, by the names of Arrow's."""


@contextmanager
def equipped(client: Client, job: Job) -> Iterator[None]:
    """In the block all of the client's processes know the job, also workers that come later."""
    name = f"headwater-{id(job):x}"
    client.run_on_scheduler(_equip_scheduler, job=job)
    client.register_plugin(_Equipment(job), name=name)
    try:
        yield
    finally:
        if client.status == "running":
            client.unregister_worker_plugin(name)
            client.run_on_scheduler(_unequip_scheduler, job=job)


def hash_alike(
    frame: pd.DataFrame | pd.Series | pd.Index,
    index: bool = True,
    encoding: str = "utf8",
    hash_key: str | None = None,
    categorize: bool = True,
) -> pd.Series:
    """pandas' hash of each row, the same for the same values in every partition.

    pandas hashes Arrow-backed integers and booleans through NumPy, which has them as floats or
    objects where one of them is null. So one key would hash in two ways, depending on what else is
    in its partition, and rows that match would be sent to different places.
    """
    if isinstance(frame, pd.DataFrame):
        frame = frame.apply(_hashable)
    elif isinstance(frame, pd.Series):
        frame = _hashable(frame)
    elif not isinstance(frame, pd.MultiIndex):
        frame = pd.Index(_hashable(frame.to_series()))
    return pd.util.hash_pandas_object(
        frame, index=index, encoding=encoding, hash_key=hash_key, categorize=categorize
    )


class _Equipment(WorkerPlugin):
    """Makes each worker import the job from its text, and hash values alike."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the protocol's
        self._job.load()
        hash_object_dispatch.register((pd.DataFrame, pd.Series, pd.Index), hash_alike)


@dataclass(frozen=True)
class _Quiet:
    """Leaves out the two warnings that every shuffle gives."""

    run: str

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_ORDINARY)


def _equip_scheduler(job: Job) -> None:
    job.load()
    logging.getLogger(SHUFFLE_LOGGER).addFilter(_Quiet(job.digest))


def _unequip_scheduler(job: Job) -> None:
    logging.getLogger(SHUFFLE_LOGGER).removeFilter(_Quiet(job.digest))


def _hashable(column: pd.Series) -> pd.Series:
    """``column`` in a type whose hash of a value depends on nothing else."""
    dtype = column.dtype
    if dtype.kind == "f":
        return column + 0.0  # -0.0 becomes 0.0, which equals it and should meet it
    if not isinstance(dtype, pd.ArrowDtype):
        return column
    masked = _MASKED.get(str(dtype.pyarrow_dtype))
    return column if masked is None else column.astype(masked)
