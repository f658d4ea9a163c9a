"""The sizes of the inputs at which another place would win."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from headwater.infra.planner.models import Flip
from headwater.infra.planner.offers import Site

STEP = 10**0.5
STEPS = 6
"""Sizes from a thousandth to a thousand times the inputs' are looked at, two to a decade."""

PRECISION = 0.005
"""How far from the true size the found one may be, as a share."""

MOST_BYTES = 1e17
LEAST_BYTES = 1e3
"""Beyond these no size is looked at: 100 PB, and 1 kB."""


def flips(place_at: Callable[[float], Site | None], size_bytes: float) -> tuple[Flip, ...]:
    """The nearest size above and below at which the place changes; none where it does not.

    The size is found by halving between two steps of a ladder; a place that wins only between
    two steps and not at either is passed over.

    Args:
        place_at: The place that wins at a factor on the inputs' size.
        size_bytes: Of the inputs.
    """
    if size_bytes <= 0:
        return ()
    now = place_at(1.0)
    found = (_flip(place_at, size_bytes, now, direction) for direction in ("below", "above"))
    return tuple(flip for flip in found if flip is not None)


def _flip(
    place_at: Callable[[float], Site | None],
    size_bytes: float,
    now: Site | None,
    direction: Literal["above", "below"],
) -> Flip | None:
    factor = STEP if direction == "above" else 1 / STEP
    same = 1.0
    for _ in range(STEPS):
        other = same * factor
        if not LEAST_BYTES <= size_bytes * other <= MOST_BYTES:
            return None
        if (place := place_at(other)) != now:
            return _halve(place_at, size_bytes, now, (same, other, place), direction)
        same = other
    return None


def _halve(
    place_at: Callable[[float], Site | None],
    size_bytes: float,
    now: Site | None,
    bracket: tuple[float, float, Site | None],
    direction: Literal["above", "below"],
) -> Flip:
    same, other, place = bracket
    while abs(other - same) > PRECISION * min(same, other):
        middle = (same * other) ** 0.5
        at_middle = place_at(middle)
        if at_middle == now:
            same = middle
        else:
            other, place = middle, at_middle
    to = "" if place is None else f"{place[0]} {place[1]}"
    return Flip(direction, size_bytes * other, to)
