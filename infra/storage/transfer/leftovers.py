"""Removes what killed attempts of the same copy have begun to write, and nobody sees or finishes.

S3 bills the parts of an upload until it is ended, and a local file that is not whole yet takes
room. GCS and Azure drop theirs by themselves.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.local import draft_prefix
from headwater.infra.storage.transfer.models import TransferPlan
from headwater.infra.storage.uris import Uri

GRACE_SECONDS = 24 * 3600.0
"""What is younger may be of a copy that another machine has under way."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A process that copies, or did."""

    host: str
    pid: int

    @classmethod
    def of_this_process(cls) -> Attempt:
        """This one."""
        return cls(socket.gethostname(), psutil.Process().pid)

    @property
    def is_over(self) -> bool:
        """Whether it is known to run no more."""
        return self.host == socket.gethostname() and not psutil.pid_exists(self.pid)


def remove_leftovers(plan: TransferPlan, earlier: Iterable[Attempt]) -> int:
    """End uploads to the plan's targets that ``earlier`` attempts have left; return how many.

    Those of attempts that may still run are left alone until they are ``GRACE_SECONDS`` old.
    """
    attempts = list(earlier)
    if not attempts:
        return 0
    all_over = all(attempt.is_over for attempt in attempts)
    fs = open_filesystem(plan.root)
    limit = time.time() + fs.clock_offset_seconds(plan.root) - GRACE_SECONDS
    names = {_draft(copy.target) for copy in plan.copies}
    removed = 0
    for ref in fs.unfinished(plan.root):
        name = ref.uri.rpartition("-")[0] if plan.root.is_local else ref.uri
        if name in names and (all_over or ref.modified < limit):
            fs.discard(ref)
            removed += 1
    return removed


def _draft(target: Uri) -> str:
    """What an unfinished object at ``target`` is called, up to what differs each time."""
    if not target.is_local:
        return str(target)
    folder, _, _ = str(target).rpartition("/")
    return f"{folder}/{draft_prefix(target)}"
