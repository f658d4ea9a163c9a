"""`headwater transfer`: tell what a copy comes to, do it, and show what it leaves behind."""

from __future__ import annotations

from headwater.flows.consent import Ask
from headwater.flows.console import Console
from headwater.flows.price_transfer import kept, permission, price_plan, price_text
from headwater.infra.models import TransferPrice, to_jsonable
from headwater.infra.profiles import load_profile
from headwater.infra.storage.transfer import (
    TransferPlan,
    TransferReceipt,
    TransferRequest,
    Unit,
    plan_transfer,
    run_transfer,
)
from headwater.infra.storage.transfer.run import TransferProgress
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB, human_bytes, human_seconds

_LABEL_WIDTH = 10

_RATE_BYTES = MIB
"""From this size on, bytes per second say something about the way."""


def run_transfer_command(
    request: TransferRequest,
    console: Console,
    *,
    profile_name: str = "local",
    dry_run: bool = False,
    yes: bool = False,
) -> None:
    """Copy what ``request`` names, or only tell what that would be and cost.

    Args:
        profile_name: Cluster profile whose limits, rules and declared locations hold.
        yes: What would be asked is answered with yes.
    Raises:
        HeadwaterError: Refused while ``console.started`` is false, else failed.
    """
    console.again = "copies that were checked are kept"
    profile = load_profile(profile_name)
    ask = _asking(console, dry_run=dry_run, yes=yes)
    with console.display() as display:
        display.step("look at both ends")
        plan = plan_transfer(request, permission(profile))
        price = price_plan(plan, profile, ask)
        if dry_run:
            told = f"would copy {_told(plan)}\n{_price_line(price)}"
            console.result(_plan_value(plan, price), told)
            return
        if price != TransferPrice():
            console.say(_price_line(price))
        if plan.copies:
            display.step(f"copy {_told(plan)}")

        def tell(progress: TransferProgress) -> None:
            console.started = True  # the target takes what is written
            display.copied(progress)

        receipt = kept(run_transfer(plan, tell), price)
    console.result(receipt_value(receipt), receipt_text(receipt))


def _asking(console: Console, *, dry_run: bool, yes: bool) -> Ask:
    def told(text: str) -> bool:
        console.say(f"would ask: {text}")
        return True

    if yes:
        return lambda _: True
    return told if dry_run else console.ask


def receipt_value(receipt: TransferReceipt) -> dict[str, object]:
    """The receipt as one JSON object."""
    found = {"status": _status(receipt), **to_jsonable(receipt)}
    if receipt.price is not None:
        found["price"] = _price_value(receipt.price)
    return found


def receipt_text(receipt: TransferReceipt) -> str:
    """The receipt for a person, one fact a line."""
    kept = receipt.objects - receipt.copied
    table = "" if receipt.table_version is None else f", version {receipt.table_version}"
    rows = [
        ("status", _status(receipt)),
        ("source", f"{Uri.parse(receipt.source).display} ({receipt.unit}{table})"),
        ("target", Uri.parse(receipt.target).display),
        (
            "copied",
            f"{_objects(receipt.copied)}, {human_bytes(receipt.copied_bytes)}"
            + (f"; {_objects(kept)} there and checked already" if kept else ""),
        ),
        ("checked", _checked(receipt)),
        ("manifest", Uri.parse(receipt.manifest).display),
    ]
    if receipt.dropped:
        rows.append(("left out", _dropped(receipt)))
    if receipt.price is not None:
        rows.append(("price", price_text(receipt.price)))
    if receipt.store_retries:
        rows.append(("retries", f"{receipt.store_retries:,} calls to stores made again"))
    rows.append(("time", _time(receipt)))
    return "\n".join(f"{label:<{_LABEL_WIDTH}}{text}" for label, text in rows)


def _plan_value(plan: TransferPlan, price: TransferPrice) -> dict[str, object]:
    return {
        "status": "planned",
        "unit": plan.unit.value,
        "source": str(plan.source),
        "target": str(plan.target),
        "table_version": plan.version,
        "objects": plan.objects,
        "size_bytes": plan.size_bytes,
        "kept": len(plan.kept),
        "by_store": plan.inside,
        "price": _price_value(price),
    }


def _price_value(price: TransferPrice) -> dict[str, object]:
    return {"usd": price.usd, **to_jsonable(price)}


def _price_line(price: TransferPrice) -> str:
    return f"{'price':<{_LABEL_WIDTH}}{price_text(price)}"


def _told(plan: TransferPlan) -> str:
    kept = f"; {_objects(len(plan.kept))} there already" if plan.kept else ""
    table = f", version {plan.version}" if plan.unit is Unit.TABLE else ""
    return (
        f"{_objects(plan.objects)}, {human_bytes(plan.size_bytes)}, from"
        f" {plan.source.display}{table} to {plan.target.display}{kept}"
    )


def _status(receipt: TransferReceipt) -> str:
    return "copied" if receipt.copied else "already there"


def _objects(count: int) -> str:
    return f"{count:,} object" + ("" if count == 1 else "s")


def _checked(receipt: TransferReceipt) -> str:
    if not receipt.copied:
        return "all are the versions that were checked"
    said = receipt.copied - receipt.read_back
    parts = [
        f"{said:,} by the checksum of their store" if said else "",
        f"{receipt.read_back:,} read back" if receipt.read_back else "",
        f"{receipt.by_store:,} copied by the store itself" if receipt.by_store else "",
    ]
    return ", ".join(part for part in parts if part)


def _dropped(receipt: TransferReceipt) -> str:
    said = (f"'{name}' of {_objects(count)}" for name, count in receipt.dropped.items())
    return f"metadata that the target cannot keep: {', '.join(said)}"


def _time(receipt: TransferReceipt) -> str:
    spent = human_seconds(receipt.seconds)
    if receipt.copied_bytes < _RATE_BYTES:
        return spent
    return f"{spent} ({human_bytes(receipt.copied_bytes / receipt.seconds)}/s)"
