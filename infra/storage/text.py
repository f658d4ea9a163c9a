"""Columns and types of text files: CSV and JSON lines."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from headwater.infra.errors import DamagedFile, DataError, first_line
from headwater.infra.models import DataRef, Format
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.listing import display
from headwater.infra.storage.staging import CODECS, stage
from headwater.infra.units import MIB

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

SAMPLE_BYTES = 32 * MIB
"""Text files up to this size are read whole to infer their types; of a longer one, this much."""


@dataclass(frozen=True, slots=True)
class TextSchema:
    """Columns of a text file, and whether only its beginning was looked at."""

    schema: pl.Schema
    cut: bool


def text_schema(fs: Filesystem, ref: DataRef, format_: Format, tmp: Path) -> TextSchema:
    """Columns and types of a text file, from all of it or from its first lines."""
    with ExitStack() as stack:
        whole = ref.size_bytes <= SAMPLE_BYTES
        if whole:
            path = stack.enter_context(stage(ref, directory=tmp)).path
            data: Path | bytes = path
        else:
            data = _first_lines(fs, ref)
        try:
            schema = _infer(data, format_) if ref.size_bytes else pl.Schema()
            if not schema:
                raise pl.exceptions.NoDataError("no column")
        except pl.exceptions.NoDataError:
            raise DamagedFile(
                f"{display(ref)} is empty: it has not even a header",
                hint="leave it out, or write it with its header",
            ) from None
        except pl.exceptions.PolarsError as exc:
            raise DamagedFile(
                f"{display(ref)} cannot be read as {format_.value}: {first_line(exc)}",
                hint="check the file around that place",
            ) from exc
    return TextSchema(schema, cut=not whole)


def _infer(data: Path | bytes, format_: Format) -> pl.Schema:
    if format_ is Format.CSV:
        source = data if isinstance(data, Path) else io.BytesIO(data)
        schema = pl.scan_csv(source, infer_schema_length=None, glob=False).collect_schema()
        if any("\0" in name for name in schema):
            raise pl.exceptions.ComputeError("it holds NUL bytes, so it is no text")
        return schema
    source = data if isinstance(data, Path) else io.BytesIO(data)
    return pl.scan_ndjson(source, infer_schema_length=None).collect_schema()


def _first_lines(fs: Filesystem, ref: DataRef) -> bytes:
    """About ``SAMPLE_BYTES`` of text from the beginning, up to the end of a line."""
    data = fs.read(ref, 0, SAMPLE_BYTES)
    codec = CODECS.get(ref.uri[ref.uri.rfind(".") :].lower())
    if codec is not None:
        unpacked = bytearray()
        stream = pa.CompressedInputStream(pa.BufferReader(data), codec)
        try:
            while len(unpacked) < SAMPLE_BYTES:
                if not (chunk := stream.read(MIB)):
                    break
                unpacked += chunk
        except (OSError, pa.ArrowException):
            pass  # the sample ends in the middle of a frame; what came before it is good
        data = bytes(unpacked)
    return data[: data.rfind(b"\n") + 1]


def require_no_new_keys(path: Path, types: Mapping[str, pl.DataType]) -> None:
    """Refuse keys that came after the sample: reading with the schema would drop them."""
    found = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
    if new := [*_new_keys(pl.Struct(found), pl.Struct(types), "")]:
        raise DataError(
            f"keys {', '.join(new)} appear only after the first {SAMPLE_BYTES // MIB} MiB",
            hint="put a line that has every key first",
        )


def _new_keys(found: PolarsDataType, have: PolarsDataType, prefix: str) -> Iterator[str]:
    """Keys of ``found``, at any depth, that ``have`` lacks."""
    if isinstance(found, pl.List) and isinstance(have, pl.List):
        yield from _new_keys(found.inner, have.inner, prefix)
    elif isinstance(found, pl.Struct) and isinstance(have, pl.Struct):
        known = {field.name: field.dtype for field in have.fields}
        for field in found.fields:
            if field.name not in known:
                yield f"{prefix}{field.name}"
            else:
                yield from _new_keys(field.dtype, known[field.name], f"{prefix}{field.name}.")
