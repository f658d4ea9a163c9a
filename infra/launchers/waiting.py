"""Waiting for a machine to run, and not for ever."""

from __future__ import annotations

from typing import Protocol

from headwater.infra.errors import CloudUnavailable, NoCapacity
from headwater.infra.launchers.base import Node, State
from headwater.infra.launchers.calls import Patience

START = Patience(300, first_seconds=1.0, most_seconds=10.0)
"""Machines with a GPU take a minute or two; one that takes longer is given up."""

OVER = frozenset({State.STOPPING, State.STOPPED, State.FAILED, State.GONE})


class Describes(Protocol):
    """What is asked of a launcher here."""

    def describe(self, node: Node) -> Node:
        """See ``Launcher.describe``."""
        ...


def wait_running(launcher: Describes, node: Node, patience: Patience = START) -> Node:
    """``node`` when it runs. Its system may still start after that.

    The caller removes a node that does not come to run.

    Raises:
        NoCapacity: It was taken back before it ran, as spot machines may be.
        CloudUnavailable: It does not run when ``patience`` ends.
    """
    end = patience.clock() + patience.seconds
    attempt = 0
    while True:
        node = launcher.describe(node)
        if node.state is State.RUNNING:
            return node
        if node.state in OVER:
            raise NoCapacity(
                f"{node.name} in {node.place} is {node.state}, and never ran",
                hint="take the next place",
            )
        pause = patience.pause(attempt)
        if patience.clock() + pause > end:
            raise CloudUnavailable(
                f"{node.name} in {node.place} is still {node.state} after {patience.seconds:.0f} s",
                hint="take another place; the image may not boot there",
            )
        patience.wait(pause)
        attempt += 1
