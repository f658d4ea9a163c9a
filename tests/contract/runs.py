"""What a run leaves beside its target must do in every store. Each is a short subclass."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from headwater.infra.errors import DamagedFile, UnsupportedData
from headwater.infra.models import DataRef, Part, PartFile, PartReceipt, Slice
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.runs import RunFolder
from headwater.infra.storage.uris import Uri

REF = DataRef("s3://lake/a b#1.parquet", 100, '"v1"')


def parts(count: int) -> tuple[Part, ...]:
    return tuple(
        Part(i, (Slice(REF, 10 * i, 10, 50, (("p", None), ("q", "a/b"))),)) for i in range(count)
    )


class RunFolderContract:
    """Subclasses give ``target``, the root of a table that need not exist."""

    @pytest.fixture
    def target(self) -> Uri:
        raise NotImplementedError

    @pytest.fixture
    def folder(self, target: Uri) -> RunFolder:
        return RunFolder(target, "key")

    def receipt(self, target: Uri, index: int, files: int = 2) -> PartReceipt:
        """The receipt of a part whose files are there."""
        fs = open_filesystem(target)
        written = []
        for number in range(files):
            path = f"data/p=x%2Fy/part-{index}-{number}.parquet"
            ref = fs.write(target / path, b"rows" * (number + 1))
            partition = (("p", "x/y"),)
            written.append(PartFile(path, ref.size_bytes, 7, ref.version, partition))
        return PartReceipt(index, tuple(written), 9, 7 * files, 4, 8, {"stage": 0.5}, "worker")

    def test_the_first_list_of_parts_counts(self, folder: RunFolder, target: Uri) -> None:
        assert folder.agree_on_parts(parts(3)) == parts(3)
        assert folder.agree_on_parts(parts(5)) == parts(3)
        assert RunFolder(target, "key").agree_on_parts(parts(7)) == parts(3)
        assert RunFolder(target, "other").agree_on_parts(parts(7)) == parts(7)

    def test_racing_attempts_agree(self, target: Uri) -> None:
        def agree(count: int) -> tuple[Part, ...]:
            return RunFolder(target, "key").agree_on_parts(parts(count))

        with ThreadPoolExecutor(8) as pool:
            agreed = set(pool.map(agree, range(1, 9)))

        assert len(agreed) == 1

    def test_a_receipt_comes_back_with_every_field(self, folder: RunFolder, target: Uri) -> None:
        receipts = {index: self.receipt(target, index) for index in (0, 12)}
        receipts[5] = self.receipt(target, 5, files=0)
        for receipt in receipts.values():
            folder.leave(receipt)

        assert folder.finished() == receipts

    def test_nothing_is_finished_at_first(self, folder: RunFolder) -> None:
        assert folder.finished() == {}
        assert folder.finished_part(0) is None
        folder.agree_on_parts(parts(3))
        assert folder.finished() == {}

    def test_receipts_that_stand_together_come_back_while_all_are_whole(
        self, folder: RunFolder, target: Uri
    ) -> None:
        assert folder.all_finished() is None
        folder.leave_all([self.receipt(target, 9)])
        receipts = tuple(self.receipt(target, index) for index in range(3))

        folder.leave_all(receipts)

        assert RunFolder(target, "key").all_finished() == receipts
        assert folder.finished() == {}
        fs = open_filesystem(target)
        fs.delete(target / receipts[1].files[0].path)
        assert folder.all_finished() is None

    def test_receipts_of_a_newer_format_are_not_taken_up_together(
        self, folder: RunFolder, target: Uri
    ) -> None:
        folder.leave_all([self.receipt(target, 0)])
        fs = open_filesystem(target)
        uri = target / "_headwater/runs/key/all.json"
        newer = json.loads(fs.read(fs.stat(uri))) | {"version": 99}
        fs.write(uri, json.dumps(newer).encode())

        assert folder.all_finished() is None
        folder.forget()
        assert not list(fs.list(target / "_headwater"))

    def test_runs_do_not_see_each_other(self, folder: RunFolder, target: Uri) -> None:
        folder.leave(self.receipt(target, 1))

        assert RunFolder(target, "key-2").finished() == {}
        assert RunFolder(target, "ke").finished() == {}

    @pytest.mark.parametrize("harm", ["gone", "shorter", "rewritten"])
    def test_a_receipt_counts_only_while_all_its_files_are_what_was_written(
        self, folder: RunFolder, target: Uri, harm: str
    ) -> None:
        fs = open_filesystem(target)
        kept, harmed = self.receipt(target, 0), self.receipt(target, 1)
        for receipt in (kept, harmed):
            folder.leave(receipt)
        last = target / harmed.files[-1].path
        match harm:
            case "gone":
                fs.delete(last)
            case "shorter":
                fs.write(last, b"row")
            case "rewritten":
                fs.write(last, b"sowrsowr")

        assert folder.finished() == {0: kept}
        assert folder.finished_part(0) == kept
        assert folder.finished_part(1) is None

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"index": 1}'])
    def test_a_receipt_that_is_cut_short_counts_for_nothing(
        self, folder: RunFolder, target: Uri, text: bytes
    ) -> None:
        folder.leave(self.receipt(target, 0))
        open_filesystem(target).write(target / "_headwater/runs/key/part-00001.json", text)

        assert list(folder.finished()) == [0]

    def test_a_newer_receipt_counts_for_nothing(self, folder: RunFolder, target: Uri) -> None:
        folder.leave(self.receipt(target, 0))
        self.rewrite(target / "_headwater/runs/key/part-00000.json", version=99)

        assert folder.finished() == {}

    def test_a_newer_list_of_parts_is_refused_by_name(self, folder: RunFolder, target: Uri) -> None:
        folder.agree_on_parts(parts(2))
        self.rewrite(target / "_headwater/runs/key/parts.json", version=99, parts="else")

        with pytest.raises(UnsupportedData, match=r"parts\.json was written by a newer Headwater"):
            folder.agree_on_parts(parts(2))

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"parts": 7}'])
    def test_a_broken_list_of_parts_is_named(
        self, folder: RunFolder, target: Uri, text: bytes
    ) -> None:
        open_filesystem(target).write(target / "_headwater/runs/key/parts.json", text)

        with pytest.raises(DamagedFile, match=r"parts\.json is no list of parts") as caught:
            folder.agree_on_parts(parts(2))

        assert "--fresh" in caught.value.hint

    def test_forgetting_leaves_the_parts_and_the_other_runs(
        self, folder: RunFolder, target: Uri
    ) -> None:
        other = RunFolder(target, "key-2")
        receipt = self.receipt(target, 0)
        for each in (folder, other):
            each.agree_on_parts(parts(3))
            each.leave(receipt)

        folder.forget()

        assert folder.finished() == {}
        assert folder.agree_on_parts(parts(5)) == parts(5)
        assert other.finished() == {0: receipt}
        assert other.agree_on_parts(parts(5)) == parts(3)

    def rewrite(self, uri: Uri, **fields: object) -> None:
        fs = open_filesystem(uri)
        table = {**json.loads(fs.read(fs.stat(uri))), **fields}
        fs.write(uri, json.dumps(table).encode())
