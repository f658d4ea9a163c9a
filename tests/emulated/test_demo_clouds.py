"""The demo's input, sent to three stores: once, whole, and again where it is not what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.emulators.azure import Azurite
from tests.emulators.gcs import FakeGcs
from tests.emulators.s3 import Moto

from headwater.flows.demo_clouds import AIRPORTS, folders_from, spread
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.uris import Scheme, Uri


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "flights").mkdir()
    for airport in AIRPORTS:
        (tmp_path / "flights" / f"{airport}.csv").write_text(f"origin,n\n{airport},1\n")
    (tmp_path / "airlines.csv").write_text("carrier,name\nUA,United\n")
    return tmp_path


@pytest.fixture
def folders(moto: Moto, gcs: FakeGcs, azurite: Azurite) -> dict[Scheme, Uri]:
    return folders_from(
        {
            Scheme.S3: f"s3://{moto.new_bucket()}/demo",
            Scheme.GCS: f"gs://{gcs.new_bucket()}/demo",
            Scheme.AZURE: f"az://{azurite.new_container()}/demo",
        }
    )


def test_one_input_of_three_stores(source: Path, folders: dict[Scheme, Uri]) -> None:
    places = spread(source, folders)

    read = open_input(places.flights)

    assert [Uri.parse(file.ref.uri).scheme for file in read.files] == list(AIRPORTS.values())
    assert read.uri == ", ".join(places.flights)
    assert list(read.schema) == ["origin", "n"]
    assert places.sides == {"airlines": str(folders[Scheme.S3] / "source/airlines.csv")}


def test_what_is_there_is_not_sent_again(source: Path, folders: dict[Scheme, Uri]) -> None:
    before = [file.ref for file in open_input(spread(source, folders).flights).files]
    changed = Uri.parse(before[1].uri)
    fs = open_filesystem(changed)
    fs.write(changed, fs.read(before[1])[::-1])  # as long, and not the same

    places = spread(source, folders)

    after = [file.ref for file in open_input(places.flights).files]
    assert "3 of 4 files were there" in places.said
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1].version != before[1].version
    assert fs.read(after[1]) == (source / "flights" / "JFK.csv").read_bytes()
