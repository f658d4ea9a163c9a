"""`headwater transfer`: tell what a copy comes to, do it, and show what it leaves behind."""

from __future__ import annotations

from headwater.flows.console import Console
from headwater.infra.models import to_jsonable
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


def run_transfer_command(request: TransferRequest, console: Console, *, dry_run: bool) -> None:
    """Copy what ``request`` names, or only tell what that would be.

    Raises:
        HeadwaterError: Refused while ``console.started`` is false, else failed.
    """
    console.again = "copies that were checked are kept"
    with console.display() as display:
        display.step("look at both ends")
        plan = plan_transfer(request)
        if dry_run:
            console.result(_plan_value(plan), f"would copy {_told(plan)}")
            return
        # Here a plan can be priced and refused: it has both ends, the bytes and the objects.
        if plan.copies:
            display.step(f"copy {_told(plan)}")

        def tell(progress: TransferProgress) -> None:
            console.started = True  # the target takes what is written
            display.copied(progress)

        receipt = run_transfer(plan, tell)
    console.result(receipt_value(receipt), receipt_text(receipt))


def receipt_value(receipt: TransferReceipt) -> dict[str, object]:
    """The receipt as one JSON object."""
    return {"status": _status(receipt), **to_jsonable(receipt)}


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
    if receipt.store_retries:
        rows.append(("retries", f"{receipt.store_retries:,} calls to stores made again"))
    rows.append(("time", _time(receipt)))
    return "\n".join(f"{label:<{_LABEL_WIDTH}}{text}" for label, text in rows)


def _plan_value(plan: TransferPlan) -> dict[str, object]:
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
    }


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


def _time(receipt: TransferReceipt) -> str:
    spent = human_seconds(receipt.seconds)
    if receipt.copied_bytes < _RATE_BYTES:
        return spent
    return f"{spent} ({human_bytes(receipt.copied_bytes / receipt.seconds)}/s)"
