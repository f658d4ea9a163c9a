"""`headwater profiles` and `headwater policies`: what holds here, and which file says it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from headwater.flows.console import Console
from headwater.infra.errors import HeadwaterError
from headwater.infra.policies import Residence, Rule
from headwater.infra.profiles import (
    ClusterProfile,
    effective_rules,
    load_policies,
    load_profile,
    profile_files,
)
from headwater.infra.profiles.files import leaves
from headwater.infra.profiles.policy_files import SYSTEM_POLICY

DEFAULT = "default"
"""What is shown in place of the file, of a value that no file says."""

NOTHING = "-"
"""What is shown of a value that says nothing."""

OURS = {"name", "source", "origins"}
"""Fields of a profile that say where it came from."""


def list_profiles(console: Console) -> None:
    """Print every profile that can be named; one that is not valid says what is wrong."""
    rows = []
    for name, file in sorted(profile_files().items()):
        try:
            said, valid = load_profile(name).description, True
        except HeadwaterError as exc:
            said, valid = exc.message, False
        rows.append({"name": name, "description": said, "valid": valid, "file": str(file.path)})
    shown = [
        (str(r["name"]), f"{'' if r['valid'] else 'INVALID: '}{r['description']}", str(r["file"]))
        for r in rows
    ]
    console.result({"profiles": rows}, _columns(shown))


def show_profile(name: str, console: Console) -> None:
    """Print every effective value of a profile with the file that says it."""
    profile = load_profile(name)
    values = [
        {"key": key, "value": value, "from": profile.origins.get(key, DEFAULT)}
        for key, value in _values(profile)
    ]
    said = [v for v in values if v["from"] != DEFAULT or _said(v["value"]) != NOTHING]
    lines = _columns([(str(v["key"]), _said(v["value"]), str(v["from"])) for v in said])
    value = {"name": profile.name, "values": values}
    silent = _tables(
        [str(v["key"]) for v in said], [str(v["key"]) for v in values if v not in said]
    )
    console.result(value, f"{lines}\n\nnot said: {', '.join(silent)}")


def show_rules(profile: str, console: Console) -> None:
    """Print every rule that holds for a profile, and whether the machine's own can be changed."""
    policies = load_policies()
    rules = effective_rules(load_profile(profile), policies).every
    value = {
        "policies": [
            {"name": p.name, "file": p.source, "enforced": _is_enforced(p.source)} for p in policies
        ],
        "rules": [{"rule": r.name, "value": _plain(r), "from": r.source} for r in rules],
    }
    lines = [
        *(f"{p.label}  {p.source}{_standing(p.source)}" for p in policies),
        *([""] if policies else []),
        _columns([(r.name, _said(_plain(r)), r.source) for r in rules]) or "nothing is restricted",
    ]
    console.result(value, "\n".join(lines))


def _values(profile: ClusterProfile) -> Iterator[tuple[str, object]]:
    dumped = profile.model_dump(mode="json", exclude=OURS)
    tables = {key: value for key, value in dumped.items() if value != {}}
    return leaves(tables)


def _tables(said: Sequence[str], silent: Sequence[str]) -> list[str]:
    """The ``silent`` keys, those of a table of which nothing is said under its name alone."""
    spoken = {key.split(".")[0] for key in said}
    return list(dict.fromkeys(k if k.split(".")[0] in spoken else k.split(".")[0] for k in silent))


def _plain(rule: Rule[object]) -> object:
    """The value of a rule as JSON has it."""
    match rule.value:
        case Residence(prefix=prefix, places=places):
            return {"prefix": str(prefix), "regions": sorted(places)}
        case frozenset() | tuple():
            return sorted(str(item) for item in rule.value)
        case value:
            return value


def _is_enforced(source: str) -> bool:
    """Whether the file is the machine's own and not ours to change."""
    path = Path(source)
    return path == SYSTEM_POLICY and not (
        os.access(path, os.W_OK) or os.access(path.parent, os.W_OK)
    )


def _standing(source: str) -> str:
    if Path(source) != SYSTEM_POLICY:
        return ""
    return "  (enforced)" if _is_enforced(source) else "  (you may change it)"


def _said(value: object) -> str:
    match value:
        case None | "" | [] | {}:
            return NOTHING
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(str(item) for item in value)
        case {"prefix": prefix, "regions": [*regions]}:
            return f"{prefix}: {', '.join(str(region) for region in regions)}"
        case _:
            return str(value)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """``rows`` with columns of one width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
