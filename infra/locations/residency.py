"""Holds what a run leaves behind to the regions in which the data that it read may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headwater.infra.errors import InvalidRequest
from headwater.infra.locations.locate import locate
from headwater.infra.locations.models import Location
from headwater.infra.policies import Residence, Rule, Rules
from headwater.infra.policies.rules import takes_in
from headwater.infra.profiles import DeclaredLocation
from headwater.infra.storage.uris import Uri


def require_resident(
    rules: Rules,
    inputs: Sequence[str],
    kept: Mapping[str, str],
    *,
    declared: Iterable[DeclaredLocation] = (),
) -> None:
    """Refuse to keep anything of ``inputs`` where their data may not be.

    Nothing is asked where no rule holds for the inputs.

    Args:
        kept: Address of the output, of checkpoints and of logs, by what messages call it.
        declared: The cluster profile's ``[[locations]]``.
    Raises:
        InvalidRequest: One is outside of the regions that a rule allows, or the inputs leave no
            region together; what is named includes the rule and its file.
        UnknownLocation: Nobody says where one is.
    """
    residency = rules.residency_of(inputs)
    if not residency:
        return
    places = locate(tuple(kept.values()), declared=declared, missing_ok=True, measure=False)
    for (role, address), place in zip(kept.items(), places, strict=True):
        for rule in residency:
            if outside := _outside(place, rule.value):
                raise InvalidRequest(
                    f"the {role} {address} would be {outside}, and {rule} keeps"
                    f" {data_of(rule, inputs)} in {', '.join(sorted(rule.value.places))}",
                    hint="name a place in one of them, or have the rule changed",
                )


def data_of(rule: Rule[Residence], inputs: Sequence[str]) -> str:
    """The first of ``inputs`` that ``rule`` is about, as messages show it."""
    uris = map(Uri.parse, inputs)
    return next(uri for uri in uris if takes_in(uri, rule.value.prefix)).display


def _outside(place: Location, residence: Residence) -> str:
    """Where ``place`` is though it may not be; empty where it may."""
    if place.cloud is None:
        return "" if residence.here else "on this machine or in its network"
    outside = sorted(place.regions - residence.regions)
    return f"in {place.cloud} {', '.join(outside)}" if outside else ""
