"""The Prefect server of a run: the one the user has, or one of our own that ends with the run.

    with prefect_api() as api:      # at once; our own server starts beside what follows
        ...                         # imports, preflight
        with api.session():         # waits until the server answers
            etl(...)                # flows called here run on it
                                    # what Prefect still holds back is sent, the server stopped

Nothing here imports Prefect before ``session``: that costs seconds, and the server can use them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from headwater.infra.errors import HeadwaterError

OWN_SERVER_SECONDS = 120.0
"""How long our own server may take to answer; a slow disk and a new database included."""

USER_SERVER_SECONDS = 8.0
"""How long the user's server may take to answer, before a run is refused."""

DRAIN_SECONDS = 10.0
"""How long the sending of the last logs and events may take."""

SETTLE_SECONDS = 3.0
"""How long our own server may take to store the states of tasks that it has received."""

SETTLE_POLL_SECONDS = 0.1
"""How long to wait before asking again whether a task run seems under way."""

STOP_SECONDS = 8.0
"""How long our own server may take to store the last events and end, before it is killed."""

LAST_WORDS_SECONDS = 5.0
"""How long a server that broke off may take to end and to say why."""

LOG_LINES = 200
"""Last lines of the server's output that are kept for an error message."""

LOG_LINES_SHOWN = 15
"""Last lines of the server's output in an error message."""

CHILD = "headwater.flows.prefect_child"

_QUIET = {
    # The command shows its own progress; a run's logs still reach its page through the API.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Log records from outside a run have no page to go to; that is no news for the user.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # No first-run notice on the terminal and no usage events.
    "DO_NOT_TRACK": "1",
}

_OWN_SERVER_CLIENT = {
    # Client and server are one installation, and our server asks for no CSRF token: three
    # requests less for each of the client's connections.
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    # It is on this machine: once it is gone, it does not come back, and waiting is in vain.
    "PREFECT_CLIENT_MAX_RETRIES": "2",
}


class PrefectUnavailable(HeadwaterError):
    """No Prefect server answers: the user's is not reachable, or our own did not start."""


class PrefectApi:
    """A Prefect server that answers, or will soon. Made by ``start``; leaving it stops our own.

    Attributes:
        address: URL of its API, known before it answers.
    """

    def __init__(self, server: _OwnServer | _UserServer) -> None:
        self.address = server.address
        self._server = server

    @property
    def is_own(self) -> bool:
        """Whether the server was started here and ends with this object."""
        return isinstance(self._server, _OwnServer)

    @property
    def url(self) -> str:
        """URL of the API, once it answers (see ``wait``)."""
        return self.wait()

    def wait(self) -> str:
        """URL of the API, as soon as it answers.

        Raises:
            PrefectUnavailable: It does not: our own within OWN_SERVER_SECONDS, with the last
                lines that it wrote; the user's within USER_SERVER_SECONDS.
        """
        self._server.wait()
        return self.address

    @contextlib.contextmanager
    def session(self) -> Iterator[str]:
        """Wait for the server and run flows on it, called in this thread inside the block.

        At the end, what Prefect still holds back is sent, so that nothing of the run is missing
        in the database when the server stops.

        Raises:
            PrefectUnavailable: As ``wait``; or our own server died inside the block, and
                an error of Prefect's client came of it.
        """
        url = self.wait()
        begun = datetime.now(UTC)
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            temporary_settings,
        )

        # The environment says the same, but Prefect may have been imported before it did.
        with temporary_settings(
            updates={PREFECT_API_URL: url},
            # The heartbeat's thread looks once a second whether the flow is over, so each run
            # would end up to a second late. It serves automations that watch unattended runs;
            # who has such a one sets the frequency, and then it stays.
            set_defaults={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None},
        ):
            try:
                yield url
            except Exception as exc:
                died = self._server.death()
                if died is None or isinstance(exc, HeadwaterError):
                    raise
                raise died from exc
            finally:
                if self._server.death() is None:
                    _drain()
                    self._server.settle(begun)

    def close(self) -> None:
        """Stop the server if it is our own. Harmless when repeated."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start() -> PrefectApi:
    """The user's Prefect server, or one of our own that is being started: returns at once.

    Sets the environment (the API's URL, and ``quiet_environment``) for Prefect in this process
    and in workers that it starts, so call it before Prefect is imported.

    Raises:
        PrefectUnavailable: A file with Prefect settings cannot be read.
    """
    url = configured_api_url()
    return PrefectApi(_UserServer(url) if url else _OwnServer())


@contextlib.contextmanager
def prefect_api() -> Iterator[PrefectApi]:
    """``start``, and the end of our own server on any way out of the block."""
    with start() as api:
        yield api


def quiet_environment() -> dict[str, str]:
    """Environment variables, unset so far, that keep Prefect off the terminal.

    A user who chose a logging level of their own keeps Prefect's console log.
    """
    quiet = dict(_QUIET)
    if _configured("PREFECT_LOGGING_LEVEL", "logging", "level") or os.environ.get(
        "PREFECT_DEBUG_MODE"
    ):
        del quiet["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]
    return {name: value for name, value in quiet.items() if name not in os.environ}


def configured_api_url() -> str:
    """URL of the server that the user configured, empty if none.

    Looks where Prefect looks and in its order, without the seconds of importing it:
    environment, ``.env``, ``prefect.toml``, ``pyproject.toml``, the active Prefect profile.
    """
    return _configured("PREFECT_API_URL", "api", "url")


def build_template() -> Path:
    """The migrated, empty database that a new Prefect database is copied from.

    Built once per Prefect version, in the user's cache folder. A first run leaves it too;
    building it during set-up saves that run some seconds.

    Raises:
        PrefectUnavailable: Prefect could not make the database.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", CHILD, "--build-template"],
        env=_child_environment(),
        capture_output=True,
        text=True,
        timeout=OWN_SERVER_SECONDS,
        check=False,
    )
    if done.returncode:
        raise PrefectUnavailable(
            f"Prefect could not make a new database:\n{_last_lines(done.stderr.splitlines())}"
        )
    return Path(done.stdout.strip().splitlines()[-1])


class _UserServer:
    """The server that the user configured; asked in the background whether it is there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._trouble = ""
        self._environment = _Environment(quiet_environment())
        self._deadline = time.monotonic() + USER_SERVER_SECONDS
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def wait(self) -> None:
        self._asking.join(timeout=max(0.0, self._deadline - time.monotonic()))
        trouble = "no answer" if self._asking.is_alive() else self._trouble
        if trouble:
            raise PrefectUnavailable(
                f"the Prefect server at {_without_password(self.address)} is not reachable "
                f"within {USER_SERVER_SECONDS:.0f} s: {trouble}",
                hint="start it (prefect server start), correct PREFECT_API_URL (environment, "
                ".env, prefect.toml, pyproject.toml or the active Prefect profile), or unset it: "
                "Headwater then starts a server of its own",
            )

    def death(self) -> None:
        """Nothing: whether the user's server is still there shows in what Prefect raises."""

    def settle(self, begun: datetime) -> None:
        """Nothing: the user's server goes on, and stores what it has received in its own time."""

    def stop(self) -> None:
        self._environment.restore()

    def _ask(self) -> None:
        try:
            request = urllib.request.Request(f"{self.address.rstrip('/')}/health")  # noqa: S310
            with urllib.request.urlopen(request, timeout=USER_SERVER_SECONDS):  # noqa: S310
                pass
        except urllib.error.HTTPError as exc:
            # Any other status, also "log in first", comes from a server that is there.
            self._trouble = f"it answers {exc.code} {exc.reason}" if exc.code >= 500 else ""
            exc.close()
        except urllib.error.URLError as exc:
            # Whether to trust a certificate is for Prefect's client and its settings to say.
            if not isinstance(exc.reason, ssl.SSLCertVerificationError):
                self._trouble = str(exc.reason)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self._trouble = str(exc)


class _OwnServer:
    """A server process on a free loopback port, which ends at the latest when this process does.

    The port is bound here and handed over as an open socket: nobody else can take it, and a
    request made early is answered as soon as the server accepts, without polling.
    """

    def __init__(self) -> None:
        environment = _child_environment()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port: int = listening.getsockname()[1]
            self._port = port
            self.address = f"http://127.0.0.1:{port}/api"
            command = [sys.executable, "-P", "-m", CHILD]
            command += ["--fd", str(listening.fileno()), "--parent", str(os.getpid())]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # its end tells the child that this process is gone
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(listening.fileno(),),
                env=environment,
                # Ctrl-C on a terminal must not stop it before the run's end is recorded.
                start_new_session=True,
            )
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self._deadline = time.monotonic() + OWN_SERVER_SECONDS
        self._answers = False
        client = {k: v for k, v in _OWN_SERVER_CLIENT.items() if k not in os.environ}
        self._environment = _Environment(
            quiet_environment() | client | _direct_loopback() | {"PREFECT_API_URL": self.address}
        )

    def wait(self) -> None:
        if self._answers:
            return
        remaining = max(0.1, self._deadline - time.monotonic())
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=remaining)
        try:
            connection.request("GET", "/api/health")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as exc:
            raise self._unavailable("did not start", str(exc)) from exc
        finally:
            connection.close()
        if status != http.HTTPStatus.OK:
            raise self._unavailable("did not start", f"it answers {status}")
        self._answers = True

    def death(self) -> PrefectUnavailable | None:
        """What to say of a server that has ended before it was stopped."""
        if self._process.poll() is None:
            return None
        return self._unavailable("ended during the run", "")

    def settle(self, begun: datetime) -> None:
        """Wait until no task run since ``begun`` seems under way, at most SETTLE_SECONDS.

        States of tasks reach the database after the client has sent them. An interrupted run
        may leave one that never ends, and so may another run on the same database.
        """
        under_way = {
            "task_runs": {
                "state": {"type": {"any_": ["PENDING", "RUNNING"]}},
                "start_time": {"after_": begun.isoformat()},
            },
            "limit": 1,
        }
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            try:
                seen = self._ask("POST", "/api/task_runs/filter", json.dumps(under_way))
            except (OSError, http.client.HTTPException):
                return  # it has died, or is too slow to wait for: the run itself is over
            if seen == b"[]":
                return
            time.sleep(SETTLE_POLL_SECONDS)

    def stop(self) -> None:
        self._environment.restore()
        try:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass  # it is killed below, as it is when a second Ctrl-C ends the wait
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._reading.join()

    def _ask(self, method: str, path: str, body: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SETTLE_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().read()

    def _read(self) -> None:
        """Keep the last lines that the server writes, until it ends."""
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line.decode(errors="replace").rstrip())

    def _unavailable(self, what: str, reason: str) -> PrefectUnavailable:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A process that dies resets the connection first, and then takes its time.
            self._process.wait(LAST_WORDS_SECONDS)
        code = self._process.returncode
        if code is not None:
            self._reading.join()
            reason = f"exit code {code}"
        said = _last_lines(self._lines)
        return PrefectUnavailable(
            f"Headwater's own Prefect server {what}: {reason}"
            + (f"\n{said}" if said else " (it wrote nothing)"),
            hint="start a server yourself (prefect server start) and set PREFECT_API_URL to it "
            "to see more, or check PREFECT_HOME and PREFECT_API_DATABASE_CONNECTION_URL",
        )


class _Environment:
    """Changes to this process's environment that can be taken back."""

    def __init__(self, changes: dict[str, str]) -> None:
        self._before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)

    def restore(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}


def _drain() -> None:
    """Send the logs and events that Prefect still holds back, at most DRAIN_SECONDS each."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


def _configured(name: str, *keys: str) -> str:
    """The setting ``name``, at ``keys`` in TOML files, as Prefect would resolve it; or empty."""
    # Prefect reads variables in any case.
    environment = {key.upper(): value for key, value in os.environ.items()}
    if name in environment:
        return environment[name]
    dotenv = _dotenv()
    if name in dotenv:
        return dotenv[name]
    for table in (_toml(Path("prefect.toml")), _pyproject()):
        if value := _text_at(table, keys):
            return value
    return _text_at(_active_profile(environment, dotenv), (name,))


def _active_profile(environment: dict[str, str], dotenv: dict[str, str]) -> dict[str, object]:
    path = (
        os.environ.get("PREFECT_PROFILES_PATH")
        or dotenv.get("PREFECT_PROFILES_PATH")
        or _text_at(_toml(Path("prefect.toml")), ("profiles_path",))
        or _text_at(_pyproject(), ("profiles_path",))
    )
    home = Path(environment.get("PREFECT_HOME") or Path("~/.prefect").expanduser())
    profiles = _toml(Path(path) if path else home / "profiles.toml")
    active = environment.get("PREFECT_PROFILE") or _text_at(profiles, ("active",))
    return _table_at(profiles, ("profiles", active)) if active else {}


def _dotenv() -> dict[str, str]:
    path = Path(".env")
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return {name.upper(): value or "" for name, value in dotenv_values(path).items()}


def _pyproject() -> dict[str, object]:
    return _table_at(_toml(Path("pyproject.toml")), ("tool", "prefect"))


def _toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, OSError) as exc:
        raise PrefectUnavailable(
            f"{path}: Prefect's settings cannot be read from it: {exc}", hint="correct the file"
        ) from exc


def _table_at(table: dict[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    for key in keys:
        below = table.get(key)
        if not isinstance(below, dict):
            return {}
        table = below
    return table


def _text_at(table: dict[str, object], keys: tuple[str, ...]) -> str:
    value = _table_at(table, keys[:-1]).get(keys[-1])
    return value if isinstance(value, str) else ""


def _child_environment() -> dict[str, str]:
    # The server must not take itself for a client of another one.
    return {name: value for name, value in os.environ.items() if name.upper() != "PREFECT_API_URL"}


def _direct_loopback() -> dict[str, str]:
    """Variables that keep requests to our own server off a proxy, where one is configured."""
    if not urllib.request.getproxies_environment():
        return {}
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    value = ",".join([*filter(None, [direct]), "127.0.0.1"])
    return {"no_proxy": value, "NO_PROXY": value}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _last_lines(lines: Iterable[str]) -> str:
    return "\n".join(f"  | {line}" for line in list(lines)[-LOG_LINES_SHOWN:])
