"""What a copy is asked to do, what it will do, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from headwater.infra.models import DataRef, TransferPrice
from headwater.infra.storage.uris import Uri

TRANSFER_VERSION = 1
"""Format of a manifest and of a receipt."""


class Unit(StrEnum):
    """What the source's address means."""

    OBJECT = "object"
    FOLDER = "folder"
    PATTERN = "pattern"
    TABLE = "table"


class Checked(StrEnum):
    """Who says that a copy has the bytes that it should have."""

    STORE = "store"
    """The store computed a checksum of what it holds, or of each piece as it came."""
    READ = "read"
    """The copy was read back."""


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """A copy that is asked for; nothing in it is resolved yet.

    Attributes:
        source: An object, a folder, a pattern or a table.
        target: A folder; of one object, its new address or a folder that ends in a slash.
        version: Of the table; ``None`` is its last.
        overwrite: Objects with other content are replaced, instead of refused.
        reread: Each copy is read back, also where its store vouches for it.
        drop_metadata: What the target's store cannot keep beside the bytes is left out, instead
            of refused.
    """

    source: str
    target: str
    version: int | None = None
    overwrite: bool = False
    reread: bool = False
    drop_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """One object that will be copied.

    Attributes:
        path: Relative to the root of both ends.
        ref: The pinned source.
        replacing: Version that the copy takes the place of; empty where nothing is.
    """

    path: str
    ref: DataRef
    target: Uri
    replacing: str = ""


@dataclass(frozen=True, slots=True)
class Copied:
    """One object whose copy has been checked: a row of the manifest.

    Attributes:
        source_version: What was copied, as its store names it.
        target_version: What it became there.
        crc32c: Eight hexadecimal digits.
        sha256: Empty where the bytes never came through this machine: the store copied them
            itself, or both stores had a checksum to compare.
    """

    path: str
    size_bytes: int
    source_version: str
    target_version: str
    crc32c: str
    sha256: str
    checked: Checked


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What a copy will do, decided before a byte moves.

    Attributes:
        root: Folder of the target that the manifest lies in.
        steps: What is copied: each step when the one before it is done. The log of a table comes
            after its files, and last the entry without which it is no log.
        kept: What is there already, by its path, and was checked.
        found: How many of ``kept`` no manifest had told of.
        version: Of the table.
        inside: Both ends are one store, which copies by itself.
    """

    request: TransferRequest
    unit: Unit
    source: Uri
    target: Uri
    root: Uri
    steps: tuple[tuple[Copy, ...], ...]
    kept: Mapping[str, Copied] = field(default_factory=dict)
    found: int = 0
    version: int | None = None
    inside: bool = False

    @property
    def copies(self) -> tuple[Copy, ...]:
        """All that is copied."""
        return tuple(copy for step in self.steps for copy in step)

    @property
    def objects(self) -> int:
        """How many objects are copied."""
        return sum(len(step) for step in self.steps)

    @property
    def size_bytes(self) -> int:
        """How much is copied."""
        return sum(copy.ref.size_bytes for copy in self.copies)


@dataclass(frozen=True, slots=True)
class TransferReceipt:
    """What a copy leaves behind.

    Attributes:
        objects: How many are at the target now, and checked.
        size_bytes: Of these.
        copied: How many of them this time.
        copied_bytes: Of these.
        by_store: How many of ``copied`` the store copied itself.
        read_back: How many of ``copied`` were read back, since the store vouches for nothing or
            since it was asked for.
        manifest: Where each object is told of, with its checksums.
        store_retries: Calls to stores that were made again.
        dropped: How many objects lost what is called so, since the target cannot keep it.
        price: What it was to cost; ``None`` where nobody asked before it began.
    """

    unit: Unit
    source: str
    target: str
    table_version: int | None
    objects: int
    size_bytes: int
    copied: int
    copied_bytes: int
    by_store: int
    read_back: int
    started: datetime
    seconds: float
    manifest: str
    store_retries: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    price: TransferPrice | None = None
    version: int = TRANSFER_VERSION
