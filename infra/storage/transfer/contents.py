"""Whether two objects hold the same bytes, with as little reading as that takes."""

from __future__ import annotations

from dataclasses import dataclass

from fsspec.asyn import get_loop

from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.streams import DigestedStream, drain, wait_on
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

PART_BYTES = 32 * MIB
"""Size of one request: large, since each costs money and time, and so that four of them, which is
what one object has under way, fill the memory that all share."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What tells the bytes of an object.

    Attributes:
        sha256: Empty where the object was not read.
    """

    crc32c: int
    sha256: str = ""

    def agrees(self, other: Digest) -> bool:
        """Whether both are of the same bytes, as far as both tell."""
        if self.sha256 and other.sha256 and self.sha256 != other.sha256:
            return False
        return self.crc32c == other.crc32c


def stated(ref: DataRef) -> Digest | None:
    """What the store says without reading; ``None`` where it says nothing."""
    crc32c = open_filesystem(Uri.parse(ref.uri)).checksum(ref)
    return None if crc32c is None else Digest(crc32c)


def digest(ref: DataRef) -> Digest:
    """What all bytes of the pinned version come to."""
    with open_filesystem(Uri.parse(ref.uri)).reading(ref) as read:
        stream = DigestedStream(read, ref.size_bytes, PART_BYTES)
        wait_on(get_loop(), drain(stream))
    return Digest(stream.crc32c, stream.sha256)


def common_digest(source: DataRef, target: DataRef) -> Digest | None:
    """What both objects come to; ``None`` where they differ.

    Only a store that states no checksum is read.
    """
    if source.size_bytes != target.size_bytes:
        return None
    one = stated(source) or digest(source)
    other = stated(target) or digest(target)
    if not one.agrees(other):
        return None
    return one if one.sha256 else other
