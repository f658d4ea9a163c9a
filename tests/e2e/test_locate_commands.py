"""`headwater locate`, `profiles` and `policies`, as a person or a script asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.emulators.s3 import Moto
from typer.testing import CliRunner, Result

from headwater.flows.cli import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a profile; nothing of this user is seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HEADWATER_POLICY", raising=False)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "eu.toml").write_text(
        "description = 'In the EU'\nextends = 'cloud'\nclouds = ['aws']\nregions = ['eu-west-*']\n"
        "[limits]\nusd_per_run = 2.5\n"
        "[[locations]]\nprefix = 's3://'\nlocation = 'eu-west-1'\n"
    )
    return tmp_path


def headwater(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_locate_prints_a_line_for_each_address(folder: Path, moto: Moto) -> None:
    (folder / "a.csv").write_text("n\n1\n")
    bucket = moto.new_bucket()
    moto.put(bucket, "in/a.csv", b"n" * 2048)

    done = headwater("locate", "a.csv", f"s3://{bucket}/in", "--profile", "eu")

    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines] == [
        [str(folder / "a.csv"), "this machine", "4 B", "1 object", "local: one object"],
        [
            f"s3://{bucket}/in", "aws eu-west-1", "2.0 KiB", "1 object",
            "declared for s3://; listed",
        ],
    ]  # fmt: skip


def test_locate_as_json_and_what_could_not_be_located(folder: Path) -> None:
    (folder / "a.csv").write_text("n\n1\n")

    done = headwater("locate", "a.csv", "b.csv", "--json")

    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert found["status"] == "refused"
    located, missing = found["locations"]
    assert located == {
        "uri": f"file://{folder}/a.csv",
        "cloud": None,
        "regions": [],
        "found": "local",
        "size_bytes": 4,
        "objects": 1,
        "detail": "one object",
    }
    assert (missing["uri"], missing["found"]) == ("b.csv", "unknown")
    assert missing["error"] == f"{folder}/b.csv does not exist"
    assert "'a.csv'" in missing["hint"]
    assert f"error: {folder}/b.csv does not exist" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["locate", "ftp://host/a"], "no scheme 'ftp'"),
        (["locate", "a.csv", "--profile", "ue"], "no cluster profile 'ue'"),
        (["profiles", "show", "ue"], "known: cloud, eu, local, local-processes"),
        (["policies", "show", "--profile", "ue"], "no cluster profile 'ue'"),
    ],
)
def test_what_is_wrong_is_refused(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "a.csv").write_text("n\n1\n")

    done = headwater(*arguments)

    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_profiles_list_names_each_and_says_which_are_wrong(folder: Path) -> None:
    (folder / "profiles" / "odd.toml").write_text("region = 'eu-west-1'")

    done, shown = headwater("profiles", "list"), headwater("profiles", "list", "--json")

    assert done.exit_code == 0
    assert "In the EU" in done.stdout
    assert "INVALID: no setting 'region' in cluster profile odd" in done.stdout
    listed = {row["name"]: row for row in json.loads(shown.stdout)["profiles"]}
    assert set(listed) == {"cloud", "eu", "local", "local-processes", "odd"}
    assert listed["eu"]["file"] == str(folder / "profiles" / "eu.toml")
    assert [name for name, row in listed.items() if not row["valid"]] == ["odd"]


def test_profiles_show_tells_the_file_of_each_value(folder: Path) -> None:
    shown = headwater("profiles", "show", "eu", "--json")
    values = {row["key"]: row for row in json.loads(shown.stdout)["values"]}

    own = str(folder / "profiles" / "eu.toml")
    assert values["regions"] == {"key": "regions", "value": ["eu-west-*"], "from": own}
    assert (values["limits.usd_per_run"]["value"], values["limits.usd_per_run"]["from"]) == (
        2.5,
        own,
    )
    assert values["limits.usd_per_hour"]["from"].endswith("cloud.toml")
    assert values["cluster.workers"] == {"key": "cluster.workers", "value": 0, "from": "default"}
    assert values["locations.s3://"]["value"] == ["eu-west-1"]
    lines = [line.split() for line in headwater("profiles", "show", "eu").stdout.splitlines()]
    assert ["regions", "eu-west-*", own] in lines
    assert ["limits.usd_per_run", "2.5", own] in lines


def test_policies_show_what_holds_and_which_file_says_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = folder / "team.toml"
    policy.write_text(
        "[limits]\nusd_per_run = 2\n"
        "[[residency]]\nname = 'EU'\nprefix = 's3://patients'\nregions = ['eu-west-1']\n"
    )
    monkeypatch.setenv("HEADWATER_POLICY", str(policy))

    done = headwater("policies", "show", "--profile", "eu")
    shown = json.loads(headwater("policies", "show", "--profile", "eu", "--json").stdout)

    assert done.exit_code == 0
    rules = {row["rule"]: row for row in shown["rules"]}
    assert rules["limits.usd_per_run = 2 of policy 'team'"]["from"] == str(policy)
    assert rules["residency 'EU' of policy 'team'"]["value"] == {
        "prefix": "s3://patients/",
        "regions": ["eu-west-1"],
    }
    assert shown["policies"] == [{"name": "team", "file": str(policy), "enforced": False}]
    assert "limits.usd_per_run = 2 of policy 'team'" in done.stdout


def test_a_profile_that_leaves_nothing_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "team.toml").write_text("clouds = ['gcp']")
    monkeypatch.setenv("HEADWATER_POLICY", "team.toml")

    done = headwater("policies", "show", "--profile", "eu")

    assert done.exit_code == 2
    assert "no region is left by clouds of policy 'team'" in done.stderr
    assert str(folder / "profiles" / "eu.toml") in done.stderr
