"""`headwater clusters`: what is alive in the clouds and what it costs, and what removes it.

Nothing that this machine remembers is asked: all is found by its tags.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from headwater.flows.console import EXIT_FAILED, Console
from headwater.infra.errors import LeftBehind
from headwater.infra.launchers.base import Launcher, Leftover, Unseen
from headwater.infra.launchers.leases import Due, Held
from headwater.infra.launchers.registry import NotReached, reach
from headwater.infra.launchers.removal import sweep
from headwater.infra.launchers.tags import CLUSTER, OWNER, ROLE, RUN
from headwater.infra.models import Cloud, Status
from headwater.infra.profiles import load_profile
from headwater.infra.storage.retries import threads
from headwater.infra.units import human_seconds

NOTHING = "-"

NOWHERE = "no cloud could be looked at: what may be there is not known"


@dataclass(frozen=True, slots=True)
class Asked:
    """Where to look, and for what.

    Attributes:
        clouds: Those named; empty is all that can be reached.
        regions: Of AWS, which lists by region; empty is every one of the account.
    """

    profile: str
    clouds: tuple[Cloud, ...] = ()
    regions: tuple[str, ...] = ()
    run: str = ""
    cluster: str = ""


def list_clusters(asked: Asked, console: Console) -> None:
    """Print all that is Headwater's, with its price; exit 1 where a part could not be seen."""
    now = datetime.now(UTC)
    due = Due(now, asked.run, asked.cluster)
    with reach(load_profile(asked.profile), _clouds(asked), regions=asked.regions) as reached:
        launchers, skipped = reached
        _tell_skipped(skipped, asked, console)
        found, unseen = _look(launchers, due)
    held = [Held.of(one, now) for one in found]
    value: dict[str, object] = {
        **_status(bool(unseen)),
        **_totals(held),
        "resources": [_as_json(one, now) for one in held],
        "skipped": [_skipped_json(one) for one in skipped],
        "unseen": [_unseen_json(one) for one in unseen],
    }
    said = ", ".join(str(one.cloud) for one in launchers)
    nothing = f"nothing of Headwater's is in {said}" if launchers else NOWHERE
    console.result(value, _table(held, now) or nothing)
    _tell_unseen(unseen, console)
    if unseen:
        sys.exit(EXIT_FAILED)


def reap(asked: Asked, console: Console, *, yes: bool) -> None:
    """Remove what is past its lease, or what is named; without a yes only tell it.

    What cannot be removed is told with its price and its command, and the exit code is 1.
    """
    console.again = "what is gone already is not missed"
    now = datetime.now(UTC)
    due = Due(now, asked.run, asked.cluster)
    with reach(load_profile(asked.profile), _clouds(asked), regions=asked.regions) as reached:
        launchers, skipped = reached
        _tell_skipped(skipped, asked, console)
        found, unseen = _look(launchers, due)
        held = [Held.of(one, now) for one in found if due.holds_for(one.tags)]
        removed: tuple[Leftover, ...] = ()
        faults: tuple[LeftBehind, ...] = ()
        wanted = yes or (bool(held) and _is_wanted(held, now, console))
        if held and wanted:
            console.started = True
            removed, faults = _remove(launchers, held, due)
    value: dict[str, object] = {
        **_status(bool(faults or unseen)),
        "executed": bool(held) and wanted,
        **_totals(held),
        "resources": [_as_json(one, now) for one in held],
        "removed": [one.id for one in removed],
        "left": [{"error": fault.message, "hint": fault.hint} for fault in faults],
        "skipped": [_skipped_json(one) for one in skipped],
        "unseen": [_unseen_json(one) for one in unseen],
    }
    told = _reaped(held, removed, now, named=bool(due.tags), wanted=wanted)
    console.result(value, told if launchers else NOWHERE)
    for fault in faults:
        console.say(f"error: {fault.message}\n  -> {fault.hint}")
    _tell_unseen(unseen, console)
    if faults or unseen:
        sys.exit(EXIT_FAILED)


def _clouds(asked: Asked) -> tuple[Cloud, ...]:
    return asked.clouds or tuple(Cloud)


def _tell_skipped(skipped: Iterable[NotReached], asked: Asked, console: Console) -> None:
    """A line for each cloud that cannot be asked; one that was named is an error.

    Raises:
        HeadwaterError: Why the named one cannot.
    """
    for one in skipped:
        if one.cloud in asked.clouds:
            raise one.error
        said = one.error.message.removeprefix(f"{one.cloud}: ")
        console.say(f"skipped {one.cloud}: {said}")


def _look(
    launchers: Sequence[Launcher], due: Due
) -> tuple[tuple[Leftover, ...], tuple[Unseen, ...]]:
    with threads(max(1, len(launchers))) as pool:
        parts = list(pool.map(lambda one: one.list(due.tags), launchers))
    found = sorted(
        (one for part in parts for one in part.leftovers),
        key=lambda one: (one.tags.get(CLUSTER, ""), one.cloud, one.kind != "instance", one.name),
    )
    return tuple(found), tuple(one for part in parts for one in part.unseen)


def _remove(
    launchers: Sequence[Launcher], held: Sequence[Held], due: Due
) -> tuple[tuple[Leftover, ...], tuple[LeftBehind, ...]]:
    """What was removed, and what each cloud could not be made to remove."""
    clouds = {one.leftover.cloud for one in held}

    def one(launcher: Launcher) -> tuple[Leftover, ...] | LeftBehind:
        try:
            return sweep(launcher, due.tags, select=lambda one: due.holds_for(one.tags))
        except LeftBehind as exc:
            return exc

    with threads(max(1, len(launchers))) as pool:
        outcomes = list(pool.map(one, [x for x in launchers if x.cloud in clouds]))
    faults = tuple(x for x in outcomes if isinstance(x, LeftBehind))
    removed = tuple(x for some in outcomes if not isinstance(some, LeftBehind) for x in some)
    if faults:  # a part of what these clouds held may be gone all the same
        there = {one.id for one in _look(launchers, due)[0]}
        removed = tuple(x.leftover for x in held if x.leftover.id not in there)
    return removed, faults


def _is_wanted(held: Sequence[Held], now: datetime, console: Console) -> bool:
    console.say(_table(held, now))
    return console.ask(f"remove {_things(len(held))}")


def _reaped(
    held: Sequence[Held],
    removed: Sequence[Leftover],
    now: datetime,
    *,
    named: bool,
    wanted: bool,
) -> str:
    if not held:
        return "nothing with these names is there" if named else "nothing is past its lease"
    if not wanted:
        return f"{_table(held, now)}\nnothing was removed: add --yes to remove it"
    return f"removed {len(removed)} of {_things(len(held))}"


def _things(count: int) -> str:
    return "1 thing" if count == 1 else f"{count:,} things"


# --- what is told --------------------------------------------------------------------------------


def _status(is_failed: bool) -> dict[str, object]:
    return {"status": Status.FAILED} if is_failed else {}


def _totals(held: Iterable[Held]) -> dict[str, object]:
    """Prices of all together; what has none is counted apart."""
    rows = list(held)
    return {
        "usd_per_hour": round(sum(one.usd_per_hour or 0 for one in rows), 6),
        "usd_so_far": round(sum(one.usd_so_far or 0 for one in rows), 6),
        "without_price": sum(one.usd_per_hour is None for one in rows),
    }


def _as_json(one: Held, now: datetime) -> dict[str, object]:
    it = one.leftover
    return {
        "kind": it.kind,
        "id": it.id,
        "name": it.name,
        "cloud": it.cloud,
        "region": it.region,
        "zone": it.zone,
        "instance_type": it.node.instance_type if it.node else None,
        "market": it.node.market if it.node else None,
        "state": it.node.state if it.node else None,
        "run": it.tags.get(RUN),
        "cluster": it.tags.get(CLUSTER),
        "owner": it.tags.get(OWNER),
        "role": it.tags.get(ROLE),
        "created": it.created.astimezone(UTC).isoformat() if it.created else None,
        "age_seconds": one.age_seconds,
        "expires": one.expires.isoformat() if one.expires else None,
        "past_lease": one.expires is not None and one.expires < now,
        "usd_per_hour": one.usd_per_hour,
        "usd_so_far": one.usd_so_far,
        "command": it.command,
    }


def _skipped_json(one: NotReached) -> dict[str, object]:
    return {"cloud": one.cloud, "reason": one.error.message, "hint": one.error.hint}


def _unseen_json(one: Unseen) -> dict[str, object]:
    return {"place": one.place, "reason": one.reason, "hint": one.hint}


def _tell_unseen(unseen: Iterable[Unseen], console: Console) -> None:
    for one in unseen:
        hint = f"\n  -> {one.hint}" if one.hint else ""
        console.say(f"error: {one.place} could not be looked at: {one.reason}{hint}")


def _table(held: Sequence[Held], now: datetime) -> str:
    """A line for each thing and one for all; empty where there is none."""
    if not held:
        return ""
    head = ("kind", "name", "where", "type", "run", "age", "lease", "$ an hour", "$ so far")
    rows = [head, *(_cells(one, now) for one in held)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    totals = _totals(held)
    unpriced = totals["without_price"]
    more = f", and {unpriced} without a price" if unpriced else ""
    lines.append(
        f"{_things(len(held))}: ${totals['usd_per_hour']:.2f} an hour,"
        f" ${totals['usd_so_far']:.2f} so far{more}"
    )
    return "\n".join(lines)


def _cells(one: Held, now: datetime) -> tuple[str, ...]:
    it = one.leftover
    kind = f"{it.node.instance_type} {it.node.market}" if it.node else ""
    if it.size_gib:
        kind = f"{it.size_gib:.0f} GiB"
    return (
        it.kind,
        it.name or it.id,
        it.place,
        kind or NOTHING,
        it.tags.get(RUN, NOTHING),
        NOTHING if one.age_seconds is None else human_seconds(one.age_seconds),
        _lease(one.expires, now),
        NOTHING if one.usd_per_hour is None else f"{one.usd_per_hour:.3f}",
        NOTHING if one.usd_so_far is None else f"{one.usd_so_far:.2f}",
    )


def _lease(expires: datetime | None, now: datetime) -> str:
    if expires is None:
        return "no lease"
    seconds = (expires - now).total_seconds()
    return (
        f"{human_seconds(seconds)} left" if seconds > 0 else f"ended {human_seconds(-seconds)} ago"
    )
