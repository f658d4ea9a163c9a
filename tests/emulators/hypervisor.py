"""One hypervisor behind the emulated clouds: a real process for each instance that is on.

An instance boots what its user-data says, as a process group in a session of its own, and finds a
metadata service on its own loopback address. It ends when its cloud says so, and its cloud hears
when it ends. No process outlives the test: see ``host``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from tests.emulators import metadata
from tests.emulators.guests import NEVER, Event, Guest
from tests.emulators.http_service import serve
from tests.emulators.machines import EmulatedCloud, Machine
from tests.emulators.user_data import OFF, boot_script, minutes_to_off, write_commands

NOTICE_SECONDS = {"aws": 120.0, "gcp": 30.0, "azure": 30.0}
"""What each cloud gives a spot instance before it takes it back."""

TICK_SECONDS = 0.03
STOP_SECONDS = 10.0

WhenEnded = Literal["off", "on"]


class Hypervisor:
    """Runs the instances of some clouds; made by ``hypervisor``.

    Attributes:
        events: All that happened, in order.
        failures: Why the hypervisor itself does no longer run; empty while it does.
    """

    def __init__(
        self,
        clouds: Sequence[EmulatedCloud],
        folder: Path,
        host: subprocess.Popen[bytes],
        environment: Mapping[str, str],
        boot_seconds: float,
        time_scale: float,
        when_ended: WhenEnded,
    ) -> None:
        self.events: list[Event] = []
        self.failures: list[Exception] = []
        self._clouds = clouds
        self._folder = folder
        self._host = host
        self._environment = environment
        self._boot_seconds = boot_seconds
        self._time_scale = time_scale
        self._when_ended = when_ended
        self._guests: dict[str, Guest] = {}
        self._buffered = b""
        self._number = 0
        self._lock = threading.RLock()

    @property
    def running(self) -> dict[str, Guest]:
        """The instances that have booted and whose program has not ended, by id."""
        with self._lock:
            return {key: guest for key, guest in self._guests.items() if guest.pid}

    def guest(self, machine_id: str) -> Guest:
        """An instance that is on, booted or not.

        Raises:
            KeyError: There is none; the known ones are named.
        """
        with self._lock:
            if machine_id not in self._guests:
                raise KeyError(f"{machine_id} is not on; on: {', '.join(self._guests) or 'none'}")
            return self._guests[machine_id]

    def console(self, machine_id: str) -> str:
        """What the programs of an instance have written so far, also after it has ended."""
        texts = [path.read_text("utf-8") for path in self._consoles(machine_id)]
        return "".join(texts)

    def reclaim(self, machine_id: str) -> None:
        """Announce that a spot instance will be taken back, and take it back after the notice."""
        guest = self.guest(machine_id)
        seconds = NOTICE_SECONDS[guest.machine.cloud] * self._time_scale
        with self._lock:
            guest.notice.at = datetime.now(UTC) + timedelta(seconds=seconds)
            guest.reclaim_at = time.monotonic() + seconds
            self.events.append(Event("notice", machine_id, f"{seconds:g} s"))

    def cut_off(self, machine_id: str) -> None:
        """Freeze an instance: to all others it is as if its network were gone."""
        self._signal(machine_id, signal.SIGSTOP)

    def bring_back(self, machine_id: str) -> None:
        """Let a frozen instance go on."""
        self._signal(machine_id, signal.SIGCONT)

    def crash(self, machine_id: str) -> None:
        """Kill the programs of an instance, as when its kernel fails: its cloud sees it as on."""
        guest = self.guest(machine_id)
        with self._lock:
            guest.is_done = True
        self._signal(machine_id, signal.SIGKILL)

    def wait_until(self, condition: Callable[[], object], *, seconds: float = 10.0) -> None:
        """Return as soon as ``condition`` holds.

        Raises:
            TimeoutError: It did not within ``seconds``; the events so far are named.
            RuntimeError: The hypervisor has failed meanwhile.
        """
        end = time.monotonic() + seconds
        while not condition():
            if self.failures:
                raise RuntimeError("the hypervisor failed") from self.failures[0]
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s; what happened: {self.events}")
            time.sleep(TICK_SECONDS / 3)

    def tick(self) -> None:
        """Bring the processes in line with what the clouds say, once."""
        with self._lock:
            wanted = {
                key: (machine, cloud)
                for cloud in self._clouds
                for key, machine in cloud.machines().items()
            }
            for key in [key for key in self._guests if key not in wanted]:
                self._end(self._guests.pop(key))
            for key, (machine, cloud) in wanted.items():
                if key not in self._guests:
                    self._guests[key] = self._admit(machine, cloud)
            self._hear()
            for guest in list(self._guests.values()):
                self._attend(guest)

    def end_all(self) -> None:
        """Kill every instance's processes and end its metadata service."""
        with self._lock:
            for guest in self._guests.values():
                self._end(guest)
            self._guests.clear()

    def _admit(self, machine: Machine, cloud: EmulatedCloud) -> Guest:
        self._number += 1
        folder = self._folder / f"{self._number:03}-{machine.id.replace('/', '-')}"
        folder.mkdir()
        return Guest(machine, cloud, folder, time.monotonic() + self._boot_seconds)

    def _attend(self, guest: Guest) -> None:
        now = time.monotonic()
        machine_id = guest.machine.id
        if not guest.pid and not guest.is_done and now >= guest.boots_at:
            self._boot(guest)
        asked = guest.folder / OFF
        if asked.exists():
            minutes = minutes_to_off(asked.read_text("utf-8"))
            asked.unlink()
            guest.off_at = NEVER if minutes is None else now + minutes * 60 * self._time_scale
        if now >= guest.off_at:
            guest.off_at = NEVER
            self.events.append(Event("off", machine_id))
            self._end(guest)
            guest.cloud.powered_off(machine_id)
        if now >= guest.reclaim_at:
            guest.reclaim_at = NEVER
            self.events.append(Event("reclaimed", machine_id))
            guest.cloud.reclaim(machine_id)

    def _boot(self, guest: Guest) -> None:
        machine = guest.machine
        guest.is_done = True
        if not machine.user_data:
            return  # it idles, and is paid for
        try:
            script = boot_script(machine.user_data)
        except ValueError as error:
            self.events.append(Event("refused", machine.id, str(error)))
            guest.log.write_text(f"{error}\n", encoding="utf-8")
            return
        handle = metadata.service(machine, guest.notice)
        guest.metadata_url = guest.services.enter_context(serve(handle, address=machine.address))
        self._tell(guest.boot_command(script, self._folder / "bin", self._environment))

    def _hear(self) -> None:
        """Take in what the host has told since the last time."""
        assert self._host.stdout is not None
        while data := self._host.stdout.read(65536):
            *lines, self._buffered = (self._buffered + data).split(b"\n")
            for line in lines:
                self._note(json.loads(line))
        if self._host.poll() is not None:
            raise RuntimeError(f"the host of the machines ended with {self._host.returncode}")

    def _note(self, told: Mapping[str, Any]) -> None:
        machine_id = told["machine"]
        guest = self._guests.get(machine_id)
        if told["event"] == "started":
            self.events.append(Event("booted", machine_id, str(told["pid"])))
            if guest is not None:
                guest.pid = told["pid"]
            return
        if told["event"] == "failed":
            self.events.append(Event("refused", machine_id, told["reason"]))
        elif told["event"] in ("frozen", "thawed"):
            self.events.append(Event(told["event"], machine_id))
            return
        elif told["event"] == "killed":
            self.events.append(Event("killed", machine_id))
        else:
            self.events.append(Event("ended", machine_id, str(told["code"])))
            if guest is not None and self._when_ended == "off":
                guest.off_at = 0.0
        if guest is not None:
            guest.pid = 0

    def _end(self, guest: Guest) -> None:
        guest.is_done = guest.notice.is_gone = True
        guest.pid = 0
        self._tell({"do": "signal", "machine": guest.machine.id, "signal": signal.SIGKILL})
        guest.services.close()

    def _signal(self, machine_id: str, number: int) -> None:
        self.guest(machine_id)
        with self._lock:
            self._tell({"do": "signal", "machine": machine_id, "signal": number})

    def _tell(self, command: Mapping[str, Any]) -> None:
        assert self._host.stdin is not None
        self._host.stdin.write(json.dumps(command).encode() + b"\n")
        self._host.stdin.flush()

    def _consoles(self, machine_id: str) -> list[Path]:
        return sorted(self._folder.glob(f"*-{machine_id.replace('/', '-')}/console.txt"))


@contextmanager
def hypervisor(
    clouds: Sequence[EmulatedCloud],
    folder: Path,
    *,
    programs: Mapping[str, Sequence[str]] | None = None,
    environment: Mapping[str, str] | None = None,
    boot_seconds: float = 0.0,
    time_scale: float = 1.0,
    when_ended: WhenEnded = "off",
) -> Iterator[Hypervisor]:
    """Run the instances of ``clouds`` for as long as the body runs.

    Args:
        folder: Gets a folder for each instance, with what it has written.
        programs: Commands that the instances' image has, by name: the words each stands for.
        environment: Variables that every instance gets, such as endpoints; of the client's own
            variables they inherit none that names a cloud.
        boot_seconds: From when an instance is on to the start of its user-data.
        time_scale: Real seconds that stand for one of a cloud's in its reclaim notice, and for one
            of those that ``shutdown -h +MINUTES`` waits.
        when_ended: What becomes of an instance whose user-data has run to its end: its image
            switches it off, or it stays on, idle and paid for.

    Raises:
        RuntimeError: At the end, where the hypervisor itself has failed meanwhile.
    """
    write_commands(folder / "bin", programs or {})
    host = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("host.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    assert host.stdout is not None
    assert host.stdin is not None
    os.set_blocking(host.stdout.fileno(), False)
    running = Hypervisor(
        clouds, folder, host, environment or {}, boot_seconds, time_scale, when_ended
    )
    stop = threading.Event()

    def keep_ticking() -> None:
        try:
            while not stop.wait(TICK_SECONDS):
                running.tick()
        except Exception as error:  # noqa: BLE001 - raised again below, where a test sees it
            running.failures.append(error)

    thread = threading.Thread(target=keep_ticking)
    thread.start()
    try:
        yield running
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
        if host.poll() is None:
            running.end_all()
        host.stdin.close()
        try:
            host.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            host.kill()
            host.wait(STOP_SECONDS)
        host.stdout.close()
    if running.failures:
        events = running.events
        raise RuntimeError(f"the hypervisor failed; events: {events}") from running.failures[0]
