"""Which files each version of a table holds, and since when it is not the last one any more.

Read from the log alone: each entry names the files that it adds and removes, and the store says
when the entry was written. Times are the store's, since writers' clocks differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from headwater.infra.errors import DamagedFile, first_line
from headwater.infra.models import DataRef
from headwater.infra.storage.datasets import LOG_FOLDER, Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.retries import threads
from headwater.infra.storage.uris import Uri

_Action = dict[str, Any]
"""One line of an entry: what is done, and to what."""

READERS = 16
"""Entries of the log that are read together."""

_ENTRY = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\.parquet$")
_OF_VERSION = re.compile(
    r"^(\d{20})\.(?:json|crc|checkpoint\.parquet|checkpoint\.\d{10}\.\d{10}\.parquet)$"
)


@dataclass(frozen=True, slots=True)
class Life:
    """The versions ``[added, removed)`` that hold a file; ``removed`` is ``None`` where the last
    one does."""

    added: int
    removed: int | None

    def reaches(self, version: int) -> bool:
        """Whether ``version`` or a later one holds the file."""
        return self.removed is None or self.removed > version


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the log that belongs to one version."""

    version: int
    ref: DataRef


@dataclass(frozen=True, slots=True)
class History:
    """What the log tells of all versions that it still holds.

    Attributes:
        first: The earliest version that can be read from the log; the empty creation of a table
            is none.
        last: The version that is read now.
        written: When the entry of each version was written, in seconds by the store's clock.
        lives: The versions that hold each file that the log names, by its path below the root.
        checkpoints: Versions that can be read without the entries before them.
        log_files: Entries and checkpoints.
    """

    first: int
    last: int
    written: Mapping[int, float]
    lives: Mapping[str, tuple[Life, ...]]
    checkpoints: tuple[int, ...]
    log_files: tuple[LogFile, ...]

    def oldest_since(self, time: float) -> int:
        """The earliest version that was the last one at ``time`` or later."""
        current = [v - 1 for v, written in self.written.items() if written >= time and v > 0]
        return min([max(v, self.first) for v in current], default=self.last)


def read_history(dataset: Dataset) -> History:
    """The history of the table as its log holds it now.

    Raises:
        DamagedFile: Entries are missing or are no JSON.
    """
    fs = open_filesystem(dataset.uri)
    refs = list(fs.list(dataset.uri / LOG_FOLDER))
    entries = _by_version(refs, _ENTRY)
    checkpoints = sorted(_by_version(refs, _CHECKPOINT))
    if not entries:
        raise DamagedFile(
            f"the log of the table {dataset} holds no entry",
            hint="check that the table is whole; its log is in _delta_log/",
        )
    last = max(entries)
    begin = last
    while begin - 1 in entries:
        begin -= 1
    first, lives = _beginning(dataset, begin, checkpoints)
    later = {v: ref for v, ref in entries.items() if v >= first}
    for version, actions in sorted(_read(dataset, later).items()):
        if version == 0 and _is_creation(actions):
            first = 1
        _apply(dataset.uri, lives, version, actions)
    return History(
        first=min(first, last),
        last=last,
        written={v: entries[v].modified for v in range(begin, last + 1)},
        lives={path: tuple(found) for path, found in lives.items()},
        checkpoints=tuple(checkpoints),
        log_files=tuple(
            LogFile(int(found[1]), ref)
            for ref in refs
            if (found := _OF_VERSION.match(_name(ref))) is not None
        ),
    )


def named_after(dataset: Dataset, version: int) -> frozenset[str]:
    """Paths of the files that versions after ``version`` add."""
    fs = open_filesystem(dataset.uri)
    entries = _by_version(fs.list(dataset.uri / LOG_FOLDER), _ENTRY)
    later = {v: ref for v, ref in entries.items() if v > version}
    return frozenset(
        path
        for actions in _read(dataset, later).values()
        for action in actions
        if "add" in action and (path := _path(dataset.uri, action["add"]["path"])) is not None
    )


def _beginning(
    dataset: Dataset, begin: int, checkpoints: list[int]
) -> tuple[int, dict[str, list[Life]]]:
    """The version that the entries are applied from, and the files that one before it holds."""
    if begin == 0:
        return 0, {}
    base = next((v for v in checkpoints if v >= begin - 1), None)
    if base is None:
        raise DamagedFile(
            f"the log of the table {dataset} begins with version {begin}, and no checkpoint holds"
            " what came before",
            hint="check that the table is whole; its log is in _delta_log/",
        )
    snapshot = dataset.snapshot(base)
    files = snapshot.files if snapshot else ()
    # Its own entry adds nothing that the checkpoint does not hold already.
    return base, {file.path: [Life(base, None)] for file in files}


def _read(dataset: Dataset, entries: Mapping[int, DataRef]) -> dict[int, list[_Action]]:
    fs = open_filesystem(dataset.uri)

    def actions(item: tuple[int, DataRef]) -> tuple[int, list[_Action]]:
        version, ref = item
        try:
            lines = fs.read(ref).splitlines()
            return version, [json.loads(line) for line in lines if line.strip()]
        except ValueError as exc:
            raise DamagedFile(
                f"the log of the table {dataset} cannot be read: version {version}:"
                f" {first_line(exc)}",
                hint="check that the table is whole; its log is in _delta_log/",
            ) from exc

    with threads(READERS) as pool:
        return dict(pool.map(actions, entries.items()))


def _apply(
    root: Uri,
    lives: dict[str, list[Life]],
    version: int,
    actions: list[_Action],
) -> None:
    for kind in ("remove", "add"):  # a file that an entry removes and adds is there after it
        for action in actions:
            path = _path(root, action[kind]["path"]) if kind in action else None
            if path is None:
                continue
            known = lives.setdefault(path, [])
            is_there = bool(known) and known[-1].removed is None
            if kind == "add" and not is_there:
                known.append(Life(version, None))
            elif kind == "remove" and is_there:
                known[-1] = Life(known[-1].added, version)


def _is_creation(actions: Iterable[_Action]) -> bool:
    said = next((a["commitInfo"].get("headwater") for a in actions if "commitInfo" in a), None)
    return isinstance(said, str) and bool(json.loads(said).get("created"))


def _path(root: Uri, text: str) -> str | None:
    """The path below ``root`` of a file that the log names; ``None`` where it lies elsewhere."""
    path = unquote(text)
    if "://" not in path:
        return path
    uri = Uri.parse(path)  # a shallow copy names the files of another table
    return root.relative(uri) if root.contains(uri) else None


def _by_version(refs: Iterable[DataRef], pattern: re.Pattern[str]) -> dict[int, DataRef]:
    found = ((pattern.match(_name(ref)), ref) for ref in refs)
    return {int(match[1]): ref for match, ref in found if match is not None}


def _name(ref: DataRef) -> str:
    return ref.uri.rpartition("/")[2]
