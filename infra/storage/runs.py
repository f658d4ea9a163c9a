"""What a run leaves beside its target so that a later attempt can take it up.

    _headwater/runs/<run key>/parts.json       the list of parts, from the first attempt
    _headwater/runs/<run key>/part-00007.json  one receipt for each finished part
    _headwater/runs/<run key>/all.json         the receipts of parts that stand only together

A receipt counts only while every file it names is there, whole and in the version that was
written.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from headwater.infra.errors import DamagedFile, NotFound, UnsupportedData
from headwater.infra.models import (
    PARTS_VERSION,
    RECEIPT_VERSION,
    DataRef,
    Part,
    PartFile,
    PartReceipt,
)
from headwater.infra.storage.datasets import STATE_FOLDER
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

PARTS = "parts"
"""Name of the list of parts that the input is read in."""

READERS = 16
"""Receipts and parts that are looked at together."""


@dataclass(frozen=True, slots=True)
class PartList:
    """The parts of one run, as ``parts.json`` holds them."""

    parts: tuple[Part, ...]
    version: int = PARTS_VERSION


@dataclass(frozen=True, slots=True)
class _Receipts:
    """All receipts of one attempt, as ``all.json`` holds them."""

    receipts: tuple[PartReceipt, ...]
    version: int = RECEIPT_VERSION


@dataclass(frozen=True, slots=True)
class _Versioned:
    """What the list of parts has in every format."""

    version: int = PARTS_VERSION


_VERSIONED = TypeAdapter(_Versioned)
_PARTS = TypeAdapter(PartList)
_RECEIPT = TypeAdapter(PartReceipt)
_RECEIPTS = TypeAdapter(_Receipts)


class RunFolder:
    """The state of one run beside its target."""

    def __init__(self, target: Uri, run_key: str) -> None:
        self._fs = open_filesystem(target)
        self._target = self._fs.canonical(target)
        self._folder = self._target / STATE_FOLDER / "runs" / run_key

    def agree_on_parts(self, parts: Sequence[Part], name: str = PARTS) -> tuple[Part, ...]:
        """``parts``, or the list that an earlier or racing attempt of this run has left.

        Args:
            name: Of the list; a run may have several.
        Raises:
            UnsupportedData: A newer Headwater wrote the list.
        """
        data = _PARTS.dump_json(PartList(tuple(parts)))
        if self._fs.create(self._list_uri(name), data):
            return tuple(parts)
        agreed = self.agreed_parts(name)
        return tuple(parts) if agreed is None else agreed

    def agreed_parts(self, name: str = PARTS) -> tuple[Part, ...] | None:
        """The list of that name; ``None`` where no attempt has left one.

        Raises:
            UnsupportedData: A newer Headwater wrote the list.
        """
        uri = self._list_uri(name)
        try:
            data = self._fs.read(self._fs.stat(uri))
        except NotFound:
            return None
        try:
            # Before the fields are checked, since a newer format may have others.
            version = _VERSIONED.validate_json(data).version
            if version > PARTS_VERSION:
                raise UnsupportedData(
                    f"{uri.display} was written by a newer Headwater (format {version})",
                    hint="upgrade this one, or run with --fresh to begin anew",
                )
            return _PARTS.validate_json(data).parts
        except ValidationError as exc:
            raise DamagedFile(
                f"{uri.display} is no list of parts", hint="run with --fresh to begin anew"
            ) from exc

    def leave(self, receipt: PartReceipt) -> None:
        """Put the receipt of a finished part; its files must be in place."""
        self._fs.write(self._receipt_uri(receipt.index), _RECEIPT.dump_json(receipt))

    def leave_all(self, receipts: Sequence[PartReceipt]) -> None:
        """Put the receipts of a whole attempt, whose parts no other attempt's may stand beside."""
        self._fs.write(self._folder / "all.json", _RECEIPTS.dump_json(_Receipts(tuple(receipts))))

    def all_finished(self) -> tuple[PartReceipt, ...] | None:
        """What ``leave_all`` put, if every file of it is there and whole."""
        try:
            data = self._fs.read(self._fs.stat(self._folder / "all.json"))
            found = _RECEIPTS.validate_json(data)
        except (ValidationError, NotFound):
            return None
        if found.version > RECEIPT_VERSION:
            return None
        files = [file for receipt in found.receipts for file in receipt.files]
        with ThreadPoolExecutor(READERS) as pool:
            whole = all(pool.map(self._is_whole, files))
        return found.receipts if whole else None

    def finished(self) -> dict[int, PartReceipt]:
        """Receipts of parts whose files are all there and whole, by the part's index."""
        refs = [
            ref
            for ref in self._fs.list(self._folder)
            if ref.uri.rpartition("/")[2].startswith("part-")
        ]
        with ThreadPoolExecutor(READERS) as pool:
            receipts = [r for r in pool.map(self._read_if_whole, refs) if r is not None]
        return {receipt.index: receipt for receipt in receipts}

    def finished_part(self, index: int) -> PartReceipt | None:
        """The receipt of one part, if its files are all there and whole."""
        try:
            ref = self._fs.stat(self._receipt_uri(index))
        except NotFound:
            return None
        return self._read_if_whole(ref)

    def forget(self) -> None:
        """Remove the list and the receipts; parts stay, since a racing attempt may use them."""
        for ref in list(self._fs.list(self._folder)):
            self._fs.delete(Uri.parse(ref.uri))

    def _list_uri(self, name: str) -> Uri:
        return self._folder / f"{name}.json"

    def _receipt_uri(self, index: int) -> Uri:
        return self._folder / f"part-{index:05d}.json"

    def _read_if_whole(self, ref: DataRef) -> PartReceipt | None:
        try:
            receipt = _RECEIPT.validate_json(self._fs.read(ref))
        except (ValidationError, NotFound):
            return None  # cut short by a kill, or removed meanwhile: the part is done again
        if receipt.version > RECEIPT_VERSION:
            return None
        return receipt if all(self._is_whole(file) for file in receipt.files) else None

    def _is_whole(self, file: PartFile) -> bool:
        try:
            now = self._fs.stat(self._target / file.path)
        except NotFound:
            return False
        return (now.size_bytes, now.version) == (file.size_bytes, file.version)
