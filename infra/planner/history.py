"""What past runs and copies moved out of the clouds since the month began."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from headwater.infra.models import Cloud, RunReceipt
from headwater.infra.planner.models import MonthToDate

if TYPE_CHECKING:
    from headwater.infra.storage.transfer.models import TransferReceipt


def month_to_date(
    receipts: Iterable[RunReceipt], today: date, copies: Iterable[TransferReceipt] = ()
) -> tuple[MonthToDate, ...]:
    """Bytes by cloud and kind of destination, of what began in ``today``'s month (UTC).

    A run moved at most what it was planned to, and no more than it copied and read: one that failed
    halfway counts for what it had taken. A transfer that did not end well has no receipt.
    """
    moved: dict[tuple[Cloud, str], float] = {}
    for receipt in receipts:
        if receipt.placement is None or not _is_of_month(receipt.started, today):
            continue
        planned = sum(one.size_bytes for one in receipt.placement.moved)
        taken = receipt.bytes_read + sum(one.copied_bytes for one in receipt.gathered)
        share = min(1.0, taken / planned) if planned else 0.0
        for one in receipt.placement.moved:
            way = (one.cloud, one.to)
            moved[way] = moved.get(way, 0.0) + one.size_bytes * share
    for copy in copies:
        if copy.price is not None and _is_of_month(copy.started, today):
            for left in copy.price.egress:
                way = (left.cloud, left.to)
                moved[way] = moved.get(way, 0.0) + left.size_bytes
    return tuple(MonthToDate(cloud, to, size) for (cloud, to), size in moved.items())


def _is_of_month(begun: datetime, today: date) -> bool:
    day = begun.astimezone(UTC).date()
    return (day.year, day.month) == (today.year, today.month)
