"""An instance as the hypervisor sees it, and what happens to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.emulators import metadata
from tests.emulators.machines import EmulatedCloud, Machine
from tests.emulators.user_data import MACHINE

NEVER = float("inf")

STRANGE = ("AWS_", "AZURE_", "GCE_", "GOOGLE_", "PREFECT_", "CLOUDSDK_")
"""Variables of the client begin so; an instance has an identity of its own."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an instance.

    Attributes:
        kind: booted, notice, reclaimed, frozen, thawed, ended, off, killed, refused.
        detail: Its process id, its exit code, or why it cannot boot.
    """

    kind: str
    machine_id: str
    detail: str = ""


@dataclass
class Guest:
    """An instance that is on.

    Attributes:
        boots_at: On the monotonic clock.
        pid: Of the process group; 0 until it has booted.
        metadata_url: Of the service on its own address; empty until it has booted.
    """

    machine: Machine
    cloud: EmulatedCloud
    folder: Path
    boots_at: float
    notice: metadata.Notice = field(default_factory=metadata.Notice)
    reclaim_at: float = NEVER
    off_at: float = NEVER
    pid: int = 0
    metadata_url: str = ""
    is_done: bool = False
    services: ExitStack = field(default_factory=ExitStack)

    @property
    def log(self) -> Path:
        """What its processes have written."""
        return self.folder / "console.txt"

    def boot_command(
        self, script: str, commands: Path, environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """What the host is told, so that it starts ``script``.

        Args:
            commands: Folder of the image's commands.
            environment: Variables that every instance gets.
        """
        path = self.folder / "user-data"
        path.write_text(script, encoding="utf-8")
        path.chmod(0o700)
        variables = {
            **_inherited(os.environ),
            **environment,
            **metadata.environment(self.machine, self.metadata_url),
            MACHINE: str(self.folder),
            "PATH": os.pathsep.join([str(commands), os.environ["PATH"]]),
        }
        return {
            "do": "start",
            "machine": self.machine.id,
            "argv": [str(path)],
            "environment": variables,
            "folder": str(self.folder),
            "log": str(self.log),
        }


def _inherited(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if not name.startswith(STRANGE) and name.lower() not in PROXIES
    }
