"""gpuhunt's catalog as a source of prices, served on loopback in its own form."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.price_sources import TODAY
from tests.emulators.recorded import Answer, Recorded, Request, recorded

from headwater.infra.catalog.refresh import refresh
from headwater.infra.catalog.sources.hunted import GpuhuntCatalog
from headwater.infra.errors import MissingDependency, PriceListFailed
from headwater.infra.models import Cloud, Market

HEADER = (
    "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,"
    "gpu_vendor,flags,cpu_arch,provider_data"
)
TABLES = {
    "aws": [
        "g5.xlarge,us-east-1,1.006,4,16,1,A10G,24,False,,nvidia,,x86,{}",
        "g5.xlarge,us-east-1,0.41,4,16,1,A10G,24,True,,nvidia,,x86,{}",
        "g7e.2xlarge,us-east-1,3.36,8,64,1,RTXPRO6000,96,False,,nvidia,,x86,{}",
        "g4ad.xlarge,us-east-1,0.379,4,16,1,V520,8,False,,amd,,x86,{}",
        "g5g.xlarge,us-east-1,0.42,4,8,1,T4G,16,False,,nvidia,,arm,{}",
        "g5.xlarge,us-gov-west-1,1.2,4,16,1,A10G,24,False,,nvidia,,x86,{}",
        "c5.large,us-east-1,0.085,2,4,0,,,False,,,,x86,{}",
    ],
    "gcp": [
        "g2-standard-4,us-central1-a,0.7,4,16,1,L4,24,False,,nvidia,,x86,{}",
        "g2-standard-4,us-central1-b,0.7,4,16,1,L4,24,False,,nvidia,,x86,{}",
    ],
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    pytest.importorskip("gpuhunt")
    with recorded() as server:
        server.answer = published
        monkeypatch.setenv("GPUHUNT_CATALOG_URL", server.url)
        yield server


def published(request: Request) -> Answer:
    """As its bucket has them: a version, and below it a table in an archive."""
    _, provider, *rest = request.path.split("/")
    if rest == ["version"]:
        return Answer(b"20261124-1\n")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{provider}.csv", "\n".join([HEADER, *TABLES.get(provider, [])]))
    return Answer(archive.getvalue())


def test_machines_of_a_cloud_are_taken_with_what_they_are(server: Recorded) -> None:
    fetched = GpuhuntCatalog().fetch(Cloud.AWS, today=TODAY)

    found = {(o.instance_type, o.market): o for o in fetched.offers}
    assert {key: o.usd_per_hour for key, o in found.items()} == {
        ("c5.large", Market.ON_DEMAND): 0.085,
        ("g5.xlarge", Market.ON_DEMAND): 1.006,
        ("g5.xlarge", Market.SPOT): 0.41,
        ("g7e.2xlarge", Market.ON_DEMAND): 3.36,
    }
    assert fetched.skipped == 3  # AMD's GPU, the Arm machine, and what is no region of ours
    # A known type as it was measured, an unknown one as it is described.
    assert found["g5.xlarge", Market.ON_DEMAND].gpu_memory_gib == 22.352
    new = found["g7e.2xlarge", Market.ON_DEMAND]
    assert (new.gpu, new.gpus, new.gpu_memory_gib, new.vcpus) == ("RTXPRO6000", 1, 96.0, 8)


def test_zones_of_google_are_one_region(server: Recorded) -> None:
    (offer,) = GpuhuntCatalog().fetch(Cloud.GCP, today=TODAY).offers

    assert (offer.region, offer.zone, offer.usd_per_hour) == ("us-central1", "", 0.7)


@pytest.mark.parametrize("path", ["", "aws"])
def test_a_refresh_that_fails_leaves_what_was_there(
    server: Recorded, tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    refresh(GpuhuntCatalog(), Cloud.AWS, tmp_path, today=TODAY)
    before = (tmp_path / "offers-aws.csv").read_bytes()

    def lost(request: Request) -> Answer:
        return (
            Answer(b"20261125-1\n", cut=True)
            if request.path.startswith(f"/{path}")
            else published(request)
        )

    server.answer = lost
    with pytest.raises(PriceListFailed) as caught:
        refresh(GpuhuntCatalog(), Cloud.AWS, tmp_path, today=TODAY)

    assert "as they were" in caught.value.hint
    assert "IncompleteRead" in caught.value.message
    assert caplog.records == []
    assert (tmp_path / "offers-aws.csv").read_bytes() == before


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpuhunt", None)

    with pytest.raises(MissingDependency) as caught:
        GpuhuntCatalog().fetch(Cloud.AWS, today=TODAY)

    assert caught.value.hint == "pip install 'headwater[gpuhunt]'"
