"""What went wrong with a job in the pandas style, in the words of its user."""

from __future__ import annotations

from distributed.scheduler import KilledWorker

from headwater.infra.errors import (
    HeadwaterError,
    InvalidRequest,
    PartFailed,
    WorkerLost,
    first_line,
)


def computes_early(job: str) -> InvalidRequest:
    """The refusal of a job that wants values while its graph is built."""
    return InvalidRequest(
        f"job {job} computes while its graph is built",
        hint="return the frame without compute(), len(), head(), npartitions of a sorted frame or"
        " the like; a value over all rows can be merged in, or belongs in a side table",
    )


def interrupted(what: str) -> PartFailed:
    """What a Ctrl-C becomes that Polars noticed: the driver decides what happens, not a worker."""
    return PartFailed(
        f"{what} was interrupted", hint="run the same command again: nothing was committed"
    )


def explained(job: str, exc: BaseException) -> HeadwaterError:
    """What stopped the graph, without the words that Dask's shuffle puts around it."""
    if isinstance(exc, KilledWorker):
        return WorkerLost(
            f"job {job}: workers died {exc.allowed_failures + 1} times, probably for lack of"
            " memory",
            hint="give workers more memory or fewer threads in the cluster profile",
        )
    inner = exc
    while str(inner).startswith("P2P ") and inner.__cause__ is not None:
        inner = inner.__cause__
    if isinstance(inner, HeadwaterError):
        return inner
    return PartFailed(
        f"job {job} failed: {type(inner).__name__}: {first_line(inner)}",
        hint="mend the job or its input, then run the same command again",
    )
