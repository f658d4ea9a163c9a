"""Writes one partition of a result as one part, with exactly the types that were promised."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import polars as pl

from headwater.infra.errors import HeadwaterError, SchemaMismatch
from headwater.infra.models import Device, Format, PartReceipt
from headwater.infra.storage.casts import conform, finer_than_kept, refusal
from headwater.infra.storage.retries import counting
from headwater.infra.storage.uris import Uri
from headwater.tasks.dataframes.failures import explained, interrupted
from headwater.tasks.dataframes.frames import tell
from headwater.tasks.dataframes.types import conformed, index_names, with_index
from headwater.tasks.memory import under_way
from headwater.tasks.progress import MAX_TRIES
from headwater.tasks.read import disk_failed
from headwater.tasks.transform import Phases, worker_address
from headwater.tasks.write import PartWriter


@dataclass(frozen=True, slots=True)
class WriteSpec:
    """What all parts of a result have in common.

    Attributes:
        index: Names of the index, as the graph promised them.
        result: Columns as the job promised them.
        schema: Columns as the dataset keeps them.
        format: How the target is written.
    """

    run_key: str
    target: str
    job: str
    index: tuple[Hashable, ...]
    result: pl.Schema
    schema: pl.Schema
    partition_by: tuple[str, ...]
    topic: str
    device: Device
    format: Format = Format.DELTA


def write_partition(partition: pd.DataFrame, index: int, spec: WriteSpec) -> PartReceipt:
    """Write one partition of the result.

    Raises:
        SchemaMismatch: It has other columns than were promised, or values of another type.
    """
    for tries in range(1, MAX_TRIES + 1):
        try:
            with counting() as retries:
                return replace(_write(partition, index, spec), store_retries=retries.count)
        except HeadwaterError as exc:
            if exc.retry == "never" or tries == MAX_TRIES:
                raise
            tell(spec.topic, retries=1, store_retries=exc.store_retries)
    raise AssertionError("unreachable: the last try returns or raises")


def _write(partition: pd.DataFrame, index: int, spec: WriteSpec) -> PartReceipt:
    phases = Phases()
    where = f"part {index}"
    with (
        under_way(where),
        TemporaryDirectory(prefix="headwater-part-", ignore_cleanup_errors=True) as tmp,
    ):
        try:
            with phases("transform"):
                if not _is_frame(partition):
                    raise SchemaMismatch(
                        f"job {spec.job} promised a DataFrame, and {where} is a"
                        f" {type(partition).__name__}",
                        hint="let the function given to map_partitions return a DataFrame",
                    )
                if index_names(partition) != spec.index:
                    raise SchemaMismatch(
                        f"job {spec.job} promised an index named {spec.index}, and that of"
                        f" {where} is named {index_names(partition)}",
                        hint="end the job with .reset_index()",
                    )
                frame = conformed(
                    with_index(partition, spec.index), spec.result, spec.job, where
                ).lazy()
                writer = PartWriter(
                    Uri.parse(spec.target), spec.run_key, index, Path(tmp), spec.format
                )
                writer.sink(conform(frame, spec.result, spec.schema), spec.partition_by)
            with phases("upload"):
                files = writer.publish()
        except HeadwaterError:
            raise
        except OSError as exc:
            raise disk_failed(exc, where, Path(tmp).parent) from exc
        except KeyboardInterrupt as exc:
            raise interrupted(where) from exc
        except (Exception, pl.exceptions.PanicException) as exc:
            raise (finer_than_kept(exc) or refusal(exc) or explained(spec.job, exc)) from exc
    return PartReceipt(
        index=index,
        files=files,
        rows_in=0,
        rows_out=sum(f.rows for f in files),
        bytes_read=0,
        bytes_written=sum(f.size_bytes for f in files),
        seconds=phases.seconds,
        worker=worker_address(),
        device=spec.device,
    )


def _is_frame(partition: object) -> bool:
    return hasattr(partition, "columns") and hasattr(partition, "dtypes")
