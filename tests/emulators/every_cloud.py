"""The same few acts on each emulated cloud, by the cloud's own SDK: launch, terminate, look."""

from __future__ import annotations

import base64
import time
from typing import Any, Protocol

from tests.emulators.arm import Arm
from tests.emulators.arm_resources import GROUP, SUBSCRIPTION
from tests.emulators.ec2 import IMAGE, Ec2
from tests.emulators.gce import Gce
from tests.emulators.gce_resources import PROJECT
from tests.emulators.machines import EmulatedCloud

SIZE = {"aws": "g4dn.xlarge", "gcp": "g2-standard-4", "azure": "Standard_NC4as_T4_v3"}


class User(Protocol):
    """Somebody with an account."""

    @property
    def cloud(self) -> EmulatedCloud:
        """The service that is asked."""
        ...

    def launch(self, name: str, user_data: str) -> None:
        """Start a spot instance that ends itself, in the first zone."""
        ...

    def terminate(self, name: str) -> None:
        """Delete it, with its disk and its card."""
        ...

    def state(self, name: str) -> str:
        """As the cloud says it; empty where there is none of this name."""
        ...


class AwsUser:
    """By boto3."""

    def __init__(self, cloud: Ec2) -> None:
        import boto3

        self.cloud = cloud
        self.client: Any = boto3.client("ec2")

    def request(self, name: str, user_data: str = "", **more: Any) -> dict[str, Any]:
        """What ``run_instances`` takes."""
        tags = [{"Key": "Name", "Value": name}, {"Key": "hw_run", "Value": "r1"}]
        tagged = ("instance", "volume", "network-interface")
        return {
            "ImageId": IMAGE,
            "InstanceType": SIZE["aws"],
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": user_data,
            "ClientToken": name,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "InstanceMarketOptions": {"MarketType": "spot"},
            "NetworkInterfaces": [self.card("us-east-1a")],
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in tagged],
        } | more

    def card(self, zone: str) -> dict[str, Any]:
        """A network interface in a zone, without a public address."""
        return {
            "DeviceIndex": 0,
            "SubnetId": self.cloud.subnets[zone],
            "Groups": [self.cloud.security_group],
            "AssociatePublicIpAddress": False,
            "DeleteOnTermination": True,
        }

    def launch(self, name: str, user_data: str) -> None:
        self.client.run_instances(**self.request(name, user_data))

    def terminate(self, name: str) -> None:
        self.client.terminate_instances(InstanceIds=[self._find(name)["InstanceId"]])

    def state(self, name: str) -> str:
        return str(self._find(name)["State"]["Name"])

    def _find(self, name: str) -> dict[str, Any]:
        filters = [
            {"Name": "tag:Name", "Values": [name]},
            {"Name": "vpc-id", "Values": [self.cloud.vpc]},
        ]
        found = self.client.describe_instances(Filters=filters)["Reservations"]
        instance: dict[str, Any] = found[-1]["Instances"][0]
        return instance


class GcpUser:
    """By google-cloud-compute."""

    ZONE = "us-central1-a"

    def __init__(self, cloud: Gce) -> None:
        from google.cloud import compute_v1

        self.cloud = cloud
        self.client: Any = self.make(compute_v1.InstancesClient)

    def make(self, client: Any) -> Any:
        """A client of another kind, for the same service."""
        from google.auth.credentials import AnonymousCredentials

        options = {"api_endpoint": self.cloud.url}
        return client(credentials=AnonymousCredentials(), client_options=options)

    def request(self, name: str, user_data: str = "", **more: Any) -> dict[str, Any]:
        """What ``insert`` takes."""
        zone = more.pop("zone", self.ZONE)
        resource = {
            "name": name,
            "machine_type": f"zones/{zone}/machineTypes/{SIZE['gcp']}",
            "labels": {"hw_run": "r1"},
            "metadata": {"items": [{"key": "user-data", "value": user_data}]},
            "disks": [
                {
                    "boot": True,
                    "auto_delete": True,
                    "initialize_params": {
                        "source_image": f"projects/{PROJECT}/global/images/family/headwater-gpu",
                        "labels": {"hw_run": "r1"},
                    },
                }
            ],
            "network_interfaces": [
                {"subnetwork": f"regions/{zone.rsplit('-', 1)[0]}/subnetworks/default"}
            ],
            "scheduling": {
                "provisioning_model": "SPOT",
                "instance_termination_action": "DELETE",
                "max_run_duration": {"seconds": 3600},
            },
        }
        return {"project": PROJECT, "zone": zone, "instance_resource": resource | more}

    def launch(self, name: str, user_data: str) -> None:
        self.client.insert(self.request(name, user_data)).result(timeout=10)

    def terminate(self, name: str) -> None:
        self.client.delete(project=PROJECT, zone=self.ZONE, instance=name).result(timeout=10)

    def state(self, name: str) -> str:
        found = self.client.list(
            {"project": PROJECT, "zone": self.ZONE, "filter": f"name = {name}"}
        )
        return next((str(instance.status) for instance in found), "")


class _Credential:
    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        from azure.core.credentials import AccessToken

        return AccessToken("emulated-token", int(time.time()) + 3600)


class AzureUser:
    """By azure-mgmt-compute and azure-mgmt-network."""

    def __init__(self, cloud: Arm) -> None:
        from azure.core.pipeline.policies import SansIOHTTPPolicy
        from azure.mgmt.compute import ComputeManagementClient
        from azure.mgmt.network import NetworkManagementClient

        self.cloud = cloud
        settings: dict[str, Any] = {
            "base_url": cloud.url,
            "credential_scopes": ["emulated/.default"],
            "authentication_policy": SansIOHTTPPolicy(),  # the SDK's own refuses plain HTTP
            "polling_interval": 0,
        }
        self.compute: Any = ComputeManagementClient(_Credential(), SUBSCRIPTION, **settings)
        self.network: Any = NetworkManagementClient(_Credential(), SUBSCRIPTION, **settings)

    def card(self, name: str, location: str = "eastus", vnet: str = "vnet-eastus") -> str:
        """The id of a new network interface without a public address."""
        subnet = self.network.subnets.get(GROUP, vnet, "default")
        config = {"name": "main", "properties": {"subnet": {"id": subnet.id}}}
        body = {
            "location": location,
            "tags": {"hw_run": "r1"},
            "properties": {"ipConfigurations": [config]},
        }
        made = self.network.network_interfaces.begin_create_or_update(GROUP, name, body).result()
        return str(made.id)

    def request(self, card: str, user_data: str = "", **more: Any) -> dict[str, Any]:
        """What ``begin_create_or_update`` takes."""
        option = {"deleteOption": "Delete"}
        properties = {
            "hardwareProfile": {"vmSize": SIZE["azure"]},
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": -1},
            "storageProfile": {"osDisk": {"createOption": "FromImage", **option}},
            "networkProfile": {"networkInterfaces": [{"id": card, "properties": option}]},
            "osProfile": {
                "computerName": "node",
                "customData": base64.b64encode(user_data.encode()).decode(),
            },
        }
        return {
            "location": "eastus",
            "tags": {"hw_run": "r1"},
            "properties": properties | more,
        }

    def create(self, name: str, body: dict[str, Any]) -> Any:
        """A virtual machine, when its operation has ended."""
        return self.compute.virtual_machines.begin_create_or_update(GROUP, name, body).result()

    def launch(self, name: str, user_data: str) -> None:
        self.create(name, self.request(self.card(f"{name}-card"), user_data))

    def terminate(self, name: str) -> None:
        self.compute.virtual_machines.begin_delete(GROUP, name).result()

    def state(self, name: str) -> str:
        if name not in [vm.name for vm in self.compute.virtual_machines.list(GROUP)]:
            return ""
        view = self.compute.virtual_machines.instance_view(GROUP, name)
        return str(view.statuses[-1].code).removeprefix("PowerState/")

    def close(self) -> None:
        """End the connections."""
        self.compute.close()
        self.network.close()
