"""Verified copies between every two stores, and what happens when a copy goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import google_crc32c
import pytest
from tests.emulators.every_store import CLOUDS, STORES, Place, place
from tests.emulators.faults import Fault, HalfOfAll, faulty

from headwater.infra.errors import (
    AccessDenied,
    DamagedCopy,
    InvalidUri,
    NotFound,
    Overlap,
    SourceChanged,
    StorageError,
    StoreUnavailable,
    TargetExists,
)
from headwater.infra.storage.filesystems import canonical, open_filesystem
from headwater.infra.storage.transfer import (
    TransferReceipt,
    TransferRequest,
    Unit,
    plan_transfer,
    run_transfer,
)
from headwater.infra.storage.transfer.run import OBJECTS_AT_ONCE
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

PART_BYTES = 5 * MIB
"""The least that S3 takes as a part."""

SMALL, LARGE, EMPTY, ODD = "a.csv", "deep/large.bin", "nothing", "odd #1 50% é.csv"

PAIRS = [(one, other) for one in STORES for other in STORES]

QUICK = {
    ("local", "local"),
    ("local", "s3"),
    ("s3", "s3"),
    ("s3", "gcs"),
    ("gcs", "gcs"),
    ("gcs", "azure"),
    ("azure", "azure"),
    ("azure", "local"),
}
"""Each store at each end; the other pairs are for the trials."""

BY_STORE = {("s3", "s3"), ("gcs", "gcs"), ("azure", "azure")}


@dataclass(frozen=True)
class Ends:
    """Two new places and what the first holds."""

    source: Place
    target: Place
    objects: dict[str, bytes]

    def copy(self, **options: bool) -> TransferReceipt:
        return run_transfer(plan_transfer(self.request(**options)))

    def request(self, **options: bool) -> TransferRequest:
        return TransferRequest(self.source.root, self.target.root, **options)

    def put(self, path: str, data: bytes) -> None:
        write(self.source, path, data)


def write(end: Place, path: str, data: bytes) -> None:
    uri = Uri.parse(end.root) / path
    open_filesystem(uri).write(uri, data)


def held(end: Place) -> dict[str, bytes]:
    """What an end holds, without the manifests."""
    root = canonical(Uri.parse(end.root))
    fs = open_filesystem(root)
    found = {root.relative(Uri.parse(ref.uri)): fs.read(ref) for ref in fs.list(root)}
    return {path: data for path, data in found.items() if not path.startswith("_headwater/")}


def manifest(receipt: TransferReceipt) -> dict[str, dict[str, str]]:
    uri = Uri.parse(receipt.manifest)
    fs = open_filesystem(uri)
    _, *lines = fs.read(fs.stat(uri)).decode().splitlines()
    return {row["path"]: row for row in map(json.loads, lines)}


def new_ends(
    one: str, other: str, request: pytest.FixtureRequest, tmp_path: Path, *, large: bool = True
) -> Ends:
    objects = {SMALL: b"n\n1\n", EMPTY: b"", ODD: b"odd"}
    if large:
        objects[LARGE] = os.urandom(PART_BYTES + 1000)
    ends = Ends(place(one, request, tmp_path), place(other, request, tmp_path), objects)
    patch = request.getfixturevalue("monkeypatch")
    for end in (ends.source, ends.target):
        for name, value in end.variables.items():
            patch.setenv(name, value)
    patch.setattr("headwater.infra.storage.transfer.contents.PART_BYTES", PART_BYTES)
    patch.setattr("headwater.infra.storage.filesystems.objects.MAX_PAUSE_SECONDS", 0.01)
    for path, data in objects.items():
        ends.put(path, data)
    return ends


@contextmanager
def behind(end: Place, choose: HalfOfAll | Script) -> Iterator[None]:
    """The end as it is reached through a network that fails."""
    with pytest.MonkeyPatch.context() as patch, faulty(end.url, choose) as url:
        for name, value in end.environment(url).items():
            patch.setenv(name, value)
        yield


class Script:
    """Has one fault happen to requests of some methods with a text in their path."""

    def __init__(self, fault: Fault, methods: str, text: str, times: int = 1) -> None:
        self.fault, self.methods, self.text, self.left = fault, methods, text, times

    def __call__(self, method: str, path: str) -> Fault:
        if method in self.methods.split() and self.text in unquote(path) and self.left:
            self.left -= 1
            return self.fault
        return Fault.NONE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.trial, id="-to-".join(pair))
        for pair in PAIRS
    ],
)
def test_a_folder_is_copied_checked_and_not_copied_again(
    one: str, other: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends(one, other, request, tmp_path)

    receipt = ends.copy()
    again = ends.copy()

    assert held(ends.target) == ends.objects
    assert (receipt.unit, receipt.copied, receipt.objects) == (Unit.FOLDER, 4, 4)
    assert receipt.copied_bytes == sum(map(len, ends.objects.values()))
    rows = manifest(receipt)
    for path, data in ends.objects.items():
        assert rows[path]["crc32c"] == f"{google_crc32c.value(data):08x}"
        if rows[path]["sha256"] or (one, other) not in BY_STORE:
            assert rows[path]["sha256"] == hashlib.sha256(data).hexdigest()
    assert receipt.by_store == (4 if (one, other) in BY_STORE else 0)
    if other == "local" or (one, other) == ("azure", "azure"):
        assert receipt.read_back == 4
    elif (one, other) not in BY_STORE:
        assert receipt.read_back == 0
    assert (again.copied, again.objects) == (0, 4)


@pytest.mark.parametrize("store", STORES)
def test_what_no_manifest_tells_of_is_compared(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("gcs", store, request, tmp_path, large=False)
    write(ends.target, SMALL, ends.objects[SMALL])

    plan = plan_transfer(ends.request())
    receipt = run_transfer(plan)

    assert (set(plan.kept), plan.found, receipt.copied) == ({SMALL}, 1, 2)
    assert held(ends.target) == ends.objects
    assert plan_transfer(ends.request()).found == 0


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("content", [b"n\n2\n", b"longer than before"], ids=["same size", "other"])
def test_other_content_is_refused_before_a_byte_moves_or_replaced_when_told(
    store: str, content: bytes, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("gcs", store, request, tmp_path, large=False)
    write(ends.target, SMALL, content)

    with pytest.raises(TargetExists, match=r"other content.*a\.csv"):
        ends.copy()
    assert held(ends.target) == {SMALL: content}

    ends.copy(overwrite=True)
    assert held(ends.target) == ends.objects


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("path", [SMALL, LARGE])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacing"])
def test_what_another_writer_has_put_since_the_plan_is_kept(
    store: str, path: str, replaces: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", store, request, tmp_path)
    if replaces:
        write(ends.target, path, b"old")
    plan = plan_transfer(ends.request(overwrite=True))
    write(ends.target, path, b"theirs")

    with pytest.raises(TargetExists, match="another writer"):
        run_transfer(plan)

    assert held(ends.target)[path] == b"theirs"


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("path", [SMALL, LARGE])
def test_a_source_that_changes_is_named_and_nothing_of_it_shows(
    store: str, path: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends(store, "gcs" if store != "gcs" else "local", request, tmp_path)
    plan = plan_transfer(ends.request())
    ends.put(path, b"changed meanwhile")

    with pytest.raises(SourceChanged, match=path.rpartition("/")[2]):
        run_transfer(plan)

    assert path not in held(ends.target)
    ends.copy()
    assert held(ends.target) == ends.objects | {path: b"changed meanwhile"}


@pytest.mark.parametrize("store", CLOUDS)
def test_a_source_that_changes_is_not_copied_by_its_store(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends(store, store, request, tmp_path, large=False)
    plan = plan_transfer(ends.request())
    ends.put(SMALL, b"changed meanwhile")

    with pytest.raises(SourceChanged, match=r"a\.csv"):
        run_transfer(plan)

    assert SMALL not in held(ends.target)


def test_what_s3_copies_in_parts_is_exact(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = new_ends("s3", "s3", request, tmp_path)
    for name in ("COPY_BYTES", "COPY_PART_BYTES"):
        monkeypatch.setattr(f"headwater.infra.storage.filesystems.aws.{name}", PART_BYTES)
    plan = plan_transfer(ends.request())

    receipt = run_transfer(plan)

    assert (receipt.by_store, receipt.copied) == (4, 4)
    assert held(ends.target) == ends.objects
    root = Uri.parse(ends.target.root)
    etag = open_filesystem(root).stat(root / LARGE).version
    assert etag.endswith("-2")


def test_who_may_not_remove_anything_can_copy_all_the_same(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", "gcs", request, tmp_path, large=False)
    denied = Script(Fault.DENIED, "DELETE", "", times=10**6)

    with behind(ends.target, denied):
        first = ends.copy()
        again = ends.copy()

    assert (first.copied, again.copied, again.objects) == (3, 0, 3)
    assert denied.left < 10**6


FAULTS = (Fault.BUSY, Fault.LOST_ANSWER, Fault.CUT_BODY, Fault.DROPPED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            *pair,
            marks=() if pair == ("gcs", "azure") else pytest.mark.trial,
            id="-to-".join(pair),
        )
        for pair in PAIRS
        if pair != ("local", "local")
    ],
)
def test_a_copy_is_exact_though_half_of_all_calls_fail(
    one: str, other: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends(one, other, request, tmp_path)
    if other == "azure" or one == "azure":
        request.getfixturevalue("monkeypatch").setattr(
            "headwater.infra.storage.filesystems.objects.PAUSE_SECONDS", 0.001
        )
    faults = HalfOfAll(*FAULTS)

    with pytest.MonkeyPatch.context() as patch:
        urls: dict[str, str] = {}
        with faulty_ends(ends, faults, urls):
            for end in (ends.source, ends.target):
                if end.url:
                    for name, value in end.environment(urls[end.url]).items():
                        patch.setenv(name, value)
            receipt = ends.copy()

    assert faults.failed > 5
    assert receipt.store_retries > 0
    assert held(ends.target) == ends.objects


@contextmanager
def faulty_ends(ends: Ends, faults: HalfOfAll, urls: dict[str, str]) -> Iterator[None]:
    """A failing network in front of each store that the ends have."""
    left = [end.url for end in (ends.source, ends.target) if end.url and end.url not in urls]
    if not left:
        yield
        return
    with faulty(left[0], faults) as urls[left[0]], faulty_ends(ends, faults, urls):
        yield


@pytest.mark.parametrize("path", [SMALL, LARGE])
def test_azure_gets_bytes_that_were_altered_on_the_way_once_more(
    path: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", "azure", request, tmp_path)
    altered = Script(Fault.ALTERED, "PUT", "comp=block&" if path == LARGE else path)

    with behind(ends.target, altered):
        receipt = ends.copy()

    assert (altered.left, receipt.store_retries) == (0, 1)
    assert held(ends.target) == ends.objects


@pytest.mark.parametrize(
    ("store", "path", "text", "reread"),
    [
        ("gcs", LARGE, "upload_id=", False),
        # The server keeps the checksum that it is told, so only reading shows what it holds.
        ("s3", SMALL, "/copy", True),
    ],
    ids=["by its store's checksum", "read back"],
)
def test_a_copy_that_is_not_what_was_sent_is_removed(
    store: str, path: str, text: str, reread: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", store, request, tmp_path)
    plan = plan_transfer(
        TransferRequest(f"{ends.source.root}/{path}", f"{ends.target.root}/copy", reread=reread)
    )
    altered = Script(Fault.ALTERED, "PUT POST", text)

    with (
        behind(ends.target, altered),
        pytest.raises(DamagedCopy, match=r"lake/copy.*crc32c.*was removed"),
    ):
        run_transfer(plan)

    assert altered.left == 0
    assert held(ends.target) == {}


@pytest.mark.parametrize("store", CLOUDS)
def test_a_target_that_may_not_be_written_is_refused_before_a_byte_moves(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", store, request, tmp_path)
    plan = plan_transfer(ends.request())
    denied = Script(Fault.DENIED, "PUT POST", "", times=10**6)

    with (
        behind(ends.target, denied),
        pytest.raises(AccessDenied, match=r"to (create|write)"),
    ):
        run_transfer(plan)

    assert denied.left == 10**6 - 1
    assert held(ends.target) == {}


@pytest.mark.parametrize("store", ["local", "s3"])
def test_what_was_checked_before_a_copy_failed_is_not_copied_again(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("gcs", store, request, tmp_path, large=False)
    for n in range(40):  # more than are under way at a time
        ends.put(f"many/{n:02}", b"x")
    last = plan_transfer(ends.request()).copies[-1]
    plan = plan_transfer(ends.request())
    ends.put(last.path, b"changed since")
    with pytest.raises(SourceChanged, match=last.path):
        run_transfer(plan)

    resumed = plan_transfer(ends.request())

    assert len(resumed.kept) - resumed.found >= 40 - 2 * OBJECTS_AT_ONCE
    assert last.path in {copy.path for copy in resumed.copies}
    assert len(resumed.kept) + resumed.objects == 43
    run_transfer(resumed)
    assert held(ends.target) == held(ends.source)


def test_a_failed_copy_to_s3_leaves_no_parts(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", "s3", request, tmp_path)

    with (
        behind(ends.target, Script(Fault.DENIED, "PUT", "partNumber=2")),
        pytest.raises(AccessDenied),
    ):
        ends.copy()

    root = Uri.parse(ends.target.root)
    assert list(open_filesystem(root).unfinished(root)) == []
    ends.copy()
    assert held(ends.target) == ends.objects


def test_a_store_that_stays_away_ends_the_copy(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends("local", "s3", request, tmp_path, large=False)

    with (
        behind(ends.target, Script(Fault.BUSY, "PUT", ODD, times=10**6)),
        pytest.raises(StoreUnavailable),
    ):
        ends.copy()

    assert ends.copy().copied >= 1
    assert held(ends.target) == ends.objects


@pytest.mark.parametrize("store", STORES)
def test_what_is_not_there_is_named(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends(store, "local", request, tmp_path, large=False)

    with pytest.raises(NotFound, match="nope"):
        plan_transfer(TransferRequest(f"{ends.source.root}/nope", ends.target.root))
    with pytest.raises(NotFound, match="no object matches"):
        plan_transfer(TransferRequest(f"{ends.source.root}/*.parquet", ends.target.root))


def test_patterns_and_single_objects(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    ends = new_ends("s3", "gcs", request, tmp_path, large=False)
    source, target = ends.source.root, ends.target.root

    pattern = run_transfer(plan_transfer(TransferRequest(f"{source}/*.csv", f"{target}/p")))
    run_transfer(plan_transfer(TransferRequest(f"{source}/{SMALL}", f"{target}/as/b.csv")))
    one = run_transfer(plan_transfer(TransferRequest(f"{source}/{SMALL}", f"{target}/in/")))

    assert (pattern.unit, one.unit) == (Unit.PATTERN, Unit.OBJECT)
    copies = {p: d for p, d in held(ends.target).items() if "/_headwater/" not in p}
    assert copies == {
        f"p/{SMALL}": ends.objects[SMALL],
        f"p/{ODD}": ends.objects[ODD],
        "as/b.csv": ends.objects[SMALL],
        f"in/{SMALL}": ends.objects[SMALL],
    }


@pytest.mark.parametrize("store", ["local", "s3"])
def test_ends_that_lie_in_one_another_are_refused(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ends = new_ends(store, store, request, tmp_path, large=False)
    root = ends.source.root

    for source, target in [
        (root, root),
        (root, f"{root}/copy"),
        (root, root.rpartition("/")[0] + "/"),
        (f"{root}/{SMALL}", f"{root}/{SMALL}"),
        (f"{root}/*.csv", root),
    ]:
        with pytest.raises(Overlap, match="in one another"):
            plan_transfer(TransferRequest(source, target))


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["a", "a/b"], "a file and a folder"),
        (["x//y"], "empty step"),
        (["n" * 300], "more than 255 bytes"),
        ([".headwater-tmp-1"], "no listing shows"),
    ],
)
def test_names_that_files_cannot_have_are_refused(
    names: list[str], fault: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source, target = place("s3", request, tmp_path), place("local", request, tmp_path)
    patch = request.getfixturevalue("monkeypatch")
    for name, value in source.variables.items():
        patch.setenv(name, value)
    for name in names:
        write(source, name, b"x")

    with pytest.raises(InvalidUri, match=fault):
        plan_transfer(TransferRequest(source.root, target.root))


def test_too_little_room_is_told_before_a_byte_moves(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = new_ends("gcs", "local", request, tmp_path, large=False)
    full = shutil.disk_usage(tmp_path)._replace(free=2)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)

    with pytest.raises(StorageError, match="2 B are free"):
        plan_transfer(ends.request())
