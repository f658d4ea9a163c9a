"""`headwater data vacuum|delete|compact`: what keeps a table small and free of what must go."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from headwater.flows.console import Console
from headwater.flows.data_commands import existing_table
from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.vacuum import (
    Garbage,
    Kind,
    VacuumPlan,
    plan_vacuum,
    retention_of,
    store_time,
    vacuum,
)
from headwater.infra.units import MIB, human_bytes
from headwater.tasks.compact import Compaction, compact, plan_compaction
from headwater.tasks.delete import Matches, delete_rows, find_rows

_FORMAT = "%Y-%m-%d %H:%M UTC"


def run_vacuum(
    uri: str,
    console: Console,
    *,
    retention_days: float | None,
    grace_days: float,
    force: bool,
    execute: bool,
) -> None:
    """Print what can be removed, and remove it where ``execute`` says so."""
    console.again = "what is gone already is not missed"
    dataset = existing_table(uri)
    with console.display() as display:
        display.step("look at the log and the files")
        plan = plan_vacuum(
            dataset,
            retention=None if retention_days is None else timedelta(days=retention_days),
            grace=timedelta(days=grace_days),
            force=force,
        )
        garbage: Sequence[Garbage] = plan.garbage
        if execute and garbage:
            console.started = True
            display.step("remove files")
            garbage = vacuum(dataset, plan, on_progress=display.count)
    console.result(
        _vacuum_value(plan, garbage, executed=execute), _vacuum_text(plan, garbage, execute)
    )


def run_delete(uri: str, where: str, console: Console, *, dry_run: bool, yes: bool) -> None:
    """Print how many rows match, ask, and delete them."""
    console.again = "nothing is half deleted"
    dataset = existing_table(uri)
    if not (dry_run or yes or _can_ask(console)):
        raise InvalidRequest(
            "nobody can be asked whether to delete: there is no terminal",
            hint="add --yes to delete, or --dry-run to see how many rows match",
        )
    with console.display() as display:
        display.step("look for rows")
        matches = find_rows(dataset, where, on_progress=display.count)
    if dry_run or not matches.rows:
        _tell_deletion(console, dataset, matches, None)
        return
    if not yes and not _is_wanted(console, dataset, matches):
        console.say("nothing was deleted")
        return
    console.started = True
    with console.display() as display:
        display.step("write files anew")
        done = delete_rows(dataset, where, known=matches, on_progress=display.count)
    value = {
        "rows": done.rows,
        "files_rewritten": done.rewritten,
        "files_removed": done.removed,
    }
    _tell_deletion(console, dataset, matches, done.version, value)


def run_compact(uri: str, console: Console, *, target_mib: int, dry_run: bool) -> None:
    """Bring small files together, or print what would be."""
    console.again = "nothing is half compacted"
    dataset = existing_table(uri)
    target_bytes = target_mib * MIB
    if dry_run:
        done = plan_compaction(dataset, target_bytes=target_bytes)
    else:
        console.started = True
        with console.display() as display:
            display.step("write files anew")
            done = compact(dataset, target_bytes=target_bytes, on_progress=display.count)
    value = {
        "uri": str(dataset.uri),
        "dry_run": dry_run,
        "version": done.version,
        "files_before": done.before,
        "files_after": done.after,
        "bytes_before": done.before_bytes,
        "bytes_after": None if dry_run else done.after_bytes,
        "rows": done.rows,
        "files_left": done.left,
        "files_lost": done.lost,
    }
    console.result(value, _compaction_text(done, dry_run))


# --- what is told ----------------------------------------------------------------------------


def _vacuum_value(
    plan: VacuumPlan, garbage: Sequence[Garbage], *, executed: bool
) -> dict[str, object]:
    return {
        "uri": plan.uri,
        "version": plan.version,
        "executed": executed,
        "retention_days": plan.retention / timedelta(days=1),
        "grace_days": plan.grace / timedelta(days=1),
        "readable_from": plan.readable_from,
        "lost_versions": [list(ends) for ends in plan.lost],
        "kept_runs": plan.kept_runs,
        "left_alone": plan.foreign,
        "not_looked": plan.not_looked,
        "files": len(garbage),
        "size_bytes": sum(one.ref.size_bytes for one in garbage),
        "kinds": [
            {
                "kind": kind.value,
                "files": len(found),
                "size_bytes": sum(one.ref.size_bytes for one in found),
                "oldest": None if not found else _oldest(found).isoformat(),
            }
            for kind, found in _by_kind(garbage)
        ],
    }


def _vacuum_text(plan: VacuumPlan, garbage: Sequence[Garbage], executed: bool) -> str:
    lines = [f"{'what':<24}{'files':>9}{'size':>12}  oldest"]
    for kind, found in _by_kind(garbage):
        size = human_bytes(sum(one.ref.size_bytes for one in found))
        oldest = f"{_oldest(found):{_FORMAT}}" if found else "-"
        lines.append(f"{kind:<24}{len(found):>9,}{size:>12}  {oldest}")
    size = human_bytes(sum(one.ref.size_bytes for one in garbage))
    lines += [f"{'together':<24}{len(garbage):>9,}{size:>12}", ""]
    if plan.lost:
        lines.append(
            f"{_versions(plan.lost)} can no longer be read{'' if executed else ' after this'}"
        )
    lines.append(
        f"versions from {plan.readable_from} on can be read (retention: {_days(plan.retention)})"
    )
    if plan.kept_runs:
        runs = "1 run" if plan.kept_runs == 1 else f"{plan.kept_runs:,} runs"
        lines.append(f"what {runs} left stays for the grace of {_days(plan.grace)}")
    if plan.not_looked:
        lines.append(f"unfinished uploads were not looked for: {plan.not_looked}")
    if not garbage:
        lines.append("there is nothing to remove" if not executed else "nothing was removed")
    elif executed:
        lines.append(f"removed {_files(len(garbage))}")
    else:
        lines.append("nothing was removed yet: add --yes to remove it")
    return "\n".join(lines)


def _tell_deletion(
    console: Console,
    dataset: Dataset,
    matches: Matches,
    version: int | None,
    done: dict[str, int] | None = None,
) -> None:
    touched = matches.touched
    value: dict[str, object] = {
        "uri": str(dataset.uri),
        "version": version,
        "rows": matches.rows,
        "files_rewritten": sum(one.matching < one.rows for one in touched),
        "files_removed": sum(one.matching == one.rows for one in touched),
        **(done or {}),
    }
    counted = f"{value['rows']:,} rows" if value["rows"] != 1 else "1 row"
    if version is None:
        some = f"in {_files(len(touched))} of version {matches.version}"
        text = f"{counted} {some} would be deleted" if touched else "no row matches"
        console.result({**value, "executed": False}, text)
        return
    retention = retention_of(dataset)
    gone = _whole_minute(store_time(dataset) + retention.total_seconds())
    command = f"headwater data vacuum {shlex.quote(dataset.uri.display)} --yes"
    text = (
        f"deleted {counted}: version {version} is without them"
        f" ({_files(int(str(value['files_rewritten'])))} written anew,"
        f" {value['files_removed']} removed)\n"
        f"earlier versions still hold them until their files are removed; from"
        f" {gone:{_FORMAT}} on this does it:\n  {command}"
    )
    value |= {"executed": True, "held_until": gone.isoformat(), "vacuum": command}
    console.result(value, text)


def _compaction_text(done: Compaction, dry_run: bool) -> str:
    if not done.before:
        text = f"there is nothing to compact ({_files(done.left)})"
    elif dry_run:
        text = (
            f"{_files(done.before)} ({human_bytes(done.before_bytes)}) would become {done.after:,};"
            f" {_files(done.left)} left as they are"
        )
    else:
        text = (
            f"version {done.version}: {_files(done.before)} ({human_bytes(done.before_bytes)})"
            f" became {done.after:,} ({human_bytes(done.after_bytes)}) with the same"
            f" {done.rows:,} rows; {_files(done.left)} left as they are"
        )
    if done.lost:
        text += f"\n{_files(done.lost)} were removed by another writer meanwhile"
    return text


# --- asking ----------------------------------------------------------------------------------


def _can_ask(console: Console) -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty() and not console.json


def _is_wanted(console: Console, dataset: Dataset, matches: Matches) -> bool:
    console.say(
        f"{matches.rows:,} rows in {_files(len(matches.touched))} of {dataset}"
        f" (version {matches.version}) match"
    )
    sys.stderr.write("delete them? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# --- words -----------------------------------------------------------------------------------


def _by_kind(garbage: Iterable[Garbage]) -> list[tuple[Kind, list[Garbage]]]:
    all_of = list(garbage)
    return [(kind, [one for one in all_of if one.kind is kind]) for kind in Kind]


def _oldest(garbage: Iterable[Garbage]) -> datetime:
    return datetime.fromtimestamp(min(one.ref.modified for one in garbage), UTC)


def _whole_minute(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds // 60 * 60 + 60, UTC)


def _versions(ranges: Sequence[tuple[int, int]]) -> str:
    said = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
    return f"version {said}" if said.isdigit() else f"versions {said}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return "1 day" if days == 1 else f"{days:g} days"
