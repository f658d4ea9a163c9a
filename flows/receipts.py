"""A receipt as a person reads it: on a terminal, and as Markdown on the run's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwater.flows.plan_text import elsewhere_line, placement_line
from headwater.infra.models import Gathered, RunReceipt, Status
from headwater.infra.storage.uris import Uri
from headwater.infra.units import human_bytes, human_seconds

_LABEL_WIDTH = 13


def receipt_rows(receipt: RunReceipt, *, folder: Path | None = None) -> list[tuple[str, str]]:
    """Label and text of each line of ``receipt``.

    Args:
        folder: Local paths below it are shown as relative to it.
    """
    rows = [("status", receipt.status.value)]
    rows += [(k, v) for k, v in (("error", receipt.error), ("next", receipt.hint)) if v]
    for source in receipt.inputs:
        counted = "" if source.rows is None else f", {source.rows:,} rows"
        facts = (
            f"{source.format}, {_files(source.files)}, {human_bytes(source.size_bytes)}{counted}"
        )
        label = f"+ {source.side}" if source.side else "source"
        rows.append((label, f"{_shown(source.uri, folder)} ({facts})"))
    rows += [("gathered", _gathered(one, folder)) for one in receipt.gathered]
    rows.append(("job", receipt.job))
    if receipt.placement is not None and receipt.placement.ranking:
        rows.append(("plan", placement_line(receipt.placement)))
        rows.append(("elsewhere", elsewhere_line(receipt.placement) or "nowhere"))
    target = _shown(receipt.target, folder)
    if receipt.dataset is not None:
        rows.append(("target", target))
        written = (
            f"{receipt.dataset.rows:,} rows in {_files(receipt.dataset.files)},"
            f" {human_bytes(receipt.dataset.size_bytes)}"
        )
        if receipt.dataset.version is None:
            rows.append(("parquet", f"{written}; plain files, which have no version"))
        else:
            rows.append(("version", f"{receipt.dataset.version}: {written}"))
    else:
        unchanged = "" if receipt.status is Status.INTERRUPTED else " (unchanged)"
        rows.append(("target", f"{target}{unchanged}"))
    names: dict[str, list[str]] = {}
    for column, bound in receipt.approximate.items():
        names.setdefault(bound, []).append(column)
    rows += [("approximate", f"{', '.join(n)}: {bound}") for bound, n in names.items()]
    rows += [("drift", note) for note in receipt.drift]
    if receipt.bad_rows:
        kept = f", kept in {_shown(receipt.aside, folder)}" if receipt.aside else ""
        rows.append(("bad rows", f"{receipt.bad_rows:,} left out{kept}"))
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
        if receipt.store_retries:
            rows.append(("store calls", f"{receipt.store_retries:,} made again"))
    phases = ", ".join(f"{name} {human_seconds(s)}" for name, s in receipt.seconds.items())
    spent = (receipt.finished - receipt.started).total_seconds()
    rows.append(("time", human_seconds(spent) + (f" ({phases})" if phases else "")))
    if receipt.cost_usd is not None:
        rows.append(("cost", f"${receipt.cost_usd:.2f}"))
    rows.append(("run", receipt.run_id))
    return rows


def as_text(receipt: RunReceipt) -> str:
    """The receipt for a terminal, one fact a line; one block for each table."""
    blocks = [receipt_rows(receipt, folder=Path.cwd())]
    blocks += [_following_rows(table, folder=Path.cwd()) for table in receipt.then]
    return "\n\n".join(
        "\n".join(f"{label:<{_LABEL_WIDTH}}{_indented(text)}" for label, text in rows)
        for rows in blocks
    )


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * _LABEL_WIDTH)


def as_markdown(receipt: RunReceipt) -> str:
    """The receipt for the run's page."""
    tables = [receipt_rows(receipt), *map(_following_rows, receipt.then)]
    return "\n\n".join(map(_as_table, tables))


def _as_table(rows: Sequence[tuple[str, str]]) -> str:
    lines = ["| | |", "|---|---|"]
    for label, text in rows:
        escaped = text.replace("|", "\\|").replace("\n", "<br>")
        lines.append(f"| **{label}** | {escaped} |")
    return "\n".join(lines)


def _following_rows(receipt: RunReceipt, *, folder: Path | None = None) -> list[tuple[str, str]]:
    """A table that was made from another in the same run, without what both have in common."""
    rows = receipt_rows(receipt, folder=folder)
    return [(label, text) for label, text in rows if label not in ("run", "engine")]


def _engine(receipt: RunReceipt) -> str:
    place = receipt.tries[-1].candidate if receipt.tries else receipt.device
    fallbacks = (
        f", {receipt.gpu_fallbacks} plans fell back to the CPU" if receipt.gpu_fallbacks else ""
    )
    return f"{receipt.engine} on {place}{fallbacks}"


def _gathered(one: Gathered, folder: Path | None) -> str:
    kept = one.objects - one.copied
    there = f", {kept:,} there already" if kept else ""
    return (
        f"{one.copied:,} objects, {human_bytes(one.copied_bytes)}, to {_shown(one.target, folder)}"
        f"{there} ({human_seconds(one.seconds)})"
    )


def _shown(uris: str, folder: Path | None) -> str:
    return ",\n".join(_shown_one(Uri.parse(uri), folder) for uri in uris.split(", "))


def _shown_one(uri: Uri, folder: Path | None) -> str:
    if folder is not None and uri.is_local and uri.path.is_relative_to(folder):
        return str(uri.path.relative_to(folder))
    return uri.display


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"
