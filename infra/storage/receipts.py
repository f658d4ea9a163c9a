"""The receipts of runs, in a store of their own: what was run, where, how long, with what outcome.

One JSON file a run, in ``HEADWATER_RECEIPTS`` (any address) or the user's state folder. Runs are
listed from here, plans learn from here, and the ledger prices what is here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from platformdirs import user_state_path
from pydantic import TypeAdapter

from headwater.infra.errors import DamagedFile, UnsupportedData
from headwater.infra.models import RECEIPT_VERSION, RunReceipt, to_jsonable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

LOCATION_VARIABLE = "HEADWATER_RECEIPTS"

TRANSFERS = "transfers"
"""Folder of the receipts of copies, which are no runs."""

_RECEIPT = TypeAdapter(RunReceipt)


class ReceiptStore:
    """Receipts at one address.

    Args:
        location: ``None`` takes ``HEADWATER_RECEIPTS``, else the user's state folder.
    """

    def __init__(self, location: str | None = None) -> None:
        chosen = location or os.environ.get(LOCATION_VARIABLE)
        self.uri = Uri.parse(chosen or str(user_state_path("headwater") / "receipts"))
        self._fs = open_filesystem(self.uri)

    def add(self, receipt: RunReceipt) -> Uri:
        """Keep ``receipt``; a second one of the same run takes its place."""
        uri = self.uri / f"{receipt.started:%Y-%m-%d}" / f"{receipt.run_id}.json"
        self._fs.write(uri, json.dumps(to_jsonable(receipt), indent=1).encode())
        return uri

    def list(self) -> Iterator[RunReceipt]:
        """Every receipt of a run, oldest day first.

        Raises:
            UnsupportedData: A newer Headwater wrote one of them.
            DamagedFile: One of them is no receipt.
        """
        copies = f"{self.uri / TRANSFERS}/"
        for ref in self._fs.list(self.uri):
            if ref.uri.endswith(".json") and not ref.uri.startswith(copies):
                yield parse_receipt(self._fs.read(ref), ref.uri)


def parse_receipt(data: bytes, source: str) -> RunReceipt:
    """The receipt that ``data`` holds as JSON.

    Args:
        source: Where it comes from, for the message of an error.
    """
    try:
        table = json.loads(data)
        version = table.get("version", 0) if isinstance(table, dict) else 0
        if isinstance(version, int) and version > RECEIPT_VERSION:
            raise UnsupportedData(
                f"{source} was written by a newer Headwater (format {version})",
                hint="upgrade this one",
            )
        return _RECEIPT.validate_json(data)
    except ValueError as exc:
        raise DamagedFile(f"{source} is no receipt", hint="remove the file") from exc
