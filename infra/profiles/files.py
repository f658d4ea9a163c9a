"""Finds cluster profiles, follows what they extend, and keeps the file of each value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from headwater.infra.errors import InvalidRequest, NotFound, UnknownName
from headwater.infra.policies import Rules
from headwater.infra.profiles.models import PROFILE_VERSION, ClusterProfile
from headwater.infra.profiles.toml_files import parse_table, validated

SUFFIX = ".toml"


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """One profile that can be named, not read yet.

    Attributes:
        path: Where it is; files of its name in later places are hidden by it.
        label: What messages call it: its name, or the path that it was asked for by.
    """

    name: str
    path: Path
    label: str


def load_profile(name: str, *, folder: Path | None = None) -> ClusterProfile:
    """The profile ``name``, or the one in the file that ``name`` is the path of.

    Where it extends another one, tables are taken together key by key, and its own values win;
    so do its own ``[[locations]]`` of the same prefix.

    Args:
        folder: Where ``profiles/`` is looked for first; the working folder by default.
    Raises:
        UnknownName: No such profile, or a key or a region in it does not exist; the message lists
            the near ones.
        InvalidRequest: The file is no valid profile, holds what looks like a secret, extends
            itself, or allows nothing; the message names the key.
    """
    file = _find(name, folder, beside=None)
    line = [file]
    tables = [_table(file)]
    while parent := tables[-1].get("extends", ""):
        last = line[-1]
        following = _find(parent, folder, beside=last.path.parent)
        line.append(following)
        if following.path in (seen.path for seen in line[:-1]):
            raise InvalidRequest(
                f"cluster profile {following.name} extends itself:"
                f" {' -> '.join(seen.name for seen in line)}",
                hint=f"change extends in {last.path}; of two files of one name only the first is"
                " found",
            )
        tables.append(_table(following))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for step, table in zip(reversed(line), reversed(tables), strict=True):
        own = {key: value for key, value in table.items() if key not in ("version", "extends")}
        merged = _merged(merged, own)
        origins.update(dict.fromkeys((key for key, _ in leaves(own)), str(step.path)))
    own_keys: dict[str, Any] = {
        key: tables[0][key] for key in ("version", "extends") if key in tables[0]
    }
    origins |= dict.fromkeys(own_keys, str(file.path))
    given = {"name": file.name, "source": file.label, "origins": origins}
    where = f"cluster profile {file.label}"
    profile = validated(ClusterProfile, {**merged, **own_keys}, where, ours=given)
    _require_sound(profile)
    return profile


def profile_files(folder: Path | None = None) -> dict[str, ProfileFile]:
    """Every profile that can be named, by its name.

    Args:
        folder: Where ``profiles/`` is looked for first; the working folder by default.
    """
    root = resources.files("headwater.profiles")
    packaged = [Path(str(entry)) for entry in root.iterdir()]
    folders = [sorted(place.glob(f"*{SUFFIX}")) for place in reversed(_folders(folder))]
    return {
        path.stem: ProfileFile(path.stem, path, path.stem)
        for path in (*packaged, *chain.from_iterable(folders))
        if path.suffix == SUFFIX
    }


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Each value of a table with its dotted key; a list is one value.

    Example:
        >>> dict(leaves({"a": 1, "b": {"c": [2, 3]}}))
        {'a': 1, 'b.c': [2, 3]}
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif key == "locations" and isinstance(value, list | tuple):
        for entry in value:
            yield f"locations.{entry['prefix']}", entry["location"]
    else:
        yield key, value


def _find(name: str, folder: Path | None, *, beside: Path | None) -> ProfileFile:
    """The file of a name, or at a path, which may be relative to the file that extends it."""
    if name.endswith(SUFFIX) or "/" in name:
        path = (beside or Path()) / Path(name).expanduser()
        if not path.is_file():
            raise NotFound(f"no cluster profile at {path}", hint="check the path")
        return ProfileFile(path.stem, path.resolve(), str(path))
    known = profile_files(folder)
    if name not in known:
        raise UnknownName.of(
            "cluster profile",
            name,
            known,
            hint=f"looked in {', '.join(str(p) for p in _folders(folder))} and the packaged ones",
        )
    return known[name]


def _folders(folder: Path | None) -> list[Path]:
    return [
        ((folder or Path.cwd()) / "profiles").resolve(),
        user_config_path("headwater") / "profiles",
    ]


def _table(file: ProfileFile) -> dict[str, Any]:
    """What one file says, checked by itself, so that a fault is named with its own file."""
    where = f"cluster profile {file.label}"
    try:
        text = file.path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{where} cannot be read: {exc}", hint=f"mend {file.path}") from exc
    table = parse_table(text, where, version=PROFILE_VERSION)
    given = {"name": file.name, "source": file.label, "origins": {}}
    validated(ClusterProfile, table, where, ours=given)
    return table


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables, key by key; what ``above`` says wins."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        elif key == "locations":
            named = {entry["prefix"] for entry in value}
            merged[key] = [*value, *(e for e in merged.get(key, ()) if e["prefix"] not in named)]
        else:
            merged[key] = value
    return merged


def _require_sound(profile: ClusterProfile) -> None:
    """Refuse names of regions that do not exist, and rules that leave nothing."""
    Rules.of([profile.policy])
    for declared in profile.locations:
        declared.require_regions()
