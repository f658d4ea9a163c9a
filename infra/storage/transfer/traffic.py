"""The bytes and requests of a copy, by the ways that they take: what it is priced by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from headwater.infra.models import DataRef
from headwater.infra.storage.retries import threads
from headwater.infra.storage.transfer import contents
from headwater.infra.storage.transfer.models import Copy, TransferPlan

ASKED_AT_ONCE = 16

LISTED = 1000
"""Objects that one listing request tells."""

UPLOAD_CALLS = 2
"""Calls around the parts of a large object: one begins the upload, one ends it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a copy moves and asks for.

    Attributes:
        from_source: Bytes that this machine reads from the source.
        from_target: Bytes that it reads back from the target, to compare them.
        by_store: Bytes that the store of both ends copies by itself.
        source_reads: Read requests to the source's store; the others likewise.
    """

    from_source: int = 0
    from_target: int = 0
    by_store: int = 0
    source_reads: int = 0
    source_lists: int = 0
    target_reads: int = 0
    target_lists: int = 0
    target_writes: int = 0

    @property
    def comes_here(self) -> bool:
        """Whether any byte passes this machine."""
        return self.from_source + self.from_target > 0


def traffic(plan: TransferPlan) -> Traffic:
    """What ``plan`` moves, without the tries that stores will ask for again.

    Of a copy by the store it is asked which sources have a checksum: the others are read at both
    ends, as the copy will do.
    """
    copies = plan.copies
    if not copies:
        return Traffic()
    unstated = set(unvouched(copy.ref for copy in copies)) if plan.inside else set[DataRef]()
    read = [copy for copy in copies if not plan.inside or copy.ref in unstated]
    read_back = read if plan.inside else copies if plan.request.reread else ()
    lists = math.ceil((len(copies) + len(plan.kept)) / LISTED)
    heads = len(copies) if plan.inside else 0
    return Traffic(
        from_source=_size(read),
        from_target=_size(read_back),
        by_store=_size(copies) if plan.inside else 0,
        source_reads=_reads(read) + heads,
        source_lists=lists,
        target_reads=_reads(read_back) + heads,
        target_lists=lists,
        target_writes=len(copies) if plan.inside else sum(map(_writes, copies)),
    )


def unvouched(refs: Iterable[DataRef]) -> list[DataRef]:
    """Those whose store states no checksum of them, so that only reading tells their bytes."""
    asked = list(refs)
    if not asked:
        return []
    with threads(min(ASKED_AT_ONCE, len(asked))) as pool:
        found = list(pool.map(contents.stated, asked))
    return [ref for ref, said in zip(asked, found, strict=True) if said is None]


def _size(copies: Iterable[Copy]) -> int:
    return sum(copy.ref.size_bytes for copy in copies)


def _reads(copies: Iterable[Copy]) -> int:
    return sum(max(1, _parts(copy)) for copy in copies)


def _writes(copy: Copy) -> int:
    parts = _parts(copy)
    return 1 if parts <= 1 else parts + UPLOAD_CALLS


def _parts(copy: Copy) -> int:
    return math.ceil(copy.ref.size_bytes / contents.PART_BYTES)
