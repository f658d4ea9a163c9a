"""Staging: pinned, decompressed, cleaned up; the same from files and from S3."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from tests.emulators.s3 import Moto

from headwater.infra.errors import DamagedFile, NotFound, SourceChanged
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.staging import StagedFile, stage
from headwater.infra.storage.uris import Uri

TEXT = b"a,b\n" + b"1,2\n" * 100_000


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


class StagingContract:
    """Subclasses give ``root``, an empty place."""

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        folder = tmp_path / "staging"
        folder.mkdir()
        return folder

    @pytest.mark.parametrize("name", ["x.parquet", "a.b.csv", "odd #1?[2]*.csv", "nosuffix"])
    def test_the_bytes_and_the_ending_are_kept(self, root: Uri, directory: Path, name: str) -> None:
        ref = open_filesystem(root).write(root / name, TEXT)

        with stage(ref, directory=directory) as staged:
            assert staged.path.read_bytes() == TEXT
            assert staged.path.suffix == Path(name).suffix
            assert staged.bytes_read == len(TEXT)

        assert list(directory.iterdir()) == []

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".ndjson", ".json", ".CSV"])
    @pytest.mark.parametrize("codec", ["gz", "zst"])
    def test_compressed_text_is_decompressed(
        self, root: Uri, directory: Path, codec: str, suffix: str
    ) -> None:
        compressed = gzip.compress(TEXT) if codec == "gz" else zstd(TEXT)
        ref = open_filesystem(root).write(root / f"day.1{suffix}.{codec}", compressed)

        with stage(ref, directory=directory) as staged:
            assert staged.path.suffix == suffix
            assert staged.path.parent == directory
            assert staged.path.read_bytes() == TEXT
            assert staged.bytes_read == len(compressed)

        assert list(directory.iterdir()) == []

    def test_several_members_and_frames_are_one_text(self, root: Uri, directory: Path) -> None:
        fs = open_filesystem(root)
        members = fs.write(root / "a.csv.gz", gzip.compress(TEXT) + gzip.compress(b"3,4\n"))
        frames = fs.write(root / "a.csv.zst", zstd(TEXT) + zstd(b"3,4\n"))

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
    def test_damaged_text_is_named(
        self, root: Uri, directory: Path, name: str, data: bytes
    ) -> None:
        ref = open_filesystem(root).write(root / name, data)

        with (
            pytest.raises(DamagedFile, match=name.replace(".", r"\.")),
            stage(ref, directory=directory),
        ):
            pass

        assert list(directory.iterdir()) == []

    def test_compressed_files_of_other_kinds_are_left_alone(
        self, root: Uri, directory: Path
    ) -> None:
        ref = open_filesystem(root).write(root / "x.parquet.gz", b"no text")

        with stage(ref, directory=directory) as staged:
            assert staged.path.read_bytes() == b"no text"

    def test_an_input_that_changed_since_the_scan_is_refused(
        self, root: Uri, directory: Path
    ) -> None:
        fs = open_filesystem(root)
        ref = fs.write(root / "a.csv", b"old")
        fs.write(root / "a.csv", b"newer")

        with pytest.raises(SourceChanged, match=r"a\.csv"), stage(ref, directory=directory):
            pass

        assert list(directory.iterdir()) == []

    def test_an_input_that_is_gone_is_named(self, root: Uri, directory: Path) -> None:
        fs = open_filesystem(root)
        ref = fs.write(root / "a.csv", b"old")
        fs.delete(root / "a.csv")

        with pytest.raises(NotFound, match=r"a\.csv"), stage(ref, directory=directory):
            pass

    def test_copies_are_removed_when_the_body_fails(self, root: Uri, directory: Path) -> None:
        ref = open_filesystem(root).write(root / "a.csv.gz", gzip.compress(TEXT))

        with pytest.raises(ZeroDivisionError), stage(ref, directory=directory):
            raise ZeroDivisionError

        assert list(directory.iterdir()) == []

    def test_the_same_input_can_be_staged_twice_at_a_time(self, root: Uri, directory: Path) -> None:
        ref = open_filesystem(root).write(root / "a.csv.gz", gzip.compress(TEXT))

        with (
            stage(ref, directory=directory) as first,
            stage(ref, directory=directory) as second,
        ):
            assert first.path != second.path
            assert first.path.read_bytes() == second.path.read_bytes() == TEXT


class TestFromLocalFiles(StagingContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        (tmp_path / "root").mkdir()
        return Uri.parse(str(tmp_path / "root"))

    def test_a_plain_file_is_used_where_it_lies(self, root: Uri, directory: Path) -> None:
        ref = open_filesystem(root).write(root / "a.parquet", b"x")

        with stage(ref, directory=directory) as staged:
            assert staged == StagedFile((root / "a.parquet").path, 1)

        assert (root / "a.parquet").path.exists()

    def test_a_file_that_changes_while_it_is_read_is_named(
        self, root: Uri, directory: Path
    ) -> None:
        ref = open_filesystem(root).write(root / "a.csv", b"old")

        with (
            pytest.raises(SourceChanged, match=r"a\.csv changed"),
            stage(ref, directory=directory),
        ):
            (root / "a.csv").path.write_bytes(b"written in place")

    def test_the_bodys_own_error_is_not_hidden_by_a_change(
        self, root: Uri, directory: Path
    ) -> None:
        ref = open_filesystem(root).write(root / "a.csv", b"old")

        def body() -> None:
            (root / "a.csv").path.write_bytes(b"written in place")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), stage(ref, directory=directory):
            body()


class TestFromS3(StagingContract):
    @pytest.fixture
    def root(self, moto: Moto) -> Uri:
        return Uri.parse(f"s3://{moto.new_bucket()}/root")
