"""Cutting covers every row exactly once, in order, in parts of about the wanted size."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import DataRef, Format, Part
from headwater.infra.storage.inputs import Input, InputFile, RowGroup
from headwater.infra.storage.named import NO_COPIES, Copies
from headwater.infra.units import GIB, MIB
from headwater.tasks.scan import (
    COMPRESSED_EXPANSION,
    MAX_PART_BYTES,
    MAX_PART_SCANS,
    MEMORY_SHARE,
    MIN_PART_BYTES,
    cut,
    of_copies,
    of_origins,
    part_bytes,
    require_small,
)


def an_input(files: Sequence[InputFile], format_: Format = Format.PARQUET) -> Input:
    return Input("file:///lake", format_, tuple(files), pl.Schema({"n": pl.Int64}))


def a_file(number: int, groups: Sequence[tuple[int, int]]) -> InputFile:
    ref = DataRef(f"file:///lake/{number:05d}.parquet", sum(s for _, s in groups) // 3, "v")
    partition = (("p", str(number % 2)),)
    row_groups = tuple(RowGroup(rows, size) for rows, size in groups)
    return InputFile(ref, sum(rows for rows, _ in groups), row_groups, partition)


def a_text(name: str, size: int) -> InputFile:
    return InputFile(DataRef(f"file:///lake/{name}", size, "v"))


def covered(parts: Sequence[Part]) -> list[tuple[str, int]]:
    """Each row as its file and its index, in the order of the parts."""
    rows: list[tuple[str, int]] = []
    for part in parts:
        for piece in part.slices:
            assert piece.rows is not None
            last = piece.first_row + piece.rows
            rows += [(piece.ref.uri, row) for row in range(piece.first_row, last)]
    return rows


groups = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4000)), max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(groups, max_size=6), st.integers(1, 5000))
def test_every_row_is_in_exactly_one_part_and_in_order(
    files: list[list[tuple[int, int]]], target_bytes: int
) -> None:
    source = an_input([a_file(number, groups) for number, groups in enumerate(files)])

    parts = cut(source, target_bytes)

    expected = [(f.ref.uri, row) for f in source.files for row in range(f.rows or 0)]
    assert covered(parts) == expected
    assert [part.index for part in parts] == list(range(len(parts)))
    assert all(part.slices for part in parts)
    partitions = {f.ref.uri: f.partition for f in source.files}
    assert all(s.partition == partitions[s.ref.uri] for p in parts for s in p.slices)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(10, 10**5))
def test_no_part_of_a_huge_row_group_is_much_larger_than_wanted(
    rows: int, size: int, target_bytes: int
) -> None:
    parts = cut(an_input([a_file(0, [(rows, size)])]), target_bytes)

    row_bytes = size / rows
    for part in parts:
        taken = sum(s.rows or 0 for s in part.slices)
        assert taken * row_bytes <= 2 * target_bytes + 2 * row_bytes


def test_a_huge_row_group_is_cut_inside() -> None:
    parts = cut(an_input([a_file(0, [(100, 1000)])]), 100)

    sizes = [sum(s.rows or 0 for s in part.slices) for part in parts]
    assert sizes == [20, 20, 20, 20, 20]
    assert [part.slices[0].first_row for part in parts] == [0, 20, 40, 60, 80]


def test_row_groups_that_follow_each_other_are_one_slice() -> None:
    parts = cut(an_input([a_file(0, [(10, 100), (10, 100), (10, 100)])]), 200)

    assert [[(s.first_row, s.rows) for s in p.slices] for p in parts] == [[(0, 20)], [(20, 10)]]


def test_small_files_share_a_part() -> None:
    parts = cut(an_input([a_file(number, [(1, 10)]) for number in range(25)]), 100)

    assert [len(part.slices) for part in parts] == [10, 10, 5]


def test_a_part_has_no_more_scans_than_an_engine_takes_well() -> None:
    texts = [a_text(f"{i:05d}.csv", 1) for i in range(2 * MAX_PART_SCANS + 1)]
    folders = [a_file(number, [(1, 1)]) for number in range(2 * MAX_PART_SCANS + 1)]
    alike = [a_file(2 * number, [(1, 1)]) for number in range(2 * MAX_PART_SCANS + 1)]

    of_texts = cut(an_input(texts, Format.CSV), 10**6)

    assert [len(p.slices) for p in of_texts] == [MAX_PART_SCANS, MAX_PART_SCANS, 1]
    assert [len(p.slices) for p in cut(an_input(folders), 10**6)] == [
        MAX_PART_SCANS,
        MAX_PART_SCANS,
        1,
    ]
    assert len(cut(an_input(alike), 10**6)) == 1


def test_files_without_rows_are_left_out() -> None:
    assert cut(an_input([a_file(0, []), a_file(1, [(0, 0)])]), 100) == ()


def test_a_text_file_is_never_cut() -> None:
    source = an_input([a_text("a.csv", 5000), a_text("b.csv", 10), a_text("c.csv", 10)], Format.CSV)

    parts = cut(source, 100)

    assert [[s.ref.uri[-5:] for s in p.slices] for p in parts] == [["a.csv"], ["b.csv", "c.csv"]]
    assert all(s.rows is None for p in parts for s in p.slices)


@pytest.mark.parametrize("ending", [".gz", ".zst", ".GZ"])
def test_compressed_text_counts_as_what_it_unpacks_to(ending: str) -> None:
    (part,) = cut(an_input([a_text(f"a.csv{ending}", 10)], Format.CSV), 100)

    assert part.slices[0].size_bytes == 10 * COMPRESSED_EXPANSION


def test_a_part_is_sized_to_memory_threads_and_bounds() -> None:
    big = an_input([a_file(0, [(10**9, 64 * GIB)])])
    small = an_input([a_file(0, [(10, 100)])])

    assert part_bytes(big, memory_gib_per_thread=2, threads=4) == 2 * GIB // MEMORY_SHARE
    assert part_bytes(big, memory_gib_per_thread=1000, threads=4) == MAX_PART_BYTES
    assert part_bytes(big, memory_gib_per_thread=0.001, threads=4) == MIN_PART_BYTES
    assert part_bytes(small, memory_gib_per_thread=2, threads=4) == MIN_PART_BYTES
    middle = an_input([a_file(0, [(10**6, 100 * MIB)])])
    assert part_bytes(middle, memory_gib_per_thread=8, threads=4) == 25 * MIB


def test_a_side_table_that_a_worker_could_not_hold_is_refused() -> None:
    side = an_input([a_file(0, [(1, 3 * GIB)])])

    require_small("weather", side, memory_gib=12)
    with pytest.raises(InvalidRequest, match=r"side table 'weather' has about 3.0 GiB") as caught:
        require_small("weather", side, memory_gib=11)

    assert "more memory" in caught.value.hint


def test_a_list_of_parts_names_originals_and_is_read_from_copies() -> None:
    original, copy, other = (DataRef(f"s3://lake/{n}.csv", 10, n) for n in "abc")
    source = Input(
        "s3://lake",
        Format.CSV,
        (InputFile(copy, 5, origin=original), InputFile(other, 5)),
        pl.Schema({"n": pl.Int64}),
    )
    parts = cut(source, 1)

    left = of_origins(source, parts)

    assert [piece.ref for part in parts for piece in part.slices] == [copy, other]
    assert [piece.ref for part in left for piece in part.slices] == [original, other]
    assert of_copies(source, left) == parts
    assert source.reading(NO_COPIES).files == source.files


def test_copies_take_the_place_of_files_that_were_scanned() -> None:
    original, copy = DataRef("s3://lake/a.csv", 10, "a"), DataRef("gs://near/a.csv", 10, "b")
    source = Input("s3://lake", Format.CSV, (InputFile(original, 5),), pl.Schema({"n": pl.Int64}))

    (file,) = source.reading(Copies(at={original: copy})).files

    assert (file.ref, file.origin, file.pinned) == (copy, original, original)
