"""A cloud's SDK takes seconds to import: nobody waits for one that is not used."""

from __future__ import annotations

import subprocess
import sys

SDKS = ("boto3", "botocore", "google.cloud.compute_v1", "azure.mgmt", "azure.identity")


def imported_with(*modules: str) -> list[str]:
    """The SDKs that a process has after it has imported ``modules``."""
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"print(*(name for name in {SDKS!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.split()


def test_no_sdk_is_imported_before_its_cloud_is_used() -> None:
    found = imported_with(
        "headwater.flows.clusters_command",
        "headwater.flows.network_command",
        "headwater.infra.launchers.registry",
        "headwater.infra.launchers.wire.aws",
        "headwater.infra.launchers.gcp",
        "headwater.infra.launchers.azure",
    )

    assert found == []
