"""What inputs must do in every store. Each store is a short subclass with its ``root``."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.infra.errors import (
    DamagedFile,
    InvalidRequest,
    NotFound,
    SchemaMismatch,
    SourceChanged,
    UnsupportedData,
)
from headwater.infra.models import Drift, Format, ReadOptions
from headwater.infra.storage import unpack
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import Input, open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.staging import stage
from headwater.infra.storage.uris import Uri

STRICT = ReadOptions(drift=Drift.STRICT)

ODD_KEYS = (
    "file[12].parquet",
    "hash#1.parquet",
    "50%.parquet",
    "50%25.parquet",
    "plus+and space.parquet",
    "caf\u00e9.parquet",
    "cafe\u0301.parquet",
    "q?x=1.parquet",
    "\u65e5\u672c.parquet",
)


def parquet(frame: pl.DataFrame | None = None, **options: Any) -> bytes:
    """A Parquet file as bytes; the numbers 1 and 2 where no ``frame`` is given."""
    buffer = io.BytesIO()
    (pl.DataFrame({"n": [1, 2]}) if frame is None else frame).write_parquet(buffer, **options)
    return buffer.getvalue()


def arrow_parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue().to_pybytes()


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


Write = Callable[[str, bytes], Uri]


class InputContract:
    """Subclasses give ``root``, an address where nothing is."""

    @pytest.fixture
    def root(self) -> Uri:
        raise NotImplementedError

    @pytest.fixture
    def write(self, root: Uri) -> Write:
        def write(name: str, data: bytes) -> Uri:
            open_filesystem(root).write(root / name, data)
            return root / name

        return write

    @pytest.fixture
    def read(self, tmp_path: Path) -> Callable[[Input], pl.DataFrame]:
        """All rows of an input, staged and read as a part reads them."""

        def read(source: Input) -> pl.DataFrame:
            frames = [pl.DataFrame(schema=source.schema)]
            for file in source.files:
                with stage(file.ref, directory=tmp_path) as staged:
                    lazy = read_slice(staged.path, source, partition=file.partition)
                    assert lazy.collect_schema() == source.schema
                    frames.append(lazy.collect())
            return pl.concat(frames)

        return read

    @pytest.fixture
    def rows(self, read: Any) -> Callable[..., list[Any]]:
        def rows(*sources: Uri | str) -> list[Any]:
            frame = read(open_input([str(s) for s in sources]))
            found = frame.rows() if frame.width > 1 else frame.to_series().to_list()
            return sorted(found, key=repr)

        return rows

    # Which files.

    def test_a_file(self, write: Write, rows: Any) -> None:
        assert rows(write("a.parquet", parquet())) == [1, 2]

    def test_a_folder_at_any_depth(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.parquet", parquet())
        write("deep/er/b.parquet", parquet(pl.DataFrame({"n": [3]})))

        assert rows(root) == rows(f"{root}/") == [1, 2, 3]

    def test_what_is_known_without_reading(self, root: Uri, write: Write) -> None:
        data = parquet(pl.DataFrame({"n": range(10)}), row_group_size=4)
        write("a.parquet", data)

        source = open_input([str(root)])

        assert (source.format, source.rows, source.size_bytes) == (Format.PARQUET, 10, len(data))
        assert [g.rows for g in source.files[0].row_groups] == [4, 4, 2]
        assert source.summary().files == 1

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("*.parquet", [1, 2, 3]),
            ("[ab].parquet", [1, 2]),
            ("[!ab].parquet", [3]),
            ("?.parquet", [1, 2, 3]),
            ("sub/*.parquet", [4]),
            ("**/*.parquet", [1, 2, 3, 4, 5]),
            ("sub/**/*.parquet", [4, 5]),
            ("a.parq*", [1]),
        ],
    )
    def test_a_pattern(
        self, root: Uri, write: Write, rows: Any, pattern: str, found: list[int]
    ) -> None:
        names = ["a.parquet", "b.parquet", "c.parquet", "sub/d.parquet", "sub/deep/e.parquet"]
        for number, name in enumerate(names, 1):
            write(name, parquet(pl.DataFrame({"n": [number]})))

        assert rows(root / pattern) == found

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [("y=*/m=7/*.parquet", [1, 3]), ("y=201[34]/m=*/*", [3, 4]), ("y=2013/m=?/*", [3])],
    )
    def test_a_pattern_of_partition_folders(
        self, root: Uri, write: Write, rows: Any, pattern: str, found: list[int]
    ) -> None:
        names = ["y=2012/m=7", "y=2012/m=8", "y=2013/m=7", "y=2014/m=8"]
        for number, name in enumerate(names, 1):
            write(f"{name}/a.parquet", parquet(pl.DataFrame({"n": [number]})))

        assert [row[0] for row in rows(root / pattern)] == found

    def test_a_pattern_that_matches_nothing_is_named(self, root: Uri, write: Write) -> None:
        write("a.parquet", parquet())

        with pytest.raises(NotFound, match=r"no file matches .*\*\.csv"):
            open_input([str(root / "*.csv")])

    @pytest.mark.parametrize("pattern", ["*", "**"])
    def test_a_pattern_leaves_markers_out(
        self, root: Uri, write: Write, rows: Any, pattern: str
    ) -> None:
        write("a.parquet", parquet())
        write("_SUCCESS", b"")
        write(".a.parquet.crc", b"crc")

        assert rows(root / pattern) == [1, 2]

    def test_a_pattern_leaves_a_tables_log_to_it(self, root: Uri, write: Write) -> None:
        self.table(root / "t", pl.DataFrame({"n": [1]}))

        with pytest.raises(UnsupportedData, match="holds tables"):
            open_input([str(root / "**" / "*.parquet")])

    def test_a_list_of_sources(self, write: Write, rows: Any) -> None:
        one = write("a.parquet", parquet())
        two = write("x/b.parquet", parquet(pl.DataFrame({"n": [3]})))

        assert rows(one, two) == [1, 2, 3]

    def test_the_same_file_twice_is_refused(self, root: Uri, write: Write) -> None:
        one = write("a.parquet", parquet())

        with pytest.raises(InvalidRequest, match=r"a\.parquet is named by two sources"):
            open_input([str(root), str(one)])

    @pytest.mark.parametrize("name", ODD_KEYS)
    def test_a_file_with_an_odd_name(self, root: Uri, write: Write, rows: Any, name: str) -> None:
        uri = write(name, parquet())

        assert rows(uri) == [1, 2]
        assert rows(root) == [1, 2]

    def test_markers_are_no_data(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.parquet", parquet())
        for name in ("_SUCCESS", ".a.parquet.crc", "_metadata", "_common_metadata", "_tmp/b.json"):
            write(name, b"")

        assert rows(root) == [1, 2]

    def test_nothing_but_markers_is_named(self, root: Uri, write: Write) -> None:
        write("_SUCCESS", b"")

        with pytest.raises(NotFound, match="holds no data, only markers"):
            open_input([str(root)])

    def test_missing_names_the_near_ones(self, root: Uri, write: Write) -> None:
        write("flights.parquet", parquet())

        with pytest.raises(NotFound, match=r"fligths\.parquet") as caught:
            open_input([str(root / "fligths.parquet")])

        assert "did you mean 'flights.parquet'?" in caught.value.hint

    def test_an_unknown_kind_is_named(self, root: Uri, write: Write) -> None:
        write("a.parquet", parquet())
        write("notes.docx", b"x")

        with pytest.raises(UnsupportedData, match=r"notes\.docx is no known kind of data"):
            open_input([str(root)])

    def test_two_kinds_are_refused(self, root: Uri, write: Write) -> None:
        write("a.parquet", parquet())
        write("b.csv", b"n\n1\n")

        with pytest.raises(UnsupportedData, match=r"a\.parquet is parquet, b\.csv is csv"):
            open_input([str(root)])
        with pytest.raises(SchemaMismatch, match="must have one format"):
            open_input([str(root / "a.parquet"), str(root / "b.csv")])

    def test_a_folder_with_tables_inside_is_refused(self, root: Uri) -> None:
        self.table(root / "t1", pl.DataFrame({"n": [1]}))
        self.table(root / "t2", pl.DataFrame({"n": [1]}))

        with pytest.raises(UnsupportedData, match=r"holds tables, .*t1.*t2"):
            open_input([str(root)])

    def test_a_change_after_the_scan_is_seen(self, root: Uri, write: Write, read: Any) -> None:
        write("a.parquet", parquet())
        source = open_input([str(root)])
        write("a.parquet", parquet(pl.DataFrame({"n": [7, 8, 9]})))

        with pytest.raises(SourceChanged, match=r"a\.parquet"):
            read(source)

    # Folders named after values.

    def test_values_in_folder_names_are_typed_and_exact(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        for number, (year, day, code) in enumerate(
            [
                ("2013", "2013-01-02", "007"),
                ("-1", "2014-01-02", "a%2Fb"),
                ("__HIVE_DEFAULT_PARTITION__", "__HIVE_DEFAULT_PARTITION__", "50%25"),
                ("0", "2015-12-31", "__HIVE_DEFAULT_PARTITION__"),
                ("1", "2015-12-31", "x=y"),
            ]
        ):
            name = f"year={year}/day={day}/code={code}/a.parquet"
            write(name, parquet(pl.DataFrame({"n": [number]})))

        expected = [
            (0, 2013, dt.date(2013, 1, 2), "007"),
            (1, -1, dt.date(2014, 1, 2), "a/b"),
            (2, None, None, "50%"),
            (3, 0, dt.date(2015, 12, 31), None),
            (4, 1, dt.date(2015, 12, 31), "x=y"),
        ]
        assert rows(root) == expected
        assert open_input([str(root)]).partition_by == ("year", "day", "code")

    @pytest.mark.parametrize("values", [["007", "8"], ["1", "x"], ["-0"], ["1e3"], ["9" * 19]])
    def test_texts_that_are_no_exact_integers_stay_text(
        self, root: Uri, write: Write, rows: Any, values: list[str]
    ) -> None:
        for value in values:
            write(f"p={value}/a.parquet", parquet(pl.DataFrame({"n": [1]})))

        assert rows(root) == sorted((1, value) for value in values)

    def test_a_folders_value_wins_over_a_column(self, root: Uri, write: Write, rows: Any) -> None:
        write("n=5/a.parquet", parquet(pl.DataFrame({"n": [1], "m": [2]})))

        assert rows(root) == [(2, 5)]

    def test_folders_of_text_files_name_values_too(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("p=1/a.csv", b"n\n1\n")
        write("p=2/a.csv", b"n\n2\n")

        assert rows(root) == [(1, 1), (2, 2)]

    def test_folders_that_disagree_are_named(self, root: Uri, write: Write) -> None:
        write("p=1/a.parquet", parquet())
        write("q=1/b.parquet", parquet())

        with pytest.raises(SchemaMismatch, match="name different columns"):
            open_input([str(root)])

    # Parquet that is none, or not whole.

    @pytest.mark.content
    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda data: b"", "is empty: no Parquet file has 0 bytes"),
            (lambda data: b"n\n1\n2\n", "is no Parquet file: it begins with b'n"),
            (lambda data: b"XXXX" + data[4:], "is no Parquet file: it begins with b'XXXX'"),
            (lambda data: data[:-1], "is cut short: its Parquet footer is missing"),
            (lambda data: data[:4], "is cut short"),
            (lambda data: data[: len(data) // 2], "is cut short"),
            (lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1", "has a broken Parquet footer"),
            (lambda data: data[:-8] + b"\x00\x00\x00\x00PAR1", "has a broken Parquet footer"),
            (lambda data: b"PAR1\x04\x00\x00\x00PAR1", "has a broken Parquet footer"),
            (
                lambda data: data[:-40] + bytes(255 - b for b in data[-40:-8]) + data[-8:],
                "has a broken Parquet footer",
            ),
        ],
    )
    def test_a_broken_parquet_file_is_named(
        self, root: Uri, write: Write, damage: Callable[[bytes], bytes], said: str
    ) -> None:
        write("a.parquet", parquet())
        write("b.parquet", damage(parquet()))

        with pytest.raises(DamagedFile, match=r"b\.parquet") as caught:
            open_input([str(root)])

        assert said in str(caught.value)
        assert caught.value.hint

    @pytest.mark.content
    @pytest.mark.parametrize(
        "damage", [lambda d: b"PARE" + d[4:], lambda d: d[:-4] + b"PARE"], ids=["head", "tail"]
    )
    def test_encrypted_parquet_is_named(
        self, write: Write, damage: Callable[[bytes], bytes]
    ) -> None:
        uri = write("a.parquet", damage(parquet()))

        with pytest.raises(UnsupportedData, match=r"a\.parquet is encrypted Parquet"):
            open_input([str(uri)])

    def test_a_footer_longer_than_the_first_read(self, write: Write, rows: Any) -> None:
        frame = pl.DataFrame({f"column_{i:05d}": [i] for i in range(1500)})
        uri = write("wide.parquet", parquet(frame))

        assert rows(uri) == frame.rows()

    @pytest.mark.content
    def test_old_time_stamps_are_refused_by_name(self, write: Write) -> None:
        table = pa.table({"at": pa.array([0], pa.timestamp("us")), "n": [1]})
        data = arrow_parquet(table, use_deprecated_int96_timestamps=True)
        uri = write("a.parquet", data)

        with pytest.raises(UnsupportedData, match=r"a\.parquet: column 'at' has the old INT96"):
            open_input([str(uri)])

    @pytest.mark.content
    def test_a_file_without_rows(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.parquet", parquet(pl.DataFrame(schema={"n": pl.Int64})))
        assert rows(root) == []
        write("b.parquet", parquet())
        assert rows(root) == [1, 2]

    @pytest.mark.content
    def test_files_that_differ_are_told_apart_with_a_diff(self, root: Uri, write: Write) -> None:
        write("a.parquet", parquet(pl.DataFrame({"n": [1], "s": ["x"]})))
        write("b.parquet", parquet(pl.DataFrame({"n": [1.5], "t": ["x"]})))

        with pytest.raises(SchemaMismatch) as caught:
            open_input([str(root)], read=STRICT)

        said = str(caught.value)
        assert "b.parquet differs from" in said
        for line in ("n: Int64 there, Float64 here", "s: String there, missing here", "t: missing"):
            assert line in said

    @pytest.mark.content
    def test_files_that_differ_are_widened(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.parquet", parquet(pl.DataFrame({"n": [1], "s": ["x"]})))
        write("b.parquet", parquet(pl.DataFrame({"N": [1.5], "t": ["y"]})))

        assert rows(root) == [(1.0, "x", None), (1.5, None, "y")]
        notes = "\n".join(open_input([str(root)]).notes)
        for said in ("'N' of ", "read as Float64", "'s' is null in ", "'t' is null in "):
            assert said in notes

    @pytest.mark.content
    def test_columns_come_in_the_order_of_the_first_file(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.parquet", parquet(pl.DataFrame({"n": [1], "s": ["x"]})))
        write("b.parquet", parquet(pl.DataFrame({"s": ["y"], "n": [2]})))

        assert rows(root) == [(1, "x"), (2, "y")]

    @pytest.mark.content
    def test_names_that_read_as_patterns_are_only_names(self, write: Write, rows: Any) -> None:
        uri = write("a.parquet", parquet(pl.DataFrame({"*": [1], "^a.*$": [2], "a": [3]})))

        assert rows(uri) == [(1, 2, 3)]

    # CSV.

    @pytest.mark.parametrize(
        "text",
        [
            b"n,s\n1,x\n2,y\n",
            b"\xef\xbb\xbfn,s\n1,x\n2,y\n",
            b"n,s\r\n1,x\r\n2,y\r\n",
            b"n,s\n1,x\n2,y",
            b'"n","s"\n1,"x"\n2,"y"\n',
        ],
        ids=["plain", "bom", "crlf", "no-last-newline", "quoted"],
    )
    @pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".CSV"])
    def test_csv(self, write: Write, rows: Any, text: bytes, ending: str) -> None:
        pack = {".csv.gz": gzip.compress, ".csv.zst": zstd}.get(ending, bytes)
        uri = write(f"a{ending}", pack(text))

        assert rows(uri) == [(1, "x"), (2, "y")]

    @pytest.mark.content
    def test_csv_with_quoted_newlines_and_commas(self, write: Write, rows: Any) -> None:
        uri = write("a.csv", b'n,s\n1,"one\r\ntwo, ""three"""\n2,y\n')

        assert rows(uri) == [(1, 'one\r\ntwo, "three"'), (2, "y")]

    @pytest.mark.content
    @pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
    def test_csv_with_nothing_but_a_header_has_no_rows(
        self, root: Uri, write: Write, rows: Any, ending: str
    ) -> None:
        pack = gzip.compress if ending.endswith(".gz") else bytes
        write(f"a{ending}", pack(b"n,s\n"))

        assert rows(root) == []
        assert list(open_input([str(root)]).schema) == ["n", "s"]

    @pytest.mark.content
    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    def test_a_text_file_without_a_byte_is_named(self, root: Uri, write: Write, name: str) -> None:
        write(name, b"")

        with pytest.raises(DamagedFile, match=rf"{name} is empty"):
            open_input([str(root)])

    @pytest.mark.content
    def test_csv_files_may_order_their_columns_differently(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.csv", b"n,s\n1,x\n")
        write("b.csv", b"s,n\ny,2\n")

        assert rows(root) == [(1, "x"), (2, "y")]

    @pytest.mark.content
    def test_integers_in_one_csv_file_and_decimals_in_the_next(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.csv", b"n,s\n1,x\n")
        write("b.csv", b"n,s\n2.5,y\n")

        assert rows(root) == [(1.0, "x"), (2.5, "y")]

    @pytest.mark.content
    def test_csv_values_of_two_kinds_are_text(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.csv", b"n,s\n1,x\n")
        write("b.csv", b"n,s\ntrue,y\n")

        assert rows(root) == [("1", "x"), ("true", "y")]
        (note,) = open_input([str(root)]).notes
        assert re.search(r"'n' is read as String: Int64 in .*a\.csv, Boolean in .*b\.csv", note)
        with pytest.raises(SchemaMismatch, match="n: Int64 there, Boolean here"):
            open_input([str(root)], read=STRICT)

    @pytest.mark.content
    def test_csv_files_with_other_columns_are_told_apart(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.csv", b"n,s\n1,x\n")
        write("b.csv", b"n,t\n2,y\n")

        with pytest.raises(SchemaMismatch, match="t: missing there, String here"):
            open_input([str(root)], read=STRICT)
        assert rows(root) == [(1, "x", None), (2, None, "y")]

    @pytest.mark.content
    def test_a_csv_column_without_a_value_is_text(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.csv", b"n,s\n1,\n2,\n")

        assert rows(root) == [(1, None), (2, None)]
        assert open_input([str(root)]).schema["s"] == pl.String

    @pytest.mark.content
    def test_a_csv_column_without_a_value_in_one_file_is_text_in_all(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.csv", b"n,s\n1,\n")
        write("b.csv", b"n,s\n3,007\n")

        assert rows(root) == [(1, None), (3, "007")]

    @pytest.mark.content
    def test_compressed_text_that_is_cut_short_is_named(self, root: Uri, write: Write) -> None:
        write("a.csv.gz", gzip.compress(b"n,s\n" + b"1,x\n" * 5000)[:-20])

        with pytest.raises(DamagedFile, match=r"a\.csv\.gz is not whole gzip data"):
            open_input([str(root)])

    @pytest.mark.content
    def test_bytes_that_are_no_text_are_named(self, root: Uri, write: Write, rows: Any) -> None:
        write("a.csv", parquet(pl.DataFrame({"n": range(1000)}).with_columns(s=pl.col("n") * 7)))

        with pytest.raises(DamagedFile, match=r"a\.csv"):
            rows(root)

    # JSON lines.

    @pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json", ".jsonl.gz", ".jsonl.zst"])
    def test_json_lines(self, write: Write, rows: Any, ending: str) -> None:
        pack = {"gz": gzip.compress, "zst": zstd}.get(ending.rpartition(".")[2], bytes)
        text = b'{"n": 1, "s": "x", "in": {"a": [1, 2]}}\n{"s": "y", "n": 2}\n'
        uri = write(f"a{ending}", pack(text))

        assert rows(uri) == [(1, "x", {"a": [1, 2]}), (2, "y", None)]

    @pytest.mark.content
    def test_keys_may_be_missing_from_lines_and_files(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.jsonl", b'{"n": 1}\n{"n": 2, "s": "x"}\n')
        write("b.jsonl", b'{"n": 2.5, "t": true}\n')

        expected = [(1.0, None, None), (2.0, "x", None), (2.5, None, True)]
        assert rows(root) == expected

    @pytest.mark.content
    def test_nested_keys_may_be_missing_from_files(
        self, root: Uri, write: Write, rows: Any
    ) -> None:
        write("a.jsonl", b'{"in": {"a": 1}}\n')
        write("b.jsonl", b'{"in": {"b": "x"}}\n')

        assert rows(root) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]

    @pytest.mark.content
    def test_keys_that_come_late_are_read(
        self, write: Write, rows: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(unpack, "READ_BYTES", 16)  # each line in a block of its own
        early, late = b'{"n": 1, "in": [{"a": 1}]}\n', b'{"n": 2.5, "in": [{"b": 1}], "m": 1}\n'
        uri = write("a.jsonl", early + late)

        assert rows(uri) == [
            (1.0, [{"a": 1, "b": None}], None),
            (2.5, [{"a": None, "b": 1}], 1),
        ]

    @pytest.mark.content
    def test_json_that_is_none_is_named(self, root: Uri, write: Write) -> None:
        write("a.jsonl", b'{"n": 1}\n{"n": \n')

        with pytest.raises(DamagedFile, match=r"a\.jsonl cannot be read as jsonl"):
            open_input([str(root)])

    # Tables.

    def test_a_table_is_read_through_its_log(self, root: Uri, rows: Any, write: Write) -> None:
        self.table(root / "t", pl.DataFrame({"n": [1]}))
        self.table(root / "t", pl.DataFrame({"n": [2, 3]}), mode="overwrite")
        write("t/stray.parquet", parquet())

        source = open_input([str(root / "t")])

        assert rows(root / "t") == [2, 3]
        assert (source.format, source.version, source.rows) == (Format.DELTA, "1", 2)
        old = open_input([str(root / "t")], version=0)
        assert (old.version, old.rows) == ("0", 1)

    def test_a_tables_missing_file_is_named(self, root: Uri) -> None:
        self.table(root / "t", pl.DataFrame({"n": [1]}))
        fs = open_filesystem(root)
        (part,) = [r for r in fs.list(root / "t") if r.uri.endswith(".parquet")]
        fs.delete(Uri.parse(part.uri))

        with pytest.raises(NotFound, match=r"\.parquet"):
            open_input([str(root / "t")])

    def test_a_version_of_what_is_no_table_is_refused(self, write: Write) -> None:
        uri = write("a.parquet", parquet())

        with pytest.raises(InvalidRequest, match="is no table, so it has no version 3"):
            open_input([str(uri)], version=3)

    def table(
        self, root: Uri, frame: pl.DataFrame, *, mode: Any = "error", by: Sequence[str] = ()
    ) -> None:
        fs = open_filesystem(root)
        deltalake.write_deltalake(
            fs.delta_uri(root),
            pa.table(frame.to_arrow()),
            mode=mode,
            partition_by=list(by) or None,
            storage_options=fs.delta_options(root),
        )


class ObjectStoreInputContract(InputContract):
    """What object stores must do besides. Subclasses also give ``other_client``."""

    @pytest.fixture
    def other_client(self) -> Callable[[Uri, bytes], None]:
        """Writes an object behind our back, with the store's own SDK or none."""
        raise NotImplementedError

    def test_folder_markers_are_no_data(
        self, root: Uri, other_client: Callable[[Uri, bytes], None], write: Write, rows: Any
    ) -> None:
        write("sub/a.parquet", parquet())
        for key in ("lake/", "lake/sub/"):
            other_client(replace(root, key=key), b"")

        assert rows(root) == rows(f"{root}/") == [1, 2]

    def test_a_missing_bucket_is_named(self, root: Uri) -> None:
        missing = replace(root, bucket="no-such-bucket", key="a.parquet")

        with pytest.raises(NotFound, match="no bucket 'no-such-bucket'"):
            open_input([str(missing)])

    def test_an_empty_prefix_is_named(self, root: Uri) -> None:
        with pytest.raises(NotFound, match=f"nothing is at {root}"):
            open_input([str(root)])
