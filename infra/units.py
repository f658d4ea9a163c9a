"""Sizes and durations as people read them."""

from __future__ import annotations

KIB = 2**10
MIB = 2**20
GIB = 2**30


def human_bytes(size_bytes: float) -> str:
    """``size_bytes`` with a binary unit and at most one decimal.

    Examples:
        >>> human_bytes(0), human_bytes(1023), human_bytes(1536), human_bytes(3 * GIB)
        ('0 B', '1023 B', '1.5 KiB', '3.0 GiB')
    """
    if size_bytes < KIB:
        return f"{size_bytes:.0f} B"
    value = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= KIB
        if value < KIB or unit == "TiB":
            return f"{value:.1f} {unit}"
    raise AssertionError("unreachable")


def human_seconds(seconds: float) -> str:
    """``seconds`` as a short duration.

    Examples:
        >>> human_seconds(0.031), human_seconds(7.25), human_seconds(75), human_seconds(7260)
        ('0.03 s', '7.2 s', '1 min 15 s', '2 h 01 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"
