"""Plain Parquet as a target: a folder of files without a log, for readers that know no Delta.

    part-….parquet, zone=a/part-….parquet   the rows, in hive folders where they are partitioned
    _headwater/runs/<run key>/              what the unfinished run has done so far
    _SUCCESS                                written last: the folder is whole

Such a folder is written once, by one run, and never overwritten. Until ``_SUCCESS`` is there, a
reader may see some of the parts: nothing but the log of a table can make many files appear at
once. Readers of folders leave out names that begin with ``_``. A part has the same name in every
attempt, and takes its place whole, so that no attempt leaves a row twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from headwater.infra.errors import CommitConflict, InvalidRequest, NotFound, UnsupportedData
from headwater.infra.models import DataRef, DatasetVersion, PartFile
from headwater.infra.storage.datasets import (
    LOG_FOLDER,
    STATE_FOLDER,
    Commit,
    require_writable_folder,
)
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.runs import RUN_DIGITS, RUNS_FOLDER, run_of_part
from headwater.infra.storage.uris import Uri

SUCCESS = "_SUCCESS"
"""The file that Hadoop, Spark and what follows them take for the sign of a whole folder."""

SUCCESS_VERSION = 1
"""Format of what is in it."""


@dataclass(frozen=True, slots=True)
class Success:
    """What the sign of a whole folder says of the run that wrote it.

    Attributes:
        run: The attempt that finished it.
    """

    run_key: str
    run: str
    rows: int
    files: int
    size_bytes: int
    version: int = SUCCESS_VERSION


_SUCCESS = TypeAdapter(Success)


class PlainFolder:
    """A folder of plain Parquet at one address. Nothing is read until it is asked for."""

    def __init__(self, uri: Uri) -> None:
        self._fs = open_filesystem(uri)
        self.uri = self._fs.canonical(uri)

    def require_free(self, run_key: str) -> DatasetVersion | None:
        """Refuse a folder with anything in it but what this very run has left.

        Returns:
            What the run wrote, where it is finished.
        Raises:
            InvalidRequest: The folder is not empty, and is not this run's.
            AccessDenied: It is local, and this user may not write there.
        """
        if self.uri.is_local:
            require_writable_folder(self.uri.path)
        names = [self.uri.relative(Uri.parse(ref.uri)) for ref in self._fs.list(self.uri)]
        done = self._success() if SUCCESS in names else None
        if done is not None and done.run_key == run_key:
            return self._written(done)
        for name in names:
            if not _is_of_run(name, run_key):
                raise self._refused(name)
        return None

    def finish(self, files: Sequence[PartFile], *, run_key: str, run: str) -> Commit:
        """Put ``_SUCCESS``, after everything that is not of ``files`` is gone; then the state goes.

        Args:
            files: All parts of the run.
            run: Names this attempt.
        Raises:
            CommitConflict: Another writer changed or added files.
        """
        found = {self.uri.relative(Uri.parse(ref.uri)): ref for ref in self._fs.list(self.uri)}
        said = Success(
            run_key, run, sum(f.rows for f in files), len(files), sum(f.size_bytes for f in files)
        )
        if SUCCESS not in found:
            self._require_whole(found, files)
            self._remove_left_over(found, files, run_key)
            self._fs.create(self.uri / SUCCESS, _SUCCESS.dump_json(said, indent=2))
        done = self._success()
        if done is None or done.run_key != run_key:
            raise CommitConflict(
                f"another run finished {self.uri.display} meanwhile",
                hint="name a new folder",
            )
        for name in found:
            if name.startswith(f"{RUNS_FOLDER}/"):
                self._fs.delete(self.uri / name)
        return Commit(self._written(done), already=done.run != run)

    def _success(self) -> Success | None:
        """What ``_SUCCESS`` says; ``None`` where it is not there, or is another writer's."""
        try:
            data = self._fs.read(self._fs.stat(self.uri / SUCCESS))
            found = _SUCCESS.validate_json(data)
        except (ValidationError, NotFound):
            return None
        if found.version > SUCCESS_VERSION:
            raise UnsupportedData(
                f"{(self.uri / SUCCESS).display} was written by a newer Headwater (format"
                f" {found.version})",
                hint="upgrade this one, or name a new folder",
            )
        return found

    def _written(self, done: Success) -> DatasetVersion:
        return DatasetVersion(str(self.uri), None, done.rows, done.files, done.size_bytes)

    def _require_whole(self, found: dict[str, DataRef], files: Iterable[PartFile]) -> None:
        for file in files:
            ref = found.get(file.path)
            if ref is None or ref.version != file.version:
                what = "is gone" if ref is None else "was written anew"
                raise CommitConflict(
                    f"{(self.uri / file.path).display} {what} since its part was finished: another"
                    " attempt of this run is under way",
                    hint="let one attempt end, then run the same command again",
                )

    def _remove_left_over(
        self, found: dict[str, DataRef], files: Iterable[PartFile], run_key: str
    ) -> None:
        """Remove parts of attempts that cut the rows in another way: they hold the same rows."""
        wanted = {file.path for file in files}
        for name in found:
            if name in wanted or name.startswith(f"{RUNS_FOLDER}/{run_key}"):
                continue
            if not _is_of_run(name, run_key):
                raise CommitConflict(
                    f"another writer put '{name}' into {self.uri.display}",
                    hint="remove it, then run the same command again: finished parts are taken up",
                )
            self._fs.delete(self.uri / name)

    def _refused(self, name: str) -> InvalidRequest:
        if name.startswith(f"{LOG_FOLDER}/"):
            return InvalidRequest(
                f"the target {self.uri.display} is a table, and plain Parquet cannot be written"
                " into one",
                hint="leave --format out, or name a new folder",
            )
        if name.startswith(f"{STATE_FOLDER}/"):
            return InvalidRequest(
                f"another run has begun to write {self.uri.display} and is not finished",
                hint="run that command again to finish it, or name a new folder",
            )
        return InvalidRequest(
            f"the target {self.uri.display} is not empty, and plain Parquet is never overwritten;"
            f" found '{name}'",
            hint="name a new folder",
        )


def _is_of_run(name: str, run_key: str) -> bool:
    """Whether an attempt of the run has left the file of this name."""
    state = f"{RUNS_FOLDER}/{run_key}"
    return name.startswith((f"{state}/", f"{state}-")) or run_of_part(name) == run_key[:RUN_DIGITS]
