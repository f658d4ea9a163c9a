"""Reads slices of pinned files and side tables as frames, from files that are staged here."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import polars as pl

from headwater.infra.errors import DamagedFile, HeadwaterError, StoreUnavailable, first_line
from headwater.infra.models import Part, Slice
from headwater.infra.storage.inputs import Input, read_slice
from headwater.infra.storage.staging import StagedFile, Wanted, stage, stage_all
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


def scan_whole(table: Input, stack: ExitStack, tmp: Path) -> pl.LazyFrame:
    """All of a table as a scan of its staged files, for as long as ``stack`` is open."""
    wanted = [Wanted(ref) for ref in dict.fromkeys(f.ref for f in table.files)]
    staged = stack.enter_context(stage_all(wanted, directory=tmp))
    frames = [
        read_slice(s.path, table, partition=f.partition, name=Uri.parse(f.ref.uri).display)
        for f, s in zip(table.files, staged, strict=True)
    ]
    return together(frames, table.schema)


# --- side tables -----------------------------------------------------------------------------

_SIDES: dict[str, dict[str, pl.DataFrame]] = {}
_SIDES_LOCK = Lock()


def held_sides(
    run: str,
    sides: Sequence[tuple[str, Input]],
    check: Callable[[Mapping[str, pl.LazyFrame]], None],
) -> dict[str, pl.LazyFrame]:
    """A run's side tables as this process holds them; the first call of a run reads them.

    Args:
        run: Names the run; ``release_sides`` takes the same.
        check: Called once with all of them.
    """
    if not sides:
        return {}
    with _SIDES_LOCK:
        if run not in _SIDES:
            tables = {name: _read_whole(side) for name, side in sides}
            check({name: frame.lazy() for name, frame in tables.items()})
            _SIDES[run] = tables
        frames = _SIDES[run]
    return {name: frame.lazy() for name, frame in frames.items()}


def release_sides(run: str) -> None:
    """Let go of a run's side tables; runs on every worker at the end of a run."""
    with _SIDES_LOCK:
        _SIDES.pop(run, None)


def _read_whole(side: Input) -> pl.DataFrame:
    with TemporaryDirectory(prefix="headwater-side-") as tmp, ExitStack() as stack:
        try:
            return scan_whole(side, stack, Path(tmp)).collect()
        except pl.exceptions.PolarsError as exc:
            raise DamagedFile(
                f"the side table {side.uri} cannot be read: {first_line(exc)}",
                hint="check or replace its files",
            ) from exc
