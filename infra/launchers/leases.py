"""What a cloud holds of ours, as whoever pays for it asks: how old, whose, until when, how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from headwater.infra.launchers.base import Leftover
from headwater.infra.launchers.prices import usd_per_hour, usd_so_far
from headwater.infra.launchers.tags import CLUSTER, RUN, expiry


@dataclass(frozen=True, slots=True)
class Held:
    """One thing that a cloud holds, at one moment.

    Attributes:
        age_seconds: ``None`` where its cloud does not say when it was made.
        expires: End of its lease; ``None`` where no tag says it.
        usd_per_hour: ``None`` where no price is recorded; so is ``usd_so_far``.
    """

    leftover: Leftover
    age_seconds: float | None
    expires: datetime | None
    usd_per_hour: float | None
    usd_so_far: float | None

    @classmethod
    def of(cls, leftover: Leftover, now: datetime) -> Held:
        """``leftover`` as it is ``now``, by the catalog's prices."""
        created = leftover.created
        return cls(
            leftover,
            None if created is None else max(0.0, (now - created).total_seconds()),
            expiry(leftover.tags),
            usd_per_hour(leftover),
            usd_so_far(leftover, now),
        )


@dataclass(frozen=True, slots=True)
class Due:
    """What may go: what is named, or else what is past its lease.

    Something without a readable lease goes only where it is named: nobody knows who needs it.

    Attributes:
        run: Value of the run's tag; empty is any.
        cluster: Likewise.

    Example:
        >>> due = Due(datetime.fromisoformat("2026-01-01T00:00:00+00:00"))
        >>> due.holds_for({"hw_expires": "0"}), due.holds_for({"hw_expires": "?"})
        (True, False)
    """

    now: datetime
    run: str = ""
    cluster: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """The tags that are asked for."""
        named = {RUN: self.run, CLUSTER: self.cluster}
        return {key: value for key, value in named.items() if value}

    def holds_for(self, tags: Mapping[str, str]) -> bool:
        """Whether something with ``tags`` may go."""
        if self.tags:
            return all(tags.get(key) == value for key, value in self.tags.items())
        ends = expiry(tags)
        return ends is not None and ends < self.now
