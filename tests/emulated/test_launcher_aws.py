"""Machines of EC2, on a real server of its protocol."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.launchers import LauncherContract, Refuse, another, named, tags_of
from tests.emulators.s3 import REGION, Moto
from tests.emulators.scripted_ec2 import LOST, UNLISTED, ScriptedEc2, scripted_ec2
from tests.emulators.vpc import ZONES, Vpc

from headwater.infra.errors import (
    AuthenticationFailed,
    InvalidLaunch,
    LeftBehind,
)
from headwater.infra.launchers.aws import AwsLauncher
from headwater.infra.launchers.base import LaunchSettings, NodeSpec, State
from headwater.infra.launchers.calls import Patience
from headwater.infra.launchers.intents import Intents
from headwater.infra.launchers.network import openings
from headwater.infra.launchers.removal import launch, recover, sweep
from headwater.infra.models import Cloud, Market

SHORT = Patience(5, 0.02, 0.1)


def settings(vpc: Vpc) -> LaunchSettings:
    return LaunchSettings(
        "mine",
        Cloud.AWS,
        {"subnets": vpc.subnets, "security_groups": (vpc.group,)},
        vpc.image,
        "",
        {},
        "mine.toml",
    )


@pytest.fixture(scope="module")
def environment(moto_process: Moto) -> Iterator[pytest.MonkeyPatch]:
    """Credentials for moto, for as long as the module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto_process.environment.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="module")
def vpc(moto_process: Moto) -> Iterator[Vpc]:
    vpc = Vpc.new(moto_process)
    yield vpc
    vpc.ec2.close()


@pytest.fixture(scope="module")
def server(moto_process: Moto, environment: pytest.MonkeyPatch) -> Iterator[ScriptedEc2]:
    with scripted_ec2(moto_process) as server:
        environment.setenv("AWS_ENDPOINT_URL_EC2", server.url)
        yield server


@pytest.fixture(scope="module")
def launcher(vpc: Vpc, server: ScriptedEc2) -> Iterator[AwsLauncher]:
    """One for all: EC2's model alone takes botocore half a second to read."""
    with AwsLauncher(
        settings(vpc), regions=[REGION], create=SHORT, look=SHORT, delete=SHORT
    ) as launcher:
        yield launcher


@pytest.fixture
def ec2(server: ScriptedEc2) -> ScriptedEc2:
    """The server, which a test may tell to refuse."""
    server.refusals.clear()
    server.asked.clear()
    return server


@pytest.fixture
def spec() -> NodeSpec:
    cluster = f"hw{uuid.uuid4().hex[:8]}"
    name = f"{cluster}-w0"
    return NodeSpec(
        name,
        "worker",
        Cloud.AWS,
        REGION,
        "g4dn.xlarge",
        Market.SPOT,
        "#cloud-config\n",
        tags_of(name, cluster),
        zone=ZONES[0],
    )


class TestAwsLauncher(LauncherContract):
    capacity = "InsufficientInstanceCapacity"
    quota = "VcpuLimitExceeded"
    elsewhere = "eu-west-1"

    @pytest.fixture
    def refuse(self, ec2: ScriptedEc2) -> Refuse:
        return lambda code, _: ec2.refuse("RunInstances", code)


def test_what_is_asked_for_is_one_time_encrypted_and_private(
    launcher: AwsLauncher, spec: NodeSpec, vpc: Vpc
) -> None:
    node = launcher.create(spec)

    found = vpc.ec2.describe_instances(InstanceIds=[node.id])["Reservations"][0]["Instances"][0]
    (volume,) = vpc.ec2.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [node.id]}]
    )["Volumes"]
    assert found["InstanceLifecycle"] == "spot"
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert "PublicIpAddress" not in found
    assert (volume["Encrypted"], volume["Size"]) == (True, spec.disk_gib)
    assert {tag["Key"] for tag in volume["Tags"]} >= set(spec.tags)


def test_a_launch_takes_two_calls_once_the_place_is_known(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec
) -> None:
    launcher.create(spec)
    ec2.asked.clear()

    launcher.create(another(spec))

    assert dict(ec2.asked) == {"DescribeInstances": 1, "RunInstances": 1}


def test_an_answer_that_is_lost_leaves_one_machine(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec, tmp_path: Path
) -> None:
    # moto knows no client tokens, so the call that is made again is refused for good here.
    ec2.refuse("RunInstances", LOST, "InvalidParameterValue")
    intents = Intents(spec.tags["hw_cluster"], tmp_path)

    with pytest.raises(InvalidLaunch) as error:
        launch(launcher, spec, intents)

    assert error.value.may_have_made
    assert launcher.list(named(spec)).leftovers == ()
    assert [one.name for one in intents.open()] == [spec.name]
    assert recover(launcher, intents) == ()
    assert intents.open() == ()


def test_a_machine_that_is_not_listed_yet_is_neither_lost_nor_forgotten(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec
) -> None:
    node = launcher.create(spec)
    ec2.refuse("DescribeInstances", *[UNLISTED] * 3)

    seen = launcher.describe(node)
    launcher.destroy([launcher.leftover(node)])  # it asks twice before it sees anything

    assert seen.state is State.PENDING
    assert ec2.asked["TerminateInstances"] == 1
    assert launcher.describe(node).state is State.GONE


@pytest.mark.trial
def test_half_of_all_calls_are_throttled_and_all_is_done(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec
) -> None:
    for action in ("DescribeInstances", "DescribeVolumes", "RunInstances", "TerminateInstances"):
        ec2.refuse(action, *["RequestLimitExceeded", ""] * 8)

    launcher.create(spec)
    removed = sweep(launcher, named(spec))

    assert [one.name for one in removed] == [spec.name]
    assert ec2.asked["TerminateInstances"] >= 2


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "RequestExpired", "AuthFailure"])
def test_authentication_stops_at_once(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec, code: str
) -> None:
    ec2.refuse("RunInstances", code)

    with pytest.raises(AuthenticationFailed, match=code) as error:
        launcher.create(spec)
    assert (error.value.retry, ec2.asked["RunInstances"]) == ("never", 1)
    assert "aws sso login" in error.value.hint


@pytest.mark.parametrize(
    ("action", "code", "line"),
    [
        ("DescribeImages", "InvalidAMIID.NotFound", "image.aws"),
        ("RunInstances", "InvalidSubnetID.NotFound", "network.aws.subnets"),
        ("RunInstances", "InvalidGroup.NotFound", "network.aws.security_groups"),
    ],
)
def test_a_wrong_name_is_told_with_the_line_of_the_profile(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec, action: str, code: str, line: str
) -> None:
    ec2.refuse(action, code)
    unknown = "ami-12c6146b" if action == "DescribeImages" else ""  # a known one is not looked up

    with pytest.raises(InvalidLaunch, match=code) as error:
        launcher.create(replace(spec, image=unknown))
    assert f"mend {line} of cluster profile 'mine' (mine.toml)" in error.value.hint
    assert launcher.list(named(spec)).leftovers == ()


def test_a_zone_without_a_subnet_is_refused_before_anything_is_asked_for(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec, vpc: Vpc
) -> None:
    with pytest.raises(InvalidLaunch, match="is in aws us-east-1f") as error:
        launcher.create(replace(spec, zone="us-east-1f"))

    assert f"{vpc.subnets[0]} in us-east-1a" in error.value.message
    assert "network.aws.subnets" in error.value.hint
    assert ec2.asked["RunInstances"] == 0
    assert launcher.zones(REGION) == ZONES


def test_what_outlived_its_machine_is_found_and_removed(
    launcher: AwsLauncher, spec: NodeSpec, vpc: Vpc
) -> None:
    left = {
        vpc.leave_volume(spec.tags),
        vpc.leave_card(spec.tags),
        vpc.leave_address(spec.tags),
    }
    launcher.create(spec)

    removed = sweep(launcher, named(spec))

    assert {one.id for one in removed} > left
    assert [one.kind for one in removed if one.id in left] == ["disk", "network card", "address"]
    assert launcher.list(named(spec)).leftovers == ()


def test_what_cannot_be_removed_is_told_with_its_price_and_its_command(
    ec2: ScriptedEc2, vpc: Vpc, spec: NodeSpec
) -> None:
    volume = vpc.leave_volume(spec.tags, gib=73)
    ec2.refuse("DeleteVolume", *["VolumeInUse"] * 50)
    patience = Patience(0.3, 0.02)

    with (
        AwsLauncher(settings(vpc), regions=[REGION], delete=patience) as launcher,
        pytest.raises(LeftBehind) as error,
    ):
        sweep(launcher, named(spec))

    # 73 GiB at $0.08 a month of 730 hours.
    assert f"disk {volume} in aws us-east-1a ($0.008 an hour; VolumeInUse" in error.value.message
    assert f"aws ec2 delete-volume --volume-id {volume} --region us-east-1" in error.value.hint


@pytest.mark.trial
def test_a_machine_that_is_gone_does_not_keep_the_others(
    launcher: AwsLauncher, spec: NodeSpec, vpc: Vpc
) -> None:
    first, second = launcher.create(spec), launcher.create(another(spec))
    vpc.ec2.terminate_instances(InstanceIds=[first.id])

    launcher.destroy([launcher.leftover(first), launcher.leftover(second)])

    assert launcher.list(named(spec)).leftovers == ()


def test_a_region_that_may_not_be_seen_is_told_beside_the_others(
    ec2: ScriptedEc2, launcher: AwsLauncher, spec: NodeSpec
) -> None:
    launcher.create(spec)
    ec2.refuse("DescribeInstances", "UnauthorizedOperation")

    inventory = launcher.list(named(spec))

    assert inventory.leftovers == ()
    assert [one.place for one in inventory.unseen] == ["aws us-east-1"]
    assert "UnauthorizedOperation" in inventory.unseen[0].reason


def test_a_rule_that_lets_the_world_in_is_found(ec2: ScriptedEc2, vpc: Vpc) -> None:
    vpc = vpc.with_new_group()
    with AwsLauncher(settings(vpc), look=SHORT) as launcher:
        vpc.open_to("10.0.0.0/8", 0, 65535)
        vpc.open_to("0.0.0.0/0", 22, 22)
        before = openings(launcher.ingress_rules(REGION))
        vpc.open_to("0.0.0.0/0", 8000, 9000)
        vpc.open_to("::/0", 8787, 8787)
        after = openings(launcher.ingress_rules(REGION))

    assert before == ()
    assert sorted(one.ports for one in after) == [(8786, 8787), (8787,)]
    assert all(f"--group-id {vpc.group}" in one.rule.close for one in after)


def test_without_credentials_nothing_is_asked(
    ec2: ScriptedEc2, vpc: Vpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(AuthenticationFailed, match="no credentials"):
        AwsLauncher(settings(vpc))
    assert not ec2.asked
