"""The hypervisor behind the emulated clouds: real processes, started and ended by real SDKs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.emulators.every_cloud import AwsUser, AzureUser, GcpUser, User
from tests.emulators.gce import Gce
from tests.emulators.hypervisor import NOTICE_SECONDS, Hypervisor, hypervisor
from tests.emulators.machines import Machine

CLOUDS = ("aws", "gcp", "azure")

SLEEP = "#!/bin/sh\nsleep 300 &\nwait\n"
ESCAPE = "#!/bin/sh\nsetsid sleep 300 &\nwait\n"

NOTICES = {
    "aws": "/latest/meta-data/spot/instance-action",
    "gcp": "/computeMetadata/v1/instance/preempted",
    "azure": "/metadata/scheduledevents?api-version=2020-07-01",
}


@pytest.fixture(
    params=[pytest.param(c, marks=pytest.mark.trial if c != "aws" else ()) for c in CLOUDS]
)
def name(request: pytest.FixtureRequest) -> str:
    """Of a cloud."""
    return str(request.param)


@pytest.fixture
def user(name: str, request: pytest.FixtureRequest) -> Iterator[User]:
    if name == "aws":
        aws = AwsUser(request.getfixturevalue("ec2"))
        yield aws
        aws.client.close()
    elif name == "gcp":
        yield GcpUser(request.getfixturevalue("gce"))
    else:
        azure = AzureUser(request.getfixturevalue("arm"))
        yield azure
        azure.close()


@pytest.fixture
def machines(user: User, name: str, tmp_path: Path) -> Iterator[Hypervisor]:
    """In which the notice before an instance is taken back comes half a second before."""
    scale = 0.5 / NOTICE_SECONDS[name]
    with hypervisor([user.cloud], tmp_path / "machines", time_scale=scale) as running:
        yield running


def booted(machines: Hypervisor, count: int = 1) -> dict[str, str]:
    """The ids of the instances by name, as soon as ``count`` run."""
    machines.wait_until(lambda: len(machines.running) == count)
    return {guest.machine.name: key for key, guest in machines.running.items()}


def ask(url: str, method: str = "GET", **headers: str) -> str:
    """What a metadata service says, with headers in underscores."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(url, headers=named, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())


def notice(name: str, url: str) -> str:
    """What the cloud's endpoint for reclaim notices says; empty where it says nothing."""
    headers = {"gcp": {"Metadata_Flavor": "Google"}, "azure": {"Metadata": "true"}}.get(name, {})
    if name == "aws":
        life = {"X_aws_ec2_metadata_token_ttl_seconds": "60"}
        token = ask(f"{url}/latest/api/token", "PUT", **life)
        headers = {"X_aws_ec2_metadata_token": token}
    try:
        return ask(url + NOTICES[name], **headers)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def group_of(machines: Hypervisor, machine_id: str) -> list[psutil.Process]:
    """The processes of an instance."""
    pid = machines.guest(machine_id).pid
    machines.wait_until(lambda: psutil.Process(pid).children())
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def test_instance_lives_as_long_as_its_cloud_says(
    user: User, machines: Hypervisor, name: str
) -> None:
    for instance in ("ended", "reclaimed"):
        user.launch(instance, SLEEP)
    ids = booted(machines, 2)
    processes = group_of(machines, ids["ended"])
    assert len(processes) == 2
    assert os.getsid(processes[0].pid) == processes[0].pid != os.getsid(0)
    url = machines.guest(ids["ended"]).metadata_url
    assert url.startswith(f"http://{machines.guest(ids['ended']).machine.address}:")

    user.terminate("ended")
    machines.wait_until(lambda: not any(process.is_running() for process in processes))
    assert list(machines.running) == [ids["reclaimed"]]
    with pytest.raises(urllib.error.URLError):
        notice(name, url)

    url = machines.guest(ids["reclaimed"]).metadata_url
    quiet = {"aws": "", "gcp": "FALSE", "azure": '{"DocumentIncarnation": 0, "Events": []}'}
    assert notice(name, url) == quiet[name]
    machines.reclaim(ids["reclaimed"])
    said = {"aws": '"terminate"', "gcp": "TRUE", "azure": '"Preempt"'}
    assert said[name] in notice(name, url)
    machines.wait_until(lambda: len([e for e in machines.events if e.kind == "killed"]) == 2)
    assert user.state("reclaimed") == {"aws": "terminated", "gcp": "", "azure": ""}[name]
    kinds = [event.kind for event in machines.events if event.machine_id == ids["reclaimed"]]
    assert kinds == ["booted", "notice", "reclaimed", "killed"]


def test_instance_that_switches_itself_off_costs_what_its_cloud_takes(
    user: User, machines: Hypervisor, name: str
) -> None:
    user.launch("vm1", "#!/bin/sh\necho bye\nsudo shutdown -h now\nsleep 300\n")
    machines.wait_until(lambda: "off" in [event.kind for event in machines.events])
    [machine_id] = {event.machine_id for event in machines.events}
    machines.wait_until(lambda: machine_id not in user.cloud.machines())
    assert user.state("vm1") == {"aws": "terminated", "gcp": "TERMINATED", "azure": "stopped"}[name]
    assert machines.console(machine_id) == "bye\n"


def test_sdks_find_the_identity_of_the_instance(
    user: User, machines: Hypervisor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.launch("vm1", SLEEP)
    url = machines.guest(booted(machines)["vm1"]).metadata_url
    if name == "aws":
        from botocore.utils import InstanceMetadataFetcher

        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        fetcher = InstanceMetadataFetcher(base_url=url, num_attempts=1)
        assert fetcher.retrieve_iam_role_credentials()["access_key"] == "ASIAEMULATEDNODE0000"
    elif name == "gcp":
        from google.auth.compute_engine import _metadata
        from google.auth.transport.requests import Request

        request = Request()
        root = f"{url}/computeMetadata/v1/"
        assert _metadata.get(request, "project/project-id", root=root) == "emulated"
        path = "instance/service-accounts/default/"
        account: Any = _metadata.get(request, path, params={"recursive": "true"}, root=root)
        assert account["email"] == "headwater-node@emulated.iam.gserviceaccount.com"
        request.session.close()
    else:
        from azure.identity import ManagedIdentityCredential

        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
        with ManagedIdentityCredential() as credential:
            token = credential.get_token("https://management.azure.com/.default")
        assert token.token == "emulated-token"


@pytest.fixture
def emulated(gce: Gce) -> GcpUser:
    return GcpUser(gce)


def test_frozen_instance_is_silent_and_a_crashed_one_stays_on_in_its_cloud(
    emulated: GcpUser, tmp_path: Path
) -> None:
    count = "#!/bin/sh\nwhile sleep 0.01; do echo .; done\n"
    with hypervisor([emulated.cloud], tmp_path / "machines") as machines:
        emulated.launch("vm1", count)
        machine_id = booted(machines)["vm1"]
        machines.wait_until(lambda: machines.console(machine_id))
        machines.cut_off(machine_id)
        machines.wait_until(lambda: machines.events[-1].kind == "frozen")
        time.sleep(0.05)  # for what a program was about to write
        said = machines.console(machine_id)
        with pytest.raises(TimeoutError, match="not within"):
            machines.wait_until(lambda: machines.console(machine_id) != said, seconds=0.1)
        machines.bring_back(machine_id)
        machines.wait_until(lambda: machines.console(machine_id) != said)

        machines.crash(machine_id)
        machines.wait_until(lambda: machines.events[-1].kind == "killed")
        assert emulated.state("vm1") == "RUNNING"
        kinds = [event.kind for event in machines.events]
        assert kinds == ["booted", "frozen", "thawed", "killed"]


@pytest.mark.parametrize(("when_ended", "state"), [("off", "TERMINATED"), ("on", "RUNNING")])
def test_end_of_user_data_switches_off_where_the_image_does(
    emulated: GcpUser, tmp_path: Path, when_ended: Any, state: str
) -> None:
    folder = tmp_path / "machines"
    with hypervisor([emulated.cloud], folder, when_ended=when_ended) as machines:
        emulated.launch("vm1", '#cloud-config\nruncmd: [[sh, -c, "exit 7"]]\n')
        machines.wait_until(lambda: "ended" in [event.kind for event in machines.events])
        assert ("ended", "7") in [(event.kind, event.detail) for event in machines.events]
        machines.wait_until(lambda: emulated.state("vm1") == state)


def test_shutdown_in_some_minutes_can_be_called_off(emulated: GcpUser, tmp_path: Path) -> None:
    minutes = "#!/bin/sh\nshutdown -h +1\nsleep 0.05\n"
    with hypervisor([emulated.cloud], tmp_path / "machines", time_scale=0.008) as machines:
        emulated.launch("off", f"{minutes}sleep 300\n")
        emulated.launch("on", f"{minutes}shutdown -c\nsleep 300\n")
        ids = booted(machines, 2)
        machines.wait_until(lambda: emulated.state("off") == "TERMINATED")
        time.sleep(0.1)
        assert list(machines.running) == [ids["on"]]


def test_hypervisor_that_fails_says_so(emulated: GcpUser, tmp_path: Path) -> None:
    class Broken(Gce):
        def machines(self) -> dict[str, Machine]:
            raise OSError("no answer")

    broken = Broken(emulated.cloud.store, emulated.cloud.instances)
    with (
        pytest.raises(RuntimeError, match="the hypervisor failed") as caught,
        hypervisor([broken], tmp_path / "machines") as machines,
    ):
        machines.wait_until(lambda: machines.running)
    assert isinstance(caught.value.__cause__, OSError)


def test_image_has_its_programs_and_no_identity_of_the_client(
    emulated: GcpUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-clients")
    programs = {"headwater-node": ["/bin/sh", "-c", 'echo "$0 $* $STORE"; env', "node"]}
    user_data = "#!/bin/sh\nexec headwater-node worker\n"
    with hypervisor(
        [emulated.cloud], tmp_path / "machines", programs=programs, environment={"STORE": "s3://x"}
    ) as machines:
        emulated.launch("vm1", user_data)
        machines.wait_until(lambda: "off" in [event.kind for event in machines.events])
        console = machines.console(machines.events[0].machine_id)
    assert console.startswith("node worker s3://x\n")
    assert "GCE_METADATA_HOST=127." in console
    assert "the-clients" not in console


def test_user_data_that_nothing_would_run_is_refused(emulated: GcpUser, tmp_path: Path) -> None:
    with hypervisor([emulated.cloud], tmp_path / "machines") as machines:
        emulated.launch("vm1", "headwater-node worker")
        emulated.launch("vm2", "#!/no/such/interpreter\n")
        machines.wait_until(lambda: len(machines.events) == 2)
        said = {event.detail for event in machines.events if event.kind == "refused"}
    assert any("neither #! nor #cloud-config" in text for text in said)
    assert any("No such file" in text for text in said)


OWNER = """
import pathlib, sys
from tests.emulators.gce import gce
from tests.emulators.hypervisor import hypervisor
from tests.emulators.machines import loopback_network

with loopback_network() as network, gce(network) as cloud:
    with hypervisor([cloud], pathlib.Path(sys.argv[1])) as machines:
        subnet = {"subnetwork": "regions/us-central1/subnetworks/default"}
        data = {"key": "user-data", "value": sys.argv[2]}
        body = {
            "name": "vm1", "machineType": "zones/us-central1-a/machineTypes/e2-small",
            "networkInterfaces": [subnet], "metadata": {"items": [data]},
        }
        cloud.instances.insert("us-central1-a", body).finish()
        machines.wait_until(lambda: machines.running)
        print(*[guest.pid for guest in machines.running.values()], flush=True)
        machines.wait_until(lambda: False, seconds=60)
"""


def test_no_instance_outlives_a_killed_test(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "machines"), ESCAPE],
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        leader = psutil.Process(int(owner.stdout.readline()))
        while not leader.children():
            time.sleep(0.01)
        processes = [leader, *leader.children(recursive=True), *leader.parents()[:1]]
        owner.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(processes, timeout=5)
    assert (len(gone), alive) == (3, [])
