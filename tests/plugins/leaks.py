"""After each test that may start processes: none is left, or the test fails by its name.

A process counts as ours when it descends from this one, or when its environment carries this
session's tag, which finds it also after its parent was killed. Servers that a fixture wider than
one test starts may stay until that fixture ends; after the last test nothing may.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Generator

import psutil
import pytest

GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
TAG = "HEADWATER_TEST_SESSION"
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Started by Python itself, once, and ended with the process that they serve."""

_session = uuid.uuid4().hex
_kept: set[psutil.Process] = set()


def pytest_configure() -> None:
    """Tag the environment, which every process started from here inherits."""
    os.environ[TAG] = _session


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object],
) -> Generator[None, object, object]:
    """Keep what a fixture of a wider scope starts."""
    if fixturedef.scope == "function":
        return (yield)
    before = _ours()
    try:
        return (yield)
    finally:
        _kept.update(_ours() - before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Fail a test that leaves a process, and end that process for the sake of the next test."""
    yield
    if nextitem is not None and item.get_closest_marker("unit"):
        return
    left = _left_after_grace(kept=_kept if nextitem else set())
    if left:
        names = "\n".join(f"  {_describe(process)}" for process in left)
        for process in left:
            _kill(process)
        pytest.fail(f"{len(left)} process(es) left running:\n{names}", pytrace=False)


def _left_after_grace(*, kept: set[psutil.Process]) -> list[psutil.Process]:
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        left = [process for process in _ours() if not _allowed(process, kept)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_SECONDS)


def _ours() -> set[psutil.Process]:
    """Living processes of this session, without the session itself."""
    me = psutil.Process()
    ours = set(me.children(recursive=True))
    ours.update(process for process in psutil.process_iter() if _tagged(process))
    return {process for process in ours if process != me and _alive(process)}


def _tagged(process: psutil.Process) -> bool:
    try:
        return process.environ().get(TAG) == _session
    except (psutil.Error, OSError):  # gone meanwhile, or another user's: not ours
        return False


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _allowed(process: psutil.Process, kept: set[psutil.Process]) -> bool:
    try:
        line = " ".join(process.cmdline())
        if process.ppid() == os.getpid() and any(helper in line for helper in HELPERS):
            return True
        return process in kept or any(parent in kept for parent in process.parents())
    except psutil.NoSuchProcess:
        return True


def _describe(process: psutil.Process) -> str:
    try:
        return f"pid {process.pid}: {' '.join(process.cmdline()) or process.name()}"
    except psutil.NoSuchProcess:
        return f"pid {process.pid}: ended while the test was being reported"


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
