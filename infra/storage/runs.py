"""What a run leaves beside its target so that a later attempt can take it up.

    _headwater/runs/<run key>/parts.json       the list of parts, from the first attempt
    _headwater/runs/<run key>/part-00007.json  one receipt for each finished part
    _headwater/runs/<run key>/all.json         the receipts of parts that stand only together
    _headwater/runs/<run key>/taken-up.json    the last attempt that looked for receipts

A receipt counts only while every file it names is there, whole and in the version that was
written.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
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
from headwater.infra.storage.retries import threads
from headwater.infra.storage.uris import Uri

PARTS = "parts"
"""Name of the list of parts that the input is read in."""

RUNS_FOLDER = f"{STATE_FOLDER}/runs"
"""Where all runs of a target keep their state, below its root."""

RUN_DIGITS = 12
"""How much of its run's key the name of a part tells."""

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


_PART_NAME = re.compile(rf"^part-([0-9a-f]{{{RUN_DIGITS}}})-\d{{5,}}-")
_VERSIONED = TypeAdapter(_Versioned)
_PARTS = TypeAdapter(PartList)
_RECEIPT = TypeAdapter(PartReceipt)
_RECEIPTS = TypeAdapter(_Receipts)


class RunFolder:
    """The state of one run beside its target."""

    def __init__(self, target: Uri, run_key: str) -> None:
        self._fs = open_filesystem(target)
        self._target = self._fs.canonical(target)
        self._folder = self._target / RUNS_FOLDER / run_key

    def agree_on_parts(self, parts: Sequence[Part], name: str = PARTS) -> tuple[Part, ...]:
        """``parts``, or the list that an earlier or racing attempt of this run has left.

        Args:
            name: Of the list; a run may have several.
        Raises:
            UnsupportedData: A newer Headwater wrote the list.
        """
        data = _PARTS.dump_json(PartList(tuple(parts)))
        if self._fs.create(self._list_uri(name), data):
            if name == PARTS:
                # Receipts without a list are of parts that may have been cut in another way.
                self._forget_receipts()
            return tuple(parts)
        self._mark_taken_up()
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
        self._mark_taken_up()
        try:
            data = self._fs.read(self._fs.stat(self._folder / "all.json"))
            found = _RECEIPTS.validate_json(data)
        except (ValidationError, NotFound):
            return None
        if found.version > RECEIPT_VERSION:
            return None
        files = [file for receipt in found.receipts for file in receipt.files]
        with threads(READERS) as pool:
            whole = all(pool.map(self._is_whole, files))
        return found.receipts if whole else None

    def finished(self) -> dict[int, PartReceipt]:
        """Receipts of parts whose files are all there and whole, by the part's index."""
        refs = [ref for ref in self._fs.list(self._folder) if is_receipt(ref.uri)]
        with threads(READERS) as pool:
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

    def _mark_taken_up(self) -> None:
        """Make the state young before a receipt is looked for, so that no vacuum takes the parts
        that it names; of other content each time, so that the store's version changes too."""
        mark = json.dumps({"attempt": uuid.uuid4().hex}).encode()
        self._fs.write(self._folder / "taken-up.json", mark)

    def _forget_receipts(self) -> None:
        for ref in list(self._fs.list(self._folder)):
            if is_receipt(ref.uri):
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


def part_stem(run_key: str, index: int) -> str:
    """How the names of a part's files begin; they tell its run.

    Examples:
        >>> part_stem("feedfacecafebabe", 7)
        'part-feedfacecafe-00007'
    """
    return f"part-{run_key[:RUN_DIGITS]}-{index:05d}"


def run_of_part(path: str) -> str:
    """The beginning of the run's key that the name of a part tells; empty for other files.

    Examples:
        >>> run_of_part("data/part-feedfacecafe-00007-0a1b.parquet"), run_of_part("a.parquet")
        ('feedfacecafe', '')
    """
    match = _PART_NAME.match(path.rpartition("/")[2])
    return match[1] if match else ""


def is_receipt(path: str) -> bool:
    """Whether the file of this name says that parts are finished."""
    name = path.rpartition("/")[2]
    return name == "all.json" or name.startswith("part-")
