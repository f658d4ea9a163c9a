"""Removing what a cloud holds of ours, until it is gone or it is said loudly what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from headwater.infra.errors import (
    AuthenticationFailed,
    InvalidLaunch,
    LaunchError,
    LeftBehind,
    NoCapacity,
    QuotaExceeded,
)
from headwater.infra.launchers.base import Launcher, Leftover, Node, NodeSpec
from headwater.infra.launchers.calls import DELETE, Patience
from headwater.infra.launchers.intents import Intents
from headwater.infra.launchers.prices import said_price, usd_per_hour
from headwater.infra.launchers.tags import NODE
from headwater.infra.storage.retries import threads

ORDER = {"instance": 0, "network card": 1, "address": 2, "disk": 3}
"""A machine holds its card and its disk, and a card holds its address."""

SWEEPS = 3
"""Looks for what is left; lists of a cloud may be some seconds behind."""

ASK_AGAIN_ROUNDS = 5
"""Looks after which what is still there is asked for once more."""

REFUSED = (NoCapacity, QuotaExceeded, InvalidLaunch, AuthenticationFailed)
"""Errors with which a cloud says that it has made nothing."""

TOGETHER = 16
"""Machines that are removed at a time, where a cloud takes them one by one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a cloud does not delete something.

    Attributes:
        is_final: Asking again would not help.
    """

    reason: str
    is_final: bool = False


def remove_all(
    leftovers: Iterable[Leftover],
    delete: Callable[[Sequence[Leftover]], Mapping[str, Refusal]],
    present: Callable[[Sequence[Leftover]], Set[str]],
    patience: Patience = DELETE,
) -> None:
    """Delete ``leftovers``, and wait until all are gone.

    Args:
        delete: Asks the cloud for it; returns what it refuses, by id.
        present: Ids of those that the cloud still holds.
    Raises:
        LeftBehind: Some are still there when ``patience`` ends, or cannot be deleted at all.
    """
    left = {one.id: one for one in leftovers}
    reasons: dict[str, str] = {}
    kept: dict[str, Leftover] = {}
    accepted: set[str] = set()
    end = patience.clock() + patience.seconds
    attempt = 0
    while left:
        try:
            if attempt % ASK_AGAIN_ROUNDS == 0:
                accepted.clear()  # what it agreed to delete it may have failed to delete
            asked = [one for one in _first_kind(left.values()) if one.id not in accepted]
            refusals = delete(asked) if asked else {}
            accepted.update(one.id for one in asked if one.id not in refusals)
            for id_, refusal in refusals.items():
                reasons[id_] = refusal.reason
                if refusal.is_final:
                    kept[id_] = left.pop(id_)
            here = present(tuple(left.values())) if left else set()
        except LaunchError as exc:
            raise left_behind(
                [*left.values(), *kept.values()], dict.fromkeys(left, exc.message) | reasons
            ) from exc
        before = len(left)
        left = {id_: one for id_, one in left.items() if id_ in here}
        if left and len(left) == before:
            pause = patience.pause(attempt)
            if patience.clock() + pause > end:
                break
            patience.wait(pause)
        attempt += 1
    if left or kept:
        raise left_behind([*left.values(), *kept.values()], reasons)


def delete_each(
    leftovers: Sequence[Leftover], delete: Callable[[Leftover], Refusal | None]
) -> dict[str, Refusal]:
    """What is refused, of a cloud that takes one at a time."""
    with threads(min(TOGETHER, max(1, len(leftovers)))) as pool:
        refusals = list(pool.map(delete, leftovers))
    return {
        one.id: refusal
        for one, refusal in zip(leftovers, refusals, strict=True)
        if refusal is not None
    }


def _first_kind(left: Iterable[Leftover]) -> list[Leftover]:
    """Those that hold the others."""
    ranked = sorted(left, key=lambda one: ORDER[one.kind])
    return [one for one in ranked if one.kind == ranked[0].kind]


def left_behind(leftovers: Sequence[Leftover], reasons: Mapping[str, str]) -> LeftBehind:
    """The loudest of our errors: what is left, what it costs, and the command that removes it.

    Args:
        reasons: Why, by the id of what is left.
    """
    prices = [usd_per_hour(one) for one in leftovers]
    known = [price for price in prices if price is not None]
    said = [
        f"{one.kind} {one.name or one.id} in {one.place} ({said_price(price)}"
        + (f"; {why}" if (why := reasons.get(one.id)) else "")
        + ")"
        for one, price in zip(leftovers, prices, strict=True)
    ]
    things = "1 thing is" if len(leftovers) == 1 else f"{len(leftovers)} things are"
    costs = "costs" if len(leftovers) == 1 else "cost"
    commands = "".join(f"\n       {one.command}" for one in leftovers)
    unpriced = " and what has no price here" if len(known) < len(prices) else ""
    return LeftBehind(
        f"{things} still there, and {costs} ${sum(known):.3f} an hour{unpriced}: {'; '.join(said)}",
        hint=f"remove them yourself:{commands}",
    )


def sweep(
    launcher: Launcher,
    tags: Mapping[str, str],
    *,
    region: str = "",
    select: Callable[[Leftover], bool] = lambda _: True,
) -> tuple[Leftover, ...]:
    """Remove all that carries ``tags``, until a look finds nothing more; returns what it was.

    Args:
        region: Look there alone; empty is wherever the launcher looks.
        select: Whether something with the tags may go.
    Raises:
        LeftBehind: Something is still there, or a part of the cloud could not be looked at.
    """
    removed: dict[str, Leftover] = {}
    for _ in range(SWEEPS):
        inventory = launcher.list(tags, region=region)
        found = [one for one in inventory.leftovers if select(one)]
        if not found:
            break
        launcher.destroy(found)
        removed |= {one.id: one for one in found}
    else:
        inventory = launcher.list(tags, region=region)
        found = [one for one in inventory.leftovers if select(one)]
    if found:
        raise left_behind(found, {})
    if inventory.unseen:
        places = "; ".join(f"{one.place}: {one.reason}" for one in inventory.unseen)
        raise LeftBehind(
            f"something may be left where nobody could look ({places})",
            hint=inventory.unseen[0].hint or "run `headwater clusters list` when that works again",
        )
    return tuple(removed.values())


def launch(launcher: Launcher, spec: NodeSpec, intents: Intents) -> Node:
    """The machine of ``spec``, with its intent written down before and its outcome after.

    Whatever fails on the way, an answer that was lost too, nothing of it is left; where that
    cannot be made sure of, the intent stays open.

    Raises:
        LaunchError: As ``Launcher.create``.
        LeftBehind: It failed, and what it had made could not be removed.
    """
    intents.create(spec)
    try:
        node = launcher.create(spec)
        intents.created(spec, node)
    except REFUSED as exc:
        intents.failed(spec, str(exc))
        raise
    except BaseException as exc:
        # Nobody knows whether it was made: an answer may be lost, or this process interrupted.
        sweep(launcher, {NODE: spec.name}, region=spec.region)
        intents.failed(spec, str(exc))
        raise
    return node


def recover(launcher: Launcher, intents: Intents) -> tuple[Leftover, ...]:
    """What is left of machines whose end is not written down; it is removed.

    Raises:
        LeftBehind: Something could not be removed.
    """
    removed: list[Leftover] = []
    for intent in intents.open():
        if intent.cloud is launcher.cloud:
            removed += sweep(launcher, {NODE: intent.name}, region=intent.region)
            intents.destroyed(intent.token)
    return tuple(removed)
