"""Ctrl-C, SIGTERM and `kill -9` in the middle: no process, no mixed data; a next run goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest
from tests.e2e.conftest import Cli, Done, Prefect

END_SECONDS = 15.0

PARTS = 4
ROWS_IN_PART = 10

JOB = """
import time
from pathlib import Path

import polars as pl

HOLD = Path(__file__).parent / "hold"


def double(n: int) -> int:
    end = time.monotonic() + 100
    while n >= 30 and HOLD.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return 2 * n


def job(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("n", m=pl.col("n").map_elements(double, return_dtype=pl.Int64))
"""
"""Its last part waits for as long as there is a file `hold` beside it."""

PROFILES = {
    "threads": "processes = false\nworkers = 1\nthreads_per_worker = 4\n",
    "workers": "processes = true\nworkers = 2\nthreads_per_worker = 2\nmemory_gib_per_worker = 1\n",
}

THREADS, WORKERS = (pytest.param(name, marks=pytest.mark.trial) for name in PROFILES)
"""Of what is the same on both, one is for the trials."""

EXPECTED = pl.DataFrame(
    {"n": range(PARTS * ROWS_IN_PART), "m": range(0, 2 * PARTS * ROWS_IN_PART, 2)}
)


class Held:
    """A run whose last part waits, over a target that has one version already."""

    def __init__(self, cli: Cli, profile: str) -> None:
        self.cli = cli
        self.profile = profile
        folder = cli.folder
        (folder / "profiles").mkdir()
        (folder / "profiles" / f"{profile}.toml").write_text(
            f'version = 1\n[cluster]\ngpu = "never"\n{PROFILES[profile]}'
        )
        (folder / "slow.py").write_text(JOB)
        (folder / "source").mkdir()
        for part in range(PARTS):
            numbers = range(part * ROWS_IN_PART, (part + 1) * ROWS_IN_PART)
            # Small on disk and larger than the smallest part in memory: one part a file.
            text = [f"{'x' * 950_000}{n}" for n in numbers]
            pl.DataFrame({"n": numbers, "text": text}).write_parquet(
                folder / "source" / f"{part}.parquet"
            )
        self.old = pl.DataFrame({"n": [-1], "m": [-1]})
        pl.DataFrame(self.old).write_delta(str(folder / "out"))
        self._hold = folder / "hold"
        self._hold.touch()

    def start(self, before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
        return self.cli.start(*self.command, env=self.environment, before=before)

    @property
    def command(self) -> tuple[str, ...]:
        what = ("run", "etl", "--source", "source", "--target", "out", "--job", "slow:job")
        return (*what, "--profile", self.profile, "--json")

    @property
    def environment(self) -> dict[str, str]:
        # The part that waits must not take the only thread of the engine.
        return {"POLARS_MAX_THREADS": "4"}

    def receipts(self) -> list[Path]:
        return list((self.cli.folder / "out/_headwater").glob("runs/*/part-*.json"))

    def await_last_part(self, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 40
        while len(self.receipts()) < PARTS - 1:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the parts were not done in time"
            time.sleep(0.05)

    def release(self) -> None:
        self._hold.unlink()

    def run(self) -> Done:
        """The same request once more, in process: a cluster of any size goes on with it."""
        self.profile = "local"
        return self.cli(*self.command, env=self.environment)

    def require_untouched(self) -> None:
        assert self.cli.versions() == [0]
        assert self.cli.rows().equals(self.old)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def require_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not alive, alive


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Output of a process that was told to end; fails where it does not in time."""
    return process.communicate(timeout=END_SECONDS)


@pytest.fixture(params=PROFILES)
def held(request: pytest.FixtureRequest, headwater: Cli) -> Held:
    return Held(headwater, request.param)


def require_whole_after(held: Held) -> None:
    """The same command again takes up what was done, and gives what an undisturbed run gives."""
    held.release()
    done = held.run()
    assert done.code == 0, done.err
    assert done.json["resumed_parts"] == PARTS - 1
    assert done.json["rows_out"] == PARTS * ROWS_IN_PART
    assert held.cli.versions() == [0, 1]
    assert held.cli.rows().select("n", "m").equals(EXPECTED)


@pytest.mark.parametrize("held", ["threads", WORKERS], indirect=True)
def test_ctrl_c_in_the_middle(held: Held, prefect_server: Prefect) -> None:
    process = held.start()
    held.await_last_part(process)
    children = family(process)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    out, err = ended(process)

    assert process.returncode == 130, err
    assert '"status": "interrupted"' in out
    assert "interrupted\n  -> run the same command again" in err
    assert not re.search(r"Traceback|Warning|ERROR", err), err
    require_gone(children)
    held.require_untouched()
    assert prefect_server.last_run()["state"]["type"] == "CRASHED"
    assert list(Path(held.cli.environment["TMPDIR"]).iterdir()) == []
    require_whole_after(held)


@pytest.mark.parametrize("held", ["threads", WORKERS], indirect=True)
def test_sigterm_to_the_driver(held: Held, prefect_server: Prefect) -> None:
    process = held.start()
    held.await_last_part(process)
    children = family(process)

    process.terminate()
    _, err = ended(process)

    assert process.returncode == 130, err
    assert "interrupted\n  -> run the same command again" in err
    assert not re.search(r"Traceback|Warning|ERROR", err), err
    require_gone(children)
    held.require_untouched()
    assert prefect_server.last_run()["state"]["type"] == "CRASHED"


@pytest.mark.parametrize("held", [THREADS, "workers"], indirect=True)
def test_killed_driver(held: Held) -> None:
    process = held.start()
    held.await_last_part(process)
    children = family(process)

    process.kill()
    ended(process)

    assert process.returncode == -signal.SIGKILL
    require_gone(children)
    held.require_untouched()
    require_whole_after(held)


def test_sigint_that_a_script_ignores_does_not_hang_the_run(headwater: Cli) -> None:
    held = Held(headwater, "threads")
    process = held.start(before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    held.await_last_part(process)

    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    held.release()
    _, err = ended(process)

    # The engine stops the part that is under way even so; what it had not reached goes on.
    assert process.returncode in (0, 1), err
    assert "Traceback" not in err
    if process.returncode:
        assert "interrupted" in err
        held.require_untouched()


@pytest.mark.parametrize("sign", ["the scan", "the server", WORKERS])
def test_ctrl_c_before_the_parts(headwater: Cli, sign: str) -> None:
    held = Held(headwater, "workers")
    process = held.start()
    match sign:
        case "the scan":
            await_line(process)
        case "the server":
            await_line(process, "Prefect")
        case "workers":
            await_child(process)
    children = family(process)

    os.killpg(process.pid, signal.SIGINT)
    _, err = ended(process)

    assert process.returncode == 130, err
    assert "interrupted" in err
    assert not re.search(r"Traceback|Warning|ERROR", err), err
    require_gone(children)
    held.require_untouched()


def await_line(process: subprocess.Popen[str], text: str = "") -> None:
    """Read stderr up to a line with ``text`` in it."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the command ended and did not say '{text}'")


def await_child(process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while not any("spawn_main" in " ".join(child.cmdline()) for child in family(process)):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_with_a_server_of_its_own_leaves_none(alone: Cli) -> None:
    held = Held(alone, "threads")
    process = held.start()
    held.await_last_part(process)
    children = family(process)
    assert children, "it runs a server"

    os.killpg(process.pid, signal.SIGINT)
    _, err = ended(process)

    assert process.returncode == 130, err
    require_gone(children)
    held.require_untouched()
