"""Our own Prefect server: what it stores, how it ends, and what is said when none answers."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from headwater.flows.prefect_api import (
    PrefectUnavailable,
    configured_api_url,
    prefect_api,
    quiet_environment,
)
from headwater.flows.prefect_child import template_path

DRIVER = """
import signal, sys, time
from headwater.flows.prefect_api import prefect_api

signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with prefect_api() as api:
        from prefect import flow, get_run_logger, task
        from prefect.artifacts import create_markdown_artifact

        @task
        def add(x, y):
            get_run_logger().info("adding")
            return x + y

        @flow
        def work():
            total = add(add(1, 2), add(3, 4))
            create_markdown_artifact(f"# {total}", key="receipt")
            print("running", flush=True)
            if "wait" in sys.argv:
                time.sleep(60)
            return total

        with api.session():
            print(work(), flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""

ANSWERS_WITHIN_SECONDS = 90


@dataclass(frozen=True)
class Place:
    """A cache folder and a Prefect home of a test's own."""

    home: Path
    cache: Path

    @property
    def database(self) -> Path:
        return self.home / "prefect.db"

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return clean | {"PREFECT_HOME": str(self.home), "XDG_CACHE_HOME": str(self.cache)}

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.database)) as db:
            return db.execute(query).fetchall()

    def schema(self) -> list[tuple[object, ...]]:
        return self.rows("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2")


Drive = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with Driving(tmp_path) as start:
        yield start


class Driving:
    """Starts driver processes and ends those that a test left."""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "driver.py"
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Drive:
        self._script.write_text(DRIVER)
        return self._start

    def _start(self, place: Place, *arguments: str) -> subprocess.Popen[str]:
        driver = subprocess.Popen(
            [sys.executable, str(self._script), *arguments],
            env=place.environment(),
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(driver)
        return driver

    def __exit__(self, *_: object) -> None:
        for driver in self._started:
            if driver.poll() is None:
                driver.kill()
            driver.communicate()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A new database that two runs at once made by migrating, with the cache they left."""
    folder = tmp_path_factory.mktemp("first-use")
    place = Place(folder / "home", folder / "cache")
    with Driving(folder) as drive:
        drivers = [drive(place), drive(place)]
        for driver in drivers:
            out, err = driver.communicate(timeout=ANSWERS_WITHIN_SECONDS)
            assert (driver.returncode, out.splitlines()[-1:], err) == (0, ["10"], "")
    return place


@pytest.fixture
def place(migrated: Place, tmp_path: Path) -> Place:
    """A new home beside a cache that holds the template."""
    return Place(tmp_path / "home", migrated.cache)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def await_line(driver: subprocess.Popen[str], line: str) -> None:
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == line


def server_of(driver: subprocess.Popen[str]) -> psutil.Process:
    (server,) = psutil.Process(driver.pid).children(recursive=True)
    return server


def test_two_runs_at_once_share_a_new_database(migrated: Place) -> None:
    assert migrated.rows("SELECT state_type FROM flow_run") == [("COMPLETED",)] * 2
    assert len(list(migrated.cache.glob("headwater/prefect-*.db"))) == 1


def test_runs_are_whole_and_a_later_server_shows_them(
    migrated: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = "SELECT count(*) FROM events WHERE event LIKE 'prefect.task-run.%'"
    assert migrated.rows(stored) == [(2 * 3 * 3,)]  # runs, tasks, states of each
    for name, value in migrated.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with prefect_api() as api:
        assert api.is_own
        url = api.url
        assert os.environ["PREFECT_API_URL"] == url
        assert [run["state"]["type"] for run in listed(url, "flow_runs")] == ["COMPLETED"] * 2
        assert [run["state"]["type"] for run in listed(url, "task_runs")] == ["COMPLETED"] * 6
        assert [artifact["data"] for artifact in listed(url, "artifacts")] == ["# 10"] * 2
        messages = [log["message"] for log in listed(url, "logs")]
        assert messages.count("adding") == 6
        assert messages.count("Finished in state Completed()") == 8
    assert "PREFECT_API_URL" not in os.environ


def listed(url: str, kind: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(  # noqa: S310
        f"{url}/{kind}/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)
    return found


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.trial)]
)
def test_interrupted_run_is_recorded_and_leaves_no_server(
    migrated: Place, place: Place, drive: Drive, number: signal.Signals
) -> None:
    driver = drive(place, "wait")
    await_line(driver, "running")
    server = server_of(driver)

    os.killpg(driver.pid, number)  # as a terminal does: the whole foreground group
    out, err = driver.communicate(timeout=15)

    assert (driver.returncode, out, err) == (130, "", "")
    assert not server.is_running()
    assert place.rows("SELECT state_type FROM flow_run") == [("CRASHED",)]
    # The database was copied from the template, and is what migrating makes.
    revision = "SELECT version_num FROM alembic_version"
    assert place.rows(revision) == migrated.rows(revision)
    assert place.schema() == migrated.schema()
    assert place.rows("PRAGMA journal_mode") == [("wal",)]


def test_killed_driver_leaves_no_server_and_no_running_flow(place: Place, drive: Drive) -> None:
    driver = drive(place, "wait")
    await_line(driver, "running")
    server = server_of(driver)

    driver.kill()
    driver.wait()

    assert wait_until(lambda: not server.is_running(), seconds=3)
    assert place.rows("SELECT state_type FROM flow_run") == [("CRASHED",)]


def test_driver_killed_while_the_server_starts_leaves_none(place: Place, drive: Drive) -> None:
    driver = drive(place, "wait")
    assert wait_until(lambda: bool(psutil.Process(driver.pid).children()), seconds=10)
    server = server_of(driver)

    driver.kill()
    driver.wait()

    assert wait_until(lambda: not server.is_running(), seconds=3)


def test_server_that_cannot_start_says_why(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    no_database = tmp_path / "no-database"
    no_database.write_text("this is no database\n" * 100)
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{no_database}")
    with (
        prefect_api() as api,
        pytest.raises(PrefectUnavailable, match="file is not a database") as failure,
    ):
        api.wait()
    assert "exit code" in failure.value.message
    assert pickle.loads(pickle.dumps(failure.value)).hint == failure.value.hint  # noqa: S301


def test_unreachable_server_of_the_user_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:secret@127.0.0.1:{port}/api")
    begun = time.monotonic()
    with prefect_api() as api, pytest.raises(PrefectUnavailable) as failure:
        api.wait()
    assert time.monotonic() - begun < 2
    assert f"http://127.0.0.1:{port}/api is not reachable" in failure.value.message
    assert "secret" not in str(failure.value)
    assert "unset it" in failure.value.hint


@pytest.mark.trial
def test_silent_server_of_the_user_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        begun = time.monotonic()
        with prefect_api() as api, pytest.raises(PrefectUnavailable, match=url):
            api.wait()
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("files", "environment", "url"),
    [
        ({}, {}, ""),
        ({}, {"PREFECT_API_URL": "http://env/api"}, "http://env/api"),
        ({}, {"prefect_api_url": "http://env/api"}, "http://env/api"),
        ({"home/profiles.toml": "profile"}, {"PREFECT_API_URL": ""}, ""),
        ({".env": "dotenv", "prefect.toml": "prefect"}, {}, "http://dotenv/api"),
        ({"prefect.toml": "prefect", "pyproject.toml": "pyproject"}, {}, "http://prefect/api"),
        ({"pyproject.toml": "pyproject", "home/profiles.toml": "profile"}, {}, "http://py/api"),
        ({"home/profiles.toml": "profile"}, {}, "http://first/api"),
        ({"home/profiles.toml": "profile"}, {"PREFECT_PROFILE": "second"}, "http://second/api"),
        ({"home/profiles.toml": "profile"}, {"PREFECT_PROFILE": "unknown"}, ""),
        ({"mine.toml": "profile"}, {"PREFECT_PROFILES_PATH": "mine.toml"}, "http://first/api"),
        ({"mine.toml": "profile", ".env": "path"}, {}, "http://first/api"),
    ],
)
def test_configured_url_is_what_prefect_resolves(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    environment: dict[str, str],
    url: str,
) -> None:
    from prefect.settings.models.api import APISettings

    texts = {
        "dotenv": "PREFECT_API_URL=http://dotenv/api\n",
        "path": "PREFECT_PROFILES_PATH=mine.toml\n",
        "prefect": '[api]\nurl = "http://prefect/api"\n',
        "pyproject": '[tool.prefect.api]\nurl = "http://py/api"\n',
        "profile": 'active = "first"\n'
        '[profiles.first]\nPREFECT_API_URL = "http://first/api"\n'
        '[profiles.second]\nPREFECT_API_URL = "http://second/api"\n',
    }
    (tmp_path / "home").mkdir()
    for name, kind in files.items():
        (tmp_path / name).write_text(texts[kind])
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert configured_api_url() == url
    assert (APISettings().url or "") == url


def test_settings_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "prefect.toml").write_text("[api\n")
    with pytest.raises(PrefectUnavailable, match=r"prefect\.toml"):
        configured_api_url()


def test_chosen_logging_level_keeps_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    console = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
    monkeypatch.delenv(console, raising=False)
    monkeypatch.delenv("PREFECT_LOGGING_LEVEL", raising=False)
    assert quiet_environment()[console] == "CRITICAL"
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    assert console not in quiet_environment()


def test_template_is_kept_per_prefect_version() -> None:
    import prefect

    assert template_path().name == f"prefect-{prefect.__version__}.db"
