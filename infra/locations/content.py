"""How much there is at an address: by its table's log, or else by one flat listing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.infra.models import DataRef
from headwater.infra.storage.datasets import LOG_FOLDER, Dataset, Snapshot
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.listing import is_marker, matching, not_found, stat_or_none
from headwater.infra.storage.retries import threads
from headwater.infra.storage.uris import Uri

LOGS = 8
"""Tables whose log is read together."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is at an address.

    Attributes:
        told_by: Where the two numbers are from.
    """

    size_bytes: int
    objects: int
    told_by: str


def content_of(fs: Filesystem, uri: Uri) -> Content:
    """Bytes and objects at ``uri``: a file, a table, a folder or a pattern, as runs read them.

    Files of old versions of a table are not counted, nor what is a marker for runs.

    Raises:
        NotFound: Nothing is there.
        AccessDenied: It may not be listed; the message names what has to be granted.
        UnsupportedData: A pattern matches files of a table, which its log alone can tell.
    """
    if single := stat_or_none(fs, uri):
        return Content(single.size_bytes, 1, "one object")
    if root := uri.glob_root:
        found = matching(fs, uri, root)
        return Content(_size(found), len(found), "listed")
    if next(fs.list(uri / LOG_FOLDER), None) is not None:
        return _of_tables([uri])
    refs = list(fs.list(uri))
    if not refs:
        raise not_found(fs, uri)
    inside = f"/{LOG_FOLDER}/"
    roots = sorted({ref.uri.split(inside)[0] for ref in refs if inside in ref.uri})
    plain = [r for r in refs if not is_marker(uri, r) and not _is_below(r, roots)]
    if not roots:
        return Content(_size(plain), len(plain), "listed")
    tables = _of_tables([Uri.parse(root) for root in roots])
    return Content(
        tables.size_bytes + _size(plain),
        tables.objects + len(plain),
        f"{tables.told_by}, the rest listed" if plain else tables.told_by,
    )


def _of_tables(roots: Sequence[Uri]) -> Content:
    with threads(LOGS) as pool:
        snapshots = list(pool.map(_snapshot, roots))
    files = [file for snapshot in snapshots if snapshot for file in snapshot.files]
    if len(snapshots) > 1:
        told_by = f"logs of {len(snapshots)} tables"
    else:
        version = "no version yet" if snapshots[0] is None else f"version {snapshots[0].version}"
        told_by = f"log of the table, {version}"
    return Content(sum(file.size_bytes for file in files), len(files), told_by)


def _snapshot(root: Uri) -> Snapshot | None:
    return Dataset(root).snapshot()


def _size(refs: Sequence[DataRef]) -> int:
    return sum(ref.size_bytes for ref in refs)


def _is_below(ref: DataRef, roots: Sequence[str]) -> bool:
    return any(ref.uri.startswith(f"{root}/") for root in roots)
