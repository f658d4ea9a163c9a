"""What a node asks of the cloud that it runs in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import httpx

ANSWER_SECONDS = 5.0
"""The service is on the machine's own network card; a busy one answers within this."""

CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The cloud takes the machine back.

    Attributes:
        at: When, in UTC; what is not done by then is lost.
    """

    at: datetime


class Platform(Protocol):
    """The cloud as seen from inside one of its machines."""

    async def reclaim(self) -> Reclaim | None:
        """Whether the machine is to be taken back, and when."""
        ...

    async def switch_off(self) -> None:
        """End the machine and its bill, where shutting down its system does not end that.

        Raises:
            httpx.HTTPError: The cloud did not take the call; the lease of the cloud's own or the
                reaper ends the machine then.
        """
        ...


def metadata_client(base_url: str) -> httpx.AsyncClient:
    """A client of a metadata service, past all proxies."""
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(base_url=base_url, timeout=timeout, trust_env=False)
