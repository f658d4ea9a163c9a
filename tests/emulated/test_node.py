"""Nodes as real processes on addresses of their own, with their orders on S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from distributed import Client, Security
from tests.emulators.answers import Answer, Recorded, recorded
from tests.emulators.s3 import Moto

from headwater.infra.node.checks import installed
from headwater.infra.node.orders import Orders, Tls, WorkerSettings, write_orders
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

WAIT_SECONDS = 60.0
ACTION = "GET /latest/meta-data/spot/instance-action"


def temporary_tls() -> Tls:
    made = Security.temporary()
    return Tls(made.tls_ca_file, made.tls_worker_cert, made.tls_worker_key)


TLS = temporary_tls()


@dataclass
class Nodes:
    """The nodes of one cluster, each with an address and a metadata service of its own."""

    folder: Uri
    orders: Orders
    logs: Path
    leaving: ExitStack
    random: Random = field(default_factory=Random)

    def start(self, name: str, scheduler: str = "") -> Node:
        host = f"127.{self.random.randrange(2, 250)}.{self.random.randrange(256)}.7"
        cloud = self.leaving.enter_context(recorded())
        cloud.answers["PUT /latest/api/token"] = Answer(body="a-token")
        cloud.answers[ACTION] = Answer(404)
        log = self.leaving.enter_context((self.logs / f"{name}.log").open("wb"))
        command = [sys.executable, "-m", "headwater.infra.node.run", str(self.folder)]
        options = ["--cloud", "aws", "--name", name, "--host", host]
        process = subprocess.Popen(
            [*command, *options, *(["--scheduler", scheduler] if scheduler else [])],
            env={**os.environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.url},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        self.leaving.callback(end, process)
        return Node(name, process, cloud, f"tls://{host}:8786", self)


@dataclass
class Node:
    """One running node."""

    name: str
    process: subprocess.Popen[bytes]
    cloud: Recorded
    address: str
    nodes: Nodes

    def reclaim(self, seconds: float) -> None:
        """The cloud says that it takes the machine back after that time."""
        at = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
        body = json.dumps({"action": "terminate", "time": at.replace("+00:00", "Z")})
        self.cloud.answers[ACTION] = Answer(body=body)

    def state(self) -> dict[str, Any]:
        """What it last left in the store; empty where nothing."""
        fs = open_filesystem(self.nodes.folder)
        uri = self.nodes.folder / f"{self.name}.json"
        if not any(ref.uri == str(uri) for ref in fs.list(self.nodes.folder)):
            return {}
        found: dict[str, Any] = json.loads(fs.read(fs.stat(uri)))
        return found

    def await_serving(self) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while self.state().get("state") != "serves":
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        return (self.nodes.logs / f"{self.name}.log").read_text()


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture
def nodes(moto: Moto, tmp_path: Path) -> Iterator[Nodes]:
    folder = Uri.parse(f"s3://{moto.new_bucket()}/clusters/c1")
    orders = Orders(
        cluster="c1",
        tls=TLS,
        lease_until=datetime.now(UTC) + timedelta(minutes=5),
        idle_seconds=120,
        lost_seconds=30,
        versions=installed(),
        worker=WorkerSettings(threads=1, memory_gib=0.5, local_directory=str(tmp_path / "spill")),
    )
    write_orders(folder, orders)
    with ExitStack() as leaving:
        yield Nodes(folder, orders, tmp_path, leaving)


@pytest.mark.trial
def test_a_cluster_works_over_tls_and_hands_over_what_a_reclaimed_node_holds(
    nodes: Nodes,
) -> None:
    scheduler = nodes.start("c1-s")
    scheduler.await_serving()
    workers = [nodes.start(f"c1-w{i}", scheduler.address) for i in range(2)]
    for worker in workers:
        worker.await_serving()
    security = TLS.security()

    with Client(scheduler.address, security=security, set_as_default=False) as client:
        held = client.submit(pow, 7, 2, workers=["c1-w0"], allow_other_workers=True)
        assert held.result(timeout=30) == 49
        workers[0].reclaim(seconds=60)
        assert workers[0].process.wait(WAIT_SECONDS) == 0, workers[0].log()
        assert client.submit(sum, [held, 1], pure=False).result(timeout=30) == 50
        names = {one["name"] for one in client.scheduler_info()["workers"].values()}
        client.shutdown()

    assert names == {"c1-w1"}
    assert workers[0].state() | {"at": ""} == {
        "node": "c1-w0",
        "state": "ended",
        "said": "the cloud took it back",
        "at": "",
    }
    for node in (scheduler, workers[1]):
        assert node.process.wait(WAIT_SECONDS) == 0, node.log()
        assert node.state()["said"] == "finished"


@pytest.mark.trial
def test_a_peer_without_a_certificate_is_turned_away(nodes: Nodes) -> None:
    scheduler = nodes.start("c1-s")
    scheduler.await_serving()

    with pytest.raises(OSError, match=r"(?i)tls|ssl|certificate|connect"):
        Client(scheduler.address, security=temporary_tls().security(), timeout="5s")
    with pytest.raises((OSError, TypeError)):
        Client(scheduler.address.replace("tls:", "tcp:"), timeout="5s")


def test_a_node_whose_versions_differ_says_so_and_ends(nodes: Nodes) -> None:
    write_orders(nodes.folder, replace(nodes.orders, versions={"dask": "2020.1.0"}))

    node = nodes.start("c1-s")

    assert node.process.wait(WAIT_SECONDS) == 1
    assert node.state()["state"] == "failed"
    assert "dask  2020.1.0" in node.state()["said"]


@pytest.mark.trial
def test_a_node_without_its_gpu_says_so_and_ends(nodes: Nodes) -> None:
    write_orders(nodes.folder, replace(nodes.orders, worker=WorkerSettings(gpus=1)))

    node = nodes.start("c1-w0", "tls://127.0.0.1:1")

    assert node.process.wait(WAIT_SECONDS) == 1
    assert "1 GPUs are wanted of this node" in node.state()["said"]


@pytest.mark.trial
@pytest.mark.parametrize("is_renewed", [False, True])
def test_a_node_ends_with_its_lease_unless_that_is_renewed(nodes: Nodes, is_renewed: bool) -> None:
    until = datetime.now(UTC) + timedelta(seconds=6)
    write_orders(nodes.folder, replace(nodes.orders, lease_until=until))
    node = nodes.start("c1-s")
    node.await_serving()
    if is_renewed:
        write_orders(nodes.folder, replace(nodes.orders, lease_until=until + timedelta(seconds=6)))

    assert node.process.wait(WAIT_SECONDS) == 0

    assert node.state()["said"] == "the lease ended"
    late = datetime.fromisoformat(node.state()["at"]) - until
    assert late >= timedelta(seconds=5 if is_renewed else -1)


@pytest.mark.trial
def test_a_worker_without_a_scheduler_ends(nodes: Nodes) -> None:
    write_orders(nodes.folder, replace(nodes.orders, lost_seconds=3))

    node = nodes.start("c1-w0", "tls://127.0.0.1:1")

    assert node.process.wait(WAIT_SECONDS) == 1
    assert node.state()["state"] == "failed", node.log()
