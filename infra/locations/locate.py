"""Finds where data is and how much of it there is, and guesses nothing.

A declared location is taken as it is. Otherwise the cloud is asked, but only at an endpoint of
its own: a store that merely speaks its protocol (MinIO, R2, an emulator) answers with whatever
region it was set to, so what it says is no place. One on this machine's loopback address is on
this machine; any other has to be declared.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from headwater.infra.errors import AccessDenied, HeadwaterError, NotFound, UnknownLocation
from headwater.infra.locations.content import Content, content_of
from headwater.infra.locations.models import Found, Location
from headwater.infra.models import Cloud
from headwater.infra.profiles import DeclaredLocation
from headwater.infra.profiles.models import ASK
from headwater.infra.regions import HERE
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import ObjectStore, safe_endpoint
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.retries import threads
from headwater.infra.storage.uris import Scheme, Uri

CLOUDS = {Scheme.S3: Cloud.AWS, Scheme.GCS: Cloud.GCP, Scheme.AZURE: Cloud.AZURE}
"""Whose protocol each scheme is."""

TOGETHER = 8
"""Addresses that are asked about at a time."""


@dataclass(frozen=True, slots=True)
class NotLocated:
    """An address of which it could not be found where it is, or how much is there."""

    uri: str
    error: HeadwaterError


def locate(
    uris: Sequence[str],
    *,
    declared: Iterable[DeclaredLocation] = (),
    missing_ok: bool = False,
    measure: bool = True,
) -> tuple[Location, ...]:
    """Where the data of each of ``uris`` is, in their order.

    Args:
        declared: The cluster profile's ``[[locations]]``; of several prefixes the longest decides.
        missing_ok: An address where nothing is has no bytes, as that of an output; its bucket
            must be there all the same.
        measure: ``False`` asks for the place alone, without bytes and objects.
    Raises:
        UnknownLocation: Nobody says where one is; the message shows the lines that would.
        AccessDenied: A call is refused; the message says which permission, or which lines, would
            settle it.
        NotFound: Nothing is there.
    """
    located = []
    for found in locate_each(uris, declared=declared, missing_ok=missing_ok, measure=measure):
        if isinstance(found, NotLocated):
            raise found.error
        located.append(found)
    return tuple(located)


def locate_each(
    uris: Sequence[str],
    *,
    declared: Iterable[DeclaredLocation] = (),
    missing_ok: bool = False,
    measure: bool = True,
) -> tuple[Location | NotLocated, ...]:
    """As ``locate``, with the error of each address that has one in its place."""
    lines = tuple(declared)

    def one(uri: str) -> Location | NotLocated:
        try:
            return _locate(uri, lines, missing_ok=missing_ok, measure=measure)
        except HeadwaterError as exc:
            return NotLocated(uri, exc)

    with threads(TOGETHER) as pool:
        return tuple(pool.map(one, uris))


def _locate(
    text: str, declared: Sequence[DeclaredLocation], *, missing_ok: bool, measure: bool
) -> Location:
    given = Uri.parse(text)
    fs = open_filesystem(given)
    uri = fs.canonical(given)
    place = _place(fs, uri, declared)
    try:
        content = content_of(fs, uri) if measure else Content(0, 0, "")
    except NotFound:
        if not missing_ok:
            raise
        content = Content(0, 0, "nothing is there yet")
    return Location(
        str(uri),
        place.cloud,
        place.regions,
        place.found,
        content.size_bytes,
        content.objects,
        "; ".join(text for text in (place.told_by, content.told_by) if text),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    cloud: Cloud | None
    regions: frozenset[str]
    found: Found
    told_by: str


def _place(fs: Filesystem, uri: Uri, declared: Sequence[DeclaredLocation]) -> _Place:
    if not isinstance(fs, ObjectStore):
        return _Place(None, frozenset(), "local", "")
    lines = [line for line in declared if line.holds(uri)]
    line = max(lines, key=lambda one: len(one.prefix), default=None)
    if line is not None and line.location != (ASK,):
        told_by = f"declared for {line.prefix}"
        if line.location == (HERE,):
            told_by += f": in this machine's network, at {safe_endpoint(fs.endpoint)}"
        return _Place(line.cloud, line.regions, "declared", told_by)
    if line is None and not fs.is_clouds_own(uri):
        return _elsewhere(fs, uri)
    try:
        home = fs.home(uri)
    except (AccessDenied, UnknownLocation) as exc:
        raise type(exc)(exc.message, hint=_or_declare(uri, exc.hint)) from exc
    told_by = home.said_by
    if line is not None:
        told_by += f" at {safe_endpoint(fs.endpoint)}, trusted for {line.prefix}"
    return _Place(CLOUDS[uri.scheme], home.regions, "api", told_by)


def _elsewhere(fs: ObjectStore, uri: Uri) -> _Place:
    """The place of a store that is not at an endpoint of its cloud's own."""
    endpoint = safe_endpoint(fs.endpoint)
    if _is_loopback(endpoint):
        return _Place(None, frozenset(), "local", f"at {endpoint}, which is this machine")
    raise UnknownLocation(
        f"{uri} is at {endpoint}, which is no endpoint of {CLOUDS[uri.scheme].upper()}'s own, so"
        " no region that it names can be relied on",
        hint=_or_declare(uri, "", also=f"   # or '{HERE}': in this machine's network"),
    )


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _or_declare(uri: Uri, hint: str, *, also: str = "") -> str:
    """``hint``, and the lines of a cluster profile that would settle where ``uri`` is."""
    prefix = Uri(uri.scheme, uri.bucket, "", uri.account)
    say = "say where it is" if not hint else f"{hint}; or say where it is"
    lines = ("[[locations]]", f'prefix = "{prefix}"', 'location = "REGION"' + also)
    return f"{say}, in the cluster profile:" + "".join(f"\n       {line}" for line in lines)
