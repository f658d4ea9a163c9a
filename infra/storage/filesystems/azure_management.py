"""Where a storage account is: told by Azure Resource Manager alone, not by the store itself.

Resource Graph finds an account by its name, which is unique in all of Azure, over every
subscription that the login may read; the Resource Manager's own calls would need its subscription.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from headwater.infra.storage.filesystems.objects import ANSWER_SECONDS, CONNECT_SECONDS

MANAGERS = {
    ".core.usgovcloudapi.net": "https://management.usgovcloudapi.net",
    ".core.chinacloudapi.cn": "https://management.chinacloudapi.cn",
}
"""Resource Manager of each cloud that is apart, by the end of its stores' host names."""

PUBLIC_MANAGER = "https://management.azure.com"

VARIABLE = "HEADWATER_AZURE_MANAGER"
"""Names another Resource Manager, such as that of an Azure Stack."""

QUERY = (
    "Resources | where type =~ 'microsoft.storage/storageaccounts' and name =~ '{name}'"
    " | project name, location, secondary = properties.secondaryLocation"
)


@dataclass(frozen=True, slots=True)
class Account:
    """A storage account.

    Attributes:
        region: Where it is written and read.
        secondary: Region that Azure copies it to; empty where it copies to none.
    """

    region: str
    secondary: str


class ManagementRefused(Exception):
    """The Resource Manager answered with an error; it never leaves the store."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def manager_of(endpoint: str) -> str:
    """Address of the Resource Manager of the cloud that ``endpoint`` is a store of."""
    if named := os.environ.get(VARIABLE):
        return named.rstrip("/")
    host = urlsplit(endpoint).hostname or ""
    return next((url for end, url in MANAGERS.items() if host.endswith(end)), PUBLIC_MANAGER)


async def find_account(manager: str, token: str, name: str) -> Account | None:
    """The storage account ``name``; ``None`` where the token's owner may not see it.

    Args:
        manager: Address of the Resource Manager.
        token: Bearer token for it.
    Raises:
        ManagementRefused: The answer is an error.
    """
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS
    )
    url = f"{manager}/providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01"
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
        session.post(
            url,
            json={"query": QUERY.format(name=name.replace("'", "\\'"))},
            headers={"Authorization": f"Bearer {token}"},
        ) as answer,
    ):
        if answer.status != 200:
            raise ManagementRefused(answer.status, f"{answer.status} {answer.reason}")
        rows = (await answer.json())["data"]
    if not rows:
        return None
    return Account(str(rows[0]["location"]).lower(), str(rows[0].get("secondary") or "").lower())
