"""A cluster of real nodes: processes on addresses of their own, started from their user-data."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from distributed import Client
from tests.emulators.answers import recorded
from tests.emulators.machines import Machines
from tests.emulators.s3 import Moto

from headwater.infra.clusters.blueprint import Blueprint, Place
from headwater.infra.clusters.remote import GPUCluster, launch_failure
from headwater.infra.errors import AuthenticationFailed, NoCapacity
from headwater.infra.models import Cloud, Market
from headwater.infra.node.orders import WorkerSettings
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

WAIT_SECONDS = 90.0

SMALL = Place("us-east-1", "us-east-1a", "t3.small", Market.ON_DEMAND)
ZONES = tuple(Place("us-east-1", f"us-east-1{z}", "g6.xlarge", Market.SPOT) for z in "abc")


@pytest.fixture
def machines(moto: Moto, tmp_path: Path) -> Iterator[Machines]:
    with recorded() as metadata:
        made = Machines(tmp_path, metadata)
        yield made
        made.close()


@pytest.fixture
def blueprint(moto: Moto, tmp_path: Path) -> Blueprint:
    return blueprint_in(f"s3://{moto.new_bucket()}/clusters/hw1", tmp_path)


def blueprint_in(folder: str, tmp_path: Path) -> Blueprint:
    return Blueprint(
        cluster="hw1",
        run="r1",
        owner="tests",
        cloud=Cloud.AWS,
        folder=Uri.parse(folder),
        container="headwater:1",
        scheduler=(SMALL,),
        workers=ZONES,
        settings=WorkerSettings(memory_gib=0.5, local_directory=str(tmp_path / "spill")),
        most_minutes=10,
    )


@contextmanager
def cluster_of(
    machines: Machines, blueprint: Blueprint, nodes: int
) -> Iterator[tuple[GPUCluster, Client]]:
    with (
        GPUCluster(machines, blueprint, nodes=nodes, intents=machines.logs / "intents") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.wait_until_ready(nodes, WAIT_SECONDS)
        yield cluster, client


def until(is_so: Callable[[], bool], machines: Machines) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < end, (machines.calls, machines.running())
        time.sleep(0.1)


def names(cluster: GPUCluster) -> list[str]:
    return sorted(worker["name"] for worker in cluster.scheduler_info["workers"].values())


def left(blueprint: Blueprint) -> list[str]:
    return [ref.uri for ref in open_filesystem(blueprint.folder).list(blueprint.folder)]


def test_a_cluster_works_where_there_is_capacity_and_leaves_nothing(
    machines: Machines, blueprint: Blueprint
) -> None:
    machines.refusals["us-east-1a"] = NoCapacity("InsufficientInstanceCapacity")
    blueprint = replace(blueprint, scheduler=(SMALL, replace(SMALL, zone="us-east-1b")))

    with cluster_of(machines, blueprint, 1) as (cluster, client):
        assert client.submit(pow, 7, 2).result(timeout=30) == 49
        assert [(t.candidate, t.outcome) for t in cluster.tries] == [
            ("us-east-1a t3.small on demand", "failed"),
            ("us-east-1b t3.small on demand", "opened"),
            ("us-east-1a g6.xlarge spot", "failed"),
            ("us-east-1b g6.xlarge spot", "opened"),
        ]
        assert [node.zone for node in cluster.nodes] == ["us-east-1b", "us-east-1b"]

    assert machines.running() == []
    assert left(blueprint) == []
    assert not list((machines.logs / "intents").iterdir())


@pytest.mark.trial
def test_a_lost_node_is_replaced_under_a_new_name(machines: Machines, blueprint: Blueprint) -> None:
    with cluster_of(machines, blueprint, 2) as (cluster, client):
        machines.kill("hw1-w1")
        until(lambda: names(cluster) == ["hw1-w2", "hw1-w3"], machines)
        assert client.submit(pow, 7, 2).result(timeout=30) == 49
        assert cluster.failures == ["hw1-w1: the cloud took it"]

    assert machines.running() == []


@pytest.mark.trial
def test_it_grows_and_shrinks(machines: Machines, blueprint: Blueprint) -> None:
    with cluster_of(machines, blueprint, 1) as (cluster, _):
        cluster.scale(3)
        cluster.wait_until_ready(3, WAIT_SECONDS)
        cluster.scale(1)
        until(lambda: names(cluster) == ["hw1-w1"], machines)
        until(lambda: machines.running() == ["hw1-s", "hw1-w1"], machines)

    assert machines.running() == []


def test_no_capacity_anywhere_is_told_and_leaves_nothing(
    machines: Machines, blueprint: Blueprint
) -> None:
    machines.refusals["us-east-1a"] = NoCapacity("InsufficientInstanceCapacity")

    with pytest.raises(RuntimeError) as caught, cluster_of(machines, blueprint, 1):
        pass

    failure = launch_failure(caught.value)
    assert isinstance(failure, NoCapacity)
    assert failure.message.startswith("no place has a machine (us-east-1a t3.small on demand:")
    assert machines.running() == []
    assert left(blueprint) == []


def test_a_refusal_that_no_other_place_mends_is_told_at_once(
    machines: Machines, blueprint: Blueprint
) -> None:
    machines.refusals["us-east-1a"] = AuthenticationFailed("the credentials have expired")
    blueprint = replace(blueprint, scheduler=(SMALL, replace(SMALL, zone="us-east-1b")))

    with pytest.raises(RuntimeError) as caught, cluster_of(machines, blueprint, 1):
        pass

    assert isinstance(launch_failure(caught.value), AuthenticationFailed)
    assert machines.calls.count("create hw1-s in us-east-1b") == 0


@pytest.mark.trial
def test_nodes_that_never_serve_are_given_up(machines: Machines, blueprint: Blueprint) -> None:
    blueprint = replace(blueprint, settings=replace(blueprint.settings, gpus=1))

    with (
        GPUCluster(machines, blueprint, nodes=1, intents=machines.logs / "intents") as cluster,
        pytest.raises(Exception, match=r"no node came up: hw1-w1: 1 GPUs are wanted"),
    ):
        cluster.wait_until_ready(1, WAIT_SECONDS)

    assert machines.running() == []


HOLDER = """
import sys, time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tests.emulated.test_remote_cluster import blueprint_in, cluster_of
from tests.emulators.answers import recorded
from tests.emulators.machines import Machines

folder, logs = sys.argv[1], Path(sys.argv[2])
blueprint = replace(blueprint_in(folder, logs), lease=timedelta(seconds=20), lost_seconds=20)
with recorded() as metadata, cluster_of(Machines(logs, metadata), blueprint, 1) as (_, client):
    print("ready", flush=True)
    client.submit(time.sleep, 600).result()
"""


@pytest.mark.trial
def test_nodes_whose_holder_was_killed_end_with_their_lease(moto: Moto, tmp_path: Path) -> None:
    folder = f"s3://{moto.new_bucket()}/clusters/hw1"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"

    holder.kill()
    holder.communicate(timeout=10)
    killed = time.monotonic()
    while nodes_of(folder):
        assert time.monotonic() - killed < 90, nodes_of(folder)
        time.sleep(0.5)

    said = {name: (tmp_path / f"{name}.log").read_text() for name in ("hw1-s", "hw1-w1")}
    assert all("ends: " in log for log in said.values()), said


def nodes_of(folder: str) -> list[list[str]]:
    """Command lines of all nodes of that cluster that still run."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if folder in line and "-c" not in line]
