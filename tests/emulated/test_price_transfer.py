"""Before a copy: what its bytes cost, who may say that it goes on, and what keeps it away."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.emulators.every_store import Place, place

from headwater.flows.price_transfer import kept, permission, price_plan, price_text
from headwater.infra.errors import InvalidRequest, PriceUnknown, UnknownLocation
from headwater.infra.models import Cloud, TransferPrice
from headwater.infra.profiles import load_profile
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.transfer import (
    TransferPlan,
    TransferReceipt,
    TransferRequest,
    plan_transfer,
    run_transfer,
)
from headwater.infra.storage.transfer.receipts import TransferReceiptStore
from headwater.infra.storage.uris import Uri

SIZE = 1000
DEAR_GB = 2**30 / SIZE
"""US dollars a GB at which the object of these tests costs one dollar."""


@pytest.fixture
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place on S3 with one object, in a folder with no receipts, rules and prices."""
    end = place("s3", request, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, value in end.variables.items():
        monkeypatch.setenv(name, value)
    uri = Uri.parse(end.root) / "a.bin"
    open_filesystem(uri).write(uri, bytes(SIZE))
    return end


def profile(folder: Path, text: str) -> None:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / "mine.toml").write_text(f'version = 1\nextends = "local"\n{text}')


def in_virginia(end: Place) -> str:
    return f'[[locations]]\nprefix = "{end.root}"\nlocation = "us-east-1"\n'


def own_price(folder: Path, usd_per_gb: float) -> None:
    config = folder / "config" / "headwater"
    config.mkdir(parents=True)
    (config / "prices.toml").write_text(
        f'[[egress]]\ncloud = "aws"\nscope = "us-east-1"\nto = "internet"\n'
        f"usd_per_gb = {usd_per_gb}\n"
    )


def policy(folder: Path, patch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "team.toml").write_text(f"version = 1\n{text}")
    patch.setenv("HEADWATER_POLICY", str(folder / "team.toml"))


def planned(source: str, target: str, name: str = "mine") -> TransferPlan:
    return plan_transfer(TransferRequest(source, target), permission(load_profile(name)))


def priced(plan: TransferPlan, *, answer: bool = False, name: str = "mine") -> TransferPrice:
    return price_plan(plan, load_profile(name), lambda _: answer)


def test_a_copy_to_this_machine_is_priced_and_counted_in_the_next_one(
    lake: Place, tmp_path: Path
) -> None:
    profile(tmp_path, in_virginia(lake))
    own_price(tmp_path, 0.09)
    plan = planned(lake.root, "out")

    price = priced(plan)
    receipt = kept(run_transfer(plan), price)

    (egress,) = price.egress
    assert (egress.cloud, egress.to, egress.size_bytes) == (Cloud.AWS, "internet", SIZE)
    assert price.usd == pytest.approx(SIZE / 2**30 * 0.09 + 0.0004 / 1000 + 0.005 / 1000)
    assert price_text(price).startswith(
        "about $0.00 egress of aws us-east-1 to the internet, $0.00 requests; prices of 2026-"
    )
    assert receipt.price == price
    assert list(TransferReceiptStore().list()) == [receipt]


def test_a_copy_to_a_cloud_costs_its_requests_and_leaves_no_receipt(
    lake: Place, tmp_path: Path
) -> None:
    profile(tmp_path, in_virginia(lake))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.bin").write_bytes(b"b")
    plan = planned("in", lake.root)

    price = priced(plan)
    kept(run_transfer(plan), price)

    assert (price.egress, price.usd) == ((), pytest.approx(0.005 / 1000 * 2))
    assert list(TransferReceiptStore().list()) == []


@pytest.mark.parametrize("is_stated", [True, False])
def test_what_its_store_copies_leaves_the_region_only_where_it_has_to_be_read(
    lake: Place, tmp_path: Path, is_stated: bool
) -> None:
    profile(tmp_path, in_virginia(lake))
    uri = Uri.parse(lake.root) / "in" / "b.bin"
    if is_stated:  # as copies have it, which are sent with their checksum
        (tmp_path / "b.bin").write_bytes(b"bb")
        run_transfer(planned("b.bin", str(uri)))
    else:
        open_filesystem(uri).write(uri, b"bb")
    plan = planned(f"{lake.root}/in", f"{lake.root}/out")

    price = priced(plan)
    receipt: TransferReceipt = run_transfer(plan)

    ways = [(one.to, one.size_bytes) for one in price.egress]
    read = [] if is_stated else [("internet", 2), ("internet", 2)]
    assert sorted(ways) == sorted([("same region", 2), *read])
    assert (receipt.by_store, receipt.read_back) == (1, 0 if is_stated else 1)


def test_two_ends_on_this_machine_are_free_and_nothing_is_looked_up(
    lake: Place, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.bin").write_bytes(b"b")

    assert priced(planned("in", "out", "local"), name="local") == TransferPrice()
    # The emulator is on this machine's loopback address.
    assert priced(planned(lake.root, "copy", "local"), name="local") == TransferPrice()
    assert price_text(TransferPrice()) == "free: no cloud bills for it"


def test_a_limit_of_the_profile_is_asked_about(lake: Place, tmp_path: Path) -> None:
    own_price(tmp_path, 2 * DEAR_GB)
    profile(tmp_path, "[limits]\negress_usd = 1\n" + in_virginia(lake))
    plan = planned(lake.root, "out")

    usd = priced(plan, answer=True).usd
    with pytest.raises(
        InvalidRequest, match=r"about \$2\.00 egress.*beyond limits\.egress_usd = 1"
    ):
        priced(plan)

    assert usd == pytest.approx(2.0, rel=1e-3)
    assert not (tmp_path / "out").exists()


def test_a_limit_of_a_policy_is_no_question(
    lake: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_price(tmp_path, 2 * DEAR_GB)
    profile(tmp_path, "[limits]\nusd_per_run = 1\n" + in_virginia(lake))
    policy(tmp_path, monkeypatch, "[limits]\nusd_per_run = 1.5\n")

    # The profile's is the tighter one and is asked about; the policy's then still holds.
    with pytest.raises(InvalidRequest, match=r"usd_per_run = 1\.5 of policy 'team'"):
        priced(planned(lake.root, "out"), answer=True)


def test_data_that_has_to_stay_elsewhere_is_not_copied_through_this_machine(
    lake: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path, in_virginia(lake))
    residency = f'[[residency]]\nname = "us"\nprefix = "{lake.root}"\nregions = ["us-east-1"]\n'
    policy(tmp_path, monkeypatch, residency)

    with pytest.raises(InvalidRequest, match=r"residency 'us' of policy 'team'.* this machine"):
        planned(lake.root, "out")
    # Its store could copy it; without a checksum of the source it would be read here all the same.
    with pytest.raises(InvalidRequest, match=r"residency 'us' of policy 'team'.* this machine"):
        planned(f"{lake.root}/a.bin", f"{lake.root}/b.bin")


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (
            'clouds = ["gcp"]\n',
            r"is in aws us-east-1, which clouds of policy 'team' .*does not allow",
        ),
        (
            'regions = ["eu-*"]\n',
            r"is in aws us-east-1, which regions of policy 'team' .*does not allow",
        ),
        (
            '[[residency]]\nname = "in"\nprefix = "PREFIX/in"\nregions = ["here", "eu-west-1"]\n',
            r"the target .* would be in aws us-east-1, and residency 'in' of policy 'team'",
        ),
    ],
)
def test_a_target_that_a_rule_does_not_allow_is_refused(
    lake: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: str, named: str
) -> None:
    profile(tmp_path, in_virginia(lake))
    source = Uri.parse(lake.root) / "in" / "b.bin"
    open_filesystem(source).write(source, b"b")
    policy(tmp_path, monkeypatch, rules.replace("PREFIX", lake.root))

    with pytest.raises(InvalidRequest, match=named):
        planned(f"{lake.root}/in", f"{lake.root}/out")


def test_an_unknown_place_stops_a_copy_only_where_a_limit_depends_on_it(
    lake: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same object at an address that is no cloud's own, and not on this machine.
    monkeypatch.setattr("headwater.infra.locations.locate._is_loopback", lambda _: False)

    price = priced(planned(lake.root, "out", "local"), name="local")

    assert price.usd is None
    assert "not known: s3://" in price_text(price)
    assert "is no endpoint of AWS's own" in price.unknown
    profile(tmp_path, "[limits]\negress_usd = 1\n")
    with pytest.raises(UnknownLocation, match="is no endpoint of AWS's own"):
        priced(planned(lake.root, "out"))


def test_a_way_without_a_price_is_taken_only_by_who_says_so(
    lake: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path, in_virginia(lake))
    plan = planned(lake.root, "out")

    def no_price(*_: object) -> None:
        raise PriceUnknown("no price from aws us-east-1 to the internet", hint="give it")

    monkeypatch.setattr("headwater.infra.planner.transfers.cheapest_rate", no_price)

    with pytest.raises(PriceUnknown):
        priced(plan)
    assert priced(plan, answer=True).unknown == "no price from aws us-east-1 to the internet"
