"""Values that folders name, as in ``year=2013/month=7/``: their columns, texts and types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from urllib.parse import unquote

import polars as pl

from headwater.infra.errors import SchemaMismatch
from headwater.infra.models import DataRef
from headwater.infra.storage.listing import display
from headwater.infra.storage.types import NULL_FOLDER
from headwater.infra.storage.uris import Uri

_HIVE = re.compile(r"(?:^|/)([^/=]+)=([^/]*)(?=/)")
_INTEGER = re.compile(r"^(0|-?[1-9][0-9]{0,17})$")


def hive_values(root: Uri, ref: DataRef) -> tuple[tuple[str, str | None], ...]:
    """Name and text of each value that the folders of ``ref`` below ``root`` name."""
    below = root.relative(Uri.parse(ref.uri))
    return tuple(
        (unquote(name), None if text == NULL_FOLDER else unquote(text))
        for name, text in _HIVE.findall(below)
    )


def require_same_names(
    uri: Uri, refs: Sequence[DataRef], partitions: Sequence[tuple[tuple[str, str | None], ...]]
) -> None:
    """Refuse folders of one source that name different columns.

    Raises:
        SchemaMismatch: They do.
    """
    names = [name for name, _ in partitions[0]]
    for ref, partition in zip(refs, partitions, strict=True):
        if [name for name, _ in partition] != names:
            raise SchemaMismatch(
                f"folders below {uri.display} name different columns: {display(refs[0])} and"
                f" {display(ref)}",
                hint="name one of the folders as the source",
            )


def folder_types(
    partitions: Iterable[tuple[tuple[str, str | None], ...]],
) -> dict[str, pl.DataType]:
    """Types of the columns that folders name, by all their texts."""
    values: dict[str, set[str | None]] = {}
    for partition in partitions:
        for name, text in partition:
            values.setdefault(name, set()).add(text)
    return {name: _type_of_texts(texts) for name, texts in values.items()}


def _type_of_texts(texts: Iterable[str | None]) -> pl.DataType:
    """Integers and dates only where every value reads back as the same text."""
    known = [t for t in texts if t is not None]
    if known and all(_INTEGER.match(t) for t in known):
        return pl.Int64()
    if known and all(_is_date(t) for t in known):
        return pl.Date()
    return pl.String()


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
