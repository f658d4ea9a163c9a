"""Does a job look at more rows than its scope has? Judged from its plan, before it starts."""
from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
import polars as pl
from headwater.infra.errors import ScopeViolation
from headwater.tasks import scope_json as form
from headwater.tasks import scope_names as names
from headwater.tasks.scope_rows import RefusedPlan, RowInspector, Violation

def placeholder(path: Path, schema: pl.Schema) -> pl.LazyFrame:
    """A frame of ``schema`` to build a plan on; whoever collects it gets ``FileNotFoundError``.

    A job that collects while its plan is built looks at all rows without a trace in the plan:
    ``lf.filter(col("a") > lf.select(col("a").mean()).collect().item())``. On a file that does
    not exist it fails instead.

    Args:
        path: A path where no file is; ``row_scope_violations`` knows the input by it.
        schema: Columns of the input.
    """
    if path.exists():
        raise ValueError(f"{path} exists, so a job could read it while its plan is built")
    return pl.scan_parquet(path, schema=schema, glob=False)


def row_scope_violations(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path]
) -> tuple[Violation, ...]:
    """What in ``plan`` does not look at one row of ``main`` at a time; empty when it all does.

    Frames made inside the job (``pl.DataFrame(...).lazy()``) count as side tables. A subtree of
    side tables alone may do anything, as each worker holds them whole.

    Args:
        plan: What the job returned; its columns resolve (``collect_schema`` passes).
        main: Path of the Parquet file that stands for the main input.
        sides: Paths of the files that stand for the side tables.
    """
    inspector = RowInspector(main, sides)
    try:
        root = inspector.whole(form.written(plan))
    except form.UnwritablePlan as exc:
        inspector.add("plan", str(exc), names.UNWRITABLE)
    except RefusedPlan as exc:
        inspector.add("plan", str(exc), exc.reason)
    except RecursionError:
        inspector.add("plan", "plan", names.TOO_DEEP)
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        where = f"Polars {pl.__version__}, {type(exc).__name__}: {exc}"
        inspector.add("plan", where, names.UNKNOWN_FORM)
    else:
        if not root.main and not inspector.found:
            inspector.add("plan", "result", names.NO_MAIN)
    return tuple(inspector.found)


def require_row_scope(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], job_name: str
) -> None:
    """Returns when ``plan`` looks at one row at a time.

    Raises:
        ScopeViolation: It does not; the message names each node, the hint says what to do.
    """
    violations = row_scope_violations(plan, main, sides)
    if not violations:
        return
    lines = [f"\n  - {v.node}, in {v.where}: {v.reason}" for v in violations]
    hints = dict.fromkeys(v.hint for v in violations if v.hint)
    raise ScopeViolation(
        f"job {job_name} does not give the same rows for any cut of its input:{''.join(lines)}",
        hint="; ".join(hints),
    )


def require_known_sources(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], job_name: str
) -> None:
    """Returns when a plan over all rows reads its input and side tables and nothing else.

    Raises:
        ScopeViolation: It scans another file, whose version nobody pinned, or not its input.
    """
    wrong = (names.UNPINNED.text, names.NO_MAIN.text)
    violations = [v for v in row_scope_violations(plan, main, sides) if v.reason in wrong]
    if violations:
        lines = [f"\n  - {v.node}, in {v.where}: {v.reason}" for v in violations]
        hints = dict.fromkeys(v.hint for v in violations if v.hint)
        raise ScopeViolation(
            f"job {job_name} does not read what it was given:{''.join(lines)}",
            hint="; ".join(hints),
        )


