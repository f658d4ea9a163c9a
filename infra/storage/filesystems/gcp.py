"""Google Cloud Storage, over ``gcsfs``.

Requests go through ``_request``, which takes bucket and key apart from the address: the calls of
``gcsfs`` that take a path cut keys at ``#``, ask a cache, and put uploads together with a fixed
boundary that the data itself may contain.
"""

from __future__ import annotations

import base64
import inspect
import io
import json
import os
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import fsspec.asyn
import requests
from google.auth import exceptions as auth

from headwater.infra.errors import AccessDenied, NotFound, StoreUnavailable, UnknownLocation
from headwater.infra.models import Cloud, DataRef
from headwater.infra.regions import REGIONS
from headwater.infra.storage.filesystems import descriptions
from headwater.infra.storage.filesystems.descriptions import NOTHING, WRITER_KEY, Description
from headwater.infra.storage.filesystems.objects import (
    ANSWER_SECONDS,
    BUSY_TRIES,
    CONNECT_SECONDS,
    SILENT,
    Action,
    Failure,
    Home,
    Kind,
    ObjectStore,
    safe_endpoint,
    writing,
)
from headwater.infra.storage.filesystems.streams import Stored, Stream, in_order
from headwater.infra.storage.uris import Scheme, Uri
from headwater.infra.units import KIB

# Without this, the first use of a bucket asks another service for the bucket's layout and may
# wait a minute for the answer. gcsfs reads it when it is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError

GOOGLE_ENDPOINT = "https://storage.googleapis.com"
GOOGLE_DOMAIN = ".googleapis.com"

PAIRS = {
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
    "EUR4": ("europe-north1", "europe-west4"),
    "EUR5": ("europe-west1", "europe-west2"),
    "EUR7": ("europe-west2", "europe-west3"),
    "EUR8": ("europe-west3", "europe-west6"),
    "NAM4": ("us-central1", "us-east1"),
}
"""The dual-regions that Google has named; all others say which two they are."""

GROUPS = {"ASIA": "asia-", "EU": "europe-", "US": "us-"}
"""Start of the names of the regions in each multi-region."""

NOT_IN_EU = frozenset({"europe-west2", "europe-west6"})
"""London and Zurich: their names begin alike, and no object of the multi-region EU is there."""

STATUSES = {
    400: Kind.INVALID,
    401: Kind.EXPIRED,
    403: Kind.DENIED,
    404: Kind.NO_KEY,
    408: Kind.BUSY,
    412: Kind.CHANGED,
    416: Kind.BEYOND_END,
    429: Kind.BUSY,
}

HEADERS = (
    "contentType",
    "contentEncoding",
    "cacheControl",
    "contentDisposition",
    "contentLanguage",
)
"""What GCS calls the headers of a description, in their order."""

DEFAULT_TYPE = "application/octet-stream"

PIECE_BYTES = 256 * KIB
"""How much of an upload is handed to a connection at a time."""

_OF_OBJECT = re.compile(r"\bb/[^/]+/o/")
_ZONE = re.compile(r"-[a-z]$")
_PERSISTED = re.compile(r"bytes=0-(\d+)")


RIGHTS = {
    Action.STAT: "storage.objects.get (in the role Storage Object Viewer)",
    Action.LIST: "storage.objects.list (in the role Storage Object Viewer)",
    Action.READ: "storage.objects.get (in the role Storage Object Viewer)",
    # Writing over an object removes the one that was there.
    Action.WRITE: "storage.objects.create and .delete (in the role Storage Object User)",
    Action.CREATE: "storage.objects.create (in the role Storage Object Creator)",
    Action.COPY: "storage.objects.create and .delete (in the role Storage Object User)",
    Action.DELETE: "storage.objects.delete (in the role Storage Object User)",
    Action.CLOCK: "storage.objects.list (in the role Storage Object Viewer)",
    Action.LOCATE: "storage.buckets.get, or storage.objects.list (in Storage Object Viewer),",
}
"""The permission that allows each of our actions, and the least role that has it."""


class _Client(GCSFileSystem):  # type: ignore[misc]  # gcsfs has no types
    """Without gcsfs' own tries: six of them, half a minute, also where nothing listens."""

    _request = inspect.unwrap(GCSFileSystem._request)


class Gcs(ObjectStore):
    """Google's endpoint, or the one that ``STORAGE_EMULATOR_HOST`` names."""

    credentials_looked_in = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "gcloud auth application-default login",
        "the machine's service account",
    )

    holds = descriptions.GCS

    def __init__(self) -> None:
        loop = fsspec.asyn.get_loop()
        super().__init__(loop)
        self._emulator = _emulator()
        try:
            self._fs = _Client(
                skip_instance_cache=True,
                use_listings_cache=False,
                loop=loop,
                token=self._token(),
                endpoint_url=self._emulator or None,
                requests_timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS
                ),
                # Objects that are stored compressed come as they are stored.
                session_kwargs={
                    "auto_decompress": False,
                    "headers": {"Accept-Encoding": "identity"},
                },
            )
        except (auth.GoogleAuthError, OSError, ValueError) as exc:
            raise AccessDenied(
                f"the Google credentials cannot be used: {exc}",
                hint=f"looked in {', '.join(self.credentials_looked_in)}",
            ) from exc

    def _token(self) -> str | None:
        """How gcsfs looks for credentials; ``None`` tries all ways and then goes on without."""
        if self._emulator:
            return "anon"
        # A file that is named and not there is a mistake, not a reason to go on without.
        return "google_default" if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") else None

    @property
    def endpoint(self) -> str:
        """Address of the store's API."""
        return self._emulator or GOOGLE_ENDPOINT

    def delta_uri(self, uri: Uri) -> str:
        """See ``Filesystem.delta_uri``."""
        return str(uri)

    def delta_options(self, uri: Uri) -> dict[str, str]:  # noqa: ARG002  # the same for all buckets
        """See ``Filesystem.delta_options``."""
        if self._emulator:
            # The only setting through which the Rust client takes another endpoint.
            key = {
                "gcs_base_url": self._emulator,
                "disable_oauth": True,
                "client_email": "",
                "private_key": "",
                "private_key_id": "",
            }
            return {"google_service_account_key": json.dumps(key)}
        if self._fs.credentials.credentials is None:
            return {"google_skip_signature": "true"}
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        return {"google_application_credentials": str(Path(named).expanduser())} if named else {}

    def classify(self, error: Exception) -> Failure:
        """See ``ObjectStore.classify``."""
        is_anonymous = self._fs.credentials.credentials is None
        match error:
            case FileNotFoundError():
                is_object = _OF_OBJECT.search(str(error)) is not None
                return Failure(Kind.NO_KEY if is_object else Kind.NO_BUCKET, "")
            case FileExistsError():
                is_upload = "/upload/" in str(error)
                return Failure(Kind.EXISTS if is_upload else Kind.CHANGED, "")
            case HttpError():
                return self._classify_status(int(error.code or 0), _text(error.message))
            case requests.exceptions.ProxyError():  # how gcsfs says 502
                return Failure(Kind.BUSY, "502")
            case OSError() if str(error).startswith("Forbidden"):
                kind = Kind.NO_CREDENTIALS if is_anonymous else Kind.DENIED
                return Failure(kind, _text(str(error).partition("\n")[2]))
            case auth.TransportError():
                return Failure(Kind.NO_CONNECTION, "the service that gives tokens did not answer")
            case auth.GoogleAuthError():
                return Failure(Kind.NO_CREDENTIALS, type(error).__name__)
            case aiohttp.SocketTimeoutError():
                return Failure(Kind.BUSY, SILENT)
            case aiohttp.ClientConnectorError() | TimeoutError():
                return Failure(Kind.NO_CONNECTION, type(error).__name__)
            case aiohttp.ClientError() | ConnectionError():
                return Failure(Kind.BUSY, f"the connection was cut ({type(error).__name__})")
            case ValueError() if str(error).startswith("Bad Request"):
                return Failure(Kind.INVALID, _text(str(error).partition("\n")[2]))
            case OSError() | ValueError() | RuntimeError():
                return Failure(Kind.OTHER, type(error).__name__)
            case _:
                raise error

    def right_to(self, action: Action, uri: Uri) -> str:
        """See ``ObjectStore.right_to``."""
        return f"{RIGHTS[action]} on the bucket {uri.bucket}"

    def _classify_status(self, status: int, said: str) -> Failure:
        if status >= 500:
            return Failure(Kind.BUSY, said)
        kind = STATUSES.get(status, Kind.OTHER)
        if status in (401, 403) and self._fs.credentials.credentials is None:
            kind = Kind.NO_CREDENTIALS
        return Failure(kind, said)

    async def _renew(self) -> None:
        self._fs.credentials.connect(method=self._fs.credentials.token)

    async def _ask(
        self,
        method: str,
        path: str,
        *names: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[memoryview] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body; ``names`` are quoted and put into ``path``."""
        # A file, since aiohttp warns of large bytes.
        body = io.BytesIO(data) if isinstance(data, bytes) else data
        status, answered, _, content = await self._fs._request(
            method, path, *names, headers=headers, data=body, **(parameters or {})
        )
        return status, answered, content

    async def _head(self, uri: Uri) -> tuple[DataRef, str]:
        _, _, body = await self._ask("GET", "b/{}/o/{}", uri.bucket, uri.key)
        row = json.loads(body)
        return _ref(uri, row), row.get("metadata", {}).get(WRITER_KEY, "")

    async def _page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[DataRef], str]:
        parameters = {
            "prefix": prefix,
            "maxResults": str(self.page_size),
            "fields": "nextPageToken,items(name,size,generation,updated)",
        }
        if token:
            parameters["pageToken"] = token
        _, _, body = await self._ask("GET", "b/{}/o", bucket.bucket, parameters=parameters)
        page = json.loads(body)
        refs = [
            _ref(Uri(Scheme.GCS, bucket.bucket, row["name"]), row) for row in page.get("items", ())
        ]
        return refs, page.get("nextPageToken", "")

    async def _folder_page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[str], str]:
        parameters = {
            "prefix": prefix,
            "delimiter": "/",
            "maxResults": str(self.page_size),
            "fields": "nextPageToken,prefixes",
        }
        if token:
            parameters["pageToken"] = token
        _, _, body = await self._ask("GET", "b/{}/o", bucket.bucket, parameters=parameters)
        page = json.loads(body)
        return page.get("prefixes", ()), page.get("nextPageToken", "")

    async def _is_clouds_own(self) -> bool:
        return (urlsplit(self.endpoint).hostname or "").endswith(GOOGLE_DOMAIN)

    async def _home(self, uri: Uri) -> Home:
        parameters = {"fields": "location,locationType,customPlacementConfig"}
        try:
            _, _, body = await self._ask("GET", "b/{}", uri.bucket, parameters=parameters)
            asked = "buckets.get"
        except Exception as exc:
            if self.classify(exc).kind not in (Kind.DENIED, Kind.NO_CREDENTIALS):
                raise
            # Who may list the objects may ask for the layout, which says where the bucket is, too.
            _, _, body = await self._ask("GET", "b/{}/storageLayout", uri.bucket)
            asked = "storageLayout"
        return home_of(json.loads(body), asked)

    async def _get(
        self, uri: Uri, version: str, start: int, end: int | None
    ) -> tuple[bytes, Description | None]:
        headers = {"Accept-Encoding": "gzip"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        parameters = {"alt": "media"}
        if version:
            parameters["ifGenerationMatch"] = version
        path = f"{self.endpoint}/download/storage/v1/b/{{}}/o/{{}}"
        _, answered, body = await self._ask(
            "GET", path, uri.bucket, uri.key, headers=headers, parameters=parameters
        )
        if version and answered.get("X-Goog-Generation", version) != version:
            raise self._changed(uri)  # from a store that does not know the condition
        return body, None  # the answer has no metadata of the owner

    async def _description(self, uri: Uri, version: str) -> Description:
        parameters = {"ifGenerationMatch": version} if version else {}
        _, _, body = await self._ask("GET", "b/{}/o/{}", uri.bucket, uri.key, parameters=parameters)
        row = json.loads(body)
        return Description.of((row.get(name) for name in HEADERS), row.get("metadata"))

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
        boundary = f"headwater-{uuid.uuid4().hex}"
        row = _describing(uri, description, writer)
        content_type = description.content_type or DEFAULT_TYPE
        if crc32c is not None:
            row["crc32c"] = base64.b64encode(crc32c.to_bytes(4, "big")).decode()
        body = b"".join(
            [
                f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                json.dumps(row).encode(),
                f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode(),
                data,
                f"\r\n--{boundary}--\r\n".encode(),
            ]
        )
        _, _, answer = await self._ask(
            "POST",
            f"{self.endpoint}/upload/storage/v1/b/{{}}/o",
            uri.bucket,
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            data=body,
            parameters={"uploadType": "multipart", **_condition(replacing)},
        )
        return _stored(uri, json.loads(answer))

    async def _send(
        self, stream: Stream, uri: Uri, writer: str, replacing: str | None = None
    ) -> Stored:
        row = _describing(uri, await stream.description(), writer)
        begin = partial(self._begin, uri, row, replacing)
        session = await self._tries(writing(replacing), uri, begin)
        sent, in_vain = 0, 0
        while sent < stream.size_bytes:
            before = sent
            try:
                sent = await self._push(session, stream, sent, uri, replacing)
            except NotFound:
                # A lost answer to the last bytes: the upload is gone because it is complete.
                _, found = await self._tries(Action.STAT, uri, partial(self._head, uri))
                if found != writer:
                    raise
                break
            in_vain = 0 if sent > before else in_vain + 1
            if in_vain == BUSY_TRIES:
                raise StoreUnavailable(
                    f"{safe_endpoint(self.endpoint)} took no more than {sent} of"
                    f" {stream.size_bytes} bytes of {uri} in {in_vain} tries",
                    hint="try again later",
                )
        return await self._tries(Action.STAT, uri, partial(self._stated, uri, ""))

    async def _begin(self, uri: Uri, row: Mapping[str, Any], replacing: str | None) -> str:
        """The address that takes the chunks of one upload."""
        _, headers, _ = await self._ask(
            "POST",
            f"{self.endpoint}/upload/storage/v1/b/{{}}/o",
            uri.bucket,
            headers={"Content-Type": "application/json; charset=UTF-8"},
            data=json.dumps(row).encode(),
            parameters={"uploadType": "resumable", "name": uri.key, **_condition(replacing)},
        )
        return headers["Location"]

    async def _push(
        self, session: str, stream: Stream, start: int, uri: Uri, replacing: str | None
    ) -> int:
        """Send all from ``start`` on; return how many bytes the store has then.

        One request carries the rest, however much that is: after each one, the store takes a
        while to keep what came.
        """
        tried = False
        content_type = (await stream.description()).content_type or DEFAULT_TYPE

        async def send() -> int | None:
            nonlocal tried
            if tried:  # part of it, or all, may have arrived: ask instead of sending it again
                span = f"bytes */{stream.size_bytes}"
                return await self._sent(session, span, b"", 0, content_type)
            tried = True
            body = _Body(stream, start)
            span = f"bytes {start}-{stream.size_bytes - 1}/{stream.size_bytes}"
            try:
                left = stream.size_bytes - start
                return await self._sent(session, span, body.pieces(), left, content_type)
            except Exception:
                if body.error is not None:  # the HTTP client makes another one of it
                    raise body.error from None
                raise

        sent = await self._tries(writing(replacing), uri, send)
        return stream.size_bytes if sent is None else sent

    async def _sent(
        self,
        session: str,
        span: str,
        data: bytes | AsyncIterator[memoryview],
        size_bytes: int,
        content_type: str,
    ) -> int | None:
        """How much the store has after one request; ``None`` where that is all."""
        headers = {
            "Content-Range": span,
            "Content-Length": str(size_bytes),
            "Content-Type": content_type,
        }
        status, answered, _ = await self._ask("PUT", session, headers=headers, data=data)
        if status != 308:
            return None
        persisted = _PERSISTED.fullmatch(answered.get("Range", ""))
        return int(persisted[1]) + 1 if persisted else 0

    async def _stated(self, uri: Uri, version: str) -> Stored:
        parameters = {"ifGenerationMatch": version} if version else {}
        _, _, body = await self._ask("GET", "b/{}/o/{}", uri.bucket, uri.key, parameters=parameters)
        return _stored(uri, json.loads(body))

    async def _copy(self, ref: DataRef, uri: Uri, replacing: str | None) -> Stored:
        source = Uri.parse(ref.uri)
        parameters = {"ifSourceGenerationMatch": ref.version, **_condition(replacing)}
        while True:  # a large copy over locations takes several calls
            call = partial(
                self._ask,
                "POST",
                "b/{}/o/{}/rewriteTo/b/{}/o/{}",
                *(source.bucket, source.key, uri.bucket, uri.key),
                parameters=parameters,
            )
            _, _, body = await self._tries(Action.COPY, uri, call)
            answer = json.loads(body)
            if answer["done"]:
                return _stored(uri, answer["resource"])
            parameters["rewriteToken"] = answer["rewriteToken"]

    async def _remove(self, uri: Uri) -> None:
        await self._ask("DELETE", "b/{}/o/{}", uri.bucket, uri.key)

    async def _date(self, uri: Uri) -> str:
        parameters = {"maxResults": "1", "fields": "kind"}
        _, headers, _ = await self._ask("GET", "b/{}/o", uri.bucket, parameters=parameters)
        return headers["Date"]


class _Body:
    """The body of an upload, in pieces that a connection takes at once.

    Attributes:
        error: What kept it from being read to its end.
    """

    def __init__(self, stream: Stream, start: int) -> None:
        self.error: Exception | None = None
        self._stream = stream
        self._start = start

    async def pieces(self) -> AsyncIterator[memoryview]:
        """All from the start on."""
        try:
            async with aclosing(in_order(self._stream, self._start)) as parts:
                async for part in parts:
                    view = memoryview(part)
                    for begin in range(0, len(view), PIECE_BYTES):
                        yield view[begin : begin + PIECE_BYTES]
        except Exception as exc:
            self.error = exc
            raise


def _ref(uri: Uri, row: Mapping[str, Any]) -> DataRef:
    modified = datetime.fromisoformat(row["updated"]).timestamp() if "updated" in row else 0.0
    return DataRef(str(uri), int(row.get("size", 0)), str(row["generation"]), modified)


def _stored(uri: Uri, row: Mapping[str, Any]) -> Stored:
    text = row.get("crc32c")
    crc32c = int.from_bytes(base64.b64decode(text), "big") if text else None
    return Stored(_ref(uri, row), crc32c)


def _describing(uri: Uri, description: Description, writer: str) -> dict[str, Any]:
    metadata = {**description.metadata, WRITER_KEY: writer}
    return {"name": uri.key, "metadata": metadata, **description.headers(*HEADERS)}


def _condition(replacing: str | None) -> dict[str, str]:
    return {} if replacing is None else {"ifGenerationMatch": replacing or "0"}


def home_of(answer: Mapping[str, Any], asked: str) -> Home:
    """Where the bucket is, by the ``answer`` to ``buckets.get`` or ``storageLayout``.

    Raises:
        UnknownLocation: It names a group of regions that is not known.
    """
    location, kind = str(answer["location"]), str(answer.get("locationType") or "region")
    placed = answer.get("customPlacementConfig", {}).get("dataLocations", ())
    if placed and kind != "zone":
        regions = frozenset(name.lower() for name in placed)
    elif kind in ("region", "zone"):
        regions = frozenset({_ZONE.sub("", location.lower())})
    elif location in PAIRS:
        regions = frozenset(PAIRS[location])
    elif location in GROUPS:
        named = (r for r in REGIONS[Cloud.GCP] if r.startswith(GROUPS[location]))
        regions = frozenset(named) - NOT_IN_EU
    else:
        raise UnknownLocation(f"{asked} says {kind} '{location}', whose regions are not known here")
    return Home(regions, asked if kind == "region" else f"{asked}: {kind} {location}")


def _text(said: str | bytes) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said


def _emulator() -> str:
    """The endpoint that the environment names in place of Google's."""
    named = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if named in ("", "default"):
        return ""
    return named.rstrip("/") if "://" in named else f"http://{named.rstrip('/')}"
