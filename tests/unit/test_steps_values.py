"""What each step makes of values: nulls, NaN, zones and clock changes, decimals, large integers."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import polars as pl
import pytest
from polars.testing import assert_series_equal
from tests.unit.steps_helpers import applied, column, compiled

from headwater.infra.errors import InvalidRequest, UnknownName, ValueLost

pytestmark = pytest.mark.unit

UTC = dt.UTC
BIG = 2**64 - 1


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def utc(text: str) -> dt.datetime:
    return at(text).replace(tzinfo=UTC)


def cast(to: str, values: list[object], dtype: pl.DataType, loss: str = "null") -> list[object]:
    body = f'kind = "cast"\ncolumns = {{ a = "{to}" }}\non_loss = "{loss}"'
    return column(body, pl.Series(values, dtype=dtype, strict=False))


@pytest.mark.parametrize(
    ("to", "dtype", "values", "expected"),
    [
        ("Int8", pl.Int64(), [127, 128, -128, -129, None], [127, None, -128, None, None]),
        ("UInt64", pl.Int64(), [0, -1, 2**63 - 1], [0, None, 2**63 - 1]),
        ("Int64", pl.UInt64(), [BIG, 2**63 - 1], [None, 2**63 - 1]),
        ("Float64", pl.UInt64(), [BIG, 2**53, 2**53 + 1], [None, 2.0**53, None]),
        ("Float64", pl.Int64(), [2**53, 2**53 + 1, 2**63 - 1, None], [2.0**53, None, None, None]),
        ("Float32", pl.Int64(), [2**24, 2**24 + 1], [2.0**24, None]),
        (
            "Int64",
            pl.Float64(),
            [1.0, 1.5, math.nan, math.inf, -0.0, None],
            [1, *[None] * 3, 0, None],
        ),
        ("Float32", pl.Float64(), [1.5, 1e300, math.inf], [1.5, None, math.inf]),
        ("Boolean", pl.Int64(), [0, 1, 2, None], [False, True, None, None]),
        ("Int64", pl.Boolean(), [True, None], [1, None]),
        ("Int64", pl.String(), ["007", "-3", " 2", "1.5", "x", "", None], [7, -3, *[None] * 5]),
        ("Int64", pl.Enum(["7", "x"]), ["7", "x", None], [7, None, None]),
        ("Int64", pl.Categorical(), ["7", "x", None], [7, None, None]),
        ("UInt64", pl.String(), [str(BIG), "-1"], [BIG, None]),
        ("Float64", pl.String(), ["1e3", "x", "1,5"], [1000.0, None, None]),
        ("Decimal(20, 0)", pl.UInt64(), [BIG], [Decimal(BIG)]),
        ("Decimal(4, 2)", pl.Int64(), [99, 100], [Decimal("99.00"), None]),
        (
            "Decimal(6, 2)",
            pl.String(),
            ["1.20", "1.239", "-0.005", "1e2", "12345.0", "x", "7.500"],
            [Decimal("1.20"), None, None, Decimal("100.00"), None, None, Decimal("7.50")],
        ),
        (
            "Decimal(6, 2)",
            pl.Float64(),
            [0.1, 0.125, 1.005, math.nan, 1e9],
            [Decimal("0.10"), *[None] * 4],
        ),
        (
            "Decimal(6, 1)",
            pl.Decimal(6, 2),
            [Decimal("1.20"), Decimal("1.25")],
            [Decimal("1.2"), None],
        ),
        ("Int64", pl.Decimal(6, 2), [Decimal("7.00"), Decimal("-7.50")], [7, None]),
        (
            "Date",
            pl.Datetime("us"),
            [at("2024-01-01"), at("2024-01-01T05:00")],
            [dt.date(2024, 1, 1), None],
        ),
        ("String", pl.Float64(), [0.1, math.nan, None], ["0.1", "NaN", None]),
        ("Binary", pl.String(), ["é", None], ["é".encode(), None]),
        ("List(Int8)", pl.List(pl.Int64()), [[1, 2], [300], None, []], [[1, 2], None, None, []]),
    ],
)
def test_cast_keeps_what_the_type_holds_and_loses_nothing_else(
    to: str, dtype: pl.DataType, values: list[object], expected: list[object]
) -> None:
    assert cast(to, values, dtype) == expected


def test_cast_refuses_with_count_and_first_rows() -> None:
    frame = pl.DataFrame({"id": range(9), "a": ["1", "x", None, *["y"] * 6]})
    with pytest.raises(ValueLost) as lost:
        applied('kind = "cast"\ncolumns = { a = "Int64" }', frame)
    assert lost.value.message.splitlines() == [
        "step 1 (cast, line 2 of x.toml): 7 values of 'a' cannot become Int64 unchanged;"
        " the first rows:",
        '  {"a":"x","id":1}',
        *(f'  {{"a":"y","id":{n}}}' for n in range(3, 7)),
    ]
    assert "nulls" not in lost.value.message
    assert "the step parse" in lost.value.hint


def test_cast_of_nan_shows_it() -> None:
    with pytest.raises(ValueLost, match=r'1 value of .*\n  \{"a":"NaN"\}'):
        cast("Int64", [1.0, math.nan], pl.Float64(), "refuse")


@pytest.mark.parametrize(
    ("dtype", "to", "hint"),
    [
        (pl.String(), "Date", "use the step parse"),
        (pl.String(), "Boolean", "use the step parse"),
        (pl.Int64(), "Datetime", "use the step parse"),
        (pl.Datetime("us"), "Datetime(UTC)", "use the step to_utc"),
        (pl.Datetime("us", "UTC"), "Date", "as_date = true"),
        (pl.List(pl.Int64()), "Int64", "explode"),
        (pl.Struct({"x": pl.Int64()}), "String", "unnest"),
    ],
)
def test_cast_that_cannot_work_by_type_is_refused_before_anything_runs(
    dtype: pl.DataType, to: str, hint: str
) -> None:
    with pytest.raises(
        InvalidRequest, match=r"line 2 of x.toml.*'a' of type .* cannot be cast"
    ) as no:
        compiled(f'kind = "cast"\ncolumns = {{ a = "{to}" }}', pl.Schema({"a": dtype}))
    assert hint in no.value.hint


def test_cast_of_an_instant_keeps_the_instant() -> None:
    values = pl.Series([utc("2024-01-01")]).dt.convert_time_zone("America/New_York")
    assert column('kind = "cast"\ncolumns = { a = "Datetime(UTC)" }', values) == [utc("2024-01-01")]


@pytest.mark.parametrize(
    ("type_", "error", "said"),
    [
        ("int64", UnknownName, "no type 'int64'"),
        ("Decimal(40, 2)", InvalidRequest, "'Decimal\\(40, 2\\)' is no decimal type"),
        ("Datetime(Europe/Pari)", UnknownName, "no time zone 'Europe/Pari'"),
    ],
)
def test_unknown_types_are_refused_by_name(type_: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        compiled(f'kind = "cast"\ncolumns = {{ a = "{type_}" }}', pl.Schema({"a": pl.Int64()}))


# --- parse ------------------------------------------------------------------------------------


def parse(keys: str, *values: str | None, loss: str = "null") -> list[object]:
    body = f'kind = "parse"\ncolumns = ["a"]\non_loss = "{loss}"\n{keys}'
    return column(body, pl.Series(values, dtype=pl.String))


def test_parse_tries_formats_in_turn() -> None:
    got = parse('to = "Date"\nformats = ["%d/%m/%Y", "%Y-%m-%d"]', "31/12/2013", "2014-02-30", None)
    assert got == [dt.date(2013, 12, 31), None, None]


def test_parse_reads_offsets_into_utc() -> None:
    keys = 'to = "Datetime(UTC)"\nformats = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%SZ"]'
    got = parse(keys, "2020-01-01T00:00:00+0530", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00")
    assert got == [utc("2019-12-31T18:30"), utc("2020-01-01"), None]


def test_parse_keeps_microseconds_and_refuses_finer_ones() -> None:
    keys = 'to = "Datetime"\nformats = ["%Y-%m-%d %H:%M:%S%.f"]'
    got = parse(
        keys,
        "1500-01-01 00:00:00.5",
        "2020-01-01 00:00:00.123456000",
        "2020-01-01 00:00:00.1234567",
    )
    assert got == [at("1500-01-01T00:00:00.5"), at("2020-01-01T00:00:00.123456"), None]


def test_parse_reads_times_of_day() -> None:
    got = parse('to = "Time"\nformats = ["%H:%M"]', "23:59", "24:00")
    assert got == [dt.time(23, 59), None]


def test_parse_reads_numbers_as_people_write_them() -> None:
    german = 'to = "Decimal(12, 2)"\nthousands = "."\ndecimal = ","\nnulls = ["k. A."]'
    assert parse(german, "1.234,50", "-7", "0,005", "k. A.") == [
        Decimal("1234.50"),
        Decimal("-7.00"),
        None,
        None,
    ]
    assert parse('to = "Int64"\nthousands = ","', "1,234", "12.5") == [1234, None]
    assert parse('to = "Float64"\ndecimal = ","', "1,5", "1.5") == [1.5, None]
    assert parse('to = "UInt64"', str(BIG)) == [BIG]


def test_parse_reads_truth_values_in_any_case() -> None:
    keys = 'to = "Boolean"\ntrue = ["yes", "1"]\nfalse = ["no", "0"]'
    assert parse(keys, "YES", "0", "maybe", None) == [True, False, None, None]


def test_parse_refuses_what_it_cannot_read_and_not_what_is_missing() -> None:
    assert parse('to = "Int64"\nnulls = ["NA", ""]', "1", "NA", "", loss="refuse") == [
        1,
        None,
        None,
    ]
    with pytest.raises(ValueLost, match="1 value of 'a' cannot be read as Int64"):
        parse('to = "Int64"', "1", "NA", loss="refuse")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('to = "Datetime"\nformats = ["%Y%z"]', "reads an offset"),
        ('to = "Datetime(UTC)"\nformats = ["%Y-%m-%d"]', "reads no offset"),
        ('to = "Date"\nformats = ["YYYY-MM-DD"]', "no sign of a date"),
        ('to = "Time"\nformats = ["%Y"]', "has no hour"),
        ('to = "Date"', "needs formats"),
        ('to = "Int64"\nformats = ["%Y"]', "formats are for dates and times"),
        ('to = "String"', "text cannot be parsed to String"),
    ],
)
def test_parse_refuses_formats_that_cannot_work(keys: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse(keys, "x")


# --- fill and replace -------------------------------------------------------------------------


def test_fill_tells_null_from_nan() -> None:
    values = pl.Series([1.0, math.nan, None])
    body = 'kind = "fill"\ncolumns = ["a"]\n'
    assert column(f"{body}missing = 'null'\nvalue = 0.0", values)[2] == 0.0
    assert math.isnan(column(f"{body}missing = 'null'\nvalue = 0.0", values)[1])  # type: ignore[arg-type]
    assert column(f"{body}missing = 'nan'\nvalue = 0.0", values) == [1.0, 0.0, None]
    assert column(f"{body}missing = 'nan'", values) == [1.0, None, None]
    assert column(f"{body}missing = 'both'\nvalue = 0", values) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (f"{2**63 - 1}", pl.UInt64(), 2**63 - 1),
        ("1979-05-27", pl.Date(), dt.date(1979, 5, 27)),
        ("1979-05-27T07:32:00", pl.Datetime("us"), at("1979-05-27T07:32")),
        ("'1979-05-27'", pl.Date(), dt.date(1979, 5, 27)),
        ("true", pl.Boolean(), True),
        ("0.5", pl.Decimal(12, 2), Decimal("0.50")),
        ("7", pl.Decimal(12, 2), Decimal("7.00")),
        ("7", pl.Float64(), 7.0),
        ("1979-05-27T07:32:00+05:30", pl.Datetime("us", "UTC"), utc("1979-05-27T02:02")),
        ("'x'", pl.String(), "x"),
    ],
)
def test_fill_takes_values_of_the_columns_type(
    value: str, dtype: pl.DataType, expected: object
) -> None:
    body = f'kind = "fill"\ncolumns = ["a"]\nvalue = {value}'
    assert column(body, pl.Series([None], dtype=dtype)) == [expected]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ("300", pl.Int8()),
        ("-1", pl.UInt64()),
        ("1.5", pl.Int64()),
        ("'1'", pl.Int64()),
        ("'today'", pl.Date()),
        ("true", pl.Int64()),
        ("1", pl.Boolean()),
        ("0.555", pl.Decimal(12, 2)),
        ("1979-05-27T07:32:00", pl.Date()),
        ("1979-05-27T07:32:00", pl.Datetime("us", "UTC")),
        ("1979-05-27T07:32:00Z", pl.Datetime("us")),
        ("16777217", pl.Float32()),
        ("'x'", pl.List(pl.String())),
        ("1", pl.String()),
    ],
)
def test_fill_refuses_values_of_another_type(value: str, dtype: pl.DataType) -> None:
    with pytest.raises(InvalidRequest, match="is no value of column 'a'"):
        compiled(f'kind = "fill"\ncolumns = ["a"]\nvalue = {value}', pl.Schema({"a": dtype}))


def test_fill_takes_the_first_column_that_has_a_value() -> None:
    frame = pl.DataFrame({"a": [None, None, 1], "b": [None, 2, 2], "c": [3, 3, 3]})
    body = 'kind = "fill"\ncolumns = ["a"]\nfrom_columns = ["b", "c"]'
    assert applied(body, frame)["a"].to_list() == [3, 2, 1]


def test_replace_text_regex_and_whole() -> None:
    values = pl.Series(["a.b", "ab", None, ""])
    body = 'kind = "replace"\ncolumns = ["a"]\n'
    assert column(f'{body}find = "."\nreplacement = "$0"', values) == ["a$0b", "ab", None, ""]
    regex = f'{body}match = "regex"\nfind = "^a"\nreplacement = "<$0>"'
    assert column(regex, values) == ["<a>.b", "<a>b", None, ""]
    assert column(f'{body}match = "whole"\nfind = ""', values) == ["a.b", "ab", None, None]
    assert column(f'{body}match = "whole"\nfind = "ab"\nreplacement = "x"', values) == [
        "a.b",
        "x",
        None,
        "",
    ]


def test_replace_refuses_a_pattern_that_is_none() -> None:
    body = 'kind = "replace"\ncolumns = ["a"]\nmatch = "regex"\nfind = "("\nreplacement = ""'
    with pytest.raises(InvalidRequest, match="is no regular expression"):
        compiled(body, pl.Schema({"a": pl.String()}))


# --- times ------------------------------------------------------------------------------------

LOCAL = pl.Series([at("2024-03-10T02:30"), at("2024-11-03T01:30"), at("2024-07-01T12:00"), None])
"""In New York: skipped, twice there, plain, and missing."""


def to_utc(keys: str, values: pl.Series = LOCAL, zone: str = "America/New_York") -> list[object]:
    return column(f'kind = "to_utc"\ncolumns = ["a"]\nzone = "{zone}"\n{keys}', values)


@pytest.mark.parametrize(
    ("ambiguous", "second"),
    [("earliest", utc("2024-11-03T05:30")), ("latest", utc("2024-11-03T06:30")), ("null", None)],
)
def test_to_utc_over_both_changes_of_clocks(ambiguous: str, second: dt.datetime | None) -> None:
    got = to_utc(f'ambiguous = "{ambiguous}"\nnon_existent = "null"')
    assert got == [None, second, utc("2024-07-01T16:00"), None]


def test_to_utc_refuses_by_default_what_is_not_one_instant() -> None:
    with pytest.raises(
        ValueLost, match=r"1 value of 'a' do not exist, as clocks went forward.*\n.*02:30"
    ):
        to_utc('ambiguous = "latest"')
    with pytest.raises(
        ValueLost, match=r"1 value of 'a' come twice, as clocks went back.*\n.*01:30"
    ):
        to_utc('non_existent = "null"')


def test_to_utc_of_zones_with_half_hours() -> None:
    values = pl.Series([at("2024-07-01T12:00")])
    assert to_utc("", values, "Asia/Kolkata") == [utc("2024-07-01T06:30")]
    # Lord Howe's clocks change by half an hour: 01:45 comes twice.
    twice = pl.Series([at("2024-04-07T01:45")])
    assert to_utc('ambiguous = "earliest"', twice, "Australia/Lord_Howe") == [
        utc("2024-04-06T14:45")
    ]
    assert to_utc('ambiguous = "latest"', twice, "Australia/Lord_Howe") == [utc("2024-04-06T15:15")]


def test_to_utc_by_a_column_of_zones() -> None:
    frame = pl.DataFrame(
        {
            "a": [at("2024-07-01T12:00")] * 3,
            "z": ["Asia/Kolkata", "America/New_York", None],
        }
    )
    keys = 'kind = "to_utc"\ncolumns = ["a"]\nzone_column = "z"\n'
    both = 'zones = ["Asia/Kolkata", "America/New_York"]'
    assert applied(keys + both, frame)["a"].to_list() == [
        utc("2024-07-01T06:30"),
        utc("2024-07-01T16:00"),
        None,
    ]
    with pytest.raises(ValueLost, match="have a zone in 'z' that is not listed"):
        applied(f'{keys}zones = ["Asia/Kolkata"]', frame)


def test_to_utc_refuses_instants() -> None:
    with pytest.raises(InvalidRequest, match="an instant already"):
        to_utc("", pl.Series([utc("2024-01-01")]))


def truncate(keys: str, *instants: str) -> list[object]:
    body = f'kind = "truncate"\ncolumns = {{ a = "a" }}\n{keys}'
    return column(body, pl.Series([utc(text) for text in instants]))


NEW_YORK = 'zone = "America/New_York"\n'


def test_truncate_to_days_that_have_23_and_25_hours() -> None:
    spring = truncate(
        f'{NEW_YORK}every = "1d"', "2024-03-10T04:59", "2024-03-10T05:00", "2024-03-11T03:59"
    )
    assert spring == [utc("2024-03-09T05:00"), utc("2024-03-10T05:00"), utc("2024-03-10T05:00")]
    autumn = truncate(
        f'{NEW_YORK}every = "1d"', "2024-11-03T04:00", "2024-11-04T04:59", "2024-11-04T05:00"
    )
    assert autumn == [utc("2024-11-03T04:00"), utc("2024-11-03T04:00"), utc("2024-11-04T05:00")]


def test_truncate_to_a_day_whose_midnight_does_not_exist() -> None:
    # Nepal's clocks went from midnight to a quarter past as 1986 began.
    assert truncate(
        'zone = "Asia/Kathmandu"\nevery = "1y"\nas_date = true', "1986-05-01T00:00"
    ) == [dt.date(1986, 1, 1)]


EVERY = [f"{n}{unit}" for unit in ("us", "ms", "s", "m", "h", "d", "w") for n in (1, 2, 7, 15)]


@pytest.mark.parametrize("every", EVERY)
def test_truncate_is_polars_own_before_and_after_1970(every: str) -> None:
    seconds = [-(2**33), -604_801, -86_401, -1, 0, 1, 259_199, 345_600, 1_700_000_000, 2**33, None]
    moments = pl.Series(seconds, dtype=pl.Int64()) * 1_000_000 + 123_457
    for zone in (None, "UTC"):
        times = moments.cast(pl.Datetime("us", zone))
        got = column(f'kind = "truncate"\ncolumns = {{ a = "a" }}\nevery = "{every}"', times)
        assert got == times.dt.truncate(every).to_list()
    if every[-1] in "dw":
        days = moments.cast(pl.Datetime("us")).dt.date()
        got = column(f'kind = "truncate"\ncolumns = {{ a = "a" }}\nevery = "{every}"', days)
        assert got == days.dt.truncate(every).to_list()


def test_truncate_to_hours_tells_the_hour_that_comes_twice_apart() -> None:
    got = truncate(f'{NEW_YORK}every = "1h"', "2024-11-03T05:30", "2024-11-03T06:30")
    assert got == [utc("2024-11-03T05:00"), utc("2024-11-03T06:00")]


def test_truncate_to_hours_of_a_half_hour_zone() -> None:
    assert truncate('zone = "Asia/Kolkata"\nevery = "1h"', "2024-07-01T06:45") == [
        utc("2024-07-01T06:30")
    ]
    assert truncate('every = "1h"', "2024-07-01T06:45") == [utc("2024-07-01T06:00")]


def test_truncate_to_dates_of_the_zone() -> None:
    got = truncate(
        f'{NEW_YORK}every = "1d"\nas_date = true', "2024-11-04T04:59", "2024-11-04T05:00"
    )
    assert got == [dt.date(2024, 11, 3), dt.date(2024, 11, 4)]
    weeks = column(
        'kind = "truncate"\ncolumns = { a = "a" }\nevery = "1w"',
        pl.Series([dt.date(2024, 5, 5), None]),
    )
    assert weeks == [dt.date(2024, 4, 29), None]


@pytest.mark.parametrize(
    ("keys", "dtype", "said"),
    [
        ('every = "1h"', pl.Date(), "has no 1h"),
        ('every = "1d"\nzone = "UTC"', pl.Datetime("us"), "has no zone"),
        ('every = "1h"\nas_date = true', pl.Datetime("us"), "as_date needs"),
        ('every = "1d"', pl.String(), "parse or cast it first"),
    ],
)
def test_truncate_refuses_what_has_no_meaning(keys: str, dtype: pl.DataType, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        compiled(f'kind = "truncate"\ncolumns = {{ a = "b" }}\n{keys}', pl.Schema({"a": dtype}))
    assert said in str(refused.value)


# --- lists, rows and order --------------------------------------------------------------------


def test_explode_drops_empty_lists_when_told() -> None:
    frame = pl.DataFrame({"k": [1, 2, 3], "l": [[1, None], [], None]})
    got = applied('kind = "explode"\ncolumns = ["l"]\nempty = "drop"', frame)
    assert got.rows() == [(1, 1), (1, None)]
    assert applied('kind = "explode"\ncolumns = ["l"]', frame).height == 4


def test_unnest_refuses_a_name_that_is_there() -> None:
    schema = pl.Schema({"s": pl.Struct({"x": pl.Int64()}), "x": pl.Int64()})
    with pytest.raises(InvalidRequest, match="there would be two columns 'x'"):
        compiled('kind = "unnest"\ncolumns = ["s"]', schema)


def test_order_puts_nulls_where_told_and_nan_last() -> None:
    values = pl.Series([math.nan, None, 2.0, -1.0])
    body = 'kind = "sort"\norder_by = ["a"]\n'
    assert_series_equal(
        applied(body, values.alias("a").to_frame())["a"],
        pl.Series("a", [None, -1.0, 2.0, math.nan]),
    )
    assert_series_equal(
        applied(f'{body}nulls = "last"\ndescending = ["a"]', values.alias("a").to_frame())["a"],
        pl.Series("a", [math.nan, 2.0, -1.0, None]),
    )


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_told_apart_by_the_other_columns(seed: int) -> None:
    frame = pl.DataFrame({"k": [1, 1, 1, 2, 2], "t": [5, 5, 5, 5, None], "v": [3, 1, 2, 9, 8]})
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    first = 'kind = "deduplicate"\ncolumns = ["k"]\norder_by = ["t"]\n'
    assert sorted(applied(first, shuffled).rows()) == [(1, 5, 1), (2, None, 8)]
    assert sorted(applied(f'{first}keep = "last"', shuffled).rows()) == [(1, 5, 3), (2, 5, 9)]
    top = 'kind = "top"\nn = 1\norder_by = ["t"]\ndescending = ["t"]\nnulls = "last"\n'
    assert applied(top, shuffled).rows() == [(1, 5, 1)]
    assert sorted(applied(f'{top}per = ["k"]', shuffled).rows()) == [(1, 5, 1), (2, 5, 9)]


def test_whole_rows_are_deduplicated_with_nulls_and_nan_equal() -> None:
    frame = pl.DataFrame({"a": [None, None, 1], "b": [math.nan, math.nan, 1.0]})
    assert applied('kind = "deduplicate"', frame).height == 2


def test_sample_takes_all_rows_of_a_key_or_none() -> None:
    frame = pl.DataFrame({"k": [n % 1000 for n in range(3000)], "v": range(3000)})
    body = 'kind = "sample"\nfraction = 0.25\nkey = ["k"]\n'
    got = applied(body, frame)
    assert set(got["k"].value_counts()["count"]) == {3}
    assert 200 < got["k"].n_unique() < 300
    assert set(applied(f"{body}seed = 1", frame)["k"]) != set(got["k"])


# --- join -------------------------------------------------------------------------------------

SIDE = pl.DataFrame({"k": [1, 2, None], "v": ["x", "y", "z"]})


def join(keys: str, frame: pl.DataFrame, side: pl.DataFrame = SIDE) -> pl.DataFrame:
    return applied(f'kind = "join"\nside = "s"\n{keys}', frame, {"s": side})


@pytest.mark.parametrize(
    ("how", "rows"),
    [
        ("inner", [(1, "x")]),
        ("left", [(1, "x"), (3, None), (None, None)]),
    ],
)
def test_join_matches_no_null(how: str, rows: list[object]) -> None:
    frame = pl.DataFrame({"k": [1, 3, None]})
    assert sorted(join(f'on = ["k"]\nhow = "{how}"', frame).rows(), key=str) == sorted(
        rows, key=str
    )


@pytest.mark.parametrize(("how", "kept"), [("semi", [1]), ("anti", [3, None])])
def test_join_that_only_filters(how: str, kept: list[object]) -> None:
    frame = pl.DataFrame({"k": [1, 3, None]})
    got = join(f'on = ["k"]\nhow = "{how}"', frame, pl.concat([SIDE, SIDE]))
    assert (got.columns, sorted(got["k"].to_list(), key=str)) == (["k"], sorted(kept, key=str))


def test_join_keeps_keys_types_and_names_of_the_rows() -> None:
    frame = pl.DataFrame({"n": pl.Series([1, 2], dtype=pl.Int16), "v": [5, 6]})
    got = join('left_on = ["n"]\nright_on = ["k"]\ncolumns = { text = "v" }', frame)
    assert got.schema == {"n": pl.Int16(), "v": pl.Int64(), "text": pl.String()}
    assert sorted(got.rows()) == [(1, 5, "x"), (2, 6, "y")]


@pytest.mark.parametrize(
    ("keys", "frame", "said"),
    [
        ('on = ["k"]', {"k": ["1"]}, "key 'k' is String, and 'k' of side table 's' is Int64"),
        ('on = ["k"]', {"k": [1], "v": [1]}, "there would be two columns 'v'"),
        ('on = ["kk"]', {"kk": [1]}, "no column 'kk' in side table 's'"),
        ('on = ["k"]\ncolumns = { w = "vv" }', {"k": [1]}, "no column 'vv' in side table 's'"),
    ],
)
def test_join_refuses_before_anything_runs(
    keys: str, frame: dict[str, list[object]], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        join(keys, pl.DataFrame(frame))


def test_join_of_the_largest_integers_is_refused_where_no_type_holds_both() -> None:
    frame = pl.DataFrame({"k": pl.Series([BIG], dtype=pl.UInt64)})
    with pytest.raises(InvalidRequest, match="key 'k' is UInt64"):
        join('on = ["k"]', frame)
    same = SIDE.with_columns(k=pl.Series([BIG, 1, None], dtype=pl.UInt64))
    assert join('on = ["k"]', frame, same).rows() == [(BIG, "x")]


def test_odd_names_are_no_patterns() -> None:
    frame = pl.DataFrame({"*": [1, 2], "^a.*$": [None, "x"], "a": [1.0, 2.0]})
    body = 'kind = "drop"\ncolumns = ["*"]\n[[steps]]\nkind = "rename"\ncolumns = { "^a.*$" = "*" }'
    assert applied(body, frame).rows() == [(None, 1.0), ("x", 2.0)]
    side = pl.DataFrame({"*": [1]})
    got = applied('kind = "join"\nside = "s"\non = ["*"]\nhow = "semi"', frame, {"s": side})
    assert got.rows() == [(1, None, 1.0)]
