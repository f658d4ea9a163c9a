"""The contract of filesystems, on files of this machine; and what only those can do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from tests.contract.filesystems import FilesystemContract, OtherClient, names

from headwater.infra.errors import AccessDenied, NotFound, StorageError
from headwater.infra.storage.filesystems.local import TEMPORARY_PREFIX
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri

NOBODY = 65534


class TestLocal(FilesystemContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Uri:
        folder = tmp_path / "root"
        folder.mkdir()
        return Uri.parse(str(folder))

    @pytest.fixture
    def other_client(self) -> OtherClient:
        def put(uri: Uri, data: bytes) -> None:
            uri.path.write_bytes(data)

        return put

    @pytest.fixture
    def missing_place(self, root: Uri) -> Uri:
        return root / "missing" / "a"

    def test_listing_skips_files_that_are_not_whole(self, fs: Filesystem, root: Uri) -> None:
        (root / f"{TEMPORARY_PREFIX}x").path.write_bytes(b"half")
        (root / ".hidden").path.write_bytes(b"data")

        assert names(fs, root) == [".hidden"]

    def test_files_that_are_not_whole_are_found_and_discarded(
        self, fs: Filesystem, root: Uri
    ) -> None:
        (root / "below").path.mkdir()
        half = [root / f"{TEMPORARY_PREFIX}x", root / f"below/{TEMPORARY_PREFIX}y"]
        for uri in half:
            uri.path.write_bytes(b"half")
        (root / "whole").path.write_bytes(b"data")

        found = list(fs.unfinished(root))

        assert [(ref.uri, ref.size_bytes) for ref in found] == [(str(uri), 4) for uri in half]
        assert all(abs(ref.modified - time.time()) < 60 for ref in found)
        for ref in [*found, found[0]]:  # one that is gone already is fine
            fs.discard(ref)
        assert list(fs.unfinished(root)) == []
        assert names(fs, root) == ["whole"]

    def test_no_call_leaves_a_temporary_file(self, fs: Filesystem, root: Uri) -> None:
        fs.create(root / "a", b"1")
        fs.create(root / "a", b"2")
        fs.write(root / "b", b"3")
        fs.upload((root / "b").path, root / "c")

        assert {path.name for path in root.path.iterdir()} == {"a", "b", "c"}

    def test_links_are_followed_but_not_in_circles(self, fs: Filesystem, root: Uri) -> None:
        fs.write(root / "data" / "a", b"1")
        (root / "linked").path.symlink_to((root / "data").path)
        (root / "data" / "back").path.symlink_to(root.path)

        assert names(fs, root) == ["data/a", "linked/a"]

    def test_a_link_that_leads_nowhere_is_named(self, fs: Filesystem, root: Uri) -> None:
        (root / "dangling.csv").path.symlink_to("nowhere")

        with pytest.raises(NotFound, match=r"dangling\.csv"):
            names(fs, root)

    def test_writing_over_a_folder_is_refused(self, fs: Filesystem, root: Uri) -> None:
        fs.write(root / "folder" / "a", b"1")

        with pytest.raises(StorageError, match="it is a folder"):
            fs.write(root / "folder", b"2")

        assert names(fs, root) == ["folder/a"]

    def test_a_file_we_may_not_read_is_named(
        self, fs: Filesystem, root: Uri, as_nobody: Callable[[], AbstractContextManager[None]]
    ) -> None:
        ref = fs.write(root / "a", b"1")
        (root / "a").path.chmod(0)

        with pytest.raises(AccessDenied, match="not allowed to read") as caught, as_nobody():
            fs.read(ref)

        assert "owner and mode" in caught.value.hint

    @pytest.fixture
    def as_nobody(self) -> Callable[[], AbstractContextManager[None]]:
        """Rights of an ordinary user, also where the tests run as root, who may read all."""

        @contextmanager
        def ordinary() -> Iterator[None]:
            user = os.geteuid()
            if user == 0:
                os.seteuid(NOBODY)
            try:
                yield
            finally:
                os.seteuid(user)

        return ordinary
