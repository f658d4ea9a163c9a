"""Which files an address means: one, a folder's, or those that match a pattern.

Names that begin with ``_`` or ``.`` are markers and left out, as Spark and Hive do; a file of an
unknown kind is named instead of skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from fsspec.utils import glob_translate

from headwater.infra.errors import AccessDenied, NotFound, UnknownName, UnsupportedData
from headwater.infra.models import DataRef, Format
from headwater.infra.storage.datasets import LOG_FOLDER
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.retries import threads
from headwater.infra.storage.staging import CODECS
from headwater.infra.storage.uris import Uri

SUFFIXES = {
    ".parquet": Format.PARQUET,
    ".parq": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
}
COMPRESSED = tuple(CODECS)

LISTERS = 16
"""Folders that are listed together."""

_ANY_VALUE = re.compile(r"([^*?\[]*=)?\*")
"""A step of a pattern that leaves no folder out, where each names a value of one column."""


def stat_or_none(fs: Filesystem, uri: Uri) -> DataRef | None:
    """The one file at ``uri``; ``None`` where there is none."""
    if uri.is_folder_like:
        return None
    try:
        return fs.stat(uri)
    except NotFound:
        return None


def not_found(fs: Filesystem, uri: Uri) -> NotFound:
    """What to say where nothing is at ``uri``, with the near names."""
    if uri.is_local:
        if uri.path.is_dir():
            return NotFound(f"the folder {uri.display} is empty", hint="check the address")
        parent = uri.path.parent
        names = [p.name for p in parent.iterdir()] if parent.is_dir() else []
        near = UnknownName.of("file or folder", uri.name, names).hint if names else ""
        return NotFound(f"{uri.display} does not exist", hint=near or f"no folder {parent}")
    folder = replace(uri, key=uri.key.rstrip("/").rpartition("/")[0])
    names = sorted({folder.relative(Uri.parse(r.uri)).split("/")[0] for r in fs.list(folder)})
    hint = UnknownName.of("object", uri.name, names).hint if names else f"nothing is in {folder}"
    return NotFound(f"nothing is at {uri}", hint=hint)


def matching(fs: Filesystem, uri: Uri, root: Uri) -> list[DataRef]:
    """The files that the pattern ``uri`` means; markers only where it spells their beginning."""
    pattern = re.compile(glob_translate(uri.key))
    folders = _pruned(fs, uri, root)
    with threads(LISTERS) as pool:
        refs = [ref for listed in pool.map(lambda f: list(fs.list(f)), folders) for ref in listed]
    found = [ref for ref in refs if pattern.match(Uri.parse(ref.uri).key)]
    require_no_table_inside(uri, refs, found)
    if not any(step.startswith(("_", ".")) for step in root.relative(uri).split("/")):
        found = [ref for ref in found if not is_marker(root, ref)]
    if not found:
        raise NotFound(
            f"no file matches {uri.display}",
            hint="'*' stays inside one folder, '**' goes through all; quote it from the shell",
        )
    return found


def _pruned(fs: Filesystem, uri: Uri, root: Uri) -> list[Uri]:
    """Folders below which all is that ``uri`` may match: its own steps leave the others out.

    One flat listing is cheaper than one for each folder, so it goes down only as far as a step
    can leave folders out: ``year=*/month=07/*`` asks for the names of the years and then lists
    each year's July, while ``year=*/month=*/*`` is one listing.
    """
    steps = root.relative(uri).split("/")[:-1]
    if "" in steps or any("**" in step for step in steps):
        steps = list(takewhile(lambda step: step and "**" not in step, steps))
    while steps and _ANY_VALUE.fullmatch(steps[-1]):
        steps.pop()
    folders = [root]
    for step in steps:
        wanted = re.compile(glob_translate(step))
        with threads(LISTERS) as pool:
            found = list(pool.map(fs.folders, folders))
        tables = [f for f, names in zip(folders, found, strict=True) if LOG_FOLDER in names]
        _require_no_tables(uri, [str(table) for table in tables])
        folders = [
            folder / name
            for folder, names in zip(folders, found, strict=True)
            for name in names
            if wanted.match(name)
        ]
    return folders


def require_no_table_inside(uri: Uri, listed: Sequence[DataRef], wanted: Sequence[DataRef]) -> None:
    """Refuse ``wanted`` files that belong to a table, as ``listed`` logs tell."""
    inside = f"/{LOG_FOLDER}/"
    roots = {ref.uri.split(inside)[0] for ref in listed if inside in ref.uri}
    _require_no_tables(
        uri, sorted(r for r in roots if any(ref.uri.startswith(f"{r}/") for ref in wanted))
    )


def _require_no_tables(uri: Uri, tables: Sequence[str]) -> None:
    if tables:
        names = ", ".join(Uri.parse(t).display for t in tables[:3])
        raise UnsupportedData(
            f"{uri.display} holds tables, whose files must be read through their log: {names}",
            hint="name the table itself as the source",
        )


def require_outside_tables(fs: Filesystem, uri: Uri) -> None:
    """Refuse a file or folder inside a table, whose files must be read through its log.

    Raises:
        UnsupportedData: A folder above it has a log.
    """
    key = uri.key.rstrip("/")
    while "/" in key.lstrip("/"):
        key = key.rpartition("/")[0]
        above = replace(uri, key=key)
        try:
            is_table = next(fs.list(above / LOG_FOLDER), None) is not None
        except AccessDenied:
            return  # who may read a file but list nothing cannot see a log either
        if is_table:
            raise UnsupportedData(
                f"{uri.display} lies in the table {above.display}, whose files must be read"
                " through its log: some may be of old versions",
                hint=f"name the table itself as the source: {above.display}",
            )


def is_marker(root: Uri, ref: DataRef) -> bool:
    """Whether a name below ``root`` begins as a marker does."""
    steps = root.relative(Uri.parse(ref.uri)).split("/")
    return any(step.startswith(("_", ".")) and "=" not in step for step in steps)


def common_format(uri: Uri, refs: Sequence[DataRef]) -> Format:
    """The one format of all files.

    Raises:
        UnsupportedData: A file is of an unknown kind, or they are of several.
    """
    by_format: dict[Format, DataRef] = {}
    unknown = []
    for ref in refs:
        format_ = format_of(ref.uri)
        if format_ is None:
            unknown.append(ref)
        else:
            by_format.setdefault(format_, ref)
    if unknown:
        raise UnsupportedData(
            f"{display(unknown[0])} is no known kind of data"
            + (f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""),
            hint=f"known: {', '.join(SUFFIXES)}, text also with {' or '.join(COMPRESSED)};"
            " a glob such as FOLDER/*.csv takes some files of a folder",
        )
    if len(by_format) > 1:
        said = ", ".join(f"{Uri.parse(r.uri).name} is {f}" for f, r in by_format.items())
        raise UnsupportedData(
            f"{uri.display} holds several kinds of data: {said}",
            hint="a glob such as FOLDER/*.csv takes one of them",
        )
    return next(iter(by_format))


def format_of(uri: str) -> Format | None:
    """The format that a name says; ``None`` where it says none."""
    name = uri.rpartition("/")[2].lower()
    for suffix in COMPRESSED:
        if name.endswith(suffix):
            inner = format_of(name.removesuffix(suffix))
            return None if inner is Format.PARQUET else inner
    return next((f for suffix, f in SUFFIXES.items() if name.endswith(suffix)), None)


def display(ref: DataRef) -> str:
    """The address of ``ref`` as messages show it."""
    return Uri.parse(ref.uri).display
