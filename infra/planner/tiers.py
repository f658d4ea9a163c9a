"""What moved bytes cost by tiers that count from the beginning of the month."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.infra.catalog.models import EgressRate, Tier


def tiers_usd(tiers: Sequence[Tier], gb: float, used_gb: float = 0.0) -> float:
    """Price of the next ``gb`` after ``used_gb`` of the same month.

    Each tier is charged for what of ``[used_gb, used_gb + gb)`` lies in it, so the price never
    falls when bytes are added or a price rises, not even by a rounding.

    Args:
        gb: In the unit of the tiers.

    Example:
        >>> tiers = (Tier(0, 100, 0.0), Tier(100, None, 0.09))
        >>> tiers_usd(tiers, 100), tiers_usd(tiers, 101), tiers_usd(tiers, 1, used_gb=100)
        (0.0, 0.09, 0.09)
    """
    end, usd = used_gb + gb, 0.0
    for tier in tiers:
        to_gb = end if tier.to_gb is None or tier.to_gb > end else tier.to_gb
        from_gb = max(used_gb, tier.from_gb)
        if from_gb < to_gb:
            usd += (to_gb - from_gb) * tier.usd_per_gb
    return usd


def egress_usd(rate: EgressRate, moved_bytes: float, used_bytes: float = 0.0) -> float:
    """Price of ``moved_bytes`` over one route.

    Args:
        used_bytes: What went to the same kind of destination since the month began.
    """
    return tiers_usd(rate.tiers, moved_bytes / rate.gb_bytes, used_bytes / rate.gb_bytes)
