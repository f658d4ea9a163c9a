"""The input of a job in the pandas style: one partition for each part, read by our own reader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import dask.dataframe as dd
import polars as pl
from distributed import get_worker

from headwater.infra.errors import HeadwaterError
from headwater.infra.models import Device, Part
from headwater.infra.storage.inputs import Input
from headwater.infra.storage.retries import StoreRetries, counting
from headwater.infra.storage.types import column_of
from headwater.tasks.dataframes.failures import computes_early, interrupted
from headwater.tasks.dataframes.types import as_pandas
from headwater.tasks.memory import under_way
from headwater.tasks.needs import Needs
from headwater.tasks.pieces import bytes_taken, scan_pieces, stage_pieces
from headwater.tasks.progress import MAX_TRIES
from headwater.tasks.read import damaged_file, disk_failed, together

if TYPE_CHECKING:
    import pandas as pd

SOURCE = ""
"""Name of the input itself, among the names of the side tables."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one part as one partition; Dask tells it which columns the job uses.

    Each read is told to the driver under ``topic``: a part may be read twice, as where a job
    sorts and so looks at its input beforehand.

    Attributes:
        name: Of the side table; ``SOURCE`` for the input itself.
        source: Without its files: each part brings its own.
        topic: Of Dask's events, and what tells this run's tasks from those of others.
    """

    name: str
    source: Input
    topic: str
    device: Device

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return ("headwater", self.topic, self.name, self.device)

    def __call__(self, part: Part, columns: list[str]) -> pd.DataFrame:
        """The part with those columns."""
        for tries in range(1, MAX_TRIES + 1):
            try:
                with counting() as retries:
                    return self._read(part, columns, retries)
            except HeadwaterError as exc:
                if exc.retry == "never" or tries == MAX_TRIES:
                    raise
                tell(self.topic, retries=1, store_retries=exc.store_retries)
        raise AssertionError("unreachable: the last try returns or raises")

    def _read(self, part: Part, columns: list[str], retries: StoreRetries) -> pd.DataFrame:
        with (
            under_way(f"part {part.index}"),
            TemporaryDirectory(prefix="headwater-part-", ignore_cleanup_errors=True) as tmp,
            ExitStack() as stack,
        ):
            try:
                needs = Needs(frozenset(columns))
                staged = stage_pieces(stack, part.slices, self.source, Path(tmp), needs)
                pieces, _ = scan_pieces(staged, self.source, counted=False)
                frame = _collected(together(pieces, self.source.schema), columns)
            except OSError as exc:
                raise disk_failed(exc, f"part {part.index}", Path(tmp).parent) from exc
            except KeyboardInterrupt as exc:
                raise interrupted(f"part {part.index}") from exc
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:
                raise (damaged_file(part, self.source) or exc) from exc
        if self.name == SOURCE:
            tell(
                self.topic,
                part=part.index,
                rows=frame.height,
                bytes=bytes_taken(staged),
                store_retries=retries.count,
            )
        else:
            tell(self.topic, store_retries=retries.count)
        return as_partition(frame, self.device)


def frame_of(reader: Reader, parts: Sequence[Part]) -> dd.DataFrame:
    """The frame that ``reader`` reads, a partition for each of at least one part, in order."""
    empty = as_partition(pl.DataFrame(schema=reader.source.schema), reader.device)
    return _from_map(reader, parts, empty)


def unreadable(schema: pl.Schema, job: str, name: str) -> dd.DataFrame:
    """A frame of that schema to build a graph with, which fails where something is read."""
    return _from_map(Unreadable(job, name), (0, 1), as_pandas(pl.DataFrame(schema=schema)))


def as_partition(frame: pl.DataFrame, device: Device) -> pd.DataFrame:
    """``frame`` as Dask's backend on that device has it."""
    if device is Device.CUDA:
        import cudf  # type: ignore[import-not-found]  # pyright: ignore - an extra

        return cast("pd.DataFrame", cudf.DataFrame.from_arrow(frame.to_arrow()))
    return as_pandas(frame)


def tell(topic: str, **event: int) -> None:
    """Send the driver numbers to add up."""
    get_worker().log_event(topic, event)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a ``Reader`` where nothing may be read."""

    job: str
    name: str

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return ("headwater-unreadable", self.job, self.name)

    def __call__(self, part: int, columns: list[str]) -> pd.DataFrame:  # noqa: ARG002
        """Nothing; the job is refused."""
        raise computes_early(self.job)


def _collected(frame: pl.LazyFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Those columns; without any, still as many rows, since Dask may count them."""
    if columns:
        wanted = [column_of(name) for name in columns]
        return frame.select(wanted).collect(engine="streaming")
    return pl.DataFrame(height=frame.select(pl.len()).collect(engine="streaming").item())


def _from_map(reader: object, parts: Sequence[object], empty: pd.DataFrame) -> dd.DataFrame:
    frame = dd.from_map(reader, parts, meta=empty)
    return cast("dd.DataFrame", frame)
