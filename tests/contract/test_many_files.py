"""Many small files: read in few scans, and the rows are those of one file after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest

from headwater.infra.models import ReadOptions, Slice
from headwater.infra.storage.inputs import Input, open_input
from headwater.tasks.pieces import StagedPiece, scan_pieces, stage_pieces
from headwater.tasks.read import together


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def staged(source: Input, stack: ExitStack, tmp: Path) -> list[StagedPiece]:
    slices = [Slice(f.ref, 0, f.rows, 1, f.partition) for f in source.files]
    return stage_pieces(stack, slices, source, tmp)


def one_by_one(pieces: list[StagedPiece], source: Input) -> pl.DataFrame:
    return pl.concat([piece.scan(source).collect() for piece in pieces])


def test_files_with_the_same_columns_are_one_scan(tmp_path: Path, stack: ExitStack) -> None:
    for i in range(300):
        pl.DataFrame({"n": [i, -i], "s": [str(i)] * 2}).write_parquet(tmp_path / f"{i:03}.parquet")
    source = open_input([str(tmp_path)])

    frames, rows = scan_pieces(staged(source, stack, tmp_path), source)

    assert (len(frames), rows) == (1, 600)
    assert frames[0].collect()["n"].to_list() == [n for i in range(300) for n in (i, -i)]


def test_files_that_differ_keep_their_order_and_their_values(
    tmp_path: Path, stack: ExitStack
) -> None:
    shapes = [
        pl.DataFrame({"n": [1, 2], "s": ["a", None]}),
        pl.DataFrame({"n": [3], "s": ["b"]}),
        pl.DataFrame({"n": [4], "s": ["c"]}, schema_overrides={"n": pl.Int32}),
        pl.DataFrame({"n": [5], "s": ["d"]}, schema_overrides={"n": pl.Int32}),
        pl.DataFrame({"n": [6]}),
        pl.DataFrame({"n": [7]}),
        pl.DataFrame({"S": ["e"], "N": [8]}),
        pl.DataFrame({"s": ["f"], "n": [9]}),
        pl.DataFrame({"n": [], "s": []}, schema={"n": pl.Int64, "s": pl.String}),
        pl.DataFrame({"n": [10], "s": ["g"]}),
    ]
    for i, frame in enumerate(shapes):
        frame.write_parquet(tmp_path / f"{i:02}.parquet")
    source = open_input([str(tmp_path)])
    pieces = staged(source, stack, tmp_path)

    frames, rows = scan_pieces(pieces, source)

    found = together(frames, source.schema).collect()
    assert found.equals(one_by_one(pieces, source))
    assert found["n"].to_list() == list(range(1, 11))
    assert (len(frames), rows) == (6, 10)


def test_each_partition_keeps_its_value(tmp_path: Path, stack: ExitStack) -> None:
    for day in ("1", "2", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        for i in range(3):
            pl.DataFrame({"n": [i]}).write_parquet(folder / f"{i}.parquet")
    source = open_input([str(tmp_path)])
    pieces = staged(source, stack, tmp_path)

    frames, _ = scan_pieces(pieces, source)

    assert len(frames) == 3
    found = together(frames, source.schema).collect()
    assert found.equals(one_by_one(pieces, source))
    assert found["day"].null_count() == 3


def test_a_part_of_a_file_is_not_the_file(tmp_path: Path, stack: ExitStack) -> None:
    for i in range(2):
        pl.DataFrame({"n": range(10 * i, 10 * i + 6)}).write_parquet(
            tmp_path / f"{i}.parquet", row_group_size=2
        )
    source = open_input([str(tmp_path)])
    one, other = (f.ref for f in source.files)
    slices = [Slice(one, 2, 4, 1), Slice(other, 0, 4, 1)]

    frames, rows = scan_pieces(stage_pieces(stack, slices, source, tmp_path), source)

    found = together(frames, source.schema).collect()["n"].to_list()
    assert found == [2, 3, 4, 5, 10, 11, 12, 13]
    assert rows == 8


def test_a_value_that_does_not_fit_names_the_file_it_is_in(
    tmp_path: Path, stack: ExitStack
) -> None:
    for i in range(5):
        pl.DataFrame({"n": [2**40 if i == 3 else i]}).write_parquet(tmp_path / f"{i}.parquet")
    source = open_input([str(tmp_path)], read=ReadOptions(columns=(("n", "Int32"),)))

    frames, _ = scan_pieces(staged(source, stack, tmp_path), source)

    with pytest.raises(pl.exceptions.PolarsError, match=r"1099511627776 in .*3\.parquet"):
        together(frames, source.schema).collect()
