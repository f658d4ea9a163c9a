"""`headwater locate`: where data is and how much of it, before anything is spent."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headwater.flows.console import EXIT_REFUSED, Console
from headwater.infra.errors import AccessDenied
from headwater.infra.locations.locate import NotLocated, locate_each
from headwater.infra.locations.models import Location
from headwater.infra.models import Status
from headwater.infra.profiles import load_profile
from headwater.infra.storage.uris import Uri
from headwater.infra.units import human_bytes

REGIONS_SHOWN = 3
"""Regions of one bucket that a line names; the rest is counted."""


def locate_all(uris: Sequence[str], profile: str, console: Console) -> None:
    """Print a line for each address; exit 2 where one could not be located."""
    found = locate_each(uris, declared=load_profile(profile).locations)
    located = [one for one in found if isinstance(one, Location)]
    missing = [one for one in found if isinstance(one, NotLocated)]
    value: dict[str, object] = {"locations": [_as_json(one) for one in found]}
    if missing:
        value = {"status": Status.REFUSED, **value}
    if located or console.json:
        console.result(value, _table([_cells(one) for one in located]))
    for one in missing:
        hint = f"\n  -> {one.error.hint}" if one.error.hint else ""
        console.say(f"error: {one.error.message}{hint}")
    if missing:
        sys.exit(EXIT_REFUSED)


def _as_json(one: Location | NotLocated) -> dict[str, object]:
    if isinstance(one, NotLocated):
        found = "denied" if isinstance(one.error, AccessDenied) else "unknown"
        return {
            "uri": one.uri,
            "found": found,
            "error": one.error.message,
            "hint": one.error.hint,
        }
    return {
        "uri": one.uri,
        "cloud": one.cloud,
        "regions": sorted(one.regions),
        "found": one.found,
        "size_bytes": one.size_bytes,
        "objects": one.objects,
        "detail": one.detail,
    }


def _cells(one: Location) -> tuple[str, ...]:
    objects = "1 object" if one.objects == 1 else f"{one.objects:,} objects"
    how = one.detail if one.found == "declared" else f"{one.found}: {one.detail}"
    return Uri.parse(one.uri).display, where(one), human_bytes(one.size_bytes), objects, how


def where(one: Location) -> str:
    """The place of ``one`` as a person reads it.

    Example:
        >>> where(Location("file:///tmp/a", None, frozenset(), "local", 1, 1))
        'this machine'
    """
    if one.cloud is None:
        return "this machine" if one.found == "local" else "this network"
    regions = sorted(one.regions)
    more = len(regions) - REGIONS_SHOWN
    said = ", ".join(regions[:REGIONS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{one.cloud} {said}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """``rows`` with columns of one width; the two numbers are to the right."""
    widths = [max(len(row[i]) for row in rows) if rows else 0 for i in range(5)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}"
        f"  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )
