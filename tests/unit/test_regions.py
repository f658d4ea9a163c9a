"""The table of regions agrees with itself and with what botocore ships."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import botocore
import pytest

from headwater.infra.catalog.tables import load_catalog
from headwater.infra.errors import InvalidRequest, PriceUnknown, UnknownName
from headwater.infra.models import Cloud
from headwater.infra.regions import REGIONS, cloud_of, regions_named, require_one_cloud

PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "aws-eusc")


def test_a_name_is_of_one_cloud() -> None:
    assert [a & b for a, b in combinations(REGIONS.values(), 2)] == [frozenset()] * 3
    assert cloud_of("us-east-1") is Cloud.AWS
    assert cloud_of("us-east1") is Cloud.GCP
    assert cloud_of("eastus") is Cloud.AZURE
    assert cloud_of("us-east-99") is None


def test_the_regions_of_aws_are_those_of_botocore() -> None:
    endpoints = json.loads((Path(botocore.__file__).parent / "data/endpoints.json").read_text())
    shipped = {
        region
        for partition in endpoints["partitions"]
        if partition["partition"] in PARTITIONS
        for region in partition["regions"]
    }
    assert shipped
    assert shipped <= REGIONS[Cloud.AWS]


def test_patterns_name_regions() -> None:
    assert regions_named(["eu-west-*"]) == {"eu-west-1", "eu-west-2", "eu-west-3"}
    assert regions_named(["WestEurope", "us-gov-*"]) == {
        "westeurope",
        "us-gov-east-1",
        "us-gov-west-1",
    }


@pytest.mark.parametrize(
    ("name", "near"),
    [("eu-west-11", "eu-west-1"), ("us-centrall1", "us-central1"), ("westeurop", "westeurope")],
)
def test_a_region_that_does_not_exist_lists_the_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"no region '{name}' in the list") as caught:
        regions_named([name], where="the list")

    assert f"'{near}'" in caught.value.hint


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"no region 'mars-\*'"):
        regions_named(["mars-*"])


def test_a_bucket_is_not_in_two_clouds() -> None:
    with pytest.raises(InvalidRequest, match="eu-west-1, westeurope are regions of aws and azure"):
        require_one_cloud(["westeurope", "eu-west-1"], where="here")


def test_every_region_of_the_catalog_is_in_the_table_of_regions() -> None:
    catalog = load_catalog()

    offered = {(one.cloud, one.region) for one in catalog.offers}

    assert {cloud for cloud, _ in offered} == set(Cloud)
    assert [(c, r) for c, r in offered | catalog.areas.keys() if r not in REGIONS[c]] == []


@pytest.mark.parametrize("cloud", Cloud)
def test_a_region_without_prices_exists_all_the_same(cloud: Cloud) -> None:
    catalog = load_catalog()

    for region in sorted(REGIONS[cloud] - set(catalog.regions(cloud))):
        with pytest.raises(PriceUnknown, match=f"no prices are known in {cloud} {region}"):
            catalog.require_region(cloud, region)
    with pytest.raises(UnknownName, match=f"no region of {cloud} 'mars-1'"):
        catalog.require_region(cloud, "mars-1")
