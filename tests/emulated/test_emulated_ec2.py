"""The emulated EC2, asked by boto3: what the layer in front of ``moto`` adds to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from tests.emulators.ec2 import Ec2
from tests.emulators.every_cloud import AwsUser
from tests.emulators.machines import loopback_network

pytestmark = pytest.mark.trial
"""The launchers' own tests run on it every time; what is shown here is the emulator itself."""


@pytest.fixture
def user(ec2: Ec2, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsUser]:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    user = AwsUser(ec2)
    yield user
    user.client.close()


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    """Its code and its HTTP status."""
    answer: dict[str, Any] = dict(error.value.response)
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_instance_runs_with_tags_on_all_it_has_and_ends_twice(user: AwsUser, ec2: Ec2) -> None:
    user.launch("vm1", "#!/bin/sh\n")
    [machine] = ec2.machines().values()
    assert (machine.zone, machine.spot, machine.user_data) == ("us-east-1a", True, "#!/bin/sh\n")
    assert machine.address.startswith("127.")
    kinds = sorted(identity.split("-")[0] for identity in ec2.left(hw_run="r1", Name="vm1"))
    assert kinds == ["eni", "i", "vol"]

    for _ in range(2):
        answer = user.client.terminate_instances(InstanceIds=[machine.id])
        [ended] = answer["TerminatingInstances"]
        assert ended["InstanceId"] == machine.id
    assert user.state("vm1") == "terminated"
    assert (ec2.machines(), ec2.left(Name="vm1")) == ({}, [])


REFUSALS = [
    ("InsufficientInstanceCapacity", 500),
    ("VcpuLimitExceeded", 400),
    ("SpotMaxPriceTooLow", 400),
    ("UnauthorizedOperation", 403),
    ("RequestLimitExceeded", 503),
    ("AuthFailure", 401),
]


def test_refusals_come_with_the_services_status_and_code(user: AwsUser, ec2: Ec2) -> None:
    for code, status in REFUSALS:
        ec2.script.fail("RunInstances", code, where="us-east-1")
        with pytest.raises(ClientError) as caught:
            user.launch("refused", "")
        assert refusal(caught) == (code, status)
    assert ec2.left() == []


def test_zone_without_capacity_leaves_the_others_alone(user: AwsUser, ec2: Ec2) -> None:
    ec2.script.fail("RunInstances", "InsufficientInstanceCapacity", where="us-east-1a", times=None)
    for _ in range(2):
        with pytest.raises(ClientError):
            user.launch("vm1", "")
    other = user.request("vm1", NetworkInterfaces=[user.card("us-east-1b")], ClientToken="other")
    user.client.run_instances(**other)
    assert [machine.zone for machine in ec2.machines().values()] == ["us-east-1b"]
    assert ec2.script.calls["RunInstances"] == 3


def test_client_token_gives_the_same_instance(user: AwsUser, ec2: Ec2) -> None:
    request = user.request("vm1")
    found = {user.client.run_instances(**request)["Instances"][0]["InstanceId"] for _ in range(2)}
    assert found == set(ec2.machines())
    with pytest.raises(ClientError) as caught:
        user.client.run_instances(**request | {"InstanceType": "g5.xlarge"})
    assert refusal(caught) == ("IdempotentParameterMismatch", 400)


def test_accepted_launch_may_fail_afterwards_and_says_why(user: AwsUser, ec2: Ec2) -> None:
    ec2.script.fail("RunInstances", "InsufficientInstanceCapacity", late=True)
    [instance] = user.client.run_instances(**user.request("vm1"))["Instances"]
    found = user.client.describe_instances(InstanceIds=[instance["InstanceId"]])
    [seen] = found["Reservations"][0]["Instances"]
    assert seen["State"]["Name"] == "terminated"
    assert seen["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity"
    assert ec2.machines() == {}


def test_what_a_request_names_must_be_there(user: AwsUser, ec2: Ec2) -> None:
    nowhere = [{"DeviceIndex": 0, "SubnetId": "subnet-none"}]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "g4dn.none"}, "InvalidInstanceType.NotFound"),
        ({"NetworkInterfaces": nowhere}, "InvalidSubnetID.NotFound"),
    ]
    for more, code in wrong:
        with pytest.raises(ClientError) as caught:
            user.client.run_instances(**user.request("wrong", ClientToken=code, **more))
        assert refusal(caught) == (code, 400)
    assert ec2.machines() == {}


def test_answer_takes_as_long_as_the_script_says(user: AwsUser, ec2: Ec2) -> None:
    ec2.script.delay("DescribeInstances", 0.15)
    started = time.monotonic()
    user.client.describe_instances(Filters=[{"Name": "vpc-id", "Values": [ec2.vpc]}])
    assert time.monotonic() - started >= 0.15


def test_answer_may_be_lost_after_the_work_is_done(user: AwsUser, ec2: Ec2) -> None:
    ec2.script.lose("RunInstances")
    with pytest.raises(ConnectionClosedError):
        user.launch("vm1", "")
    [machine_id] = ec2.machines()
    answer = user.client.run_instances(**user.request("vm1"))
    assert [instance["InstanceId"] for instance in answer["Instances"]] == [machine_id]


def test_region_without_capacity_leaves_the_others_alone(user: AwsUser, ec2: Ec2) -> None:
    with loopback_network() as network:
        ec2.add_region("us-west-2", network, zones="a")
        ec2.script.fail("RunInstances", "VcpuLimitExceeded", where="us-east-1", times=None)
        with pytest.raises(ClientError):
            user.launch("vm1", "")
        elsewhere: Any = boto3.client("ec2", region_name="us-west-2")
        card = user.card("us-west-2a") | {"Groups": [ec2.security_groups["us-west-2"]]}
        request = user.request("vm1", NetworkInterfaces=[card])
        answer = elsewhere.run_instances(**request)
        [machine] = ec2.machines().values()
        assert (machine.region, machine.zone) == ("us-west-2", "us-west-2a")
        assert ec2.left(hw_run="r1")
        elsewhere.close()
        ec2.reclaim(answer["Instances"][0]["InstanceId"])
        assert ec2.left(hw_run="r1") == []
