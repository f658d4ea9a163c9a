"""The receipts of copies that a cloud bills for, beside those of runs: the month's sum needs them.

One JSON file a copy, in the folder ``transfers`` of the store of receipts. What a copy does not
cost is told by its manifest, at its target.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from pydantic import TypeAdapter

from headwater.infra.errors import DamagedFile, UnsupportedData
from headwater.infra.models import to_jsonable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.receipts import TRANSFERS, ReceiptStore
from headwater.infra.storage.transfer.models import TRANSFER_VERSION, TransferReceipt
from headwater.infra.storage.uris import Uri

_RECEIPT = TypeAdapter(TransferReceipt)


class TransferReceiptStore:
    """Receipts of copies at one address.

    Args:
        location: Of the store of receipts; by default that of ``ReceiptStore``.
    """

    def __init__(self, location: str | None = None) -> None:
        self.uri = ReceiptStore(location).uri / TRANSFERS
        self._fs = open_filesystem(self.uri)

    def add(self, receipt: TransferReceipt) -> Uri:
        """Keep ``receipt``."""
        uri = self.uri / f"{receipt.started:%Y-%m-%d}" / f"{uuid.uuid4().hex}.json"
        self._fs.write(uri, json.dumps(to_jsonable(receipt), indent=1).encode())
        return uri

    def list(self) -> Iterator[TransferReceipt]:
        """Every receipt, oldest day first.

        Raises:
            UnsupportedData: A newer Headwater wrote one of them.
            DamagedFile: One of them is no receipt.
        """
        for ref in self._fs.list(self.uri):
            if ref.uri.endswith(".json"):
                yield _parsed(self._fs.read(ref), ref.uri)


def _parsed(data: bytes, source: str) -> TransferReceipt:
    try:
        table = json.loads(data)
        version = table.get("version", 0) if isinstance(table, dict) else 0
        if isinstance(version, int) and version > TRANSFER_VERSION:
            raise UnsupportedData(
                f"{source} was written by a newer Headwater (format {version})",
                hint="upgrade this one",
            )
        return _RECEIPT.validate_json(data)
    except ValueError as exc:
        raise DamagedFile(f"{source} is no receipt of a copy", hint="remove the file") from exc
