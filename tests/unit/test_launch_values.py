"""What launchers are asked with: tags, user-data, tokens, intents, leases, a profile's lines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.launch_helpers import TAGS, disk, settings_of, spec_in

from headwater.infra.errors import InvalidLaunch, UnsupportedData
from headwater.infra.launchers.base import LaunchSettings, Leftover, Node, State
from headwater.infra.launchers.intents import Intents
from headwater.infra.launchers.leases import Due, Held
from headwater.infra.launchers.prices import usd_per_hour
from headwater.infra.launchers.tags import EXPIRES, expiry, node_tags, require_tags, tag_value
from headwater.infra.launchers.user_data import MAX_BYTES, require_user_data
from headwater.infra.models import Cloud, Market
from headwater.infra.profiles import load_profile

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_tags_of_a_machine_say_whose_it_is_and_until_when() -> None:
    tags = node_tags(
        run="r1",
        cluster="c1",
        owner="Ada.L@example.com",
        role="scheduler",
        node="c1-s0",
        expires=NOW,
        profile_tags={"team": "data"},
    )

    assert tags == {
        "team": "data",
        "hw_run": "r1",
        "hw_cluster": "c1",
        "hw_owner": "ada-l-example-com",
        "hw_role": "scheduler",
        "hw_node": "c1-s0",
        "hw_expires": "1767268800",
    }
    assert expiry(tags) == NOW


@pytest.mark.parametrize(
    "key", ["", "Team", "1st", "_a", "a.b", "a/b", "kostenträger", "a" * 64, "a b"]
)
def test_a_key_that_one_cloud_refuses_is_refused(key: str) -> None:
    with pytest.raises(InvalidLaunch, match="a key that not all clouds take"):
        require_tags({key: "v"})


@pytest.mark.parametrize("value", ["Data", "a.b", "a b", "ü", "v" * 64])
def test_a_value_that_one_cloud_refuses_is_refused(value: str) -> None:
    with pytest.raises(InvalidLaunch, match="which not all clouds take"):
        require_tags({"team": value})
    assert require_tags({"team": tag_value(value)})


def test_a_profile_cannot_take_our_own_tags() -> None:
    with pytest.raises(InvalidLaunch, match="hw_expires of the cluster profile"):
        node_tags(
            run="r",
            cluster="c",
            owner="o",
            role="worker",
            node="n",
            expires=NOW,
            profile_tags={EXPIRES: "99999999999"},
        )


def test_more_tags_than_a_cloud_takes_are_refused() -> None:
    require_tags({f"k{n}": "v" for n in range(50)})
    with pytest.raises(InvalidLaunch, match="51 tags"):
        require_tags({f"k{n}": "v" for n in range(51)})


# --- user-data -----------------------------------------------------------------------------------


def test_user_data_is_short() -> None:
    assert require_user_data("x" * MAX_BYTES)
    with pytest.raises(InvalidLaunch, match="1,026 bytes, and 1,024 are allowed"):
        require_user_data("ü" * 513)


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "-----BEGIN PRIVATE KEY-----",
        "DefaultEndpointsProtocol=https;AccountKey=abc",
        "https://me:pa55word@host/x",
        "ya29.a0AfH6SMBxxxxxxxxxxxxxxxxxx",
    ],
)
@pytest.mark.parametrize("line", ["run {}", "KEY={} node", "env: ['A={}']", '{{"key": "{}"}}'])
def test_user_data_with_a_secret_is_refused_without_repeating_it(secret: str, line: str) -> None:
    with pytest.raises(InvalidLaunch, match="looks like") as error:
        require_user_data("#cloud-config\n" + line.format(secret))
    assert secret not in str(error.value)


def test_user_data_as_a_node_gets_it_is_taken() -> None:
    text = (
        "#cloud-config\nruncmd:\n - [headwater-node, worker, --tls, 's3://lake/hw/c1.json',"
        " --scheduler, 'tls://10.0.0.4:8786', --name, c1-w0]\n"
    )
    assert require_user_data(text) == text


# --- what a machine is known by ------------------------------------------------------------------


def test_a_token_is_of_one_machine_in_one_place() -> None:
    spec = spec_in(Cloud.AWS)
    others = [
        replace(spec, name="c1-w1"),
        replace(spec, zone="us-east-1b"),
        replace(spec, market=Market.ON_DEMAND),
        spec.elsewhere(region="us-west-2"),
        spec.elsewhere(region="us-east-1", zone="us-east-1a", instance_type="g5.xlarge"),
    ]

    assert replace(spec).token == spec.token
    assert len({spec.token, *(one.token for one in others)}) == 6
    assert len(spec.token) <= 64  # EC2's limit


def test_settings_tell_the_line_and_the_file_of_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "eu.toml"
    path.write_text(
        "extends = 'cloud'\n[network.aws]\nsubnets = ['subnet-1', 'subnet-2']\nvpc = 'vpc-1'\n"
        "[image]\naws = 'ami-1'\n[identity]\naws = 'role'\n[tags]\nteam = 'data'\n"
    )

    settings = LaunchSettings.of(load_profile(str(path)), Cloud.AWS)

    assert settings.network["subnets"] == ("subnet-1", "subnet-2")
    assert settings.named("vpc") == "vpc-1"
    assert settings.named("security_groups") == ""
    assert (settings.image, settings.identity, settings.tags) == ("ami-1", "role", {"team": "data"})
    assert settings.line("image.aws") == f"image.aws of cluster profile 'eu' ({path})"


# --- intents -------------------------------------------------------------------------------------


def node_of(name: str) -> Node:
    return Node(
        f"i-{name}", name, Cloud.AWS, "us-east-1", "us-east-1a", "g4dn.xlarge", Market.SPOT, "",
        State.PENDING,
    )  # fmt: skip


def test_an_intent_is_open_until_its_end_is_written(tmp_path: Path) -> None:
    made, failed, lost, gone = (replace(spec_in(Cloud.AWS), name=f"c1-w{n}") for n in range(4))
    intents = Intents("c1", tmp_path)
    for spec in (made, failed, lost, gone):
        intents.create(spec)
    intents.created(made, node_of(made.name))
    intents.failed(failed, "no capacity")
    intents.created(gone, node_of(gone.name))
    intents.destroyed(gone.token)

    found = Intents("c1", tmp_path).open()

    assert [(one.name, one.id) for one in found] == [("c1-w0", "i-c1-w0"), ("c1-w2", "")]
    intents.close()
    assert intents.path.exists()
    intents.destroyed(made.token)
    intents.destroyed(lost.token)
    intents.close()
    assert not intents.path.exists()


def test_a_line_that_was_cut_off_loses_nothing_else(tmp_path: Path) -> None:
    intents = Intents("c1", tmp_path)
    intents.create(spec_in(Cloud.AWS))
    whole = intents.path.read_bytes()
    intents.path.write_bytes(whole + b'\n{"version": 1, "event": "crea')
    intents.create(spec_in(Cloud.GCP))

    assert [one.cloud for one in intents.open()] == [Cloud.AWS, Cloud.GCP]


def test_intents_of_a_newer_headwater_are_refused(tmp_path: Path) -> None:
    intents = Intents("c1", tmp_path)
    intents.create(spec_in(Cloud.AWS))
    line = json.loads(intents.path.read_text())
    intents.path.write_text(json.dumps({**line, "version": 2}))

    with pytest.raises(UnsupportedData, match="format 2"):
        intents.open()


# --- leases and prices ---------------------------------------------------------------------------


def leased(hours: float) -> Leftover:
    ends = NOW + timedelta(hours=hours)
    return disk("d", tags={**TAGS, EXPIRES: str(int(ends.timestamp()))})


def test_what_is_past_its_lease_is_due_and_nothing_else() -> None:
    due = Due(NOW)

    assert due.holds_for(leased(-1).tags)
    assert not due.holds_for(leased(1).tags)
    assert not due.holds_for({k: v for k, v in TAGS.items() if k != EXPIRES})
    assert not due.holds_for({**TAGS, EXPIRES: "tomorrow"})


def test_what_is_named_is_due_whatever_its_lease() -> None:
    assert Due(NOW, cluster="c1").holds_for(leased(1).tags)
    assert Due(NOW, run="r1", cluster="c1").holds_for(leased(1).tags)
    assert not Due(NOW, run="r2", cluster="c1").holds_for(leased(-1).tags)


def test_what_is_held_is_priced_by_the_catalog() -> None:
    node = replace(node_of("c1-w0"), market=Market.ON_DEMAND)
    machine = disk("i", kind="instance", node=node, created=NOW - timedelta(hours=2))

    held = Held.of(machine, NOW)

    assert (held.age_seconds, held.usd_per_hour) == (7200, 0.526)
    assert held.usd_so_far == pytest.approx(1.052)
    assert usd_per_hour(disk("d")) == pytest.approx(0.08)  # 730 GiB x $0.08 / 730 hours
    assert usd_per_hour(disk("n", kind="network card")) == 0
    assert usd_per_hour(disk("a", kind="address")) is None
    unknown = replace(node, instance_type="of.next.year")
    assert usd_per_hour(disk("i", kind="instance", node=unknown)) is None
    assert Held.of(disk("d"), NOW).usd_so_far is None  # nobody says since when


def test_settings_without_a_profile_still_name_the_line() -> None:
    assert settings_of(Cloud.GCP, profile="", source="", origins={}).line("image.gcp") == (
        "image.gcp of the cluster profile"
    )
