"""Does a job look at more rows than its scope has? Judged from its plan, before anything starts.

A part is an accident of size, so a job of scope ``rows`` must give the same rows for any cut of
its input, and one of scope ``key`` for any cut that leaves the rows of a key together. Only what
is known to do so passes; all else is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from headwater.infra.errors import InvalidRequest, ScopeViolation
from headwater.tasks import scope_json as form
from headwater.tasks import scope_names as names
from headwater.tasks.scope_key import KeyInspector
from headwater.tasks.scope_names import declaration
from headwater.tasks.scope_rows import RefusedPlan, RowInspector, Violation

__all__ = [
    "Violation",
    "declaration",
    "key_scope_violations",
    "placeholder",
    "require_key_scope",
    "require_known_sources",
    "require_row_scope",
    "row_scope_violations",
    "suggested_keys",
]


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
    found = _violations(RowInspector(main, sides), plan)
    return _with_declaration(found, plan, main, sides)


def key_scope_violations(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], keys: Sequence[str]
) -> tuple[Violation, ...]:
    """What in ``plan`` looks at rows of other keys, or at the order in which rows come.

    Empty when the plan gives the same rows for any cut of ``main`` that leaves all rows of a key
    in one part, in any order. Null counts as a key, as does NaN. The same rows: floating-point
    sums differ in their last digits where they are added in another order, and the order of the
    result's rows is not looked at.

    Args:
        plan: What the job returned; its columns resolve.
        main: Path of the Parquet file that stands for the main input.
        sides: Paths of the files that stand for the side tables.
        keys: Columns of the main input, at least one.
    Raises:
        UnknownName: A key is no column of the main input.
        InvalidRequest: No key is given.
    """
    if not keys:
        raise InvalidRequest(
            "the scope key is declared without keys", hint=f"write {declaration(['column'])}"
        )
    found = _violations(KeyInspector(main, sides, keys), plan)
    return _with_declaration(found, plan, main, sides)


def require_row_scope(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], job_name: str
) -> None:
    """Returns when ``plan`` looks at one row at a time.

    Raises:
        ScopeViolation: It does not; the message names each node, the hint says what to do.
    """
    _require_none(
        row_scope_violations(plan, main, sides),
        f"job {job_name} does not give the same rows for any cut of its input",
    )


def require_key_scope(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], keys: Sequence[str], job_name: str
) -> None:
    """Returns when ``plan`` looks at the rows of one key at a time, see ``key_scope_violations``.

    Raises:
        ScopeViolation: It does not; the message names each node, the hint says what to do.
        UnknownName: A key is no column of the main input.
        InvalidRequest: No key is given.
    """
    _require_none(
        key_scope_violations(plan, main, sides, keys),
        f"job {job_name} does not give the same rows for any cut of its input that leaves all"
        f" rows of a key ({', '.join(keys)}) together",
    )


def require_known_sources(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], job_name: str
) -> None:
    """Returns when a plan over all rows reads its input and side tables and nothing else.

    Raises:
        ScopeViolation: It scans another file, whose version nobody pinned, or not its input.
    """
    wrong = (names.UNPINNED.text, names.NO_MAIN.text)
    found = _violations(RowInspector(main, sides), plan)
    _require_none(
        [v for v in found if v.reason in wrong], f"job {job_name} does not read what it was given"
    )


def suggested_keys(plan: pl.LazyFrame, main: Path, sides: Collection[Path]) -> tuple[str, ...]:
    """Keys under which the scope ``key`` would allow ``plan``; empty where none would.

    They are the columns of the input that everything in the plan that groups goes by.
    """
    inspector = KeyInspector(main, sides, ())
    _violations(inspector, plan)
    if not inspector.groupings:
        return ()
    keys = sorted(frozenset.intersection(*inspector.groupings))
    if not keys or _violations(KeyInspector(main, sides, keys), plan):
        return ()
    return tuple(keys)


def _violations(inspector: RowInspector, plan: pl.LazyFrame) -> tuple[Violation, ...]:
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


def _with_declaration(
    found: tuple[Violation, ...], plan: pl.LazyFrame, main: Path, sides: Collection[Path]
) -> tuple[Violation, ...]:
    """The violations, with the scope to declare in their hints."""
    if all(v.hint != names.ELSEWHERE for v in found):
        return found
    keys = suggested_keys(plan, main, sides)
    hint = names.elsewhere(keys)
    return tuple(replace(v, hint=hint) if v.hint == names.ELSEWHERE else v for v in found)


def _require_none(violations: Sequence[Violation], otherwise: str) -> None:
    if not violations:
        return
    lines = [f"\n  - {v.node}, in {v.where}: {v.reason}" for v in violations]
    hints = dict.fromkeys(v.hint for v in violations if v.hint)
    raise ScopeViolation(f"{otherwise}:{''.join(lines)}", hint="; ".join(hints))
