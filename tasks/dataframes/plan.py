"""A job's graph, built and looked at; nothing is read here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NoReturn, cast

import dask.dataframe as dd
import pandas as pd
import polars as pl
from dask import config as dask_config
from dask.dataframe.dask_expr._merge import Merge
from dask.dataframe.dask_expr.io.io import BlockwiseIO, FromMap, FromPandas

from headwater.infra.errors import InvalidRequest, ScopeViolation, first_line
from headwater.infra.models import Device
from headwater.tasks.dataframes.failures import computes_early
from headwater.tasks.dataframes.frames import SOURCE, Reader, Unreadable, unreadable
from headwater.tasks.dataframes.types import index_names, promised, with_index

if TYPE_CHECKING:
    from headwater.tasks.jobs import Job

_MIXED_KEYS = "Merging dataframes with merge column data type mismatches"
"""How Dask warns of it."""

_TRIED = "Metadata inference failed"
"""How Dask says that a function failed on rows that it made up."""


def result_schema(job: Job, source: pl.Schema, sides: Mapping[str, pl.Schema]) -> pl.Schema:
    """Columns and types that the job gives on those, from its graph alone.

    Raises:
        InvalidRequest: The job computes, returns no frame, or merges by columns of unlike types.
        ScopeViolation: The job reads data that nobody named, and so nobody pinned.
        UnsupportedData: A column of the result has no type that a table can hold.
    """

    def refuse(*_: object, **__: object) -> NoReturn:
        raise computes_early(job.name)

    with dask_config.set(scheduler=refuse), graph_settings(Device.CPU):
        frames = {name: unreadable(schema, job.name, name) for name, schema in sides.items()}
        result = apply(job, unreadable(source, job.name, SOURCE), frames)
        _require_known_inputs(result, job.name)
        _require_like_keys(result, job.name)
        empty = result._meta
        return promised(with_index(empty, index_names(empty)), job.name)


def apply(job: Job, frame: dd.DataFrame, sides: Mapping[str, dd.DataFrame]) -> dd.DataFrame:
    """What the job returns on ``frame``.

    Raises:
        InvalidRequest: That is no frame, or the job fails on the rows that Dask tries it on.
    """
    function = job.load()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_MIXED_KEYS)  # refused where it matters
        try:
            result: object = function(frame, **sides)
        except ValueError as exc:
            if exc.__cause__ is None or not str(exc).startswith(_TRIED):
                raise
            cause = exc.__cause__
            raise InvalidRequest(
                f"job {job.name} fails on the rows that Dask makes up to see what it returns:"
                f" {type(cause).__name__}: {first_line(cause)}",
                hint="say what the function returns with meta=, or let it take such rows",
            ) from exc
    if isinstance(result, dd.Series):
        raise InvalidRequest(
            f"job {job.name} returned a Series, not a DataFrame",
            hint='add .to_frame(), or .reset_index(name="…") after a group-by',
        )
    if not isinstance(result, dd.DataFrame):
        raise InvalidRequest(
            f"job {job.name} returned a {type(result).__name__}, not a dask.dataframe.DataFrame",
            hint="return the frame without computing it",
        )
    return result


@contextmanager
def graph_settings(device: Device) -> Iterator[None]:
    """Dask's settings for the block, in which a job's graph is built and lowered."""
    settings = {
        "dataframe.backend": "cudf" if device is Device.CUDA else "pandas",
        # Columns have the types that they were read with, also text.
        "dataframe.convert-string": False,
    }
    with dask_config.set(settings):
        yield


def shuffle_method(result: dd.DataFrame, device: Device) -> Literal["p2p", "tasks"]:
    """``p2p``, or ``tasks`` where a frame of the graph has a type that P2P cannot carry.

    Dask's peer-to-peer shuffle goes through Arrow and back through pandas' names of types. Nested
    columns have none that pandas reads, and decimals come back as Python objects. The other
    shuffle moves partitions as they are, held in memory.

    On a GPU it is ``tasks``, too, as dask-cudf has chosen for itself
    (https://github.com/rapidsai/cudf/pull/15469).
    """
    if device is Device.CUDA:
        return "tasks"
    frames = (getattr(expr, "_meta", None) for expr in result.expr.simplify().walk())
    carried = all(_is_carried(dtype) for frame in frames for dtype in _dtypes(frame))
    return "p2p" if carried else "tasks"


def _dtypes(frame: object) -> list[object]:
    if isinstance(frame, pd.DataFrame):
        return [*frame.dtypes, frame.index.dtype]
    return [frame.dtype] if isinstance(frame, (pd.Series, pd.Index)) else []


def _is_carried(dtype: object) -> bool:
    if not isinstance(dtype, pd.ArrowDtype):
        return True
    try:
        return bool(pd.api.types.pandas_dtype(str(dtype)) == dtype)
    except (NotImplementedError, TypeError):
        return False


def _require_known_inputs(result: dd.DataFrame, job: str) -> None:
    for expr in result.expr.walk():
        ours = isinstance(expr, FromMap) and isinstance(expr.func, (Reader, Unreadable))
        constant = isinstance(expr, FromPandas)
        if ours or constant or (expr.dependencies() and not isinstance(expr, BlockwiseIO)):
            continue
        raise ScopeViolation(
            f"job {job} reads data that no source or side table names ({type(expr).__name__}),"
            " so it is not pinned",
            hint="add it as a side table: a keyword parameter of the job and --side NAME=ADDRESS",
        )


def _require_like_keys(result: dd.DataFrame, job: str) -> None:
    """Refuse a merge by columns whose equal values Dask may send to different places."""
    for expr in result.expr.walk():
        if not isinstance(expr, Merge):
            continue
        left, right = _names(expr.left_on), _names(expr.right_on)
        for one, other in zip(left, right, strict=False):  # names of an index have no partner
            tables = cast("tuple[pd.DataFrame, pd.DataFrame]", (expr.left._meta, expr.right._meta))
            have, meets = tables[0].get(one), tables[1].get(other)
            if have is None or meets is None or have.dtype == meets.dtype:
                continue
            if have.dtype.kind in "iu" and meets.dtype.kind in "iu":
                continue
            raise InvalidRequest(
                f"job {job} merges '{one}' of type {have.dtype} with '{other}' of type"
                f" {meets.dtype}",
                hint="cast one side first, for example right.astype({column: left.dtypes[column]})",
            )


def _names(on: object) -> list[object]:
    return list(on) if isinstance(on, (list, tuple)) else [on]
