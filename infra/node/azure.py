"""Azure as seen from one of its virtual machines."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from headwater.infra.node.platform import Reclaim, metadata_client

METADATA = "http://169.254.169.254"
ADDRESS = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
"""The variable by which Azure's own SDKs take another address."""

MANAGEMENT = "https://management.azure.com"

NOTICE = timedelta(seconds=30)
"""What Azure gives where it does not say when: the event has begun."""


class Azure:
    """See ``Platform``.

    Args:
        management: Endpoint of the resource manager.
    """

    def __init__(self, management: str = MANAGEMENT) -> None:
        self._url = os.environ.get(ADDRESS) or METADATA
        self._management = management
        self._name = ""

    async def reclaim(self) -> Reclaim | None:
        """See ``Platform.reclaim``; Azure tells half a minute before."""
        if not self._name:
            self._name = str((await self._machine())["name"])
        events = (await self._get("/metadata/scheduledevents", "2020-07-01"))["Events"]
        for event in events:
            if event["EventType"] == "Preempt" and self._name in event["Resources"]:
                said = event.get("NotBefore") or ""
                return Reclaim(
                    parsedate_to_datetime(said).astimezone(UTC)
                    if said
                    else datetime.now(UTC) + NOTICE
                )
        return None

    async def switch_off(self) -> None:
        """See ``Platform.switch_off``: a machine that is only shut down keeps its whole bill."""
        machine = str((await self._machine())["resourceId"])
        token = await self._get(
            "/metadata/identity/oauth2/token", "2018-02-01", resource=f"{MANAGEMENT}/"
        )
        async with metadata_client(self._management) as client:
            answer = await client.delete(
                machine,
                params={"api-version": "2024-07-01", "forceDeletion": "true"},
                headers={"Authorization": f"Bearer {token['access_token']}"},
            )
            answer.raise_for_status()

    async def _machine(self) -> dict[str, Any]:
        return await self._get("/metadata/instance/compute", "2021-02-01", format="json")

    async def _get(self, path: str, version: str, **more: str) -> dict[str, Any]:
        async with metadata_client(self._url) as client:
            answer = await client.get(
                path, params={"api-version": version, **more}, headers={"Metadata": "true"}
            )
            answer.raise_for_status()
            value: dict[str, Any] = answer.json()
            return value
