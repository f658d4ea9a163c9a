"""`headwater clusters` and `headwater network`, as a person or a schedule runs them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract.launchers import tags_of
from tests.emulators.s3 import REGION, Moto
from tests.emulators.scripted_ec2 import ScriptedEc2, scripted_ec2
from tests.emulators.vpc import Vpc
from typer.testing import CliRunner, Result

from headwater.flows.cli import app

HERE = ("--cloud", "aws", "--region", REGION)


@pytest.fixture(scope="module")
def vpc(moto_process: Moto) -> Iterator[Vpc]:
    vpc = Vpc.new(moto_process)
    yield vpc
    vpc.ec2.close()


@pytest.fixture
def ec2(moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEc2]:
    """EC2 with credentials, no other cloud, and a machine that remembers nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.delenv("HEADWATER_POLICY", raising=False)
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "empty"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with scripted_ec2(moto) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", server.url)
        yield server


@pytest.fixture
def cluster() -> str:
    return f"hw{uuid.uuid4().hex[:8]}"


def headwater(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_machine(vpc: Vpc, cluster: str, name: str, lease: timedelta) -> str:
    """A machine that some other computer has started."""
    tags = [{"Key": k, "Value": v} for k, v in tags_of(name, cluster, lease=lease).items()]
    made = vpc.ec2.run_instances(
        ImageId=vpc.image,
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        SubnetId=vpc.subnets[0],
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [*tags, {"Key": "Name", "Value": name}]}
        ],
    )
    return str(made["Instances"][0]["InstanceId"])


PAST, COMING = timedelta(hours=-1), timedelta(hours=1)


def test_list_and_reap_need_nothing_but_credentials(
    ec2: ScriptedEc2, vpc: Vpc, cluster: str
) -> None:
    old = run_machine(vpc, cluster, f"{cluster}-w0", PAST)
    young = run_machine(vpc, cluster, f"{cluster}-w1", COMING)
    left = {
        vpc.leave_volume(tags_of(f"{cluster}-w2", cluster, lease=PAST)),
        vpc.leave_card(tags_of(f"{cluster}-w2", cluster, lease=PAST)),
        vpc.leave_address(tags_of(f"{cluster}-w2", cluster, lease=PAST)),
    }

    listed = headwater("clusters", "list", *HERE, "--cluster", cluster, "--json")
    told = headwater("clusters", "reap", *HERE)
    after_telling = vpc.alive()
    reaped = headwater("clusters", "reap", *HERE, "--yes", "--json")

    assert listed.exit_code == 0, listed.stderr
    rows = {row["id"]: row for row in json.loads(listed.stdout)["resources"]}
    assert set(rows) == {old, young, *left}
    assert rows[old]["usd_per_hour"] == 0.526  # g4dn.xlarge on demand in us-east-1
    assert (rows[old]["past_lease"], rows[young]["past_lease"]) == (True, False)
    assert (rows[old]["run"], rows[old]["owner"]) == (f"run-{cluster}", "ada")
    assert 0 <= rows[old]["age_seconds"] < 120
    assert told.exit_code == 0
    assert "nothing was removed: add --yes to remove it" in told.stdout
    assert "ended 1 h 00 min ago" in told.stdout
    assert after_telling == [f"{cluster}-w0", f"{cluster}-w1"]
    assert reaped.exit_code == 0, reaped.stderr
    assert {old, *left} <= set(json.loads(reaped.stdout)["removed"])
    assert vpc.alive() == [f"{cluster}-w1"]
    named = headwater("clusters", "reap", *HERE, "--run", f"run-{cluster}", "--yes")
    assert (named.exit_code, named.stdout) == (0, "removed 1 of 1 thing\n")
    assert vpc.alive() == []


def test_a_clean_up_that_cannot_finish_is_loud(ec2: ScriptedEc2, vpc: Vpc, cluster: str) -> None:
    volume = vpc.leave_volume(tags_of(f"{cluster}-w0", cluster), gib=730)
    card = vpc.leave_card(tags_of(f"{cluster}-w0", cluster))
    ec2.refuse("DeleteVolume", "OperationNotPermitted")

    done = headwater("clusters", "reap", *HERE, "--cluster", cluster, "--yes", "--json")

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["status"], told["removed"]) == ("failed", [card])
    # 730 GiB at $0.08 a month of 730 hours.
    assert "1 thing is still there, and costs $0.080 an hour" in done.stderr
    assert f"aws ec2 delete-volume --volume-id {volume} --region {REGION}" in done.stderr
    assert headwater("clusters", "reap", *HERE, "--cluster", cluster, "--yes").exit_code == 0


def test_a_cloud_without_credentials_is_skipped_unless_it_was_named(
    ec2: ScriptedEc2, cluster: str
) -> None:
    every = headwater("clusters", "list", "--region", REGION, "--cluster", cluster)
    named = headwater("clusters", "list", "--cloud", "azure")

    assert every.exit_code == 0, every.stderr
    assert every.stdout == "nothing of Headwater's is in aws\n"
    lines = every.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["skipped gcp", "skipped azure"]
    assert named.exit_code == 2
    assert "azure: no subscription is named" in named.stderr
    assert "network.azure.subscription" in named.stderr


@pytest.mark.parametrize("command", ["list", "reap"])
def test_where_no_cloud_can_be_reached_nothing_is_said_of_what_is_there(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    done = headwater("clusters", command, "--region", REGION)

    assert done.exit_code == 0, done.stderr
    assert done.stdout == "no cloud could be looked at: what may be there is not known\n"
    assert len(done.stderr.splitlines()) == 3


def test_what_could_not_be_seen_fails_the_command(ec2: ScriptedEc2, cluster: str) -> None:
    ec2.refuse("DescribeInstances", "RequestExpired")

    done = headwater("clusters", "list", *HERE, "--cluster", cluster)

    assert done.exit_code == 1
    assert f"aws {REGION} could not be looked at" in done.stderr
    assert "RequestExpired" in done.stderr


def test_network_check_names_the_rule_and_how_to_close_it(
    ec2: ScriptedEc2, vpc: Vpc, tmp_path: Path
) -> None:
    vpc = vpc.with_new_group()
    (tmp_path / "mine.toml").write_text(
        f"[network.aws]\nsubnets = {list(vpc.subnets)}\nsecurity_groups = ['{vpc.group}']\n"
    )
    check = ("network", "check", "--profile", tmp_path / "mine.toml", "--region", REGION)

    closed = headwater(*check)
    vpc.open_to("0.0.0.0/0", 8000, 9000)
    opened = headwater(*check, "--json")

    assert (closed.exit_code, closed.stderr) == (0, "")
    assert "none opens 8786 (the scheduler) and 8787 (the dashboard)" in closed.stdout
    assert opened.exit_code == 2
    assert f"of {vpc.group} (tcp 8000-9000 from 0.0.0.0/0) opens 8786" in opened.stderr
    assert f"aws ec2 revoke-security-group-ingress --region {REGION}" in opened.stderr
    (network,) = json.loads(opened.stdout)["networks"]
    assert [one["ports"] for one in network["openings"]] == [[8786, 8787]]


def test_network_check_says_what_a_profile_lacks(ec2: ScriptedEc2) -> None:
    none = headwater("network", "check", "--profile", "cloud")
    named = headwater("network", "check", "--profile", "cloud", "--cloud", "aws")

    assert (none.exit_code, named.exit_code) == (2, 2)
    assert "names no network" in none.stderr
    assert "no security groups for AWS are named" in named.stderr
    assert "network.aws.security_groups of cluster profile 'cloud'" in named.stderr
