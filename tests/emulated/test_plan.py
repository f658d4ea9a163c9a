"""`headwater plan etl` over data in a store: located, priced, ranked, and refused by rules."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.emulators.s3 import Moto

from headwater.flows.console import Console
from headwater.flows.parameters import EtlParameters
from headwater.flows.plan_command import plan_etl
from headwater.infra.errors import UnknownName

TEAM = """
version = 1
extends = "cloud"
clouds = ["aws", "gcp"]
[gpu]
count = 2
memory_gib = 20
[network.aws]
storage_endpoint = true
"""


@pytest.fixture
def lake(moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with two files, said to be in us-east-1, and a profile that says so."""
    bucket = moto.new_bucket()
    for name in ("a", "b"):
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame({"n": range(1000)}).write_parquet(path)
        moto.put(bucket, f"in/{name}.parquet", path.read_bytes())
    place = f'[[locations]]\nprefix = "s3://{bucket}"\nlocation = "us-east-1"\n'
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "team.toml").write_text(TEAM + place)
    (tmp_path / "profiles" / "none.toml").write_text(
        'version = 1\nextends = "team"\ninstance_families = ["none"]\n'
    )
    (tmp_path / "jobs_apart.py").write_text(
        "from headwater.tasks.jobs import job\n\n\n"
        '@job(strategies=["federate", "scatter"])\ndef same(frame):\n    return frame\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(tmp_path / "receipts"))
    return f"s3://{bucket}"


def parameters(lake: str, **said: object) -> EtlParameters:
    asked = {"sources": [f"{lake}/in"], "target": f"{lake}/out", "profile": "team", **said}
    return EtlParameters.model_validate(asked)


def test_the_plan_stays_with_the_data_and_says_why(
    lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_etl(parameters(lake), Console(json=True))

    told = json.loads(capsys.readouterr().out)
    first = told["candidates"][0]
    assert first["where"] == first["output_place"] == "aws us-east-1"
    assert first["usd"]["egress"]["p50"] == 0
    assert first["machines"][0]["gpus"] >= 2
    assert first["machines"][0]["price_source"]
    assert [one["rank"] for one in told["candidates"]] == list(
        range(1, len(told["candidates"]) + 1)
    )
    assert "aws us-east-1 holds the data" in told["why"]
    assert told["denied"][0]["rule"] == "clouds of cluster profile 'team'"
    assert told["low_confidence"]


def test_the_table_fits_a_terminal_and_adds_up(
    lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_etl(parameters(lake, job="jobs_apart:same"), Console())

    lines = capsys.readouterr().out.splitlines()
    paths = str(Path.cwd())  # one word, however long
    assert max(len(line) for line in lines if paths not in line) <= 80
    assert lines[1].split() == [
        "time",
        "p50/p90",
        *["compute", "egress", "rework", "total"],
        "p50/p90",
    ]
    figures = lines[3][27:].split()
    compute, egress, rework, total = (*map(float, figures[:3]), figures[3])
    assert total.split("/")[0] == f"${compute + egress + rework:.2f}"
    assert any(line.startswith("denied   azure: ") for line in lines)
    assert any(line.startswith("why      aws us-east-1 ") for line in lines)


def test_a_plan_that_allows_nothing_exits_with_2_and_names_the_rule(
    lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        plan_etl(parameters(lake, profile="none"), Console(json=True))

    told = json.loads(capsys.readouterr().out)
    assert left.value.code == 2
    assert (told["status"], told["candidates"]) == ("refused", [])
    assert any(
        one["rule"] == "instance_families of cluster profile 'none'" for one in told["denied"]
    )


def test_the_local_profile_runs_here_and_prices_the_cloud(
    lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_etl(parameters(lake, profile="local"), Console(json=True))

    told = json.loads(capsys.readouterr().out)
    assert told["candidates"][0]["where"] == "this machine"
    assert told["candidates"][0]["usd"]["total"] == {"p50": 0.0, "p90": 0.0}
    assert "the cloud would have cost $" in told["why"]


def test_past_runs_that_cannot_be_read_are_told_and_do_not_stop_a_plan(
    lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "receipts" / "2026-11-01").mkdir(parents=True)
    (tmp_path / "receipts" / "2026-11-01" / "x.json").write_text('{"version": 99}')

    plan_etl(parameters(lake), Console())

    said = capsys.readouterr()
    assert "why      aws us-east-1" in said.out
    assert "past runs could not be read" in said.err


def test_tables_that_follow_take_their_time_and_their_jobs_must_exist(
    lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(**said: object) -> dict[str, float]:
        plan_etl(parameters(lake, **said), Console(json=True))
        first = json.loads(capsys.readouterr().out)["candidates"][0]
        return {name: amount["p50"] for name, amount in first["seconds"].items()}

    daily = {"target": f"{lake}/daily", "job": "jobs_apart:same"}

    alone, both = seconds(), seconds(then=[daily, {**daily, "target": f"{lake}/weekly"}])

    assert both["start"] == alone["start"]
    # Each is made from as many bytes as the sources have, until its job is known.
    assert both["compute"] == pytest.approx(3 * alone["compute"])
    assert both["write"] == pytest.approx(3 * alone["write"])
    with pytest.raises(UnknownName, match="nothing"):
        plan_etl(parameters(lake, then=[{**daily, "job": "jobs_apart:nothing"}]), Console())


def test_copies_are_in_the_plan_and_nothing_is_copied(
    lake: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, moto: Moto
) -> None:
    team = tmp_path / "profiles" / "team.toml"
    near = f"s3://{moto.new_bucket()}/near"
    place = f'[[locations]]\nprefix = "{near}"\nlocation = "us-west-2"\n'
    team.write_text(team.read_text() + place)

    plan_etl(parameters(lake, gather=near, target=f"{near}-out"), Console(json=True))
    told = json.loads(capsys.readouterr().out)
    plan_etl(parameters(lake, gather=near, target=f"{near}-out"), Console())

    first = told["candidates"][0]
    assert told["gather"] == {
        "folder": near,
        "objects": 2,
        "size_bytes": told["size_bytes"],
        "kept": 0,
    }
    assert first["where"] == "aws us-west-2"
    assert first["usd"]["egress"]["p50"] == pytest.approx(told["size_bytes"] / 2**30 * 0.02)
    assert "gather   2 objects, " in capsys.readouterr().out
    listed = moto.client().list_objects_v2(Bucket=near.split("/")[2])
    assert listed["KeyCount"] == 0
