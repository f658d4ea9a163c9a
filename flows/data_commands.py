"""`headwater data`: what a dataset holds, which versions it has, its rows."""

from __future__ import annotations

import itertools
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import polars as pl

from headwater.flows.console import Console
from headwater.infra.errors import DamagedFile, InvalidRequest, NotFound, UnknownName
from headwater.infra.storage.datasets import Dataset, Snapshot
from headwater.infra.storage.inputs import Input, open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.staging import stage
from headwater.infra.storage.uris import Uri
from headwater.infra.units import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE_ROWS = 20
"""Rows of a table when no limit is given; a screen's worth."""

PARTITIONS_SHOWN = 20
"""Partitions that ``show`` lists; the rest is counted."""


def show(uri: str, version: int | None, console: Console) -> None:
    """Print columns, rows, size and partitions."""
    snapshot = _snapshot(uri, version)
    partitions = _partitions(snapshot)
    value = {
        "uri": snapshot.uri,
        "version": snapshot.version,
        "rows": snapshot.rows,
        "files": len(snapshot.files),
        "size_bytes": snapshot.size_bytes,
        "partition_by": list(snapshot.partition_by),
        "columns": [{"name": n, "type": str(t)} for n, t in snapshot.schema.items()],
        "partitions": [{**p.facts, "values": dict(p.values)} for p in partitions],
    }
    rows = "unknown" if snapshot.rows is None else f"{snapshot.rows:,}"
    width = max(len(name) for name in snapshot.schema)
    lines = [
        f"{Uri.parse(snapshot.uri).display}  version {snapshot.version}",
        f"{rows} rows, {len(snapshot.files):,} files, {human_bytes(snapshot.size_bytes)}",
        "",
        *(f"  {name:<{width}}  {dtype}" for name, dtype in snapshot.schema.items()),
    ]
    if snapshot.partition_by:
        lines += ["", f"partitioned by {', '.join(snapshot.partition_by)}"]
        for partition in partitions[:PARTITIONS_SHOWN]:
            named = ", ".join(f"{n}={'null' if v is None else v}" for n, v in partition.values)
            lines.append(f"  {named}: {partition.facts['rows']:,} rows")
        if len(partitions) > PARTITIONS_SHOWN:
            lines.append(f"  and {len(partitions) - PARTITIONS_SHOWN} more (--json lists all)")
    console.result(value, "\n".join(lines))


def versions(uri: str, console: Console) -> None:
    """Print every committed version, the newest first."""
    dataset = existing_table(uri)
    entries = list(dataset.log())
    value = {
        "uri": str(dataset.uri),
        "versions": [
            {
                "version": e.version,
                "committed": e.committed.isoformat(),
                "operation": e.operation,
                "changes_data": e.changes_data,
                "headwater": e.headwater,
            }
            for e in entries
        ],
    }
    lines = [
        f"{e.version:>7}  {e.committed:%Y-%m-%d %H:%M:%S} UTC  {_told(e.operation, e.headwater)}"
        for e in entries
    ]
    console.result(value, "\n".join(lines) if lines else f"{dataset}: no version yet")


def read(
    uri: str,
    version: int | None,
    limit: int | None,
    format_: Literal["table", "csv", "jsonl", "parquet"],
    console: Console,
) -> None:
    """Print rows, read file by file so that a limit reads no more than it needs."""
    if console.json:
        format_ = "jsonl"
        console.json = False  # each row is an object of its own
    if format_ == "parquet" and sys.stdout.isatty():
        raise InvalidRequest(
            "Parquet is binary and stdout is a terminal", hint="redirect it: > FILE.parquet"
        )
    source = _source(uri, version)
    if limit is None and format_ == "table":
        limit = TABLE_ROWS
    console.started = True
    with TemporaryDirectory(prefix="headwater-read-") as tmp:
        frames = _frames(source, limit, Path(tmp))
        match format_:
            case "table":
                print_table(pl.concat([pl.DataFrame(schema=source.schema), *frames]))
            case "parquet":
                pl.concat([pl.DataFrame(schema=source.schema), *frames]).write_parquet(
                    sys.stdout.buffer
                )
            case "csv":
                header = pl.DataFrame(schema=source.schema).write_csv()
                _emit(
                    itertools.chain([header], (f.write_csv(include_header=False) for f in frames))
                )
            case "jsonl":
                _emit(frame.write_ndjson() for frame in frames)


def existing_table(uri: str) -> Dataset:
    """The table at ``uri``.

    Raises:
        NotFound: None is there; near names are told.
    """
    dataset = Dataset(Uri.parse(uri))
    if not dataset.exists():
        raise _no_table(uri)
    return dataset


def _snapshot(uri: str, version: int | None) -> Snapshot:
    dataset = existing_table(uri)
    snapshot = dataset.snapshot(version)
    if snapshot is None:
        raise NotFound(f"{dataset} has no version yet", hint="a run that ends well commits one")
    return snapshot


def _no_table(uri: str) -> NotFound:
    parsed = Uri.parse(uri)
    near = ""
    if parsed.is_local and parsed.path.parent.is_dir():
        names = [p.name for p in parsed.path.parent.iterdir() if p.is_dir()]
        near = UnknownName.of("folder", parsed.name, names).hint if names else ""
    return NotFound(f"no table at {parsed.display}", hint=near or "`headwater run etl` writes one")


def _source(uri: str, version: int | None) -> Input:
    if version is None and not Dataset(Uri.parse(uri)).exists():
        return open_input([uri])  # plain files can be read as well
    snapshot = _snapshot(uri, version)
    try:
        return open_input([uri], version=snapshot.version)
    except NotFound as exc:
        raise NotFound(
            f"version {snapshot.version} of {uri} can no longer be read: {exc.message}",
            hint="a vacuum removes the files of old versions; read a later one",
        ) from exc


def _frames(source: Input, limit: int | None, tmp: Path) -> Iterator[pl.DataFrame]:
    left = limit
    for file in source.files:
        if left is not None and left <= 0:
            return
        with stage(file.ref, directory=tmp) as staged:
            frame = read_slice(staged.path, source, partition=file.partition, rows=left)
            try:
                collected = frame.collect(engine="streaming")
            except pl.exceptions.PolarsError as exc:
                raise DamagedFile(
                    f"{Uri.parse(file.ref.uri).display} cannot be read: {str(exc).splitlines()[0]}",
                    hint="replace the file, or read an earlier version",
                ) from exc
        yield collected
        if left is not None:
            left -= collected.height


def _emit(texts: Iterator[str]) -> None:
    for text in texts:
        sys.stdout.write(text)
    sys.stdout.flush()


def print_table(frame: pl.DataFrame) -> None:
    """Print ``frame``, as wide as the terminal is."""
    width = shutil.get_terminal_size().columns  # COLUMNS, the terminal's own, else 80
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=max(4, width // 10),
        tbl_width_chars=width,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        fmt_str_lengths=40,
        thousands_separator=True,
    ):
        print(frame)


@dataclass(slots=True)
class _Partition:
    """What one partition of a table holds."""

    values: tuple[tuple[str, str | None], ...]
    facts: dict[str, int]


def _partitions(snapshot: Snapshot) -> list[_Partition]:
    """One for each combination of values, in their order."""
    if not snapshot.partition_by:
        return []
    found: dict[tuple[tuple[str, str | None], ...], _Partition] = {}
    for file in snapshot.files:
        empty = _Partition(file.partition, {"rows": 0, "files": 0, "size_bytes": 0})
        facts = found.setdefault(file.partition, empty).facts
        facts["rows"] += file.rows or 0
        facts["files"] += 1
        facts["size_bytes"] += file.size_bytes
    return [found[values] for values in sorted(found, key=str)]


def _told(operation: str, headwater: dict[str, object]) -> str:
    if not headwater:
        return operation.lower()
    sign = "-" if operation == "DELETE" else ""
    rows = f"{sign}{headwater.get('rows', 0):,}"
    return f"{rows:>12} rows  {headwater.get('job')}"
