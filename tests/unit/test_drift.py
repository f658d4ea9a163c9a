"""Which schema files that differ are read with, and what is said of it; by hand-made tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from headwater.infra.errors import InvalidRequest, SchemaMismatch, UnknownName, UnsupportedData
from headwater.infra.models import Drift, ReadOptions
from headwater.infra.storage.casts import exact, parsed, refusal
from headwater.infra.storage.csv_text import Kinds, infer
from headwater.infra.storage.drift import agree, combined, wider
from headwater.infra.storage.dtypes import written_columns
from headwater.infra.storage.evolution import evolved

I8, I32, I64 = pl.Int8(), pl.Int32(), pl.Int64()
U8, U32, U64 = pl.UInt8(), pl.UInt32(), pl.UInt64()
F32, F64, TEXT = pl.Float32(), pl.Float64(), pl.String()
LOCAL, NANOS = pl.Datetime("us"), pl.Datetime("ns")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (I8, I32, I32),
        (I8, U8, pl.Int16()),
        (I8, U32, I64),
        (I64, U64, None),
        (I8, F32, F32),
        (I32, F32, F64),
        (I64, F64, F64),
        (F32, F64, F64),
        (pl.Null(), TEXT, TEXT),
        (TEXT, I64, None),
        (pl.Boolean(), I64, None),
        (pl.Categorical(), TEXT, TEXT),
        (pl.Enum(["a"]), pl.Enum(["b"]), TEXT),
        (pl.Date(), LOCAL, None),
        (pl.Datetime("ms"), NANOS, LOCAL),
        (LOCAL, pl.Datetime("us", "UTC"), None),
        (pl.Datetime("us", "Asia/Tokyo"), pl.Datetime("us", "UTC"), pl.Datetime("us", "UTC")),
        (pl.Decimal(5, 2), pl.Decimal(8, 1), pl.Decimal(9, 2)),
        (pl.Decimal(38, 0), pl.Decimal(38, 38), None),
        (pl.Decimal(5, 2), I64, pl.Decimal(21, 2)),
        (pl.Decimal(5, 2), F64, None),
        (pl.List(I8), pl.List(I64), pl.List(I64)),
        (pl.List(I64), pl.List(F64), None),
        (
            pl.Struct({"a": I8}),
            pl.Struct({"a": I32, "b": TEXT}),
            pl.Struct({"a": I32, "b": TEXT}),
        ),
    ],
)
def test_wider_type_is_the_narrowest_of_both(
    one: pl.DataType, other: pl.DataType, both: pl.DataType | None
) -> None:
    assert wider(one, other) == both
    assert wider(other, one) == both


def test_order_of_files_decides_no_type() -> None:
    assert (
        combined([U64, I64, F64]) == combined([I64, F64, U64]) == combined([F64, U64, I64]) == F64
    )


def test_what_was_widened_is_said_by_column() -> None:
    files = [
        ("/in/a", pl.Schema({"n": I32, "s": TEXT})),
        ("/in/b", pl.Schema({"N": I64, "new": pl.Date()})),
        ("/in/c", pl.Schema({"n": I32})),
    ]

    agreed = agree(files, ReadOptions())

    assert agreed.schema == pl.Schema({"n": I64, "s": TEXT, "new": pl.Date()})
    assert agreed.notes == (
        "column 'N' of /in/b is read as 'n'",
        "column 'n' is read as Int64: Int32 in /in/a, Int64 in /in/b",
        "column 's' is null in 2 of 3 files, which lack it, for example /in/b",
        "column 'new' is null in 2 of 3 files, which lack it, for example /in/a",
    )


def test_files_of_one_schema_are_nothing_to_say() -> None:
    same = [("/in/a", pl.Schema({"n": I32})), ("/in/b", pl.Schema({"n": I32}))]
    assert agree(same, ReadOptions()).notes == ()


def test_types_that_have_nothing_in_common_are_told_apart() -> None:
    files = [("/in/a", pl.Schema({"n": I32})), ("/in/b", pl.Schema({"n": TEXT}))]

    with pytest.raises(SchemaMismatch, match=r"n: Int32 in /in/a, String in /in/b") as caught:
        agree(files, ReadOptions())

    assert "--drift 'fare: Float64" in caught.value.hint
    with pytest.raises(SchemaMismatch, match=r"n: Int32 there, String here"):
        agree(files, ReadOptions(drift=Drift.STRICT))


def test_names_that_differ_by_case_in_one_file_are_refused_unless_strict() -> None:
    file = [("/in/a", pl.Schema({"id": I32, "ID": I32}))]

    with pytest.raises(UnsupportedData, match="'id' and 'ID'"):
        agree(file, ReadOptions())
    assert list(agree(file, ReadOptions(drift=Drift.STRICT)).schema) == ["id", "ID"]


def test_given_schema_leaves_out_what_it_does_not_name() -> None:
    files = [("/in/a", pl.Schema({"N": TEXT, "s": TEXT})), ("/in/b", pl.Schema({"s": TEXT}))]

    agreed = agree(files, ReadOptions(columns=(("n", "Int8"),)))

    assert agreed.schema == pl.Schema({"n": I8})
    assert agreed.notes == (
        "column 'n' is null in /in/b, which lacks it",
        "columns that the schema does not name are left out: s",
    )


def test_given_schema_that_does_not_fit_is_refused() -> None:
    files = [("/in/a", pl.Schema({"day": pl.Date(), "s": TEXT}))]

    with pytest.raises(SchemaMismatch, match="day: Date in /in/a, Int64 in the schema"):
        agree(files, ReadOptions(columns=(("day", "Int64"),)))
    with pytest.raises(UnknownName, match="no column 'dya'"):
        agree(files, ReadOptions(columns=(("dya", "Date"),)))


@pytest.mark.parametrize(
    ("value", "have", "want"),
    [
        (2**53 + 1, I64, F64),
        (2.5, F64, I64),
        (300, I64, I8),
        (0.1, F64, F32),
        ("1.25", TEXT, pl.Decimal(4, 1)),
        ("2023-02-29", TEXT, pl.Date()),
        ("x'y\"z", TEXT, I64),
        (float("nan"), F64, I64),
    ],
)
def test_value_without_an_exact_counterpart_is_refused(
    value: object, have: pl.DataType, want: pl.DataType
) -> None:
    frame = pl.LazyFrame({"a": [None, value]}, schema={"a": have})

    with pytest.raises(pl.exceptions.PolarsError) as caught:
        frame.select(exact(pl.col("a"), have, want, column="a", place="b.csv")).collect()

    refused = refusal(caught.value)
    assert refused is not None
    assert refused.message.startswith("column 'a' holds ")
    assert f" in b.csv, which is no exact {want}" in refused.message


@pytest.mark.parametrize(
    ("value", "have", "want", "read"),
    [
        (2**53, I64, F64, 2.0**53),
        (2**60, I64, F64, 2.0**60),
        (7.0, F64, I8, 7),
        ("007", TEXT, I64, 7),
        ("", TEXT, I64, None),
        ("1.200", TEXT, pl.Decimal(4, 1), "1.2"),
        (7, I64, TEXT, "7"),
        (255, U8, pl.Int16(), 255),
    ],
)
def test_value_with_an_exact_counterpart_is_read(
    value: object, have: pl.DataType, want: pl.DataType, read: object
) -> None:
    frame = pl.DataFrame({"a": [value]}, schema={"a": have})
    found = frame.select(exact(pl.col("a"), have, want, column="a", place="b")).item()
    assert found == read or str(found) == read


@pytest.mark.parametrize(
    ("text", "dtype", "iso"),
    [
        ("2020-01-02T03:04:05.123456", LOCAL, "2020-01-02T03:04:05.123456"),
        ("2020-01-02 03:04", LOCAL, "2020-01-02T03:04:00"),
        ("2020-01-02T03:04:05.1234567", LOCAL, None),
        ("2020-01-02T03:04:05", pl.Datetime("us", "UTC"), None),
        ("2020-01-02T03:04:05+02:00", pl.Datetime("us", "UTC"), "2020-01-02T01:04:05+00:00"),
        ("2020-01-02T03:04:05Z", pl.Datetime("us", "UTC"), "2020-01-02T03:04:05+00:00"),
        ("0001-01-01", pl.Date(), "0001-01-01"),
        ("9999-12-31", pl.Date(), "9999-12-31"),
    ],
)
def test_times_are_parsed_to_the_microsecond(
    text: str, dtype: pl.DataType, iso: str | None
) -> None:
    found = pl.select(parsed(pl.lit(text), dtype)).item()
    assert (found.isoformat() if found else None) == iso


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", None, "-20"], I64),
        (["1", "2.5"], F64),
        (["1", ""], I64),
        (["007", "8"], TEXT),
        (["+49", "1"], TEXT),
        (["1e3", ".5", "-2.", "NaN", "-inf"], F64),
        (["9007199254740992", "0.5"], F64),
        (["9007199254740993", "0.5"], TEXT),
        (["9223372036854775807"], I64),
        (["9223372036854775808"], TEXT),
        (["true", "False"], pl.Boolean()),
        (["true", "1"], TEXT),
        ([" 1"], TEXT),
        ([None], pl.Null()),
    ],
)
def test_text_is_what_all_of_its_values_read_back_as(
    values: list[str | None], dtype: pl.DataType
) -> None:
    frame = pl.DataFrame({"a": values}, schema={"a": pl.String})
    assert infer(frame, {"a": Kinds()})["a"].dtype == dtype
    one_by_one = Kinds()
    for row in range(frame.height):
        one_by_one = infer(frame[row : row + 1], {"a": one_by_one})["a"]
    assert one_by_one.dtype == dtype


def test_schema_is_given_as_text_or_file(tmp_path: Path) -> None:
    columns = (("a b", "Int64"), ("when", "Datetime(UTC)"), ("d", "Decimal(12, 2)"))
    toml, as_json = tmp_path / "s.toml", tmp_path / "s.json"
    toml.write_text('"a b" = "int64"\nwhen = "datetime(UTC)"\nd = "decimal(12, 2)"\n')
    as_json.write_text('{"a b": "Int64", "when": "Datetime(UTC)", "d": "Decimal(12, 2)"}')

    assert written_columns("a b: int64, when: Datetime(UTC), d: decimal(12, 2)") == columns
    assert written_columns(str(toml)) == written_columns(str(as_json)) == columns
    assert written_columns('"a: b, c": list(int8)') == (("a: b, c", "List(Int8)"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: int46", "no type 'int46'"),
        ("a: int64, a: int8", "names column 'a' twice"),
        ("a int64", "is no 'name: type'"),
        ("", "names no column"),
        ("no/such.toml", "there is no schema file"),
    ],
)
def test_schema_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        written_columns(text)


def test_rows_fit_a_table_that_is_wider() -> None:
    table = pl.Schema({"Fare": F64, "note": TEXT})
    rows = pl.Schema({"fare": I32, "tip": pl.Decimal(8, 2)})

    fit = evolved(table, rows, table="out", drift=Drift.WIDEN)

    assert fit.schema == pl.Schema({"Fare": F64, "note": TEXT, "tip": pl.Decimal(8, 2)})
    assert fit.added == ("tip",)
    assert len(fit.notes) == 4
    for required in ("note", "other"):
        with pytest.raises(SchemaMismatch):
            evolved(table, rows, table="out", drift=Drift.WIDEN, required=[required])
    with pytest.raises(SchemaMismatch, match="fare"):
        evolved(table, rows, table="out", drift=Drift.STRICT)


def test_table_takes_no_values_that_its_types_cannot_hold() -> None:
    for have, rows in ((I32, I64), (I64, F64), (TEXT, I64), (F32, F64)):
        with pytest.raises(SchemaMismatch, match="n: "):
            evolved(pl.Schema({"n": have}), pl.Schema({"n": rows}), table="t", drift=Drift.WIDEN)
