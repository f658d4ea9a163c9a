"""What a node asks of each cloud, against answers as the clouds' documentation shows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.emulators.answers import Answer, Recorded, recorded

from headwater.infra.node.aws import Aws
from headwater.infra.node.azure import Azure
from headwater.infra.node.gcp import Gcp


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    with recorded() as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        monkeypatch.setenv("GCE_METADATA_HOST", server.url.removeprefix("http://"))
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        yield server


def google(cloud: Recorded, **values: str) -> None:
    for path, text in values.items():
        cloud.answers[f"GET /computeMetadata/v1/{path.replace('__', '/')}"] = Answer(body=text)


def test_ec2_is_asked_with_a_token(cloud: Recorded) -> None:
    action = "GET /latest/meta-data/spot/instance-action"
    cloud.answers["PUT /latest/api/token"] = Answer(body="a-token")
    cloud.answers[action] = Answer(404)
    assert asyncio.run(Aws().reclaim()) is None

    cloud.answers[action] = Answer(body='{"action": "terminate", "time": "2026-09-18T08:22:00Z"}')
    found = asyncio.run(Aws().reclaim())

    assert found is not None
    assert found.at == datetime(2026, 9, 18, 8, 22, tzinfo=UTC)
    assert cloud.asked[-1].headers["x-aws-ec2-metadata-token"] == "a-token"


def test_ec2_that_does_not_answer_is_an_error(cloud: Recorded) -> None:
    cloud.answers["PUT /latest/api/token"] = Answer(403)

    with pytest.raises(httpx.HTTPStatusError):
        asyncio.run(Aws().reclaim())


def test_google_tells_only_that_it_takes_the_machine_back(cloud: Recorded) -> None:
    google(cloud, instance__preempted="FALSE")
    machine = Gcp()
    assert asyncio.run(machine.reclaim()) is None

    google(cloud, instance__preempted="TRUE")
    first = asyncio.run(machine.reclaim())
    again = asyncio.run(machine.reclaim())

    assert first is not None
    assert timedelta(seconds=25) < first.at - datetime.now(UTC) <= timedelta(seconds=30)
    assert again == first
    assert cloud.asked[-1].headers["metadata-flavor"] == "Google"


def test_a_machine_of_google_deletes_itself(cloud: Recorded) -> None:
    zone = "projects/12/zones/us-east1-b"
    google(cloud, instance__zone=zone, instance__name="c1-w0", **{"project__project-id": "lake"})
    token = "GET /computeMetadata/v1/instance/service-accounts/default/token"
    cloud.answers[token] = Answer(body='{"access_token": "t"}')
    deletion = "DELETE /compute/v1/projects/lake/zones/us-east1-b/instances/c1-w0"
    cloud.answers[deletion] = Answer(body="{}")

    asyncio.run(Gcp(cloud.url).switch_off())

    assert cloud.asked[-1].line == deletion
    assert cloud.asked[-1].headers["authorization"] == "Bearer t"


def azure(cloud: Recorded, *events: dict[str, object]) -> None:
    machine = {"name": "c1-w0", "resourceId": "/subscriptions/s/resourceGroups/g/m/c1-w0"}
    cloud.answers["GET /metadata/instance/compute"] = Answer(body=json.dumps(machine))
    found = json.dumps({"DocumentIncarnation": 1, "Events": events})
    cloud.answers["GET /metadata/scheduledevents"] = Answer(body=found)


def preempt(*machines: str, at: str = "Fri, 18 Sep 2026 08:22:00 GMT") -> dict[str, object]:
    return {
        "EventId": "e",
        "EventType": "Preempt",
        "EventStatus": "Scheduled" if at else "Started",
        "Resources": machines,
        "NotBefore": at,
    }


def test_azure_names_the_machines_that_it_takes_back(cloud: Recorded) -> None:
    azure(cloud, preempt("c1-w1"), {"EventType": "Reboot", "Resources": ["c1-w0"]})
    assert asyncio.run(Azure().reclaim()) is None

    azure(cloud, preempt("c1-w1", "c1-w0"))
    found = asyncio.run(Azure().reclaim())

    assert found is not None
    assert found.at == datetime(2026, 9, 18, 8, 22, tzinfo=UTC)
    assert cloud.asked[-1].headers["metadata"] == "true"


def test_azure_that_has_begun_leaves_half_a_minute(cloud: Recorded) -> None:
    azure(cloud, preempt("c1-w0", at=""))

    found = asyncio.run(Azure().reclaim())

    assert found is not None
    assert timedelta(seconds=25) < found.at - datetime.now(UTC) <= timedelta(seconds=30)


def test_a_machine_of_azure_deletes_itself(cloud: Recorded) -> None:
    azure(cloud)
    cloud.answers["GET /metadata/identity/oauth2/token"] = Answer(body='{"access_token": "t"}')
    deletion = "DELETE /subscriptions/s/resourceGroups/g/m/c1-w0"
    cloud.answers[deletion] = Answer(202)

    asyncio.run(Azure(cloud.url).switch_off())

    assert cloud.asked[-1].line.startswith(deletion)
    assert cloud.asked[-1].headers["authorization"] == "Bearer t"


def test_a_cloud_that_does_not_delete_is_an_error(cloud: Recorded) -> None:
    azure(cloud)
    cloud.answers["GET /metadata/identity/oauth2/token"] = Answer(body='{"access_token": "t"}')
    cloud.answers["DELETE /"] = Answer(409)

    with pytest.raises(httpx.HTTPStatusError):
        asyncio.run(Azure(cloud.url).switch_off())
