"""Before a run on this machine: what its bytes cost, and who may say that it goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from tests.emulators.s3 import Moto

from headwater.flows.etl_run import EtlRun
from headwater.flows.receipts import as_text
from headwater.infra.errors import InvalidRequest, UnknownLocation
from headwater.infra.models import Cloud, JobRequest, Moved
from headwater.infra.planner.history import month_to_date
from headwater.infra.profiles import load_profile
from headwater.infra.storage.receipts import ReceiptStore

ROWS = 100_000


@pytest.fixture
def lake(moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with a file, in a folder with no receipts and no rules."""
    bucket = moto.new_bucket()
    path = tmp_path / "a.parquet"
    pl.DataFrame({"n": range(ROWS)}).write_parquet(path)
    moto.put(bucket, "in/a.parquet", path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(tmp_path / "receipts"))
    return f"s3://{bucket}"


def profile(folder: Path, text: str) -> None:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / "mine.toml").write_text(f'version = 1\nextends = "local"\n{text}')


def in_virginia(lake: str) -> str:
    return f'[[locations]]\nprefix = "{lake}"\nlocation = "us-east-1"\n'


def run(lake: str, name: str = "mine") -> EtlRun:
    made = EtlRun(JobRequest((f"{lake}/in",), "out"), load_profile(name))
    made.scan()
    return made


def no_price_left(folder: Path, usd_per_gb: float) -> None:
    """The user's own price, so high that a small file costs something."""
    config = folder / "config" / "headwater"
    config.mkdir(parents=True)
    (config / "prices.toml").write_text(
        f'[[egress]]\ncloud = "aws"\nscope = "us-east-1"\nto = "internet"\n'
        f"usd_per_gb = {usd_per_gb}\n"
    )


def test_data_on_this_machine_is_free_and_no_price_is_looked_up(lake: str) -> None:
    placement = run(lake, "local").place()

    assert (placement.where, placement.usd) == ("this machine", (0.0, 0.0))
    assert placement.moved == ()


def test_bytes_that_leave_a_cloud_are_priced_and_kept_in_the_receipt(
    lake: str, tmp_path: Path
) -> None:
    profile(tmp_path, in_virginia(lake))
    made = run(lake)

    placement = made.place()
    receipt = made.receipt()
    made.keep(receipt)

    size = made.prepared.source.size_bytes
    assert placement.moved == (Moved(Cloud.AWS, "internet", size),)
    assert placement.usd is not None
    assert 0 < placement.usd[0] < 0.01  # within the free bytes of a month: requests alone
    (kept,) = ReceiptStore().list()
    assert kept.placement == placement
    assert [one.where for one in placement.ranking[:2]] == ["this machine", "aws us-east-1"]
    assert placement.ranking[0].usd == placement.usd
    text = as_text(receipt)
    assert "plan         this machine, $0.00" in text
    assert "elsewhere    aws us-east-1 for $" in text


@pytest.mark.parametrize(("answer", "goes_on"), [(True, True), (False, False)])
def test_a_limit_of_the_profile_is_asked_about(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool, goes_on: bool
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    no_price_left(tmp_path, 1e6)
    profile(tmp_path, "[limits]\nusd_per_run = 1\n" + in_virginia(lake))
    asked: list[str] = []

    def ask(text: str) -> bool:
        asked.append(text)
        return answer

    if goes_on:
        usd = run(lake).place(ask).usd
        assert usd is not None
        assert usd[0] > 1
    else:
        with pytest.raises(InvalidRequest, match=r"beyond limits\.usd_per_run = 1"):
            run(lake).place(ask)
    assert len(asked) == 1
    assert "limits.usd_per_run = 1 of cluster profile 'mine'" in asked[0]


def test_a_limit_of_a_policy_is_no_question(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    no_price_left(tmp_path, 1e6)
    profile(tmp_path, "[limits]\nusd_per_run = 1\n" + in_virginia(lake))
    (tmp_path / "strict.toml").write_text("version = 1\n[limits]\nusd_per_run = 2\n")
    monkeypatch.setenv("HEADWATER_POLICY", str(tmp_path / "strict.toml"))

    # The profile's is the tighter one and is asked about; the policy's then still holds.
    with pytest.raises(InvalidRequest, match=r"usd_per_run = 2 of policy 'strict'"):
        run(lake).place(lambda _: True)


def test_data_that_has_to_stay_elsewhere_is_not_read_here(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eu.toml").write_text(
        f'version = 1\n[[residency]]\nname = "eu"\nprefix = "{lake}"\nregions = ["eu-west-1"]\n'
    )
    monkeypatch.setenv("HEADWATER_POLICY", str(tmp_path / "eu.toml"))

    with pytest.raises(InvalidRequest, match=r"residency 'eu' of policy 'eu'.* this machine"):
        run(lake, "local").place(lambda _: True)


def test_an_unknown_place_stops_a_run_only_where_a_limit_depends_on_it(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(lake, "local")
    # The same file at an address that is no cloud's own.
    monkeypatch.setattr(
        "headwater.infra.locations.locate._is_loopback", lambda _: False
    )  # the emulator is on loopback, which is this machine

    placement = made.place()

    assert placement.usd is None
    assert "is no endpoint of AWS's own" in placement.why
    profile(tmp_path, "[limits]\negress_usd = 1\n")
    limited = run(lake)
    with pytest.raises(UnknownLocation, match="is no endpoint of AWS's own"):
        limited.place()


def test_what_runs_moved_this_month_counts_in_the_next_plan(lake: str, tmp_path: Path) -> None:
    profile(tmp_path, in_virginia(lake))
    made = run(lake)
    made.place()
    made.keep(made.receipt())  # nothing was read yet
    size = made.prepared.source.size_bytes
    (path,) = (tmp_path / "receipts").rglob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bytes_read": size}))

    today = datetime.now(UTC).date()
    (moved,) = month_to_date(ReceiptStore().list(), today)
    before = today.replace(year=today.year - 1)

    assert (moved.cloud, moved.to, moved.moved_bytes) == (Cloud.AWS, "internet", size)
    assert month_to_date(ReceiptStore().list(), before) == ()
