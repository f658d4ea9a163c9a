"""What a copy has done so far, kept beside it: so that no checked object is copied twice.

Rows are added in small objects while a copy is under way, since objects cannot grow, and are
brought together at its end. A row counts as long as both ends are the versions that it names.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256

from pydantic import TypeAdapter

from headwater.infra.errors import AccessDenied, DamagedFile, UnsupportedData
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.transfer.leftovers import Attempt
from headwater.infra.storage.transfer.models import TRANSFER_VERSION, Copied
from headwater.infra.storage.transfer.sources import MANIFESTS
from headwater.infra.storage.uris import Uri

NAME = "manifest.jsonl"

KEY_DIGITS = 16

_ROW = TypeAdapter(Copied)


class Manifest:
    """The manifest of one source at one target.

    Args:
        root: Folder of the target that it lies in.
    """

    def __init__(self, root: Uri, source: Uri, target: Uri) -> None:
        ends = {"source": str(source), "target": str(target)}
        key = sha256(json.dumps(ends).encode()).hexdigest()[:KEY_DIGITS]
        self._head = {
            "version": TRANSFER_VERSION,
            **ends,
            "attempt": asdict(Attempt.of_this_process()),
        }
        self._fs = open_filesystem(root)
        self._folder = root / MANIFESTS / key
        self._attempt = uuid.uuid4().hex
        self._pieces: list[Uri] = []
        self._unfinished: set[Attempt] = set()

    @property
    def unfinished(self) -> frozenset[Attempt]:
        """Attempts that had not ended well when the rows were loaded."""
        return frozenset(self._unfinished)

    @property
    def uri(self) -> Uri:
        """Where all rows are once a copy has ended well."""
        return self._folder / NAME

    def load(self) -> dict[str, Copied]:
        """The rows of all attempts so far, by their paths.

        Raises:
            DamagedFile: Something else is where rows should be.
            UnsupportedData: A newer Headwater wrote them.
        """
        rows: dict[str, Copied] = {}
        listed = [ref for ref in self._fs.list(self._folder) if ref.uri.endswith(".jsonl")]
        # What was brought together first: pieces that are there beside it are newer.
        for ref in sorted(listed, key=lambda ref: not ref.uri.endswith(f"/{NAME}")):
            uri = Uri.parse(ref.uri)
            attempt, found = _parsed(uri, self._fs.read(ref))
            rows |= {row.path: row for row in found}
            if uri.name != NAME:
                self._pieces.append(uri)
                self._unfinished.add(attempt)
        return rows

    def begin(self) -> None:
        """Write a first piece, without rows: what refuses it would refuse all copies."""
        self.add(())

    def add(self, rows: Iterable[Copied]) -> None:
        """Keep some rows more."""
        uri = self._folder / f"{self._attempt}-{len(self._pieces):06}.jsonl"
        self._fs.write(uri, self._text(rows))
        self._pieces.append(uri)

    def finish(self, rows: Mapping[str, Copied]) -> None:
        """Bring all rows together; what is in no copy any more is dropped.

        Who may create objects and not replace or remove any leaves the pieces, which tell as much.
        """
        with suppress(AccessDenied):
            self._fs.write(self.uri, self._text(rows[path] for path in sorted(rows)))
            for piece in self._pieces:
                self._fs.delete(piece)
            self._pieces.clear()

    def _text(self, rows: Iterable[Copied]) -> bytes:
        lines: Sequence[object] = (self._head, *(asdict(row) for row in rows))
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()


def _parsed(uri: Uri, data: bytes) -> tuple[Attempt, list[Copied]]:
    try:
        head, *lines = data.splitlines()
        said = json.loads(head)
        version = said["version"]
        if version > TRANSFER_VERSION:
            raise UnsupportedData(
                f"{uri.display} was written by a newer Headwater (format {version})",
                hint="upgrade this one",
            )
        return Attempt(**said["attempt"]), [_ROW.validate_json(line) for line in lines]
    except (ValueError, TypeError, KeyError) as exc:
        raise DamagedFile(
            f"{uri.display} is no list of copies", hint="remove it: what is there is compared anew"
        ) from exc
