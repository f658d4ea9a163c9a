"""What Dask's processes need for jobs in the pandas style, and what they say too much."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed import WorkerPlugin

from headwater.tasks.exchange import quiet_exchanges
from headwater.tasks.jobs import Job

if TYPE_CHECKING:
    from distributed import Client, Worker


@contextmanager
def equipped(client: Client, job: Job) -> Iterator[None]:
    """In the block all of the client's processes know the job, also workers that come later."""
    name = f"headwater-{uuid.uuid4().hex}"
    client.run_on_scheduler(_load, job)  # the graph arrives as a pickle that names its functions
    with quiet_exchanges(client):
        client.register_plugin(_Equipment(job), name=name)
        try:
            yield
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(name)


class _Equipment(WorkerPlugin):
    """Makes each worker import the job from its text, before tasks arrive that name it."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the protocol's
        self._job.load()


def _load(job: Job) -> None:
    job.load()
