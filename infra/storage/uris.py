"""Addresses of data: ``s3://``, ``gs://``, ``abfss://``, ``file://`` and plain paths.

A key is kept byte for byte. ``urlsplit`` would cut it at ``#`` and ``?``, which are ordinary
characters in an object's name, as ``%`` is. Only the https form is a URL, and is decoded as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from headwater.infra.errors import InvalidUri, UnknownName

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):/")
_AZURE_HTTPS = re.compile(
    r"^https://(?P<account>[a-z0-9]+)\.(?:blob|dfs)\.core\.windows\.net/(?P<rest>.+)$"
)
_ACCOUNT_HOST = re.compile(r"^(?P<account>[a-z0-9]+)\.(?:blob|dfs)\.core\.windows\.net$")
_GLOB = re.compile(r"[*?\[]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")  # no XML listing can hold the last two

ACME_PREFIX = ".well-known/acme-challenge/"

MAX_KEY_BYTES = 1024
"""Longest key of S3 and GCS, in UTF-8."""


class Scheme(StrEnum):
    """The canonical scheme of each kind of store."""

    FILE = "file"
    S3 = "s3"
    GCS = "gs"
    AZURE = "abfss"


ALIASES = {
    "file": Scheme.FILE,
    "local": Scheme.FILE,
    "s3": Scheme.S3,
    "s3a": Scheme.S3,
    "s3n": Scheme.S3,
    "gs": Scheme.GCS,
    "gcs": Scheme.GCS,
    "abfss": Scheme.AZURE,
    "abfs": Scheme.AZURE,
    "az": Scheme.AZURE,
    "azure": Scheme.AZURE,
}
"""Every scheme that is accepted, with its canonical one."""


@dataclass(frozen=True, slots=True, order=True)
class Uri:
    """One address. ``str`` gives the canonical text; ``Uri.parse`` takes any accepted form.

    Attributes:
        scheme: Canonical scheme.
        bucket: Bucket (S3, GCS) or container (Azure); empty for local files.
        key: Key inside the bucket, without a leading slash; for local files the absolute path.
        account: Storage account (Azure); empty where the address does not say it, and the
            store's credentials then name it.

    Examples:
        >>> str(Uri.parse("s3a://lake/raw/a#1?.csv"))
        's3://lake/raw/a#1?.csv'
        >>> str(Uri.parse("https://acct.blob.core.windows.net/raw/2024/x.parquet"))
        'abfss://raw@acct.dfs.core.windows.net/2024/x.parquet'
        >>> Uri.parse("gs://lake/a/b") / "c.csv"
        Uri(scheme=<Scheme.GCS: 'gs'>, bucket='lake', key='a/b/c.csv', account='')
    """

    scheme: Scheme
    bucket: str
    key: str
    account: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """The address that ``text`` names.

        A plain path is made absolute and its links are resolved; ``file://`` is kept as it is,
        so that ``Uri.parse(str(uri)) == uri`` for every address.

        Raises:
            InvalidUri: The scheme is unknown, or the bucket is missing or malformed.
        """
        if not text.strip():
            raise InvalidUri("an empty address", hint="give a path, s3://…, gs://… or abfss://…")
        if "\0" in text:
            raise InvalidUri(f"{text!r} holds a NUL byte, which no store keeps")
        if azure := _AZURE_HTTPS.match(text):
            return cls._of_azure_url(azure["account"], azure["rest"])
        match = _SCHEME.match(text)
        if match is None:
            return cls(Scheme.FILE, "", _absolute(text))
        name = match[1].lower()
        if name not in ALIASES:
            unknown = UnknownName.of("scheme", name, ALIASES)
            raise InvalidUri(
                f"{_without_secrets(text)!r}: no scheme '{name}'",
                hint=f"{unknown.hint}; a plain path names a local file",
            )
        rest = text[match.end() - 1 :]
        scheme = ALIASES[name]
        if scheme is Scheme.FILE:
            path = rest.removeprefix("//localhost").removeprefix("//") or "/"
            if not path.startswith("/"):
                raise InvalidUri(
                    f"{text!r} names another machine",
                    hint="write file:///PATH, or a plain path without a scheme",
                )
            return cls(scheme, "", _kept(path))
        return cls._in_bucket(scheme, text, rest.lstrip("/") if rest.startswith("//") else rest)

    @classmethod
    def _of_azure_url(cls, account: str, rest: str) -> Uri:
        """The address in an https form, whose key is percent-encoded as in every URL."""
        path, query, _ = rest.partition("?")
        if query:
            raise InvalidUri(
                f"'https://{account}…/{path}' has a query; credentials do not belong in an address",
                hint="leave out what follows '?' and set AZURE_STORAGE_SAS_TOKEN to it",
            )
        container, _, key = path.partition("/")
        return cls(Scheme.AZURE, container, unquote(key), account)

    @classmethod
    def _in_bucket(cls, scheme: Scheme, text: str, rest: str) -> Uri:
        bucket, _, key = rest.partition("/")
        account = ""
        if scheme is Scheme.AZURE and "@" in bucket:
            bucket, _, host = bucket.partition("@")
            named = _ACCOUNT_HOST.match(host)
            if named is None:
                raise InvalidUri(
                    f"{text!r}: '{host}' is no storage account's address",
                    hint="write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH",
                )
            account = named["account"]
        if not bucket:
            raise InvalidUri(
                f"{text!r} names no bucket", hint=f"write {scheme.value}://BUCKET/PATH"
            )
        return cls(scheme, bucket, key, account)

    def __str__(self) -> str:
        match self.scheme:
            case Scheme.FILE:
                return f"file://{self.key}"
            case Scheme.AZURE if self.account:
                return f"abfss://{self.bucket}@{self.account}.dfs.core.windows.net/{self.key}"
            case _:
                return f"{self.scheme.value}://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> Uri:
        """The address of ``name`` below this one."""
        base = self.key.rstrip("/")
        return replace(self, key=f"{base}/{name}" if base or self.is_local else name)

    @property
    def is_local(self) -> bool:
        """Whether this is a file of this machine."""
        return self.scheme is Scheme.FILE

    @property
    def path(self) -> Path:
        """The local path; only for local files."""
        if not self.is_local:
            raise InvalidUri(f"{self} is not a local file")
        return Path(self.key)

    @property
    def name(self) -> str:
        """What follows the last slash, trailing slashes aside."""
        return PurePosixPath(self.key).name

    @property
    def parent(self) -> Uri:
        """The folder that this lies in; a bucket's own is the bucket."""
        head, slash, _ = self.key.rstrip("/").rpartition("/")
        return replace(self, key=head or (slash if self.is_local else ""))

    @property
    def display(self) -> str:
        """The text a person reads: a local file as its path, all else as ``str``."""
        return self.key if self.is_local else str(self)

    @property
    def is_folder_like(self) -> bool:
        """Whether the address ends in a slash, so that it can only name a folder."""
        return self.key.endswith("/") or not self.key

    @property
    def glob_root(self) -> Uri | None:
        """The folder above the first ``*``, ``?`` or ``[``; ``None`` where there is none."""
        match = _GLOB.search(self.key)
        if match is None:
            return None
        head, slash, _ = self.key[: match.start()].rpartition("/")
        return replace(self, key=head or slash)

    def contains(self, other: Uri) -> bool:
        """Whether ``other`` is this address or lies below it.

        Examples:
            >>> lake = Uri.parse("s3://lake/raw")
            >>> lake.contains(Uri.parse("s3://lake/raw/x")), lake.contains(Uri.parse("s3://lake/raw2"))
            (True, False)
        """
        if (self.scheme, self.bucket) != (other.scheme, other.bucket):
            return False
        if self.account and other.account and self.account != other.account:
            return False
        base = self.key.rstrip("/")
        return not base or other.key.rstrip("/") == base or other.key.startswith(base + "/")

    def checked_for_write(self) -> Uri:
        """This address, if every store keeps its key as it is.

        A key that one store keeps and another changes or refuses would make a dataset that
        cannot be copied, so all stores refuse the same keys, before anything is sent.

        Raises:
            InvalidUri: The key is empty, ends in a slash, is too long, is Google's own, or holds
                a control character, a backslash or a path segment that ends in a dot.
        """
        fault = _key_fault(self.key, self.is_local)
        if fault:
            raise InvalidUri(f"cannot write to {self.display!r}: {fault}", hint="use another name")
        return self

    def relative(self, other: Uri) -> str:
        """The key of ``other`` below this address, without a leading slash."""
        return other.key[len(self.key.rstrip("/")) :].lstrip("/")


def _absolute(path: str) -> str:
    """``path`` made absolute, with links above the file resolved, so that overlaps show."""
    kept = "/" if path.endswith("/") and path.strip("/") else ""
    expanded = Path(path).expanduser()
    return f"{expanded.resolve()}{kept}"


def _kept(path: str) -> str:
    """An absolute ``path`` as it is, so that the text of an address names the same one again."""
    if ".." in path.split("/"):
        return _absolute(path)
    kept = "/" if path.endswith("/") and path.strip("/") else ""
    return f"/{PurePosixPath(path.lstrip('/'))}{kept}" if path.strip("/") else "/"


def _without_secrets(text: str) -> str:
    """``text`` without a query and without what stands before an ``@``: both may be secret."""
    scheme, _, rest = text.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if rest else scheme


def _key_fault(key: str, is_local: bool) -> str:
    """Why some store does not keep ``key`` as it is; empty where all do."""
    if not key.strip("/") or key.endswith("/"):
        return "it names a folder"
    if _CONTROL.search(key):
        return "it holds a control character"
    if is_local:
        return ""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if size > MAX_KEY_BYTES:
        return f"the key has {size} bytes, {MAX_KEY_BYTES} are allowed"
    if "\\" in key:
        return "it holds a backslash, which Azure turns into a slash"
    if {".", ".."} & set(key.split("/")):
        return "it holds a path segment '.' or '..', which clients resolve"
    if any(segment.endswith(".") for segment in key.split("/")):
        return "a path segment ends in a dot, which Azure drops"
    if key.startswith(ACME_PREFIX):
        return f"Google Cloud Storage keeps no key that begins with {ACME_PREFIX}"
    return ""
