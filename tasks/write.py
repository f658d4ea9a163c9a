"""Writes a part's files, in place for local targets, else through a temporary folder.

No reader sees a part before a version names it, so it is written under its final, unique name.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from headwater.infra.errors import HeadwaterError, UnsupportedData
from headwater.infra.models import Format, PartFile
from headwater.infra.storage.datasets import DATA_FOLDER, part_folder
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.retries import threads
from headwater.infra.storage.runs import part_stem
from headwater.infra.storage.types import partition_text
from headwater.infra.storage.uris import Uri

UPLOADERS = 4
"""Files of one part that are sent together."""

MAX_PARTITIONS = 10_000
"""Partitions of one part: beyond it the partition column is surely the wrong one."""

MAX_FOLDER_BYTES = 255
"""What a local file system keeps of one name; object stores keep more."""


class PartWriter:
    """The files of one attempt at one part.

    Args:
        target: Root of the table.
        run_key: Run that the part belongs to; part of the names.
        index: Index of the part.
        tmp: Folder for files that are then uploaded; not used for local tables.
        format_: Plain Parquet has no log that hides a part that is not whole, or that an earlier
            attempt has left. So its parts are named without the attempt, and put in place whole.
    """

    def __init__(
        self, target: Uri, run_key: str, index: int, tmp: Path, format_: Format = Format.DELTA
    ) -> None:
        self._target = target
        self._is_plain = format_ is Format.PARQUET
        self._is_in_place = target.is_local and not self._is_plain
        self._base = target.path if self._is_in_place else tmp / "out"
        attempt = "" if self._is_plain else f"-{uuid.uuid4().hex[:8]}"
        self._stem = f"{part_stem(run_key, index)}{attempt}"
        self._written: dict[str, tuple[tuple[str, str | None], ...]] = {}
        self._opened: Counter[tuple[tuple[str, str | None], ...]] = Counter()
        self._refused: list[HeadwaterError] = []

    def sink(self, frame: pl.LazyFrame, partition_by: Sequence[str]) -> None:
        """Collect ``frame`` into files; on any error they are removed.

        What the engine still finishes after it has failed is named by no receipt and no version.
        """
        try:
            if partition_by:
                frame.sink_parquet(
                    pl.PartitionBy(
                        self._base,
                        key=list(partition_by),
                        include_key=False,
                        file_path_provider=self._path,
                    ),
                    mkdir=True,
                    engine="streaming",
                )
            else:
                path = self._name((), 0)
                self._written[path] = ()
                frame.sink_parquet(self._base / path, mkdir=True, engine="streaming")
            if self._refused:
                raise self._refused[0]
        except BaseException:
            self.discard()
            raise

    def sink_into(self, frame: pl.LazyFrame, partition: Sequence[tuple[str, str | None]]) -> Path:
        """Collect ``frame``, without partition columns, into one file of ``partition``.

        Rows keep their order. On any error what was written here is removed.

        Returns:
            Where the file is until it is published.
        """
        try:
            self._require_keepable(partition)
            path = self._name(partition, len(self._written))
            self._written[path] = tuple(partition)
            frame.sink_parquet(self._base / path, mkdir=True, engine="streaming")
        except BaseException:
            self.discard()
            raise
        return self._base / path

    def publish(self) -> tuple[PartFile, ...]:
        """The files as they are stored in the target; those without rows are removed."""
        with threads(UPLOADERS) as pool:
            try:
                files = list(pool.map(self._publish, self._written))
            except BaseException:
                self.discard()
                raise
        return tuple(f for f in files if f is not None)

    def discard(self) -> None:
        """Remove what was written here."""
        for path in self._written:
            (self._base / path).unlink(missing_ok=True)

    def _path(self, args: object) -> str:
        """Name of the next file; called by the engine, once for each file it opens."""
        keys: pl.DataFrame = args.partition_keys  # type: ignore[attr-defined]
        try:
            partition = tuple(
                (name, partition_text(value, name))
                for name, value in keys.row(0, named=True).items()
            )
            self._require_keepable(partition)
        except HeadwaterError as exc:
            # Raised in here, it leaves the engine writing behind our back, or waiting for ever.
            self._refused.append(exc)
            refused = f"{DATA_FOLDER}/{self._stem}-refused.parquet"
            self._written[refused] = ()
            return refused
        path = self._name(
            partition, self._opened[partition] if self._is_plain else len(self._written)
        )
        self._opened[partition] += 1
        self._written[path] = partition
        return path

    def _name(self, partition: Sequence[tuple[str, str | None]], number: int) -> str:
        """Path of a file; ``number`` tells it from others of this part."""
        folder = part_folder(partition, "" if self._is_plain else DATA_FOLDER)
        name = f"{self._stem}-{number:05d}.parquet"
        return f"{folder}/{name}" if folder else name

    def _require_keepable(self, partition: Sequence[tuple[str, str | None]]) -> None:
        folder = part_folder(partition)
        longest = max(folder.split("/"), key=lambda name: len(name.encode()))
        if len(longest.encode()) > MAX_FOLDER_BYTES:
            raise UnsupportedData(
                f"a partition value is too long to name a folder: {longest[:60]}…",
                hint="partition by a shorter column",
            )
        if len(self._written) >= MAX_PARTITIONS:
            raise UnsupportedData(
                f"one part has more than {MAX_PARTITIONS:,} partitions",
                hint="partition by a column with fewer values",
            )

    def _publish(self, path: str) -> PartFile | None:
        local = self._base / path
        rows = int(pl.scan_parquet(local, glob=False).select(pl.len()).collect().item())
        if rows == 0:
            local.unlink()
            return None
        fs = open_filesystem(self._target)
        uri = self._target / path
        ref = fs.stat(uri) if self._is_in_place else fs.upload(local, uri)
        return PartFile(path, ref.size_bytes, rows, ref.version, self._written[path])
