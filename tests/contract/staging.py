"""What staging must do from every store. Each store is a short subclass with its ``root``."""

from __future__ import annotations

import gzip
import io
import resource
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.infra.errors import (
    DamagedFile,
    HeadwaterError,
    NotFound,
    SourceChanged,
    StoreUnavailable,
)
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import CUT_BYTES
from headwater.infra.storage.scratch import Room
from headwater.infra.storage.staging import Wanted, stage, stage_all
from headwater.infra.storage.uris import Uri
from headwater.infra.units import KIB, MIB

TEXT = b"a,b\n" + b"1,2\n" * 100_000

COLUMNS = 16
ROWS = 60_000


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@cache
def wide(rows: int = ROWS, columns: int = COLUMNS) -> pa.Table:
    """Numbers that no codec makes smaller, of another kind in each column."""
    numbers = pl.int_range(rows, eager=True).cast(pl.UInt64)
    return pl.DataFrame({f"c{i}": numbers.hash(seed=i) for i in range(columns)}).to_arrow()


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, **{"use_dictionary": False, **options})
    return buffer.getvalue().to_pybytes()


class StagingContract:
    """Subclasses give ``root``, an empty place."""

    @pytest.fixture
    def root(self) -> Uri:
        raise NotImplementedError

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        folder = tmp_path / "staging"
        folder.mkdir()
        return folder

    @pytest.fixture
    def put(self, root: Uri) -> Callable[[str, bytes], DataRef]:
        def put(name: str, data: bytes) -> DataRef:
            return open_filesystem(root).write(root / name, data)

        return put

    @pytest.mark.parametrize("name", ["x.parquet", "a.b.csv", "odd #1?[2]*.csv", "nosuffix"])
    def test_the_bytes_and_the_ending_are_kept(self, put: Any, directory: Path, name: str) -> None:
        ref = put(name, TEXT)

        with stage(ref, directory=directory) as staged:
            assert staged.path.read_bytes() == TEXT
            assert staged.path.suffix == Path(name).suffix
            assert staged.bytes_read == len(TEXT)

        assert list(directory.iterdir()) == []

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".ndjson", ".json", ".CSV"])
    @pytest.mark.parametrize("codec", ["gz", "zst"])
    def test_compressed_text_is_decompressed(
        self, put: Any, directory: Path, codec: str, suffix: str
    ) -> None:
        compressed = gzip.compress(TEXT) if codec == "gz" else zstd(TEXT)
        ref = put(f"day.1{suffix}.{codec}", compressed)

        with stage(ref, directory=directory) as staged:
            assert staged.path.suffix == suffix
            assert staged.path.parent == directory
            assert staged.path.read_bytes() == TEXT
            assert staged.bytes_read == len(compressed)

        assert list(directory.iterdir()) == []

    def test_several_members_and_frames_are_one_text(self, put: Any, directory: Path) -> None:
        members = put("a.csv.gz", gzip.compress(TEXT) + gzip.compress(b"3,4\n"))
        frames = put("a.csv.zst", zstd(TEXT) + zstd(b"3,4\n"))

        for ref in (members, frames):
            with stage(ref, directory=directory) as staged:
                assert staged.path.read_bytes() == TEXT + b"3,4\n"

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("cut.csv.gz", gzip.compress(TEXT)[:-9]),
            ("cut.csv.zst", zstd(TEXT)[:-9]),
            ("second member cut.csv.gz", gzip.compress(TEXT) + gzip.compress(TEXT)[:50]),
            ("wrong sum.csv.gz", gzip.compress(TEXT)[:-8] + b"\1" * 8),
            ("not compressed.csv.gz", TEXT),
            ("not compressed.csv.zst", TEXT),
            ("empty.csv.gz", b""),
        ],
    )
    def test_damaged_text_is_named(self, put: Any, directory: Path, name: str, data: bytes) -> None:
        ref = put(name, data)

        with (
            pytest.raises(DamagedFile, match=name.replace(".", r"\.")),
            stage(ref, directory=directory),
        ):
            pass

        assert list(directory.iterdir()) == []

    def test_compressed_files_of_other_kinds_are_left_alone(
        self, put: Any, directory: Path
    ) -> None:
        ref = put("x.parquet.gz", b"no text")

        with stage(ref, directory=directory) as staged:
            assert staged.path.read_bytes() == b"no text"

    def test_an_input_that_changed_since_the_scan_is_refused(
        self, put: Any, directory: Path
    ) -> None:
        ref = put("a.csv", b"old")
        put("a.csv", b"newer")

        with pytest.raises(SourceChanged, match=r"a\.csv"), stage(ref, directory=directory):
            pass

        assert list(directory.iterdir()) == []

    def test_an_input_that_is_gone_is_named(self, put: Any, root: Uri, directory: Path) -> None:
        ref = put("a.csv", b"old")
        open_filesystem(root).delete(root / "a.csv")

        with pytest.raises(NotFound, match=r"a\.csv"), stage(ref, directory=directory):
            pass

    def test_copies_are_removed_when_the_body_fails(self, put: Any, directory: Path) -> None:
        ref = put("a.csv.gz", gzip.compress(TEXT))

        with pytest.raises(ZeroDivisionError), stage(ref, directory=directory):
            raise ZeroDivisionError

        assert list(directory.iterdir()) == []

    def test_the_same_input_can_be_staged_twice_at_a_time(self, put: Any, directory: Path) -> None:
        ref = put("a.csv.gz", gzip.compress(TEXT))

        with (
            stage(ref, directory=directory) as first,
            stage(ref, directory=directory) as second,
        ):
            assert first.path != second.path
            assert first.path.read_bytes() == second.path.read_bytes() == TEXT

    # What is needed of a Parquet file.

    def test_a_few_columns_cost_a_few_bytes(self, put: Any, directory: Path) -> None:
        table = wide()
        ref = put("wide.parquet", parquet(table))
        names = ["c1", "c7", "c15"]

        with stage(ref, names, directory=directory) as staged:
            assert staged.bytes_read < 0.3 * ref.size_bytes
            assert staged.path.stat().st_size == ref.size_bytes
            expected = pl.DataFrame(table.select(names))
            assert pl.scan_parquet(staged.path).select(names).collect().equals(expected)
            assert pq.read_table(staged.path, columns=names).equals(table.select(names))

    def test_some_row_groups_cost_their_bytes(self, put: Any, directory: Path) -> None:
        table = wide()
        ref = put("groups.parquet", parquet(table, row_group_size=ROWS // 10))

        with stage(ref, directory=directory, row_groups=[3, 4]) as staged:
            assert staged.bytes_read < 0.25 * ref.size_bytes
            rows = pl.scan_parquet(staged.path).slice(3 * ROWS // 10, 2 * ROWS // 10).collect()

        assert rows.equals(pl.DataFrame(table)[3 * ROWS // 10 : 5 * ROWS // 10])

    def test_nested_columns_come_with_all_their_leaves(self, put: Any, directory: Path) -> None:
        plain = pl.DataFrame(wide(20_000, 12))
        frame = plain.select(
            pl.struct("c0", b=pl.struct("c1", c=pl.concat_list("c2", "c3"))).alias("s"),
            pl.concat_list("c4", "c5").alias("l"),
            "c6",
            "c7",
            pl.struct("c8", "c9").alias("t"),
        )
        buffer = io.BytesIO()
        frame.write_parquet(buffer, row_group_size=5_000)
        ref = put("nested.parquet", buffer.getvalue())

        for names in (["s"], ["l", "c7"], ["t"], ["c6"]):
            with stage(ref, names, directory=directory) as staged:
                assert staged.bytes_read < 0.7 * ref.size_bytes
                read = pl.scan_parquet(staged.path).select(names).collect()
            assert read.equals(frame.select(names))

    @pytest.mark.parametrize("columns", [None, ["c0"], []])
    def test_files_that_hold_little_come_whole(
        self, put: Any, directory: Path, columns: Collection[str] | None
    ) -> None:
        for rows in (0, 1, 100):
            ref = put(f"{rows}.parquet", parquet(wide(rows)))

            with stage(ref, columns, directory=directory) as staged:
                assert staged.bytes_read == ref.size_bytes
                assert pq.read_table(staged.path).equals(wide(rows))

    def test_a_large_row_group_comes_in_cuts(self, put: Any, directory: Path) -> None:
        table = wide(2 * CUT_BYTES // 8 + 1000, 3)
        ref = put("large.parquet", parquet(table, row_group_size=table.num_rows))

        with stage(ref, ["c1"], directory=directory) as staged:
            assert 2 * CUT_BYTES < staged.bytes_read < 0.4 * ref.size_bytes
            assert pq.read_table(staged.path, columns=["c1"]).equals(table.select(["c1"]))

    def test_a_parquet_file_that_changed_since_the_scan_is_refused(
        self, put: Any, directory: Path
    ) -> None:
        """Also after its footer was read: the columns are of the pinned version or of none."""
        ref = put("a.parquet", parquet(wide()))
        with stage(ref, ["c1"], directory=directory):
            pass
        put("a.parquet", parquet(wide().slice(1)))

        with (
            pytest.raises(SourceChanged, match=r"a\.parquet"),
            stage(ref, ["c2"], directory=directory),
        ):
            pass

        assert list(directory.iterdir()) == []

    def test_a_file_that_is_no_parquet_is_named(self, put: Any, directory: Path) -> None:
        ref = put("a.parquet", b"a,b\n" * MIB)

        with (
            pytest.raises(DamagedFile, match=r"a\.parquet is no Parquet file"),
            stage(ref, ["a"], directory=directory),
        ):
            pass

    def test_of_several_inputs_the_one_that_fails_leaves_no_copy(
        self, put: Any, root: Uri, directory: Path
    ) -> None:
        refs = [put(f"{i}.parquet", parquet(wide(20_000))) for i in range(5)]
        open_filesystem(root).delete(root / "3.parquet")

        with (
            pytest.raises(NotFound, match=r"3\.parquet"),
            stage_all([Wanted(ref) for ref in refs], directory=directory),
        ):
            pass

        assert list(directory.iterdir()) == []

    # The disk.

    def test_text_that_unpacks_to_more_than_there_is_room_for_is_refused(
        self, put: Any, directory: Path
    ) -> None:
        ref = put("bomb.csv.gz", gzip.compress(b"0" * (64 * MIB)))
        room = Room(limit_bytes=16 * MIB + ref.size_bytes)

        with (
            pytest.raises(StoreUnavailable, match=r"bomb\.csv\.gz takes 20\.. MiB or more"),
            stage(ref, directory=directory, room=room),
        ):
            pass

        assert list(directory.iterdir()) == []

    def test_a_disk_that_fills_up_on_the_way_is_named(
        self, put: Any, directory: Path, file_size_limit: Callable[[int], Any]
    ) -> None:
        """The limit on the size of a file fails a write as a full disk does."""
        ref = put("a.csv.gz", gzip.compress(b"0" * (24 * MIB)))

        with (
            pytest.raises(HeadwaterError, match=r"disk of .* is full: .*a\.csv\.gz"),
            file_size_limit(4 * MIB),
            stage(ref, directory=directory),
        ):
            pass

        assert list(directory.iterdir()) == []

    @pytest.fixture
    def file_size_limit(self) -> Callable[[int], Any]:
        @contextmanager
        def limit(size_bytes: int) -> Iterator[None]:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        return limit


class RemoteStagingContract(StagingContract):
    """What a store must do beside, from which copies are made."""

    def test_what_was_left_out_cannot_be_read(self, put: Any, directory: Path) -> None:
        """Not even as zeros: whoever asks for less than is read gets an error and no rows."""
        ref = put("wide.parquet", parquet(wide()))

        with (
            stage(ref, ["c1"], directory=directory) as staged,
            pytest.raises(pl.exceptions.ComputeError),
        ):
            pl.scan_parquet(staged.path).select("c3").collect()

    def test_what_is_left_out_takes_no_room(self, put: Any, directory: Path) -> None:
        ref = put("wide.parquet", parquet(wide()))

        with stage(ref, ["c1"], directory=directory) as staged:
            assert staged.path.parent == directory
            assert staged.path.stat().st_blocks * 512 <= staged.bytes_read + 64 * KIB

    def test_a_disk_with_too_little_room_is_named_before_a_byte_comes(
        self, put: Any, directory: Path
    ) -> None:
        ref = put("a.parquet", parquet(wide()))
        room = Room(limit_bytes=ref.size_bytes - 1)

        with (
            pytest.raises(StoreUnavailable, match=r"a\.parquet takes .* can be had there"),
            stage(ref, directory=directory, room=room),
        ):
            pass

        assert list(directory.iterdir()) == []
        with stage(ref, ["c1"], directory=directory, room=room) as staged:
            assert staged.bytes_read < ref.size_bytes
