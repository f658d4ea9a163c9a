"""What travels to workers: no secret is in a request, a task, a receipt or an error, pickled."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import polars as pl
import pytest
from dask import config as dask_config
from distributed.diagnostics.plugin import SchedulerPlugin
from tests.emulators.azure import KEY
from tests.emulators.every_store import CLOUDS, Place, place

from headwater.infra import clusters
from headwater.infra.clusters import Cluster
from headwater.infra.errors import HeadwaterError
from headwater.infra.models import Candidate, Device, JobRequest, Plan, StepsText, to_jsonable
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import prepare
from headwater.tasks.process import process

CANARY = "canary-4f1c9be2d07a"

STEPS = {
    "rows": 'kind = "derive"\ncolumns = { m = "n + 1" }',
    "meets": 'kind = "deduplicate"\ncolumns = ["n"]\norder_by = ["n"]',
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.open(Plan((Candidate("local", Device.CPU, False, 1, 2, 4.0),))) as cluster:
        yield cluster


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Place], str]]:
    """Sets secrets wherever one can be for a store; gives the one that is used."""
    credentials = tmp_path / "google.json"
    credentials.write_text(json.dumps({"type": "service_account", "private_key": CANARY}))

    def enter(where: Place) -> str:
        variables: dict[str, str] = {
            **where.variables,
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "AZURE_CLIENT_SECRET": CANARY,
            "AWS_SESSION_TOKEN": CANARY,
            "AWS_SECRET_ACCESS_KEY": CANARY,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return KEY if where.store == "azure" else CANARY

    with dask_config.set({"canary.password": CANARY}):
        yield enter


class Overheard(SchedulerPlugin):
    """Every task that the scheduler was given, pickled."""

    name = "overheard"

    def __init__(self, scheduler: Any) -> None:
        self.tasks: list[bytes] = []
        self.scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        task = self.scheduler.tasks.get(key)
        if finish == "processing" and task is not None:
            self.tasks.append(cloudpickle.dumps((task.key, task.run_spec, task.annotations)))


def holds(data: bytes, *secrets: str) -> bool:
    return any(secret.encode() in data for secret in secrets)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    "store", ["s3", *(pytest.param(s, marks=pytest.mark.trial) for s in CLOUDS[1:])]
)
def test_no_secret_is_in_what_a_run_sends(
    cluster: Cluster,
    secrets: Callable[[Place], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    steps: str,
) -> None:
    where = place(store, request, tmp_path)
    secret = secrets(where)
    fs = open_filesystem(Uri.parse(where.root))
    for number in range(3):
        pl.DataFrame({"n": range(number, 200)}).write_parquet(tmp_path / "a.parquet")
        fs.upload(tmp_path / "a.parquet", Uri.parse(f"{where.root}/in/{number}.parquet"))
    text = StepsText("steps.toml", f"version = 1\n[[steps]]\n{STEPS[steps]}")
    asked = JobRequest((f"{where.root}/in",), f"{where.root}/out", steps=text)
    local: Any = cluster.client.cluster
    scheduler = local.scheduler  # in this process
    heard = Overheard(scheduler)
    scheduler.add_plugin(heard)
    try:
        prepared = prepare(asked, folder=tmp_path)
        done = process(cluster.client, prepared, cluster.candidate, cut_bytes=800)
    finally:
        scheduler.remove_plugin(heard.name)

    assert heard.tasks
    assert any(b"out" in task for task in heard.tasks), "the tasks are overheard with their content"
    sent = [*heard.tasks, pickle.dumps(prepared), pickle.dumps(done), repr(prepared).encode()]
    sent += [json.dumps(to_jsonable(receipt)).encode() for receipt in done.receipts]
    sent += [fs.read(ref) for ref in fs.list(Uri.parse(f"{where.root}/out/_headwater"))]
    assert not any(holds(data, secret, CANARY) for data in sent)


@pytest.mark.parametrize("store", CLOUDS)
def test_no_secret_is_in_an_error(
    secrets: Callable[[Place], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = place(store, request, tmp_path)
    secret = secrets(where)
    nowhere: Mapping[str, str] = where.environment("http://127.0.0.1:9")
    missing = Uri.parse(where.root).bucket
    attempts: list[Callable[[], object]] = [
        lambda: prepare(JobRequest((f"{where.root}/in",), f"{where.root}/out"), folder=tmp_path),
        lambda: open_filesystem(Uri.parse(where.root)).stat(Uri.parse(f"{where.root}/none")),
        lambda: open_filesystem(Uri.parse(where.root)).write(
            Uri.parse(where.root.replace(missing, f"{missing}-not")) / "a", b""
        ),
    ]
    for attempt in attempts:
        require_clean(attempt, secret)
    monkeypatch.setattr("headwater.infra.storage.filesystems.objects.PAUSE_SECONDS", 0.001)
    for name, value in nowhere.items():
        if name != "AWS_SECRET_ACCESS_KEY" and value != where.variables[name]:
            monkeypatch.setenv(name, value)
    require_clean(attempts[1], secret)


def require_clean(attempt: Callable[[], object], secret: str) -> None:
    with pytest.raises(HeadwaterError) as caught:
        attempt()
    seen: BaseException | None = caught.value
    while seen is not None:
        assert not holds(f"{seen!s} {seen!r}".encode(), secret, CANARY)
        seen = seen.__cause__ or seen.__context__
    assert not holds(pickle.dumps(caught.value), secret, CANARY)
