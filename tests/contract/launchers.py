"""What every launcher keeps to, whichever cloud its machines are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headwater.infra.errors import InvalidLaunch, NoCapacity, QuotaExceeded
from headwater.infra.launchers.base import Launcher, NodeSpec, State
from headwater.infra.launchers.intents import Intents
from headwater.infra.launchers.removal import launch, recover, sweep
from headwater.infra.launchers.tags import CLUSTER, NODE, RUN, node_tags

Refuse = Callable[[str, str], None]
"""Makes the next machine in a zone be refused with a code."""


class LauncherContract:
    """Subclasses give the fixtures ``launcher``, ``spec`` (one machine) and ``refuse``."""

    capacity = ""
    quota = ""
    elsewhere = ""  # a region in which nothing is made

    def test_a_machine_is_made_once_however_often_it_is_asked_for(
        self, launcher: Launcher, spec: NodeSpec
    ) -> None:
        node = launcher.create(spec)
        again = launcher.create(spec)

        assert again.id == node.id
        assert [one.id for one in launcher.list(named(spec)).nodes] == [node.id]

    def test_a_machine_is_what_was_asked_for(self, launcher: Launcher, spec: NodeSpec) -> None:
        node = launcher.describe(launcher.create(spec))

        assert (node.name, node.cloud, node.region) == (spec.name, spec.cloud, spec.region)
        assert (node.instance_type, node.market) == (spec.instance_type, spec.market)
        assert node.state is State.RUNNING
        assert node.private_address.startswith("127.")
        assert spec.tags.items() <= node.tags.items()

    def test_what_is_listed_has_the_tags_that_are_asked_for(
        self, launcher: Launcher, spec: NodeSpec
    ) -> None:
        node = launcher.create(spec)

        assert node.id in [one.id for one in launcher.list({}).nodes]
        assert launcher.list({RUN: "another"}).leftovers == ()
        assert launcher.list(named(spec), region=self.elsewhere).leftovers == ()

    def test_what_is_gone_may_be_destroyed_again(self, launcher: Launcher, spec: NodeSpec) -> None:
        node = launcher.create(spec)
        one = launcher.leftover(node)

        launcher.destroy([one])
        launcher.destroy([one])

        assert launcher.list(named(spec)).leftovers == ()
        assert launcher.describe(node).state is State.GONE

    def test_a_sweep_by_tag_leaves_others_alone(self, launcher: Launcher, spec: NodeSpec) -> None:
        mine, other = launcher.create(spec), launcher.create(another(spec))

        removed = sweep(launcher, {NODE: spec.name})

        assert [one.id for one in removed] == [mine.id]
        assert [one.id for one in launcher.list(named(spec)).nodes] == [other.id]

    def test_a_machine_whose_answer_was_lost_is_found_by_what_was_written_down_before(
        self, launcher: Launcher, spec: NodeSpec, tmp_path: Path
    ) -> None:
        intents = Intents(spec.tags[CLUSTER], tmp_path)
        intents.create(spec)
        node = launcher.create(spec)  # and the process that asked for it is no more

        removed = recover(launcher, Intents(spec.tags[CLUSTER], tmp_path))

        assert [one.id for one in removed] == [node.id]
        assert intents.open() == ()

    def test_no_capacity_is_told_apart_from_no_quota(
        self, launcher: Launcher, spec: NodeSpec, refuse: Refuse, tmp_path: Path
    ) -> None:
        intents = Intents(spec.tags[CLUSTER], tmp_path)

        refuse(self.capacity, spec.zone)
        with pytest.raises(NoCapacity, match=self.capacity) as no_capacity:
            launch(launcher, spec, intents)
        refuse(self.quota, spec.zone)
        with pytest.raises(QuotaExceeded, match=self.quota) as no_quota:
            launch(launcher, another(spec), intents)

        assert spec.place in no_capacity.value.message
        assert (no_capacity.value.retry, no_quota.value.retry) == ("elsewhere", "elsewhere")
        assert "ask for more" in no_quota.value.hint
        assert launcher.list(named(spec)).leftovers == ()
        assert intents.open() == ()

    def test_a_request_with_a_secret_is_not_sent(self, launcher: Launcher, spec: NodeSpec) -> None:
        secret = replace(spec, user_data="#!/bin/sh\nexport KEY=AKIAIOSFODNN7EXAMPLE\n")

        with pytest.raises(InvalidLaunch, match="an AWS access key"):
            launcher.create(secret)
        assert launcher.list(named(spec)).leftovers == ()


def named(spec: NodeSpec) -> dict[str, str]:
    """The tag of the cluster of ``spec``."""
    return {CLUSTER: spec.tags[CLUSTER]}


def another(spec: NodeSpec) -> NodeSpec:
    """One more machine of the same cluster."""
    name = f"{spec.name}-b"
    return replace(spec, name=name, tags={**spec.tags, NODE: name})


def tags_of(name: str, cluster: str, *, lease: timedelta = timedelta(hours=1)) -> dict[str, str]:
    """The tags of a machine whose lease ends ``lease`` from now."""
    return node_tags(
        run=f"run-{cluster}",
        cluster=cluster,
        owner="Ada",
        role="worker",
        node=name,
        expires=datetime.now(UTC) + lease,
    )
