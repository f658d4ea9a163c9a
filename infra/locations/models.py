"""Where the bytes of an address are, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headwater.infra.models import Cloud

Found = Literal["api", "declared", "local"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where the data of one address is, and how much of it there is.

    Attributes:
        uri: Canonical address.
        cloud: ``None`` where no cloud bills for the bytes it sends: this machine, or a store in
            its network.
        regions: The region of the bucket, or all of one that keeps its objects in several; empty
            where ``cloud`` is ``None``.
        found: ``api`` as the cloud says, ``declared`` in the cluster profile, ``local`` on this
            machine.
        size_bytes: Of a table what its last version holds, as its log tells; of all else what is
            listed, markers aside.
        objects: Files of that size.
        detail: How place and size were found; a plain line.
    """

    uri: str
    cloud: Cloud | None
    regions: frozenset[str]
    found: Found
    size_bytes: int
    objects: int
    detail: str = ""
