"""How a table takes rows of other columns than its own, and the commit that changes both.

A new column is added to the table's schema in the very transaction that adds the rows, so a
reader sees both or neither; older versions keep their schema, and their files read as null there.
``deltalake`` has no call for that which keeps the table's configuration, so this entry of the log
is written here, under a name that exactly one writer can take.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction

from headwater.infra.errors import SchemaMismatch, UnsupportedData
from headwater.infra.models import Drift
from headwater.infra.storage.casts import is_lossless
from headwater.infra.storage.drift import schema_diff, wider
from headwater.infra.storage.types import match_names

KNOWN_FEATURES = frozenset({"appendOnly", "invariants", "timestampNtz", "v2Checkpoint"})
"""Writer features of a table whose log can be written here; others ask for more than these do."""

NTZ = "timestampNtz"
READER_WITH_FEATURES, WRITER_WITH_FEATURES = 3, 7
LEGACY_WRITER_FEATURES = ("appendOnly", "invariants")
"""What every table of the old writer version 2 has, and a newer one has to name."""


@dataclass(frozen=True, slots=True)
class Evolved:
    """How rows fit a table.

    Attributes:
        schema: Columns of the table once the rows are in it, and of the files with the rows.
        added: Those of them that the table does not have yet.
        notes: What was brought together; a plain line each.
    """

    schema: pl.Schema
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def evolved(
    have: pl.Schema,
    rows: pl.Schema,
    *,
    table: str,
    drift: Drift,
    required: Iterable[str] = (),
) -> Evolved:
    """How ``rows`` are added to a table with the columns ``have``.

    Args:
        table: What messages call the table.
        drift: ``strict`` takes the table's own columns only.
        required: Columns of the table that every row must have: those without nulls, and those
            that it is partitioned by.
    Raises:
        SchemaMismatch: The table cannot take the rows; the columns that differ are listed.
    """
    if dict(have) == dict(rows):
        return Evolved(have)
    names = match_names(rows, have)
    folds = {name.casefold() for name in (*have, *rows)}
    added = [name for name in rows if name not in names.values()]
    fits = drift is Drift.WIDEN and len(folds) == len(have) + len(added)
    fits = fits and all(
        is_lossless(rows[spelt], have[name]) or wider(rows[spelt], have[name]) == have[name]
        for name, spelt in names.items()
    )
    if not fits or any(name not in names for name in required):
        raise SchemaMismatch(
            f"the table {table} has other columns:\n{schema_diff(have, rows)}",
            hint="let the job return the table's columns, or use --mode overwrite",
        )
    notes = []
    for name in have:
        spelt = names.get(name)
        if spelt is None:
            notes.append(f"column '{name}' of the table {table} is null in the new rows")
            continue
        if spelt != name:
            notes.append(f"column '{spelt}' is written as '{name}', as the table {table} has it")
        if rows[spelt] != have[name]:
            notes.append(
                f"column '{name}' is written as {have[name]}, as the table {table} has it;"
                f" the new rows have {rows[spelt]}"
            )
    notes += [
        f"column '{name}' is added to the table {table}, and null in its earlier rows"
        for name in added
    ]
    return Evolved(
        pl.Schema({**have, **{name: rows[name] for name in added}}), tuple(added), tuple(notes)
    )


def require_written(fit: Evolved, written: pl.Schema, table: str) -> None:
    """Refuse files whose columns are not those that the table now needs of them.

    Raises:
        SchemaMismatch: Another writer changed the table after the rows were written.
    """
    if any(fit.schema.get(name) != dtype for name, dtype in written.items()):
        raise SchemaMismatch(
            f"the table {table} has other columns since the run began:\n"
            f"{schema_diff(fit.schema, written)}",
            hint="run the same command again",
        )


def required_columns(table: DeltaTable) -> frozenset[str]:
    """Columns that every new row must have."""
    fields = json.loads(table.schema().to_json())["fields"]
    named = {field["name"] for field in fields if not field["nullable"]}
    return frozenset({*named, *table.metadata().partition_columns})


def entry(
    table: DeltaTable,
    actions: Sequence[AddAction | RemoveAction],
    added: DeltaSchema,
    *,
    application: tuple[str, int],
    info: Mapping[str, str],
) -> bytes:
    """The log's entry after the version of ``table``: new columns and new rows in one.

    Args:
        added: The new columns.
        application: Id and version of the transaction.
        info: What the entry tells of who wrote it.
    Raises:
        UnsupportedData: The table asks more of a writer than is done here.
    """
    protocol = _protocol(table, added)
    metadata = table.metadata()
    schema = json.loads(table.schema().to_json())
    schema["fields"] += json.loads(added.to_json())["fields"]
    now_ms = int(time.time() * 1000)
    said: list[dict[str, Any]] = [
        {
            "commitInfo": {
                "timestamp": now_ms,
                "operation": "WRITE",
                "operationParameters": {
                    "mode": "Append",
                    "partitionBy": json.dumps(metadata.partition_columns),
                },
                **info,
            }
        },
        *([{"protocol": protocol}] if protocol else []),
        {
            "metaData": {
                "id": metadata.id,
                "name": metadata.name,
                "description": metadata.description,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps(schema),
                "partitionColumns": metadata.partition_columns,
                "createdTime": metadata.created_time,
                "configuration": metadata.configuration,
            }
        },
        *map(_as_json, actions),
        {"txn": {"appId": application[0], "version": application[1], "lastUpdated": now_ms}},
    ]
    return "".join(json.dumps(line) + "\n" for line in said).encode()


def _as_json(action: AddAction | RemoveAction) -> dict[str, Any]:
    common = {
        "path": action.path,
        "partitionValues": action.partition_values,
        "size": action.size,
        "dataChange": action.data_change,
    }
    if isinstance(action, AddAction):
        body = {**common, "modificationTime": action.modification_time, "stats": action.stats}
        return {"add": body}
    body = {
        **common,
        "deletionTimestamp": action.deletion_timestamp,
        "extendedFileMetadata": True,
    }
    return {"remove": body}


def _protocol(table: DeltaTable, added: DeltaSchema) -> dict[str, Any] | None:
    """What the new columns need of readers and writers, where the table does not ask it yet."""
    now = table.protocol()
    features = set(now.writer_features or ())
    is_legacy = now.min_writer_version < WRITER_WITH_FEATURES
    unknown = sorted(features - KNOWN_FEATURES)
    if is_legacy and now.min_writer_version > 2:
        unknown.append(f"writer version {now.min_writer_version}")
    if unknown:
        raise UnsupportedData(
            f"the table asks {', '.join(unknown)} of a writer that adds a column, which Headwater"
            " does not do",
            hint="add the column with the engine that made the table, then run this again",
        )
    if "timestamp_ntz" not in added.to_json() or NTZ in features:
        return None
    writer = {NTZ, *features, *(LEGACY_WRITER_FEATURES if is_legacy else ())}
    return {
        "minReaderVersion": READER_WITH_FEATURES,
        "minWriterVersion": WRITER_WITH_FEATURES,
        "readerFeatures": sorted({NTZ, *(now.reader_features or ())}),
        "writerFeatures": sorted(writer),
    }
