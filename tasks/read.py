"""Reads one part: its files staged together, then scanned as one frame."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from headwater.infra.errors import DamagedFile, HeadwaterError, StoreUnavailable, first_line
from headwater.infra.models import DataRef, Part, Slice
from headwater.infra.storage.inputs import Input, read_slice
from headwater.infra.storage.staging import StagedFile, stage
from headwater.infra.storage.uris import Uri

STAGERS = 8
"""Files of one part that are brought together."""

_DISK_IS_FULL = 28


def stage_all(stack: ExitStack, refs: Sequence[DataRef], tmp: Path) -> list[StagedFile]:
    """Every file of a part, brought together; a file that two slices share comes once.

    They stay until ``stack`` is closed, which checks that local ones are still what was pinned.
    """
    unique = list(dict.fromkeys(refs))
    managers = [stage(ref, directory=tmp) for ref in unique]
    with ThreadPoolExecutor(min(STAGERS, len(managers) or 1)) as pool:
        entered = list(pool.map(lambda manager: manager.__enter__(), managers))
    for manager in managers:
        stack.push(manager)
    by_ref = dict(zip(unique, entered, strict=True))
    return [by_ref[ref] for ref in refs]


def read_piece(piece: Slice, staged: StagedFile, source: Input) -> pl.LazyFrame:
    """The rows of one slice."""
    return read_slice(
        staged.path,
        source,
        partition=piece.partition,
        first_row=piece.first_row,
        rows=piece.rows,
    )


def together(frames: Sequence[pl.LazyFrame], source: Input) -> pl.LazyFrame:
    """All slices of a part, in their order; the columns without rows where there is none."""
    return pl.concat(frames) if frames else pl.LazyFrame(schema=source.schema)


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


def disk_failed(exc: OSError, index: int, folder: Path) -> StoreUnavailable:
    """What a part says when this machine's disk fails it.

    Args:
        index: Of the part.
        folder: Where temporary files are.
    """
    return StoreUnavailable(
        f"part {index}: {exc.strerror or exc}" + (f" ({exc.filename})" if exc.filename else ""),
        hint=f"free some space; {shutil.disk_usage(folder).free:,} bytes are left"
        if exc.errno == _DISK_IS_FULL
        else "run the same command again",
    )
