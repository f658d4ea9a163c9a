"""Which plans the GPU engine takes, found without a GPU: its translator needs no driver.

    python -m tests.gpu.translate            compares with docs/gpu.md
    python -m tests.gpu.translate --write    writes it

It runs where cudf-polars is installed, which `make check-gpu` sees to.
"""

from __future__ import annotations

import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from cudf_polars.dsl.expr import (  # pyright: ignore[reportMissingImports]  # see above
    TemporalFunction,
)
from cudf_polars.dsl.translate import (  # pyright: ignore[reportMissingImports]  # see above
    Translator,
)
from tests.gpu.cases import Case
from tests.gpu.catalog import all_cases
from tests.gpu.page import PAGE, SECTIONS, differences, parse, render

from headwater.tasks.gpu import computed_otherwise

ENGINE = pl.GPUEngine(executor="in-memory", raise_on_fail=True)
"""As a part runs it."""

SHOWN = 20
"""Differences that are printed."""

_FOLLOWS = "expressions.base.ErrorExpr"
"""In an error about an expression that holds another one, which has an error of its own."""

_CLASS = re.compile(r"<class 'cudf_polars\.[\w.]+\.(\w+)'>")
_TEMPORAL = re.compile(r"(?<=Temporal function )\d+")


def refusals(plan: pl.LazyFrame) -> tuple[str, ...]:
    """Why ``plan`` is not run by the engine, sorted; nothing where it is.

    The plan is translated in the form in which the engine gets it, after Polars has optimised it.
    """
    found: set[str] = set()

    def look(traverser: Any, _started: int | None) -> None:
        translator = Translator(traverser, ENGINE)
        translator.translate_ir()
        found.update(str(error) for error in translator.errors)

    # Polars asks this in place of the engine, and then runs the plan itself.
    plan.collect(engine=ENGINE, post_opt_callback=look)  # type: ignore[call-overload]
    telling = {error for error in found if _FOLLOWS not in error} or found
    return tuple(sorted({*map(_readable, telling), *computed_otherwise(plan)}))


def find(cases: list[Case]) -> dict[tuple[str, str, str, str], tuple[str, ...]]:
    """Each case's refusals."""
    return {case.key: refusals(case.plan()) for case in cases}


def main() -> None:
    """Compare the page with what the translator says, or write it."""
    begun = time.perf_counter()
    with TemporaryDirectory(prefix="headwater-gpu-") as tmp:
        cases = list(all_cases(Path(tmp)))
        found = find(cases)
    versions = f"cudf-polars {version('cudf-polars-cu12')} and Polars {version('polars')}"
    made = render(cases, found, versions)
    for section in SECTIONS:
        inside = [found[case.key] for case in cases if case.section == section]
        back = sum(map(bool, inside))
        print(f"{section:<12}{len(inside):>4} plans, {len(inside) - back} GPU, {back} fall back")
    print(f"{versions}; {time.perf_counter() - begun:.1f} s")
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(made, "utf-8")
        print(f"wrote {PAGE}")
        return
    said = PAGE.read_text("utf-8") if PAGE.exists() else ""
    if said == made:
        print("docs/gpu.md says the same")
        return
    lines = list(differences(parse(said), found)) or ["the same plans, and another text"]
    print("\n".join(lines[:SHOWN]))
    if len(lines) > SHOWN:
        print(f"and {len(lines) - SHOWN} more")
    sys.exit("docs/gpu.md is not what the translator says\n  -> make docs-gpu, and read the diff")


def _readable(error: str) -> str:
    """The engine's words, in one line, with names for its numbers."""
    named = _TEMPORAL.sub(lambda found: str(TemporalFunction.Name(int(found[0])).name), error)
    return " ".join(_CLASS.sub(r"\1", named).split())


if __name__ == "__main__":
    main()
