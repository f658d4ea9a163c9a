"""`headwater doctor` on this machine, and against a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli, Prefect, require_golden
from tests.emulators.s3 import Moto
from typer.testing import CliRunner, Result

from headwater.flows.cli import app


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: Prefect) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.url)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_this_machine_is_well(headwater: Cli) -> None:
    done = headwater("doctor")
    assert (done.code, done.err) == (0, ""), done
    outcomes = {
        line.split()[1]: line.split()[0] for line in done.out.splitlines() if line[0] != " "
    }
    assert {"python", "packages", "gpu", "disk", "prefect"} <= set(outcomes)
    assert "fail" not in outcomes.values()


def test_store_is_tried_through_both_stacks_and_left_empty(moto: Moto) -> None:
    bucket = moto.new_bucket()
    done = doctor(f"s3://{bucket}/lake")
    assert done.exit_code == 0, done.stdout
    outcomes = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert (outcomes["s3"], outcomes["delta"], outcomes["clock"]) == ("ok", "ok", "ok")
    client = moto.client()
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    client.close()
    assert moto.environment["AWS_SECRET_ACCESS_KEY"] not in done.stdout


def test_local_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    done = doctor(str(tmp_path / "lake"), "--json")
    assert done.exit_code == 0, done.stdout
    assert list((tmp_path / "lake").iterdir()) == []


def test_missing_bucket_fails_and_is_named(moto: Moto) -> None:
    done = doctor("s3://no-such-lake/x")
    assert done.exit_code == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert "no-such-lake" in line
    assert "-> " in done.stdout


def test_unknown_scheme_fails_and_the_rest_is_still_looked_at(moto: Moto) -> None:
    bucket = moto.new_bucket()
    done = doctor("ftp://host/x", f"s3://{bucket}")
    assert done.exit_code == 1
    assert any(line.split()[:2] == ["ok", "s3"] for line in done.stdout.splitlines())


def test_unreachable_prefect_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = doctor()
    assert done.exit_code == 1
    assert any(line.split()[:2] == ["fail", "prefect"] for line in done.stdout.splitlines())


def test_json_is_one_object(moto: Moto) -> None:
    bucket = moto.new_bucket()
    done = doctor(f"s3://{bucket}/lake", "--json")
    value = json.loads(done.stdout)
    for check in value["checks"]:
        check["text"] = check["text"] and "…"
        if check["name"] == "gpu":  # the one check that may be a note or ok, by the machine
            check["outcome"], check["hint"] = "note", "…"
    require_golden("doctor.json", value)
