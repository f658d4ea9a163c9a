"""Aggregates mean what DuckDB and exact arithmetic say, and do not depend on the cut.

Where DuckDB means something else, its expression is mapped: its sum of nothing is null and not 0,
its NaN is greater than every number and not passed over, and its variance of an infinity is an
error and not NaN.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headwater.infra.errors import InvalidRequest, UnknownName, UnsupportedData
from headwater.tasks.aggregate import aggregate, combine, finalize, partial, state_schema
from headwater.tasks.aggregates.plan import (
    AggregateFunction,
    AggregatePlan,
    Aggregation,
    output_schema,
)

F = AggregateFunction
TIES = {F.FIRST, F.LAST, F.TOP}
ROUNDED = {F.SUM, F.MEAN, F.VARIANCE, F.STANDARD_DEVIATION, F.COVARIANCE}
ROUNDING = 1e-11
AT_ONCE = 15
"""Aggregations of one generated plan."""


def in_parts(frame: pl.DataFrame, plan: AggregatePlan, parts: int, seed: int) -> pl.DataFrame:
    """The result with rows dealt to parts, and states joined in a tree, both at random."""
    dice = random.Random(seed)
    dealt = pl.Series([dice.randrange(parts) for _ in range(frame.height)], dtype=pl.Int64)
    states = [
        partial(frame.filter(dealt == part).lazy(), plan, frame.schema).collect()
        for part in range(parts)
    ]
    dice.shuffle(states)
    while len(states) > 1:
        taken = dice.randint(2, min(9, len(states)))
        states = [*states[taken:], combine(states[:taken], plan, frame.schema).collect()]
    return finalize(combine(states, plan, frame.schema), plan, frame.schema).collect()


def whole(frame: pl.DataFrame, plan: AggregatePlan) -> pl.DataFrame:
    result = aggregate(frame.lazy(), plan, frame.schema).collect()
    assert result.schema == output_schema(plan, frame.schema)
    return result


def one(frame: pl.DataFrame, function: AggregateFunction, **settings: Any) -> Any:
    """One value over all of ``frame``, after a look at other cuts."""
    plan = AggregatePlan((), (Aggregation("it", function, **settings),))
    result = whole(frame, plan)
    assert_same(result, in_parts(frame, plan, 3, 1), plan)
    return result["it"][0]


def assert_same(left: pl.DataFrame, right: pl.DataFrame, plan: AggregatePlan) -> None:
    rounded = [a.name for a in plan.aggregations if a.function in ROUNDED]
    assert_frame_equal(left.drop(rounded), right.drop(rounded), check_exact=True)
    left, right = left.select(rounded), right.select(rounded)
    assert_frame_equal(left, right, rel_tol=ROUNDING, abs_tol=ROUNDING)


# --- every function, every type, every cut ---------------------------------------------------


def everything(columns: Sequence[str], numbers: Sequence[str], order: str) -> list[Aggregation]:
    made = [Aggregation("rows", F.COUNT)]
    for c in columns:
        plain = (F.COUNT, F.MIN, F.MAX, F.DISTINCT, F.APPROX_DISTINCT)
        made += [Aggregation(f"{c}_{f}", f, c) for f in plain]
        made += [Aggregation(f"{c}_{f}", f, c, order=order, n=3) for f in TIES]
        made += [Aggregation(f"{order}_at_{c}", F.LAST, order, order=c)]
    for c in numbers:
        sums = (F.SUM, F.MEAN, F.VARIANCE, F.STANDARD_DEVIATION)
        made += [Aggregation(f"{c}_{f}", f, c) for f in (*sums, F.QUANTILE)]
        made.append(Aggregation(f"{c}_cov", F.COVARIANCE, c, other=order))
        made.append(Aggregation(f"{c}_bins", F.HISTOGRAM, c, edges=(-3.0, 0.0, 2.5)))
    return made


SPECIAL = (0.0, -0.0, 1.5, -2.25, 0.1, 1e9 + 0.1, math.nan, math.inf, -math.inf)
CLOCK_CHANGES = (dt.datetime(2024, 3, 31, 0), dt.datetime(2024, 10, 26, 23))

values: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "key": (pl.String(), st.sampled_from(["a", "b", "", "ü"])),
    "number": (pl.Float64(), st.sampled_from([0.0, -0.0, math.nan, 1.0])),
    "i": (pl.Int64(), st.integers(-(2**40), 2**40) | st.sampled_from([0, 1, 2**53 + 1])),
    "small": (pl.Int8(), st.integers(-128, 127)),
    "u": (pl.UInt64(), st.integers(0, 2**64 - 1) | st.just(2**64 - 1)),
    "f": (pl.Float64(), st.floats(-1e6, 1e6, width=32) | st.sampled_from(SPECIAL)),
    "single": (pl.Float32(), st.floats(-100, 100, width=32)),
    "d": (pl.Decimal(38, 4), st.decimals(-(10**20), 10**20, places=4)),
    "price": (pl.Decimal(9, 2), st.decimals(-1000, 1000, places=2)),
    "flag": (pl.Boolean(), st.booleans()),
    "text": (pl.String(), st.text("xyZ", max_size=2)),
    "blob": (pl.Binary(), st.binary(max_size=2)),
    "day": (pl.Date(), st.dates(dt.date(1600, 1, 1), dt.date(2400, 1, 1))),
    "at": (pl.Datetime("ns"), st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2030, 1, 1))),
    "local": (
        pl.Datetime("us", "UTC"),
        st.sampled_from([at + dt.timedelta(hours=h) for at in CLOCK_CHANGES for h in range(5)]),
    ),
    "took": (pl.Duration("ms"), st.timedeltas(dt.timedelta(-9), dt.timedelta(9))),
    "clock": (pl.Time(), st.times()),
    "level": (pl.Enum(["low", "high"]), st.sampled_from(["low", "high"])),
    "kind": (pl.Categorical(), st.sampled_from(["z", "a", "m"])),
}
NUMBERS = ("i", "small", "u", "f", "single", "d", "price", "flag")


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 25))
    columns = {
        name: pl.Series(draw(st.lists(st.none() | made, min_size=rows, max_size=rows)), dtype=dtype)
        for name, (dtype, made) in values.items()
    }
    frame = pl.DataFrame(columns).with_columns(
        pl.col("local").dt.convert_time_zone("Europe/Berlin")
    )
    return pl.concat([frame, frame.head(3)])  # duplicate rows


@settings(max_examples=15, deadline=None)
@given(
    frames(),
    st.sampled_from([(), ("key",), ("number", "flag"), ("local", "level"), ("kind",), ("d", "u")]),
    st.integers(0, 2**32),
)
def test_no_cut_and_no_tree_changes_a_result(
    frame: pl.DataFrame, by: tuple[str, ...], seed: int
) -> None:
    others = [name for name in frame.columns if name not in by]
    numbers = [name for name in NUMBERS if name in others]
    made = everything(others, numbers, "small")
    plan = AggregatePlan(by, tuple(random.Random(seed).sample(made, AT_ONCE)))

    expected = whole(frame, plan)

    assert partial(frame.lazy(), plan, frame.schema).collect().schema == state_schema(
        plan, frame.schema
    )
    for parts in (1, 2, 7):
        assert_same(expected, in_parts(frame, plan, parts, seed), plan)


def numbers_frame(rows: int, seed: int) -> pl.DataFrame:
    dice = random.Random(seed)
    start = dt.datetime(2024, 3, 31)

    def column(dtype: pl.DataType, make: Callable[[], object]) -> pl.Series:
        made = [None if dice.random() < 0.1 else make() for _ in range(rows)]
        return pl.Series(made, dtype=dtype)

    return pl.DataFrame(
        {
            "key": column(pl.String(), lambda: dice.choice("abc")),
            "team": column(pl.Int16(), lambda: dice.randrange(3)),
            "order": pl.Series(dice.sample(range(10 * rows), rows), dtype=pl.Int64),
            "i": column(pl.Int64(), lambda: dice.randrange(-(2**62), 2**62) >> dice.randrange(50)),
            "u": column(pl.UInt64(), lambda: dice.randrange(2**60)),
            "f": column(pl.Float64(), lambda: dice.gauss(0, 1) * 10 ** dice.randrange(-3, 9)),
            "n": column(pl.Float64(), lambda: dice.choice([math.nan, 1.5, -2.0, 0.25])),
            "d": column(pl.Decimal(12, 2), lambda: Decimal(dice.randrange(-(10**9), 10**9)) / 100),
            "flag": column(pl.Boolean(), lambda: dice.random() < 0.3),
            "text": column(pl.String(), lambda: dice.choice(["x", "y", "", "é"])),
            "seen": column(pl.Datetime("us"), lambda: start + dt.timedelta(minutes=dice.random())),
        }
    )


ORACLE = {
    "rows": (Aggregation("rows", F.COUNT), "count(*)"),
    "texts": (Aggregation("texts", F.COUNT, "text"), "count(text)"),
    "i_sum": (Aggregation("i_sum", F.SUM, "i"), "coalesce(sum(i), 0)::bigint"),
    "u_sum": (Aggregation("u_sum", F.SUM, "u"), "coalesce(sum(u), 0)::decimal(38, 0)"),
    "d_sum": (Aggregation("d_sum", F.SUM, "d"), "coalesce(sum(d), 0)::decimal(38, 2)"),
    "flag_sum": (Aggregation("flag_sum", F.SUM, "flag"), "count(*) filter (flag)"),
    "f_sum": (Aggregation("f_sum", F.SUM, "f"), "coalesce(fsum(f), 0)"),
    "i_mean": (Aggregation("i_mean", F.MEAN, "i"), "sum(i) / count(i)"),
    "d_mean": (Aggregation("d_mean", F.MEAN, "d"), "avg(d)"),
    "f_mean": (Aggregation("f_mean", F.MEAN, "f"), "favg(f)"),
    "share": (Aggregation("share", F.MEAN, "flag"), "avg(flag::int)"),
    "n_min": (
        Aggregation("n_min", F.MIN, "n"),
        "coalesce(min(n) filter (not isnan(n)), min(n))",
    ),
    "n_max": (
        Aggregation("n_max", F.MAX, "n"),
        "coalesce(max(n) filter (not isnan(n)), max(n))",
    ),
    "n_sum": (Aggregation("n_sum", F.SUM, "n"), "coalesce(sum(n), 0)"),
    "seen_min": (Aggregation("seen_min", F.MIN, "seen"), "min(seen)"),
    "text_max": (Aggregation("text_max", F.MAX, "text"), "max(text)"),
    "flag_max": (Aggregation("flag_max", F.MAX, "flag"), "bool_or(flag)"),
    "f_var": (Aggregation("f_var", F.VARIANCE, "f"), "var_samp(f)"),
    "f_std": (Aggregation("f_std", F.STANDARD_DEVIATION, "f", ddof=0), "stddev_pop(f)"),
    "cov": (Aggregation("cov", F.COVARIANCE, "f", other="d"), "covar_samp(f, d)"),
    "first": (Aggregation("first", F.FIRST, "text", order="order"), 'arg_min_null(text, "order")'),
    "last": (Aggregation("last", F.LAST, "seen", order="order"), 'arg_max_null(seen, "order")'),
    "texts_of": (Aggregation("texts_of", F.DISTINCT, "text"), "count(distinct text)"),
    "n_of": (Aggregation("n_of", F.DISTINCT, "n"), "count(distinct n)"),
    "few": (Aggregation("few", F.APPROX_DISTINCT, "i"), "count(distinct i)"),
    "bins": (
        Aggregation("bins", F.HISTOGRAM, "n", edges=(-1.0, 0.25, 1.5)),
        """{
            'below': count(*) filter (n < -1),
            'counts': [
                count(*) filter (n >= -1 and n < 0.25),
                count(*) filter (n >= 0.25 and n < 1.5)
            ],
            'above': count(*) filter (n >= 1.5 and not isnan(n)),
            'nan': count(*) filter (isnan(n))
        }""",
    ),
    "top": (
        Aggregation("top", F.TOP, "d", order="order", n=4),
        """list({'order': "order", 'd': d} order by "order" desc)[:4]""",
    ),
}


@pytest.mark.parametrize("by", [(), ("key",), ("key", "team")], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 500])
def test_results_are_duckdbs(rows: int, by: tuple[str, ...]) -> None:
    frame = numbers_frame(rows, seed=rows)
    plan = AggregatePlan(by, tuple(aggregation for aggregation, _ in ORACLE.values()))
    columns = ", ".join([*by, *(f"{sql} as {name}" for name, (_, sql) in ORACLE.items())])
    grouped = f"group by {', '.join(by)} order by all nulls last" if by else ""

    with duckdb.connect() as oracle:
        query = f"select {columns} from frame {grouped}"  # noqa: S608
        relation = oracle.sql(query)
        assert relation is not None
        expected = relation.pl()

    empty_list = pl.col("top").fill_null([])
    expected = expected.with_columns(empty_list).cast(dict(output_schema(plan, frame.schema)))
    for parts in (1, 2, 7, 40):
        result = in_parts(frame, plan, parts, seed=parts)
        assert_frame_equal(result, expected, rel_tol=1e-9, abs_tol=0)


# --- numbers ---------------------------------------------------------------------------------


def exact_sum(numbers: Sequence[float]) -> float:
    return math.fsum(numbers)


def ulps(value: float, expected: float) -> float:
    return abs(value - expected) / math.ulp(expected)


@pytest.mark.parametrize("parts", [1, 2, 7, 40])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5, 1e9])
def test_a_sum_of_floats_is_exact_to_the_last_place(scale: float, parts: int) -> None:
    dice = random.Random(parts)
    numbers = [dice.random() * scale for _ in range(20_000)]
    plan = AggregatePlan((), (Aggregation("s", F.SUM, "x"), Aggregation("m", F.MEAN, "x")))

    result = in_parts(pl.DataFrame({"x": numbers}), plan, parts, seed=parts)

    assert ulps(result["s"][0], math.fsum(numbers)) <= 1
    assert ulps(result["m"][0], statistics.fmean(numbers)) <= 2


def test_a_sum_of_floats_that_cancel_keeps_the_small_ones() -> None:
    frame = pl.DataFrame({"x": [1e11, 1.0, 2.0**-20, -1e11] * 1000})

    assert one(frame, F.SUM, column="x") == 1000 * (1 + 2.0**-20)


@pytest.mark.parametrize("exact", [True, False])
def test_floats_too_large_for_the_grid_are_added_as_floats(exact: bool) -> None:
    frame = pl.DataFrame({"x": [1e300, 1e12, -1e300, 0.5]})

    plan = AggregatePlan((), (Aggregation("s", F.SUM, "x", exact=exact),))

    assert whole(frame, plan)["s"][0] in (0.5, 0.0, 1e12, 1e12 + 0.5)
    assert one(pl.DataFrame({"x": [1e308, 1e308]}), F.SUM, column="x") == math.inf


@pytest.mark.parametrize("order", [*itertools.permutations([1e308, 1e308, -1e308, 1e-300])])
def test_a_sum_that_comes_back_into_range_is_finite_in_any_order(order: tuple[float, ...]) -> None:
    frame = pl.DataFrame({"x": order})
    plan = AggregatePlan((), (Aggregation("s", F.SUM, "x"), Aggregation("m", F.MEAN, "x")))

    for parts in (1, 2, 4):
        result = in_parts(frame, plan, parts, seed=parts)
        assert result.row(0) == (1e308, 1e308 / 4)


@pytest.mark.parametrize("numbers", [[1e200, 2e200, 3e200], [1e160, 1e160], [-1e150, None, 1.0]])
def test_a_variance_of_numbers_too_large_to_square_is_nan_for_any_cut(
    numbers: list[float | None],
) -> None:
    frame = pl.DataFrame({"x": numbers, "y": numbers[::-1]})
    functions = (F.VARIANCE, F.STANDARD_DEVIATION, F.COVARIANCE)
    plan = AggregatePlan(
        (),
        tuple(Aggregation(f, f, "x", other="y" if f is F.COVARIANCE else None) for f in functions),
    )

    for parts in (1, 2, 3):
        result = in_parts(frame, plan, parts, seed=parts)
        assert all(math.isnan(value) for value in result.row(0))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.0, math.nan], math.nan),
        ([1.0, math.inf], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([None, None], 0.0),
        ([-0.0], 0.0),
    ],
)
def test_nan_and_infinity_in_a_sum(numbers: list[float | None], expected: float) -> None:
    result = one(pl.DataFrame({"x": numbers}, schema={"x": pl.Float64}), F.SUM, column="x")

    assert result == expected or (math.isnan(result) and math.isnan(expected))


@pytest.mark.parametrize("parts", [1, 2, 7, 40])
@pytest.mark.parametrize("offset", [0.0, 1e9, -1e11])
def test_variance_and_covariance_far_from_zero(offset: float, parts: int) -> None:
    dice = random.Random(7)
    xs = [offset + dice.gauss(0, 1) for _ in range(5000)]
    ys = [2 * (x - offset) + dice.gauss(offset, 1) for x in xs]
    plan = AggregatePlan(
        (), (Aggregation("v", F.VARIANCE, "x"), Aggregation("c", F.COVARIANCE, "x", other="y"))
    )

    result = in_parts(pl.DataFrame({"x": xs, "y": ys}), plan, parts, seed=parts)

    x_mean, y_mean = (sum(map(Fraction, v)) / len(v) for v in (xs, ys))
    squares = sum((Fraction(x) - x_mean) ** 2 for x in xs) / (len(xs) - 1)
    products = sum(
        (Fraction(x) - x_mean) * (Fraction(y) - y_mean) for x, y in zip(xs, ys, strict=True)
    ) / (len(xs) - 1)
    assert result["v"][0] == pytest.approx(float(squares), rel=1e-12)
    assert result["c"][0] == pytest.approx(float(products), rel=1e-12)


def test_variance_of_integers_that_floats_cannot_tell_apart() -> None:
    frame = pl.DataFrame({"u": pl.Series([2**64 - 1 - i for i in range(10)], dtype=pl.UInt64)})

    assert one(frame, F.VARIANCE, column="u") == statistics.variance(range(10))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40))
def test_means_of_integers_are_right_to_the_last_place(numbers: list[int]) -> None:
    mean = one(pl.DataFrame({"i": pl.Series(numbers, dtype=pl.Int64)}), F.MEAN, column="i")

    exact = Fraction(sum(numbers), len(numbers))
    assert abs(Fraction(mean) - exact) <= Fraction(math.ulp(float(exact)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.decimals(-(10**34), 10**34, places=4), max_size=20),
    st.sampled_from([(38, 4), (38, 6)]),
)
def test_sums_of_decimals_are_exact(numbers: list[Decimal], form: tuple[int, int]) -> None:
    limit = Decimal(10) ** (form[0] - form[1])
    kept = [n for n in numbers if abs(n) < limit]
    frame = pl.DataFrame({"d": pl.Series(kept, dtype=pl.Decimal(38, 4))}).cast(pl.Decimal(*form))
    expected = sum(map(Fraction, kept))
    if abs(expected) >= 10 ** (form[0] - form[1]):
        with pytest.raises(UnsupportedData):
            one(frame, F.SUM, column="d")
    else:
        assert Fraction(one(frame, F.SUM, column="d")) == expected


def test_a_sum_that_leaves_its_range_on_the_way_and_comes_back_is_no_overflow() -> None:
    large = pl.DataFrame({"i": [2**63 - 1, 2**63 - 1, -(2**63), -(2**63), 5]})
    digits = Decimal("9" * 38)
    numbers = [digits, digits, digits.copy_negate(), digits.copy_negate(), Decimal(7)]
    wide = pl.DataFrame({"d": pl.Series(numbers, dtype=pl.Decimal(38, 0))})

    assert one(large, F.SUM, column="i") == 3
    assert one(wide, F.SUM, column="d") == 7


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize(
    ("dtype", "value", "said"),
    [
        (pl.Int64(), 2**62, "does not fit Int64"),
        (pl.Int64(), -(2**63), "does not fit Int64"),
        (pl.Decimal(38, 2), Decimal("9" * 36), "does not fit Decimal"),
    ],
)
def test_overflow_is_refused_with_its_column_and_group(
    dtype: pl.DataType, value: int | Decimal, said: str, parts: int
) -> None:
    values = pl.Series("x", [type(value)(1), value, value] * 9, dtype=dtype)
    frame = pl.DataFrame({"k": ["fits", "large", "large"] * 9}).with_columns(values)
    plan = AggregatePlan(("k",), (Aggregation("total", F.SUM, "x"),))

    with pytest.raises(UnsupportedData, match=said) as caught:
        in_parts(frame, plan, parts, seed=1)

    assert "'total'" in str(caught.value)
    assert "'x'" in str(caught.value)
    assert "k='large': about" in str(caught.value)
    assert "fits'" not in str(caught.value)


def test_small_integers_and_unsigned_ones_are_widened() -> None:
    small = pl.DataFrame({"x": pl.Series([127] * 1000, dtype=pl.Int8)})
    unsigned = pl.DataFrame({"x": pl.Series([2**64 - 1] * 3, dtype=pl.UInt64)})

    assert one(small, F.SUM, column="x") == 127_000
    assert one(unsigned, F.SUM, column="x") == Decimal(3 * (2**64 - 1))


# --- meaning ---------------------------------------------------------------------------------


def test_nothing_has_one_row_without_keys_and_none_with_them() -> None:
    schema = pl.Schema({"k": pl.String, "x": pl.Int32})
    made = (
        Aggregation("n", F.COUNT),
        Aggregation("s", F.SUM, "x"),
        Aggregation("m", F.MEAN, "x"),
        Aggregation("q", F.QUANTILE, "x"),
        Aggregation("v", F.VARIANCE, "x"),
        Aggregation("d", F.APPROX_DISTINCT, "x"),
        Aggregation("t", F.TOP, "x", order="k"),
    )
    none, keyed = AggregatePlan((), made), AggregatePlan(("k",), made)

    result = finalize(combine([], none, schema), none, schema).collect()
    by_key = finalize(combine([], keyed, schema), keyed, schema).collect()

    assert result.rows() == [(0, 0, None, None, None, 0, [])]
    assert by_key.height == 0
    assert by_key.schema == output_schema(keyed, schema)


def test_null_nan_and_both_zeros_as_keys() -> None:
    keys = [0.0, -0.0, math.nan, float("-nan"), None, None, 1.0]
    frame = pl.DataFrame({"k": keys})
    plan = AggregatePlan(("k",), (Aggregation("n", F.COUNT),))

    result = in_parts(frame, plan, 4, seed=3)

    assert [str(k) for k in result["k"]] == ["0.0", "1.0", "nan", "None"]
    assert result["n"].to_list() == [2, 1, 2, 2]


def test_keys_alone_are_the_distinct_ones() -> None:
    frame = pl.DataFrame({"k": [3, 1, 3, None, 1]})

    assert in_parts(frame, AggregatePlan(("k",), ()), 3, seed=0).rows() == [(1,), (3,), (None,)]


def test_one_value_has_no_sample_variance() -> None:
    frame = pl.DataFrame({"x": [4.0]})

    assert one(frame, F.VARIANCE, column="x") is None
    assert one(frame, F.VARIANCE, column="x", ddof=0) == 0.0


def test_covariance_takes_rows_in_which_both_are_known() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, None, 4.0], "y": [2.0, None, 5.0, 8.0]})

    assert one(frame, F.COVARIANCE, column="x", other="y") == pytest.approx(9.0)


def test_equal_orders_are_settled_by_the_value() -> None:
    frame = pl.DataFrame({"o": [1, 1, 1, 2, 2, None], "x": ["b", None, "a", "c", "d", "z"]})

    assert one(frame, F.FIRST, column="x", order="o") == "a"
    assert one(frame, F.LAST, column="x", order="o") == "d"
    top = one(frame, F.TOP, column="x", order="o", n=3, descending=False)
    assert top.to_list() == [{"o": 1, "x": "a"}, {"o": 1, "x": "b"}, {"o": 1, "x": None}]
    top = one(frame, F.TOP, column="x", order="o", n=3)
    assert top.to_list() == [{"o": 2, "x": "d"}, {"o": 2, "x": "c"}, {"o": 1, "x": "b"}]


def test_a_row_without_an_order_is_neither_first_nor_last() -> None:
    frame = pl.DataFrame({"o": [math.nan, None, 2.0, 1.0], "x": [1, 2, None, 4]})

    assert one(frame, F.FIRST, column="x", order="o") == 4
    assert one(frame, F.LAST, column="x", order="o") is None
    assert one(frame.head(2), F.FIRST, column="x", order="o") is None


def test_min_and_max_pass_over_nan_unless_there_is_nothing_else() -> None:
    frame = pl.DataFrame({"x": [math.nan, 2.0, None, 1.0]})

    assert (one(frame, F.MIN, column="x"), one(frame, F.MAX, column="x")) == (1.0, 2.0)
    assert math.isnan(one(frame.head(1), F.MIN, column="x"))


def test_an_enum_has_its_own_order_and_a_category_that_of_its_text() -> None:
    words = ["low", "high"]
    frame = pl.DataFrame({"w": words * 2})

    assert one(frame.cast(pl.Enum(words)), F.MAX, column="w") == "high"
    assert one(frame.cast(pl.Categorical()), F.MAX, column="w") == "low"


def test_histogram_edges_belong_to_the_bin_above() -> None:
    frame = pl.DataFrame({"x": [-math.inf, 0.0, 0.5, 1.0, 2.0, math.inf, math.nan, None]})

    bins = one(frame, F.HISTOGRAM, column="x", edges=(0.0, 1.0, 2.0))

    assert bins == {"below": 1, "counts": [2, 1], "above": 2, "nan": 1}


def test_column_names_are_never_patterns() -> None:
    frame = pl.DataFrame({"^k.*$": [1, 1], "*": [2, 3], "key0": [5, 5]})
    plan = AggregatePlan(("^k.*$", "key0"), (Aggregation("s", F.SUM, "*"),))

    assert in_parts(frame, plan, 2, seed=1).rows() == [(1, 5, 5)]


# --- refusals --------------------------------------------------------------------------------


def test_an_unknown_column_is_refused_with_near_ones() -> None:
    plan = AggregatePlan((), (Aggregation("s", F.SUM, "dep_dely"),))

    with pytest.raises(UnknownName, match="'dep_delay'"):
        output_schema(plan, pl.Schema({"dep_delay": pl.Int64, "origin": pl.String}))


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (F.SUM, pl.String()),
        (F.MEAN, pl.Datetime("us")),
        (F.QUANTILE, pl.Date()),
        (F.MIN, pl.List(pl.Int64())),
        (F.SUM, pl.Int128()),
    ],
)
def test_a_type_without_a_meaning_is_refused(
    function: AggregateFunction, dtype: pl.DataType
) -> None:
    with pytest.raises(UnsupportedData, match=r"aggregate 'it'.*'x'"):
        output_schema(
            AggregatePlan((), (Aggregation("it", function, "x"),)), pl.Schema({"x": dtype})
        )


def test_a_nested_key_is_refused() -> None:
    with pytest.raises(UnsupportedData, match="cannot group by 'x'"):
        output_schema(AggregatePlan(("x",), ()), pl.Schema({"x": pl.Struct({"a": pl.Int64()})}))


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        ("needs a column", {"function": F.SUM}),
        ("needs an order", {"function": F.FIRST, "column": "x"}),
        ("needs a second column", {"function": F.COVARIANCE, "column": "x"}),
        ("ddof", {"function": F.VARIANCE, "column": "x", "ddof": -1}),
        ("q is 95", {"function": F.QUANTILE, "column": "x", "q": 95}),
        ("n is 0", {"function": F.TOP, "column": "x", "order": "x", "n": 0}),
        ("0 edges", {"function": F.HISTOGRAM, "column": "x"}),
        ("ascend", {"function": F.HISTOGRAM, "column": "x", "edges": (1.0, 1.0)}),
        ("ascend", {"function": F.HISTOGRAM, "column": "x", "edges": (1.0, math.nan)}),
        ("power of two", {"function": F.APPROX_DISTINCT, "column": "x", "size": 1000}),
        ("between 8", {"function": F.QUANTILE, "column": "x", "size": 4}),
    ],
)
def test_a_setting_out_of_range_is_refused(said: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Aggregation("it", **settings)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="'k'"):
        AggregatePlan(("k",), (Aggregation("k", F.COUNT),))
    with pytest.raises(InvalidRequest, match="neither"):
        AggregatePlan((), ())
