"""Small tables that a job joins, whole in each process that runs parts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import polars as pl

from headwater.infra.errors import DamagedFile, first_line
from headwater.infra.models import Slice
from headwater.infra.storage.inputs import Input
from headwater.tasks.pieces import scan_pieces, stage_pieces
from headwater.tasks.read import together

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


def scan_whole(table: Input, stack: ExitStack, tmp: Path) -> pl.LazyFrame:
    """All of a table as a scan of its staged files, for as long as ``stack`` is open."""
    slices = [Slice(f.ref, 0, f.rows, f.ref.size_bytes, f.partition) for f in table.files]
    staged = stage_pieces(stack, slices, table, tmp)
    frames, _ = scan_pieces(staged, table, counted=False)
    return together(frames, table.schema)


def _read_whole(side: Input) -> pl.DataFrame:
    with TemporaryDirectory(prefix="headwater-side-") as tmp, ExitStack() as stack:
        try:
            return scan_whole(side, stack, Path(tmp)).collect()
        except pl.exceptions.PolarsError as exc:
            raise DamagedFile(
                f"the side table {side.uri} cannot be read: {first_line(exc)}",
                hint="check or replace its files",
            ) from exc
