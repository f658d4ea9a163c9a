"""The guard of this process's memory: parts wait for room, and a run is stopped at its bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import MemoryExhausted
from headwater.infra.models import Candidate, Device, Plan
from headwater.infra.units import GIB
from headwater.tasks.memory import memory_guard, under_way

THREADS = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    plan = Plan((Candidate("local", Device.CPU, False, 1, THREADS, 4.0),))
    with clusters.open(plan) as cluster:
        yield cluster


def bound(share: float, *, processes: bool = False) -> Candidate:
    """A candidate that may have so many times what this process has in memory now."""
    gib = share * psutil.Process().memory_info().rss / GIB
    return Candidate("local", Device.CPU, processes, 1, THREADS, 4.0, gib)


def most_at_once() -> int:
    """How many of some short parts are under way together."""
    lock, now, most = threading.Lock(), 0, 0

    def part(number: int) -> None:
        nonlocal now, most
        with under_way(f"part {number}"):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.1)
            with lock:
                now -= 1

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(part, range(THREADS)))
    return most


def test_parts_are_done_one_after_another_where_there_is_little_room(cluster: Cluster) -> None:
    with memory_guard(cluster.client, bound(1.15)):
        assert most_at_once() == 1
    with memory_guard(cluster.client, bound(10)):
        assert most_at_once() == THREADS
    assert most_at_once() == THREADS


def wait_under_guard(cluster: Cluster) -> None:
    def wait() -> None:
        with under_way("part 7 (a.parquet)"):
            time.sleep(0.5)

    with memory_guard(cluster.client, bound(0.5)):
        cluster.client.submit(wait, pure=False).result(timeout=30)


@pytest.mark.parametrize(
    "call", [lambda f: f(), lambda f: ThreadPoolExecutor(1).submit(f).result()], ids=["main", "any"]
)
def test_a_run_in_any_thread_is_stopped_at_the_bound(
    cluster: Cluster, call: Callable[[Callable[[], None]], None]
) -> None:
    with pytest.raises(MemoryExhausted, match=r"may have .*; under way: ") as caught:
        call(lambda: wait_under_guard(cluster))

    assert "threads_per_worker = 1" in caught.value.hint


def test_processes_are_not_guarded_from_here(cluster: Cluster) -> None:
    with memory_guard(cluster.client, bound(0.5, processes=True)):
        assert most_at_once() == THREADS
