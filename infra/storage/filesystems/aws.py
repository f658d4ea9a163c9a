"""Amazon S3 and every store that speaks its protocol, over ``s3fs``.

Requests go through ``_call_s3``: the calls of ``s3fs`` that take a path cut keys at
``?versionId=`` and send no ``If-Match``.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import fsspec.asyn
from aiobotocore.session import AioSession
from botocore import __version__ as botocore_version
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp
from s3fs import S3FileSystem

from headwater.infra.errors import NotFound
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import descriptions
from headwater.infra.storage.filesystems.descriptions import NOTHING, WRITER_KEY, Description
from headwater.infra.storage.filesystems.objects import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    SILENT,
    Action,
    Failure,
    Home,
    Kind,
    ObjectStore,
    bytes_of_part,
    writing,
)
from headwater.infra.storage.filesystems.streams import Stored, Stream, crc32c_of, together
from headwater.infra.storage.uris import Scheme, Uri
from headwater.infra.units import GIB, MIB

AMAZON_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")
"""Ends of the host names of Amazon's own endpoints."""

DEFAULT_REGION = "us-east-1"

COPY_BYTES = 5 * GIB
"""Largest object that S3 copies in one request."""

COPY_PART_BYTES = 256 * MIB
"""Larger ones are copied in ranges of this size, which S3 copies side by side."""

COPIES_AT_ONCE = 16

HEADERS = (
    "ContentType",
    "ContentEncoding",
    "CacheControl",
    "ContentDisposition",
    "ContentLanguage",
)
"""What S3 calls the headers of a description, in their order."""

OLD_NAMES = {None: DEFAULT_REGION, "": DEFAULT_REGION, "EU": "eu-west-1"}
"""What GetBucketLocation says of buckets that are older than its names of regions."""

CODES = {
    "NoSuchBucket": Kind.NO_BUCKET,
    "NoSuchKey": Kind.NO_KEY,
    "NoSuchUpload": Kind.NO_KEY,
    "PreconditionFailed": Kind.CHANGED,
    "ConditionalRequestConflict": Kind.BUSY,
    "OperationAborted": Kind.BUSY,
    "InvalidRange": Kind.BEYOND_END,
    "ExpiredToken": Kind.EXPIRED,
    "ExpiredTokenException": Kind.EXPIRED,
    "TokenRefreshRequired": Kind.EXPIRED,
    "RequestTimeout": Kind.BUSY,
    "BadDigest": Kind.BUSY,  # what came is not what was sent
    "InvalidBucketName": Kind.INVALID,
    "KeyTooLongError": Kind.INVALID,
    "NotImplemented": Kind.OTHER,
}
"""What S3's error codes mean; one that is not here goes by its HTTP status."""

WRITES = ("PutObject", "CompleteMultipartUpload")
"""Calls whose condition is about the object that they write."""

STATUSES = {
    401: Kind.DENIED,
    403: Kind.DENIED,
    404: Kind.NO_KEY,
    408: Kind.BUSY,
    412: Kind.CHANGED,
    416: Kind.BEYOND_END,
    429: Kind.BUSY,
}


RIGHTS = {
    Action.STAT: "s3:GetObject",
    Action.LIST: "s3:ListBucket",
    Action.READ: "s3:GetObject",
    Action.WRITE: "s3:PutObject",
    Action.CREATE: "s3:PutObject",
    Action.COPY: "s3:PutObject",
    Action.DELETE: "s3:DeleteObject",
    Action.CLOCK: "s3:ListBucket",
    Action.UPLOADS: "s3:ListBucketMultipartUploads",
    Action.ABORT: "s3:AbortMultipartUpload",
    Action.LOCATE: "s3:GetBucketLocation",
}
"""The action of a policy that allows each of ours."""


class S3(ObjectStore):
    """One endpoint of S3, with the credentials of botocore's chain."""

    credentials_looked_in = (
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "the profile that AWS_PROFILE names in ~/.aws/credentials and ~/.aws/config",
        "SSO and web identity",
        "the container's and the machine's role",
    )

    holds = descriptions.S3

    def __init__(self) -> None:
        loop = fsspec.asyn.get_loop()
        super().__init__(loop)
        self._fs = S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            loop=loop,
            session=_session(),
            config_kwargs={
                # What botocore says of itself is long, and put together anew for each call.
                "user_agent": f"headwater Botocore/{botocore_version}",
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": ANSWER_SECONDS,
                "max_pool_connections": 64,
                # Tries are counted in one place (objects.py), so nothing below repeats a call.
                "retries": {"total_max_attempts": 1},
                **_checksum_settings(),
            },
        )
        self._fs.retries = 1
        self._endpoint = ""
        self._regions: dict[str, str] = {}

    @property
    def endpoint(self) -> str:
        """Address of the store's API, as botocore resolved it."""
        return self._endpoint or _own_endpoint() or "https://s3.amazonaws.com"

    def delta_uri(self, uri: Uri) -> str:
        """See ``Filesystem.delta_uri``."""
        return str(uri)

    def delta_options(self, uri: Uri) -> dict[str, str]:
        """See ``Filesystem.delta_options``."""
        return self._run(Action.READ, uri, partial(self._delta_options, uri))

    def unfinished(self, folder: Uri) -> Iterator[DataRef]:
        """See ``Filesystem.unfinished``; the version of each is the upload's id."""
        prefix = folder.key if folder.is_folder_like else f"{folder.key}/"
        following: dict[str, str] = {}
        while True:
            request = partial(
                self._call, "list_multipart_uploads", folder, Prefix=prefix, **following
            )
            page = self._run(Action.UPLOADS, folder, request)
            for row in page.get("Uploads", ()):
                uri = Uri(Scheme.S3, folder.bucket, row["Key"])
                yield DataRef(str(uri), 0, row["UploadId"], row["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            following = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    def discard(self, ref: DataRef) -> None:
        """See ``Filesystem.discard``."""
        uri = Uri.parse(ref.uri)
        abort = partial(
            self._call, "abort_multipart_upload", uri, Key=uri.key, UploadId=ref.version
        )
        with suppress(NotFound):
            self._run(Action.ABORT, uri, abort)

    def classify(self, error: Exception) -> Failure:
        """See ``ObjectStore.classify``."""
        cause = error if isinstance(error, boto.ClientError) else error.__cause__
        if isinstance(cause, boto.ClientError):
            return _classify_answer(cause)
        match error:
            case (
                boto.NoCredentialsError()
                | boto.PartialCredentialsError()
                | boto.CredentialRetrievalError()
                | boto.ProfileNotFound()
                | boto.TokenRetrievalError()
                | boto.SSOError()
            ):
                return Failure(Kind.NO_CREDENTIALS, str(error))
            case boto.ConnectionClosedError() | boto.ResponseStreamingError():
                return Failure(Kind.BUSY, "the connection was cut")
            case boto.ReadTimeoutError():
                return Failure(Kind.BUSY, SILENT)
            case boto.EndpointConnectionError() if _is_dropped(error):
                return Failure(Kind.BUSY, "the connection was dropped")
            case boto.ConnectionError() | boto.HTTPClientError() | TimeoutError():
                return Failure(Kind.NO_CONNECTION, type(error).__name__)
            case boto.ParamValidationError():
                return Failure(Kind.INVALID, str(error))
            case ResponseParserError() | aiohttp.ClientError() | ConnectionError():
                return Failure(Kind.BUSY, f"the answer was cut ({type(error).__name__})")
            case boto.BotoCoreError() | OSError() | ValueError():
                return Failure(Kind.OTHER, f"{type(error).__name__}: {error}")
            case _:
                raise error

    def right_to(self, action: Action, uri: Uri) -> str:
        """See ``ObjectStore.right_to``."""
        bucket = f"arn:aws:s3:::{uri.bucket}"
        right = RIGHTS[action]
        if action is Action.LOCATE:
            return f"{right} or s3:ListBucket on {bucket}"
        if right in ("s3:ListBucket", "s3:ListBucketMultipartUploads"):
            return f"{right} on {bucket}"
        granted = f"{right} on {bucket}/*"
        if action is Action.STAT:
            # Without it S3 answers with the same refusal where nothing is at the key.
            return f"{granted} and s3:ListBucket on {bucket}"
        return granted

    async def _call(self, method: str, uri: Uri, **arguments: Any) -> dict[str, Any]:
        await self._connect()
        answer: dict[str, Any] = await self._fs._call_s3(method, Bucket=uri.bucket, **arguments)
        return answer

    async def _connect(self) -> str:
        """The region that the client is set to; ``endpoint`` is known from then on."""
        client = await self._fs.set_session()
        self._endpoint = client.meta.endpoint_url
        return str(client.meta.region_name)

    async def _renew(self) -> None:
        self._fs.session = _session()
        await self._fs.set_session(refresh=True)

    async def _head(self, uri: Uri) -> tuple[DataRef, str]:
        answer = await self._call("head_object", uri, Key=uri.key)
        ref = DataRef(str(uri), answer["ContentLength"], _version(answer))
        return ref, answer.get("Metadata", {}).get(WRITER_KEY, "")

    async def _page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[DataRef], str]:
        following = {"ContinuationToken": token} if token else {}
        answer = await self._call(
            "list_objects_v2", bucket, Prefix=prefix, MaxKeys=self.page_size, **following
        )
        refs = [
            DataRef(
                str(Uri(Scheme.S3, bucket.bucket, row["Key"])),
                row["Size"],
                _version(row),
                row["LastModified"].timestamp(),
            )
            for row in answer.get("Contents", ())
        ]
        return refs, answer.get("NextContinuationToken", "")

    async def _folder_page(self, bucket: Uri, prefix: str, token: str) -> tuple[Sequence[str], str]:
        following = {"ContinuationToken": token} if token else {}
        answer = await self._call(
            "list_objects_v2",
            bucket,
            Prefix=prefix,
            Delimiter="/",
            MaxKeys=self.page_size,
            **following,
        )
        names = [row["Prefix"] for row in answer.get("CommonPrefixes", ())]
        return names, answer.get("NextContinuationToken", "")

    async def _get(
        self, uri: Uri, version: str, start: int, end: int | None
    ) -> tuple[bytes, Description | None]:
        arguments = _pinned(version)
        if start or end is not None:
            arguments["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        answer = await self._call("get_object", uri, Key=uri.key, **arguments)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data, _described(answer)

    async def _description(self, uri: Uri, version: str) -> Description:
        answer = await self._call("head_object", uri, Key=uri.key, **_pinned(version))
        return _described(answer)

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
        answer = await self._call(
            "put_object",
            uri,
            Key=uri.key,
            Body=_body(data),
            **_describing(description, writer),
            **_condition(replacing),
            **_algorithm(crc32c),
            **_checksum(crc32c),
        )
        return Stored(DataRef(str(uri), len(data), _version(answer)), _crc32c(answer))

    async def _send(
        self, stream: Stream, uri: Uri, writer: str, replacing: str | None = None
    ) -> Stored:
        is_digested = stream.crc32c is not None
        whole = {"ChecksumType": "FULL_OBJECT"} if is_digested else {}

        async def send(target: dict[str, str], number: int, data: bytes) -> dict[str, object]:
            crc32c = crc32c_of(data) if is_digested else None
            answer = await self._call(
                "upload_part",
                uri,
                PartNumber=number,
                Body=_body(data),
                **target,
                **_algorithm(crc32c),
                **_checksum(crc32c),
            )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        begin = _describing(await stream.description(), writer)
        async with self._upload(uri, begin | _algorithm(stream.crc32c) | whole) as target:
            parts = await self._parts(stream, uri, partial(send, target))
            finish = partial(
                self._call,
                "complete_multipart_upload",
                uri,
                MultipartUpload={"Parts": parts},
                **target,
                **_condition(replacing),
                **_checksum(stream.crc32c),
                **whole,
            )
            try:
                await self._tries(writing(replacing), uri, finish)
            except NotFound:
                # A lost answer to the first try: the upload is gone because it is complete.
                _, found = await self._tries(Action.STAT, uri, partial(self._head, uri))
                if found != writer:
                    raise
        return await self._tries(Action.STAT, uri, partial(self._stated, uri, ""))

    @asynccontextmanager
    async def _upload(self, uri: Uri, begin: dict[str, Any]) -> AsyncIterator[dict[str, str]]:
        """What names an upload in parts; it is ended if the body does not complete it."""
        call = partial(self._call, "create_multipart_upload", uri, Key=uri.key, **begin)
        upload = (await self._tries(Action.WRITE, uri, call))["UploadId"]
        target = {"Key": uri.key, "UploadId": upload}
        try:
            yield target
        except BaseException:
            abort = partial(self._call, "abort_multipart_upload", uri, **target)
            with suppress(NotFound):  # S3 ends some by itself, and then the first error counts
                await asyncio.shield(self._tries(Action.DELETE, uri, abort))
            raise

    async def _stated(self, uri: Uri, version: str) -> Stored:
        answer = await self._call(
            "head_object", uri, Key=uri.key, ChecksumMode="ENABLED", **_pinned(version)
        )
        ref = DataRef(str(uri), answer["ContentLength"], _version(answer))
        return Stored(ref, _crc32c(answer))

    async def _copy(self, ref: DataRef, uri: Uri, replacing: str | None) -> Stored:
        source = Uri.parse(ref.uri)
        arguments: dict[str, Any] = {
            "Key": uri.key,
            "CopySource": {"Bucket": source.bucket, "Key": source.key},
            "CopySourceIfMatch": f'"{ref.version}"',
        }
        if ref.size_bytes > COPY_BYTES:
            await self._copy_in_parts(ref, uri, arguments, replacing)
        else:
            copy = partial(
                self._call,
                "copy_object",
                uri,
                ChecksumAlgorithm="CRC32C",
                **arguments,
                **_condition(replacing),
            )
            await self._tries(Action.COPY, uri, copy)
        return await self._tries(Action.STAT, uri, partial(self._stated, uri, ""))

    async def _copy_in_parts(
        self, ref: DataRef, uri: Uri, arguments: dict[str, Any], replacing: str | None
    ) -> None:
        part_bytes = bytes_of_part(ref.size_bytes, COPY_PART_BYTES, self.max_parts)
        numbered = iter(enumerate(range(0, ref.size_bytes, part_bytes), 1))
        etags: dict[int, str] = {}
        source = Uri.parse(ref.uri)
        ask = partial(self._description, source, ref.version)
        described = await self._tries(Action.STAT, source, ask)
        begin = {
            "ChecksumAlgorithm": "CRC32C",
            "ChecksumType": "FULL_OBJECT",
            **_describing(described, ""),
        }
        async with self._upload(uri, begin) as target:

            async def copy() -> None:
                for number, start in numbered:
                    end = min(start + part_bytes, ref.size_bytes)
                    call = partial(
                        self._call,
                        "upload_part_copy",
                        uri,
                        **{**arguments, **target},
                        PartNumber=number,
                        CopySourceRange=f"bytes={start}-{end - 1}",
                    )
                    answer = await self._tries(Action.COPY, uri, call)
                    etags[number] = answer["CopyPartResult"]["ETag"]

            await together(copy() for _ in range(COPIES_AT_ONCE))
            parts = [{"PartNumber": n, "ETag": etag} for n, etag in sorted(etags.items())]
            finish = partial(
                self._call,
                "complete_multipart_upload",
                uri,
                MultipartUpload={"Parts": parts},
                ChecksumType="FULL_OBJECT",
                **target,
                **_condition(replacing),
            )
            await self._tries(Action.COPY, uri, finish)

    async def _remove(self, uri: Uri) -> None:
        await self._call("delete_object", uri, Key=uri.key)

    async def _date(self, uri: Uri) -> str:
        try:
            answer = await self._call("head_bucket", uri)
        except OSError as exc:
            if (failure := self.classify(exc)).kind is Kind.NO_KEY:
                raise _missing_bucket(failure.said) from exc
            raise
        return str(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    async def _delta_options(self, uri: Uri) -> dict[str, str]:
        region = await self._region(uri)
        session = self._fs.session
        found = None if session is None else await session.get_credentials()
        if found is None:
            raise boto.NoCredentialsError
        credentials = await found.get_frozen_credentials()
        options = {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_REGION": region,
        }
        if credentials.token:
            options["AWS_SESSION_TOKEN"] = credentials.token
        if not _is_amazon(self.endpoint):
            options["AWS_ENDPOINT_URL"] = self.endpoint
        if self.endpoint.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
        return options

    async def _region(self, uri: Uri) -> str:
        """Where the bucket is, or else the region that the client is set to."""
        if uri.bucket not in self._regions:
            said = await self._region_header(uri)
            own = await self._connect()
            self._regions[uri.bucket] = said or ("" if own == "aws-global" else own)
        return self._regions[uri.bucket] or DEFAULT_REGION

    async def _region_header(self, uri: Uri) -> str:
        """What S3 says of the bucket's region, also where it refuses the call; empty if nothing."""
        answer: dict[str, Any]
        try:
            answer = await self._call("head_bucket", uri)
        except OSError as exc:
            failure = self.classify(exc)
            if failure.kind is Kind.NO_KEY:
                raise _missing_bucket(failure.said) from exc
            if not isinstance(exc.__cause__, boto.ClientError):
                raise
            answer = {**exc.__cause__.response}
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        return str(headers.get("x-amz-bucket-region", ""))

    async def _is_clouds_own(self) -> bool:
        await self._connect()
        return _is_amazon(self.endpoint)

    async def _home(self, uri: Uri) -> Home:
        if said := await self._region_header(uri):
            return Home(frozenset({said}), "HeadBucket")
        answer = await self._call("get_bucket_location", uri)
        named = answer.get("LocationConstraint")
        return Home(frozenset({OLD_NAMES.get(named, str(named))}), "GetBucketLocation")


def _classify_answer(error: boto.ClientError) -> Failure:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{code} {error.response.get('Error', {}).get('Message', '')}".strip()
    if code == "PreconditionFailed" and error.operation_name in WRITES:
        return Failure(Kind.EXISTS, said)
    if error.operation_name.startswith("Head") and status == 400:
        # An answer to HEAD has no body that could name the code; an expired token is the cause.
        return Failure(Kind.EXPIRED, said)
    if code in CODES:
        return Failure(CODES[code], said)
    if code.startswith("SlowDown") or code.startswith("Throttl") or status >= 500:
        return Failure(Kind.BUSY, said)
    return Failure(STATUSES.get(status, Kind.OTHER), said)


def _is_dropped(error: boto.EndpointConnectionError) -> bool:
    """Whether there was a connection, and the other side ended it."""
    inner = error.kwargs.get("error")
    return isinstance(inner, aiohttp.ClientError) and not isinstance(
        inner, aiohttp.ClientConnectorError
    )


def _missing_bucket(said: str) -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": "NoSuchBucket", "Message": said}}, "HeadBucket")


def _session() -> AioSession:
    session = AioSession()
    factory = session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=parsed_time)
    return session


def parsed_time(value: str | float) -> datetime:
    """A time in an answer, in any of the forms that services use.

    botocore's own parser guesses the form of each, which takes as long as all the rest of an
    object's row in a listing.

    Examples:
        >>> parsed_time("2026-11-25T17:03:55.000Z").isoformat()
        '2026-11-25T17:03:55+00:00'
        >>> parsed_time("Wed, 25 Nov 2026 17:03:55 GMT").isoformat()
        '2026-11-25T17:03:55+00:00'
        >>> parsed_time("20261125T170355Z").isoformat(), parsed_time(0).isoformat()
        ('2026-11-25T17:03:55+00:00', '1970-01-01T00:00:00+00:00')
    """
    if isinstance(value, str):
        if value.endswith(" GMT"):
            return parsedate_to_datetime(value)
        if value[10:11] == "T" and value.endswith("Z"):
            return datetime.fromisoformat(value)
    found: datetime = parse_timestamp(value)  # type: ignore[arg-type]  # it takes numbers as well
    return found


def _version(answer: dict[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')


def _pinned(version: str) -> dict[str, str]:
    return {"IfMatch": f'"{version}"'} if version else {}


def _described(answer: dict[str, Any]) -> Description:
    values = [answer.get(name, "") for name in HEADERS]
    # What some clients say of how they sent the bytes, which S3 keeps with the object.
    codings = (one.strip() for one in values[1].split(","))
    values[1] = ",".join(one for one in codings if one != "aws-chunked")
    return Description.of(values, answer.get("Metadata"))


def _describing(description: Description, writer: str) -> dict[str, Any]:
    metadata = {**description.metadata, WRITER_KEY: writer}
    return {**description.headers(*HEADERS), "Metadata": metadata}


def _body(data: bytes) -> bytes | io.BytesIO:
    """A file where there is much: asyncio moves all that is left of bytes with each send."""
    return data if len(data) <= MIB else io.BytesIO(data)


def _condition(replacing: str | None) -> dict[str, str]:
    if replacing is None:
        return {}
    return {"IfMatch": f'"{replacing}"'} if replacing else {"IfNoneMatch": "*"}


def _algorithm(crc32c: int | None) -> dict[str, str]:
    return {} if crc32c is None else {"ChecksumAlgorithm": "CRC32C"}


def _checksum(crc32c: int | None) -> dict[str, str]:
    """The sum that S3 compares what comes with, as it is sent."""
    if crc32c is None:
        return {}
    return {"ChecksumCRC32C": base64.b64encode(crc32c.to_bytes(4, "big")).decode()}


def _crc32c(answer: dict[str, Any]) -> int | None:
    """The sum of the whole object, where S3 keeps one; that of its parts' sums says less."""
    text = answer.get("ChecksumCRC32C", "")
    if not text or "-" in text or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    return int.from_bytes(base64.b64decode(text), "big")


def _is_amazon(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "").endswith(AMAZON_DOMAINS)


def _own_endpoint() -> str:
    """The endpoint that the environment names in place of Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _checksum_settings() -> dict[str, str]:
    """Send and ask for checksums only where needed, at endpoints that are not Amazon's.

    Many of them refuse or compute otherwise the ones that botocore adds by default. Variables
    that the user set are left to botocore.
    """
    endpoint = _own_endpoint()
    if not endpoint or _is_amazon(endpoint):
        return {}
    variables = {
        "request_checksum_calculation": "AWS_REQUEST_CHECKSUM_CALCULATION",
        "response_checksum_validation": "AWS_RESPONSE_CHECKSUM_VALIDATION",
    }
    return {
        setting: "when_required"
        for setting, variable in variables.items()
        if variable not in os.environ
    }
