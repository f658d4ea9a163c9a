"""Machines without a cloud: a launcher whose nodes are processes on addresses of their own.

Each runs the command that its user-data gives to its container.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.emulators.answers import Answer, Recorded

from headwater.infra.errors import LaunchError
from headwater.infra.launchers.base import Inventory, Leftover, Node, NodeSpec, State
from headwater.infra.launchers.network import IngressRule
from headwater.infra.models import Cloud

STOP_SECONDS = 10.0


@dataclass
class Machines:
    """A launcher; see ``Launcher``.

    Attributes:
        logs: Where each node's output goes.
        metadata: Answers for all nodes as EC2's metadata service.
        refusals: By zone, what a request there fails with.
        created: Every machine so far, by name.
    """

    logs: Path
    metadata: Recorded
    refusals: dict[str, LaunchError] = field(default_factory=dict)
    created: dict[str, Node] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    cloud = Cloud.AWS

    def __post_init__(self) -> None:
        self.metadata.answers["PUT /latest/api/token"] = Answer(body="a-token")
        self.metadata.answers["GET /latest/meta-data/spot/instance-action"] = Answer(404)

    def create(self, spec: NodeSpec) -> Node:
        self.calls.append(f"create {spec.name} in {spec.zone}")
        if spec.zone in self.refusals:
            raise self.refusals[spec.zone]
        with self._lock:
            if spec.name in self.created:
                return self.created[spec.name]
            pick = random.Random(spec.name + str(self.logs))
            host = f"127.{pick.randrange(2, 250)}.{pick.randrange(256)}.{pick.randrange(1, 255)}"
            line = spec.user_data.replace("\\\n", "").splitlines()[2]
            words = shlex.split(line)
            command = words[words.index("headwater-node") + 1 :]
            with (self.logs / f"{spec.name}.log").open("wb") as log:
                self._processes[spec.name] = subprocess.Popen(
                    [sys.executable, "-m", "headwater.infra.node.run", *command, "--host", host],
                    env={**os.environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.url},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            node = Node(
                f"i-{spec.name}",
                spec.name,
                self.cloud,
                spec.region,
                spec.zone,
                spec.instance_type,
                spec.market,
                host,
                State.RUNNING,
                spec.tags,
                datetime.now(UTC),
            )
            self.created[spec.name] = node
            return node

    def describe(self, node: Node) -> Node:
        self.calls.append(f"describe {node.name}")
        return replace(node, state=self._state(node.name))

    def list(self, tags: Mapping[str, str], *, region: str = "") -> Inventory:
        self.calls.append("list")
        nodes = [self.describe(node) for node in self.created.values()]
        return Inventory(
            tuple(
                self.leftover(node)
                for node in nodes
                if node.state is not State.GONE and tags.items() <= node.tags.items()
                if region in ("", node.region)
            )
        )

    def destroy(self, leftovers: Iterable[Leftover]) -> None:
        for one in leftovers:
            self.calls.append(f"destroy {one.name}")
            self.kill(one.name)

    def leftover(self, node: Node) -> Leftover:
        return Leftover(
            "instance",
            node.id,
            node.name,
            node.cloud,
            node.region,
            node.zone,
            node.tags,
            f"kill {node.id}",
            node=node,
        )

    def zones(self, region: str) -> tuple[str, ...]:
        return ()

    def ingress_rules(self, region: str) -> tuple[IngressRule, ...]:
        return ()

    def close(self) -> None:
        for name in self._processes:
            self.kill(name)

    def kill(self, name: str) -> None:
        """The machine is gone from one moment to the next."""
        process = self._processes[name]
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait(STOP_SECONDS)

    def running(self) -> list[str]:
        """Names of the machines that are there."""
        return [name for name in self._processes if self._state(name) is State.RUNNING]

    def _state(self, name: str) -> State:
        return State.RUNNING if self._processes[name].poll() is None else State.GONE
