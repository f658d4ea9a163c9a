"""The regions of the three clouds: what a name in a profile or a policy may mean. No I/O.

A region's name tells its cloud: no two clouds use the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.infra.models import Cloud

HERE = "here"
"""Stands in place of a region for this machine and its network, which is in no cloud's."""

REGIONS_AS_OF = "2026-09"
"""When the table was last compared with what the clouds list."""

_AS_OF = f"the table of regions is of {REGIONS_AS_OF}"

_AWS = """
af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2
ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6
ap-southeast-7 ca-central-1 ca-west-1 cn-north-1 cn-northwest-1 eu-central-1 eu-central-2
eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 eusc-de-east-1 il-central-1
me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2 us-gov-east-1 us-gov-west-1
us-west-1 us-west-2
"""

_GCP = """
africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1
asia-south2 asia-southeast1 asia-southeast2 asia-southeast3 australia-southeast1
australia-southeast2 europe-central2 europe-north1 europe-north2 europe-southwest1 europe-west1
europe-west10 europe-west12 europe-west2 europe-west3 europe-west4 europe-west6 europe-west8
europe-west9 me-central1 me-central2 me-west1 northamerica-northeast1 northamerica-northeast2
northamerica-south1 southamerica-east1 southamerica-west1 us-central1 us-east1 us-east4 us-east5
us-south1 us-west1 us-west2 us-west3 us-west4
"""

_AZURE = """
australiacentral australiacentral2 australiaeast australiasoutheast austriaeast belgiumcentral
brazilsouth brazilsoutheast canadacentral canadaeast centralindia centralus chilecentral
chinaeast chinaeast2 chinaeast3 chinanorth chinanorth2 chinanorth3 denmarkeast eastasia eastus
eastus2 francecentral francesouth germanynorth germanywestcentral indonesiacentral israelcentral
italynorth japaneast japanwest jioindiacentral jioindiawest koreacentral koreasouth malaysiawest
mexicocentral newzealandnorth northcentralus northeurope norwayeast norwaywest polandcentral
qatarcentral southafricanorth southafricawest southcentralus southeastasia southindia spaincentral
swedencentral swedensouth switzerlandnorth switzerlandwest uaecentral uaenorth uksouth ukwest
usgovarizona usgovtexas usgovvirginia westcentralus westeurope westindia westus westus2 westus3
"""

REGIONS: dict[Cloud, frozenset[str]] = {
    Cloud.AWS: frozenset(_AWS.split()),
    Cloud.GCP: frozenset(_GCP.split()),
    Cloud.AZURE: frozenset(_AZURE.split()),
}
"""Names of the regions of each cloud, as its API spells them. Sources: botocore's endpoints
(partitions aws, aws-cn, aws-us-gov, aws-eusc), Google's page of Compute Engine regions,
Microsoft's list of Azure regions."""


def cloud_of(region: str) -> Cloud | None:
    """The cloud that has a region of this name; ``None`` where none of them does.

    Example:
        >>> cloud_of("eu-west-1"), cloud_of("europe-west1"), cloud_of("westeurope")
        (<Cloud.AWS: 'aws'>, <Cloud.GCP: 'gcp'>, <Cloud.AZURE: 'azure'>)
    """
    return next((cloud for cloud, names in REGIONS.items() if region in names), None)


def regions_named(patterns: Iterable[str], *, where: str = "") -> frozenset[str]:
    """The regions that ``patterns`` name.

    Args:
        patterns: Names; ``*`` stands for any text, so ``eu-*`` is seven regions of AWS.
        where: What messages say of the list that holds them.
    Raises:
        UnknownName: No cloud has such a region; the near ones are listed.

    Example:
        >>> sorted(regions_named(["us-gov-*", "uksouth"]))
        ['uksouth', 'us-gov-east-1', 'us-gov-west-1']
    """
    named: set[str] = set()
    every = frozenset[str]().union(*REGIONS.values())
    for pattern in patterns:
        found = {region for region in every if fnmatchcase(region, pattern.lower())}
        if not found:
            raise UnknownName.of("region", pattern.lower(), every, where=where, hint=_AS_OF)
        named |= found
    return frozenset(named)


def require_region_of(cloud: Cloud, region: str) -> None:
    """Refuse a name that is no region of ``cloud``.

    Raises:
        UnknownName: The near ones are listed.
    """
    if region not in REGIONS[cloud]:
        raise UnknownName.of(f"region of {cloud}", region, sorted(REGIONS[cloud]))


def require_one_cloud(regions: Iterable[str], *, where: str) -> None:
    """Refuse names that are not regions of one cloud.

    Args:
        where: What messages say of the list that holds them.
    Raises:
        UnknownName: No cloud has one of them; the near ones are listed.
        InvalidRequest: They are regions of several clouds.
    """
    every = frozenset[str]().union(*REGIONS.values())
    named = sorted(set(regions))
    for region in named:
        if region not in every:
            raise UnknownName.of("region", region, every, where=where, hint=_AS_OF)
    clouds = sorted({cloud for region in named if (cloud := cloud_of(region))})
    if len(clouds) > 1:
        raise InvalidRequest(
            f"{where}: {', '.join(named)} are regions of {' and '.join(clouds)}",
            hint="a bucket is in the regions of one cloud",
        )
