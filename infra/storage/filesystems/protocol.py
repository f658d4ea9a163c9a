"""What every store can do. Each call names one exact key; nothing here expands a pattern.

In fsspec a key with ``[`` or ``*`` is a pattern in many calls (``rm("file[12]")`` deletes
``file1`` and ``file2``), and listings come from a cache that misses what other clients wrote.
The classes behind this protocol use only calls that do neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.descriptions import Description
from headwater.infra.storage.filesystems.streams import Reader, Stored, Stream
from headwater.infra.storage.uris import Uri


class Filesystem(Protocol):
    """The bytes of one store, with credentials found in the ordinary places of its cloud.

    Common to all calls: ``NotFound`` when the bucket or key does not exist, ``AccessDenied`` when
    credentials are missing or refused, ``StoreUnavailable`` when the store does not answer or
    asks to come back later (after the client library's own bounded tries).
    """

    def canonical(self, uri: Uri) -> Uri:
        """``uri`` as the one address of its place: Azure's account added, local links resolved."""
        ...

    def stat(self, uri: Uri) -> DataRef:
        """The object as it is now, asked from the store and not from a cache.

        Raises:
            NotFound: No object with exactly this key (a folder is none).
        """
        ...

    def list(self, folder: Uri) -> Iterator[DataRef]:
        """Every object below ``folder``, at any depth, in order of their keys.

        Always asked anew. Empty when nothing is there. Folder markers (a key that ends in a
        slash) are left out. Each says when it was ``modified``.

        Raises:
            NotFound: The bucket does not exist.
        """
        ...

    def folders(self, folder: Uri) -> Sequence[str]:
        """Names of the folders directly below ``folder``, in order; nothing deeper is listed.

        Always asked anew. Empty when nothing is there.

        Raises:
            NotFound: The bucket does not exist.
        """
        ...

    def read(self, ref: DataRef, start: int = 0, end: int | None = None) -> bytes:
        """Bytes ``[start, end)`` of the pinned version.

        Args:
            ref: From ``stat`` or ``list``. An empty ``ref.version`` reads whatever is there.
            end: ``None`` is the end of the object; beyond the end is cut there.
        Raises:
            SourceChanged: The object is no longer that version.
        """
        ...

    def download(
        self, ref: DataRef, path: Path, ranges: Sequence[tuple[int, int]] | None = None
    ) -> None:
        """Stream the pinned version into ``path``, in bounded memory.

        The file gets the object's size. On any error ``path`` does not exist afterwards.

        Args:
            ranges: Bytes ``[start, end)`` to bring; the others are holes in the file, which read
                as zeros and take no room. ``None`` is the whole object.
        Raises:
            SourceChanged: The object is no longer that version, or changed on the way.
        """
        ...

    def write(self, uri: Uri, data: bytes) -> DataRef:
        """Put ``data`` at ``uri``, in place of what was there; readers see the old or the new.

        Raises:
            InvalidUri: A key that some store would not keep (``Uri.checked_for_write``); also
                of ``create`` and ``upload``.
        """
        ...

    def create(self, uri: Uri, data: bytes) -> bool:
        """Put ``data`` at ``uri`` only where nothing is; of racing callers exactly one gets True.

        Where the answer of a call is lost and a retry finds the caller's own bytes, it is True.
        """
        ...

    def upload(self, path: Path, uri: Uri) -> DataRef:
        """Put the file at ``uri`` and return it as stored, its size verified."""
        ...

    def reading(self, ref: DataRef) -> AbstractContextManager[Reader]:
        """What gives any piece of the pinned version, for as long as the body runs.

        It raises ``SourceChanged`` where the object is no longer that version.
        """
        ...

    def receive(self, stream: Stream, uri: Uri, *, replacing: str | None = None) -> Stored:
        """Put what ``stream`` gives at ``uri``; a reader sees all of it or what was there.

        Of a stream that is digested, the store compares what comes with its checksums where it
        can, and refuses what differs. What the stream is described by is kept with the object,
        all of which the store has to hold (``cannot_hold``); local files have none.

        Args:
            replacing: The version that it may take the place of; empty where nothing may be
                there. ``None`` takes the place of whatever is there.
        Raises:
            TargetExists: Something else is there than ``replacing`` says.
        """
        ...

    def cannot_hold(self, found: Description) -> Mapping[str, str]:
        """Why the store cannot keep what is called so, by its name; empty where it keeps all."""
        ...

    def checksum(self, ref: DataRef) -> int | None:
        """CRC32C of the pinned version as the store has computed it; ``None`` where it has none.

        Raises:
            SourceChanged: The object is no longer that version.
        """
        ...

    def copy(self, ref: DataRef, uri: Uri, *, replacing: str | None = None) -> Stored | None:
        """Let the store itself copy the pinned version to ``uri``; ``None`` where it cannot.

        What describes it is copied as well.

        Args:
            replacing: As in ``receive``.
        Raises:
            SourceChanged: The object is no longer that version.
            TargetExists: Something else is there than ``replacing`` says.
        """
        ...

    def delete(self, uri: Uri) -> None:
        """Remove exactly this object; one that is already gone is fine."""
        ...

    def unfinished(self, folder: Uri) -> Iterator[DataRef]:
        """What killed writers have left below ``folder``, and ``list`` does not show.

        Files that are not whole yet, and uploads in parts that nobody completed: S3 keeps and
        bills them until they are ended. GCS and Azure drop theirs after a week by themselves.
        Each says when it was ``modified``, so that those of live writers can be told.
        """
        ...

    def discard(self, ref: DataRef) -> None:
        """Remove one of ``unfinished``; one that is already gone is fine."""
        ...

    def clock_offset_seconds(self, uri: Uri) -> float:
        """Store's clock minus this machine's, from the store's own answer; 0 for local files."""
        ...

    def delta_uri(self, uri: Uri) -> str:
        """The address of a table's root as ``deltalake`` and Polars take it."""
        ...

    def delta_options(self, uri: Uri) -> dict[str, str]:
        """``storage_options`` for ``deltalake`` and Polars: the same endpoint and credentials.

        They are for tables in the bucket of ``uri`` (on S3 its region is one of them).
        Holds secrets: it is built where it is used and never put into a task, a graph, a log or
        a message.
        """
        ...
