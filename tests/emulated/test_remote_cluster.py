"""A cluster on emulated EC2: real nodes, started from their user-data by the hypervisor."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from distributed import Client
from tests.emulators import docker
from tests.emulators.ec2 import IMAGE, ZONES, Ec2
from tests.emulators.hypervisor import Hypervisor, hypervisor
from tests.emulators.s3 import REGION, Moto

from headwater.infra.clusters.blueprint import Blueprint, Place
from headwater.infra.clusters.remote import GPUCluster, launch_failure
from headwater.infra.errors import AuthenticationFailed, NoCapacity
from headwater.infra.launchers.aws import AwsLauncher
from headwater.infra.launchers.base import LaunchSettings
from headwater.infra.launchers.tags import CLUSTER
from headwater.infra.models import Cloud, Market
from headwater.infra.node.orders import WorkerSettings
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

WAIT_SECONDS = 90.0
NOTICE_SCALE = 0.2
"""A notice of 120 s comes 24 s before."""

PROGRAMS = {"docker": [sys.executable, str(Path(docker.__file__).resolve())]}

SCHEDULERS = tuple(Place(REGION, zone, "t3.small", Market.ON_DEMAND) for zone in ZONES)
WORKERS = tuple(Place(REGION, zone, "m6i.large", Market.SPOT) for zone in ZONES)


@dataclass(frozen=True)
class Site:
    """An account of the emulated cloud, and the machines behind it."""

    ec2: Ec2
    machines: Hypervisor
    launcher: AwsLauncher
    blueprint: Blueprint
    folder: Path

    @contextmanager
    def cluster(self, nodes: int) -> Iterator[tuple[GPUCluster, Client]]:
        intents = self.folder / "intents"
        with (
            GPUCluster(self.launcher, self.blueprint, nodes=nodes, intents=intents) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            cluster.wait_until_ready(nodes, WAIT_SECONDS)
            yield cluster, client

    def machine(self, name: str) -> str:
        """The id of a node that runs."""
        running = self.machines.running.items()
        return next(key for key, guest in running if guest.machine.name == name)

    def left(self) -> list[str]:
        """What is there of the cluster: in the cloud, on the hypervisor, in the store and here."""
        blueprint = self.blueprint
        inventory = self.launcher.list({CLUSTER: blueprint.cluster})
        found = [one.name for one in inventory.leftovers]
        found += [guest.machine.name for guest in self.machines.running.values()]
        fs = open_filesystem(blueprint.folder)
        found += [ref.uri for ref in fs.list(blueprint.folder)]
        return found + [path.name for path in (self.folder / "intents").glob("*")]


@pytest.fixture
def site(ec2: Ec2, moto: Moto, tmp_path: Path) -> Iterator[Site]:
    cluster = f"hw{tmp_path.name[-1]}"
    blueprint = Blueprint(
        cluster=cluster,
        run="r1",
        owner="tests",
        cloud=Cloud.AWS,
        folder=Uri.parse(f"s3://{moto.new_bucket()}/clusters/{cluster}"),
        container="headwater:1",
        scheduler=SCHEDULERS,
        workers=WORKERS,
        settings=WorkerSettings(memory_gib=0.5, local_directory=str(tmp_path / "spill")),
        most_minutes=10,
    )
    network = {"subnets": tuple(ec2.subnets.values()), "security_groups": (ec2.security_group,)}
    settings = LaunchSettings("mine", Cloud.AWS, network, IMAGE, "", {}, "mine.toml")
    environment = {"AWS_ENDPOINT_URL": moto.url, "AWS_DEFAULT_REGION": REGION}
    with (
        hypervisor(
            [ec2],
            tmp_path / "machines",
            programs=PROGRAMS,
            environment=environment,
            time_scale=NOTICE_SCALE,
        ) as machines,
        AwsLauncher(settings, regions=[REGION]) as launcher,
    ):
        yield Site(ec2, machines, launcher, blueprint, tmp_path)


def names(cluster: GPUCluster) -> list[str]:
    workers = cluster.scheduler_info["workers"].values()
    return sorted(worker["name"].partition("-")[2] for worker in workers)


def until(is_so: object, site: Site) -> None:
    assert callable(is_so)
    site.machines.wait_until(is_so, seconds=WAIT_SECONDS)


def test_a_cluster_works_where_there_is_capacity_and_leaves_nothing(site: Site) -> None:
    site.ec2.script.fail("RunInstances", "InsufficientInstanceCapacity", times=None, where=ZONES[0])

    with site.cluster(1) as (cluster, client):
        assert client.submit(pow, 7, 2).result(timeout=30) == 49
        assert [(t.candidate, t.outcome) for t in cluster.tries] == [
            (f"{ZONES[0]} t3.small on demand", "failed"),
            (f"{ZONES[1]} t3.small on demand", "opened"),
            (f"{ZONES[0]} m6i.large spot", "failed"),
            (f"{ZONES[1]} m6i.large spot", "opened"),
        ]
        assert [node.zone for node in cluster.nodes] == [ZONES[1]] * 2

    assert site.left() == []


@pytest.mark.trial
def test_a_node_that_is_killed_or_taken_back_is_replaced_under_a_new_name(site: Site) -> None:
    with site.cluster(2) as (cluster, client):
        site.ec2.reclaim(site.machine(f"{cluster.blueprint.cluster}-w1"))
        until(lambda: names(cluster) == ["w2", "w3"], site)
        held = client.submit(pow, 7, 2)
        assert held.result(timeout=30) == 49
        site.machines.reclaim(site.machine(f"{cluster.blueprint.cluster}-w2"))
        until(lambda: names(cluster) == ["w3", "w4"], site)
        assert client.submit(sum, [held, 1]).result(timeout=30) == 50
        assert "the cloud took it back" in cluster.failures[-1]

    assert site.left() == []


@pytest.mark.trial
def test_it_grows_and_shrinks_with_its_work(site: Site) -> None:
    with site.cluster(1) as (cluster, client):
        cluster.adapt(minimum=1, maximum=3, interval="1s", wait_count=3, target_duration="2s")
        work = client.map(lambda _: time.sleep(0.5), range(80), pure=False)
        until(lambda: len(names(cluster)) == 3, site)
        client.gather(work)
        del work
        until(lambda: len(names(cluster)) == 1, site)
        until(lambda: len(site.machines.running) == 2, site)

    assert site.left() == []


def test_no_capacity_anywhere_is_told_and_leaves_nothing(site: Site) -> None:
    site.ec2.script.fail("RunInstances", "InsufficientInstanceCapacity", times=None)

    with pytest.raises(RuntimeError) as caught, site.cluster(1):
        pass

    failure = launch_failure(caught.value)
    assert isinstance(failure, NoCapacity)
    assert failure.message.startswith(f"no place has a machine ({ZONES[0]} t3.small on demand:")
    assert site.left() == []


def test_a_refusal_that_no_other_place_mends_is_told_at_once(site: Site) -> None:
    site.ec2.script.fail("RunInstances", "AuthFailure", times=None)

    with pytest.raises(RuntimeError) as caught, site.cluster(1):
        pass

    assert isinstance(launch_failure(caught.value), AuthenticationFailed)
    assert site.ec2.script.calls["RunInstances"] == 1
    assert site.left() == []


@pytest.mark.trial
def test_nodes_that_never_serve_are_given_up(site: Site) -> None:
    gpus = replace(site.blueprint, settings=replace(site.blueprint.settings, gpus=1))

    with (
        pytest.raises(Exception, match=r"no node came up: hw\d-w1: 1 GPUs are wanted"),
        replace(site, blueprint=gpus).cluster(1),
    ):
        pass

    assert site.left() == []
