"""docs/gpu.md names every step, function and job, and the comparison of engines can fail."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from tests.gpu.cases import PHASES, Case
from tests.gpu.catalog import all_cases
from tests.gpu.engines import Engine, failures, require_same
from tests.gpu.page import PAGE, differences, parse, render
from tests.gpu.step_cases import variants

from headwater.tasks.aggregates.plan import AggregateFunction
from headwater.tasks.steps.catalog import KINDS

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
TEXT = PAGE.read_text("utf-8")
SAID = parse(TEXT)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return list(all_cases(tmp_path_factory.mktemp("plans")))


def test_every_kind_of_step_has_its_example_among_the_plans(cases: list[Case]) -> None:
    examples = {c.subject for c in cases if c.section == "steps" and c.variant == "example"}
    assert examples == set(KINDS)
    assert set(variants()) == set(KINDS)


def test_every_aggregate_function_has_its_three_plans(cases: list[Case]) -> None:
    found = {(c.subject, c.phase) for c in cases if c.section == "aggregates"}
    assert found == {(str(f), phase) for f in AggregateFunction for phase in PHASES}


def test_every_plan_is_on_the_page_and_no_other(cases: list[Case]) -> None:
    keys = [case.key for case in cases]
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(SAID), "run: make docs-gpu"


@pytest.mark.parametrize("name", [*KINDS, *AggregateFunction])
def test_the_page_has_a_row_for(name: str) -> None:
    assert re.search(rf"^\| {name}(: partial)? \|", TEXT, re.MULTILINE)


def test_the_page_was_made_with_the_locked_polars() -> None:
    locked = re.search(r"^polars==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert f"Polars {locked[1]}." in TEXT


def test_a_page_says_what_it_was_made_from(cases: list[Case]) -> None:
    findings = {case.key: ("a | b", "c") if "k" in case.subject else () for case in cases}
    assert parse(render(cases, findings, "X 1")) == findings


def test_differences_name_each_plan() -> None:
    page = {("steps", "sort", "example", ""): (), ("steps", "gone", "example", ""): ()}
    found = {("steps", "sort", "example", ""): ("Sort",), ("steps", "new", "example", ""): ()}
    assert sorted(differences(page, found)) == [
        "steps / gone / example: on the page, and no such plan any more",
        "steps / new / example: not on the page; found: GPU",
        "steps / sort / example: the page says GPU; found: CPU (Sort)",
    ]


# --- the comparison --------------------------------------------------------------------------

FRAME = pl.DataFrame(
    {
        "text": ["é", "", None],
        "number": [1.5, math.nan, None],
        "price": pl.Series([Decimal("1.20"), None, Decimal("-3.00")], dtype=pl.Decimal(12, 2)),
        "large": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64()),
        "at": pl.Series([0, None, 10**15]).cast(pl.Datetime("us", "UTC")),
        "list": [[1, None], [], None],
    }
)
SAME = Case("steps", "select", "all", FRAME.lazy)


def engine(change: Callable[[pl.DataFrame], pl.DataFrame], fallbacks: int = 0) -> Engine:
    """An engine that gives another result."""
    return lambda plan: (change(plan.collect()), fallbacks)


WRONG: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "a row is lost": lambda f: f.head(2),
    "a row comes twice": lambda f: pl.concat([f, f.head(1)]),
    "null for NaN": lambda f: f.with_columns(pl.col("number").fill_nan(None)),
    "NaN for null": lambda f: f.with_columns(pl.col("number").fill_null(math.nan)),
    "text for null": lambda f: f.with_columns(pl.col("text").fill_null("")),
    "another letter": lambda f: f.with_columns(pl.col("text").str.replace("é", "e")),
    "a float next to it": lambda f: f.with_columns(pl.col("number") * (1 + 1e-9)),
    "one cent": lambda f: f.with_columns(
        (pl.col("price") + Decimal("0.01")).cast(pl.Decimal(12, 2))
    ),
    "another scale": lambda f: f.with_columns(pl.col("price").cast(pl.Decimal(12, 3))),
    "one less of 2^64": lambda f: f.with_columns(
        pl.when(pl.col("large") > 0).then(pl.col("large") - 1).otherwise(pl.col("large"))
    ),
    "another width": lambda f: f.with_columns(pl.col("number").cast(pl.Float32)),
    "no zone": lambda f: f.with_columns(pl.col("at").dt.replace_time_zone(None)),
    "another zone": lambda f: f.with_columns(pl.col("at").dt.convert_time_zone("Asia/Kolkata")),
    "an empty list for none": lambda f: f.with_columns(pl.col("list").fill_null([])),
    "columns in another order": lambda f: f.select(reversed(f.columns)),
}


def test_an_engine_that_gives_the_same_passes_in_any_order_of_rows() -> None:
    require_same(SAME, engine(lambda frame: frame), fallbacks=0)
    require_same(SAME, engine(lambda frame: frame.reverse()), fallbacks=0)


@pytest.mark.parametrize("what", WRONG)
def test_an_engine_that_gives_something_else_fails(what: str) -> None:
    with pytest.raises(AssertionError):
        require_same(SAME, engine(WRONG[what]), fallbacks=0)


def test_the_order_counts_where_it_is_part_of_the_result() -> None:
    ordered = Case("steps", "sort", "all", FRAME.lazy, is_ordered=True)
    with pytest.raises(AssertionError):
        require_same(ordered, engine(lambda frame: frame.reverse()), fallbacks=0)


@pytest.mark.parametrize(("left", "foretold"), [(0, 1), (1, 0), (2, 1)])
def test_another_number_of_fallbacks_fails(left: int, foretold: int) -> None:
    with pytest.raises(AssertionError, match=f"{left} fallbacks, where {foretold} are foretold"):
        require_same(SAME, engine(lambda frame: frame, left), fallbacks=foretold)


def test_every_failure_is_told_and_none_hides_another() -> None:
    def broken(plan: pl.LazyFrame) -> tuple[pl.DataFrame, int]:
        raise RuntimeError("out of memory")

    other = Case("steps", "sort", "example", FRAME.lazy)
    told = failures([SAME, other], broken, foretold=lambda _: 0)
    assert told.splitlines() == [
        "steps / select / all: RuntimeError: out of memory",
        "steps / sort / example: RuntimeError: out of memory",
    ]
