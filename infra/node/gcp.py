"""Compute Engine as seen from one of its instances."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from headwater.infra.node.platform import Reclaim, metadata_client

METADATA = "metadata.google.internal"
ADDRESS = "GCE_METADATA_HOST"
"""The variable by which Google's own SDKs take another host."""

COMPUTE = "https://compute.googleapis.com"

NOTICE = timedelta(seconds=30)
"""The service tells that the machine is taken back, and not when; this is what Google gives."""


class Gcp:
    """See ``Platform``.

    Args:
        compute: Endpoint of the service that deletes machines.
    """

    def __init__(self, compute: str = COMPUTE) -> None:
        self._url = f"http://{os.environ.get(ADDRESS) or METADATA}/computeMetadata/v1"
        self._compute = compute
        self._taken: datetime | None = None

    async def reclaim(self) -> Reclaim | None:
        """See ``Platform.reclaim``."""
        if self._taken is None:
            if await self._get("instance/preempted") != "TRUE":
                return None
            self._taken = datetime.now(UTC) + NOTICE
        return Reclaim(self._taken)

    async def switch_off(self) -> None:
        """See ``Platform.switch_off``: a machine that is only shut down keeps its disk's bill."""
        project = await self._get("project/project-id")
        zone = (await self._get("instance/zone")).rpartition("/")[2]
        name = await self._get("instance/name")
        token = await self._token()
        async with metadata_client(self._compute) as client:
            answer = await client.delete(
                f"/compute/v1/projects/{project}/zones/{zone}/instances/{name}",
                headers={"Authorization": f"Bearer {token}"},
            )
            answer.raise_for_status()

    async def _token(self) -> str:
        async with metadata_client(self._url) as client:
            answer = await client.get(
                "/instance/service-accounts/default/token", headers={"Metadata-Flavor": "Google"}
            )
            answer.raise_for_status()
            return str(answer.json()["access_token"])

    async def _get(self, path: str) -> str:
        async with metadata_client(self._url) as client:
            answer = await client.get(f"/{path}", headers={"Metadata-Flavor": "Google"})
            answer.raise_for_status()
            return answer.text.strip()
