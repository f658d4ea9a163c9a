"""Profiles extend one another, keep the file of each value and hold no secret; policies hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.infra.errors import (
    AccessDenied,
    InvalidRequest,
    NotFound,
    UnknownName,
    UnsupportedData,
)
from headwater.infra.launchers.local import local_plan
from headwater.infra.models import Cloud
from headwater.infra.policies import Spot
from headwater.infra.profiles import (
    effective_rules,
    load_policies,
    load_profile,
    profile_files,
)
from headwater.infra.storage.uris import Uri


@pytest.fixture(autouse=True)
def no_files_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HEADWATER_POLICY", raising=False)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "profiles" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


# Extending.


def test_a_profile_takes_what_it_does_not_say_from_the_one_it_extends(tmp_path: Path) -> None:
    base = write(
        tmp_path,
        "base",
        "clouds = ['aws', 'gcp']\nspot = 'forbid'\n[limits]\nusd_per_hour = 9\ngpus = 8\n"
        "[tags]\nteam = 'rides'\nenv = 'test'\n[cluster]\nworkers = 4\nprocesses = true",
    )
    middle = write(tmp_path, "middle", "extends = 'base'\nspot = 'allow'\n[limits]\ngpus = 4")
    mine = write(tmp_path, "mine", "extends = 'middle'\nclouds = ['gcp']\n[tags]\nenv = 'live'")

    profile = load_profile("mine", folder=tmp_path)

    assert profile.clouds == (Cloud.GCP,)
    assert profile.spot is Spot.ALLOW
    assert (profile.limits.usd_per_hour, profile.limits.gpus) == (9, 4)
    assert profile.tags == {"team": "rides", "env": "live"}
    assert (profile.cluster.workers, profile.cluster.processes) == (4, True)
    assert {key: Path(path) for key, path in profile.origins.items()} == {
        "clouds": mine,
        "extends": mine,
        "tags.env": mine,
        "spot": middle,
        "limits.gpus": middle,
        "limits.usd_per_hour": base,
        "tags.team": base,
        "cluster.workers": base,
        "cluster.processes": base,
    }


def test_a_denial_cites_the_file_that_says_it_and_not_the_one_that_extends_it(
    tmp_path: Path,
) -> None:
    base = write(tmp_path, "base", "clouds = ['aws']\n[limits]\ngpus = 2")
    write(tmp_path, "mine", "extends = 'base'")

    rules = effective_rules(load_profile("mine", folder=tmp_path), ())

    assert str(rules.denies_place(Cloud.GCP, "us-east1")) == (
        f"clouds of cluster profile 'mine' ({base})"
    )
    assert str(rules.gpus) == f"limits.gpus = 2 of cluster profile 'mine' ({base})"


def test_what_is_extended_may_be_a_packaged_profile_or_a_path(tmp_path: Path) -> None:
    write(tmp_path, "mine", "extends = 'cloud'\n[limits]\nusd_per_run = 3")
    beside = tmp_path / "elsewhere"
    (beside / "inner").mkdir(parents=True)
    (beside / "base.toml").write_text("[gpu]\nname = 'L4'\ncount = 2")
    (beside / "inner" / "mine.toml").write_text("extends = '../base.toml'\n[gpu]\ncount = 1")

    of_name = load_profile("mine", folder=tmp_path)
    of_path = load_profile(str(beside / "inner" / "mine.toml"))

    assert (of_name.cluster.launcher, of_name.limits.usd_per_run) == ("cloud", 3)
    assert of_name.limits.usd_per_hour == load_profile("cloud").limits.usd_per_hour
    assert (of_path.gpu.name, of_path.gpu.count) == (("L4",), 1)


@pytest.mark.parametrize(
    ("files", "chain"),
    [
        ({"a": "a"}, "a -> a"),
        ({"a": "b", "b": "a"}, "a -> b -> a"),
        ({"a": "b", "b": "c", "c": "b"}, "a -> b -> c -> b"),
        ({"a": "b", "b": "./a.toml"}, "a -> b -> a"),
    ],
)
def test_a_profile_that_extends_itself_is_refused_with_the_chain(
    tmp_path: Path, files: dict[str, str], chain: str
) -> None:
    for name, extended in files.items():
        write(tmp_path, name, f"extends = '{extended}'")

    with pytest.raises(InvalidRequest, match=f"extends itself: {chain}\n"):
        load_profile("a", folder=tmp_path)


def test_a_parent_that_is_not_there_or_wrong_is_named(tmp_path: Path) -> None:
    write(tmp_path, "mine", "extends = 'bse'")
    write(tmp_path, "base", "[limits]\ngpu = 3")
    write(tmp_path, "other", "extends = 'base'")

    with pytest.raises(UnknownName, match="no cluster profile 'bse'") as caught:
        load_profile("mine", folder=tmp_path)
    assert "'base'" in caught.value.hint
    with pytest.raises(UnknownName, match=r"no setting 'limits\.gpu' in cluster profile base"):
        load_profile("other", folder=tmp_path)


def test_a_file_that_is_no_text_is_named_and_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, "binary", "").write_bytes(b"\xff\xfe")

    assert load_profile("local", folder=tmp_path)
    with pytest.raises(InvalidRequest, match="cluster profile binary cannot be read"):
        load_profile("binary", folder=tmp_path)


# Values.


@pytest.mark.parametrize(
    ("text", "setting", "near"),
    [
        ("region = ['eu-west-1']", "region", "regions"),
        ("[limits]\nusd_per_hours = 3", "limits.usd_per_hours", "limits.usd_per_hour"),
        ("[network.aws]\nsubnet = 'a'", "network.aws.subnet", "network.aws.subnets"),
        ("[[locations]]\nprefx = 's3://a'\nlocation = 'here'", "locations.prefx", None),
        ("name = 'other'", "name", None),
        ("source = 'other'", "source", None),
        ("[residency]\na = 1", "residency", None),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_ones(
    tmp_path: Path, text: str, setting: str, near: str | None
) -> None:
    write(tmp_path, "wrong", text)

    with pytest.raises((UnknownName, InvalidRequest), match="cluster profile wrong") as caught:
        load_profile("wrong", folder=tmp_path)

    assert near is None or f"no setting '{setting}'" in caught.value.message
    assert near is None or f"'{near}'" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "regions = ['eu-west-11']",
            "no region 'eu-west-11' in regions of cluster profile 'wrong'",
        ),
        (
            "[[locations]]\nprefix = 's3://a/'\nlocation = 'westeurpe'",
            "no region 'westeurpe' in the location of s3://a/",
        ),
        (
            "[[locations]]\nprefix = 's3://a/'\nlocation = ['eu-west-1', 'westeurope']",
            "eu-west-1, westeurope are regions of aws and azure",
        ),
        ("[[locations]]\nprefix = 'data'\nlocation = 'here'", "'data' is on one machine"),
        ("[[locations]]\nprefix = 's3://a/*'\nlocation = 'here'", "'s3://a/*' is a pattern"),
        ("[[locations]]\nprefix = 's3://a'\nlocation = ['here', 'uksouth']", "stand alone"),
        ("locations = 3", "locations: Input should be a list"),
        ("[[locations]]\nprefix = 'ftp://a'\nlocation = 'here'", "no scheme 'ftp'"),
        ("clouds = ['aws']\nregions = ['uksouth']", "no region is left by clouds of cluster"),
        ("spot = 'maybe'", "spot: Input should be 'allow', 'require' or 'forbid'"),
        ("[gpu]\ncount = -1", "gpu.count"),
    ],
)
def test_a_value_that_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "wrong", text)

    with pytest.raises(InvalidRequest) as caught:
        load_profile("wrong", folder=tmp_path)

    assert said in caught.value.message


def test_declared_locations_hold_below_their_prefix(tmp_path: Path) -> None:
    write(tmp_path, "base", "[[locations]]\nprefix = 's3://a/'\nlocation = 'here'")
    write(
        tmp_path,
        "mine",
        "extends = 'base'\n"
        "[[locations]]\nprefix = 's3://a/'\nlocation = 'us-west-2'\n"
        "[[locations]]\nprefix = 'gs://'\nlocation = ['us-central1', 'us-east1']\n",
    )

    of_bucket, of_scheme = load_profile("mine", folder=tmp_path).locations

    assert (of_bucket.cloud, of_bucket.regions) == (Cloud.AWS, {"us-west-2"})
    assert (of_scheme.cloud, of_scheme.regions) == (Cloud.GCP, {"us-central1", "us-east1"})
    assert of_bucket.holds(Uri.parse("s3://a/b/c"))
    assert not of_bucket.holds(Uri.parse("s3://ab/c"))
    assert of_scheme.holds(Uri.parse("gs://any/thing"))
    assert not of_scheme.holds(Uri.parse("s3://any/thing"))


def test_a_profile_for_clouds_does_not_run_on_this_machine_by_mistake() -> None:
    def never_asked() -> None:
        raise AssertionError("the GPU was asked for")

    with pytest.raises(InvalidRequest, match="'cloud' is for the launcher 'cloud'"):
        local_plan(load_profile("cloud"), never_asked)  # type: ignore[arg-type]


def test_the_first_file_of_a_name_hides_the_others(tmp_path: Path) -> None:
    users = write(tmp_path / "config" / "headwater", "cloud", "description = 'users'")
    assert profile_files(tmp_path)["cloud"].path == users

    here = write(tmp_path, "cloud", "description = 'here'")
    assert profile_files(tmp_path)["cloud"].path == here
    assert set(profile_files(tmp_path)) == {"cloud", "local", "local-processes"}


# Secrets.

SECRETS = {
    "[tags]\nowner = 'AKIAIOSFODNN7EXAMPLE'": "an AWS access key",
    "[tags]\nowner = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1'": "",
    "[tags]\nowner = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE12'": "",
    "[tags]\nx = 'wJalrXUtnFEMI/K7MDENG0bPxRfiCYEXAMPLEKEY'": "an AWS secret key",
    "[tags]\nAKIAIOSFODNN7EXAMPLE = 'x'": "an AWS access key",
    "[tags]\nx = '-----BEGIN RSA PRIVATE KEY-----'": "a private key",
    '[identity]\ngcp = \'{"private_key": "x"}\'': "a key file of a service account",
    "[tags]\nx = 'DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc='": (
        "a connection string"
    ),
    "[[locations]]\nprefix = 'az://c/?sv=2024&sig=abcdefgh%3D'\nlocation = 'here'": (
        "a shared access signature"
    ),
    f"[tags]\nx = '{'Ab1+' * 21}ab=='": "a storage account's key",
    "[tags]\nx = 'https://user:pw@host/'": "a password in an address",
    "[tags]\nx = 'ghp_abcdefghijklmnopqrstuvwxyz0123456789'": "a GitHub token",
    "[tags]\ndb_password = 'hunter2'": "a secret by its name",
    "[tags]\nawsSecretAccessKey = 'x'": "a secret by its name",
    "[network.azure]\nstorage-key = 'x'": "a secret by its name",
    "aws_secret_access_key = 'x'": "a secret by its name",
}


@pytest.mark.parametrize(("text", "kind"), SECRETS.items())
def test_what_looks_like_a_secret_is_refused_and_not_repeated(
    tmp_path: Path, text: str, kind: str
) -> None:
    write(tmp_path, "leaky", text)
    if not kind:  # one character more or less than a key has
        assert load_profile("leaky", folder=tmp_path).tags
        return

    with pytest.raises(InvalidRequest, match=f"looks like {kind}, and files like this") as caught:
        load_profile("leaky", folder=tmp_path)

    value = text.partition("= ")[2].strip("'").partition("'")[0]
    assert len(value) < 4 or value not in str(caught.value)
    assert "AKIAIOSFODNN7EXAMPLE" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[tags]\ncommit = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
        "[tags]\ncost-center = '4711'\nkey = 'a'\naccess = 'public'",
        "[identity]\naws = 'headwater-nodes'\ngcp = 'nodes@project.iam.gserviceaccount.com'",
        "[image]\naws = 'ami-0123456789abcdef0'\ncontainer = 'registry.example.org/a/b:1.2'",
    ],
)
def test_ordinary_values_are_no_secrets(tmp_path: Path, text: str) -> None:
    write(tmp_path, "plain", text)

    assert load_profile("plain", folder=tmp_path)


# Policies.


@pytest.fixture
def system(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "policy.toml"
    path.parent.mkdir()
    path.write_text(
        "name = 'company'\nclouds = ['aws', 'gcp']\n[limits]\nusd_per_run = 100\n"
        "[[residency]]\nname = 'EU'\nprefix = 's3://patients/'\nregions = ['eu-west-1']\n"
    )
    return path


def test_without_files_nothing_holds(tmp_path: Path) -> None:
    assert load_policies(system=tmp_path / "none.toml", environment={}) == ()


def test_the_machines_own_policy_holds_whatever_the_user_says(system: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose.toml"
    loose.write_text("clouds = ['aws', 'gcp', 'azure']\n[limits]\nusd_per_run = 100000")
    users = tmp_path / "config" / "headwater" / "policy.toml"
    users.parent.mkdir(parents=True)
    users.write_text("max_price_age_days = 7")
    write(tmp_path, "mine", "clouds = ['aws', 'azure']\n[limits]\nusd_per_run = 5000")

    policies = load_policies(system=system, environment={"HEADWATER_POLICY": str(loose)})
    rules = effective_rules(load_profile("mine", folder=tmp_path), policies)

    assert [p.name for p in policies] == ["company", "policy", "loose"]
    assert str(rules.usd_per_run) == f"limits.usd_per_run = 100 of policy 'company' ({system})"
    assert rules.max_price_age_days is not None
    assert str(system) in str(rules.denies_place(Cloud.AZURE, "eastus"))
    assert "'mine'" in str(rules.denies_place(Cloud.GCP, "us-east1"))
    held = rules.residency_of(["s3://patients/a"])
    assert "residency 'EU' of policy 'company'" in str(
        rules.denies_place(Cloud.AWS, "us-east-1", held)
    )


def test_a_profile_that_leaves_nothing_beside_a_policy_is_refused(
    system: Path, tmp_path: Path
) -> None:
    mine = write(tmp_path, "mine", "clouds = ['azure']")

    with pytest.raises(InvalidRequest, match="no region is left by") as caught:
        effective_rules(load_profile("mine", folder=tmp_path), load_policies(system=system))

    assert f"clouds of policy 'company' ({system})" in caught.value.message
    assert f"clouds of cluster profile 'mine' ({mine})" in caught.value.message


def test_more_gpus_than_a_rule_allows_are_refused(tmp_path: Path) -> None:
    limit = tmp_path / "limit.toml"
    limit.write_text("[limits]\ngpus = 4")
    mine = write(tmp_path, "mine", "[gpu]\ncount = 8")
    policies = load_policies(system=limit, environment={})

    with pytest.raises(InvalidRequest, match=r"^gpu.count = 8 of cluster profile") as caught:
        effective_rules(load_profile("mine", folder=tmp_path), policies)

    assert str(mine) in caught.value.message
    assert f"limits.gpus = 4 of policy 'limit' ({limit})" in caught.value.message


def test_a_policy_that_a_variable_names_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no policy at .*none\.toml, which HEADWATER_POLICY names"):
        load_policies(
            system=tmp_path / "x", environment={"HEADWATER_POLICY": str(tmp_path / "none.toml")}
        )


def test_a_policy_that_is_no_file_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").mkdir()

    with pytest.raises(AccessDenied, match="cannot be read, so nothing is allowed"):
        load_policies(system=tmp_path / "policy.toml", environment={})


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("clouds = [", InvalidRequest, "is no valid TOML"),
        ("cloud = ['aws']", UnknownName, "no setting 'cloud'"),
        ("[[residency]]\nprefix = 's3://a'\nregion = ['x']", InvalidRequest, "residency.region"),
        ("version = 2", UnsupportedData, "has format 2, newer than 1"),
        ("name = 3", InvalidRequest, "name: Input should be a valid string"),
        ("kind = 'no policy'", UnknownName, "no setting 'kind'"),
        ("[limits]\napi_key = 'x'", InvalidRequest, "looks like a secret"),
        ("clouds = ['gcp']\nregions = ['eu-west-1']", InvalidRequest, "no region is left by"),
        ("regions = ['mars']", UnknownName, "no region 'mars' in regions of policy 'policy'"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_by_its_file(
    tmp_path: Path, text: str, error: type[Exception], said: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(error) as caught:
        load_policies(system=path, environment={})

    assert said in str(caught.value)
    assert str(path) in str(caught.value)
