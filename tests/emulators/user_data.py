"""What a machine runs at boot, from its user-data, and the commands of an image that it finds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

MACHINE = "EMULATED_MACHINE"
"""Variable with a machine's own folder."""

OFF = "off"
"""File in it, with the words of the last ``shutdown``; none of them for at once."""

_SWITCH = f"""#!/bin/sh
echo "$*" > "${MACHINE}/{OFF}.new"
mv "${MACHINE}/{OFF}.new" "${MACHINE}/{OFF}"
"""
_SYSTEMCTL = f"""#!/bin/sh
case "$1" in
    poweroff|halt) : > "${MACHINE}/{OFF}" ;;
    *) echo "systemctl $*: not emulated" >&2; exit 1 ;;
esac
"""
_SUDO = '#!/bin/sh\nexec "$@"\n'

SWITCHES = {
    "shutdown": _SWITCH,
    "poweroff": _SWITCH,
    "halt": _SWITCH,
    "systemctl": _SYSTEMCTL,
    "sudo": _SUDO,
}
"""Commands that end an emulated machine, and never the one it runs on: they come first in PATH."""


def boot_script(user_data: str) -> str:
    """A shell script that does what cloud-init does with ``user_data``.

    That is a script with an interpreter line, or ``#cloud-config`` with ``runcmd``, whose entries
    are shell lines or lists of words.

    Raises:
        ValueError: It is neither, or it asks for what is not emulated.
    """
    if user_data.startswith("#!"):
        return user_data
    first, _, rest = user_data.partition("\n")
    if first.strip() != "#cloud-config":
        raise ValueError(f"user-data begins with neither #! nor #cloud-config: {first[:60]!r}")
    config = yaml.safe_load(rest)
    unknown = sorted(set(config) - {"runcmd"})
    if unknown:
        raise ValueError(f"not emulated in #cloud-config: {', '.join(unknown)}; only runcmd is")
    lines = [entry if isinstance(entry, str) else shlex.join(entry) for entry in config["runcmd"]]
    return "\n".join(["#!/bin/sh", *lines, ""])


def write_commands(folder: Path, programs: Mapping[str, Sequence[str]]) -> None:
    """The commands of an image, in ``folder``.

    Args:
        programs: By name, the words that each stands for; the caller's words follow them.
    """
    folder.mkdir(parents=True)
    scripts = dict(SWITCHES)
    for name, words in programs.items():
        scripts[name] = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    for name, text in scripts.items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def minutes_to_off(words: str) -> float | None:
    """How long ``shutdown`` waits when it is called with ``words``; None where it is called off."""
    parts = words.split()
    if "-c" in parts:
        return None
    return next((float(part) for part in parts if part.startswith("+")), 0.0)
