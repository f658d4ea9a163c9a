"""What an address means as the source of a copy: its objects, pinned, and where they go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fsspec.utils import glob_translate

from headwater.infra.errors import InvalidRequest, NotFound, UnsupportedData
from headwater.infra.models import DataRef
from headwater.infra.storage.datasets import LOG_FOLDER, STATE_FOLDER, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.listing import not_found, stat_or_none
from headwater.infra.storage.transfer.models import Unit
from headwater.infra.storage.uris import Uri

MANIFESTS = f"{STATE_FOLDER}/transfers"
"""Folder of the manifests; they tell of the place where they are, and are not copied."""

_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """What is copied.

    Attributes:
        root: What the paths are relative to.
        files: By their paths.
        version: Of a table.
    """

    unit: Unit
    uri: Uri
    root: Uri
    files: Mapping[str, DataRef]
    version: int | None = None


def find_source(text: str, version: int | None) -> Source:
    """The objects that ``text`` names now.

    A name that is there is that object, also where it reads as a pattern. Of a table come the
    files of one version and the log up to it.

    Raises:
        NotFound: Nothing is there.
        InvalidRequest: ``version`` is given for something else than a table.
        UnsupportedData: A table whose version cannot be copied alone.
    """
    uri = Uri.parse(text)
    fs = open_filesystem(uri)
    uri = fs.canonical(uri)
    if (ref := stat_or_none(fs, uri)) is not None:
        found = Source(Unit.OBJECT, uri, _parent(uri), {uri.name: ref})
    elif uri.glob_root is not None and next(fs.list(uri), None) is None:
        pattern = re.compile(glob_translate(uri.key))
        refs = (r for r in fs.list(uri.glob_root) if pattern.match(Uri.parse(r.uri).key))
        found = Source(Unit.PATTERN, uri, uri.glob_root, _by_path(uri.glob_root, refs))
    elif next(fs.list(uri / LOG_FOLDER), None) is not None:
        return _table(uri, version)
    else:
        found = Source(Unit.FOLDER, uri, uri, _by_path(uri, fs.list(uri)))
    if version is not None:
        raise InvalidRequest(
            f"{uri.display} is no table, so it has no version {version}", hint="omit --version"
        )
    if not found.files:
        if found.unit is Unit.PATTERN:
            raise NotFound(
                f"no object matches {uri.display}",
                hint="'*' stays inside one folder, '**' goes through all; quote it from the shell",
            )
        raise not_found(fs, uri)
    return found


def in_steps(paths: Iterable[str]) -> list[list[str]]:
    """``paths`` in the order in which they may appear, for readers of the tables among them.

    All files come first, then the entries of logs, of each log its oldest last, then checkpoints:
    without the oldest entry, or the checkpoint that stands for those before, it is no log yet.

    Example:
        >>> in_steps(["t/_delta_log/%020d.json" % n for n in (0, 1)] + ["t/a.parquet"])[0]
        ['t/a.parquet']
    """
    steps: list[list[str]] = [[], [], [], []]
    oldest: dict[str, str] = {}
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        if folder.rpartition("/")[2] != LOG_FOLDER:
            steps[0].append(path)
        elif not _ENTRY.fullmatch(name):
            steps[3].append(path)
        elif folder not in oldest:
            oldest[folder] = path
        else:
            steps[1].append(path)
    steps[2] = list(oldest.values())
    return [step for step in steps if step]


def _parent(uri: Uri) -> Uri:
    head, slash, _ = uri.key.rpartition("/")
    return replace(uri, key=head or (slash if uri.is_local else ""))


def _by_path(root: Uri, refs: Iterable[DataRef]) -> dict[str, DataRef]:
    found = {root.relative(Uri.parse(ref.uri)): ref for ref in refs}
    return {path: ref for path, ref in found.items() if f"{MANIFESTS}/" not in f"/{path}"}


def _table(uri: Uri, version: int | None) -> Source:
    snapshot = Dataset(uri).snapshot(version)
    if snapshot is None:
        raise NotFound(f"the table {uri.display} has no version yet", hint="run it first")
    # After the snapshot, so that all it names is listed.
    listed = _by_path(uri, open_filesystem(uri).list(uri))
    files = _log(uri, snapshot.version, listed)
    for file in snapshot.files:
        if file.path not in listed:
            elsewhere = "://" in file.path or file.path.startswith("/")
            raise UnsupportedData(
                f"version {snapshot.version} of {uri.display} names {file.path}, which is"
                f" {'in another place' if elsewhere else 'not there'}",
                hint="copy a version whose files are all in the table; a vacuum removes old ones",
            )
        files[file.path] = listed[file.path]
    return Source(Unit.TABLE, uri, uri, files, snapshot.version)


def _log(uri: Uri, version: int, listed: Mapping[str, DataRef]) -> dict[str, DataRef]:
    """The log up to ``version``: its entries, and the last checkpoint among them."""
    entries: dict[int, str] = {}
    checkpoints: dict[int, str] = {}
    for path in listed:
        folder, _, name = path.rpartition("/")
        for pattern, known in ((_ENTRY, entries), (_CHECKPOINT, checkpoints)):
            match = pattern.fullmatch(name) if folder == LOG_FOLDER else None
            if match is not None and int(match[1]) <= version:
                known[int(match[1])] = path
    first = version
    while first - 1 in entries:
        first -= 1
    last = max(checkpoints, default=-1)
    if version not in entries or (first > 0 and last < first - 1):
        raise UnsupportedData(
            f"the log of {uri.display} holds version {version} in a form that cannot be copied:"
            f" its entries begin with {first} and no checkpoint of one file stands for the rest",
            hint="copy the last version, or write a checkpoint with the engine that made it",
        )
    paths = [entries[v] for v in range(first, version + 1)]
    paths += [checkpoints[last]] if last >= 0 else []
    paths += [path for path in listed if path.startswith(f"{LOG_FOLDER}/_sidecars/")]
    return {path: listed[path] for path in paths}
