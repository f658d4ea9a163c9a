"""Azure Blob Storage and Data Lake Storage, over ``adlfs``.

Requests go through the blob client that ``adlfs`` holds: the calls of ``adlfs`` that take a path
ask a cache and cut keys at ``?versionid=``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import fsspec.asyn
from adlfs import AzureBlobFileSystem
from azure.core import MatchConditions
from azure.core import exceptions as core
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

from headwater.infra.errors import AccessDenied, StorageError
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import descriptions
from headwater.infra.storage.filesystems.azure_management import (
    ManagementRefused,
    find_account,
    manager_of,
)
from headwater.infra.storage.filesystems.descriptions import (
    HEADERS,
    NOTHING,
    WRITER_KEY,
    Description,
)
from headwater.infra.storage.filesystems.objects import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    SILENT,
    Action,
    Failure,
    Home,
    Kind,
    ObjectStore,
    writing,
)
from headwater.infra.storage.filesystems.streams import Stored, Stream
from headwater.infra.storage.retries import count_retry
from headwater.infra.storage.uris import Scheme, Uri
from headwater.infra.units import MIB

AZURE_DOMAINS = (
    ".core.windows.net",
    ".core.usgovcloudapi.net",
    ".core.chinacloudapi.cn",
    ".storage.azure.net",
)
"""Ends of the host names of Azure's own endpoints."""

STORAGE_SCOPE = "https://storage.azure.com/.default"

ONE_REQUEST_BYTES = MIB
"""Larger values go as a block: the SDK hands a body of bytes to aiohttp, which warns of it."""

COPY_POLL_SECONDS = 0.5
"""Between two looks at a copy that the store has not finished at once."""

CODES = {
    "ContainerNotFound": Kind.NO_BUCKET,
    "ContainerBeingDeleted": Kind.BUSY,
    "BlobNotFound": Kind.NO_KEY,
    "BlobAlreadyExists": Kind.EXISTS,
    "ConditionNotMet": Kind.CHANGED,
    "InvalidRange": Kind.BEYOND_END,
    "InvalidResourceName": Kind.INVALID,
    "OutOfRangeInput": Kind.INVALID,
    "ServerBusy": Kind.BUSY,
    "Md5Mismatch": Kind.BUSY,  # what came is not what was sent
}
"""What Azure's error codes mean; one that is not here goes by its HTTP status."""

STATUSES = {
    401: Kind.EXPIRED,
    403: Kind.DENIED,
    404: Kind.NO_KEY,
    408: Kind.BUSY,
    412: Kind.CHANGED,
    416: Kind.BEYOND_END,
    429: Kind.BUSY,
}

READER, CONTRIBUTOR = "Storage Blob Data Reader", "Storage Blob Data Contributor"

RIGHTS = {
    Action.STAT: (READER, "r"),
    Action.LIST: (READER, "l"),
    Action.READ: (READER, "r"),
    Action.WRITE: (CONTRIBUTOR, "cw"),
    Action.CREATE: (CONTRIBUTOR, "c"),
    Action.COPY: (CONTRIBUTOR, "rcw"),
    Action.DELETE: (CONTRIBUTOR, "d"),
    Action.CLOCK: (READER, "l"),
    Action.LOCATE: (READER, "l"),
}
"""The least role that allows each of our actions, and its letters in a shared access signature."""

EMULATOR = {
    "AccountName": "devstoreaccount1",
    # Public and the same for everyone: it is printed in the emulator's documentation.
    "AccountKey": (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    ),
    "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
}
"""What ``UseDevelopmentStorage=true`` stands for."""


@dataclass(frozen=True, slots=True)
class Access:
    """How one storage account is reached.

    Attributes:
        account: Its name.
        endpoint: Address of its blob service.
        key: Shared key; empty where another way is used.
        sas: Shared access signature, without a leading ``?``.
    """

    account: str
    endpoint: str
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)


class Azure(ObjectStore):
    """One storage account.

    Args:
        account: Its name; empty takes the one that the environment names.
    Raises:
        AccessDenied: Nothing names an account.
    """

    credentials_looked_in = (
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
        "DefaultAzureCredential (AZURE_CLIENT_ID and the like, managed identity, az login)",
    )

    holds = descriptions.AZURE

    max_parts = 45_000
    """A blob has up to 50,000 blocks."""

    def __init__(self, account: str = "") -> None:
        loop = fsspec.asyn.get_loop()
        super().__init__(loop)
        self._access = resolve(account)
        self._fs = _Client(self._access)
        self._homes: dict[str, Home] = {}
        self._asking = asyncio.Lock()

    @property
    def endpoint(self) -> str:
        """Address of the account's blob service."""
        return self._access.endpoint

    def canonical(self, uri: Uri) -> Uri:
        """See ``Filesystem.canonical``."""
        return Uri(Scheme.AZURE, uri.bucket, uri.key, self._access.account)

    def delta_uri(self, uri: Uri) -> str:
        """See ``Filesystem.delta_uri``."""
        return str(self.canonical(uri))

    def delta_options(self, uri: Uri) -> dict[str, str]:
        """See ``Filesystem.delta_options``."""
        return self._run(Action.READ, uri, self._delta_options)

    def classify(self, error: Exception) -> Failure:
        """See ``ObjectStore.classify``."""
        match error:
            case core.ClientAuthenticationError() if error.response is None:
                return Failure(Kind.NO_CREDENTIALS, type(error).__name__)
            case core.IncompleteReadError() | core.HttpResponseError(response=None):
                # The second is what a download says after some tries at an answer that is cut.
                return Failure(Kind.BUSY, "the answer was cut")
            case core.HttpResponseError():
                named = getattr(error, "error_code", None) or ""
                code = str(getattr(named, "value", named))  # an enum's text is another one
                status = error.status_code or 0
                # Only the first line: the others repeat the request, signatures included.
                said = f"{code} {(error.reason or '')}".strip()
                if code in CODES:
                    return Failure(CODES[code], said)
                if status >= 500:
                    return Failure(Kind.BUSY, said)
                return Failure(STATUSES.get(status, Kind.OTHER), said)
            case ManagementRefused():
                kind = STATUSES.get(error.status, Kind.BUSY if error.status >= 500 else Kind.OTHER)
                return Failure(kind, str(error))
            case aiohttp.ClientConnectorError():
                return Failure(Kind.NO_CONNECTION, type(error).__name__)
            case aiohttp.ClientError() | TimeoutError():
                return Failure(Kind.BUSY, f"the answer was cut ({type(error).__name__})")
            case core.ServiceRequestError() if not _is_dropped(error):
                return Failure(Kind.NO_CONNECTION, type(error).__name__)
            case core.ServiceResponseTimeoutError():
                return Failure(Kind.BUSY, SILENT)
            case core.ServiceRequestError() | core.ServiceResponseError() | ConnectionError():
                return Failure(Kind.BUSY, f"the connection was cut ({type(error).__name__})")
            case core.AzureError() | OSError() | ValueError():
                return Failure(Kind.OTHER, type(error).__name__)
            case _:
                raise error

    def right_to(self, action: Action, uri: Uri) -> str:
        """See ``ObjectStore.right_to``."""
        if action is Action.LOCATE:
            return f"the role 'Reader' on the storage account {self._access.account}"
        role, letters = RIGHTS[action]
        return f"the role '{role}' (in a SAS: sp={letters}) on the container {uri.bucket}"

    def _container(self, uri: Uri) -> ContainerClient:
        return self._fs.service_client.get_container_client(uri.bucket)

    def _blob(self, uri: Uri) -> BlobClient:
        return self._fs.service_client.get_blob_client(uri.bucket, uri.key)

    async def _head(self, uri: Uri) -> tuple[DataRef, str]:
        found = await self._blob(uri).get_blob_properties()
        if _is_folder(found.metadata):
            raise core.ResourceNotFoundError(f"{uri.key} is a folder")
        return self._ref(uri, found.size, found.etag), (found.metadata or {}).get(WRITER_KEY, "")

    async def _page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[DataRef], str]:
        pages = (
            self._container(bucket)
            .list_blobs(
                name_starts_with=prefix, include=["metadata"], results_per_page=self.page_size
            )
            .by_page(token or None)
        )
        # The first page only: each further one is asked for, and tried again, by itself.
        refs = [
            replace(
                self._ref(Uri(Scheme.AZURE, bucket.bucket, row.name), row.size, row.etag),
                modified=row.last_modified.timestamp(),
            )
            async for row in await anext(pages)
            if not _is_folder(row.metadata)
        ]
        return refs, getattr(pages, "continuation_token", None) or ""

    async def _folder_page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[str], str]:
        pages = (
            self._container(bucket)
            .walk_blobs(name_starts_with=prefix, results_per_page=self.page_size)
            .by_page(token or None)
        )
        # A name that ends in a slash is a folder, or the marker of one.
        names = {str(row.name) async for row in await anext(pages) if row.name.endswith("/")}
        return sorted(names - {prefix}), getattr(pages, "continuation_token", None) or ""

    async def _is_clouds_own(self) -> bool:
        return (urlsplit(self.endpoint).hostname or "").endswith(AZURE_DOMAINS)

    async def _home(self, uri: Uri) -> Home:
        # All containers of an account are where it is, so its manager is asked once.
        manager = manager_of(self.endpoint)
        async with self._asking:
            if manager not in self._homes:
                self._homes[manager] = await self._asked_home(manager, uri)
        return self._homes[manager]

    async def _asked_home(self, manager: str, uri: Uri) -> Home:
        try:
            async with DefaultAzureCredential() as credential:
                token = (await credential.get_token(f"{manager}/.default")).token
        except core.ClientAuthenticationError as exc:
            raise AccessDenied(
                f"Azure tells where the storage account '{self._access.account}' is to those who"
                " are logged in, and takes no account key or signature for it",
                hint=f"log in (az login, or AZURE_CLIENT_ID and the like), with"
                f" {self.right_to(Action.LOCATE, uri)}",
            ) from exc
        found = await find_account(manager, token, self._access.account)
        if found is None:
            raise AccessDenied(
                f"no storage account '{self._access.account}' is among those that Azure shows to"
                " this login",
                hint=f"grant {self.right_to(Action.LOCATE, uri)}",
            )
        copied = f", copied to {found.secondary}" if found.secondary else ""
        return Home(frozenset({found.region}), f"Resource Graph{copied}")

    async def _get(
        self, uri: Uri, version: str, start: int, end: int | None
    ) -> tuple[bytes, Description | None]:
        # Objects that are stored compressed come as they are stored.
        options: dict[str, Any] = {
            "max_concurrency": 1,
            "decompress": False,
            "raw_response_hook": _Repeated(),
        }
        options |= _pinned(version)
        if start or end is not None:
            options |= {"offset": start, "length": None if end is None else end - start}
        stream = await self._blob(uri).download_blob(**options)
        data: bytes = await stream.readall()
        return data, _described(stream.properties)

    async def _description(self, uri: Uri, version: str) -> Description:
        return _described(await self._blob(uri).get_blob_properties(**_pinned(version)))

    async def _put(
        self,
        uri: Uri,
        data: bytes,
        *,
        writer: str,
        replacing: str | None,
        crc32c: int | None = None,
        description: Description = NOTHING,
    ) -> Stored:
        blob = self._blob(uri)
        described = _describing(description, writer)
        is_checked = crc32c is not None
        condition = _condition(replacing)
        if len(data) <= ONE_REQUEST_BYTES:
            answer = await blob.upload_blob(
                data,
                length=len(data),
                overwrite=replacing != "",
                validate_content=is_checked,
                **described,
                **condition,
            )
        else:
            name = writer or uuid.uuid4().hex
            block = await _stage(blob, name, 1, data, is_checked=is_checked)
            answer = await blob.commit_block_list([block], **described, **condition)
        return Stored(self._ref(uri, len(data), str(answer["etag"])), crc32c)

    async def _send(
        self, stream: Stream, uri: Uri, writer: str, replacing: str | None = None
    ) -> Stored:
        blob = self._blob(uri)
        stage = partial(_stage, blob, writer, is_checked=stream.crc32c is not None)
        blocks = await self._parts(stream, uri, stage)
        commit = partial(
            blob.commit_block_list,
            list(blocks),
            **_describing(await stream.description(), writer),
            **_condition(replacing),
        )
        answer = await self._tries(writing(replacing), uri, commit)
        return Stored(self._ref(uri, stream.size_bytes, str(answer["etag"])), stream.crc32c)

    async def _stated(self, uri: Uri, version: str) -> Stored:
        # A blob may have an MD5, but it is what its writer has said, which nobody checked.
        del version
        ref, _ = await self._head(uri)
        return Stored(ref)

    async def _copy(self, ref: DataRef, uri: Uri, replacing: str | None) -> Stored:
        blob, source = self._blob(uri), self._blob(Uri.parse(ref.uri)).url
        if self._access.sas:
            source = f"{source.partition('?')[0]}?{self._access.sas}"
        start = partial(
            blob.start_copy_from_url,
            source,
            source_etag=f'"{ref.version}"',
            source_match_condition=MatchConditions.IfNotModified,
            **_condition(replacing),
        )
        begun = await self._tries(Action.COPY, uri, start)
        while True:
            found = await self._tries(Action.STAT, uri, blob.get_blob_properties)
            if found.copy.id != begun["copy_id"] or found.copy.status in ("failed", "aborted"):
                raise StorageError(
                    f"{uri} could not be copied from {ref.uri}: the store's copy ended with"
                    f" '{found.copy.status_description or found.copy.status}'",
                    hint="run it again",
                )
            if found.copy.status == "success":
                return Stored(self._ref(uri, found.size, found.etag))
            await asyncio.sleep(COPY_POLL_SECONDS)

    async def _remove(self, uri: Uri) -> None:
        await self._blob(uri).delete_blob()

    async def _date(self, uri: Uri) -> str:
        dates: list[str] = []
        await self._container(uri).get_container_properties(
            raw_response_hook=lambda answer: dates.append(answer.http_response.headers["Date"])
        )
        return dates[-1]

    async def _delta_options(self) -> dict[str, str]:
        access = self._access
        options = {
            "azure_storage_account_name": access.account,
            "azure_endpoint": access.endpoint,
        }
        if access.endpoint.startswith("http://"):
            options["azure_allow_http"] = "true"
        if access.key:
            options["azure_storage_account_key"] = access.key
        elif access.sas:
            options["azure_storage_sas_token"] = access.sas
        else:
            options["azure_storage_token"] = await self._fs.token()
        return options

    def _ref(self, uri: Uri, size_bytes: int, etag: str) -> DataRef:
        return DataRef(str(self.canonical(uri)), size_bytes, etag.strip('"'))


class _Client(AzureBlobFileSystem):  # type: ignore[misc]  # adlfs has no types
    """Connected as ``access`` says, whatever else the environment holds."""

    cachable = False  # fsspec's own cache of instances is keyed by secrets

    def __init__(self, access: Access) -> None:
        self._access = access
        self._own: DefaultAzureCredential | None = None
        if not access.key and not access.sas:
            self._own = DefaultAzureCredential()
        given = {"account_key": access.key, "sas_token": access.sas, "credential": self._own}
        super().__init__(
            account_name=access.account,
            use_listings_cache=False,
            **{name: value for name, value in given.items() if value},
        )

    async def token(self) -> str:
        """A bearer token of ``DefaultAzureCredential`` for the storage service."""
        if self._own is None:
            raise RuntimeError("the account is reached with a key or a signature")
        return (await self._own.get_token(STORAGE_SCOPE)).token

    def do_connect(self) -> None:
        """Build the client, with tries counted in one place only (objects.py)."""
        access = self._access
        if access.key:
            credential: Any = AzureNamedKeyCredential(access.account, access.key)
        elif access.sas:
            credential = AzureSasCredential(access.sas)
        else:
            credential = self._own
        self.service_client = BlobServiceClient(
            access.endpoint,
            credential=credential,
            retry_total=0,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            # aiohttp would look into the environment for each request, in two threads.
            use_env_settings=False,
            proxies=_proxies(access.endpoint),
        )


class _Repeated:
    """Counts the tries that the SDK makes by itself, of a download whose answer is cut."""

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def __call__(self, answer: Any) -> None:
        """Called with each answer, before its body is read."""
        span = answer.http_request.headers.get("x-ms-range", "")
        if span in self._asked:
            count_retry()
        self._asked.add(span)


async def _stage(
    blob: BlobClient, writer: str, number: int, data: bytes, *, is_checked: bool
) -> BlobBlock:
    """Send one block; it is no part of the blob before it is committed.

    The name holds the writer, so that blocks of racing uploads to one blob do not mix.

    Args:
        is_checked: The store refuses a block that does not come as it was sent.
    """
    block = f"{writer}-{number:06}"
    headers = {}
    if is_checked:
        md5 = await asyncio.to_thread(hashlib.md5, data, usedforsecurity=False)
        headers["Content-MD5"] = base64.b64encode(md5.digest()).decode()
    await blob.stage_block(block, io.BytesIO(data), length=len(data), headers=headers)
    return BlobBlock(block)


def _pinned(version: str) -> dict[str, Any]:
    if not version:
        return {}
    return {"etag": f'"{version}"', "match_condition": MatchConditions.IfNotModified}


def _described(found: BlobProperties) -> Description:
    headers = (getattr(found.content_settings, name) for name in HEADERS)
    return Description.of(headers, found.metadata)


def _describing(description: Description, writer: str) -> dict[str, Any]:
    metadata = {**description.metadata, **({WRITER_KEY: writer} if writer else {})}
    headers: dict[str, Any] = {**description.headers(*HEADERS)}
    settings = {"content_settings": ContentSettings(**headers)} if headers else {}
    return {"metadata": metadata or None, **settings}


def _condition(replacing: str | None) -> dict[str, Any]:
    if replacing is None:
        return {}
    if not replacing:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": f'"{replacing}"', "match_condition": MatchConditions.IfNotModified}


def _proxies(endpoint: str) -> dict[str, str]:
    """The proxies that the environment names for ``endpoint``, by protocol."""
    host = urlsplit(endpoint).hostname or ""
    return {} if proxy_bypass(host) else getproxies()


def resolve(account: str) -> Access:
    """How ``account`` is reached, or the account that the environment names.

    Settings of the environment are for the account that they name; another one is reached with
    ``DefaultAzureCredential``.

    Raises:
        AccessDenied: Nothing names an account.
    """
    said = _from_connection_string(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    if said is not None and account in ("", said.account):
        return said
    named = _variable("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if not account and not named:
        raise AccessDenied(
            "no storage account is named",
            hint="write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, or set "
            "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_NAME",
        )
    endpoint = f"https://{account or named}.blob.core.windows.net"
    if account and account != named:
        return Access(account, endpoint)
    return Access(
        named,
        endpoint,
        key=_variable("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        sas=_variable("AZURE_STORAGE_SAS_TOKEN").removeprefix("?"),
    )


def _from_connection_string(text: str) -> Access | None:
    items = (item.partition("=") for item in text.strip().split(";"))
    fields = {name: value for name, separator, value in items if separator}
    if fields.get("UseDevelopmentStorage", "").lower() == "true":
        fields = {**EMULATOR, **fields}
    account = fields.get("AccountName", "")
    endpoint = fields.get("BlobEndpoint", "").rstrip("/")
    if not account and endpoint:
        parts = urlsplit(endpoint)  # an emulator's account is in the path
        account = parts.path.strip("/") or (parts.hostname or "").partition(".")[0]
    if not account:
        return None
    protocol = fields.get("DefaultEndpointsProtocol", "https")
    suffix = fields.get("EndpointSuffix", "core.windows.net")
    return Access(
        account,
        endpoint or f"{protocol}://{account}.blob.{suffix}",
        key=fields.get("AccountKey", ""),
        sas=fields.get("SharedAccessSignature", "").removeprefix("?"),
    )


def _variable(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _is_dropped(error: core.ServiceRequestError) -> bool:
    """Whether there was a connection, and the other side ended it."""
    inner = error.inner_exception
    return isinstance(inner, aiohttp.ClientError) and not isinstance(
        inner, aiohttp.ClientConnectorError
    )


def _is_folder(metadata: dict[str, str] | None) -> bool:
    """Whether the object stands for a folder, as accounts with real folders list them."""
    return (metadata or {}).get("hdi_isfolder", "").lower() == "true"
