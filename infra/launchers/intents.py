"""What was about to be made, written down before it is: a lost answer leaves nothing unknown.

One file of JSON lines for each cluster, in the user's state folder, which is only ever appended
to. It is there for the process that launches and for the one that comes after it on the same
machine; whoever looks from elsewhere finds everything by its tags.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from platformdirs import user_state_path

from headwater.infra.errors import UnsupportedData
from headwater.infra.launchers.base import Node, NodeSpec
from headwater.infra.launchers.tags import CLUSTER
from headwater.infra.models import Cloud

INTENT_VERSION = 1
"""Format of the lines; newer ones are refused by name."""

Event = Literal["create", "created", "failed", "destroyed"]


@dataclass(frozen=True, slots=True)
class Intent:
    """A machine that was about to be made, and of which no end is known.

    Attributes:
        token: As in ``NodeSpec.token``.
        id: What its cloud calls it, where that was answered.
    """

    token: str
    name: str
    cloud: Cloud
    region: str
    zone: str
    id: str = ""


class Intents:
    """The log of one cluster.

    Args:
        folder: ``None`` is the user's state folder.
    """

    def __init__(self, cluster: str, folder: Path | None = None) -> None:
        place = folder or user_state_path("headwater") / "launches"
        self.cluster = cluster
        self.path = place / f"{cluster}.jsonl"

    def create(self, spec: NodeSpec) -> None:
        """The machine of ``spec`` is about to be made. On disk when this returns."""
        place = {"name": spec.name, "cloud": spec.cloud, "region": spec.region, "zone": spec.zone}
        self._append("create", spec.token, place)

    def created(self, spec: NodeSpec, node: Node) -> None:
        """It was made, as ``node``."""
        self._append("created", spec.token, {"id": node.id})

    def failed(self, spec: NodeSpec, reason: str) -> None:
        """It was not made, and nothing of it is there."""
        self._append("failed", spec.token, {"reason": reason})

    def destroyed(self, token: str) -> None:
        """It is gone."""
        self._append("destroyed", token, {})

    def open(self) -> tuple[Intent, ...]:
        """Every machine that was to be made and of which no end is written.

        Raises:
            UnsupportedData: A newer Headwater wrote the file.
        """
        found: dict[str, Intent] = {}
        for line in self._lines():
            token = str(line["token"])
            match line["event"]:
                case "create":
                    found[token] = Intent(
                        token,
                        str(line["name"]),
                        Cloud(line["cloud"]),
                        str(line["region"]),
                        str(line["zone"]),
                    )
                case "created":
                    known = found[token]
                    found[token] = Intent(
                        token, known.name, known.cloud, known.region, known.zone, str(line["id"])
                    )
                case _:
                    found.pop(token, None)
        return tuple(found.values())

    def close(self) -> None:
        """Remove the file, where nothing is open in it."""
        if not self.open():
            self.path.unlink(missing_ok=True)

    def _append(self, event: Event, token: str, said: Mapping[str, str]) -> None:
        line = {
            "version": INTENT_VERSION,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "token": token,
            CLUSTER: self.cluster,
            **said,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that was cut off ends here; the next one is not to be lost with it.
        data = b"\n" + json.dumps(line).encode() + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, data)  # one write: lines of several threads do not mix
            os.fsync(file)
        finally:
            os.close(file)

    def _lines(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        lines = []
        for text in filter(None, self.path.read_text("utf-8").splitlines()):
            try:
                line = json.loads(text)
            except ValueError:
                # Cut off with its process, before what it announces was done or after it was not
                # needed any more: without it a machine counts as open, and is looked for.
                continue
            if line["version"] > INTENT_VERSION:
                raise UnsupportedData(
                    f"{self.path} was written by a newer Headwater (format {line['version']})",
                    hint="upgrade this one",
                )
            lines.append(line)
        return lines
