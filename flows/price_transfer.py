"""Whether a copy may be made, and what it costs, before its first byte moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headwater.flows.consent import Ask, ask_to_pass, require_here
from headwater.infra.errors import HeadwaterError, InvalidRequest, PriceUnknown
from headwater.infra.locations.locate import locate
from headwater.infra.locations.residency import require_resident
from headwater.infra.models import DataRef, Egress, TransferPrice
from headwater.infra.policies import Rules
from headwater.infra.profiles import ClusterProfile, effective_rules, load_policies
from headwater.infra.storage.transfer import TransferPlan, TransferReceipt
from headwater.infra.storage.transfer.plan import Permit
from headwater.infra.storage.transfer.receipts import TransferReceiptStore
from headwater.infra.storage.transfer.traffic import traffic, unvouched
from headwater.infra.storage.uris import Uri

if TYPE_CHECKING:
    from headwater.infra.planner.models import MonthToDate

REGIONS_NAMED = 3
"""Of a bucket in more regions they are counted."""

WAYS = {
    "internet": "to the internet",
    "same region": "within its region",
    "same continent": "to another region of its continent",
    "other region": "to another region",
    "other continent": "to another continent",
}
"""What is said of ``Egress.to``; other values are names of places."""


def permission(profile: ClusterProfile) -> Permit:
    """What refuses a copy that a policy or the profile keeps from its target, or off this machine.

    The check raises ``InvalidRequest`` with the rule's name, and ``UnknownLocation`` where a rule
    depends on a place that nobody tells.
    """
    rules = effective_rules(profile, load_policies())

    def permit(refs: Sequence[DataRef], target: Uri, inside: bool) -> None:
        uris = [ref.uri for ref in refs] if rules.residency else []
        if rules.denies_here(rules.residency_of(uris)) and (not inside or unvouched(refs)):
            require_here(
                rules, uris, hint="copy it from a machine in one of the regions that the rule names"
            )
        require_resident(rules, uris, {"target": str(target)}, declared=profile.locations)
        if rules.clouds or rules.regions:
            _require_place(rules, target, profile)

    return permit


def price_plan(plan: TransferPlan, profile: ClusterProfile, ask: Ask) -> TransferPrice:
    """What ``plan`` costs, and that this may be spent.

    Where both ends are on this machine or in its network nothing is billed and nothing looked up.

    Args:
        ask: Called where a limit of the cluster profile would be passed, or a way has no price.
            What a policy limits is refused without a question.
    Raises:
        InvalidRequest: A limit would be passed.
        PriceUnknown: No price is recorded for a way.
        UnknownLocation: Where an end is cannot be told, and a limit on money depends on it.
    """
    if not plan.copies or (plan.source.is_local and plan.root.is_local):
        return TransferPrice()
    policies = load_policies()
    rules = effective_rules(profile, policies)
    is_limited = rules.usd_per_run is not None or rules.egress_usd is not None
    try:
        source, target = locate(
            [str(plan.source), str(plan.target)], declared=profile.locations, measure=False
        )
    except HeadwaterError as exc:
        if is_limited:
            raise
        return TransferPrice(unknown=exc.message)
    if source.cloud is None and target.cloud is None:
        return TransferPrice()
    from headwater.infra.catalog.tables import load_catalog
    from headwater.infra.planner.offers import OfferTable
    from headwater.infra.planner.transfers import beyond, price_transfer

    table = OfferTable.of(load_catalog())
    moved, note = _moved_this_month()
    try:
        price = price_transfer(traffic(plan), source, target, table, moved)
    except PriceUnknown as exc:
        if is_limited or not ask(exc.message):
            raise
        return TransferPrice(unknown=exc.message)
    price = replace(price, note=note)
    hint = "copy less, or from a machine near the data; or have the limit changed"
    if (limit := beyond(price, rules)) is not None:
        said = f"{price_text(price)}: beyond {limit.name}"
        ask_to_pass(limit, said, profile, ask, hint=f"add --yes to go on; or {hint}")
        if (limit := beyond(price, Rules.of(policies))) is not None:
            raise InvalidRequest(f"{price_text(price)}: beyond {limit}", hint=hint)
    return price


def kept(receipt: TransferReceipt, price: TransferPrice) -> TransferReceipt:
    """``receipt`` with its price, kept where the plans of this month count it if it cost egress."""
    priced = replace(receipt, price=price)
    if price.egress:
        TransferReceiptStore().add(priced)
    return priced


def price_text(price: TransferPrice) -> str:
    """The price for a person, in one line.

    Example:
        >>> price_text(TransferPrice()), price_text(TransferPrice(unknown="nobody says where"))
        ('free: no cloud bills for it', 'not known: nobody says where')
    """
    if price.unknown:
        return f"not known: {price.unknown}"
    if not price.egress and not price.requests_usd:
        return "free: no cloud bills for it"
    parts = [f"{_usd(one.usd)} egress of {_way(one)}" for one in price.egress]
    parts.append(f"{_usd(price.requests_usd)} requests")
    dated = "" if price.as_of is None else f"; prices of {price.as_of}"
    note = f"; {price.note}" if price.note else ""
    return f"about {', '.join(parts)}{dated}{note}"


def _require_place(rules: Rules, target: Uri, profile: ClusterProfile) -> None:
    """Refuse a target in a cloud or region that a rule does not allow."""
    (place,) = locate([str(target)], declared=profile.locations, measure=False)
    if place.cloud is None:
        return
    for region in sorted(place.regions):
        rule = rules.denies_place(place.cloud, region)
        if rule is not None:
            raise InvalidRequest(
                f"the target {target.display} is in {place.cloud} {region}, which {rule} does not"
                " allow",
                hint="name a target in a place that it allows, or have the rule changed",
            )


def _moved_this_month() -> tuple[tuple[MonthToDate, ...], str]:
    """What runs and copies have moved out of the clouds since the month began (UTC).

    Beside it why some of it is not known; empty where all is.
    """
    from headwater.flows.placing import past_copies, past_runs
    from headwater.infra.planner.history import month_to_date

    receipts, unread_runs = past_runs()
    copies, unread_copies = past_copies()
    moved = month_to_date(receipts, datetime.now(UTC).date(), copies)
    return moved, unread_runs or unread_copies


def _way(egress: Egress) -> str:
    regions = egress.regions
    named = ", ".join(regions) if len(regions) <= REGIONS_NAMED else f"in {len(regions)} regions"
    return f"{egress.cloud} {named} {WAYS.get(egress.to, f'to {egress.to}')}"


def _usd(usd: float) -> str:
    return f"${usd:,.2f}"
