"""Waiting for a machine, and what is told where it does not come."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.launch_helpers import Clock

from headwater.infra.errors import CloudUnavailable, NoCapacity
from headwater.infra.launchers.base import Node, State
from headwater.infra.launchers.waiting import wait_running
from headwater.infra.models import Cloud, Market

NODE = Node(
    "i-1", "c1-w0", Cloud.AWS, "us-east-1", "us-east-1a", "g4dn.xlarge", Market.SPOT, "10.0.0.4",
    State.PENDING,
)  # fmt: skip


class Booting:
    """The one power of a launcher that is asked here."""

    def __init__(self, *states: State) -> None:
        self.states = list(states)

    def describe(self, node: Node) -> Node:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return replace(node, state=state)


def test_a_machine_is_waited_for_with_growing_pauses() -> None:
    clock = Clock()
    booting = Booting(State.PENDING, State.PENDING, State.PENDING, State.RUNNING)

    node = wait_running(booting, NODE, clock.patience(60))

    assert node.state is State.RUNNING
    assert clock.waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("state", [State.GONE, State.STOPPED, State.FAILED, State.STOPPING])
def test_a_machine_that_ends_before_it_runs_leads_to_the_next_place(state: State) -> None:
    with pytest.raises(NoCapacity, match=f"c1-w0 in aws us-east-1a is {state}, and never ran"):
        wait_running(Booting(State.PENDING, state), NODE, Clock().patience(60))


def test_a_machine_that_never_runs_is_given_up() -> None:
    clock = Clock()

    with pytest.raises(CloudUnavailable, match="still pending after 60 s"):
        wait_running(Booting(State.PENDING), NODE, clock.patience(60))
    assert clock.now <= 60
