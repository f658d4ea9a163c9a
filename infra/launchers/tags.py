"""The tags of all that is started: what finds it again, and tells when it may go.

Keys and values keep to what all three clouds take: GCP's labels are the narrowest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from headwater.infra.errors import InvalidLaunch
from headwater.infra.launchers.base import Role

RUN = "hw_run"
CLUSTER = "hw_cluster"
"""Every resource has it, so it also finds all that is Headwater's."""
OWNER = "hw_owner"
EXPIRES = "hw_expires"
"""When the lease ends, in seconds since 1970. After it nobody will miss the resource."""
ROLE = "hw_role"
NODE = "hw_node"
"""Name of the machine, also on its disk and network card."""

PREFIX = "hw_"

MAX_CHARACTERS = 63
MAX_TAGS = 50
"""AWS's and Azure's limit; GCP takes 64."""

_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def node_tags(
    *,
    run: str,
    cluster: str,
    owner: str,
    role: Role,
    node: str,
    expires: datetime,
    profile_tags: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The tags of one machine and of all that comes with it.

    Args:
        profile_tags: Those of the cluster profile, for those who pay for it.
    Raises:
        InvalidLaunch: One of them is more than all clouds take, or takes one of ours.
    """
    theirs = dict(profile_tags or {})
    for key in theirs:
        if key.startswith(PREFIX):
            raise InvalidLaunch(
                f"the tag {key} of the cluster profile begins with {PREFIX}, as Headwater's own do",
                hint="rename it under [tags]",
            )
    ours = {
        RUN: run,
        CLUSTER: cluster,
        OWNER: tag_value(owner),
        ROLE: role,
        NODE: node,
        EXPIRES: str(int(expires.timestamp())),
    }
    return require_tags({**theirs, **ours})


def require_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """``tags``, where all three clouds take them.

    Raises:
        InvalidLaunch: One has a character or a length that one of them refuses.
    """
    for key, value in tags.items():
        if not _KEY.fullmatch(key):
            raise InvalidLaunch(
                f"the tag '{key}' has a key that not all clouds take",
                hint="begin with a-z, and use at most 63 of a-z, 0-9, _ and -",
            )
        if not _VALUE.fullmatch(value):
            raise InvalidLaunch(
                f"the tag {key} has the value '{value}', which not all clouds take",
                hint=f"use at most {MAX_CHARACTERS} of a-z, 0-9, _ and -",
            )
    if len(tags) > MAX_TAGS:
        raise InvalidLaunch(
            f"{len(tags)} tags, of which clouds take {MAX_TAGS}", hint="leave some out of [tags]"
        )
    return dict(tags)


def tag_value(text: str) -> str:
    """``text`` as a value that all clouds take; what they do not take becomes ``-``.

    Example:
        >>> tag_value("Ada.Lovelace@Example.com")
        'ada-lovelace-example-com'
    """
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:MAX_CHARACTERS].strip("-")


def expiry(tags: Mapping[str, str]) -> datetime | None:
    """When the lease ends; ``None`` where no tag, or no readable one, says it.

    Example:
        >>> expiry({"hw_expires": "0"}), expiry({"hw_expires": "soon"})
        (datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    said = tags.get(EXPIRES, "")
    if not (said.isascii() and said.isdecimal() and len(said) <= 11):
        return None
    return datetime.fromtimestamp(int(said), UTC)


def has_tags(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether ``tags`` are of something of ours that has all of ``wanted``.

    Example:
        >>> has_tags({"hw_cluster": "c1", "team": "a"}, {}), has_tags({"team": "a"}, {})
        (True, False)
    """
    return CLUSTER in tags and all(tags.get(key) == value for key, value in wanted.items())
