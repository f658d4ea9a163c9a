"""Steps of scope rows give the same rows for any cut of their input, and DuckDB's rows."""

from __future__ import annotations

import datetime as dt
import math
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.steps_helpers import compiled

from headwater.tasks.steps.loss import lost_at

pytestmark = pytest.mark.unit

SCHEMA = pl.Schema(
    {
        "k": pl.Int64(),
        "u": pl.UInt64(),
        "f": pl.Float64(),
        "s": pl.String(),
        "d": pl.Decimal(12, 2),
        "t": pl.Datetime("us"),
        "z": pl.Datetime("us", "UTC"),
        "l": pl.List(pl.Int64()),
    }
)
SIDE = pl.DataFrame({"k": [0, 1, 2, None], "v": ["a", "b", None, "d"]})

STEPS = {
    "filter": 'kind = "filter"\nwhere = "k > 1 OR f > 0.5 OR s LIKE \'a%\'"',
    "derive": 'kind = \'derive\'\noverwrite = true\n[steps.columns]\nk = "k % 3"\nnew = "f * 2"',
    "cast": 'kind = "cast"\non_loss = "null"\n'
    'columns = { f = "Int64", u = "Int64", s = "Float64" }',
    "decimal": 'kind = "cast"\ncolumns = { d = "Decimal(5, 1)" }\non_loss = "null"',
    "fill": 'kind = "fill"\ncolumns = ["f"]\nmissing = "both"\nvalue = -1.0',
    "parse": 'kind = "parse"\ncolumns = ["s"]\nto = "Date"\non_loss = "null"\n'
    'formats = ["%Y-%m-%d"]',
    "to_utc": 'kind = "to_utc"\ncolumns = ["t"]\nzone = "America/New_York"\n'
    'ambiguous = "latest"\nnon_existent = "null"',
    "zones": 'kind = "to_utc"\ncolumns = ["t"]\nzone_column = "s"\nzones = ["Asia/Kolkata"]\n'
    'ambiguous = "latest"\nnon_existent = "null"',
    "truncate": 'kind = "truncate"\ncolumns = { z = "day" }\nevery = "1d"\n'
    'zone = "America/New_York"\nas_date = true',
    "replace": 'kind = "replace"\ncolumns = ["s"]\nmatch = "regex"\n'
    'find = "[0-9]+"\nreplacement = "#"',
    "explode": 'kind = "explode"\ncolumns = ["l"]',
    "join": 'kind = "join"\nside = "side"\non = ["k"]\nhow = "left"\nmultiplies = "refuse"',
    "semi": 'kind = "join"\nside = "side"\non = ["k"]\nhow = "anti"',
    "sample": 'kind = "sample"\nfraction = 0.5\nkey = ["k", "s"]',
    "rename": 'kind = "rename"\ncolumns = { k = "l", l = "k" }',
    "select": 'kind = "select"\ncolumns = ["s", "k", "f", "t", "z", "u", "d", "l"]',
}

INSTANTS = st.datetimes(dt.datetime(2024, 3, 8), dt.datetime(2024, 3, 12)) | st.datetimes(
    dt.datetime(2024, 11, 1), dt.datetime(2024, 11, 5)
)
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.sampled_from([0, 7, 2**53 + 1, 2**63, 2**64 - 1]),
        st.none() | st.sampled_from([math.nan, math.inf, -math.inf, 0.5, -0.0, 1.0, 2**63 * 1.0]),
        st.none() | st.sampled_from(["", "a1", "7", "1e3", "2024-02-29", "2024-02-30", "NaN", "é"]),
        st.none() | st.decimals(-999, 999, places=2),
        st.none() | INSTANTS,
        st.none() | INSTANTS.map(lambda t: t.replace(tzinfo=dt.UTC)),
        st.none() | st.lists(st.none() | st.integers(0, 2), max_size=3),
    ),
    max_size=12,
)


def counted(frame: pl.DataFrame) -> Counter[str]:
    """The multiset of rows; the text of a row tells NaN, null and -0.0 apart."""
    return Counter(repr(row) for row in frame.rows())


@settings(max_examples=150, deadline=None)
@given(
    rows=ROWS,
    names=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4, unique=True),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_one_part_and_many_parts_give_the_same_rows(
    rows: list[tuple[object, ...]], names: list[str], cuts: list[int]
) -> None:
    body = "\n[[steps]]\n".join(STEPS[name] for name in names)
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    try:
        compiled_steps = compiled(body, SCHEMA, {"side": SIDE})
    except Exception:  # noqa: BLE001 - steps that do not fit together are refused, and not run
        return
    sides = {"side": SIDE.lazy()}

    def run(part: pl.DataFrame) -> pl.DataFrame | None:
        """The rows; nothing where the steps refuse to lose a value."""
        result = part.lazy()
        for stage in compiled_steps.stages:
            result = stage.apply(result, sides)
        try:
            return result.collect(engine="streaming")
        except pl.exceptions.PolarsError as exc:
            assert lost_at(exc) is not None  # noqa: PT017 - nothing else may go wrong
            return None

    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [frame[a:b] for a, b in pairwise(edges)] or [frame]
    whole, cut = run(frame), [run(part) for part in parts]
    done = [part for part in cut if part is not None]
    if whole is None:
        assert len(done) < len(cut)
    else:
        assert whole.schema == compiled_steps.schema
        assert len(done) == len(cut)
        assert counted(whole) == counted(pl.concat(done))


def test_most_generated_lists_of_steps_fit_together() -> None:
    fitting = 0
    for first in STEPS:
        for second in STEPS:
            try:
                compiled(f"{STEPS[first]}\n[[steps]]\n{STEPS[second]}", SCHEMA, {"side": SIDE})
                fitting += first != second
            except Exception:  # noqa: BLE001, S110 - counted by what is left
                pass
    assert fitting > 150


TOGETHER = {
    "deduplicate": 'kind = "deduplicate"\ncolumns = ["k"]\norder_by = ["f", "s"]',
    "last": 'kind = "deduplicate"\ncolumns = ["k", "s"]\norder_by = ["t"]\nkeep = "last"',
    "rows": 'kind = "deduplicate"',
    "top": 'kind = "top"\nn = 2\norder_by = ["f"]\ndescending = ["f"]\nper = ["k"]',
    "aggregate": 'kind = "aggregate"\nby = ["k", "f"]\n'
    'aggs = [{ name = "n", function = "count" }, { name = "u", function = "sum", column = "u" }]',
}
WHOLE = {
    "sort": 'kind = "sort"\norder_by = ["f", "k"]\ndescending = ["k"]\nnulls = "last"',
    "top": 'kind = "top"\nn = 3\norder_by = ["s"]',
    "rows": 'kind = "deduplicate"',
}
PLAIN = SCHEMA.names()[:-1]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, name=st.sampled_from(sorted(TOGETHER)), parts=st.integers(1, 4))
def test_keys_that_lie_in_one_part_give_the_rows_of_the_whole(
    rows: list[tuple[object, ...]], name: str, parts: int
) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").select(PLAIN)
    (stage,) = compiled(TOGETHER[name], frame.schema).stages
    assert stage.scope.kind == "key"
    # A group's first row names its part: null, NaN and both zeros are keys as groups have them.
    position = pl.int_range(pl.len()).first().over(stage.scope.keys)
    split = frame.with_columns(part=position % parts).partition_by("part", include_key=False)
    whole = stage.apply(frame.lazy(), {}).collect()
    cut = [stage.apply(part.lazy(), {}).collect() for part in split]
    assert whole.schema == stage.schema
    # Which of two zeros stands for a group is not said.
    assert counted(zeroed(whole, name)) == counted(zeroed(pl.concat([whole.clear(), *cut]), name))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, name=st.sampled_from(sorted(WHOLE)), seed=st.randoms())
def test_whole_steps_do_not_depend_on_the_order_of_their_input(
    rows: list[tuple[object, ...]], name: str, seed: random.Random
) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").select(PLAIN)
    shuffled = frame[seed.sample(range(len(rows)), len(rows))]
    (stage,) = compiled(WHOLE[name], frame.schema).stages
    one, other = (stage.apply(f.lazy(), {}).collect() for f in (frame, shuffled))
    if name == "sort":
        assert [repr(row) for row in one.rows()] == [repr(row) for row in other.rows()]
    assert counted(one) == counted(other)


def zeroed(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.with_columns(cs.float() + 0.0) if name == "aggregate" else frame


# --- DuckDB -----------------------------------------------------------------------------------

TABLE = pl.DataFrame(
    {
        "k": [0, 1, 2, 3, None, -7, 1, 2**62],
        "f": [0.5, math.nan, math.inf, -1.5, None, 2.5, -0.0, 1e300],
        "s": ["alpha", "beta", None, "", "a%b", "7", "été", "x"],
        "b": [True, False, None, True, True, False, None, True],
        "d": [None, "1.20", "2.00", "-3.50", "0.10", "9.99", "0.00", "1.20"],
        "t": [dt.datetime(2024, 3, 10, h, 30) for h in range(8)],
    },
    schema_overrides={"k": pl.Int64, "f": pl.Float64},
).with_columns(pl.col("d").cast(pl.Decimal(12, 2)))

SAME = [
    "k + 1 > 2",
    "k IS NULL OR b",
    "NOT b",
    "k IN (1, 2, NULL)",
    "k BETWEEN 1 AND 3",
    "s LIKE 'a%'",
    "s ILIKE 'A%'",
    "f > 0.5",
    "f = f",
    "f IS NOT DISTINCT FROM NULL",
    "d * 2 > 2.39",
    "CASE WHEN k > 1 THEN 'many' WHEN k = 1 THEN 'one' END",
    "COALESCE(s, 'none') || '!'",
    "UPPER(s)",
    "LENGTH(s)",
    "SUBSTR(s, 2, 2)",
    "ABS(k)",
    "k / 2",
    "FLOOR(f)",
    "NULLIF(k, 1)",
    "EXTRACT(hour FROM t)",
    "EXTRACT(isodow FROM t)",
    "t + INTERVAL '1 day'",
    "t > TIMESTAMP '2024-03-10 03:00:00'",
    "t > DATE '2024-03-10'",
    "TRY_CAST(s AS BIGINT)",
    "CAST(k AS DOUBLE)",
    "LEAST(k, 2)",
    "CONCAT(s, '-', k)",
]
MAPPED = [
    ("k // 2", "CAST(floor(k / 2) AS BIGINT)"),
    ("k % 3", "((k % 3) + 3) % 3"),
    (
        "CAST(CASE WHEN f < 9 THEN f END AS BIGINT)",
        "CAST(trunc(CASE WHEN f < 9 THEN f END) AS BIGINT)",
    ),
    ("ROUND(f)", "round_even(f, 0)"),
]
"""An expression, and how DuckDB is told the same."""


def of_duckdb(sql: str) -> pl.DataFrame:
    with duckdb.connect() as oracle:
        oracle.register("source", TABLE.to_arrow())
        oracle.register("side", SIDE.to_arrow())
        return pl.DataFrame(oracle.sql(sql).to_arrow_table())


def of_steps(body: str) -> pl.DataFrame:
    result = TABLE.lazy()
    for stage in compiled(body, TABLE.schema, {"side": SIDE}).stages:
        result = stage.apply(result, {"side": SIDE.lazy()})
    return result.collect()


def same(mine: pl.DataFrame, theirs: pl.DataFrame) -> bool:
    """Equal rows, whatever their order and the width of their numbers."""

    def plain(value: object) -> object:
        if isinstance(value, float) and math.isnan(value):
            return "NaN"
        return value

    def rows(frame: pl.DataFrame) -> list[list[object]]:
        return sorted(([plain(v) for v in row] for row in frame.rows()), key=repr)

    # 1 equals 1.0 here, and its text does not: so the text only orders the rows.
    return rows(mine) == rows(theirs)


@pytest.mark.parametrize(("sql", "oracle"), [*((s, s) for s in SAME), *MAPPED])
def test_derived_columns_are_those_of_duckdb(sql: str, oracle: str) -> None:
    mine = of_steps(f'kind = "derive"\ncolumns = {{ x = """{sql}""" }}').select("t", "x")
    query = f"SELECT t, {oracle} AS x FROM source"  # noqa: S608
    theirs = of_duckdb(query).cast({"t": pl.Datetime("us")})
    both = mine.join(theirs, on="t")
    assert len(both) == len(TABLE)
    assert same(both.select("t", "x"), both.select("t", x="x_right"))


@pytest.mark.parametrize("sql", [s for s in SAME if any(c in s for c in "<>=") or "IN" in s])
def test_filters_keep_the_rows_of_duckdb(sql: str) -> None:
    try:
        mine = of_steps(f'kind = "filter"\nwhere = """{sql}"""').select("t")
    except Exception as exc:  # noqa: BLE001 - not every expression is a condition
        assert "not Boolean" in str(exc)  # noqa: PT017
        return
    theirs = of_duckdb(f"SELECT t FROM source WHERE {sql}")  # noqa: S608
    assert sorted(mine["t"]) == sorted(theirs["t"].cast(pl.Datetime("us")))


@pytest.mark.parametrize(
    ("how", "sql"),
    [
        ("inner", "SELECT t, v FROM source JOIN side USING (k)"),
        ("left", "SELECT t, v FROM source LEFT JOIN side USING (k)"),
        ("semi", "SELECT t, 0 AS v FROM source SEMI JOIN side USING (k)"),
        ("anti", "SELECT t, 0 AS v FROM source ANTI JOIN side USING (k)"),
    ],
)
def test_joins_are_those_of_duckdb(how: str, sql: str) -> None:
    mine = of_steps(f'kind = "join"\nside = "side"\non = ["k"]\nhow = "{how}"')
    if how in ("semi", "anti"):
        mine = mine.with_columns(v=pl.lit(0))
    theirs = of_duckdb(sql).cast({"t": pl.Datetime("us")})
    assert same(mine.select("t", "v"), theirs.select("t", "v"))


def test_a_sample_is_the_same_in_another_process(tmp_path: Path) -> None:
    program = """
import polars as pl
from headwater.tasks.steps.sample import Sample
frame = pl.LazyFrame({"k": list(range(50)), "s": [None, "a"] * 25})
step = Sample(kind="sample", fraction=0.5, key=("k", "s"))
print(step.apply(frame, None, {}).collect(engine="streaming")["k"].to_list())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for threads in ("1", "3")
    }
    assert len(said) == 1
    assert len(said.pop()) > 20
