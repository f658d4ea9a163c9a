"""`headwater prices`: what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.emulated import test_price_sources as sources
from tests.emulators.recorded import recorded
from typer.testing import CliRunner, Result

from headwater.flows.cli import app

Run = Callable[..., Result]

OWN = """
[[offers]]
cloud = "aws"
region = "us-east-1"
instance_type = "g5.xlarge"
usd_per_hour = 0.2
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folders."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "config" / "headwater").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def prices(home: Path) -> Run:
    """Run `headwater prices` in this process."""
    return lambda *arguments: CliRunner().invoke(app, ["prices", *arguments])


def test_show_lists_the_cheapest_first_with_their_dates(prices: Run) -> None:
    done = prices("show", "--gpu", "a10g", "--market", "on-demand", "--limit", "2")

    assert done.exit_code == 0
    header, first, *_ = done.stdout.splitlines()
    assert header.split() == [
        "cloud", "region", "machine", "market", "$/hour", "vCPU", "GiB", "GPUs", "as", "of",
    ]  # fmt: skip
    assert "g5.xlarge" in first
    assert "22.35 GiB" in first
    assert "more (--limit, or --json for all)" in done.stdout
    assert "whose source gives no date" in done.stdout


def test_show_of_a_region_tells_what_leaving_it_costs(prices: Run) -> None:
    done = prices("show", "--cloud", "aws", "--region", "us-east-1", "--json")

    value = json.loads(done.stdout)
    assert value["egress"]["to the internet and other clouds"]["tiers"][1] == {
        "from_gb": 100.0, "to_gb": 10340.0, "usd_per_gb": 0.09,
    }  # fmt: skip
    assert value["egress"]["to us-east-2"]["tiers"][0]["usd_per_gb"] == 0.01
    assert {r["operation"]: r["usd_per_1000"] for r in value["requests"]} == {
        "read": 0.0004, "write": 0.005, "list": 0.005,
    }  # fmt: skip
    assert {offer["region"] for offer in value["offers"]} == {"us-east-1"}
    assert value["newest"] == "2026-08-03"


def test_what_was_negotiated_is_shown(prices: Run, home: Path) -> None:
    (home / "config" / "headwater" / "prices.toml").write_text(OWN)

    done = prices("show", "--gpu", "A10G", "--limit", "1")

    assert "0.2000" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("show", "--region", "us-est-1"), "no region 'us-est-1'", "'us-east-1'"),
        (("show", "--cloud", "gcp", "--region", "us-east-1"), "no region of gcp", "'us-east1'"),
        (("show", "--gpu", "A10"), "no GPU 'A10' in any offer", "'A10G'"),
        (("show", "--gpu", "V100", "--cloud", "azure"), "no offer of azure, V100", "ask for less"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_near_ones(
    prices: Run, arguments: tuple[str, ...], said: str, hint: str
) -> None:
    done = prices(*arguments)

    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {said}")
    assert hint in done.stderr
    assert done.stdout == ""


def test_check_finds_nothing_in_the_packaged_tables(prices: Run) -> None:
    done = prices("check")

    assert done.exit_code == 0
    assert "offers.csv: 1,574 prices, ok" in done.stdout


def test_check_names_the_rows_that_cannot_be_true_and_exits_2(prices: Run, home: Path) -> None:
    own = home / "config" / "headwater" / "prices.toml"
    own.write_text(OWN.replace("0.2", "9999"))

    done = prices("check", "--json")

    assert done.exit_code == 2
    value = json.loads(done.stdout)
    assert value["ok"] is False
    assert value["tables"][-1] == {
        "name": str(own),
        "rows": 1,
        "findings": [
            {
                "row": "aws us-east-1 g5.xlarge on demand",
                "what": "$9999 an hour stands for no price",
            }
        ],
    }
    assert f"{own}: 1 prices, 1 cannot be true" in prices("check").stdout


def test_a_file_that_cannot_be_read_is_named_and_exits_2(prices: Run, home: Path) -> None:
    (home / "config" / "headwater" / "prices.toml").write_text(OWN + "usd_per_huor = 1\n")

    done = prices("check")

    assert done.exit_code == 2
    assert "no key 'offers.usd_per_huor'" in done.stderr


def test_refresh_writes_tables_that_show_uses(
    prices: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = sources.TestAwsPrices()
    with recorded() as server:
        server.answer = aws.answers(server)
        for name, value in sources.AWS_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        done = prices("refresh", "--cloud", "aws", "--json")
        server.answer = lambda _: aws.denied()
        failed = prices("refresh", "--cloud", "aws")

    assert done.exit_code == 0, done.stderr
    (table,) = json.loads(done.stdout)["refreshed"]
    assert (table["cloud"], table["offers"], table["skipped"]) == ("aws", 4, 4)
    assert table["path"] == str(home / "data" / "headwater" / "prices" / "offers-aws.csv")
    assert failed.exit_code == 1
    assert "error: aws: AWS answered AccessDeniedException: no pricing" in failed.stderr
    shown = prices("show", "--cloud", "aws", "--region", "us-east-1", "--market", "spot")
    assert "us-east-1 us-east-1a  g5.xlarge" in shown.stdout
    assert table["as_of"] in shown.stdout
