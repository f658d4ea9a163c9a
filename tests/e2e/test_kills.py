"""`kill -9` of the driver wherever it hurts, then the same command: what no kill would have given.

Where a run is shows from outside: in what it leaves in the store, in the requests that a proxy in
front of the store holds, and in the user's own job, which waits while a file tells it to.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from urllib.parse import unquote

import polars as pl
import pytest
from tests.e2e.conftest import Cli, Done
from tests.e2e.test_interrupts import await_line, family, require_gone
from tests.emulators.every_store import STORES, Place, place
from tests.emulators.faults import Fault, faulty

from headwater.infra.errors import NotFound
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.uris import Uri

PARTS = 4
ROWS_IN_PART = 10
POINT_SECONDS = 120.0
QUIET_SECONDS = 1.0
NEVER = 10**6

JOB = """
import time
from pathlib import Path

import polars as pl
from headwater.tasks.jobs import job

HOLD = Path(__file__).parent / "hold"


def double(n: int) -> int:
    end = time.monotonic() + 100
    while HOLD.exists() and n >= int(HOLD.read_text() or 10**6) and time.monotonic() < end:
        HOLD.with_name("reached").touch()
        time.sleep(0.02)
    return 2 * n


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("k", "n", m=pl.col("n").map_elements(double, return_dtype=pl.Int64))


@job(scope="key", keys=["k"])
def keys(frame: pl.LazyFrame) -> pl.LazyFrame:
    return rows(frame).with_columns(total=pl.col("m").sum().over("k"))


def second(frame: pl.LazyFrame) -> pl.LazyFrame:
    later = pl.col("n").map_elements(lambda n: double(n + 1000) - 2000, return_dtype=pl.Int64)
    return frame.select("n", later=later)
"""
"""Rows from the number in the file ``hold`` on wait for as long as the file is there."""

GROUPS = """
version = 1
[[steps]]
kind = "aggregate"
by = ["k"]
aggs = [
    { name = "rows", function = "count" },
    { name = "total", function = "sum", column = "n" },
]
"""

PROFILES = {
    "threads": "processes = false\nworkers = 1\nthreads_per_worker = 4\n",
    # Less memory than the input has, so that its rows meet on the cluster.
    "little": "workers = 1\nthreads_per_worker = 4\nmemory_gib_per_worker = 0.02\n",
    "workers": "processes = true\nworkers = 2\nthreads_per_worker = 2\nmemory_gib_per_worker = 1\n",
}

ROWS_JOB = ("--job", "slow:rows")
KEYS_JOB = ("--job", "slow:keys")
GROUPS_JOB = ("--steps", "groups.toml")


@dataclass(frozen=True)
class Point:
    """Where a run is killed.

    Attributes:
        job: Options of the command.
        line: It has written a line with this text.
        hold: Rows from this number on wait in the job.
        left: The store holds this many files whose address has the text.
        request: Method and text of a request that is held.
        fault: Whether the request or its answer is held.
        stores: Where it can be told.
        resumed: Parts that were finished; ``None`` where that is left to chance.
        committed: The version is there already; ``None`` where that is left to chance.
    """

    job: tuple[str, ...] = ROWS_JOB
    line: str = ""
    hold: int = NEVER
    left: Mapping[str, int] = field(default_factory=dict)
    request: tuple[str, str] | None = None
    fault: Fault = Fault.HELD
    stores: tuple[str, ...] = STORES
    profiles: tuple[str, ...] = ("threads", "workers")
    resumed: int | None = None
    committed: bool | None = False


CREATION, COMMIT = (f"/_delta_log/{version:020d}.json" for version in (0, 1))
CLOUDS = STORES[1:]
NAMED = ("s3", "azure")
"""Where the path of each request names its object."""

POINTS = {
    "while Prefect's server starts": Point(line="start Prefect's server", resumed=0),
    "when the parts begin": Point(line="parts", hold=0, resumed=0),
    "in the first part": Point(hold=0, left={"/parts.json": 1}, resumed=0),
    "in the middle": Point(hold=20, left={"/part-0000": 2}, resumed=2),
    "in the last part": Point(hold=30, left={"/part-0000": 3}, resumed=3),
    "while a part is sent": Point(request=("PUT", "/table/data/part-"), stores=NAMED, resumed=None),
    "before a receipt": Point(request=("PUT", "/part-00002.json"), stores=NAMED),
    "after a receipt": Point(
        request=("PUT", "/part-00002.json"), fault=Fault.HELD_ANSWER, stores=NAMED
    ),
    "after the last receipt": Point(left={"/part-0000": PARTS}, stores=("local",), resumed=PARTS),
    "before the table": Point(request=("PUT", CREATION), stores=CLOUDS, resumed=PARTS),
    "in the new table": Point(
        request=("PUT", CREATION), fault=Fault.HELD_ANSWER, stores=CLOUDS, resumed=PARTS
    ),
    # Nothing holds a local file, and the commit may come before the kill.
    "when the table is new": Point(left={CREATION: 1}, stores=("local",), committed=None),
    "before the commit": Point(request=("PUT", COMMIT), stores=CLOUDS, resumed=PARTS),
    "in the commit": Point(
        request=("PUT", COMMIT), fault=Fault.HELD_ANSWER, stores=CLOUDS, committed=True
    ),
    "when the commit is there": Point(left={COMMIT: 1}, stores=("local",), committed=True),
    "while rows meet": Point(job=KEYS_JOB, hold=0, left={"/result.json": 1}, profiles=("little",)),
    "when some buckets are written": Point(
        job=KEYS_JOB, hold=30, left={"/part-0000": PARTS + 1}, profiles=("little",)
    ),
    "while states of groups meet": Point(job=GROUPS_JOB, left={"/groups-0.json": 1}),
    "in the second table": Point(
        job=(*ROWS_JOB, "--then", "SECOND=slow:second"), hold=1000, left={COMMIT: 1}, committed=True
    ),
}

QUICK = {("in the commit", "s3", "threads")}
"""The rest is for the trials."""

WITH_WORKERS = ("local", "s3")
"""What workers are to a killed driver does not hang on the store."""

CASES = [
    pytest.param(
        store,
        profile,
        name,
        id=f"{name}, {store}, {profile}",
        marks=() if case in QUICK else pytest.mark.trial,
    )
    for name, point in POINTS.items()
    for store in point.stores
    for profile in point.profiles
    if profile != "workers" or store in WITH_WORKERS
    for case in [(name, store, profile)]
]


class Killed:
    """One run on one store: killed at a point, and then run again.

    Args:
        cli: Runs the command.
        place: Where its source and its tables are.
        profile: What it runs on.
        point: Where it is killed.
    """

    def __init__(self, cli: Cli, place: Place, profile: str, point: Point) -> None:
        self.cli, self.place, self.point = cli, place, point
        self.profile = profile
        folder = cli.folder
        (folder / "profiles").mkdir()
        (folder / "profiles" / f"{profile}.toml").write_text(
            f'version = 1\n[cluster]\ngpu = "never"\n{PROFILES[profile]}'
        )
        (folder / "slow.py").write_text(JOB)
        (folder / "groups.toml").write_text(GROUPS)
        self.hold, self.reached = folder / "hold", folder / "reached"
        with self.reachable():
            self._fs = open_filesystem(Uri.parse(place.root))
            for part in range(PARTS):
                self._put_source(part)

    def _put_source(self, part: int) -> None:
        numbers = range(part * ROWS_IN_PART, (part + 1) * ROWS_IN_PART)
        # Small on disk and larger than the smallest part in memory: one part a file.
        text = [f"{'x' * 950_000}{n}" for n in numbers]
        path = self.cli.folder / "source.parquet"
        pl.DataFrame(
            {"k": [f"key-{part}"] * ROWS_IN_PART, "n": numbers, "text": text}
        ).write_parquet(path)
        self._fs.write(Uri.parse(f"{self.place.root}/source/{part}.parquet"), path.read_bytes())
        path.unlink()

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """In the block this process reaches the store."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.place.variables.items():
                patch.setenv(name, value)
            yield

    def address(self, name: str) -> str:
        return f"{self.place.root}/{name}"

    def command(self, to: str) -> list[str]:
        job = [text.replace("SECOND", self.address(f"{to}-second")) for text in self.point.job]
        what = ["run", "etl", "--source", self.address("source"), "--target", self.address(to)]
        return [*what, *job, "--profile", self.profile, "--json"]

    def run(self, to: str) -> Done:
        return self.cli(*self.command(to), env=self._environment(self.place.url), timeout=180)

    def _environment(self, url: str) -> dict[str, str]:
        # A part that waits must not take the only thread of the engine.
        return {**self.place.environment(url), "POLARS_MAX_THREADS": "4"}

    def kill(self) -> None:
        """Run the command, and kill its driver at the point."""
        with ExitStack() as stack:
            url, held = self.place.url, Event()
            if self.point.request is not None:
                url = stack.enter_context(faulty(url, self._fault, held.set))
            if self.point.hold < NEVER:
                self.hold.write_text(str(self.point.hold))
            process = self.cli.start(*self.command("table"), env=self._environment(url))
            if self.point.line:
                await_line(process, self.point.line)
            self._await_point(process, held)
            process.send_signal(signal.SIGSTOP)  # it goes no further while its family is counted
            children = family(process)
            process.kill()
            process.communicate(timeout=15)
            require_gone(children)
        assert process.returncode == -signal.SIGKILL
        self.hold.unlink(missing_ok=True)
        self._await_quiet()

    def _await_quiet(self) -> None:
        """Return when what the killed process had still sent has come to the store."""
        before: list[str] | None = None
        while before != (now := self.left()):
            before = now
            time.sleep(QUIET_SECONDS)

    def _fault(self, method: str, path: str) -> Fault:
        assert self.point.request is not None
        wanted, text = self.point.request
        return self.point.fault if method == wanted and text in unquote(path) else Fault.NONE

    def _await_point(self, process: subprocess.Popen[str], held: Event) -> None:
        end = time.monotonic() + POINT_SECONDS
        while not self._is_there(held):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the run did not come to the point"
            time.sleep(0.002)

    def _is_there(self, held: Event) -> bool:
        if self.point.request is not None and not held.is_set():
            return False
        if self.point.hold < NEVER and not self.point.line and not self.reached.exists():
            return False
        if not self.point.left:
            return True
        found = self.left()
        return all(
            sum(text in name for name in found) >= count for text, count in self.point.left.items()
        )

    def left(self) -> list[str]:
        """What the run has left beside its parts: receipts, lists and the log's entries."""
        with self.reachable():
            table = Uri.parse(self.address("table"))
            found = [*self._fs.list(table / "_headwater"), *self._fs.list(table / "_delta_log")]
        return [ref.uri for ref in found]

    def receipts(self) -> int:
        """Finished parts that the same command has to take up.

        Where rows meet, those are the parts of the result; the input is read again.
        """
        left = self.left()
        found = {int(name[-10:-5]) for name in left if "/_headwater/" in name and "/part-" in name}
        if self.point.job == ROWS_JOB or "--then" in self.point.job:
            return len(found)
        lists = [name for name in left if name.endswith("/result.json")]
        if not lists:
            return 0
        with self.reachable():
            text = self._fs.read(self._fs.stat(Uri.parse(lists[0])))
        return len(found & {part["index"] for part in json.loads(text)["parts"]})

    def receipt_texts(self) -> dict[str, bytes]:
        """What they say, for the message of a test that finds another number."""
        with self.reachable():
            return {
                name: self._fs.read(self._fs.stat(Uri.parse(name)))
                for name in self.left()
                if "/part-" in name and name.endswith(".json")
            }

    def rows(self, name: str) -> pl.DataFrame:
        """A table as another reader than ours sees it, sorted by all columns."""
        with self.reachable():
            uri = Uri.parse(self.address(name))
            frame = pl.scan_delta(
                self._fs.delta_uri(uri),
                storage_options=self._fs.delta_options(uri),
                credential_provider=None,
            ).collect()
        return frame.sort(frame.columns)

    def versions(self, name: str) -> list[int]:
        """Versions with rows; none where there is no table either."""
        with self.reachable():
            dataset = Dataset(Uri.parse(self.address(name)))
            try:
                snapshot = dataset.snapshot()
            except NotFound:
                return []
            found = [entry.version for entry in dataset.log()]
        assert (snapshot is None) == (not found)
        return found


@pytest.mark.parametrize(("store", "profile", "name"), CASES)
def test_a_killed_run_and_the_same_command_give_what_no_kill_would_have(
    headwater: Cli,
    alone: Cli,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    profile: str,
    name: str,
) -> None:
    point = POINTS[name]
    killed = Killed(headwater, place(store, request, tmp_path), profile, point)
    if point.line == "start Prefect's server":
        del headwater.environment["PREFECT_API_URL"]

    killed.kill()

    done, receipts = killed.receipts(), killed.receipt_texts()
    found = killed.versions("table")
    assert found in ([], [1])
    assert point.committed in (None, bool(found))
    if point.resumed is not None:
        assert done == point.resumed

    again = killed.run("table")
    assert again.code == 0, again.err
    if found:
        assert again.json["status"] == "already committed" or "--then" in point.job
    else:
        assert again.json["resumed_parts"] == done, receipts
    calm = killed.run("calm")
    assert calm.code == 0, calm.err
    tables = ["table", "table-second"] if "--then" in point.job else ["table"]
    for table in tables:
        expected = killed.rows(table.replace("table", "calm"))
        assert killed.rows(table).equals(expected)
        assert expected.height == (PARTS if point.job == GROUPS_JOB else PARTS * ROWS_IN_PART)
        assert killed.versions(table) == [1]
