"""One schema for files whose schemas may differ."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headwater.infra.errors import SchemaMismatch
from headwater.infra.models import Format
from headwater.infra.storage.datasets import schema_diff
from headwater.infra.storage.uris import Uri


def common_schema(schemas: Mapping[str, pl.Schema]) -> pl.Schema:
    """The schema that all files have; their columns may come in another order."""
    files = iter(schemas.items())
    first_uri, first = next(files)
    for uri, schema in files:
        require_same(first_uri, first, uri, schema)
    return first


def require_same(first_uri: str, first: pl.Schema, uri: str, schema: pl.Schema) -> None:
    """Columns and types must agree; their order may differ."""
    if dict(first) != dict(schema):
        here, there = Uri.parse(uri).display, Uri.parse(first_uri).display
        raise SchemaMismatch(
            f"{here} differs from {there} (there):\n{schema_diff(first, schema)}",
            hint="name files of one schema, or bring them to one first",
        )


def widest(schemas: Mapping[str, pl.Schema], format_: Format) -> pl.Schema:
    """One schema for all files: types widened, columns as the first file orders them.

    CSV files must have the same columns. A key may be missing from a JSON line, so files of
    JSON lines may differ.
    """
    files = iter(schemas.items())
    first_uri, first = next(files)
    merged: dict[str, pl.DataType] = dict(first)
    for uri, schema in files:
        if format_ is Format.CSV and set(schema) != set(first):
            require_same(first_uri, first, uri, schema)
        for name, dtype in schema.items():
            merged[name] = _wider(merged.get(name, dtype), dtype, name, uri)
    return pl.Schema({n: pl.String() if t == pl.Null() else t for n, t in merged.items()})


def _wider(one: pl.DataType, other: pl.DataType, column: str, uri: str) -> pl.DataType:
    if one == other:
        return one
    empty = [pl.DataFrame(schema={column: dtype}) for dtype in (one, other)]
    try:
        if pl.Boolean() in (one, other) and not {pl.String(), pl.Null()} & {one, other}:
            # Polars counts true as 1, but reads no "true" as a number.
            raise pl.exceptions.SchemaError("true and false are no numbers")
        return pl.concat(empty, how="vertical_relaxed").schema[column]
    except pl.exceptions.PolarsError as exc:
        raise SchemaMismatch(
            f"column '{column}' is {other} in {Uri.parse(uri).display} and {one} in files before"
            " it",
            hint="name files of one schema, or bring them to one first",
        ) from exc
