"""Types are kept exactly, or refused by name before anything starts."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from headwater.infra.errors import UnsupportedData
from headwater.infra.storage.casts import conform
from headwater.infra.storage.types import (
    NULL_FOLDER,
    partition_literal,
    partition_text,
    require_partitionable,
    stored_schema,
    stored_type,
)


def stored(frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` as a dataset keeps it."""
    return conform(frame.lazy(), frame.schema, stored_schema(frame.schema)).collect()


UTC = dt.UTC


@pytest.mark.parametrize(
    ("values", "given", "kept", "read"),
    [
        ([0, 255], pl.UInt8(), pl.Int16(), [0, 255]),
        ([0, 65535], pl.UInt16(), pl.Int32(), [0, 65535]),
        ([0, 2**32 - 1], pl.UInt32(), pl.Int64(), [0, 2**32 - 1]),
        ([-(2**63), 2**63 - 1], pl.Int64(), pl.Int64(), [-(2**63), 2**63 - 1]),
        ([-128, None], pl.Int8(), pl.Int8(), [-128, None]),
        ([0.1, float("inf")], pl.Float32(), pl.Float32(), None),
        ([b"\x00\xff", b""], pl.Binary(), pl.Binary(), [b"\x00\xff", b""]),
        (["", "ü"], pl.String(), pl.String(), ["", "ü"]),
        (["a", None], pl.Categorical(), pl.String(), ["a", None]),
        (["b", "a"], pl.Enum(["a", "b"]), pl.String(), ["b", "a"]),
        (
            [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
            pl.Date(),
            pl.Date(),
            [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
        ),
        (
            [dt.datetime(1500, 1, 1), dt.datetime(2500, 1, 1, 0, 0, 0, 1)],
            pl.Datetime("us"),
            pl.Datetime("us"),
            [dt.datetime(1500, 1, 1), dt.datetime(2500, 1, 1, 0, 0, 0, 1)],
        ),
        (
            [dt.datetime(1969, 12, 31, 23, 59, 59, 999999), None],
            pl.Datetime("ns"),
            pl.Datetime("us"),
            [dt.datetime(1969, 12, 31, 23, 59, 59, 999999), None],
        ),
        (
            [dt.datetime(2013, 1, 1, 0, 0, 0, 5000)],
            pl.Datetime("ms"),
            pl.Datetime("us"),
            [dt.datetime(2013, 1, 1, 0, 0, 0, 5000)],
        ),
        (
            [Decimal("1.10"), Decimal("-99999999999999999999999999999999999.99")],
            pl.Decimal(38, 2),
            pl.Decimal(38, 2),
            [Decimal("1.10"), Decimal("-99999999999999999999999999999999999.99")],
        ),
        ([[1, None], [], None], pl.List(pl.UInt8), pl.List(pl.Int16), [[1, None], [], None]),
        ([[1, 2]], pl.Array(pl.Int32, 2), pl.List(pl.Int32), [[1, 2]]),
        (
            [{"a": 1, "b": ["x"]}, None],
            pl.Struct({"a": pl.UInt32, "b": pl.List(pl.String)}),
            pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)}),
            [{"a": 1, "b": ["x"]}, None],
        ),
        (
            [[dt.datetime(2013, 1, 1, 0, 0, 0, 5000)]],
            pl.List(pl.Datetime("ms")),
            pl.List(pl.Datetime("us")),
            [[dt.datetime(2013, 1, 1, 0, 0, 0, 5000)]],
        ),
    ],
)
def test_values_are_kept_exactly(
    values: list[Any], given: pl.DataType, kept: pl.DataType, read: list[Any] | None
) -> None:
    frame = pl.DataFrame({"c": pl.Series("c", values, dtype=given)})

    found = stored(frame)

    assert found.schema == {"c": kept}
    assert found["c"].to_list() == (frame["c"].to_list() if read is None else read)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_time_zone_keeps_the_instant(unit: Any) -> None:
    local = dt.datetime(2013, 7, 1, 12, tzinfo=ZoneInfo("America/New_York"))
    frame = pl.DataFrame({"at": pl.Series([local], dtype=pl.Datetime(unit, "America/New_York"))})

    found = stored(frame)

    assert found.schema == {"at": pl.Datetime("us", "UTC")}
    assert found["at"].to_list() == [dt.datetime(2013, 7, 1, 16, tzinfo=UTC)]


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_a_time_stamp_finer_than_a_microsecond_names_column_and_value(zone: str | None) -> None:
    fine = pl.Series([0, 1_700_000_000_000_001_001], dtype=pl.Int64).cast(pl.Datetime("ns", zone))
    frame = pl.DataFrame({"at": fine})

    with pytest.raises(pl.exceptions.PolarsError) as caught:
        stored(frame)

    said = str(caught.value)
    assert "column 'at' is finer than a microsecond at 2023-11-14" in said
    assert "000001001" in said


@pytest.mark.parametrize(
    "dtype",
    [
        pl.List(pl.Datetime("ns")),
        pl.Struct({"at": pl.Datetime("ns")}),
        pl.List(pl.Struct({"at": pl.Datetime("ns", "UTC")})),
        pl.Array(pl.Datetime("ns"), 2),
    ],
)
def test_nanoseconds_inside_are_refused_by_name(dtype: pl.DataType) -> None:
    frame = pl.DataFrame(schema={"inside": dtype})

    with pytest.raises(UnsupportedData, match=r"column 'inside' of type .* holds nanoseconds"):
        stored(frame)


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        (pl.UInt64(), "cast it to Int64, or to Decimal(20, 0)"),
        (pl.Int128(), "cast it to Int64"),
        (pl.Time(), "cast it to String"),
        (pl.Duration("us"), "turn it into a number"),
        (pl.Null(), "it has only nulls and no type"),
        (pl.Object(), "cast it in the job"),
        (pl.UInt128(), "cast it"),
        (pl.Float16(), "cast it"),
    ],
    ids=str,
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_a_table_cannot_hold_is_refused_with_advice(
    dtype: pl.DataType, hint: str, nested: bool
) -> None:
    whole = pl.List(dtype) if nested else dtype

    with pytest.raises(UnsupportedData, match=r"column 'odd(\[\])?' has type") as caught:
        stored_type(whole, "odd")

    assert hint in caught.value.hint


def test_a_decimal_without_precision_has_all_digits() -> None:
    assert stored_type(pl.Decimal(None, 3), "d") == pl.Decimal(38, 3)


@pytest.mark.parametrize(("one", "other"), [("Origin", "ORIGIN"), ("straße", "STRASSE")])
def test_names_that_differ_only_by_case_are_refused(one: str, other: str) -> None:
    with pytest.raises(UnsupportedData, match=f"columns '{one}' and '{other}' differ only by case"):
        stored_schema(pl.Schema({one: pl.Int64, other: pl.Int64}))


def test_names_inside_a_struct_that_differ_only_by_case_are_refused() -> None:
    inside = pl.Struct({"a": pl.Int64, "A": pl.Int64})

    with pytest.raises(UnsupportedData, match=r"columns 's\.a' and 's\.A' differ only by case"):
        stored_schema(pl.Schema({"s": inside}))


def test_no_column_is_refused() -> None:
    with pytest.raises(UnsupportedData, match="the result has no column"):
        stored_schema(pl.Schema())


@pytest.mark.parametrize("name", ["*", "^a.*$"])
def test_a_name_that_reads_as_a_pattern_is_only_a_name(name: str) -> None:
    frame = pl.DataFrame({name: [1], "a": [2]}, schema={name: pl.UInt8, "a": pl.UInt8})

    assert stored(frame).rows() == [(1, 2)]


# Partition columns.


@pytest.mark.parametrize(
    "dtype", [pl.Float64(), pl.Datetime("us"), pl.Decimal(10, 2), pl.Binary(), pl.List(pl.Int64)]
)
def test_types_that_a_log_cannot_keep_are_no_partitions(dtype: pl.DataType) -> None:
    with pytest.raises(UnsupportedData, match="cannot partition by 'p'"):
        require_partitionable(pl.Schema({"p": dtype, "n": pl.Int64}), ["p"])


@pytest.mark.parametrize("name", ["a/b", "a=b", "a b", "ü", "50%"])
def test_names_that_no_folder_can_have_are_no_partitions(name: str) -> None:
    with pytest.raises(UnsupportedData, match=f"cannot partition by '{name}'"):
        require_partitionable(pl.Schema({name: pl.String, "n": pl.Int64}), [name])


def test_some_column_must_be_left() -> None:
    with pytest.raises(UnsupportedData, match="every column is a partition column"):
        require_partitionable(pl.Schema({"p": pl.String}), ["p"])


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (None, pl.String()),
        ("a/b", pl.String()),
        ("007", pl.String()),
        ("null", pl.String()),
        (" ", pl.String()),
        (-7, pl.Int64()),
        (127, pl.Int8()),
        (True, pl.Boolean()),
        (False, pl.Boolean()),
        (None, pl.Boolean()),
        (dt.date(1, 1, 1), pl.Date()),
        (dt.date(9999, 12, 31), pl.Date()),
        (None, pl.Date()),
    ],
)
def test_a_partition_value_survives_its_text(value: object, dtype: pl.DataType) -> None:
    text = partition_text(value, "p")

    read = pl.select(partition_literal(text, dtype, "p"))

    assert read.schema == {"p": dtype}
    assert read["p"].to_list() == [value]


@pytest.mark.parametrize("value", ["", NULL_FOLDER, dt.datetime(2013, 1, 1)])
def test_a_value_whose_text_is_ambiguous_is_refused(value: object) -> None:
    with pytest.raises(UnsupportedData, match="partition column 'p' holds"):
        partition_text(value, "p")
