"""Steps on columns: what is refused before anything starts, the stages, and expressions."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import warnings

import duckdb
import polars as pl
import pytest
from tests.unit.steps_helpers import applied, compiled

from headwater.infra.errors import InvalidRequest, ScopeViolation, UnknownName, ValueLost
from headwater.infra.models import StepsText
from headwater.tasks.scope import placeholder, row_scope_violations
from headwater.tasks.steps.base import Scope
from headwater.tasks.steps.catalog import KINDS
from headwater.tasks.steps.compile import compile_steps, require_unique_keys, resolve, scope_of
from headwater.tasks.steps.dialect import DIFFERENCES, MISSING
from headwater.tasks.steps.examples import example_of
from headwater.tasks.steps.files import parse_steps
from headwater.tasks.steps.job import steps_job

pytestmark = pytest.mark.unit

SCHEMA = pl.Schema({"origin": pl.String(), "dep_delay": pl.Int64(), "at": pl.Datetime("us")})


@pytest.mark.parametrize(
    ("body", "said", "hint"),
    [
        (
            'kind = "select"\ncolumns = ["dep_dely"]',
            "step 1 (select, line 2 of x.toml): no column 'dep_dely'",
            "did you mean 'dep_delay'?",
        ),
        (
            'kind = "filter"\nname = "late"\nwhere = "dep_dly > 15"',
            "step 1 (filter 'late', line 2 of x.toml): no column 'dep_dly' in 'dep_dly > 15'",
            "did you mean 'dep_delay'?",
        ),
        (
            'kind = "drop"\ncolumns = ["at"]\n[[steps]]\nkind = "select"\ncolumns = ["at"]',
            "step 2 (select, line 5 of x.toml): no column 'at'",
            "known: dep_delay, origin",
        ),
        (
            'kind = "derive"\ncolumns = { at = "dep_delay" }',
            "step 1 (derive, line 2 of x.toml): there would be two columns 'at'",
            "set overwrite = true",
        ),
        (
            'kind = "rename"\ncolumns = { origin = "at" }',
            "step 1 (rename, line 2 of x.toml): there would be two columns 'at'",
            "choose another name",
        ),
        (
            'kind = "rename"\ncolumns = { origin = "x", at = "x" }',
            "step 1 (rename, line 2 of x.toml): there would be two columns 'x'",
            "choose another name",
        ),
        (
            'kind = "select"\ncolumns = ["at", "at"]',
            "step 1 (select, line 2 of x.toml): column 'at' is named twice",
            "once",
        ),
        (
            'kind = "drop"\ncolumns = ["at", "origin", "dep_delay"]',
            "step 1 (drop, line 2 of x.toml): no column would be left",
            "",
        ),
        (
            'kind = "filter"\nwhere = "dep_delay + 1"',
            "step 1 (filter, line 2 of x.toml): the condition 'dep_delay + 1' is Int64",
            "",
        ),
        (
            'kind = "derive"\ncolumns = { x = "origin + 1" }',
            "step 1 (derive, line 2 of x.toml): 'origin + 1' is no expression here",
            "mend",
        ),
        (
            'kind = "derive"\ncolumns = { x = "dep_delay IN (SELECT 1)" }',
            "step 1 (derive, line 2 of x.toml): 'dep_delay IN (SELECT 1)' holds a query",
            "use the step join",
        ),
        (
            'kind = "derive"\ncolumns = { x = "COLUMNS(\'o.*\')" }',
            "step 1 (derive, line 2 of x.toml): 'COLUMNS('o.*')' gives several columns",
            "",
        ),
        (
            'kind = "filter"\nwhere = "at > DATE \'2024-02-30\'"',
            "step 1 (filter, line 2 of x.toml): 'at > DATE '2024-02-30'' is no expression here",
            "mend",
        ),
        (
            'kind = "filter"\nwhere = "at + INTERVAL \'1 foo\' > at"',
            "step 1 (filter, line 2 of x.toml): 'at + INTERVAL '1 foo' > at' is no expression",
            "write INTERVAL '1 hour'",
        ),
        (
            'kind = "explode"\ncolumns = ["origin"]',
            "step 1 (explode, line 2 of x.toml): column 'origin' is String, where List or Array",
            "only lists",
        ),
        (
            'kind = "deduplicate"\ncolumns = ["origin"]',
            "step 1 (deduplicate, line 2 of x.toml): which of several rows stays is not told",
            "order_by",
        ),
        (
            'kind = "aggregate"\nby = ["origin"]\n'
            'aggs = [{ name = "x", function = "sum", column = "at" }]',
            "step 1 (aggregate, line 2 of x.toml): aggregate 'x': sum cannot take 'at'",
            "",
        ),
        (
            'kind = "partition"\ncolumns = ["origin"]\n'
            '[[steps]]\nkind = "drop"\ncolumns = ["origin"]',
            "step 1 (partition, line 2 of x.toml): no column 'origin' in the result",
            "",
        ),
        (
            'kind = "partition"\ncolumns = ["origin"]\n'
            '[[steps]]\nkind = "partition"\ncolumns = ["at"]',
            "step 2 (partition, line 5 of x.toml): the target is partitioned already, by step 1",
            "",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_step_and_column(body: str, said: str, hint: str) -> None:
    with pytest.raises(InvalidRequest if "aggregate" not in body else Exception) as refused:
        compiled(body, SCHEMA)
    assert str(refused.value).startswith(said)
    assert hint in str(refused.value)


def test_dates_are_found_outside_of_quotes_only() -> None:
    frame = pl.DataFrame(
        {"DATE 'x'": ["y", "z"], "at": [dt.date(2024, 1, 31), dt.date(2024, 2, 1)]}
    )
    sql = "CASE WHEN at = date  '2024-01-31' THEN 'a DATE ''x''' ELSE \"DATE 'x'\" END"
    body = f'kind = "derive"\n[steps.columns]\nnew = {json.dumps(sql)}'
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert applied(body, frame)["new"].to_list() == ["a DATE 'x'", "z"]
    assert warned == []


def test_derive_overwrites_when_told() -> None:
    body = 'kind = "derive"\noverwrite = true\ncolumns = { at = "dep_delay", x = "at" }'
    assert compiled(body, SCHEMA).schema == {
        "origin": pl.String(),
        "dep_delay": pl.Int64(),
        "at": pl.Int64(),
        "x": pl.Datetime("us"),  # of the column that came in
    }


@pytest.mark.parametrize(
    ("sql", "node", "declared"),
    [
        ("dep_delay > AVG(dep_delay)", "mean", '@job(scope="whole")'),
        ("LAG(dep_delay) OVER (ORDER BY at) > 1", "over", '@job(scope="whole")'),
        ("ROW_NUMBER() OVER (ORDER BY at) = 1", "over", '@job(scope="whole")'),
        (
            "SUM(dep_delay) OVER (PARTITION BY origin) > 5",
            "over",
            '@job(scope="key", keys=["origin"])',
        ),
        ("dep_delay > 1 AND COUNT(*) > 3", "len", '@job(scope="whole")'),
    ],
)
def test_a_filter_that_looks_across_rows_is_refused_by_name(
    sql: str, node: str, declared: str
) -> None:
    with pytest.raises(ScopeViolation) as refused:
        compiled(f'kind = "filter"\nwhere = "{sql}"', SCHEMA)
    assert refused.value.message.startswith("step 1 (filter, line 2 of x.toml): ")
    assert f"  - {node}: " in refused.value.message
    assert "the steps aggregate, top or deduplicate" in refused.value.hint
    assert declared in refused.value.hint


@pytest.mark.parametrize(
    ("sql", "step"), [("UNNEST(l) > 1", "explode"), ("TIMESTAMP(s) > TIMESTAMP(s)", "parse")]
)
def test_what_another_step_does_is_said(sql: str, step: str) -> None:
    schema = pl.Schema({"l": pl.List(pl.Int64()), "s": pl.String()})
    with pytest.raises(ScopeViolation) as refused:
        compiled(f'kind = "filter"\nwhere = "{sql}"', schema)
    assert refused.value.hint == f"use the step {step}"


def test_stages_join_neighbours_that_look_at_one_row() -> None:
    body = """kind = "filter"
where = "dep_delay > 0"
[[steps]]
kind = "derive"
columns = { x = "dep_delay * 2" }
[[steps]]
kind = "deduplicate"
columns = ["origin"]
order_by = ["x"]
[[steps]]
kind = "aggregate"
by = ["origin", "at"]
aggs = [{ name = "n", function = "count" }]
[[steps]]
kind = "drop"
columns = ["at"]
[[steps]]
kind = "deduplicate"
[[steps]]
kind = "sort"
order_by = ["n"]"""
    file = parse_steps(f"version = 1\n[[steps]]\n{body}", "x.toml")
    stages = scope_of(file.steps, SCHEMA, {})
    assert [(s.scope, [p.numbered.number for p in s.steps]) for s in stages] == [
        (Scope("rows"), [1, 2]),
        (Scope("key", ("origin",)), [3]),
        (Scope("key", ("origin", "at")), [4]),
        (Scope("rows"), [5]),
        (Scope("key", ("origin", "n")), [6]),
        (Scope("whole"), [7]),
    ]
    assert stages[2].schema == {"origin": pl.String(), "at": pl.Datetime("us"), "n": pl.Int64()}
    assert [p.result.names() for p in resolve(file.steps, SCHEMA, {})][-1] == ["origin", "n"]
    assert pickle.loads(pickle.dumps(stages)) == stages  # noqa: S301 - our own bytes


@pytest.mark.parametrize("kind", [k for k, m in KINDS.items() if m.SCOPE == "rows"])
def test_plans_of_row_steps_pass_the_scope_check_of_functions(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    example = example_of(KINDS[kind])
    source, file = example.source.frame(), example.file(kind)
    folder = tmp_path_factory.mktemp(kind)
    main = folder / "main.parquet"
    paths = {name: folder / f"{name}.parquet" for name in example.sides}
    sides = {n: placeholder(paths[n], t.frame().schema) for n, t in example.sides.items()}
    schemas = {name: side.collect_schema() for name, side in sides.items()}
    plan = placeholder(main, source.schema)
    for stage in compile_steps(file.steps, source.schema, schemas).stages:
        assert stage.scope.kind == "rows"
        plan = stage.apply(plan, sides)
    assert row_scope_violations(plan, main, list(paths.values())) == ()


def test_lost_values_are_found_behind_other_steps_and_over_several_frames() -> None:
    body = """kind = "filter"
where = "a <> 'skip'"
[[steps]]
kind = "rename"
columns = { a = "b" }
[[steps]]
kind = "cast"
name = "numbers"
columns = { b = "Int64" }"""
    frames = [pl.LazyFrame({"a": texts}) for texts in (["1"], ["skip", "x"], ["y", "z"])]
    (stage,) = compiled(body, pl.Schema({"a": pl.String()})).stages
    with pytest.raises(pl.exceptions.PolarsError) as failed:
        stage.apply(pl.concat(frames), {}).collect(engine="streaming")
    lost = stage.explained(failed.value, frames, {}, "part 3")
    assert isinstance(lost, ValueLost)
    assert lost.message == (
        "step 3 (cast 'numbers', line 8 of x.toml): 3 values of 'b' in part 3 cannot become Int64"
        ' unchanged; the first rows:\n  {"b":"x"}'
    )
    assert pickle.loads(pickle.dumps(lost)).hint == lost.hint  # noqa: S301 - our own bytes
    assert stage.explained(ValueError("another"), frames, {}, "") is None


def test_a_value_that_is_lost_after_an_aggregate_is_looked_for_there() -> None:
    text = (
        'version = 1\n[[steps]]\nkind = "aggregate"\nby = ["k"]\n'
        'aggs = [{ name = "mean", function = "mean", column = "v" }]\n'
        '[[steps]]\nkind = "cast"\ncolumns = { mean = "Int64" }\n'
    )
    job, _ = steps_job(StepsText("x.toml", text))
    frames = [
        pl.LazyFrame({"k": ["a", "b"], "v": [1, 2]}),
        pl.LazyFrame({"k": ["a", "b"], "v": [3, 3]}),
    ]
    with pytest.raises(pl.exceptions.PolarsError) as failed:
        job.load()(pl.concat(frames)).collect()

    lost = job.explained(failed.value, frames, {}, "part 0")

    assert isinstance(lost, ValueLost)
    assert lost.message == (
        "step 2 (cast, line 6 of x.toml): 1 value of 'mean' in part 0 cannot become Int64"
        ' unchanged; the first rows:\n  {"mean":"2.5","k":"b"}'
    )


def test_a_step_after_the_lossy_one_may_filter_by_it() -> None:
    body = 'kind = "cast"\ncolumns = { a = "Int64" }\n[[steps]]\nkind = "filter"\nwhere = "a > 1"'
    with pytest.raises(ValueLost, match="1 value of 'a' cannot become Int64"):
        applied(body, pl.DataFrame({"a": ["1", "2", "x"]}))


def test_a_side_table_that_would_multiply_rows_is_refused_with_its_keys() -> None:
    side = pl.DataFrame({"k": [1, 2, 2, None, None, *[3] * 3], "v": range(8)})

    def check(keys: str) -> None:
        body = f'version = 1\n[[steps]]\nkind = "join"\nside = "s"\non = ["k"]\n{keys}'
        require_unique_keys(parse_steps(body, "x.toml").steps, {"s": side.lazy()})

    with pytest.raises(ValueLost) as refused:
        check('how = "left"')
    assert refused.value.message == (
        "step 1 (join, line 2 of x.toml): the side table 's' has keys that come more than once, so"
        " the join would multiply rows: k=2 (2 times); k=3 (3 times)"
    )
    check('multiplies = "allow"')
    check('how = "semi"')


ROW = pl.DataFrame(
    {
        "n": [-7],
        "zero": [0],
        "x": [1.5],
        "half": [2.5],
        "big": [2**63 - 1],
        "nan": [float("nan")],
        "s": ["a"],
    }
).with_columns(day=pl.date(2024, 1, 31), t=pl.datetime(2024, 1, 31))


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda d: d.expression)
def test_documented_differences_from_duckdb_are_what_they_are(difference: object) -> None:
    sql = difference.expression  # type: ignore[attr-defined]
    here = ROW.select(pl.sql_expr(sql).alias("value")).item()
    with duckdb.connect() as oracle:
        oracle.register("source", ROW.to_arrow())
        try:
            fetched = oracle.execute(f"SELECT {sql} FROM source").fetchone()  # noqa: S608
            there = str(fetched[0]) if fetched else "nothing"
        except duckdb.Error:
            there = "an error"
    expected = (difference.here, difference.duckdb)  # type: ignore[attr-defined]
    assert ("null" if here is None else str(here), there) == expected


@pytest.mark.parametrize("sql", MISSING)
def test_missing_functions_are_refused_with_what_takes_their_place(sql: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        compiled(f'kind = "derive"\ncolumns = {{ new = "{sql}" }}', ROW.schema)
    instead = MISSING[sql].split("`")[1].partition("(")[0].partition(" ")[0]
    assert instead in refused.value.hint


def test_unknown_step_columns_are_unknown_names() -> None:
    with pytest.raises(UnknownName):
        compiled('kind = "drop"\ncolumns = ["nope"]', SCHEMA)
