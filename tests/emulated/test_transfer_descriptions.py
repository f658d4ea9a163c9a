"""What an object is called beside its bytes, from store to store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from fsspec.asyn import get_loop
from tests.emulators.every_store import CLOUDS, Place, place

from headwater.infra.errors import UnsupportedData
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.descriptions import Description
from headwater.infra.storage.filesystems.streams import DigestedStream, wait_on
from headwater.infra.storage.transfer import TransferRequest, plan_transfer, run_transfer
from headwater.infra.storage.uris import Uri
from headwater.infra.units import MIB

PART_BYTES = 5 * MIB
"""The least that S3 takes as a part."""

SAID = Description(
    "text/csv; charset=utf-8",
    "gzip",
    "max-age=3600",
    'attachment; filename="a.csv"',
    "en",
    {"owner": "me", "source_system": "till 7"},
)

PAIRS = [(one, other) for one in CLOUDS for other in CLOUDS]
QUICK = {("s3", "gcs"), ("gcs", "azure"), ("azure", "s3")}


class Given:
    """A reader of bytes that are at hand, and described."""

    def __init__(self, data: bytes, said: Description) -> None:
        self.data, self.said = data, said

    async def __call__(self, start: int, end: int) -> bytes:
        return self.data[start:end]

    async def description(self) -> Description:
        return self.said


def put(uri: str, data: bytes, said: Description) -> None:
    stream = DigestedStream(Given(data, said), len(data), PART_BYTES)
    open_filesystem(Uri.parse(uri)).receive(stream, Uri.parse(uri))


def described(uri: str) -> Description:
    fs = open_filesystem(Uri.parse(uri))
    with fs.reading(fs.stat(fs.canonical(Uri.parse(uri)))) as read:
        return wait_on(get_loop(), read.description())


@pytest.fixture
def ends(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Place]:
    monkeypatch.setattr("headwater.infra.storage.transfer.contents.PART_BYTES", PART_BYTES)
    found = {}
    for store in request.param:
        found[store] = place(store, request, tmp_path)
        for name, value in found[store].variables.items():
            monkeypatch.setenv(name, value)
    return found


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(pair, marks=() if pair in QUICK else pytest.mark.trial, id="-to-".join(pair))
        for pair in PAIRS
    ],
    indirect=True,
)
def test_headers_and_metadata_go_with_the_bytes(ends: Mapping[str, Place]) -> None:
    first, *_, last = (*ends.values(), *ends.values())
    source, target = first.root, f"{last.root}/copy"
    for name, size in (("small", 100), ("empty", 0), ("large", PART_BYTES + 1)):
        put(f"{source}/in/{name}", os.urandom(size), SAID)

    receipt = run_transfer(plan_transfer(TransferRequest(f"{source}/in", target)))

    assert [described(f"{target}/{name}") for name in ("small", "empty", "large")] == [SAID] * 3
    assert (receipt.copied, receipt.dropped) == (3, {})


@pytest.mark.parametrize("ends", [("s3", "s3")], ids="-to-".join, indirect=True)
def test_headers_and_metadata_go_with_what_s3_copies_in_parts(
    ends: Mapping[str, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.infra.storage.filesystems.aws.COPY_BYTES", PART_BYTES)
    monkeypatch.setattr("headwater.infra.storage.filesystems.aws.COPY_PART_BYTES", PART_BYTES)
    root = ends["s3"].root
    put(f"{root}/in", os.urandom(PART_BYTES + 1), SAID)

    run_transfer(plan_transfer(TransferRequest(f"{root}/in", f"{root}/out")))

    assert described(f"{root}/out") == SAID


@pytest.mark.parametrize("ends", [("gcs", "azure")], ids="-to-".join, indirect=True)
def test_what_the_target_cannot_keep_is_refused_or_left_out_when_told(
    ends: Mapping[str, Place],
) -> None:
    source, target = ends["gcs"].root, ends["azure"].root
    kept = {"owner": "me"}
    said = Description(metadata={**kept, "taken-by": "me", "städte": "x", "note": "Köln"})
    put(f"{source}/in/a", b"a", said)
    put(f"{source}/in/b", b"b", Description(metadata=kept))
    request = TransferRequest(f"{source}/in", f"{target}/copy")

    with pytest.raises(UnsupportedData, match=r"in/a has metadata '.*' that the target's store"):
        run_transfer(plan_transfer(request))
    there = open_filesystem(Uri.parse(target)).list(Uri.parse(f"{target}/copy"))
    assert not [ref for ref in there if ref.uri.endswith("/a")]
    receipt = run_transfer(
        plan_transfer(TransferRequest(f"{source}/in", f"{target}/copy", drop_metadata=True))
    )

    assert receipt.dropped == {"note": 1, "städte": 1, "taken-by": 1}
    assert described(f"{target}/copy/a").metadata == kept
    assert described(f"{target}/copy/b").metadata == kept


@pytest.mark.parametrize("ends", [("s3", "gcs")], ids="-to-".join, indirect=True)
def test_a_file_of_this_machine_is_bytes_alone(ends: Mapping[str, Place], tmp_path: Path) -> None:
    put(f"{ends['s3'].root}/a", b"a", SAID)

    receipt = run_transfer(
        plan_transfer(TransferRequest(f"{ends['s3'].root}/a", str(tmp_path / "a")))
    )

    assert ((tmp_path / "a").read_bytes(), receipt.dropped) == (b"a", {})
