"""What each cloud is asked for: one-time spot, an end of its own, encrypted, private, with tags."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.unit.launch_helpers import TAGS, settings_of, spec_in

from headwater.infra.errors import InvalidLaunch
from headwater.infra.launchers.aws import instance_request
from headwater.infra.launchers.azure import card_body, machine_body
from headwater.infra.launchers.gcp import instance_body
from headwater.infra.models import Cloud, Market

ON_DEMAND = Market.ON_DEMAND


def aws(**changes: Any) -> dict[str, Any]:
    return instance_request(
        spec_in(Cloud.AWS, **changes), settings_of(Cloud.AWS), "ami-1", "/dev/sda1", "subnet-1"
    )


def gcp(**changes: Any) -> dict[str, Any]:
    return instance_body(spec_in(Cloud.GCP, **changes), settings_of(Cloud.GCP), "p", "image")


def azure(*, image: str = "p:o:s:v", **changes: Any) -> dict[str, Any]:
    settings = settings_of(Cloud.AZURE, image=image)
    return machine_body(spec_in(Cloud.AZURE, **changes), settings, "s", ssh_key="ssh-rsa KEY")


def test_a_spot_machine_of_aws_is_one_time_and_goes_when_it_is_taken_back() -> None:
    assert aws()["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {
            "SpotInstanceType": "one-time",
            "InstanceInterruptionBehavior": "terminate",
        },
    }
    assert "InstanceMarketOptions" not in aws(market=ON_DEMAND)


def test_a_machine_of_aws_ends_itself_for_good() -> None:
    assert aws()["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_a_machine_of_aws_is_private_encrypted_and_takes_signed_metadata_calls_only() -> None:
    body = aws(disk_gib=120)
    (card,), (disk,) = body["NetworkInterfaces"], body["BlockDeviceMappings"]

    assert card["AssociatePublicIpAddress"] is False
    assert (card["SubnetId"], card["Groups"]) == ("subnet-1", ["sg-1", "sg-2"])
    assert card["DeleteOnTermination"] is True
    assert disk["DeviceName"] == "/dev/sda1"
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["DeleteOnTermination"]) == (True, True)
    assert disk["Ebs"]["VolumeSize"] == 120
    assert body["MetadataOptions"]["HttpTokens"] == "required"
    assert body["IamInstanceProfile"] == {"Name": "node-role"}


def test_every_resource_of_aws_has_the_tags() -> None:
    tagged = {
        one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        for one in aws()["TagSpecifications"]
    }

    assert set(tagged) == {"instance", "volume", "network-interface", "spot-instances-request"}
    assert all(tags == {**TAGS, "Name": "c1-w0"} for tags in tagged.values())
    on_demand = aws(market=ON_DEMAND)["TagSpecifications"]
    assert len(on_demand) == 3  # without a request for spot there is none to be tagged


def test_a_spot_machine_of_gcp_is_deleted_when_it_is_taken_back() -> None:
    assert gcp()["scheduling"] == {
        "provisioning_model": "SPOT",
        "automatic_restart": False,
        "on_host_maintenance": "TERMINATE",
        "instance_termination_action": "DELETE",
    }


def test_a_machine_of_gcp_with_a_limit_is_deleted_by_google_itself() -> None:
    scheduling = gcp(market=ON_DEMAND, run_limit_seconds=3600)["scheduling"]

    assert scheduling["max_run_duration"] == {"seconds": 3600}
    assert scheduling["instance_termination_action"] == "DELETE"
    assert scheduling["provisioning_model"] == "STANDARD"


@pytest.mark.parametrize(
    ("kind", "moves"),
    [("e2-standard-4", True), ("n2-standard-4", True), ("g2-standard-4", False),
     ("a2-highgpu-1g", False), ("a3-highgpu-8g", False)],
)  # fmt: skip
def test_a_machine_of_gcp_with_a_gpu_is_not_moved(kind: str, moves: bool) -> None:
    said = gcp(market=ON_DEMAND, instance_type=kind)["scheduling"]["on_host_maintenance"]
    assert said == ("MIGRATE" if moves else "TERMINATE")


def test_a_machine_of_gcp_is_private_and_its_disk_goes_with_it() -> None:
    body = gcp(disk_gib=120)
    (card,), (disk,) = body["network_interfaces"], body["disks"]

    assert card == {
        "network": "projects/p/global/networks/net",
        "subnetwork": "projects/p/regions/us-central1/subnetworks/sub",
    }
    assert disk["auto_delete"] is True
    assert disk["initialize_params"]["disk_size_gb"] == 120
    assert disk["initialize_params"]["labels"] == body["labels"] == TAGS
    assert body["tags"] == {"items": ["nodes"]}
    assert body["service_accounts"][0]["email"] == "node@p.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("user_data", "key"), [("#cloud-config\n", "user-data"), ("#!/bin/sh\n", "startup-script")]
)
def test_a_machine_of_gcp_is_told_what_its_image_understands(user_data: str, key: str) -> None:
    items = {one["key"]: one["value"] for one in gcp(user_data=user_data)["metadata"]["items"]}

    assert items == {key: user_data, "block-project-ssh-keys": "true"}


def test_a_spot_machine_of_azure_is_deleted_when_it_is_taken_back() -> None:
    said = azure()["properties"]

    assert (said["priority"], said["evictionPolicy"]) == ("Spot", "Delete")
    assert said["billingProfile"] == {"maxPrice": -1}
    assert "priority" not in azure(market=ON_DEMAND)["properties"]


def test_what_a_machine_of_azure_has_goes_with_it() -> None:
    body = azure(disk_gib=120, zone="eastus-2")
    said = body["properties"]
    (card,) = said["networkProfile"]["networkInterfaces"]

    assert said["storageProfile"]["osDisk"]["deleteOption"] == "Delete"
    assert said["storageProfile"]["osDisk"]["diskSizeGB"] == 120
    assert card["properties"]["deleteOption"] == "Delete"
    assert card["id"].endswith(
        "/resourceGroups/rg/providers/Microsoft.Network/networkInterfaces/c1-w0-nic"
    )
    assert (body["tags"], body["zones"]) == (TAGS, ["2"])
    assert "zones" not in azure(zone="")


def test_a_machine_of_azure_lets_nobody_log_in_and_has_its_identity() -> None:
    body = azure()
    system = body["properties"]["osProfile"]

    assert system["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert base64.b64decode(system["customData"]) == b"#cloud-config\n"
    assert "adminPassword" not in system
    assert list(body["identity"]["userAssignedIdentities"]) == [
        "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity"
        "/userAssignedIdentities/node-identity"
    ]


def test_a_card_of_azure_is_private_and_has_the_tags() -> None:
    body = card_body(spec_in(Cloud.AZURE), settings_of(Cloud.AZURE), "s")
    (config,) = body["properties"]["ipConfigurations"]
    network = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network"

    assert config["properties"] == {
        "subnet": {"id": f"{network}/virtualNetworks/vnet/subnets/sub"},
        "privateIPAllocationMethod": "Dynamic",
    }
    assert body["properties"]["networkSecurityGroup"] == {
        "id": f"{network}/networkSecurityGroups/nsg"
    }
    assert (body["location"], body["tags"]) == ("eastus", TAGS)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("p:o:s:v", {"publisher": "p", "offer": "o", "sku": "s", "version": "v"}),
        ("/subscriptions/s/x/images/i", {"id": "/subscriptions/s/x/images/i"}),
        ("/CommunityGalleries/g/i", {"communityGalleryImageId": "/CommunityGalleries/g/i"}),
        ("/SharedGalleries/g/i", {"sharedGalleryImageId": "/SharedGalleries/g/i"}),
    ],
)
def test_an_image_of_azure_is_named_in_four_ways(image: str, reference: dict[str, str]) -> None:
    assert azure(image=image)["properties"]["storageProfile"]["imageReference"] == reference


@pytest.mark.parametrize("image", ["", "p:o:s", "ubuntu"])
def test_what_is_no_image_of_azure_is_refused_with_the_line(image: str) -> None:
    with pytest.raises(InvalidLaunch) as error:
        azure(image=image)
    assert "image.azure of cluster profile 'mine' (profiles/mine.toml)" in error.value.hint
