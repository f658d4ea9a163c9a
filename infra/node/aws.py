"""EC2 as seen from one of its instances."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import httpx

from headwater.infra.node.platform import Reclaim, metadata_client

METADATA = "http://169.254.169.254"
ADDRESS = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""The variable by which AWS's own SDKs take another address."""

TOKEN_SECONDS = 300


class Aws:
    """See ``Platform``. The instance is launched so that a shutdown of its system terminates it."""

    def __init__(self) -> None:
        self._url = os.environ.get(ADDRESS) or METADATA

    async def reclaim(self) -> Reclaim | None:
        """See ``Platform.reclaim``; EC2 tells two minutes before."""
        async with metadata_client(self._url) as client:
            token = await client.put(
                "/latest/api/token",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
            )
            token.raise_for_status()
            answer = await client.get(
                "/latest/meta-data/spot/instance-action",
                headers={"X-aws-ec2-metadata-token": token.text},
            )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return Reclaim(datetime.fromisoformat(answer.json()["time"]).astimezone(UTC))

    async def switch_off(self) -> None:
        """See ``Platform.switch_off``; the shutdown that follows terminates the instance."""
