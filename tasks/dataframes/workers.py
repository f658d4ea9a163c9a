"""What Dask's processes need for jobs in the pandas style, and what they say too much."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed import WorkerPlugin

from headwater.tasks.jobs import Job

if TYPE_CHECKING:
    from distributed import Client, Worker

SHUFFLE_LOGGER = "distributed.shuffle._scheduler_plugin"
"""Warns of the beginning and the end of each peer-to-peer shuffle."""

_ORDINARY = ("Shuffle %s initialized by task", "Shuffle %s deactivated due to stimulus")
"""How those two begin; its other warnings are of something wrong."""


@contextmanager
def equipped(client: Client, job: Job) -> Iterator[None]:
    """In the block all of the client's processes know the job, also workers that come later."""
    name = f"headwater-{uuid.uuid4().hex}"
    try:
        client.run_on_scheduler(_equip_scheduler, job=job, name=name)
        client.register_plugin(_Equipment(job), name=name)
        try:
            yield
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(name)
    finally:
        if client.status == "running":
            client.run_on_scheduler(_unequip_scheduler, name=name)


class _Equipment(WorkerPlugin):
    """Makes each worker import the job from its text, before tasks arrive that name it."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the protocol's
        self._job.load()


@dataclass(frozen=True)
class _Quiet:
    """Leaves out the two warnings that every shuffle gives."""

    run: str  # each run removes its own

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_ORDINARY)


def _equip_scheduler(job: Job, name: str) -> None:
    job.load()  # the graph arrives as a pickle that names the job's functions
    logging.getLogger(SHUFFLE_LOGGER).addFilter(_Quiet(name))


def _unequip_scheduler(name: str) -> None:
    logging.getLogger(SHUFFLE_LOGGER).removeFilter(_Quiet(name))
