"""Rules narrow each other, cite their file, and are refused where they leave nothing."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.infra.models import Cloud, Market
from headwater.infra.policies import Policy, Rules, in_family

PATIENTS = {"name": "patients in the EU", "prefix": "s3://lake/patients/", "regions": ["eu-west-*"]}


def policy(name: str = "team", **said: Any) -> Policy:
    return Policy.model_validate({"name": name, "source": f"/etc/{name}.toml", **said})


def rules(*policies: Policy) -> Rules:
    return Rules.of(policies)


# What one policy says.


def test_one_name_is_a_list_of_one() -> None:
    assert policy(clouds="aws", regions="eu-west-1", instance_families="g6") == policy(
        clouds=["aws"], regions=["eu-west-1"], instance_families=["g6"]
    )


def test_nothing_said_allows_everything() -> None:
    free = rules(policy())

    assert free.every == ()
    assert free.denies_place(Cloud.AZURE, "westeurope") is None
    assert free.denies_type("p5.48xlarge") is None
    assert free.denies_market(Market.SPOT) is None
    assert free.residency_of(["s3://lake/patients/x"]) == ()


def test_a_denied_place_cites_the_rule_and_its_file() -> None:
    some = rules(policy(clouds=["aws", "gcp"], regions=["eu-*", "europe-west4"]))

    assert some.denies_place(Cloud.AWS, "eu-central-1") is None
    assert some.denies_place(Cloud.GCP, "europe-west4") is None
    assert str(some.denies_place(Cloud.AZURE, "westeurope")) == (
        "clouds of policy 'team' (/etc/team.toml)"
    )
    assert str(some.denies_place(Cloud.AWS, "us-east-1")) == (
        "regions of policy 'team' (/etc/team.toml)"
    )


@pytest.mark.parametrize(
    ("spot", "denied"),
    [("allow", []), ("require", [Market.ON_DEMAND]), ("forbid", [Market.SPOT])],
)
def test_spot_decides_over_markets(spot: str, denied: list[Market]) -> None:
    some = rules(policy(spot=spot))

    assert [m for m in Market if some.denies_market(m)] == denied


@pytest.mark.parametrize(
    ("instance_type", "family", "is_in"),
    [
        ("g6.xlarge", "g6", True),
        ("g6e.xlarge", "g6", False),
        ("g6.xlarge", "g6.xlarge", True),
        ("a2-ultragpu-1g", "a2-highgpu", False),
        ("a2-highgpu-8g", "a2", True),
        ("Standard_NC24ads_A100_v4", "Standard_NC*", True),
        ("Standard_ND96isr_H100_v5", "Standard_NC*", False),
        ("m7i.large", "m7", False),
    ],
)
def test_a_family_ends_where_its_name_does(instance_type: str, family: str, is_in: bool) -> None:
    assert in_family(instance_type, family) is is_in


def test_a_region_that_does_not_exist_names_the_policy() -> None:
    where = r"no region 'eu-wst-1' in regions of policy 'team' \(/etc/team.toml\)"
    with pytest.raises(UnknownName, match=where) as caught:
        rules(policy(regions=["eu-wst-1"]))

    assert "'eu-west-1'" in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [
        {"clouds": []},
        {"clouds": ["ibm"]},
        {"spot": "maybe"},
        {"limits": {"usd_per_hour": -1}},
        {"limits": {"usd_per_run": float("nan")}},
        {"residency": [{"prefix": "/data", "regions": ["eu-west-1"]}]},
        {"residency": [{"prefix": "s3://lake", "regions": []}]},
        # A prefix that could hold for nothing would be a rule that nobody misses.
        {"residency": [{"prefix": "s3://lake/*/raw", "regions": ["eu-west-1"]}]},
        {"residency": [{"prefix": "s3://lake-?", "regions": ["eu-west-1"]}]},
        {"residency": [{"prefix": "s3://", "regions": ["eu-west-1"]}]},
        {"instance_families": [""]},
    ],
)
def test_a_value_that_means_nothing_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        policy(**said)


# Several together.


def test_policies_only_narrow_in_whichever_order() -> None:
    one = policy("one", clouds=["aws", "gcp"], limits={"usd_per_run": 50, "gpus": 8})
    two = policy("two", clouds=["gcp", "azure"], limits={"usd_per_run": 20}, spot="forbid")

    for some in (rules(one, two), rules(two, one)):
        denied = {c: some.denies_place(c, r) for c, r in _SOMEWHERE.items()}
        assert denied[Cloud.GCP] is None
        assert "'two'" in str(denied[Cloud.AWS])
        assert "'one'" in str(denied[Cloud.AZURE])
        assert some.usd_per_run is not None
        assert some.usd_per_run.value == 20
        assert some.usd_per_run.name == "limits.usd_per_run = 20 of policy 'two'"
        assert some.gpus is not None
        assert some.gpus.source == "/etc/one.toml"
        assert some.denies_market(Market.SPOT) is not None


_SOMEWHERE = {Cloud.AWS: "us-east-1", Cloud.GCP: "us-central1", Cloud.AZURE: "eastus"}


def test_a_limit_of_zero_is_a_limit() -> None:
    some = rules(policy(limits={"egress_usd": 0}), policy("other", limits={"egress_usd": 3}))

    assert some.egress_usd is not None
    assert some.egress_usd.value == 0


_PLACES = [
    (Cloud.AWS, "eu-west-1"),
    (Cloud.AWS, "us-east-1"),
    (Cloud.GCP, "europe-west4"),
    (Cloud.GCP, "us-east1"),
    (Cloud.AZURE, "westeurope"),
]

_POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "clouds": st.lists(st.sampled_from([*Cloud]), min_size=1, unique=True),
        "regions": st.lists(st.sampled_from([r for _, r in _PLACES]), min_size=1, unique=True),
        "residency": st.lists(
            st.fixed_dictionaries(
                {
                    "prefix": st.sampled_from(["s3://lake", "s3://lake/a", "gs://lake"]),
                    "regions": st.lists(st.sampled_from([r for _, r in _PLACES]), min_size=1),
                }
            ),
            max_size=2,
        ),
        "limits": st.fixed_dictionaries({"usd_per_run": st.integers(0, 9)}),
    },
)


@given(st.lists(_POLICIES, min_size=1, max_size=3))
def test_together_they_allow_exactly_what_each_of_them_allows(said: list[dict[str, Any]]) -> None:
    inputs = ["s3://lake/a/x", "gs://lake/y"]  # below every prefix
    policies = [policy(str(n), **one) for n, one in enumerate(said)]
    expected = {
        region
        for cloud, region in _PLACES
        if all(p.clouds is None or cloud in p.clouds for p in policies)
        and all(p.regions is None or region in p.regions for p in policies)
        and all(region in held.regions for p in policies for held in p.residency)
    }

    try:
        together = rules(*policies)
        held = together.residency_of(inputs)
    except InvalidRequest:
        found = set()
    else:
        found = {r for c, r in _PLACES if together.denies_place(c, r, held) is None}
        limits = [p.limits.usd_per_run for p in policies if p.limits.usd_per_run is not None]
        least = together.usd_per_run
        assert (least.value if least else None) == min(limits, default=None)

    assert found == expected


@pytest.mark.parametrize(
    ("one", "two", "rule_one", "rule_two"),
    [
        ({"clouds": ["aws"]}, {"clouds": ["gcp"]}, "clouds", "clouds"),
        ({"regions": ["eu-west-1"]}, {"regions": ["us-*"]}, "regions", "regions"),
        ({"clouds": ["aws"]}, {"regions": ["europe-west4"]}, "clouds", "regions"),
        ({"spot": "require"}, {"spot": "forbid"}, "spot = 'require'", "spot = 'forbid'"),
        ({"residency": [PATIENTS]}, {"regions": ["us-east-1"]}, "residency", "regions"),
        ({"residency": [PATIENTS]}, {"clouds": ["gcp"]}, "residency", "clouds"),
        (
            {"residency": [PATIENTS]},
            {"residency": [{"prefix": "s3://lake/", "regions": ["us-east-1"]}]},
            "residency 'patients in the EU'",
            "residency 's3://lake/'",
        ),
    ],
)
def test_two_rules_that_leave_nothing_are_both_named_with_their_files(
    one: dict[str, Any], two: dict[str, Any], rule_one: str, rule_two: str
) -> None:
    for first, second in (("one", "two"), ("two", "one")):
        said = {"one": one, "two": two}
        with pytest.raises(InvalidRequest, match=r"^no (region|machine) is left by") as caught:
            rules(policy(first, **said[first]), policy(second, **said[second]))

        assert "/etc/one.toml" in caught.value.message
        assert "/etc/two.toml" in caught.value.message
        assert rule_one in caught.value.message
        assert rule_two in caught.value.message


def test_a_policy_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"clouds of policy 'team'.*regions of policy 'team'"):
        rules(policy(clouds=["azure"], regions=["us-*"]))


def test_three_rules_may_leave_nothing_though_each_two_do() -> None:
    pairs = (["eu-west-1", "eu-west-2"], ["eu-west-2", "eu-west-3"], ["eu-west-3", "eu-west-1"])
    with pytest.raises(InvalidRequest, match=r"'0'.* and .*'1'.* and .*'2'"):
        rules(*(policy(str(n), regions=pair) for n, pair in enumerate(pairs)))


# Where data may be.


@pytest.mark.parametrize(
    ("uri", "holds"),
    [
        ("s3://lake/patients/2024/a.parquet", True),
        ("s3://lake/patients", True),
        ("s3a://lake/patients/x", True),
        ("s3://lake/", True),
        ("s3://lake/*/2024/*.parquet", True),
        ("s3://lake/p*/*", True),
        ("s3://lake/**/x.parquet", True),
        ("s3://lake/patients/*/x.parquet", True),
        ("s3://lake/trips-*/2024/*.parquet", False),
        ("s3://lak*/patients/x", False),
        ("s3://lake/patients_*/x", False),
        ("s3://lake/patients_public/a", False),
        ("s3://lake/trips/", False),
        ("s3://other/patients/", False),
        ("gs://lake/patients/", False),
    ],
)
def test_residency_holds_below_its_prefix_and_for_what_takes_it_in(uri: str, holds: bool) -> None:
    some = rules(policy(residency=[PATIENTS]))

    found = some.residency_of([uri])

    assert bool(found) is holds
    denied = some.denies_place(Cloud.AWS, "us-east-1", found)
    assert (str(denied) if holds else denied) == (
        "residency 'patients in the EU' of policy 'team' (/etc/team.toml)" if holds else None
    )
    assert some.denies_place(Cloud.AWS, "eu-west-2", found) is None


def test_of_several_inputs_only_regions_that_all_allow_remain() -> None:
    some = rules(
        policy(residency=[PATIENTS]),
        policy("dpo", residency=[{"prefix": "gs://claims", "regions": ["eu-west-1", "us-east-1"]}]),
    )

    found = some.residency_of(["s3://lake/patients/a", "gs://claims/b", "s3://lake/trips/c"])

    allowed = [
        r
        for r in ("eu-west-1", "eu-west-2", "us-east-1")
        if not some.denies_place(Cloud.AWS, r, found)
    ]
    assert allowed == ["eu-west-1"]


def test_inputs_that_no_region_may_hold_together_are_both_named() -> None:
    some = rules(
        policy(residency=[PATIENTS]),
        policy("us", residency=[{"prefix": "s3://claims", "regions": ["us-east-1"]}]),
    )

    with pytest.raises(InvalidRequest, match="no region may hold the data of all") as caught:
        some.residency_of(["s3://lake/trips", "s3://lake/patients/a", "s3://claims/b"])

    assert "s3://lake/patients/a: residency 'patients in the EU'" in caught.value.message
    assert "s3://claims/b: residency 's3://claims'" in caught.value.message
    assert "/etc/us.toml" in caught.value.message
    assert "trips" not in caught.value.message


def test_this_machine_is_in_no_region_unless_a_rule_says_here() -> None:
    here = {"prefix": "s3://lake/a", "regions": ["here", "eu-west-1"]}
    away = {"prefix": "s3://lake/b", "regions": ["eu-west-1"]}
    only = {"prefix": "s3://lake/c", "regions": ["here"]}
    some = rules(policy(clouds=["gcp", "aws"], residency=[here, away, only]))

    assert some.denies_here(some.residency_of(["s3://lake/a/x"])) is None
    assert some.denies_here(some.residency_of(["s3://lake/c/x"])) is None
    assert "'s3://lake/b'" in str(some.denies_here(some.residency_of(["s3://lake/b/x"])))
    assert "'s3://lake/b'" in str(some.denies_here(some.residency_of(["s3://lake/[ab]/x"])))
    assert some.denies_place(Cloud.AWS, "eu-west-1", some.residency_of(["s3://lake/c"]))
    with pytest.raises(InvalidRequest, match="no region may hold the data of all"):
        some.residency_of(["s3://lake/b", "s3://lake/c"])


def test_a_container_of_any_account_is_held_by_a_rule_without_one() -> None:
    eu = {"prefix": "az://raw/", "regions": ["westeurope"]}
    some = rules(policy(residency=[eu]))

    assert some.residency_of(["abfss://raw@acct.dfs.core.windows.net/a"])


def test_rules_survive_pickle() -> None:
    some = rules(policy(clouds=["aws"], residency=[PATIENTS], limits={"gpus": 4}))

    assert pickle.loads(pickle.dumps(some)) == some  # noqa: S301  # our own bytes
