"""Copies objects, checks each copy, and keeps what was checked.

A copy is read in pieces of its pinned version, digested on the way and taken by the target in one
step, so that no reader sees a part of it. Where both ends are one store, the store copies.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from headwater.infra.errors import DamagedCopy, NotFound, TargetExists, UnsupportedData
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.descriptions import Description
from headwater.infra.storage.filesystems.streams import DigestedStream, Reader, Stopper, Stored
from headwater.infra.storage.retries import counting, threads
from headwater.infra.storage.transfer import contents
from headwater.infra.storage.transfer.contents import Digest, digest, stated
from headwater.infra.storage.transfer.leftovers import remove_leftovers
from headwater.infra.storage.transfer.manifest import Manifest
from headwater.infra.storage.transfer.models import (
    Checked,
    Copied,
    Copy,
    TransferPlan,
    TransferReceipt,
)
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

OBJECTS_AT_ONCE = 16
"""Objects under way at a time; what they hold together is bounded by ``streams.memory``."""

KEPT_SECONDS = 2.0
"""How long a checked copy may be known to this process only."""

KEPT_BYTES = 64 * MIB
"""Copies of that much are told of at once: to compare them would take longer."""


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a copy is.

    Attributes:
        done_bytes: Read and digested, also of objects that are under way.
    """

    objects: int
    objects_done: int
    size_bytes: int
    done_bytes: int


OnProgress = Callable[[TransferProgress], object]


def run_transfer(plan: TransferPlan, on_progress: OnProgress = lambda _: None) -> TransferReceipt:
    """Do what ``plan`` says. After any end, the same request goes on where this one stopped.

    Args:
        on_progress: Called by this thread when the target has taken a first write, now and then,
            and at the end.
    Raises:
        SourceChanged: An object is no longer the version that was planned; the others that were
            under way are finished first.
        TargetExists: Another writer has written one of the targets meanwhile.
        DamagedCopy: A store does not hold what was sent; that copy was removed.
        UnsupportedData: An object has metadata that the target cannot keep.
        AccessDenied: The target does not take what is written; nothing was copied.
        StoreUnavailable: One of the stores does not answer.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    manifest = Manifest(plan.root, plan.source, plan.target)
    manifest.load()  # for the pieces that earlier attempts have left
    run = _Run(plan, manifest, on_progress)
    with counting() as retries:
        if plan.copies or plan.found or manifest.unfinished:
            run.all_steps()
    return TransferReceipt(
        unit=plan.unit,
        source=str(plan.source),
        target=str(plan.target),
        table_version=plan.version,
        objects=len(plan.kept) + plan.objects,
        size_bytes=sum(row.size_bytes for row in plan.kept.values()) + plan.size_bytes,
        copied=plan.objects,
        copied_bytes=plan.size_bytes,
        by_store=run.by_store,
        read_back=sum(row.checked is Checked.READ for row in run.rows.values()),
        started=started,
        seconds=time.monotonic() - begun,
        manifest=str(manifest.uri),
        store_retries=retries.count,
        dropped=dict(sorted(run.dropped.items())),
    )


class _Run:
    """One attempt.

    Attributes:
        rows: What was copied and checked so far, by path.
        by_store: How many of them the store copied itself.
        dropped: How many lost what is called so.
    """

    def __init__(self, plan: TransferPlan, manifest: Manifest, on_progress: OnProgress) -> None:
        self.rows: dict[str, Copied] = {}
        self.by_store = 0
        self.dropped: Counter[str] = Counter()
        self._plan = plan
        self._manifest = manifest
        self._on_progress = on_progress
        self._source = open_filesystem(plan.source)
        self._target = open_filesystem(plan.root)
        self._new: list[Copied] = []
        self._told = time.monotonic()
        self._done_bytes = 0
        self._lock = threading.Lock()
        self._stopper = Stopper()

    def all_steps(self) -> None:
        """Copy all objects and finish the manifest."""
        if self._plan.copies:
            self._manifest.begin()
        self._tell()
        remove_leftovers(self._plan, self._manifest.unfinished)
        if self._plan.found:
            self._manifest.add(self._plan.kept.values())
        try:
            for step in self._plan.steps:
                with threads(min(OBJECTS_AT_ONCE, len(step))) as pool:
                    self._step(pool, step)
        finally:
            self._keep()
        self._manifest.finish({**self._plan.kept, **self.rows})
        self._tell()

    def _step(self, pool: ThreadPoolExecutor, step: Iterable[Copy]) -> None:
        coming = iter(step)
        pending: set[Future[Copied]] = set()
        try:
            while True:
                free = 2 * OBJECTS_AT_ONCE - len(pending)
                pending |= {pool.submit(self._one, copy) for copy in islice(coming, free)}
                if not pending:
                    return
                done, pending = wait(pending, KEPT_SECONDS / 4, FIRST_COMPLETED)
                if (error := self._take(done)) is not None:
                    raise error
                self._keep_now_and_then()
                self._tell()
        except BaseException:
            for future in pending:
                future.cancel()
            self._stopper.stop()
            self._take(wait(pending).done)  # what finishes in spite of that is not lost
            raise

    def _take(self, done: Iterable[Future[Copied]]) -> BaseException | None:
        """Take note of what was copied; give the first error of what was not."""
        error: BaseException | None = None
        for future in done:
            if future.cancelled():
                continue
            if (failed := future.exception()) is not None:
                error = error or failed
                continue
            row = future.result()
            self.rows[row.path] = row
            self._new.append(row)
        return error

    def _keep_now_and_then(self) -> None:
        is_time = time.monotonic() - self._told > KEPT_SECONDS
        if is_time or sum(row.size_bytes for row in self._new) >= KEPT_BYTES:
            self._keep()

    def _keep(self) -> None:
        self._told = time.monotonic()
        if self._new:
            self._manifest.add(self._new)
            self._new = []

    def _tell(self) -> None:
        plan = self._plan
        self._on_progress(
            TransferProgress(plan.objects, len(self.rows), plan.size_bytes, self._done_bytes)
        )

    def _one(self, copy: Copy) -> Copied:
        """Copy one object, and check the copy."""
        with self._stopper.stopping():
            return self._copied(copy)

    def _copied(self, copy: Copy) -> Copied:
        if self._plan.inside:
            origin = stated(copy.ref)
            stored = self._copy_inside(copy)
            if stored is not None:
                return self._copied_by_store(copy, origin, stored)
        with self._source.reading(copy.ref) as read:
            fitting = _Fitting(read, lambda found: self._fit(copy, found))
            stream = DigestedStream(fitting, copy.ref.size_bytes, contents.PART_BYTES, self._count)
            stored = self._target.receive(stream, copy.target, replacing=copy.replacing)
        sent = Digest(stream.crc32c, stream.sha256)
        self._require(copy, stored, sent, stored.ref.size_bytes == copy.ref.size_bytes)
        checked = Checked.STORE
        if stored.crc32c is None or self._plan.request.reread:
            self._require(copy, stored, sent, sent.agrees(digest(stored.ref)))
            checked = Checked.READ
        else:
            self._require(copy, stored, sent, stored.crc32c == sent.crc32c)
        return self._row(copy, stored.ref, sent, checked)

    def _fit(self, copy: Copy, found: Description) -> Description:
        """What the target can keep of ``found``; refused where that is not all, unless told."""
        faults = self._target.cannot_hold(found)
        if not faults:
            return found
        if not self._plan.request.drop_metadata:
            name, why = next(iter(faults.items()))
            raise UnsupportedData(
                f"{Uri.parse(copy.ref.uri).display} has metadata '{name}' that the target's store"
                f" cannot keep: {why}",
                hint="add --drop-metadata to copy it without what cannot be kept; copies that were"
                " checked are kept",
            )
        with self._lock:
            self.dropped.update(faults.keys())
        return found.without(faults)

    def _copy_inside(self, copy: Copy) -> Stored | None:
        try:
            return self._source.copy(copy.ref, copy.target, replacing=copy.replacing)
        except TargetExists:
            # Where the answer to a try was lost, what is there now is what it has made.
            there = self._target.stat(copy.target)
            if contents.common_digest(copy.ref, there) is None:
                raise
            return Stored(there, self._target.checksum(there))

    def _copied_by_store(self, copy: Copy, origin: Digest | None, stored: Stored) -> Copied:
        """Check a copy whose bytes never came here."""
        found = None if stored.crc32c is None else Digest(stored.crc32c)
        is_read = origin is None or found is None or self._plan.request.reread
        if origin is None or found is None or is_read:
            origin, found = digest(copy.ref), digest(stored.ref)
        is_whole = stored.ref.size_bytes == copy.ref.size_bytes
        self._require(copy, stored, origin, is_whole and origin.agrees(found))
        self._count(copy.ref.size_bytes)
        with self._lock:
            self.by_store += 1
        return self._row(copy, stored.ref, origin, Checked.READ if is_read else Checked.STORE)

    def _require(self, copy: Copy, stored: Stored, sent: Digest, agrees: bool) -> None:
        """Refuse, and remove, a copy that is not what was sent."""
        if agrees:
            return
        try:
            if self._target.stat(copy.target).version == stored.ref.version:
                self._target.delete(copy.target)
        except NotFound:
            pass  # another writer has removed it already
        raise DamagedCopy(
            f"{copy.target.display} did not hold the {copy.ref.size_bytes} bytes of"
            f" {Uri.parse(copy.ref.uri).display} (crc32c {sent.crc32c:08x}) after they were sent,"
            " and was removed",
            hint="run the same command again: copies that were checked are kept",
        )

    def _row(self, copy: Copy, ref: DataRef, found: Digest, checked: Checked) -> Copied:
        return Copied(
            copy.path,
            copy.ref.size_bytes,
            copy.ref.version,
            ref.version,
            f"{found.crc32c:08x}",
            found.sha256,
            checked,
        )

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._done_bytes += size_bytes


class _Fitting:
    """A reader whose description is made to fit.

    Args:
        fit: Called once, with what the source's store tells.
    """

    def __init__(self, read: Reader, fit: Callable[[Description], Description]) -> None:
        self._read = read
        self._fit = fit
        self._found: Description | None = None

    async def __call__(self, start: int, end: int) -> bytes:
        """See ``Reader``."""
        return await self._read(start, end)

    async def description(self) -> Description:
        """See ``Reader``."""
        if self._found is None:
            self._found = self._fit(await self._read.description())
        return self._found
