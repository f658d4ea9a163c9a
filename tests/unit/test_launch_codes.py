"""What the clouds' error codes mean: complete, and each once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.launch_helpers import settings_of, spec_in

from headwater.infra.errors import (
    AuthenticationFailed,
    CloudUnavailable,
    HeadwaterError,
    InvalidLaunch,
    NoCapacity,
    QuotaExceeded,
    Throttled,
)
from headwater.infra.launchers import codes
from headwater.infra.launchers.calls import Blame, Failure, launch_error
from headwater.infra.launchers.codes import STATUSES, TABLES, Kind, kind_of
from headwater.infra.launchers.gcp import operation_failure
from headwater.infra.models import Cloud

CAPACITY = {
    Cloud.AWS: [
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "SpotMaxPriceTooLow",
        "MaxSpotInstanceCountExceeded",
        "Unsupported",
        "InsufficientFreeAddressesInSubnet",
    ],
    Cloud.GCP: [
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "VM_MIN_COUNT_NOT_REACHED",
        "IP_SPACE_EXHAUSTED",
    ],
    Cloud.AZURE: [
        "SkuNotAvailable",
        "AllocationFailed",
        "ZonalAllocationFailed",
        "OverconstrainedAllocationRequest",
        "OverconstrainedZonalAllocationRequest",
    ],
}
QUOTA = {
    Cloud.AWS: ["VcpuLimitExceeded", "InstanceLimitExceeded", "VolumeLimitExceeded"],
    Cloud.GCP: ["QUOTA_EXCEEDED", "quotaExceeded"],
    Cloud.AZURE: ["QuotaExceeded", "OperationNotAllowed"],
}
OTHERS = {
    Cloud.AWS: [
        ("UnauthorizedOperation", AuthenticationFailed),
        ("RequestExpired", AuthenticationFailed),
        ("ExpiredToken", AuthenticationFailed),
        ("OptInRequired", AuthenticationFailed),
        ("InvalidAMIID.NotFound", InvalidLaunch),
        ("InvalidSubnetID.NotFound", InvalidLaunch),
        ("IdempotentParameterMismatch", InvalidLaunch),
        ("RequestLimitExceeded", Throttled),
        ("InternalError", CloudUnavailable),
    ],
    Cloud.GCP: [
        ("PERMISSIONS_ERROR", AuthenticationFailed),
        ("authError", AuthenticationFailed),
        ("accessNotConfigured", AuthenticationFailed),
        ("invalid", InvalidLaunch),
        ("notFound", InvalidLaunch),
        ("rateLimitExceeded", Throttled),
        ("RATE_LIMIT_EXCEEDED", Throttled),
        ("backendError", CloudUnavailable),
    ],
    Cloud.AZURE: [
        ("AuthorizationFailed", AuthenticationFailed),
        ("ExpiredAuthenticationToken", AuthenticationFailed),
        ("MissingSubscriptionRegistration", AuthenticationFailed),
        ("ImageNotFound", InvalidLaunch),
        ("InvalidResourceReference", InvalidLaunch),
        ("PropertyChangeNotAllowed", InvalidLaunch),
        ("TooManyRequests", Throttled),
        ("InternalServerError", CloudUnavailable),
    ],
}


def every(table: dict[Cloud, list[str]]) -> list[tuple[Cloud, str]]:
    return [(cloud, code) for cloud, codes in table.items() for code in codes]


def error_of(
    cloud: Cloud, code: str, message: str = "it says", status: int = 400
) -> HeadwaterError:
    failure = Failure.of(cloud, code, message, status)
    blames = (Blame(("/images/", "amiid", "imagenotfound"), f"image.{cloud}"),)
    return launch_error(
        failure, spec_in(cloud), settings_of(cloud), blames=blames, more="the page of quotas"
    )


@pytest.mark.parametrize(("cloud", "code"), every(CAPACITY))
def test_no_capacity_leads_to_the_next_place(cloud: Cloud, code: str) -> None:
    error = error_of(cloud, code)

    assert type(error) is NoCapacity
    assert error.retry == "elsewhere"
    assert code in error.message
    assert spec_in(cloud).place in error.message


@pytest.mark.parametrize(("cloud", "code"), every(QUOTA))
def test_quota_leads_to_the_next_region_and_says_how_to_ask(cloud: Cloud, code: str) -> None:
    error = error_of(cloud, code)

    assert type(error) is QuotaExceeded
    assert error.retry == "elsewhere"
    assert "the page of quotas" in error.hint
    assert spec_in(cloud).region in error.message


@pytest.mark.parametrize(
    ("cloud", "code", "kind"),
    [(c, code, kind) for c, all_ in OTHERS.items() for code, kind in all_],
)
def test_other_codes_have_their_own_errors(
    cloud: Cloud, code: str, kind: type[HeadwaterError]
) -> None:
    error = error_of(cloud, code)

    assert type(error) is kind
    assert error.retry == ("later" if kind in (Throttled, CloudUnavailable) else "never")


@pytest.mark.parametrize("cloud", list(Cloud))
def test_each_table_tells_every_kind_apart(cloud: Cloud) -> None:
    kinds = set(TABLES[cloud].values())

    # EC2 answers a call that comes again with the machine itself; ARM's calls are of that kind.
    assert kinds >= set(Kind) - {Kind.EXISTS}


def test_a_code_stands_once_in_a_table() -> None:
    text = Path(str(codes.__file__)).read_text("utf-8")
    for cloud in Cloud:
        begin = text.index(f"\n{cloud.upper()} = _table(")
        words = text[begin : text.index("# fmt: skip", begin)].replace('"', " ").split()
        found = [word.strip(",") for word in words if word.strip(",") in TABLES[cloud]]
        assert sorted(found) == sorted(TABLES[cloud])


@pytest.mark.parametrize(
    ("status", "kind"), [*STATUSES.items(), (500, Kind.UNAVAILABLE), (503, Kind.UNAVAILABLE)]
)
@pytest.mark.parametrize("cloud", list(Cloud))
def test_a_code_that_is_not_known_goes_by_its_status(cloud: Cloud, status: int, kind: Kind) -> None:
    assert kind_of(cloud, "OfNextYear", status) is kind


@pytest.mark.parametrize(
    ("cloud", "code", "message"),
    [
        (Cloud.AWS, "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist"),
        (Cloud.GCP, "notFound", "The resource 'projects/p/global/images/x' was not found"),
        (Cloud.AZURE, "ImageNotFound", "The Image '/x' cannot be found"),
    ],
)
def test_what_is_wrong_is_told_with_the_profiles_line_and_file(
    cloud: Cloud, code: str, message: str
) -> None:
    error = error_of(cloud, code, message, 404)

    assert type(error) is InvalidLaunch
    assert error.hint == f"mend image.{cloud} of cluster profile 'mine' (profiles/mine.toml)"


def test_an_operation_that_fails_says_what_the_accepted_call_did_not() -> None:
    errors = [
        {"code": "RESOURCE_NOT_FOUND", "message": "beside it"},
        {"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": "no g2 left"},
    ]
    failure = operation_failure({"error": {"errors": errors}, "http_error_status_code": 503})

    assert failure is not None
    assert (failure.kind, failure.message) == (Kind.CAPACITY, "no g2 left")
    assert operation_failure({"status": "DONE", "http_error_status_code": 0}) is None
    late = operation_failure({"http_error_status_code": 500, "http_error_message": "down"})
    assert late is not None
    assert late.kind is Kind.UNAVAILABLE
