"""Results do not depend on how an input is cut, and they are those of DuckDB."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from tests.contract.cut_catalogue import BY, JOBS
from tests.contract.cut_data import DATA, SIDES, CutJob
from tests.contract.cut_generated import Example, examples
from tests.contract.cuts import MANY, ODD, ONE, Workbench

from headwater.infra import clusters
from headwater.infra.models import Candidate, Device, Plan

ROUNDING = 1e-11
"""What floats of functions that are not exact may differ by between two cuts, relative to their
size or to 1."""

ORACLE_ROUNDING = 1e-9
"""The same between us and DuckDB, which adds floats as they come."""

IN_PROCESS = Candidate("local", Device.CPU, False, 1, 2, 2.0)
ON_PROCESSES = Candidate("local", Device.CPU, True, 2, 1, 2.0)


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Workbench]]:
    """A cluster in this process, and one of two worker processes."""
    root = tmp_path_factory.mktemp("cuts")
    with (
        clusters.open(Plan((IN_PROCESS,))) as near,
        clusters.open(Plan((ON_PROCESSES,))) as far,
    ):
        yield {
            "in process": Workbench(near, root / "near", SIDES),
            "on processes": Workbench(far, root / "far", SIDES),
        }


@pytest.fixture(scope="module")
def oracle() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, side in SIDES.items():
            connection.register(name, side.to_arrow())
        yield connection


PASSES = (
    (ONE, "in process"),
    (MANY, "in process"),
    (ODD, "in process"),
    (MANY, "on processes"),
)


AGGREGATES_AT_LENGTH = frozenset(
    f"aggregate: {functions}, {groups}"
    for functions, here in (
        ("numbers", "null keys"),
        ("special floats and tops", "NaN keys"),
        ("text, times, quantiles and pairs", "two keys"),
    )
    for groups in BY
    if groups not in ("all rows", here)
)
"""Each kind of functions meets each kind of groups in the trials; ``here`` stays."""

NO_ROWS_HERE = ("derive, of no rows", "sort: floats, null first, of no rows")
CHAINS_HERE = ("chain: rows, aggregate, rows, sort", "chain: explode, aggregate, join")


def is_at_length(name: str) -> bool:
    """Whether a job is for the trials: what it shows another one shows too."""
    if name.endswith(", of no rows"):
        return name not in NO_ROWS_HERE
    if name.startswith("chain: "):
        return name not in CHAINS_HERE
    return name in AGGREGATES_AT_LENGTH or name.endswith("in Europe/Berlin")


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job, id=job.name, marks=pytest.mark.trial if is_at_length(job.name) else ())
        for job in JOBS
    ],
)
def test_any_cut_gives_what_duckdb_gives(
    benches: dict[str, Workbench], oracle: duckdb.DuckDBPyConnection, job: CutJob
) -> None:
    frame = DATA[job.data]()
    outcomes = {
        f"{cut.name}, {where}": benches[where].run(job.steps, frame, cut) for cut, where in PASSES
    }

    if job.refused:
        for said, outcome in outcomes.items():
            assert outcome.refusal is not None, said
            assert re.search(job.refused, str(outcome.refusal), re.DOTALL), said
        assert len({type(o.refusal) for o in outcomes.values()}) == 1
        return
    first, *others = outcomes.items()
    for said, outcome in others:
        assert_same(first[1].frame, outcome.frame, job, exact=True, said=said)
    if job.sql:
        expected = of_duckdb(oracle, job.sql, frame)
        assert_same(first[1].frame, expected, job, exact=False, said="DuckDB")


GENERATED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def test_generated_jobs_do_not_depend_on_the_cut(
    benches: dict[str, Workbench], oracle: duckdb.DuckDBPyConnection
) -> None:
    check_generated(benches, oracle, 40, always_the_same=True)


@pytest.mark.trial
def test_many_generated_jobs_do_not_depend_on_the_cut(
    benches: dict[str, Workbench], oracle: duckdb.DuckDBPyConnection
) -> None:
    check_generated(benches, oracle, 1500, always_the_same=False)


def check_generated(
    benches: dict[str, Workbench],
    oracle: duckdb.DuckDBPyConnection,
    number: int,
    *,
    always_the_same: bool,
) -> None:
    bench = benches["in process"]

    @settings(GENERATED, max_examples=number, derandomize=always_the_same, database=None)
    @given(example=examples())
    def check(example: Example) -> None:
        job = example.job
        assume(job.steps)
        whole, cut = (bench.run(job.steps, example.frame, c) for c in (ONE, example.cut))
        assert_same(whole.frame, cut.frame, job, exact=True, said=str(example.cut))
        if job.sql:
            expected = of_duckdb(oracle, job.sql, example.frame)
            assert_same(whole.frame, expected, job, exact=False, said=f"DuckDB: {job.sql}")

    check()


def of_duckdb(oracle: duckdb.DuckDBPyConnection, sql: str, frame: pl.DataFrame) -> pl.DataFrame:
    oracle.register("source", frame.to_arrow())
    return pl.DataFrame(oracle.sql(sql).to_arrow_table())


def assert_same(
    left: pl.DataFrame, right: pl.DataFrame, job: CutJob, *, exact: bool, said: str
) -> None:
    """Equal types and rows; DuckDB does not say which of two equal zeros it keeps."""
    assert left.schema == right.schema, said
    near = cs.by_name(*job.rounded)
    ours, theirs = (in_order(f.select(~near), f.select(near), job) for f in (left, right))
    if not exact:
        ours, theirs = with_one_zero(ours), with_one_zero(theirs)
    ours_exact, theirs_exact = ([repr(row) for row, _ in rows] for rows in (ours, theirs))
    assert Counter(ours_exact) == Counter(theirs_exact), said
    assert ours_exact == theirs_exact, said
    tolerance = ROUNDING if exact else ORACLE_ROUNDING
    for (_, mine), (row, other) in zip(ours, theirs, strict=True):
        for name, x, y in zip(job.rounded, mine, other, strict=True):
            assert is_near(x, y, tolerance), f"{said}: {name} of {row} is {x!r}, not {y!r}"


def in_order(
    exact: pl.DataFrame, rounded: pl.DataFrame, job: CutJob
) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Rows with their rounded values apart, in an order of their own unless the job gives one."""
    near = rounded.rows() or [()] * exact.height
    rows = list(zip(exact.rows(), near, strict=True))
    return rows if job.ordered else sorted(rows, key=lambda row: repr(with_one_zero(row[0])))


def is_near(x: float | None, y: float | None, tolerance: float) -> bool:
    if x is None or y is None or math.isnan(x) or math.isnan(y):
        return repr(x) == repr(y)
    return math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance)


def with_one_zero(value: Any) -> Any:
    match value:
        case float():
            return value or 0.0
        case list() | tuple():
            return [with_one_zero(one) for one in value]
        case dict():
            return {name: with_one_zero(one) for name, one in value.items()}
        case _:
            return value
