"""Row groups that are left out change no result, whatever the data."""

from __future__ import annotations

import datetime as dt
import io
import math
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headwater.infra.models import ReadOptions, Slice
from headwater.infra.storage import staging
from headwater.infra.storage.conditions import IsNull
from headwater.infra.storage.inputs import Input, open_input
from headwater.tasks.needs import EVERYTHING, Needs, needs_of
from headwater.tasks.pieces import stage_pieces
from headwater.tasks.read import together

C = pl.col
WRITERS = ("polars", "pyarrow", "pyarrow without statistics", "pyarrow 1.0", "duckdb")

VALUES: dict[str, tuple[pl.DataType, list[Any]]] = {
    "int": (pl.Int64(), [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 7]),
    "small": (pl.Int8(), [0, 1, -1, 127, -128, 7]),
    "unsigned": (pl.UInt64(), [0, 1, 2**63, 2**64 - 1, 2**63 - 1, 7]),
    "half": (pl.UInt32(), [0, 1, 2**31, 2**32 - 1, 7]),
    "float": (pl.Float64(), [0.0, -0.0, math.nan, math.inf, -math.inf, 0.1, -2.5, 2.0**53]),
    "single": (pl.Float32(), [0.0, -0.0, math.nan, math.inf, 0.1, 2.1, -2.5]),
    "text": (pl.String(), ["", "a", "é", "z", "\U0010ffff", "\uffff", "x" * 300, "x" * 301]),
    "flag": (pl.Boolean(), [True, False]),
    "day": (pl.Date(), [dt.date(1, 1, 1), dt.date(1970, 1, 1), dt.date(9999, 12, 31)]),
    "at": (
        pl.Datetime("us"),
        [dt.datetime(1, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)],
    ),
    "utc": (
        pl.Datetime("ms", "UTC"),
        [dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)],
    ),
    "money": (pl.Decimal(12, 2), [Decimal("0.00"), Decimal("-1.50"), Decimal("9999999999.99")]),
    "digits": (pl.Decimal(38, 10), [Decimal("1E-10"), Decimal("-12345678901234567890.5")]),
}
OTHERS: dict[str, list[Any]] = {
    "int": [2.5, 2.0**53, 3, -0.5],
    "small": [300, 2.5, -129],
    "unsigned": [-1, 2.5, 5],
    "float": [1, 2**53 + 1],
    "single": [1, 0.30000001],
    "text": ["b", "x" * 299],
    "money": [1, Decimal("0.005")],
}
"""Literals that are none of the values, or of another type."""


@pytest.fixture(autouse=True)
def _no_file_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "SMALL_BYTES", 0)


def written(frame: pl.DataFrame, writer: str, rows: int) -> bytes:
    """The frame as Parquet with row groups of ``rows``, as different writers write it."""
    buffer = io.BytesIO()
    match writer:
        case "polars":
            frame.write_parquet(buffer, row_group_size=rows)
        case "duckdb":
            # One row group: its row groups have 2,048 rows or more.
            with TemporaryDirectory() as tmp, duckdb.connect() as database:
                database.register("given", frame.to_arrow())
                database.table("given").write_parquet(f"{tmp}/a.parquet")
                return Path(tmp, "a.parquet").read_bytes()
        case _:
            pq.write_table(
                frame.to_arrow(),
                buffer,
                row_group_size=rows,
                write_statistics="without" not in writer,
                version="1.0" if "1.0" in writer else "2.6",
                use_dictionary="1.0" not in writer,
            )
    return buffer.getvalue()


def rows_of(source: Input, needs: Needs, tmp: Path, piece: Slice) -> tuple[pl.LazyFrame, ExitStack]:
    stack = ExitStack()
    (staged,) = stage_pieces(stack, [piece], source, tmp, needs)
    return together([staged.scan(source)], source.schema), stack


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(1, 24))
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3, unique=True))
    columns = []
    for name in names:
        dtype, values = VALUES[name]
        some = st.one_of(st.none(), st.sampled_from(values))
        column = pl.Series(name, draw(st.lists(some, min_size=rows, max_size=rows)), dtype)
        columns.append(column.sort() if draw(st.booleans()) else column)
    return pl.DataFrame(columns)


@st.composite
def predicates(draw: st.DrawFn, names: list[str], depth: int = 2) -> pl.Expr:
    kinds = [
        "compare",
        "compare",
        "in",
        "null",
        "between",
        *(["and", "or", "not"] if depth else []),
    ]
    kind = draw(st.sampled_from(kinds))
    if kind in ("and", "or"):
        one, other = (draw(predicates(names, depth - 1)) for _ in range(2))
        return one & other if kind == "and" else one | other
    if kind == "not":
        return ~draw(predicates(names, depth - 1))
    name = draw(st.sampled_from(names))
    dtype, values = VALUES[name]
    if kind == "null":
        return C(name).is_null() if draw(st.booleans()) else C(name).is_not_null()
    if kind == "in":
        return C(name).is_in(
            pl.Series(draw(st.lists(st.sampled_from(values), max_size=3)), dtype=dtype)
        )
    if kind == "between":
        low, high = (pl.lit(draw(st.sampled_from(values)), dtype) for _ in range(2))
        return C(name).is_between(
            low, high, draw(st.sampled_from(["both", "left", "right", "none"]))
        )
    value = draw(st.sampled_from([*values, *OTHERS.get(name, [])]))
    operator = draw(st.sampled_from(["__lt__", "__le__", "__eq__", "__ne__", "__ge__", "__gt__"]))
    expr: pl.Expr = getattr(C(name), operator)(value)
    return expr


def check(data: st.DataObject, tmp: Path) -> None:
    frame = data.draw(frames())
    predicate = data.draw(predicates(frame.columns))
    writer, rows = data.draw(st.sampled_from(WRITERS)), data.draw(st.integers(1, 6))
    path = tmp / "a.parquet"
    path.write_bytes(written(frame, writer, rows))
    source = open_input([str(path)])
    assert source.rows is not None
    first = data.draw(st.integers(0, source.rows - 1))
    number = data.draw(st.integers(1, source.rows - first))
    piece = Slice(source.files[0].ref, first, number, 1)
    all_rows, stack = rows_of(source, EVERYTHING, tmp, piece)
    with stack:
        try:
            expected = all_rows.filter(predicate).collect()
        except pl.exceptions.PolarsError:
            assume(False)  # types that do not compare

    needs = needs_of(lambda frame: frame.filter(predicate), source.schema)
    left, stack = rows_of(source, needs, tmp, piece)
    with stack:
        got = left.filter(predicate).collect()

    assert got.equals(expected), f"{needs.condition} over {frame}"


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_what_is_left_out_changes_no_result(data: st.DataObject) -> None:
    with TemporaryDirectory() as tmp:
        check(data, Path(tmp))


@pytest.mark.trial
@settings(max_examples=3_000, deadline=None)
@given(data=st.data())
def test_what_is_left_out_changes_no_result_at_length(data: st.DataObject) -> None:
    with TemporaryDirectory() as tmp:
        check(data, Path(tmp))


DAYS = [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(8)]
ORDERED = pl.DataFrame(
    {
        "n": list(range(8)),
        "u": pl.Series([2**63 + i for i in range(8)], dtype=pl.UInt64),
        "f": [float(i) for i in range(8)],
        "t": list("abcdefgh"),
        "d": DAYS,
        "at": [dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) for day in DAYS],
        "m": [Decimal(i) / 4 for i in range(8)],
        "b": [False] * 4 + [True] * 4,
        "z": [None] * 4 + [1, 2, None, None],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC"), "m": pl.Decimal(10, 2)},
)


@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
@pytest.mark.parametrize(
    ("predicate", "kept"),
    [
        (C("n") > 5, [3]),
        (C("n") >= 5, [2, 3]),
        (C("n") == 3, [1]),
        (C("n") < 0, []),
        (C("n") > 5.5, [3]),
        (C("n").is_between(2, 4), [1, 2]),
        (C("n").is_in([0, 7]), [0, 3]),
        (~(C("n") > 3), [0, 1]),
        ((C("n") < 1) | (C("t") == "h"), [0, 3]),
        ((C("n") > 1) & (C("n").cast(pl.String) == "5"), [1, 2, 3]),
        (C("u") < 2**63 + 2, [0]),
        (C("f") < 2, [0]),
        (C("f") > 6.5, [0, 1, 2, 3]),  # NaN would be greater, and bounds do not tell of it
        (C("t") >= "g", [3]),
        (C("d") < dt.date(2024, 1, 3), [0]),
        (C("at") >= dt.datetime(2024, 1, 7, tzinfo=dt.UTC), [3]),
        (C("m") < Decimal("0.5"), [0]),
        (C("b"), [2, 3]),
        (C("z").is_null(), [0, 1, 3]),
        (C("z").is_not_null(), [2]),
        (C("z") > 0, [2]),
        (C("n") % 2 == 0, [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_what_cannot_matter_is_left_out(
    tmp_path: Path, predicate: pl.Expr, kept: list[int], writer: str
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(written(ORDERED, writer, 2))
    source = open_input([str(path)])
    needs = needs_of(lambda frame: frame.filter(predicate), source.schema)

    with ExitStack() as stack:
        (staged,) = stage_pieces(
            stack, [Slice(source.files[0].ref, 0, 8, 1)], source, tmp_path, needs
        )
        rows = staged.scan(source).collect()

    expected = [row for group in kept for row in (2 * group, 2 * group + 1)]
    assert rows["n"].to_list() == expected


def test_a_folder_that_cannot_matter_is_not_read(tmp_path: Path) -> None:
    for day in (1, 2):
        folder = tmp_path / "root" / f"day={day}"
        folder.mkdir(parents=True)
        ORDERED.write_parquet(folder / "a.parquet")
    source = open_input([f"{tmp_path}/root"])
    needs = needs_of(lambda frame: frame.filter(C("day") == 2), source.schema)
    pieces = [Slice(f.ref, 0, 8, 1, f.partition) for f in source.files]

    with ExitStack() as stack:
        one, other = stage_pieces(stack, pieces, source, tmp_path, needs)

        assert one.file is None
        assert one.scan(source).collect().is_empty()
        assert other.scan(source).collect()["day"].to_list() == [2] * 8


PLANS: dict[str, Any] = {
    "what it selects": (lambda frame: frame.select("n"), {"n"}),
    "what it derives from": (lambda frame: frame.select(x=C("n") * C("f")), {"n", "f"}),
    "what it filters by": (lambda frame: frame.filter(C("d") > DAYS[0]).select("t"), {"d", "t"}),
    "both of two uses": (
        lambda frame: pl.concat([frame.select("n"), frame.filter(C("b")).select("n")]),
        {"n", "b"},
    ),
    "nothing to count": (lambda frame: frame.select(pl.len()), set()),
    "all": (lambda frame: frame, None),
    "all for a function that sees frames": (
        lambda frame: frame.map_batches(lambda rows: rows).select("n"),
        None,
    ),
    "all where it looks into its rows": (
        lambda frame: frame.filter(C("n") > frame.select("n").collect().item(0, 0)).select("n"),
        None,
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_needs(name: str) -> None:
    plan, columns = PLANS[name]

    found = needs_of(plan, ORDERED.schema).columns

    assert found == (None if columns is None else frozenset(columns))


def test_empty_text_that_a_given_schema_reads_as_null_is_not_ruled_out(tmp_path: Path) -> None:
    """The file's statistics say that no text is null; read as numbers, some of it is."""
    pl.DataFrame({"n": ["", "7"]}).write_parquet(tmp_path / "a.parquet")
    given_schema = ReadOptions(columns=(("n", "Int64"),))
    source = open_input([str(tmp_path / "a.parquet")], read=given_schema)
    (file,) = source.files
    needs = Needs(condition=IsNull("n"))

    frame, stack = rows_of(source, needs, tmp_path, Slice(file.ref, 0, file.rows, 0))

    with stack:
        assert frame.filter(C("n").is_null()).collect().rows() == [(None,)]
