"""Room on this machine's disk for what is staged, shared by the parts of one process.

A part asks for all it will stage at once, before the first byte comes. Where the disk has too
little room, it waits for other parts of the process to give theirs back; where none has any, or
for too long, it is refused.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from headwater.infra.errors import StoreUnavailable
from headwater.infra.units import MIB, human_bytes

SPARE_BYTES = 256 * MIB
"""Left free on the disk: for what parts write, and for everybody else."""

WAIT_SECONDS = 120.0
"""How long a part waits for the room of others."""

BLOCK_BYTES = 512
"""Unit of ``st_blocks``, whatever the file system's own blocks are."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(slots=True, eq=False)
class Claim:
    """Room that one part holds.

    Attributes:
        room: Where it is from.
        directory: Where the files are.
        what: Names what fills it, in messages.
        paths: The files that fill it; one that is no longer there counts as room not yet used.
    """

    room: Room
    size_bytes: int
    directory: Path
    what: str
    paths: list[Path] = field(default_factory=list)

    def grow(self, size_bytes: int) -> None:
        """Hold that much more, for what shows its size only while it is written; does not wait.

        Raises:
            StoreUnavailable: There is too little.
        """
        self.room.give(self, size_bytes)

    @property
    def unused_bytes(self) -> int:
        """How much of it is not on the disk yet."""
        used = 0
        for path in self.paths:
            try:
                used += path.stat().st_blocks * BLOCK_BYTES
            except FileNotFoundError:
                continue
        return max(0, self.size_bytes - used)


class Room:
    """The room for staged files.

    Args:
        limit_bytes: What all parts of this process may hold together; by default what is free.
        spare_bytes: Left free on the disk.
        wait_seconds: How long a part waits for the room of others.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        *,
        spare_bytes: int = SPARE_BYTES,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._spare_bytes = spare_bytes
        self._wait_seconds = wait_seconds
        self._claims: list[Claim] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size_bytes: int, directory: Path, what: str) -> Iterator[Claim]:
        """Room for ``size_bytes`` in ``directory`` while the body runs.

        Raises:
            StoreUnavailable: There is too little; ``what`` needs it.
        """
        claim = Claim(self, size_bytes, directory, what)
        deadline = time.monotonic() + self._wait_seconds
        with self._changed:
            while (free := self._free_bytes(directory)) < size_bytes:
                left = deadline - time.monotonic()
                if not self._claims or left <= 0:
                    raise _too_little(what, size_bytes, free, directory)
                self._changed.wait(left)
            self._claims.append(claim)
        try:
            yield claim
        finally:
            with self._changed:
                self._claims.remove(claim)
                self._changed.notify_all()

    def give(self, claim: Claim, size_bytes: int) -> None:
        """Make ``claim`` larger; see ``Claim.grow``."""
        with self._changed:
            if (free := self._free_bytes(claim.directory)) < size_bytes:
                needed = claim.size_bytes + size_bytes
                raise _too_little(
                    claim.what, needed, claim.size_bytes + free, claim.directory, or_more=True
                )
            claim.size_bytes += size_bytes

    def _free_bytes(self, directory: Path) -> int:
        """What can be promised now: free on the disk, less what is promised and not yet used."""
        promised = sum(claim.unused_bytes for claim in self._claims)
        free = shutil.disk_usage(directory).free - self._spare_bytes - promised
        if self._limit_bytes is not None:
            free = min(free, self._limit_bytes - sum(c.size_bytes for c in self._claims))
        return max(0, free)


@contextmanager
def disk_named(what: str, directory: Path) -> Iterator[None]:
    """Turn a full disk in the body into our error; ``what`` filled it."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        free = shutil.disk_usage(directory).free
        raise StoreUnavailable(
            f"the disk of {directory} is full: {what} could not be staged ({exc.strerror})",
            hint=f"free some space ({human_bytes(free)} are left), or set TMPDIR to a larger disk",
        ) from exc


def _too_little(
    what: str, size_bytes: int, free: int, directory: Path, *, or_more: bool = False
) -> StoreUnavailable:
    needed = human_bytes(size_bytes) + (" or more" if or_more else "")
    return StoreUnavailable(
        f"{what} takes {needed} in {directory}, and {human_bytes(free)} can be had there",
        hint="free some space, or set TMPDIR to a larger disk",
    )
