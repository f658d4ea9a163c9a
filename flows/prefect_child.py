"""The process that serves a run's own Prefect API: ``python -m headwater.flows.prefect_child``.

It listens on a socket that its parent opened, keeps the user's ordinary Prefect database, and
ends when its parent ends, however that happens: a flow run that its parent left running is then
recorded as crashed. Where its start time goes, and what was cut:

- Imports are nearly all of it. The garbage collector is off until the application stands (about
  a fifth), and py-key-value's run-time type checks are off: they install an import hook under
  which every later module is compiled from source again.
- Block registration is off, since it imports every Prefect collection (prefect-dask, and so all
  of Dask). An ordinary ``prefect server start`` registers the blocks later.
- A new database costs about a hundred migrations. ``create_all`` is no way round them: Prefect's
  models declare an index twice and it fails. So the migrated, still empty database is kept once
  per Prefect version as a template, and a new database is a copy of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import platformdirs

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PARENT_POLL_SECONDS = 0.25
"""How often the child looks whether its parent is still its parent."""

ORPHAN_GRACE_SECONDS = 1.5
"""How long an orphaned server may take to store what it has before it is ended at once."""

RECORD_SECONDS = 0.5
"""How long an orphaned server may take to answer when it records a run's end."""

SHUTDOWN_GRACE_SECONDS = 4
"""How long open requests may take after the signal to stop."""

SET_STATE = re.compile(r"/api/flow_runs/([0-9a-f-]{36})/set_state")
"""Path by which a flow run reports a state."""

CHILD_SETTINGS = {
    "PY_KEY_VALUE_DISABLE_BEARTYPE": "true",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    # Off too, since the memo's key is computed from the imported collections even if
    # nothing is registered.
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    # Each state of a task is stored when it arrives, and a write that another server on the same
    # database got in the way of is tried again soon: the recorder's last write, when the server
    # stops, is tried only once.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""Environment of the server process.

What stores task runs, events, logs and artifacts stays on, and so do the user's automations:
they are idle coroutines here and cost no start time that could be measured.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on the inherited socket until the parent ends or a signal comes."""
    parser = argparse.ArgumentParser(prog="headwater.flows.prefect_child", description=__doc__)
    parser.add_argument("--fd", type=int, help="listening socket, inherited from the parent")
    parser.add_argument("--parent", type=int, help="process whose end ends this one")
    parser.add_argument("--build-template", action="store_true", help="only build the template")
    given = parser.parse_args(arguments)
    gc.disable()
    os.environ.update(CHILD_SETTINGS)
    if given.build_template:
        print(_build_template())
        return
    if given.fd is None or given.parent is None:
        parser.error("--fd and --parent are needed")
    listening = socket.socket(fileno=given.fd)
    runs: set[str] = set()
    watch = (given.parent, listening.getsockname()[1], runs)
    threading.Thread(target=_end_with, args=watch, daemon=True).start()
    _serve(listening, runs)


def template_path() -> Path:
    """Where the empty, migrated database of the installed Prefect version is kept."""
    from importlib.metadata import version

    return _cache_folder() / f"prefect-{version('prefect')}.db"


def prepare_database() -> bool:
    """Bring a database file to the installed Prefect's revision, quickly where that is possible.

    Returns:
        Whether the server must still migrate when it starts: no, but for PostgreSQL and for
        databases in memory, unless the user switched migrations off.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings().server.database
    url = settings.connection_url
    database = _sqlite_file(url.get_secret_value()) if url is not None else None
    if database is None or not settings.migrate_on_start:
        return settings.migrate_on_start
    template = template_path()
    with _one_at_a_time():
        is_new = not database.exists() or database.stat().st_size == 0
        if is_new and template.exists():
            _copy_into_place(template, database)
        if _revision(database) is None or _revision(database) != _revision(template):
            _migrate()
        if is_new and not template.exists():
            _keep_as_template(database, template)
    return False


def _serve(listening: socket.socket, runs: set[str]) -> None:
    """Serve until a signal comes; ``runs`` fills with the flow runs that report a state."""
    # Imported here, after the watch on the parent has begun: it takes seconds.
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_API_DATABASE_MIGRATE_ON_START, temporary_settings

    with temporary_settings({PREFECT_API_DATABASE_MIGRATE_ON_START: prepare_database()}):
        # `final` would only add a full garbage collection with the FastAPI of today.
        app = create_app(ephemeral=True)

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and (match := SET_STATE.fullmatch(scope["path"])):
                runs.add(match[1])
            await app(scope, receive, send)

        gc.freeze()
        gc.enable()
        config = uvicorn.Config(
            application,
            log_level="error",
            lifespan="on",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
    if not server.started:
        sys.exit(3)


def _end_with(parent: int, port: int, runs: set[str]) -> None:
    """End this process when ``parent`` has ended, and record that it took ``runs`` with it.

    The end of the pipe on stdin shows it at once; a process that the parent forked may hold that
    pipe open, so the parent's id is compared too. (The kernel's parent-death signal would be
    tied to the thread that started this process, and is Linux only.)
    """
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], PARENT_POLL_SECONDS)
        if readable and not os.read(0, 1):
            break
    for run in tuple(runs):
        try:
            _record_crash(port, run)
        except (OSError, http.client.HTTPException) as exc:
            print(f"flow run {run} stays as it is: {exc}", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_SECONDS)
    os._exit(1)


def _record_crash(port: int, run: str) -> None:
    """Set a flow run that nobody runs any more to Crashed, unless it has come to an end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RECORD_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/flow_runs/{run}")
        state = json.load(connection.getresponse()).get("state") or {}
        if state.get("type") in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}:
            return
        crashed = {"type": "CRASHED", "message": "The process that ran this flow was killed."}
        connection.request(
            "POST",
            f"/api/flow_runs/{run}/set_state",
            json.dumps({"state": crashed, "force": True}),
            {"Content-Type": "application/json"},
        )
        connection.getresponse().read()


def _build_template() -> Path:
    """The template's path, after migrating a new database if there is no template yet."""
    template = template_path()
    with _one_at_a_time():
        if not template.exists():
            with tempfile.TemporaryDirectory(prefix="headwater-prefect-") as folder:
                database = Path(folder) / "prefect.db"
                # Read when Prefect is imported, which happens in _migrate.
                os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = (
                    f"sqlite+aiosqlite:///{database}"
                )
                _migrate()
                _keep_as_template(database, template)
    return template


def _cache_folder() -> Path:
    folder = Path(platformdirs.user_cache_dir("headwater"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold the lock under which databases are made and migrated."""
    with (_cache_folder() / "prefect-database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sqlite_file(url: str) -> Path | None:
    """The database file that ``url`` names, or ``None`` where it names none."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    name = parsed.database
    if parsed.get_backend_name() != "sqlite" or not name:
        return None
    return None if name.startswith((":memory:", "file:")) else Path(name)


def _migrate() -> None:
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())


def _revision(database: Path) -> str | None:
    """The one migration that ``database`` is at; ``None`` if it has none or cannot be read."""
    if not database.exists():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)
        ) as db:
            rows = db.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return None
    return str(rows[0][0]) if len(rows) == 1 else None


def _keep_as_template(database: Path, template: Path) -> None:
    """Leave a compact copy of the still empty ``database`` as ``template``, whole or not at all."""
    draft = template.with_suffix(f".{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("VACUUM INTO ?", (str(draft),))
    with contextlib.closing(sqlite3.connect(draft)) as db:
        is_empty = _is_empty(db)
    if is_empty:
        draft.replace(template)
    else:  # another server has begun to use the new database
        draft.unlink()


def _is_empty(db: sqlite3.Connection) -> bool:
    """Whether no table but the one that names the revision holds a row."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return not any(
        db.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()  # noqa: S608  (names of the schema)
        for (name,) in tables
        if name != "alembic_version"
    )


def _copy_into_place(template: Path, database: Path) -> None:
    """Make ``database`` a copy of ``template``, unless another process has made one meanwhile."""
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = database.with_name(f"{database.name}.{os.getpid()}.tmp")
    shutil.copyfile(template, draft)
    with contextlib.closing(sqlite3.connect(draft)) as db:
        # As Prefect sets it; otherwise two first servers would both try to switch.
        db.execute("PRAGMA journal_mode = WAL")
    try:
        # A link, and not a rename: it never replaces what is there. Where it fails, also for
        # want of links in the filesystem, the migrations do the work in place.
        with contextlib.suppress(OSError):
            os.link(draft, database)
    finally:
        draft.unlink()


if __name__ == "__main__":
    main()
