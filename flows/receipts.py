"""A receipt as a person reads it: on a terminal, and as Markdown on the run's page."""

from __future__ import annotations

from headwater.infra.models import RunReceipt, Status
from headwater.infra.storage.uris import Uri
from headwater.infra.units import human_bytes, human_seconds

_LABEL_WIDTH = 11


def receipt_rows(receipt: RunReceipt) -> list[tuple[str, str]]:
    """Label and text of each line of ``receipt``."""
    rows = [("status", receipt.status.value)]
    for source in receipt.inputs:
        counted = "" if source.rows is None else f", {source.rows:,} rows"
        files = "1 file" if source.files == 1 else f"{source.files:,} files"
        text = f"{_shown(source.uri)} ({source.format}, {files},"
        rows.append(("source", f"{text} {human_bytes(source.size_bytes)}{counted})"))
    rows.append(("job", receipt.job))
    target = _shown(receipt.target)
    if receipt.dataset is not None:
        rows.append(("target", target))
        files = "1 file" if receipt.dataset.files == 1 else f"{receipt.dataset.files:,} files"
        rows.append(
            (
                "version",
                f"{receipt.dataset.version}: {receipt.dataset.rows:,} rows in {files},"
                f" {human_bytes(receipt.dataset.size_bytes)}",
            )
        )
    else:
        rows.append(("target", f"{target} (unchanged)"))
    if receipt.status is not Status.ALREADY_COMMITTED:
        taken = f", {receipt.resumed_parts} taken up" if receipt.resumed_parts else ""
        retries = f", {receipt.retries} retries" if receipt.retries else ", no retry"
        rows += [
            ("rows", f"{receipt.rows_in:,} in, {receipt.rows_out:,} out"),
            (
                "bytes",
                f"{human_bytes(receipt.bytes_read)} read,"
                f" {human_bytes(receipt.bytes_written)} written",
            ),
            ("parts", f"{receipt.parts:,}{taken}{retries}"),
            ("engine", _engine(receipt)),
        ]
    phases = ", ".join(f"{name} {human_seconds(s)}" for name, s in receipt.seconds.items())
    spent = (receipt.finished - receipt.started).total_seconds()
    rows.append(("time", human_seconds(spent) + (f" ({phases})" if phases else "")))
    if receipt.cost_usd is not None:
        rows.append(("cost", f"${receipt.cost_usd:.2f}"))
    rows.append(("run", receipt.run_id))
    return rows


def as_text(receipt: RunReceipt) -> str:
    """The receipt for a terminal, one fact a line."""
    return "\n".join(f"{label:<{_LABEL_WIDTH}}{text}" for label, text in receipt_rows(receipt))


def as_markdown(receipt: RunReceipt) -> str:
    """The receipt for the run's page."""
    lines = ["| | |", "|---|---|"]
    for label, text in receipt_rows(receipt):
        escaped = text.replace("|", "\\|")
        lines.append(f"| **{label}** | {escaped} |")
    return "\n".join(lines)


def _engine(receipt: RunReceipt) -> str:
    place = receipt.tries[-1].candidate if receipt.tries else receipt.device
    fallbacks = f", {receipt.gpu_fallbacks} plans fell back to the CPU" if receipt.gpu_fallbacks else ""
    return f"{receipt.engine} on {place}{fallbacks}"


def _shown(uris: str) -> str:
    return ", ".join(Uri.parse(uri).display for uri in uris.split(", "))
