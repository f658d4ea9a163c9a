"""`headwater transfer` as a person runs it: its result, its refusals, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import unquote

import pytest
from tests.e2e.conftest import Cli, Done
from tests.emulators.every_store import STORES, Place, place
from tests.emulators.faults import Fault, faulty

from headwater.infra.storage.filesystems import canonical, open_filesystem
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

POINT_SECONDS = 60.0
OBJECTS = 40
LARGE = "large.bin"
LARGE_BYTES = 40 * MIB
"""Above the size that goes up in one request."""


def test_a_folder_is_copied_and_its_receipt_is_one_object(alone: Cli) -> None:
    fill(alone.folder / "in")

    dry = alone("transfer", "in", "out", "--dry-run", "--json")
    first = alone("transfer", "in", "out", "--json")
    again = alone("transfer", "in", "out")

    assert (dry.code, dry.json["status"], dry.json["objects"]) == (0, "planned", 3)
    assert (first.code, first.json["status"]) == (0, "copied")
    assert (first.json["objects"], first.json["copied"], first.json["read_back"]) == (3, 3, 3)
    assert "copy 3 objects, 22 B, from" in first.err
    assert again.code == 0
    assert "already there" in again.out
    assert (dry.json["price"]["usd"], first.json["price"]["usd"]) == (0, 0)
    assert "price     free: no cloud bills for it" in again.out
    assert contents(alone.folder / "out") == contents(alone.folder / "in")


def test_refusals_say_what_to_do_and_exit_with_2(alone: Cli) -> None:
    fill(alone.folder / "in")
    fill(alone.folder / "other")
    (alone.folder / "other" / "a.csv").write_bytes(b"other\n")

    assert refused(alone("transfer", "in", "other")) == (
        f"error: other content is at the target: {alone.folder}/other/a.csv\n"
        "  -> add --overwrite to replace it, or name another target"
    )
    assert "lie in one another" in refused(alone("transfer", "in", "in/copy"))
    assert "is no table" in refused(alone("transfer", "in", "out", "--version", "3"))
    assert not (alone.folder / "out").exists()
    assert alone("transfer", "in", "other", "--overwrite").code == 0
    assert contents(alone.folder / "other") == contents(alone.folder / "in")


def test_a_copy_beyond_a_limit_is_refused_and_made_when_told(
    alone: Cli, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = place("s3", request, tmp_path)
    with reachable(source):
        uri = Uri.parse(source.root) / "a.bin"
        open_filesystem(uri).write(uri, bytes(1000))
    (alone.folder / "profiles").mkdir()
    (alone.folder / "profiles" / "mine.toml").write_text(
        'version = 1\nextends = "local"\n[limits]\nusd_per_run = 0\n'
        f'[[locations]]\nprefix = "{source.root}"\nlocation = "us-east-1"\n'
    )
    command = ("transfer", source.root, "out", "--profile", "mine")
    line = "about $0.00 egress of aws us-east-1 to the internet, $0.00 requests; prices of 2026-"

    refusal = refused(alone(*command, env=source.variables))
    copied = alone(*command, "--yes", "--json", env=source.variables)

    assert line in refusal
    assert "beyond limits.usd_per_run = 0 of cluster profile 'mine'" in refusal
    assert (copied.code, copied.json["copied"]) == (0, 1), copied
    assert f"price     {line}" in copied.err
    assert copied.json["price"]["egress"][0]["to"] == "internet"
    assert 0 < copied.json["price"]["usd"] < 0.01


def test_ctrl_c_leaves_what_was_checked_for_the_next_run(
    alone: Cli, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    copy = Copy(alone, "local", "s3", request, tmp_path)
    with copy.held("PUT", "/20.csv") as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, json.loads(out)["status"]) == (130, "interrupted")
    assert "run the same command again: copies that were checked are kept" in err
    copy.finish(copied_at_most=OBJECTS + 1 - 5)


POINTS = {
    "in a small object": ("PUT", "/20.csv"),
    "in the first part": ("PUT", "partNumber=1"),
    "in the second part": ("PUT", "partNumber=2"),
    "before an upload in parts is complete": ("POST", "uploadId="),
    "in a block": ("PUT", "comp=block&"),
    "before the blocks are a blob": ("PUT", "comp=blocklist"),
    "in a chunk": ("PUT", "upload_id="),
    "when the manifest is brought together": ("PUT", "manifest.jsonl"),
    "when pieces of the manifest go": ("DELETE", "_headwater"),
    "while an object is read": ("GET", "/20.csv"),
}

PAIRS = {
    "in a small object": [("s3", "azure"), ("local", "s3"), ("s3", "s3")],
    "in the first part": [("gcs", "s3")],
    "in the second part": [("gcs", "s3"), ("azure", "s3")],
    "before an upload in parts is complete": [("gcs", "s3")],
    "in a block": [("s3", "azure")],
    "before the blocks are a blob": [("s3", "azure")],
    "in a chunk": [("s3", "gcs")],
    "when the manifest is brought together": [("local", "s3"), ("gcs", "azure")],
    "when pieces of the manifest go": [("local", "s3"), ("local", "gcs")],
    "while an object is read": [("s3", "local"), ("azure", "gcs")],
}

QUICK = {("in the second part", "gcs", "s3")}
"""The rest is for the trials."""

CASES = [
    pytest.param(
        point,
        one,
        other,
        fault,
        id=f"{point}, {one} to {other}, {fault.name.lower()}",
        marks=() if (point, one, other) in QUICK and fault is Fault.HELD else pytest.mark.trial,
    )
    for point, pairs in PAIRS.items()
    for one, other in pairs
    for fault in (Fault.HELD, Fault.HELD_ANSWER)
]


@pytest.mark.parametrize(("point", "one", "other", "fault"), CASES)
def test_a_killed_copy_and_the_same_command_end_as_an_undisturbed_one(
    point: str,
    one: str,
    other: str,
    fault: Fault,
    alone: Cli,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    copy = Copy(alone, one, other, request, tmp_path)

    with copy.held(*POINTS[point], fault=fault) as process:
        if "manifest" not in point:
            time.sleep(3)  # so that what was checked before is told of
        process.kill()
        process.communicate(timeout=15)
    assert process.returncode == -signal.SIGKILL

    copy.finish(copied_at_most=OBJECTS + 1 - 5)


@pytest.mark.trial
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("seconds", [0.6, 0.9, 1.2, 1.5, 2.0])
def test_kills_at_any_time_and_the_same_command(
    store: str, seconds: float, alone: Cli, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    copy = Copy(alone, "gcs", store, request, tmp_path)
    for _ in range(3):
        process = copy.start({})
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=15)

    copy.finish(copied_at_most=OBJECTS + 1)


MEASURED = """
import resource, sys
from headwater.infra.storage.transfer import TransferRequest, plan_transfer, run_transfer

run_transfer(plan_transfer(TransferRequest(*sys.argv[1:])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.trial
def test_memory_does_not_grow_with_the_object(alone: Cli) -> None:
    peaks = []
    for gib in (1, 4):
        with (alone.folder / "large").open("wb") as file:
            file.truncate(gib * 1024 * MIB)  # a hole, which reads as zeros
        command = [sys.executable, "-c", MEASURED, "large", f"copy-{gib}"]
        done = subprocess.run(
            command, cwd=alone.folder, env=alone.environment, capture_output=True, timeout=280
        )
        peaks.append(int(done.stdout))
        (alone.folder / f"copy-{gib}").unlink()

    assert peaks[1] < peaks[0] + 96, peaks  # in MiB; three parts


class Copy:
    """A copy from one store to another, through a network that can hold one request."""

    def __init__(
        self, cli: Cli, one: str, other: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        self.cli = cli
        self.source, self.target = (place(store, request, tmp_path) for store in (one, other))
        with reachable(self.source):
            root = Uri.parse(self.source.root)
            fs = open_filesystem(root)
            for n in range(OBJECTS):
                fs.write(root / f"{n:02}.csv", f"{n}\n".encode())
            path = tmp_path / LARGE
            path.write_bytes(os.urandom(LARGE_BYTES))
            fs.upload(path, root / LARGE)

    def start(self, urls: dict[str, str]) -> subprocess.Popen[str]:
        environment: dict[str, str] = {}
        for end in (self.source, self.target):
            environment |= end.environment(urls.get(end.url, end.url))
        command = ["transfer", self.source.root, self.target.root]
        return self.cli.start(*command, "--json", env=environment)

    @contextmanager
    def held(
        self, method: str, text: str, fault: Fault = Fault.HELD
    ) -> Iterator[subprocess.Popen[str]]:
        """The command, whose request with that text goes no further."""
        reached = Event()

        def choose(asked: str, path: str) -> Fault:
            return fault if asked == method and text in unquote(path) else Fault.NONE

        end = self.source if method == "GET" else self.target
        with faulty(end.url, choose, reached.set) as url:
            process = self.start({end.url: url})
            assert reached.wait(POINT_SECONDS), process.poll() or "the point was not reached"
            yield process

    def finish(self, *, copied_at_most: int) -> None:
        """The same command once more, undisturbed; the target is what the source is."""
        process = self.start({})
        out, err = process.communicate(timeout=120)
        done = Done(process.returncode, out, err, 0.0)
        assert done.code == 0, done
        assert done.json["objects"] == OBJECTS + 1
        assert done.json["copied"] <= copied_at_most
        source, target = held(self.source), held(self.target)
        assert {k: v for k, v in target.items() if not k.startswith("_headwater/")} == source
        with reachable(self.target):
            root = Uri.parse(self.target.root)
            assert list(open_filesystem(root).unfinished(root)) == []
        left = [name for name in target if name.startswith("_headwater/")]
        assert [name.rpartition("/")[2] for name in left] == ["manifest.jsonl"]


@contextmanager
def reachable(end: Place) -> Iterator[None]:
    """In the block this process reaches the store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in end.variables.items():
            patch.setenv(name, value)
        yield


def held(end: Place) -> dict[str, bytes]:
    with reachable(end):
        root = canonical(Uri.parse(end.root))
        fs = open_filesystem(root)
        return {root.relative(Uri.parse(ref.uri)): fs.read(ref) for ref in fs.list(root)}


def fill(folder: Path) -> None:
    (folder / "b").mkdir(parents=True)
    (folder / "a.csv").write_bytes(b"n,text\n1,x\n")
    (folder / "b" / "c.csv").write_bytes(b"n,text\n2,y\n")
    (folder / "empty").write_bytes(b"")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {path: data for path, data in found.items() if not path.startswith("_headwater/")}


def refused(done: Done) -> str:
    assert done.code == 2, done
    return done.err.partition("error: ")[1] + done.err.partition("error: ")[2].rstrip()
