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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
NAMES: dict[int, str] = {
    signal.SIGKILL: "killed",
    signal.SIGSTOP: "frozen",
    signal.SIGCONT: "thawed",
}
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Host:
    """The processes, by the machine they are of."""

    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Obey until the input ends; then kill what is left."""
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
            for machine in list(self.children):
                self._signal(machine, signal.SIGKILL)

    def _obey(self, command: dict[str, Any]) -> None:
        machine = command["machine"]
        if command["do"] == "signal":
            self._signal(machine, command["signal"])
            return
        try:
            child = _start(command)
        except OSError as error:  # no such interpreter
            _tell({"event": "failed", "machine": machine, "reason": str(error)})
            return
        self.children[machine] = child
        self.ended.discard(machine)  # an instance may be started again
        _tell({"event": "started", "machine": machine, "pid": child.pid})

    def _reap(self) -> None:
        for machine, child in self.children.items():
            if machine not in self.ended and child.poll() is not None:
                self.ended.add(machine)
                _tell({"event": "ended", "machine": machine, "code": child.returncode})

    def _signal(self, machine: str, number: int) -> None:
        child = self.children.get(machine)
        if child is None:
            return
        with suppress(ProcessLookupError):  # all of its group have ended
            os.killpg(child.pid, number)
        if number == signal.SIGKILL:
            child.wait()
            del self.children[machine]
        _tell({"event": NAMES[number], "machine": machine})


def _start(command: dict[str, Any]) -> subprocess.Popen[bytes]:
    with Path(command["log"]).open("ab") as log:
        return subprocess.Popen(
            command["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=command["environment"],
            cwd=command["folder"],
            start_new_session=True,
            preexec_fn=_end_with_parent,  # safe: this process has one thread
        )


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
