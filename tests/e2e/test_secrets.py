"""What a run leaves: no secret anywhere, and in a green run's log no error and no warning."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus
from uuid import uuid4

import polars as pl
import pytest
from tests.e2e.conftest import Cli, Done, Prefect
from tests.e2e.test_interrupts import family, require_gone
from tests.emulators.azure import KEY
from tests.emulators.every_store import STORES, Place, place
from tests.emulators.faults import Fault, faulty

from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

NOISE = r"(?i)traceback|warn|error|exception|was destroyed|never awaited|unclosed|critical"

WARNING = 30
"""Prefect's level of a log record; those above are worse."""

PROFILES = {
    "threads": "processes = false\nworkers = 1\nthreads_per_worker = 4\n",
    # Less memory than the input has, so that rows meet on the cluster.
    "little": "workers = 1\nthreads_per_worker = 4\nmemory_gib_per_worker = 0.02\n",
    "workers": "processes = true\nworkers = 2\nthreads_per_worker = 2\nmemory_gib_per_worker = 1\n",
}

JOB = """
import time
from pathlib import Path

import polars as pl
from headwater.tasks.jobs import job

HOLD = Path(__file__).parent / "hold"


def waited(n: int) -> int:
    end = time.monotonic() + 100
    while HOLD.exists() and time.monotonic() < end:
        HOLD.with_name("reached").touch()
        time.sleep(0.02)
    return n


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("k", n=pl.col("n").map_elements(waited, return_dtype=pl.Int64))


@job(scope="key", keys=["k"])
def keys(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("k", total=pl.col("n").sum().over("k"))
"""

QUICK = {("s3", "workers", "rows")}
"""The rest is for the trials."""

CASES = [
    pytest.param(
        store,
        profile,
        job,
        id=f"{store}, {profile}, {job}",
        marks=() if (store, profile, job) in QUICK else pytest.mark.trial,
    )
    for store in STORES
    for profile, job in [("threads", "rows"), ("workers", "rows"), ("little", "keys")]
]


class Watched:
    """Runs on one store with secrets in every place where one can be.

    Attributes:
        secrets: All of them.
    """

    def __init__(self, cli: Cli, place: Place, profile: str, job: str, folder: Path) -> None:
        self.cli, self.place, self.folder = cli, place, folder
        self.profile, self.job = profile, job
        self._secrets_folder = folder / "secrets"
        self._secrets_folder.mkdir()
        (cli.folder / "profiles").mkdir()
        (cli.folder / "profiles" / f"{profile}.toml").write_text(
            f'version = 1\n[cluster]\ngpu = "never"\n{PROFILES[profile]}'
        )
        (cli.folder / "slow.py").write_text(JOB)
        self.hold, self.reached = cli.folder / "hold", cli.folder / "reached"
        self.secrets: list[str] = []
        self._variables = self._with_secrets()
        with self.reachable():
            self._fs = open_filesystem(Uri.parse(place.root))
            for part in range(4):
                self._put_source(part)

    def _canary(self) -> str:
        self.secrets.append(f"canary/{uuid4().hex}+")
        return self.secrets[-1]

    def _with_secrets(self) -> dict[str, str]:
        """Variables of the run: what each SDK and Dask take secrets from."""
        files = {
            name: self._secrets_folder / name for name in ("aws", "google.json", "dask/dask.yaml")
        }
        (self._secrets_folder / "dask").mkdir()
        files["aws"].write_text(
            f"[other]\naws_access_key_id = other\naws_secret_access_key = {self._canary()}\n"
        )
        files["google.json"].write_text(json.dumps({"private_key": self._canary()}))
        files["dask/dask.yaml"].write_text(f"canary: {{password: '{self._canary()}'}}\n")
        given = dict(self.place.variables)
        if self.place.store == "s3":  # the server takes any
            given["AWS_SECRET_ACCESS_KEY"] = self._canary()
        if self.place.store == "azure":
            self.secrets.append(KEY)
        return {
            "AZURE_CLIENT_SECRET": self._canary(),
            "AWS_SHARED_CREDENTIALS_FILE": str(files["aws"]),
            "GOOGLE_APPLICATION_CREDENTIALS": str(files["google.json"]),
            "DASK_CONFIG": str(files["dask/dask.yaml"].parent),
            "DASK_CANARY__TOKEN": self._canary(),
            "POLARS_MAX_THREADS": "4",
            **{k: v for k, v in given.items() if v != os.devnull},
        }

    def _put_source(self, part: int) -> None:
        # Small on disk and larger than the smallest part in memory: one part a file.
        text = [f"{'x' * 950_000}{n}" for n in range(10)]
        path = self.cli.folder / "source.parquet"
        pl.DataFrame({"k": [f"key-{part}"] * 10, "n": range(10), "text": text}).write_parquet(path)
        self._fs.write(Uri.parse(f"{self.place.root}/source/{part}.parquet"), path.read_bytes())
        path.unlink()

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """In the block this process reaches the store."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.place.variables.items():
                patch.setenv(name, value)
            yield

    def environment(self, **more: str) -> dict[str, str]:
        return self._variables | more

    def through(self, url: str) -> dict[str, str]:
        """Variables that take a run to the store by way of ``url``."""
        there, here = self.place.variables, self.place.environment(url)
        return {name: value for name, value in here.items() if value != there[name]}

    @property
    def command(self) -> list[str]:
        where = ["--source", f"{self.place.root}/source", "--target", f"{self.place.root}/table"]
        return ["run", "etl", *where, "--job", f"slow:{self.job}", "--profile", self.profile]

    def run(self, *options: str, env: Mapping[str, str]) -> Done:
        return self.cli(*self.command, *options, env=dict(env), timeout=180)

    def kill_in_the_middle(self, env: Mapping[str, str]) -> str:
        """Kill a run while its parts are under way; gives what it had said."""
        self.hold.touch()
        process = self.cli.start(*self.command, "--debug", env=dict(env))
        end = time.monotonic() + 120
        while not self.reached.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the run did not come to its parts"
            time.sleep(0.02)
        children = family(process)
        process.kill()
        said = "".join(process.communicate(timeout=15))
        require_gone(children)
        assert process.returncode == -signal.SIGKILL
        self.hold.unlink()
        return said

    def denied(self) -> Done:
        """A run that the store refuses, with all logs on."""
        with faulty(self.place.url, lambda method, path: Fault.DENIED) as url:
            env = self.environment(**LOUD) | self.through(url)
            done = self.run("--debug", "--again", env=env)
        assert done.code != 0
        assert re.search("may not|denied", done.err, re.IGNORECASE), done.err
        return done

    def left(self) -> Iterator[tuple[str, bytes]]:
        """Every file that runs left on this machine, and every object in the store."""
        for path in self.folder.rglob("*"):
            if path.is_file() and self._secrets_folder not in path.parents:
                yield str(path), path.read_bytes()
        with self.reachable():
            for ref in self._fs.list(Uri.parse(self.place.root)):
                yield ref.uri, self._fs.read(ref)

    def require_secret(self, *said: str) -> None:
        """No secret is in what was said or left, in none of the ways in which it may be written."""
        forms = {
            form.encode()
            for secret in self.secrets
            for form in (
                secret,
                quote(secret, safe=""),
                quote_plus(secret),
                json.dumps(secret)[1:-1],
                base64.b64encode(secret.encode()).decode(),
                secret.replace("/", "\\/"),
            )
        }
        found = [("output", "\n".join(said).encode()), *self.left()]
        assert len(found) > 4
        told = {name for name, data in found for form in forms if form in data}
        assert not told


@pytest.mark.parametrize(("store", "profile", "job"), CASES)
def test_a_green_run_makes_no_noise_and_tells_no_secret(
    headwater: Cli,
    prefect_server: Prefect,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    profile: str,
    job: str,
) -> None:
    where = place(store, request, tmp_path)
    watched = Watched(headwater, where, profile, job, tmp_path)
    # What Dask would say is kept off the terminal, so it is asked for here.
    env = watched.environment(DASK_LOGGING__DISTRIBUTED="warning")

    done = watched.run("--json", env=env)

    assert done.code == 0, done.err
    assert done.json["status"] == "committed"
    assert not re.search(NOISE, done.err), done.err
    records = prefect_server.of_run("logs", prefect_server.last_run()["id"], limit=200)
    assert records
    assert [r["message"] for r in records if r["level"] >= WARNING] == []
    watched.require_secret(done.out, done.err, json.dumps(records))


LOUD = {
    "DASK_LOGGING__DISTRIBUTED": "debug",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_DEBUG_MODE": "true",
}
"""Every log that a user can turn on."""


def test_a_run_that_is_denied_tells_no_secret(
    alone: Cli, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = place("s3", request, tmp_path)
    watched = Watched(alone, where, "threads", "rows", tmp_path)

    done = watched.denied()

    watched.require_secret(done.out, done.err)


@pytest.mark.trial
@pytest.mark.parametrize("profile", ["threads", "workers"])
@pytest.mark.parametrize("store", STORES)
def test_runs_that_are_killed_or_denied_with_all_logs_on_tell_no_secret(
    alone: Cli, request: pytest.FixtureRequest, tmp_path: Path, store: str, profile: str
) -> None:
    where = place(store, request, tmp_path)
    watched = Watched(alone, where, profile, "rows", tmp_path)
    env = watched.environment(**LOUD)

    said = [watched.kill_in_the_middle(env)]
    watched.require_secret(*said)
    done = watched.run("--debug", "--fresh", env=env)
    assert done.code == 0, done.err
    said += [done.out, done.err]
    if where.url:
        denied = watched.denied()
        said += [denied.out, denied.err]
    watched.require_secret(*said)
