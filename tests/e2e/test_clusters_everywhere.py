"""One command finds and removes what three clouds hold, with no record of who made it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from tests.contract.launchers import tags_of
from tests.emulators import arm, gce
from tests.emulators.s3 import REGION, Moto
from tests.emulators.vpc import Vpc
from typer.testing import CliRunner, Result

from headwater.flows.cli import app


@pytest.fixture
def cluster() -> str:
    return f"hw{uuid.uuid4().hex[:8]}"


@pytest.fixture
def left(
    moto: Moto, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[set[str]]:
    """Names of a disk in each cloud, whose machine and whose lease are no more."""
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    tags = tags_of(f"{cluster}-w0", cluster, lease=timedelta(hours=-1))
    vpc = Vpc.new(moto)
    volume = vpc.leave_volume(tags)
    vpc.ec2.close()
    with (
        gce.gce(IPv4Network("127.85.0.0/16")) as google,
        arm.arm(IPv4Network("127.86.0.0/16")) as azure,
    ):
        monkeypatch.setenv("HEADWATER_GCP_COMPUTE", google.url)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "emulated")
        monkeypatch.setenv("HEADWATER_AZURE_MANAGER", azure.url)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "00000000-0000-0000-0000-000000000000")
        disk = {"name": f"{cluster}-gcp", "sizeGb": "73", "labels": tags}
        google.store.add("disks", "us-central1-a", disk)
        azure.group.add("disks", f"{cluster}-azure", "eastus", {"diskSizeGB": 73}, tags=tags)
        yield {volume, f"{cluster}-gcp", f"{cluster}-azure"}
        assert google.left(hw_cluster=cluster) == azure.left(hw_cluster=cluster) == []


def headwater(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--region", REGION])


def test_one_command_lists_all_three_clouds_and_one_reaps_them(
    left: set[str], cluster: str
) -> None:
    listed = headwater("clusters", "list", "--cluster", cluster, "--json")
    reaped = headwater("clusters", "reap", "--cluster", cluster, "--yes")
    after = headwater("clusters", "list", "--cluster", cluster)

    found = json.loads(listed.stdout)
    assert {row["name"] or row["id"] for row in found["resources"]} == left
    # 73 GiB each, at $0.08, $0.10 and $0.075 a month of 730 hours.
    assert found["usd_per_hour"] == pytest.approx(0.0255)
    assert found["skipped"] == []
    assert (reaped.exit_code, reaped.stdout) == (0, "removed 3 of 3 things\n"), reaped.stderr
    assert after.stdout == "nothing of Headwater's is in aws, gcp, azure\n"
