"""Inputs of a run that are copied to one place and read there, each byte checked on the way.

Below the folder each address has a folder of its own, with a manifest: what was copied once and has
not changed is not copied again. What a source no longer has stays there, and nothing reads it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from headwater.infra.errors import (
    InvalidRequest,
    NotFound,
    Overlap,
    SourceChanged,
    TargetExists,
)
from headwater.infra.models import DataRef, Gathered
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.listing import require_outside_tables
from headwater.infra.storage.named import Copies, Named, find_named
from headwater.infra.storage.retries import threads
from headwater.infra.storage.transfer.manifest import Manifest
from headwater.infra.storage.transfer.models import (
    Copied,
    TransferPlan,
    TransferRequest,
    Unit,
)
from headwater.infra.storage.transfer.plan import plan_copy
from headwater.infra.storage.transfer.run import OnProgress, TransferProgress, run_transfer
from headwater.infra.storage.transfer.sources import Source, find_source
from headwater.infra.storage.uris import Uri

ADDRESSES_AT_ONCE = 8
"""Addresses that are looked at together."""

TRIES = 3
"""How often a copy that another run is in the way of is tried again in vain, with nothing less left
to copy than before."""

WAIT_SECONDS, MOST_SECONDS = 0.2, 30.0
"""The first wait for another run, and the longest: each is twice the one before."""

NAME_CHARACTERS = 40
DIGEST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Gathering:
    """One address whose files are copied.

    Attributes:
        address: As it was given.
        transfer: What is left to copy, and what is there.
    """

    address: str
    named: Named
    source: Source
    transfer: TransferPlan

    @property
    def size_bytes(self) -> int:
        """Of all its files, copied or not."""
        return sum(ref.size_bytes for ref in self.named.refs)


@dataclass(frozen=True, slots=True)
class GatherPlan:
    """What is copied before a run, decided before a byte moves.

    Attributes:
        named: The files of every address, also of those that are read where they are.
        gatherings: Of the addresses that lie in another store or bucket than ``folder``.
    """

    folder: Uri
    named: Mapping[str, Named]
    gatherings: tuple[Gathering, ...]

    @property
    def objects(self) -> int:
        """How many are left to copy."""
        return sum(one.transfer.objects for one in self.gatherings)

    @property
    def size_bytes(self) -> int:
        """Of these."""
        return sum(one.transfer.size_bytes for one in self.gatherings)

    @property
    def kept(self) -> int:
        """How many objects are there already, and were checked."""
        return sum(len(one.transfer.kept) for one in self.gatherings)

    @property
    def copies(self) -> Copies:
        """What can be read from copies before anything is copied."""
        at: dict[DataRef, DataRef] = {}
        for one in self.gatherings:
            at |= _copies(one, one.transfer.kept)
        return Copies(self.named, at)


def require_gather_folder(text: str, sources: Sequence[str], targets: Sequence[str] = ()) -> Uri:
    """The folder that ``text`` names, if copies of ``sources`` may go there.

    Raises:
        InvalidRequest: It is a pattern, or a whole bucket or disk.
        Overlap: It lies in a source, or it and a target lie in one another.
        UnsupportedData: It lies in a table.
    """
    uri = Uri.parse(text)
    if uri.glob_root is not None:
        raise InvalidRequest(
            f"the folder to gather in, {text}, holds a pattern ('*', '?' or '[')",
            hint="name one folder",
        )
    if not uri.key.strip("/"):
        raise InvalidRequest(
            f"the folder to gather in, {text}, is a whole bucket or disk",
            hint="name a folder in it",
        )
    fs = open_filesystem(uri)
    folder = fs.canonical(replace(uri, key=uri.key.rstrip("/")))
    for source in map(_canonical, sources):
        if (source.glob_root or source).contains(folder):
            raise Overlap(
                f"the folder to gather in, {folder.display}, lies in the source {source.display}:"
                " the next run would read the copies too",
                hint="name a folder outside of the sources",
            )
    for target in map(_canonical, targets):
        if target.contains(folder) or folder.contains(target):
            raise Overlap(
                f"the folder to gather in, {folder.display}, and the target {target.display} lie in"
                " one another",
                hint="name a folder of its own",
            )
    require_outside_tables(fs, folder)
    return folder


def plan_gather(
    addresses: Sequence[str], folder: Uri, *, versions: Mapping[str, int] | None = None
) -> GatherPlan:
    """What has to be copied so that all of ``addresses`` are in the store and bucket of ``folder``.

    Every file is pinned as it is now. Nothing is written.

    Args:
        folder: From ``require_gather_folder``.
        versions: Of tables of which not the last is read.
    Raises:
        NotFound: Nothing is at one of them, or the folder's bucket does not exist.
        TargetExists: The copy of a table is of another table than the one that is there now.
    """

    def one(address: str) -> tuple[Named, Gathering | None]:
        named = find_named(address, (versions or {}).get(address))
        if _is_beside(named.uri, folder):
            return named, None
        source = _source(named)
        return named, Gathering(address, named, source, _transfer(named, source, folder))

    distinct = list(dict.fromkeys(addresses))
    with threads(ADDRESSES_AT_ONCE) as pool:
        found = list(pool.map(one, distinct))
    return GatherPlan(
        folder,
        {address: named for address, (named, _) in zip(distinct, found, strict=True)},
        tuple(gathering for _, gathering in found if gathering is not None),
    )


def run_gather(
    plan: GatherPlan,
    *,
    on_progress: OnProgress = lambda _: None,
    on_end: Callable[[Gathered], None] = lambda _: None,
) -> Copies:
    """Copy what ``plan`` says and is not there yet, and tell what is read instead.

    After any end the same call goes on where this one stopped: copies that were checked are kept.

    Args:
        on_progress: Called by this thread as bytes come, over all inputs.
        on_end: Called once for each input, also for one whose copy was stopped.
    Raises:
        SourceChanged: A file is no longer the version that was planned.
        DamagedCopy: The store does not hold what was sent; that copy was removed.
        AccessDenied: The folder does not take what is written.
    """
    whole = TransferProgress(plan.objects, 0, plan.size_bytes, 0)
    at = dict(plan.copies.at)
    for one in plan.gatherings:
        rows = _run(one, partial(_tell, whole, on_progress), on_end)
        at |= _copies(one, rows)
        whole = replace(
            whole,
            objects_done=whole.objects_done + one.transfer.objects,
            done_bytes=whole.done_bytes + one.transfer.size_bytes,
        )
    return Copies(plan.named, at)


def _tell(before: TransferProgress, on_progress: OnProgress, now: TransferProgress) -> None:
    on_progress(
        replace(
            before,
            objects_done=before.objects_done + now.objects_done,
            done_bytes=before.done_bytes + now.done_bytes,
        )
    )


def _run(
    one: Gathering, on_progress: OnProgress, on_end: Callable[[Gathered], None]
) -> Mapping[str, Copied]:
    """Copy one input, beside other runs that may copy the same, and give the rows of all copies."""
    begun = time.monotonic()
    attempts = [TransferProgress(one.transfer.objects, 0, one.transfer.size_bytes, 0)]

    def tell(progress: TransferProgress) -> None:
        attempts[-1] = progress
        on_progress(progress)

    try:
        return _beside_others(one, attempts, tell)
    finally:
        on_end(
            Gathered(
                one.address,
                str(one.transfer.target),
                len(one.source.files),
                sum(ref.size_bytes for ref in one.source.files.values()),
                sum(attempt.objects_done for attempt in attempts),
                sum(attempt.done_bytes for attempt in attempts),
                time.monotonic() - begun,
            )
        )


def _beside_others(
    one: Gathering, attempts: list[TransferProgress], tell: OnProgress
) -> Mapping[str, Copied]:
    transfer, left, vain = one.transfer, one.transfer.objects, 0
    waits = _waits()
    while True:
        try:
            if len(attempts) > 1:
                transfer = plan_copy(one.source, transfer.request)
            run_transfer(transfer, tell)
            if not transfer.copies:
                return transfer.kept
            return Manifest(transfer.root, transfer.source, transfer.target).load()
        except (TargetExists, NotFound):
            # Another run copies the same, or brings its manifest together. It is let ahead, and
            # what it has done is kept.
            vain = vain + 1 if len(attempts) > 1 and transfer.objects >= left else 0
            if vain == TRIES:
                raise
            left = transfer.objects
            attempts.append(replace(attempts[-1], objects_done=0, done_bytes=0))
            time.sleep(next(waits))


def _waits() -> Iterator[float]:
    seconds = WAIT_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, MOST_SECONDS)


def _copies(one: Gathering, rows: Mapping[str, Copied]) -> dict[DataRef, DataRef]:
    """The copy of each file that ``rows`` tell of.

    Raises:
        SourceChanged: A row is of another version of its file.
    """
    found = {}
    for ref in one.named.refs:
        path = one.named.root.relative(Uri.parse(ref.uri))
        row = rows.get(path)
        if row is None:
            continue
        if row.source_version != ref.version:
            raise SourceChanged(
                f"{Uri.parse(ref.uri).display} changed while it was looked at",
                hint="run the same command again",
            )
        target = one.transfer.target / path
        found[ref] = DataRef(str(target), row.size_bytes, row.target_version)
    return found


def _canonical(text: str) -> Uri:
    uri = Uri.parse(text)
    return open_filesystem(uri).canonical(uri)


def _is_beside(uri: Uri, folder: Uri) -> bool:
    return (uri.scheme, uri.bucket, uri.account) == (folder.scheme, folder.bucket, folder.account)


def _source(named: Named) -> Source:
    """What is copied: of a table also its log, so that the copy is a table of its own."""
    if named.snapshot is not None:
        return find_source(str(named.uri), named.snapshot.version)
    unit = Unit.PATTERN if named.uri.glob_root == named.root else Unit.FOLDER
    files = {named.root.relative(Uri.parse(ref.uri)): ref for ref in named.refs}
    return Source(unit, named.uri, named.root, files)


def _transfer(named: Named, source: Source, folder: Uri) -> TransferPlan:
    target = folder / subfolder(named.uri)
    # What is there is ours: the folder's name is of this very address.
    request = TransferRequest(str(named.uri), str(target), overwrite=True, drop_metadata=True)
    try:
        return plan_copy(source, request)
    except TargetExists as exc:
        raise TargetExists(
            f"{exc.message}; the table {named.uri.display} has been made anew since it was copied",
            hint=f"remove {target.display}, or gather in another folder",
        ) from exc


def subfolder(uri: Uri) -> str:
    """Name of the folder for copies from ``uri``: readable, and of no other address.

    Example:
        >>> subfolder(Uri.parse("s3://lake/raw/trips/*.csv"))
        'lake-raw-trips-.csv-cbc2bc69eb'
    """
    words = re.sub(r"[^A-Za-z0-9._=]+", "-", f"{uri.bucket}/{uri.key}").strip("-.")
    digest = sha256(str(uri).encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{words[-NAME_CHARACTERS:].strip('-.')}-{digest}".lstrip("-._")
