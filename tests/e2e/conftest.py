"""The command as a person runs it, and one Prefect server for all the tests that use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from tests.emulators.process import free_port, server

from headwater.flows.prefect_child import template_path

COMMAND = str(Path(sys.executable).with_name("headwater"))
GOLDEN = Path(__file__).parent / "golden"
CLOUD_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_", "STORAGE_EMULATOR_HOST", "PREFECT_", "HEADWATER_")


@dataclass(frozen=True)
class Done:
    """What one command left."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """The one JSON value that stdout holds."""
        return json.loads(self.out)


@dataclass
class Cli:
    """Runs `headwater` in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(
        self, *arguments: object, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> Done:
        """Run a command to its end."""
        begun = time.monotonic()
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=timeout)
        return Done(process.returncode, out, err, time.monotonic() - begun)

    def start(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        before: Callable[[], object] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does.

        Args:
            before: Called in the new process just before it becomes the command.
        """
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=before,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what a failing test left."""
        for process in self.started:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
            process.communicate()

    def rows(self, target: str = "out", version: int | None = None) -> pl.DataFrame:
        """The target as another reader than ours sees it, sorted by all columns."""
        frame = pl.read_delta(str(self.folder / target), version=version)
        return frame.sort(frame.columns)

    def versions(self, target: str = "out") -> list[int]:
        """Committed versions, by the names in the log; 0 is the empty table."""
        log = self.folder / target / "_delta_log"
        return sorted(int(path.stem) for path in log.glob("*.json"))


@dataclass(frozen=True)
class Prefect:
    """The server, asked over HTTP and not through the client that is tested."""

    url: str

    def listed(self, kind: str, **query: object) -> list[dict[str, Any]]:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/{kind}/filter",
            data=json.dumps(query).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def last_run(self) -> dict[str, Any]:
        """The flow run that was made last."""
        return self.listed("flow_runs", sort="EXPECTED_START_TIME_DESC", limit=1)[0]

    def of_run(self, kind: str, run: str, **query: object) -> list[dict[str, Any]]:
        """Task runs, logs or artifacts of one flow run."""
        names = {"task_runs": "flow_runs", "logs": "logs", "artifacts": "artifacts"}
        by = {"id": {"any_": [run]}} if kind == "task_runs" else {"flow_run_id": {"any_": [run]}}
        return self.listed(kind, **{names[kind]: by}, **query)


def clean_environment() -> dict[str, str]:
    """This process's environment without what names a server, a store or credentials."""
    return {k: v for k, v in os.environ.items() if not k.upper().startswith(CLOUD_VARIABLES)} | {
        k: v for k, v in os.environ.items() if k.startswith("HEADWATER_TEST")
    }


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """An ordinary `prefect server start`, as a user has one."""
    folder = tmp_path_factory.mktemp("prefect")
    (folder / "home").mkdir()
    if template_path().exists():  # else the server makes its database, which takes seconds more
        shutil.copyfile(template_path(), folder / "home" / "prefect.db")
    port = free_port()
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start"]
    environment = clean_environment() | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with server(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        port,
        folder / "log.txt",
        env=environment,
    ):
        prefect = Prefect(f"http://127.0.0.1:{port}/api")
        with urllib.request.urlopen(f"{prefect.url}/health", timeout=60) as answer:  # noqa: S310
            assert answer.status == 200
        yield prefect


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cli]:
    """The command with no server to use: it starts one of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    environment = clean_environment() | {
        "TMPDIR": str(tmp_path / "tmp"),
        "PREFECT_HOME": str(tmp_path / "prefect-home"),
        "HEADWATER_RECEIPTS": str(tmp_path / "receipts"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "80",
    }
    cli = Cli(folder, environment)
    try:
        yield cli
    finally:
        cli.end()


@pytest.fixture
def headwater(alone: Cli, prefect_server: Prefect) -> Cli:
    """The command with the session's Prefect server."""
    alone.environment["PREFECT_API_URL"] = prefect_server.url
    return alone


def require_golden(name: str, value: object) -> None:
    """Compare ``value`` with the file ``name``; one that is not there is written to be read."""
    path = GOLDEN / name
    if not path.exists():
        text = json.dumps(value, indent=2, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")
        pytest.fail(f"{path} was not there; read what is in it now, and commit it")
    assert value == json.loads(path.read_text("utf-8")), f"differs from {path}"
