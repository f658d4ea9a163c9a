"""From a plan to a live cluster, and back to nothing.

with clusters.open(plan) as cluster:
    cluster.client.submit(…)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater.infra.errors import HeadwaterError, RunError, UnknownName
from headwater.infra.launchers.local import open_local
from headwater.infra.models import Candidate, LaunchTry, Plan

if TYPE_CHECKING:
    from distributed import Client

LAUNCHERS: dict[str, Callable[[Candidate], AbstractContextManager[Client]]] = {"local": open_local}
"""Each opens one kind of candidate and destroys what it made on any exit."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A live cluster.

    Attributes:
        candidate: The candidate of the plan that was opened.
        tries: Every attempt to open one, the last of which succeeded.
    """

    client: Client
    candidate: Candidate
    tries: tuple[LaunchTry, ...]


@contextmanager
def open(plan: Plan) -> Iterator[Cluster]:
    """A cluster in the first candidate of ``plan`` that can be had.

    A failure that says ``retry = "elsewhere"`` moves on to the next candidate; any other stops.

    Raises:
        RunError: No candidate could be opened.
    """
    tries: list[LaunchTry] = []
    for candidate in plan.candidates:
        begun = time.perf_counter()
        with ExitStack() as stack:
            try:
                client = stack.enter_context(_launcher(candidate)(candidate))
            except HeadwaterError as exc:
                spent = time.perf_counter() - begun
                tries.append(LaunchTry(describe(candidate), "failed", spent, exc.message))
                if exc.retry != "elsewhere":
                    raise
                continue
            spent = time.perf_counter() - begun
            tries.append(LaunchTry(describe(candidate), "opened", spent))
            yield Cluster(client, candidate, tuple(tries))
            return
    said = "; ".join(f"{t.candidate}: {t.reason}" for t in tries) or "the plan has no candidate"
    raise RunError(f"no cluster could be opened ({said})", hint="allow more places in the profile")


def describe(candidate: Candidate) -> str:
    """A candidate in few words.

    Examples:
        >>> from headwater.infra.models import Device
        >>> describe(Candidate("local", Device.CPU, False, 1, 2, 8.0))
        'local cpu, in process, 2 threads'
        >>> describe(Candidate("local", Device.CPU, True, 4, 1, 2.0))
        'local cpu, 4 processes, 1 thread each'
    """
    threads = f"{candidate.threads_per_worker} thread"
    if candidate.threads_per_worker != 1:
        threads += "s"
    if not candidate.processes:
        return f"{candidate.launcher} {candidate.device}, in process, {threads}"
    processes = "1 process" if candidate.workers == 1 else f"{candidate.workers} processes"
    return f"{candidate.launcher} {candidate.device}, {processes}, {threads} each"


def _launcher(candidate: Candidate) -> Callable[[Candidate], AbstractContextManager[Client]]:
    if candidate.launcher not in LAUNCHERS:
        raise UnknownName.of("launcher", candidate.launcher, LAUNCHERS)
    return LAUNCHERS[candidate.launcher]
