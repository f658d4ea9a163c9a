"""What past runs moved out of the clouds since the month began."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date

from headwater.infra.models import Cloud, RunReceipt
from headwater.infra.planner.models import MonthToDate


def month_to_date(receipts: Iterable[RunReceipt], today: date) -> tuple[MonthToDate, ...]:
    """Bytes by cloud and kind of destination, of runs that began in ``today``'s month (UTC).

    A run moved at most what it was planned to, and no more than it copied and read: one that failed
    halfway counts for what it had taken.
    """
    moved: dict[tuple[Cloud, str], float] = {}
    for receipt in receipts:
        begun = receipt.started.astimezone(UTC).date()
        if receipt.placement is None or (begun.year, begun.month) != (today.year, today.month):
            continue
        planned = sum(one.size_bytes for one in receipt.placement.moved)
        taken = receipt.bytes_read + sum(one.copied_bytes for one in receipt.gathered)
        share = min(1.0, taken / planned) if planned else 0.0
        for one in receipt.placement.moved:
            way = (one.cloud, one.to)
            moved[way] = moved.get(way, 0.0) + one.size_bytes * share
    return tuple(MonthToDate(cloud, to, size) for (cloud, to), size in moved.items())
