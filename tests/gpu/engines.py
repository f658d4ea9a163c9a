"""One plan on two engines: the same data, and the fallbacks that were foretold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import polars as pl
from polars.testing import assert_frame_equal
from tests.gpu.cases import Case

from headwater.tasks.gpu import on_gpu

Engine = Callable[[pl.LazyFrame], tuple[pl.DataFrame, int]]
"""Runs a plan; tells also how many plans it left to another engine."""

ROUNDING = 1e-12
"""Engines may add floats in another order; all else must be equal."""


def gpu(plan: pl.LazyFrame) -> tuple[pl.DataFrame, int]:
    """The GPU engine, in the way in which a part uses it."""
    frame, fallbacks = on_gpu(plan, "allow")
    return frame.collect(engine="streaming"), fallbacks


def streaming(plan: pl.LazyFrame) -> tuple[pl.DataFrame, int]:
    """Polars' streaming engine, which a part uses on a CPU."""
    return plan.collect(engine="streaming"), 0


def require_same(case: Case, engine: Engine, *, fallbacks: int) -> None:
    """Returns when ``engine`` gives what Polars' in-memory engine gives.

    Equal are types, nulls (which are not NaN), texts, decimals and integers to the last digit, and
    times with their zone.

    Args:
        fallbacks: How many there must be.
    Raises:
        AssertionError: The data differ, or the count.
    """
    expected = case.view(case.plan().collect(engine="in-memory"))
    found, left = engine(case.plan())
    assert_frame_equal(
        case.view(found),
        expected,
        check_row_order=case.is_ordered,
        check_exact=False,
        rel_tol=ROUNDING,
        abs_tol=0.0,
    )
    if left != fallbacks:
        raise AssertionError(f"{left} fallbacks, where {fallbacks} are foretold")


def failures(cases: Iterable[Case], engine: Engine, *, foretold: Callable[[Case], int]) -> str:
    """What went wrong with each case, as one text; empty where nothing did."""
    return "\n".join(_failures(cases, engine, foretold))


def _failures(
    cases: Iterable[Case], engine: Engine, foretold: Callable[[Case], int]
) -> Iterator[str]:
    for case in cases:
        try:
            require_same(case, engine, fallbacks=foretold(case))
        except AssertionError as exc:
            yield f"{case.label}: {exc}"
        except Exception as exc:  # noqa: BLE001 - all of them are told, and none is passed over
            yield f"{case.label}: {type(exc).__name__}: {exc}"
