"""The emulated Compute Engine, asked by google-cloud-compute."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from google.api_core import exceptions as errors
from google.cloud import compute_v1 as compute
from tests.emulators.every_cloud import GcpUser
from tests.emulators.gce import Gce
from tests.emulators.gce_filter import compile_filter
from tests.emulators.gce_resources import PROJECT

pytestmark = pytest.mark.trial
"""The launchers' own tests run on it every time; what is shown here is the emulator itself."""

ZONE = GcpUser.ZONE


@pytest.fixture
def user(gce: Gce) -> GcpUser:
    return GcpUser(gce)


def test_instance_runs_with_its_disk_and_takes_it_along(user: GcpUser, gce: Gce) -> None:
    user.launch("vm1", "#!/bin/sh\n")

    found = user.client.get(project=PROJECT, zone=ZONE, instance="vm1")
    assert (found.status, found.scheduling.provisioning_model) == ("RUNNING", "SPOT")
    assert found.scheduling.max_run_duration.seconds == 3600
    assert found.network_interfaces[0].network_i_p.startswith("127.")
    assert gce.left(hw_run="r1") == ["disks/vm1", "instances/vm1"]

    user.terminate("vm1")
    assert gce.left() == []
    assert (gce.script.calls["instances.insert"], gce.script.calls["instances.delete"]) == (1, 1)


def test_zone_without_capacity_fails_the_operation_and_leaves_nothing(
    user: GcpUser, gce: Gce
) -> None:
    code = "ZONE_RESOURCE_POOL_EXHAUSTED"
    gce.script.fail("instances.insert", code, where="us-central1-a", late=True)

    accepted = user.client.insert(user.request("vm1"))
    with pytest.raises(errors.ServiceUnavailable) as caught:
        accepted.result(timeout=10)
    assert caught.value.errors[0].code == code
    assert gce.left() == []

    user.client.insert(user.request("vm1", zone="us-central1-b")).result(timeout=10)
    assert [call.where for call in gce.script.asked] == ["us-central1-a", "us-central1-b"]
    assert gce.left() == ["disks/vm1", "instances/vm1"]


def test_refusals_come_with_the_services_status_and_reason(user: GcpUser, gce: Gce) -> None:
    for code, error in (
        ("quotaExceeded", "Forbidden"),
        ("forbidden", "Forbidden"),
        ("rateLimitExceeded", "TooManyRequests"),
        ("backendError", "ServiceUnavailable"),
    ):
        gce.script.fail("instances.insert", code)
        with pytest.raises(getattr(errors, error)) as caught:
            user.client.insert(user.request("vm1"))
        assert caught.value.errors[0]["reason"] == code
    assert gce.left() == []


def test_same_request_id_gives_the_same_operation(user: GcpUser, gce: Gce) -> None:
    request = user.request("vm1") | {"request_id": str(uuid.uuid4())}
    names = {user.client.insert(request).name for _ in range(2)}
    assert len(names) == 1
    with pytest.raises(errors.Conflict):
        user.client.insert(user.request("vm1"))


def test_operation_takes_as_long_as_the_script_says(user: GcpUser, gce: Gce) -> None:
    gce.script.delay("instances.insert", 0.15)
    started = time.monotonic()
    operation = user.client.insert(user.request("vm1"))
    assert user.state("vm1") == "PROVISIONING"
    assert gce.machines() == {}

    operations = user.make(compute.ZoneOperationsClient)
    done = operations.wait(project=PROJECT, zone=ZONE, operation=operation.name)
    assert done.status.name == "DONE"
    assert 0.15 <= time.monotonic() - started < 1.5
    assert user.state("vm1") == "RUNNING"
    assert [machine.name for machine in gce.machines().values()] == ["vm1"]


def test_what_a_request_names_must_be_there(user: GcpUser, gce: Gce) -> None:
    elsewhere = [{"subnetwork": "regions/europe-west4/subnetworks/default"}]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"machine_type": f"zones/{ZONE}/machineTypes/z9"}, "machineTypes/z9"),
        ({"network_interfaces": elsewhere}, "same region"),
        ({"disks": [{"initialize_params": {"source_image": "global/images/no"}}]}, "images/no"),
    ]
    for more, message in wrong:
        with pytest.raises(errors.ClientError, match=message):
            user.client.insert(user.request("vm1", **more))
    with pytest.raises(errors.NotFound):
        user.client.get(project=PROJECT, zone=ZONE, instance="vm1")
    with pytest.raises(errors.NotFound):
        user.client.list(project="somebody-elses", zone=ZONE)
    assert gce.left() == []


def test_disk_that_stays_is_in_use_for_a_while(user: GcpUser, gce: Gce) -> None:
    gce.store.release_seconds = 0.1
    [disk] = user.request("vm1")["instance_resource"]["disks"]
    user.client.insert(user.request("vm1", disks=[disk | {"auto_delete": False}]))
    user.terminate("vm1")
    assert gce.left(hw_run="r1") == ["disks/vm1"]

    disks = user.make(compute.DisksClient)
    with pytest.raises(errors.BadRequest, match="already being used"):
        disks.delete(project=PROJECT, zone=ZONE, disk="vm1")
    time.sleep(0.12)
    disks.delete(project=PROJECT, zone=ZONE, disk="vm1").result(timeout=10)
    assert gce.left() == []


def test_run_time_limit_deletes_the_instance(user: GcpUser, gce: Gce) -> None:
    gce.instances.time_scale = 0.01
    limited = {"instance_termination_action": "DELETE", "max_run_duration": {"seconds": 5}}
    user.client.insert(user.request("vm1", scheduling=limited))
    assert user.state("vm1") == "RUNNING"
    time.sleep(0.06)
    assert gce.left() == []


def test_lists_come_in_pages_over_all_zones(user: GcpUser, gce: Gce) -> None:
    gce.page_size = 2
    for zone in ("us-central1-a", "us-central1-b", "europe-west4-a"):
        user.client.insert(user.request(f"vm-{zone}", zone=zone))
    user.client.insert(user.request("other", labels={"hw_run": "r2"}))

    query = {"project": PROJECT, "filter": 'labels.hw_run = "r1"'}
    pages = user.client.aggregated_list(query)
    found = [vm.name for _, scope in pages for vm in scope.instances]
    assert sorted(found) == ["vm-europe-west4-a", "vm-us-central1-a", "vm-us-central1-b"]
    assert gce.script.calls["instances.aggregatedList"] == 2


def test_labels_change_only_with_the_fingerprint_of_the_old_ones(user: GcpUser, gce: Gce) -> None:
    user.launch("vm1", "")
    found = user.client.get(project=PROJECT, zone=ZONE, instance="vm1")
    for fingerprint, accepted in (("b3RoZXI=", False), (found.label_fingerprint, True)):
        change = {"labels": {"hw_run": "r9"}, "label_fingerprint": fingerprint}
        request: dict[str, Any] = {"project": PROJECT, "zone": ZONE, "instance": "vm1"}
        request["instances_set_labels_request_resource"] = change
        if accepted:
            user.client.set_labels(request).result(timeout=10)
        else:
            with pytest.raises(errors.PreconditionFailed):
                user.client.set_labels(request)
    assert gce.left(hw_run="r9") == ["instances/vm1"]


def test_networks_and_rules_can_be_read(user: GcpUser, gce: Gce) -> None:
    rule = {"name": "open", "allowed": [{"IPProtocol": "tcp", "ports": ["8786"]}]}
    gce.store.add("firewalls", "", rule | {"sourceRanges": ["0.0.0.0/0"]})
    [found] = user.make(compute.FirewallsClient).list(project=PROJECT)
    assert (found.name, found.source_ranges, found.allowed[0].ports) == (
        "open",
        ["0.0.0.0/0"],
        ["8786"],
    )
    subnets = user.make(compute.SubnetworksClient)
    subnet = subnets.get(project=PROJECT, region="us-central1", subnetwork="default")
    assert subnet.ip_cidr_range.startswith("127.")
    kinds = user.make(compute.MachineTypesClient)
    kind = kinds.get(project=PROJECT, zone=ZONE, machine_type="g2-standard-48")
    assert kind.accelerators[0].guest_accelerator_count == 4


def test_reserved_address_is_in_use_as_long_as_its_instance(user: GcpUser, gce: Gce) -> None:
    addresses = user.make(compute.AddressesClient)
    where = {"project": PROJECT, "region": "us-central1"}
    addresses.insert({**where, "address_resource": {"name": "ip1", "labels": {"hw_run": "r1"}}})
    held = addresses.get(**where, address="ip1").address
    [card] = user.request("vm1")["instance_resource"]["network_interfaces"]
    user.client.insert(user.request("vm1", network_interfaces=[card | {"network_i_p": held}]))
    with pytest.raises(errors.BadRequest, match="already being used"):
        addresses.delete(**where, address="ip1")
    user.terminate("vm1")
    addresses.delete(**where, address="ip1").result(timeout=10)
    assert gce.left() == []


ITEM = {"name": "vm1", "status": "RUNNING", "sizeGb": "50", "labels": {"hw_run": "r1", "e": ""}}


FILTERS = [
    ("", True),
    ("labels.hw_run = r1", True),
    ('labels.hw_run="r1"', True),
    ("labels.hw_run:*", True),
    ("labels.other:*", False),
    ("labels.e:*", True),
    ("labels.hw_run != r1", False),
    ("labels.other != r1", True),
    ("labels.hw_run = r*", True),
    ("labels.hw_run eq 'r[0-9]'", True),
    ("labels.hw_run ne 'r[0-9]'", False),
    ('(labels.hw_run = "r1") AND (status = STOPPED)', False),
    ('(labels.hw_run = "r1") (status = RUNNING)', True),
    ("status = STOPPED OR name = vm1", True),
    ("NOT name = vm1", False),
    ("sizeGb > 9", True),
]


def test_filters_read_as_the_api_reads_them(user: GcpUser) -> None:
    wrong = [text for text, passes in FILTERS if compile_filter(text)(ITEM) is not passes]
    assert wrong == []
    for text in ("name", "name =", "(name = a", "name = a)", "a ~ b", "name = ("):
        with pytest.raises(errors.BadRequest, match="Invalid list filter expression"):
            user.client.list({"project": PROJECT, "zone": ZONE, "filter": text})


def test_script_for_an_unknown_operation_is_an_error(gce: Gce) -> None:
    with pytest.raises(ValueError, match=r"no operation 'instances\.create'.*instances\.insert"):
        gce.script.fail("instances.create", "QUOTA_EXCEEDED")


def test_answer_may_be_lost_after_the_work_is_done(user: GcpUser, gce: Gce) -> None:
    gce.script.lose("instances.insert")
    request = user.request("vm1") | {"request_id": str(uuid.uuid4())}
    with pytest.raises(OSError, match="closed connection"):
        user.client.insert(request)
    assert gce.left() == ["disks/vm1", "instances/vm1"]
    user.client.insert(request).result(timeout=10)
    assert gce.script.calls["instances.insert"] == 2
