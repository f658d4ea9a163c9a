"""Scans of staged files with the columns of their input, whatever each of them holds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import polars as pl

from headwater.infra.models import Drift, Format
from headwater.infra.storage.casts import exact, is_lossless
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.named import Partition
from headwater.infra.storage.text import scan_csv, scan_jsonl
from headwater.infra.storage.types import column_of, partition_literal


def read_slice(
    path: Path,
    source: Input,
    *,
    partition: Partition,
    first_row: int = 0,
    rows: int | None = None,
    name: str = "",
) -> pl.LazyFrame:
    """Rows of one staged file with the columns of ``source.schema``, in its order.

    A value that its column cannot hold exactly makes the plan fail; ``casts.refusal`` finds it.

    Args:
        path: The file as it was staged: uncompressed.
        partition: The file's partition values.
        rows: ``None`` is all from ``first_row`` on.
        name: What messages call the file; by default its path.
    """
    name = name or str(path)
    values = dict(partition)
    types = _own_types(source, partition)
    match source.format:
        case Format.PARQUET | Format.DELTA:
            frame = _scan_parquet(path)
        case Format.CSV:
            frame = scan_csv(path, name, types, source.read)
        case Format.JSONL:
            frame = scan_jsonl(path, name, source.keys or types, source.read)
    if first_row or rows is not None:
        frame = frame.slice(first_row, rows)
    return frame.select(_columns(frame.collect_schema(), source, values, name))


def alike(path: Path, source: Input, *, partition: Partition) -> Hashable | None:
    """What staged Parquet files have in common that ``read_alike`` can read together.

    Returns:
        ``None`` where a value may not fit its column, so that messages must name this file.
    """
    have = _scan_parquet(path).collect_schema()
    for column, dtype in _own_types(source, partition).items():
        for name in _spellings(have, column, source):
            if have[name] != dtype and not is_lossless(have[name], dtype):
                return None
    return partition, tuple(have.items())


def read_alike(paths: Sequence[Path], source: Input, *, partition: Partition) -> pl.LazyFrame:
    """What ``read_slice`` gives of whole Parquet files one after the other, in a single scan.

    Args:
        paths: Of staged files for which ``alike`` gives the same.
        partition: The partition values of all of them.
    """
    frame = _scan_parquet(paths)
    return frame.select(_columns(frame.collect_schema(), source, dict(partition), ""))


def _scan_parquet(paths: Path | Sequence[Path]) -> pl.LazyFrame:
    files = [paths] if isinstance(paths, Path) else list(paths)
    return pl.scan_parquet(files, glob=False, hive_partitioning=False)


def _own_types(source: Input, partition: Partition) -> pl.Schema:
    """Columns that a file itself must give."""
    values = dict(partition)
    return pl.Schema({n: t for n, t in source.schema.items() if n not in values})


def _columns(
    have: pl.Schema, source: Input, values: Mapping[str, str | None], name: str
) -> list[pl.Expr]:
    """The columns of ``source`` from a file that has those of ``have``.

    Args:
        values: The file's partition values.
        name: What messages call the file.
    """
    columns: list[pl.Expr] = []
    for column, dtype in source.schema.items():
        if column in values:
            columns.append(partition_literal(values[column], dtype, column))
            continue
        found = [
            exact(column_of(n), have[n], dtype, column=column, place=name)
            for n in _spellings(have, column, source)
        ]
        missing = pl.lit(None, dtype=dtype)
        columns.append((pl.coalesce(found) if found[1:] else [*found, missing][0]).alias(column))
    return columns


def _spellings(have: pl.Schema, column: str, source: Input) -> list[str]:
    """Columns of a file that are ``column``.

    Keys of JSON lines may be spelt in two ways, in two files; a line has one of them.
    """
    strict = source.read.drift is Drift.STRICT and not source.read.columns
    if strict or (column in have and source.format is not Format.JSONL):
        return [column] if column in have else []
    return [n for n in have if n.casefold() == column.casefold()]
