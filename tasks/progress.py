"""How far the parts of a run are, and what they left at its end."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.infra.models import PartReceipt

MAX_TRIES = 3
"""Tries of one part, where an error says that a later one may succeed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; ``rows`` and ``parts`` count what earlier attempts had done, too."""

    parts: int
    parts_done: int
    rows_in: int
    rows_out: int
    retries: int


@dataclass(frozen=True, slots=True)
class Processed:
    """All parts of a run, done.

    Attributes:
        resumed: Parts that an earlier attempt had finished.
        retries: Parts tried again after an error or a lost worker.
    """

    receipts: tuple[PartReceipt, ...]
    resumed: int
    retries: int
