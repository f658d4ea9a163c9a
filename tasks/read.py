"""Reads slices of pinned files as frames, and says which file cannot be read, and why."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from headwater.infra.errors import DamagedFile, HeadwaterError, StoreUnavailable, first_line
from headwater.infra.models import Part, Slice
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.staging import StagedFile, stage
from headwater.infra.storage.uris import Uri


def read_piece(piece: Slice, staged: StagedFile, source: Input) -> pl.LazyFrame:
    """The rows of ``piece`` as a scan of its staged file."""
    return read_slice(
        staged.path,
        source,
        partition=piece.partition,
        first_row=piece.first_row,
        rows=piece.rows,
        name=Uri.parse(piece.ref.uri).display,
    )


def together(frames: Sequence[pl.LazyFrame], schema: pl.Schema) -> pl.LazyFrame:
    """One frame of all, of the columns of ``schema`` also where there is none."""
    return pl.concat(frames) if frames else pl.LazyFrame(schema=schema)


def damaged_file(part: Part, source: Input) -> DamagedFile | None:
    """Which file of the part cannot be read, found by reading each alone."""
    for piece in part.slices:
        with (
            TemporaryDirectory(prefix="headwater-check-") as tmp,
            suppress(HeadwaterError),
            stage(piece.ref, directory=Path(tmp)) as staged,
        ):
            try:
                read_piece(piece, staged, source).collect(engine="streaming")
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as damage:
                return DamagedFile(
                    f"{Uri.parse(piece.ref.uri).display} cannot be read: {first_line(damage)}",
                    hint="replace the file or leave it out, then run the same command again",
                )
    return None


def named(part: Part) -> str:
    """A part as messages call it, with its first files."""
    files = ", ".join(Uri.parse(s.ref.uri).name for s in part.slices[:3])
    more = f" and {len(part.slices) - 3} more" if len(part.slices) > 3 else ""
    return f"part {part.index} ({files}{more})"


def disk_failed(exc: OSError, what: str, folder: Path) -> StoreUnavailable:
    """What a part says when this machine's disk fails it.

    Args:
        what: Names the work, in messages.
        folder: Where temporary files are.
    """
    return StoreUnavailable(
        f"{what}: {exc.strerror or exc}" + (f" ({exc.filename})" if exc.filename else ""),
        hint=f"free some space; {shutil.disk_usage(folder).free:,} bytes are left"
        if exc.errno == errno.ENOSPC
        else "run the same command again: finished parts are taken up",
    )


def count_rows(piece: Slice, frame: pl.LazyFrame) -> int:
    """Rows of ``piece``, counted where the scan did not."""
    if piece.rows is not None:
        return piece.rows
    return int(frame.select(pl.len()).collect(engine="streaming").item())
