"""A plan on RAPIDS' Polars engine, or left to the CPU, whole, where the engine cannot run it alike.

Which plans it takes stands in ``docs/gpu.md``.
"""

from __future__ import annotations

import re
from typing import Literal

import polars as pl

from headwater.infra.errors import PartFailed

_NOT_TAKEN = re.compile(
    r"Query execution with GPU not possible.*?The errors were:(.*?)['\"], \[", re.DOTALL
)
"""How the engine says, before it starts, that it does not take a plan."""

_DIFFERENT = {
    re.compile(r"\.hash\("): "hash: the GPU's numbers are others",
    re.compile(
        r"\.dt\.convert_time_zone\(\)\.dt\.(?!replace_time_zone\(|convert_time_zone\()"
    ): "a function of times after convert_time_zone: the GPU reads UTC's clock",
}
"""What the engine takes and computes otherwise, as Polars shows it in a plan.

Source: cudf_polars/dsl/expressions/unary.py (hash is XXHash64) and datetime.py (a zone is a label).
"""


def on_gpu(frame: pl.LazyFrame, fallback: Literal["allow", "refuse"]) -> tuple[pl.LazyFrame, int]:
    """The frame collected by the GPU engine, and 0; or the frame as it is, for the CPU, and 1.

    The engine takes a plan whole or not at all. What fails after it was taken is no fallback.

    Raises:
        PartFailed: The engine cannot run the plan, and ``fallback`` is ``refuse``.
        PolarsError: The plan fails on its rows.
    """
    if reasons := computed_otherwise(frame):
        return _left(frame, reasons, fallback)
    # It must be asked to fail: a plan that it leaves to the CPU it leaves in silence.
    engine = pl.GPUEngine(executor="in-memory", raise_on_fail=True)
    try:
        return frame.collect(engine=engine).lazy(), 0
    except pl.exceptions.ComputeError as exc:
        reasons = _not_taken(exc)
        if not reasons:
            raise
        return _left(frame, reasons, fallback)
    except pl.exceptions.InvalidOperationError:
        # Steps refuse to lose a value by an error that names them (see steps.loss); the GPU's
        # names nothing. The CPU tells it, and where it finds nothing wrong the GPU's stands.
        frame.collect(engine="streaming")
        raise


def computed_otherwise(frame: pl.LazyFrame) -> list[str]:
    """What in a plan the GPU engine would take, and give another result for.

    A name of a column that reads like such a function counts, too: the CPU can run any plan.

    Examples:
        >>> computed_otherwise(pl.LazyFrame({"n": [1]}).select(pl.col("n").hash()))
        ["hash: the GPU's numbers are others"]
    """
    plan = frame.explain(optimized=False)
    return [reason for pattern, reason in _DIFFERENT.items() if pattern.search(plan)]


def _left(
    frame: pl.LazyFrame, reasons: list[str], fallback: Literal["allow", "refuse"]
) -> tuple[pl.LazyFrame, int]:
    if fallback == "refuse":
        raise PartFailed(
            f"the GPU engine cannot run the plan: {'; '.join(reasons)}",
            hint='change these expressions, or set gpu_fallback = "allow" in the cluster profile',
        )
    return frame, 1


def _not_taken(exc: pl.exceptions.ComputeError) -> list[str]:
    """Why the GPU engine did not take a plan, in its words; nothing where it failed otherwise."""
    found = _NOT_TAKEN.search(str(exc))
    if found is None:
        return []
    # The text is that of a tuple, so its ends of lines are written out.
    lines = found[1].split("\\n- ")
    return [line.removeprefix("NotImplementedError: ") for line in lines if line]
