"""What every store must do. Each backend is a short subclass with its fixtures."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import deltalake
import polars as pl
import pyarrow as pa
import pytest

from headwater.infra.errors import HeadwaterError, InvalidUri, NotFound, SourceChanged
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import ObjectStore
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

OtherClient = Callable[[Uri, bytes], None]
"""Writes an object behind our back, with the store's own SDK or none."""

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"

ODD_NAMES = (
    "file[12].parquet",
    "file1.parquet",
    "star*.csv",
    "question?.csv",
    "query?versionId=1&x=2.csv",
    "hash#1.csv",
    "50%.csv",
    "50%25.csv",
    "a%2Fb.csv",
    "plus+and space.csv",
    " leading and trailing ",
    "k=v/p=50%/x.csv",
    "tilde~:colon.csv",
    "quote'\"<>|`^{}.csv",
    "a&amp;b;c,d@e!f$g(h).csv",
    COMPOSED,
    DECOMPOSED,
    "\u65e5\u672c/\U0001f30a.csv",
    "dots..and...more",
)

UNWRITABLE_NAMES = ("folder/", "new\nline", "bell\x07", "no character\uffff")

RACERS = 16


class FilesystemContract:
    """Subclasses give ``root`` (an empty place), ``other_client`` and ``secrets``."""

    odd_names: ClassVar[Sequence[str]] = ODD_NAMES
    unwritable_names: ClassVar[Sequence[str]] = UNWRITABLE_NAMES

    @pytest.fixture
    def root(self) -> Uri:
        raise NotImplementedError

    @pytest.fixture
    def other_client(self) -> OtherClient:
        raise NotImplementedError

    @pytest.fixture
    def missing_place(self, root: Uri) -> Uri:
        """An address in a bucket (or folder) that does not exist."""
        raise NotImplementedError

    @pytest.fixture
    def fs(self, root: Uri) -> Filesystem:
        return open_filesystem(root)

    # Keys.

    def test_odd_keys_come_back_exactly(self, fs: Filesystem, root: Uri) -> None:
        written = {root / name: name.encode() for name in self.odd_names}

        for uri, data in written.items():
            fs.write(uri, data)

        listed = list(fs.list(root))
        assert {ref.uri for ref in listed} == {str(uri) for uri in written}
        assert {Uri.parse(ref.uri): fs.read(ref) for ref in listed} == written
        assert [fs.stat(Uri.parse(ref.uri)) for ref in listed] == listed

    def test_delete_removes_only_the_exact_key(self, fs: Filesystem, root: Uri) -> None:
        for name in ("file[12]", "file1", "file2", "file*"):
            fs.write(root / name, b"x")

        fs.delete(root / "file[12]")
        fs.delete(root / "file*")

        assert names(fs, root) == ["file1", "file2"]

    def test_delete_of_what_is_gone_succeeds(self, fs: Filesystem, root: Uri) -> None:
        fs.write(root / "a", b"x")

        fs.delete(root / "a")
        fs.delete(root / "a")

        assert names(fs, root) == []

    def test_keys_that_some_store_would_change_are_refused_at_write(
        self, fs: Filesystem, root: Uri
    ) -> None:
        for name in self.unwritable_names:
            with pytest.raises(InvalidUri, match="cannot write to"):
                fs.write(replace(root, key=f"{root.key}/{name}"), b"x")

        assert names(fs, root) == []

    # Listing.

    def test_listing_shows_what_another_client_wrote_since(
        self, fs: Filesystem, root: Uri, other_client: OtherClient
    ) -> None:
        fs.write(root / "a", b"1")
        assert names(fs, root) == ["a"]

        other_client(root / "b", b"22")

        assert names(fs, root) == ["a", "b"]
        assert fs.stat(root / "b").size_bytes == 2

    def test_listing_is_in_order_of_keys_at_any_depth(self, fs: Filesystem, root: Uri) -> None:
        scattered = ["b/z", "a/x/y", "a-b", "a.b", "a/b", "c"]
        for name in scattered:
            fs.write(root / name, b"x")

        assert names(fs, root) == sorted(scattered)

    def test_listing_tells_when_an_object_was_written_by_the_stores_clock(
        self, fs: Filesystem, root: Uri
    ) -> None:
        now = time.time() + fs.clock_offset_seconds(root)
        fs.write(root / "a", b"1")

        (ref,) = fs.list(root)

        assert abs(ref.modified - now) < 5
        assert ref == fs.stat(root / "a")  # it is no part of what is pinned

    def test_listing_keeps_to_the_folder(self, fs: Filesystem, root: Uri) -> None:
        for name in ("raw/a", "raw2/a", "raw.csv"):
            fs.write(root / name, b"x")

        assert names(fs, root / "raw") == ["a"]
        assert list(fs.list(replace(root, key=f"{root.key}/raw/"))) == list(fs.list(root / "raw"))

    def test_folders_are_those_directly_below(self, fs: Filesystem, root: Uri) -> None:
        inside = ("50%=#/x", "a-b/x", "a/b/c/x", "year=2013/month=7/x", "[x]*/x", "file")
        for name in inside:
            fs.write(root / name, b"x")

        assert sorted(fs.folders(root)) == sorted({n.split("/")[0] for n in inside if "/" in n})
        assert list(fs.folders(root / "a")) == ["b"]
        assert list(fs.folders(root / "a/b/c")) == []
        assert list(fs.folders(root / "nothing")) == []

    def test_listing_of_nothing_is_empty(self, fs: Filesystem, root: Uri) -> None:
        assert list(fs.list(root / "nothing")) == []

    # Reading.

    def test_read_takes_a_range_and_is_cut_at_the_end(self, fs: Filesystem, root: Uri) -> None:
        ref = fs.write(root / "a", b"0123456789")

        assert fs.read(ref) == b"0123456789"
        assert fs.read(ref, 2, 5) == b"234"
        assert fs.read(ref, 8) == b"89"
        assert fs.read(ref, 8, 99) == b"89"
        assert fs.read(ref, 10) == b""
        assert fs.read(ref, 99, 100) == b""

    def test_read_without_a_version_takes_what_is_there(self, fs: Filesystem, root: Uri) -> None:
        unpinned = replace(fs.write(root / "a", b"old"), version="")

        fs.write(root / "a", b"newer")

        assert fs.read(unpinned) == b"newer"
        assert fs.read(unpinned, 1, 3) == b"ew"
        assert fs.read(unpinned, 99, 100) == b""

    def test_an_empty_object_can_be_read(self, fs: Filesystem, root: Uri, tmp_path: Path) -> None:
        ref = fs.write(root / "empty", b"")

        fs.download(ref, tmp_path / "copy")

        assert ref.size_bytes == 0
        assert fs.read(ref) == b""
        assert (tmp_path / "copy").read_bytes() == b""

    @pytest.mark.parametrize("old", [b"old", b""], ids=["some bytes", "empty"])
    def test_pinned_reads_refuse_a_changed_object(
        self, fs: Filesystem, root: Uri, other_client: OtherClient, tmp_path: Path, old: bytes
    ) -> None:
        ref = fs.write(root / "a", old)

        other_client(root / "a", b"new")

        with pytest.raises(SourceChanged, match="no longer the version"):
            fs.read(ref)
        with pytest.raises(SourceChanged, match="no longer the version"):
            fs.download(ref, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_download_of_a_removed_object_leaves_nothing(
        self, fs: Filesystem, root: Uri, tmp_path: Path
    ) -> None:
        ref = fs.write(root / "a", b"x")
        fs.delete(root / "a")

        with pytest.raises(NotFound):
            fs.download(ref, tmp_path / "copy")

        assert not (tmp_path / "copy").exists()

    # Writing.

    def test_write_replaces_and_tells_the_new_version(self, fs: Filesystem, root: Uri) -> None:
        first = fs.write(root / "a", b"1")

        second = fs.write(root / "a", b"22")

        assert first.version != second.version
        assert fs.stat(root / "a") == second
        assert fs.read(second) == b"22"

    def test_a_large_value_is_written_in_one_piece(self, fs: Filesystem, root: Uri) -> None:
        data = os.urandom(3 * MIB)

        ref = fs.write(root / "large", data)

        assert ref.size_bytes == 3 * MIB
        assert fs.read(ref) == data

    def test_create_has_one_winner(self, fs: Filesystem, root: Uri) -> None:
        start = threading.Barrier(RACERS)

        def race(racer: int) -> bool:
            start.wait(10)
            return fs.create(root / "lock", b"racer %d" % racer)

        with ThreadPoolExecutor(RACERS) as pool:
            won = list(pool.map(race, range(RACERS)))

        assert won.count(True) == 1
        winner = b"racer %d" % won.index(True)
        assert fs.read(fs.stat(root / "lock")) == winner

    def test_create_of_equal_bytes_has_one_winner(self, fs: Filesystem, root: Uri) -> None:
        assert fs.create(root / "lock", b"same") is True
        assert fs.create(root / "lock", b"same") is False

    def test_a_big_file_goes_up_and_comes_down(
        self, fs: Filesystem, root: Uri, tmp_path: Path
    ) -> None:
        source, copy = tmp_path / "source", tmp_path / "copy"
        source.write_bytes(os.urandom(20 * MIB + 1))

        ref = fs.upload(source, root / "big file#1")
        fs.download(ref, copy)

        assert ref == fs.stat(root / "big file#1")
        assert ref.size_bytes == 20 * MIB + 1
        assert copy.read_bytes() == source.read_bytes()

    def test_a_small_file_goes_up(self, fs: Filesystem, root: Uri, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"small")

        ref = fs.upload(tmp_path / "source", root / "deep" / "small")

        assert fs.read(ref) == b"small"

    def test_many_threads_share_one_store(self, fs: Filesystem, root: Uri) -> None:
        def round_trip(number: int) -> bytes:
            ref = fs.write(root / f"{number}", b"%d" % number)
            return fs.read(ref)

        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(round_trip, range(24)))

        assert read == [b"%d" % number for number in range(24)]
        assert open_filesystem(root / "elsewhere") is fs

    # Failures.

    def test_what_is_missing_is_named(self, fs: Filesystem, root: Uri) -> None:
        fs.write(root / "folder" / "a", b"x")
        absent = DataRef(str(root / "absent"), 1, "1")

        for call in (
            lambda: fs.stat(root / "absent"),
            lambda: fs.read(absent),
            lambda: fs.stat(root / "folder"),
        ):
            with pytest.raises(NotFound) as caught:
                call()
            assert ("absent" in str(caught.value)) or ("folder" in str(caught.value))
            assert_survives_pickle(caught.value)

    def test_the_clock_is_about_ours(self, fs: Filesystem, root: Uri) -> None:
        assert abs(fs.clock_offset_seconds(root)) < 2

    # The second stack.

    def test_deltalake_and_polars_reach_the_same_place(self, fs: Filesystem, root: Uri) -> None:
        table = root / "table"
        address, options = fs.delta_uri(table), fs.delta_options(table)

        deltalake.write_deltalake(address, pa.table({"a": [1, 2]}), storage_options=options)
        deltalake.write_deltalake(
            address, pa.table({"a": [3]}), storage_options=options, mode="append"
        )

        scanned = pl.scan_delta(address, storage_options=options or None)
        assert sorted(scanned.collect()["a"].to_list()) == [1, 2, 3]
        logs = [name for name in names(fs, table) if name.startswith("_delta_log/")]
        assert logs == [f"_delta_log/{version:020}.json" for version in range(2)]

    def test_racing_commits_do_not_overwrite_each_other(self, fs: Filesystem, root: Uri) -> None:
        table = root / "table"
        address, options = fs.delta_uri(table), fs.delta_options(table)
        deltalake.write_deltalake(address, pa.table({"a": [0]}), storage_options=options)

        def append(number: int) -> None:
            deltalake.write_deltalake(
                address, pa.table({"a": [number]}), storage_options=options, mode="append"
            )

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(append, range(1, 7)))

        found = deltalake.DeltaTable(address, storage_options=options)
        assert Counter(found.to_pyarrow_table()["a"].to_pylist()) == Counter(range(7))

    # Secrets.

    def test_secrets_are_not_shown(
        self, fs: Filesystem, root: Uri, missing_place: Uri, secrets: Sequence[str]
    ) -> None:
        with pytest.raises(NotFound) as caught:
            fs.stat(missing_place)

        shown = [repr(fs), str(fs), *every_text(caught.value)]
        assert not [text for text in shown for secret in secrets if secret in text]

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return ()


class ObjectStoreContract(FilesystemContract):
    """What object stores must do besides."""

    odd_names = (*ODD_NAMES, "double//slash", "/leading slash", "x" * 900)
    unwritable_names = (
        *UNWRITABLE_NAMES,
        "back\\slash",
        "a/../b",
        "./a",
        "dot./a",
        "a.",
        "x" * 1024,
    )

    def test_listing_leaves_out_folder_markers(
        self, fs: Filesystem, root: Uri, other_client: OtherClient
    ) -> None:
        for name in ("", "folder/", "folder/a"):
            other_client(Uri(root.scheme, root.bucket, f"{root.key}/{name}"), b"")

        assert names(fs, root) == ["folder/a"]

    def test_listing_goes_over_all_pages(
        self, fs: ObjectStore, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fs, "page_size", 3)
        written = [f"{number:02}" for number in range(10)]
        for name in written:
            fs.write(root / name, b"x")

        assert names(fs, root) == written

    def test_folders_are_found_on_all_pages(
        self, fs: ObjectStore, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fs, "page_size", 3)
        written = [f"{number:02}" for number in range(7)]
        for name in written:
            fs.write(root / name / "x", b"x")

        assert list(fs.folders(root)) == written

    def test_a_missing_bucket_is_named(self, fs: Filesystem, missing_place: Uri) -> None:
        for call in (
            lambda: fs.stat(missing_place),
            lambda: list(fs.list(missing_place)),
            lambda: fs.folders(missing_place),
            lambda: fs.write(missing_place, b"x"),
            lambda: fs.create(missing_place, b"x"),
            lambda: fs.delete(missing_place),
            lambda: fs.clock_offset_seconds(missing_place),
        ):
            with pytest.raises(NotFound, match=f"no bucket '{missing_place.bucket}'") as caught:
                call()
            assert_survives_pickle(caught.value)


def names(fs: Filesystem, folder: Uri) -> list[str]:
    return [folder.relative(Uri.parse(ref.uri)) for ref in fs.list(folder)]


def assert_survives_pickle(error: HeadwaterError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is type(error)
    assert (str(copy), copy.hint) == (str(error), error.hint)


def every_text(error: BaseException | None) -> list[str]:
    """What the error and all that caused it show."""
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return texts
