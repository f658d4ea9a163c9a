"""What a copy has to do, and whether it may: decided before a byte moves."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from headwater.infra.errors import InvalidUri, Overlap, StorageError, TargetExists
from headwater.infra.models import DataRef
from headwater.infra.storage.datasets import LOG_FOLDER, require_writable_folder
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.local import TEMPORARY_PREFIX
from headwater.infra.storage.filesystems.streams import Stopper
from headwater.infra.storage.listing import stat_or_none
from headwater.infra.storage.retries import threads
from headwater.infra.storage.transfer.contents import common_digest
from headwater.infra.storage.transfer.manifest import Manifest
from headwater.infra.storage.transfer.models import (
    Checked,
    Copied,
    Copy,
    TransferPlan,
    TransferRequest,
    Unit,
)
from headwater.infra.storage.transfer.sources import Source, find_source, in_steps
from headwater.infra.storage.uris import Uri
from headwater.infra.units import human_bytes

COMPARED_AT_ONCE = 16

MAX_NAME_BYTES = 255
"""Longest name of a file or folder on the file systems of Linux and macOS."""

ENTRY = re.compile(rf"{LOG_FOLDER}/(\d{{20}})\.json")
"""An entry of the log of a table at the root, with its version."""

NAMED = 3
"""How many objects an error names; the others are counted."""


Permit = Callable[[Sequence[DataRef], Uri, bool], object]
"""Raises where objects may not be copied to a target; the flag says that their store copies."""


def plan_transfer(
    request: TransferRequest, permit: Permit = lambda _refs, _target, _inside: None
) -> TransferPlan:
    """What ``request`` comes to. Both ends are looked at, and nothing is written.

    What is at the target and was checked by an earlier attempt is kept. What no manifest tells of
    is compared: equal bytes are kept, others are refused.

    Args:
        permit: Called with the objects before one of them is read.
    Raises:
        NotFound: Nothing is at the source, or the target's bucket does not exist.
        Overlap: The target lies in the source, or the source in the target.
        InvalidUri: The target's store cannot hold a name.
        TargetExists: Other bytes are there, and nothing was said of replacing them.
        AccessDenied: One end may not be read, or a local target not written.
        StorageError: A local target has too little room.
    """
    return plan_copy(find_source(request.source, request.version), request, permit)


def plan_copy(
    source: Source,
    request: TransferRequest,
    permit: Permit = lambda _refs, _target, _inside: None,
) -> TransferPlan:
    """What ``request`` comes to where its source has been looked at; see ``plan_transfer``."""
    target, root = _target(source, request.target)
    targets = _addresses(source, target)
    _require_apart(source, target, targets)
    _require_holdable(targets)
    inside = not root.is_local and open_filesystem(source.uri) is open_filesystem(root)
    permit(list(source.files.values()), target, inside)
    there = _there(source, targets, root)
    if source.unit is Unit.TABLE:
        _require_no_later_version(source, target, there)
    rows = Manifest(root, source.uri, target).load()
    kept, unknown, copies = {}, {}, {}
    for path, ref in source.files.items():
        row, at_target = rows.get(path), there.get(path)
        if at_target is None:
            copies[path] = Copy(path, ref, targets[path])
        elif row is not None and (row.source_version, row.target_version) == (
            ref.version,
            at_target.version,
        ):
            kept[path] = row
        else:
            unknown[path] = (ref, at_target)
    equal = _equal(unknown)
    others = [path for path in unknown if path not in equal]
    _require_replaceable(source, others, targets, request)
    for path in others:
        ref, at_target = unknown[path]
        copies[path] = Copy(path, ref, targets[path], at_target.version)
    plan = TransferPlan(
        request,
        source.unit,
        source.uri,
        target,
        root,
        tuple(tuple(copies[path] for path in step) for step in in_steps(copies)),
        kept | equal,
        len(equal),
        source.version,
        inside=inside,
    )
    if root.is_local:
        _require_room(plan)
    return plan


def _target(source: Source, text: str) -> tuple[Uri, Uri]:
    """The target, and the folder in which its manifest lies."""
    target = Uri.parse(text)
    target = open_filesystem(target).canonical(target)
    if source.unit is not Unit.OBJECT:
        target = replace(target, key=target.key.rstrip("/") or ("/" if target.is_local else ""))
        return target, target
    if target.is_folder_like or (target.is_local and target.path.is_dir()):
        target = target / source.uri.name
    head, _, _ = target.key.rpartition("/")
    return target, replace(target, key=head or ("/" if target.is_local else ""))


def _addresses(source: Source, target: Uri) -> dict[str, Uri]:
    if source.unit is Unit.OBJECT:
        return dict.fromkeys(source.files, target)
    return {path: target / path for path in source.files}


def _require_apart(source: Source, target: Uri, targets: Mapping[str, Uri]) -> None:
    if source.unit in (Unit.FOLDER, Unit.TABLE):
        overlap = source.uri.contains(target) or target.contains(source.uri)
    else:
        taken = {str(uri) for uri in targets.values()}
        overlap = any(ref.uri in taken for ref in source.files.values())
        overlap = overlap or (source.unit is Unit.PATTERN and source.root == target)
    if overlap:
        raise Overlap(
            f"the source {source.uri.display} and the target {target.display} lie in one another",
            hint="name a target outside of the source",
        )


def _require_holdable(targets: Mapping[str, Uri]) -> None:
    """Refuse names that the target's store cannot hold, or cannot hold beside one another."""
    files = {uri.key for uri in targets.values()}
    for path, uri in targets.items():
        uri.checked_for_write()
        if not uri.is_local:
            continue
        steps = path.split("/")
        fault = ""
        if {"", ".", ".."} & set(steps):
            fault = "a file system drops an empty step, '.' and '..'"
        elif long := [step for step in steps if len(step.encode()) > MAX_NAME_BYTES]:
            fault = f"'{long[0][:40]}…' has more than {MAX_NAME_BYTES} bytes"
        elif steps[-1].startswith(TEMPORARY_PREFIX):
            fault = f"no listing shows names that begin with {TEMPORARY_PREFIX}"
        else:
            above = (uri.key.rsplit("/", n)[0] for n in range(1, len(steps)))
            if taken := next((key for key in above if key in files), ""):
                fault = f"{taken} would be a file and a folder"
        if fault:
            raise InvalidUri(
                f"a file of this machine cannot be called {path!r}: {fault}",
                hint="copy to an object store, or leave that object out with a pattern",
            )


def _there(source: Source, targets: Mapping[str, Uri], root: Uri) -> dict[str, DataRef]:
    """What is at the target, by path."""
    fs = open_filesystem(root)
    if source.unit is Unit.OBJECT:
        ((path, uri),) = targets.items()
        ref = stat_or_none(fs, uri)
        if ref is None:
            next(fs.list(root), None)  # raises where the bucket does not exist
        return {} if ref is None else {path: ref}
    return {root.relative(Uri.parse(ref.uri)): ref for ref in fs.list(root)}


def _require_no_later_version(source: Source, target: Uri, there: Iterable[str]) -> None:
    entries = (ENTRY.fullmatch(path) for path in there)
    last = max((int(entry[1]) for entry in entries if entry is not None), default=-1)
    if source.version is not None and last > source.version:
        raise TargetExists(
            f"the table {target.display} has versions after {source.version}, up to {last}: it"
            " would be no copy",
            hint="name another target, or a later version of the source",
        )


def _equal(unknown: Mapping[str, tuple[DataRef, DataRef]]) -> dict[str, Copied]:
    """Those of ``unknown`` whose two ends hold the same bytes."""

    def compare(item: tuple[str, tuple[DataRef, DataRef]]) -> tuple[str, Copied | None]:
        path, (ref, at_target) = item
        with stopper.stopping():
            found = common_digest(ref, at_target)
        if found is None:
            return path, None
        checked = Checked.READ if found.sha256 else Checked.STORE
        return path, Copied(
            path,
            ref.size_bytes,
            ref.version,
            at_target.version,
            f"{found.crc32c:08x}",
            found.sha256,
            checked,
        )

    if not unknown:
        return {}
    stopper = Stopper()
    with threads(COMPARED_AT_ONCE) as pool:
        try:
            rows = list(pool.map(compare, unknown.items()))
        except BaseException:
            stopper.stop()
            raise
    return {path: row for path, row in rows if row is not None}


def _require_replaceable(
    source: Source, others: Sequence[str], targets: Mapping[str, Uri], request: TransferRequest
) -> None:
    logs = [path for path in others if f"{LOG_FOLDER}/" in path]
    if source.unit is Unit.TABLE and logs:
        raise TargetExists(
            f"another table is at the target: {_named(logs, targets)} has other content",
            hint="name another target; a log is never written over",
        )
    if others and not request.overwrite:
        raise TargetExists(
            f"other content is at the target: {_named(others, targets)}",
            hint="add --overwrite to replace it, or name another target",
        )


def _named(paths: Sequence[str], targets: Mapping[str, Uri]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(targets[path].display for path in sorted(paths)[:NAMED]) + more


def _require_room(plan: TransferPlan) -> None:
    require_writable_folder(plan.root.path)
    there = next(p for p in (plan.root.path, *plan.root.path.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if plan.size_bytes > free:
        raise StorageError(
            f"{human_bytes(plan.size_bytes)} are to be copied to {plan.target.display}, and"
            f" {human_bytes(free)} are free there",
            hint="make room, or name another target",
        )
