"""From files that differ, or that are hard to read, to a committed table and back."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.flows.etl_run import EtlRun
from headwater.infra.errors import (
    DamagedFile,
    HeadwaterError,
    SchemaMismatch,
    UnknownName,
    UnsupportedData,
)
from headwater.infra.gpu import GpuReport
from headwater.infra.models import (
    BadRow,
    BadRows,
    Drift,
    JobRequest,
    Mode,
    ReadOptions,
    RunReceipt,
)
from headwater.infra.profiles import load_profile
from headwater.infra.storage import csv_text, inputs, unpack
from headwater.infra.storage.casts import is_lossless
from headwater.infra.storage.inputs import Input, open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import prepare

STRICT, SKIP = ReadOptions(drift=Drift.STRICT), ReadOptions(bad_rows=BadRows.SKIP)

VALUES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "i8": (pl.Int8(), st.integers(-128, 127)),
    "i32": (pl.Int32(), st.integers(-(2**31), 2**31 - 1)),
    "i64": (pl.Int64(), st.integers(-(2**53), 2**53)),
    "u8": (pl.UInt8(), st.integers(0, 255)),
    "u32": (pl.UInt32(), st.integers(0, 2**32 - 1)),
    "f32": (pl.Float32(), st.floats(width=32)),
    "f64": (pl.Float64(), st.floats()),
    "null": (pl.Null(), st.none()),
}


def read_all(source: Input) -> pl.DataFrame:
    """All rows of local files, each read where it lies."""
    frames = [pl.DataFrame(schema=source.schema)]
    for file in source.files:
        path = Uri.parse(file.ref.uri).path
        frame = read_slice(path, source, partition=file.partition).collect(engine="streaming")
        frames.append(frame)
    return pl.concat(frames)


def read(path: Path, options: ReadOptions | None = None) -> pl.DataFrame:
    return read_all(open_input([str(path)], read=options))


def given_schema(**columns: str) -> ReadOptions:
    return ReadOptions(columns=tuple(columns.items()))


# --- any files -------------------------------------------------------------------------------


@st.composite
def files(draw: st.DrawFn) -> list[pl.DataFrame]:
    """Frames whose columns differ by case, order, presence and type of number."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        names = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True))
        height = draw(st.integers(0, 4))
        columns = []
        for name in draw(st.permutations(names)):
            dtype, values = VALUES[draw(st.sampled_from(sorted(VALUES)))]
            spelt = draw(st.sampled_from([name, name.upper()]))
            rows = st.lists(st.none() | values, min_size=height, max_size=height)
            columns.append(pl.Series(spelt, draw(rows), dtype))
        found.append(pl.DataFrame(columns))
    return found


@settings(max_examples=60, deadline=None)
@given(files())
def test_files_that_differ_have_the_rows_of_their_cast_concatenation(
    tmp_path_factory: pytest.TempPathFactory, frames: list[pl.DataFrame]
) -> None:
    folder = tmp_path_factory.mktemp("drift")
    for number, frame in enumerate(frames):
        frame.write_parquet(folder / f"{number}.parquet")

    source = open_input([str(folder)])

    spelt: dict[str, str] = {}
    for frame in frames:
        for name in frame.columns:
            spelt.setdefault(name.casefold(), name)
    renamed = [f.rename({n: spelt[n.casefold()] for n in f.columns}) for f in frames]
    expected = pl.concat(renamed, how="diagonal_relaxed").select(source.schema.names())
    assert list(source.schema) == list(spelt.values())
    assert read_all(source).equals(expected.cast(source.schema))
    for frame in renamed:
        for name, dtype in frame.schema.items():
            assert is_lossless(dtype, source.schema[name]) or source.schema[name] == pl.Float64()


# --- awkward types, to a committed table and back --------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunReceipt]:
    def run(
        source: Path, mode: Mode = Mode.OVERWRITE, options: ReadOptions | None = None
    ) -> RunReceipt:
        etl = EtlRun(
            JobRequest(
                (str(source),), str(tmp_path / "out"), mode=mode, read=options or ReadOptions()
            ),
            load_profile("local"),
            gpu_probe=lambda: GpuReport(reason="not asked"),
        )
        etl.scan()
        etl.process()
        etl.commit()
        return etl.receipt()

    return run


BIG = Decimal("12345678901234567890123456789012345.678")

AWKWARD: dict[str, tuple[list[Any], pa.DataType, list[Any]]] = {
    "early": ([dt.date(1, 1, 1), None], pa.date32(), [dt.date(1, 1, 1), None]),
    "late": ([dt.date(9999, 12, 31), None], pa.date32(), [dt.date(9999, 12, 31), None]),
    "before_1677": (
        [dt.datetime(1066, 10, 14, 9, 0, 0, 1), None],
        pa.timestamp("us"),
        [dt.datetime(1066, 10, 14, 9, 0, 0, 1), None],
    ),
    "after_2262": (
        [dt.datetime(9999, 12, 31, 23, 59, 59, 999), None],
        pa.timestamp("ms"),
        [dt.datetime(9999, 12, 31, 23, 59, 59), None],
    ),
    "zoned": (
        [dt.datetime(2020, 6, 1, 12, tzinfo=dt.UTC), None],
        pa.timestamp("us", "Asia/Tokyo"),
        [dt.datetime(2020, 6, 1, 12, tzinfo=dt.UTC), None],
    ),
    "decimal": ([BIG, -BIG], pa.decimal128(38, 3), [BIG, -BIG]),
    "unsigned": ([2**32 - 1, None], pa.uint32(), [2**32 - 1, None]),
    "dictionary": (["x", None], pa.dictionary(pa.int8(), pa.string()), ["x", None]),
    "nested": (
        [[{"a": 1, "b": None}], None],
        pa.list_(pa.struct([("a", pa.int8()), ("b", pa.string())])),
        [[{"a": 1, "b": None}], None],
    ),
}


def test_awkward_types_come_back_from_the_table_as_they_were(
    tmp_path: Path, run: Callable[..., RunReceipt]
) -> None:
    table = pa.table({n: pa.array(values, t) for n, (values, t, _) in AWKWARD.items()})
    pq.write_table(table, tmp_path / "in.parquet")

    run(tmp_path / "in.parquet")

    expected = {n: back for n, (_, _, back) in AWKWARD.items()}
    written = DeltaTable(str(tmp_path / "out"))
    assert pl.DataFrame(written.to_pyarrow_table()).to_dict(as_series=False) == expected
    parts = [str(p) for p in (tmp_path / "out" / "data").glob("*.parquet")]
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        names = [n for n in expected if n != "zoned"]
        found = db.read_parquet(parts).project(", ".join([*names, "epoch_us(zoned)"])).fetchall()
    instant = int(dt.datetime(2020, 6, 1, 12, tzinfo=dt.UTC).timestamp()) * 1_000_000
    rows = list(zip(*(back for n, back in expected.items() if n != "zoned"), strict=True))
    assert found == [(*rows[0], instant), (*rows[1], None)]
    assert read(tmp_path / "out").to_dict(as_series=False) == expected


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pa.array([2**64 - 1], pa.uint64()), "column 'c' has type UInt64"),
        (pa.array([1], pa.time64("us")), "column 'c' has type Time"),
        (pa.array([None], pa.null()), "column 'c' has type Null"),
        (pa.array([dt.timedelta(1)], pa.duration("us")), "column 'c' has type Duration"),
    ],
)
def test_type_that_a_table_cannot_hold_is_refused_by_name(
    tmp_path: Path, run: Callable[..., RunReceipt], array: pa.Array, said: str
) -> None:
    pq.write_table(pa.table({"c": array}), tmp_path / "in.parquet")
    with pytest.raises(UnsupportedData, match=said):
        run(tmp_path / "in.parquet")
    assert not (tmp_path / "out").exists()


def test_unsigned_64_bits_are_kept_by_a_given_schema(
    tmp_path: Path, run: Callable[..., RunReceipt]
) -> None:
    pq.write_table(pa.table({"c": pa.array([2**64 - 1], pa.uint64())}), tmp_path / "in.parquet")

    run(tmp_path / "in.parquet", options=given_schema(c="Decimal(20, 0)"))

    assert read(tmp_path / "out")["c"].to_list() == [Decimal(2**64 - 1)]


def test_value_that_widening_would_change_stops_the_run_with_its_file(
    tmp_path: Path, run: Callable[..., RunReceipt]
) -> None:
    (tmp_path / "in").mkdir()
    pl.DataFrame({"n": [0.5]}).write_parquet(tmp_path / "in" / "a.parquet")
    pl.DataFrame({"n": [1, 2**53 + 1]}).write_parquet(tmp_path / "in" / "b.parquet")

    with pytest.raises(
        UnsupportedData, match=r"'n' holds 9007199254740993 in .*b\.parquet, .* no exact Float64"
    ):
        run(tmp_path / "in")
    assert not (tmp_path / "out" / "_delta_log").exists()


def test_how_files_are_read_is_part_of_the_run_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")

    def key(**options: Any) -> str:
        read = ReadOptions(**options)
        request = JobRequest((str(tmp_path / "a.csv"),), str(tmp_path / "out"), read=read)
        return prepare(request, folder=tmp_path).run_key

    others = [
        {"drift": Drift.STRICT},
        {"columns": (("n", "Int8"),)},
        {"bad_rows": BadRows.SKIP},
        {"encoding": "cp1252"},
        {"delimiter": ";"},
        {"max_expansion": 7},
    ]
    assert len({key(), key(), *(key(**other) for other in others)}) == 1 + len(others)


# --- appending -------------------------------------------------------------------------------


def test_appended_rows_may_have_new_columns_and_lack_others(
    tmp_path: Path, run: Callable[..., RunReceipt]
) -> None:
    pl.DataFrame({"Fare": [1.5], "zone": ["a"]}).write_parquet(tmp_path / "a.parquet")
    new = pl.DataFrame({"fare": [2], "tip": [0.5]}, schema_overrides={"fare": pl.Int32})
    new.write_parquet(tmp_path / "b.parquet")

    run(tmp_path / "a.parquet")
    with pytest.raises(SchemaMismatch, match="zone: String there, missing here"):
        run(tmp_path / "b.parquet", Mode.APPEND, STRICT)
    receipt = run(tmp_path / "b.parquet", Mode.APPEND)

    table = read(tmp_path / "out")
    assert table.columns == ["Fare", "zone", "tip"]
    assert set(table.rows()) == {(1.5, "a", None), (2.0, None, 0.5)}
    assert [note.split(" ")[1] for note in receipt.drift] == ["'fare'", "'Fare'", "'zone'", "'tip'"]
    assert receipt.dataset is not None
    assert receipt.dataset.version == 2
    old = DeltaTable(str(tmp_path / "out"), version=1)
    assert pl.DataFrame(old.to_pyarrow_table()).rows() == [(1.5, "a")]


# --- CSV -------------------------------------------------------------------------------------


def test_bad_rows_are_named_left_out_or_kept(
    tmp_path: Path, run: Callable[..., RunReceipt]
) -> None:
    (tmp_path / "in").mkdir()
    bad = tmp_path / "in" / "bad.csv"
    bad.write_text('id,fare\n\n1,"a\nb"\n2\n3,c,d\n4,e\n')
    (tmp_path / "in" / "good.csv").write_text("id,fare\n5,f\n")

    with pytest.raises(DamagedFile, match=r"bad\.csv .* line 5: 1 fields where .* has 2"):
        run(tmp_path / "in")
    receipt = run(tmp_path / "in", options=ReadOptions(bad_rows=BadRows.ASIDE))

    assert set(read(tmp_path / "out").rows()) == {(1, "a\nb"), (4, "e"), (5, "f")}
    assert (receipt.bad_rows, receipt.rows_in) == (2, 3)
    kept = [json.loads(line) for line in Uri.parse(receipt.aside).path.read_text().splitlines()]
    assert [(Uri.parse(row["file"]).name, row["line"], row["text"]) for row in kept] == [
        ("bad.csv", 5, "2"),
        ("bad.csv", 6, "3,c,d"),
    ]


def test_values_that_a_given_type_cannot_hold_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,fare,day\n1,x,2020-01-01\n2,"2",2020-02-30\n3,3.5,\n')
    options = given_schema(id="Int8", fare="Float64", day="Date")

    with pytest.raises(DamagedFile, match="line 2: column 'fare' holds 'x', which is no Float64"):
        read(tmp_path / "a.csv", options)
    skipping = ReadOptions(columns=options.columns, bad_rows=BadRows.SKIP)
    source = open_input([str(tmp_path / "a.csv")], read=skipping)

    assert [(row.line, row.text) for row in source.bad] == [
        (2, "1,x,2020-01-01"),
        (3, "2,2,2020-02-30"),
    ]
    assert read_all(source).rows() == [(3, 3.5, None)]
    # A row is bad for any of its columns, whichever the job looks at.
    path = tmp_path / "a.csv"
    assert read_slice(path, source, partition=()).select("id").collect().rows() == [(3,)]


@pytest.mark.parametrize("block", [64, 1000])
def test_types_are_those_of_all_rows_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
    monkeypatch.setattr(unpack, "READ_BYTES", 7)
    rows = [f"{i},{i},x{i},{i}\n" for i in range(500)]
    rows[490] = "490,2.5,é,007\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("".join(["a,b,c,d\n", *rows]).encode()))

    source = open_input([str(tmp_path / "a.csv.gz")])

    assert source.schema == {"a": pl.Int64, "b": pl.Float64, "c": pl.String, "d": pl.String}
    assert source.rows == 500


@pytest.mark.parametrize(
    ("encoding", "other"),
    [("utf-16", "utf-8"), ("utf-16-le", "utf-8"), ("cp1252", "utf-8"), ("utf-8-sig", "utf-16")],
)
def test_text_is_read_in_the_encoding_that_is_said(
    tmp_path: Path, encoding: str, other: str
) -> None:
    (tmp_path / "a.csv").write_bytes("n,é\r\n1,ü€\r\n".encode(encoding))
    (tmp_path / "a.jsonl").write_bytes('{"n": 1, "é": "ü€"}\n'.encode(encoding))

    for name in ("a.csv", "a.jsonl"):
        frame = read(tmp_path / name, ReadOptions(encoding=encoding))
        assert frame.to_dict(as_series=False) == {"n": [1], "é": ["ü€"]}
        with pytest.raises(DamagedFile, match=rf"a\.\w+ (is not|holds NUL bytes).*{other}"):
            read(tmp_path / name, ReadOptions(encoding=other))


def test_first_byte_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"n,s\n" + b"1,x\n" * 100 + "2,é\n".encode("cp1252"))

    with pytest.raises(DamagedFile, match="byte 0xe9 at offset 406") as caught:
        open_input([str(tmp_path)])
    assert "--encoding cp1252" in caught.value.hint
    with pytest.raises(UnknownName, match="no encoding 'uft-8'"):
        open_input([str(tmp_path)], read=ReadOptions(encoding="uft-8"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_the_headers(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text(f"n{delimiter}s\n1{delimiter}x y\n")
    assert read(tmp_path / "a.csv").rows() == [(1, "x y")]


def test_given_delimiter_wins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n^s,t\n1^x,y\n")
    assert read(tmp_path / "a.csv", ReadOptions(delimiter="^")).rows() == [(1, "x,y")]
    with pytest.raises(HeadwaterError, match="is not one character"):
        read(tmp_path / "a.csv", ReadOptions(delimiter="::"))


@pytest.mark.parametrize("options", [None, SKIP], ids=["refuse", "skip"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a,b\n1,"x\n2,3\n4,5\n', "a quote is not closed before the file ends"),
        ('a,b\n1,"x""\n2,3\n4,5""', "a quote is not closed before the file ends"),
        ('a,b\n"x,1\n2,3\n4,5\n', "row 2 goes over several lines and has 1 fields"),
    ],
)
def test_quote_that_is_left_open_swallows_no_rows(
    tmp_path: Path, options: ReadOptions | None, text: str, said: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DamagedFile, match=said):
        read(tmp_path / "a.csv", options)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n1,"x\n"\n', [(1, "x\n")]),
        ('a,b\n1,"x\n""\n"', [(1, 'x\n"\n')]),
        ('a,b\n1,5" pipe\n', [(1, '5" pipe')]),
        ("\n\na\n1\n\n3\n", [(1,), (None,), (3,)]),
        ("a,b", []),
    ],
)
def test_quotes_and_empty_lines_are_read_as_written(
    tmp_path: Path, text: str, rows: list[Any]
) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert read(tmp_path / "a.csv").rows() == rows


def test_bad_lines_of_json_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"n": 1}\nnope\n\n{"n": 2}\n[3]\n{"n": \n')

    with pytest.raises(DamagedFile, match=r"a\.jsonl cannot be read as jsonl: line 2"):
        read(tmp_path / "a.jsonl")
    source = open_input([str(tmp_path / "a.jsonl")], read=SKIP)

    assert read_all(source)["n"].to_list() == [1, 2]
    assert [row.line for row in source.bad] == [2, 5, 6]
    assert source.bad[0] == BadRow(source.files[0].ref.uri, 2, source.bad[0].reason, "nope")


def test_keys_of_json_that_differ_by_case_are_one_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"Fare": 1}\n')
    (tmp_path / "b.jsonl").write_bytes(b'{"fare": 2.5}\n')

    assert read(tmp_path).rows() == [(1.0,), (2.5,)]


def test_values_of_json_of_every_kind_are_text_where_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"v": true}\n{"v": 1}\n{"v": {"a": null}}\n')

    with pytest.raises(DamagedFile, match="type String with --drift"):
        open_input([str(tmp_path / "a.jsonl")])
    found = read(tmp_path / "a.jsonl", given_schema(v="String"))["v"].to_list()
    assert [json.loads(text) for text in found] == [True, 1, {"a": None}]


@pytest.mark.parametrize("block", [8, 1000])
def test_whole_numbers_of_json_are_not_rounded_to_fractions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(unpack, "READ_BYTES", block)  # the lines in two blocks, or in one
    lines = b'{"n": %d, "m": 9007199254740993}\n{"n": 0.5, "m": 1}\n'
    (tmp_path / "a.jsonl").write_bytes(lines % 2**53)
    assert read(tmp_path).rows() == [(2.0**53, 9007199254740993), (0.5, 1)]

    (tmp_path / "a.jsonl").write_bytes(lines % (2**53 + 1))
    with pytest.raises(UnsupportedData, match=r"'n' holds 9007199254740993 in .*a\.jsonl"):
        open_input([str(tmp_path)])
    assert read(tmp_path, given_schema(n="String"))["n"].to_list() == ["9007199254740993", "0.5"]


# --- what is refused before memory or disk goes ----------------------------------------------


@pytest.mark.parametrize("name", ["a.csv.zst", "a.csv.gz", "a.jsonl.zst"])
def test_small_file_that_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(unpack, "UNPACKED_FLOOR", 2**20)
    text = b'{"a": 1}\n' * 2**18 if "jsonl" in name else b"a,b\n" + b"0,0\n" * 2**20
    codec = "zstd" if name.endswith("zst") else "gzip"
    packed = pa.compress(text, codec=codec, asbytes=True)
    (tmp_path / name).write_bytes(packed)

    with pytest.raises(UnsupportedData, match="unpacks to more than 1") as caught:
        open_input([str(tmp_path)])
    assert "--max-expansion" in caught.value.hint
    allowed = open_input([str(tmp_path)], read=ReadOptions(max_expansion=100_000))
    assert allowed.rows == (2**18 if "jsonl" in name else 2**20)


def test_small_parquet_file_that_claims_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "CLAIMED_FLOOR", 2**20)
    pl.DataFrame({"n": pl.repeat(7, 2**20, dtype=pl.Int64, eager=True)}).write_parquet(
        tmp_path / "a.parquet"
    )

    with pytest.raises(UnsupportedData, match="claims 1,048,576 rows of at least 8"):
        open_input([str(tmp_path)])
    assert open_input([str(tmp_path)], read=ReadOptions(max_expansion=10**6)).rows == 2**20


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")

    with pytest.raises(UnsupportedData, match=r"a\.parquet has 2 columns named 'a'"):
        open_input([str(tmp_path / "a.parquet")])
    with pytest.raises(SchemaMismatch, match=r"a\.csv names column 'a' 2 times"):
        open_input([str(tmp_path / "a.csv")])


@pytest.mark.parametrize("inside", ["data", "data/*.parquet", "data/part.parquet", "data/p=1"])
def test_files_of_a_table_are_not_read_as_loose_files(tmp_path: Path, inside: str) -> None:
    table = tmp_path / "table"
    pl.DataFrame({"n": [1]}).write_delta(str(table))
    (table / "data" / "p=1").mkdir(parents=True)
    for folder in (table / "data", table / "data" / "p=1"):
        pl.DataFrame({"n": [1]}).write_parquet(folder / "part.parquet")

    with pytest.raises(UnsupportedData, match="lies in the table") as caught:
        open_input([str(table / inside)])
    assert str(table) in caught.value.hint
