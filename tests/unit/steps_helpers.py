"""What the tests of the steps share: one step on a small frame, judged and run."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headwater.tasks.steps.compile import Compiled, compile_steps
from headwater.tasks.steps.files import parse_steps


def compiled(
    body: str, schema: pl.Schema, sides: Mapping[str, pl.DataFrame] | None = None
) -> Compiled:
    """Steps of a file, which begins with the first step's keys."""
    file = parse_steps(f"version = 1\n[[steps]]\n{body}\n", "x.toml")
    return compile_steps(file.steps, schema, {n: s.schema for n, s in (sides or {}).items()})


def applied(
    body: str, frame: pl.DataFrame, sides: Mapping[str, pl.DataFrame] | None = None
) -> pl.DataFrame:
    """``frame`` after all steps, or what the run would fail with."""
    lazy = {name: side.lazy() for name, side in (sides or {}).items()}
    result = frame.lazy()
    for stage in compiled(body, frame.schema, sides).stages:
        before, result = result, stage.apply(result, lazy)
        try:
            result.collect(engine="streaming")
        except pl.exceptions.PolarsError as exc:
            raise stage.explained(exc, [before], lazy, "") or exc from exc
    return result.collect()


def column(body: str, values: pl.Series, result: str = "a") -> list[object]:
    """The values of a column ``a`` after the steps."""
    return applied(body, values.alias("a").to_frame())[result].to_list()
