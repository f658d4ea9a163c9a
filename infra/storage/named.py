"""Which files an address names, pinned as they are now; none of them is read yet.

Names that begin with ``_`` or ``.`` are markers and left out, as Spark and Hive do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headwater.infra.errors import InvalidRequest, NotFound, SchemaMismatch
from headwater.infra.models import DataRef, Format
from headwater.infra.storage.datasets import LOG_FOLDER, Dataset, Snapshot
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.hive import hive_values, require_same_names
from headwater.infra.storage.listing import (
    common_format,
    is_marker,
    matching,
    not_found,
    require_no_table_inside,
    require_outside_tables,
    stat_or_none,
)
from headwater.infra.storage.retries import threads
from headwater.infra.storage.uris import Uri

Partition = tuple[tuple[str, str | None], ...]
"""Partition values of a file: name and text; ``None`` is null."""

STATS = 16
"""Files of a table that are looked at together."""


@dataclass(frozen=True, slots=True)
class Named:
    """The files of one address.

    Attributes:
        uri: The address, canonical.
        root: What the files lie below: a folder, that of a pattern, or of a single file.
        partitions: Of each file, what the folder names or the table's log give to all its rows.
        snapshot: Of a table.
    """

    uri: Uri
    root: Uri
    format: Format
    refs: tuple[DataRef, ...]
    partitions: tuple[Partition, ...]
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of files that are read in the files' place.

    Attributes:
        named: What addresses named when it was decided what to copy, by the address as given: it
            is not looked for again, since more may be there by now.
        at: The copy of each file. One that has none is read where it is.
    """

    named: Mapping[str, Named] = field(default_factory=dict)
    at: Mapping[DataRef, DataRef] = field(default_factory=dict)

    def find(self, source: str, version: int | None = None) -> Named:
        """The files of an address; see ``find_named``."""
        return self.named.get(source) or find_named(source, version)

    def of(self, ref: DataRef) -> DataRef:
        """What is read for ``ref``."""
        return self.at.get(ref, ref)


NO_COPIES = Copies()


def find_named(source: str, version: int | None = None) -> Named:
    """The files that ``source`` names.

    Args:
        version: Version of the table that is read, not its last; only for a table.
    Raises:
        NotFound: It does not exist, or holds no data.
        UnsupportedData: A file is of an unknown kind, or belongs to a table.
        InvalidRequest: ``version`` is given for something else than a table.
    """
    given = Uri.parse(source)
    fs = open_filesystem(given)
    uri = fs.canonical(given)
    single = stat_or_none(fs, uri)
    root = uri.glob_root if single is None else None
    if single is None and root is None and next(fs.list(uri / LOG_FOLDER), None) is not None:
        return _table(fs, uri, version)
    if version is not None:
        raise InvalidRequest(
            f"{uri.display} is no table, so it has no version {version}",
            hint="leave the version out, or name a table",
        )
    require_outside_tables(fs, root or uri)
    if single is not None:
        return Named(uri, uri.parent, common_format(uri, [single]), (single,), ((),))
    if root is not None:
        return _files(uri, root, matching(fs, uri, root))
    refs = list(fs.list(uri))
    if not refs:
        raise not_found(fs, uri)
    require_no_table_inside(uri, refs, refs)
    return _files(uri, uri, [r for r in refs if not is_marker(uri, r)])


def require_together(found: Sequence[Named]) -> None:
    """Refuse addresses that cannot be the sources of one run.

    Raises:
        SchemaMismatch: They are of several formats.
        InvalidRequest: A file is named by two of them.
    """
    if len({one.format for one in found}) > 1:
        said = ", ".join(f"{one.uri} is {one.format}" for one in found)
        raise SchemaMismatch(
            f"sources of one run must have one format; {said}", hint="run them one by one"
        )
    named = Counter(ref.uri for one in found for ref in one.refs)
    twice = [uri for uri, n in named.items() if n > 1]
    if twice:
        raise InvalidRequest(
            f"{Uri.parse(twice[0]).display} is named by two sources, so its rows would be doubled",
            hint="name each file once",
        )


def _table(fs: Filesystem, uri: Uri, version: int | None) -> Named:
    snapshot = Dataset(uri).snapshot(version)
    if snapshot is None:
        raise NotFound(f"the table {uri.display} has no version yet", hint="write to it first")
    # The log names a file and its size; the store adds the version that pins it.
    with threads(STATS) as pool:
        refs = tuple(pool.map(lambda f: fs.stat(uri / f.path), snapshot.files))
    partitions = tuple(file.partition for file in snapshot.files)
    return Named(uri, uri, Format.DELTA, refs, partitions, snapshot)


def _files(uri: Uri, root: Uri, refs: Sequence[DataRef]) -> Named:
    if not refs:
        raise NotFound(
            f"{uri.display} holds no data, only markers (names that begin with '_' or '.')",
            hint="check the address",
        )
    format_ = common_format(uri, refs)
    partitions = [hive_values(root, ref) for ref in refs]
    require_same_names(uri, refs, partitions)
    return Named(uri, root, format_, tuple(refs), tuple(partitions))
