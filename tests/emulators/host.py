"""The process that all emulated machines descend from: it ends them when its owner ends.

It reads commands on its standard input, one JSON object a line, and tells on its standard output
which process was started and which has ended. When the input ends, for whatever reason its owner
has gone, every process group that is left is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOP_SECONDS = 5.0
NAMES: dict[int, str] = {
    signal.SIGKILL: "killed",
    signal.SIGSTOP: "frozen",
    signal.SIGCONT: "thawed",
}
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Host:
    """The process groups, by the machine they are of.

    Attributes:
        groups: Ids of those that were started and not killed.
        leaders: The machine of each first process that has not ended.
    """

    groups: dict[str, int] = field(default_factory=dict)
    leaders: dict[int, str] = field(default_factory=dict)

    def run(self) -> None:
        """Obey until the input ends; then kill what is left."""
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the owner, who ends us
        buffered = b""
        try:
            while True:
                ready, _, _ = select.select([0, woken], [], [])
                if woken in ready:
                    os.read(woken, 4096)
                self._reap()
                if 0 in ready:
                    data = os.read(0, 65536)
                    if not data:
                        return
                    *lines, buffered = (buffered + data).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
        finally:
            self._kill_all()

    def _obey(self, command: dict[str, Any]) -> None:
        machine = command["machine"]
        if command["do"] == "signal":
            self._signal(machine, command["signal"])
            return
        try:
            pid = _start(command)
        except OSError as error:  # no such interpreter
            _tell({"event": "failed", "machine": machine, "reason": str(error)})
            return
        self.groups[machine] = pid
        self.leaders[pid] = machine
        _tell({"event": "started", "machine": machine, "pid": pid})

    def _reap(self) -> None:
        """Take in what has ended, orphans too; tell of first processes that nobody killed."""
        with suppress(ChildProcessError):  # there is no child
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                machine = self.leaders.pop(pid, "")
                if self.groups.get(machine) == pid:
                    code = os.waitstatus_to_exitcode(status)
                    _tell({"event": "ended", "machine": machine, "code": code})

    def _signal(self, machine: str, number: int) -> None:
        if machine not in self.groups:
            return
        with suppress(ProcessLookupError):  # all of its group have ended
            os.killpg(self.groups[machine], number)
        if number == signal.SIGKILL:
            del self.groups[machine]
        _tell({"event": NAMES[number], "machine": machine})

    def _kill_all(self) -> None:
        """Kill every group, and then what has left its group and come to us as an orphan."""
        for machine in list(self.groups):
            self._signal(machine, signal.SIGKILL)
        end = time.monotonic() + STOP_SECONDS
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        while time.monotonic() < end:
            self._reap()
            left = children.read_text().split()
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)


def _start(command: dict[str, Any]) -> int:
    with Path(command["log"]).open("ab") as log:
        child = subprocess.Popen(
            command["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=command["environment"],
            cwd=command["folder"],
            start_new_session=True,
            preexec_fn=_end_with_parent,  # safe: this process has one thread
        )
    child.returncode = 0  # the host waits for all its children itself
    return child.pid


def _end_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _tell(event: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the owner is gone, and the input's end says so too
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    Host().run()
