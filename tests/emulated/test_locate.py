"""Where buckets are: as emulators of the stores say, and as the clouds' own answers do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import polars as pl
import pytest
from tests.emulators.answers import Answer, Recorded, recorded
from tests.emulators.azure import Azurite
from tests.emulators.faults import Fault, faulty
from tests.emulators.gcs import LOCATION, FakeGcs
from tests.emulators.s3 import Moto

from headwater.infra.errors import AccessDenied, InvalidRequest, NotFound, UnknownLocation
from headwater.infra.locations.locate import NotLocated, locate, locate_each
from headwater.infra.locations.models import Location
from headwater.infra.locations.residency import require_resident
from headwater.infra.models import Cloud
from headwater.infra.policies import Policy, Rules
from headwater.infra.profiles import DeclaredLocation
from headwater.infra.regions import REGIONS
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import Home, ObjectStore
from headwater.infra.storage.uris import Uri

XML = {"Content-Type": "application/xml"}
REFUSED = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def declared(prefix: str, *location: str) -> DeclaredLocation:
    return DeclaredLocation(prefix=prefix, location=location)


def home(address: str) -> Home:
    uri = Uri.parse(address)
    store = open_filesystem(uri)
    assert isinstance(store, ObjectStore)
    return store.home(uri)


@pytest.fixture(scope="module")
def cloud_process() -> Iterator[Recorded]:
    with recorded() as server:
        yield server


@pytest.fixture
def cloud(cloud_process: Recorded) -> Recorded:
    """One server for all tests, so that each store is opened once; it knows no answer yet."""
    cloud_process.answers.clear()
    cloud_process.first.clear()
    cloud_process.asked.clear()
    return cloud_process


# S3.


@pytest.fixture
def frankfurt(moto: Moto) -> str:
    """A bucket in eu-central-1 with two files and a marker."""
    bucket = moto.new_bucket()
    client = moto.client()
    client.delete_bucket(Bucket=bucket)
    client.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    client.close()
    for name, data in (("in/a.csv", b"n\n1\n"), ("in/b.csv", b"n\n22\n"), ("in/_SUCCESS", b"x")):
        moto.put(bucket, name, data)
    return bucket


def test_s3_says_the_region_of_each_bucket(frankfurt: str, moto: Moto) -> None:
    found = locate(
        [f"s3://{frankfurt}/in", f"s3://{moto.new_bucket()}/out"],
        declared=[declared("s3://", "ask")],
        missing_ok=True,
    )

    detail = f"HeadBucket at {moto.url}, trusted for s3://"
    assert found[0] == Location(
        f"s3://{frankfurt}/in", Cloud.AWS, frozenset({"eu-central-1"}), "api", 9, 2,
        f"{detail}; listed",
    )  # fmt: skip
    assert (found[1].regions, found[1].objects) == ({"us-east-1"}, 0)


def test_a_store_on_this_machine_is_in_no_region_whatever_it_says(
    frankfurt: str, moto: Moto
) -> None:
    (found,) = locate([f"s3://{frankfurt}/in/*.csv"])

    assert (found.cloud, found.regions, found.found) == (None, frozenset(), "local")
    assert f"at {moto.url}, which is this machine" in found.detail
    assert (found.size_bytes, found.objects) == (9, 2)


def test_of_declared_prefixes_the_longest_decides_and_nothing_is_asked(
    frankfurt: str,
) -> None:
    lines = [
        declared("s3://", "ask"),
        declared(f"s3://{frankfurt}/in", "us-west-2"),
        declared(f"s3://{frankfurt}", "here"),
    ]

    inner, outer = locate([f"s3://{frankfurt}/in/a.csv", f"s3://{frankfurt}/"], declared=lines)

    assert (inner.cloud, inner.regions, inner.found) == (Cloud.AWS, {"us-west-2"}, "declared")
    assert inner.detail == f"declared for s3://{frankfurt}/in; one object"
    assert (outer.cloud, outer.regions, outer.found) == (None, frozenset(), "declared")


def test_a_store_at_another_address_has_to_be_declared(
    frankfurt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is asked there: the address alone says that it is not Amazon's.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.7:9000")

    with pytest.raises(
        UnknownLocation, match=r"192\.0\.2\.7:9000.* no endpoint of AWS's"
    ) as caught:
        locate([f"s3://{frankfurt}/in"])

    assert f'[[locations]]\n       prefix = "s3://{frankfurt}/"\n' in caught.value.hint
    assert "location = \"REGION\"   # or 'here'" in caught.value.hint


def test_a_table_has_the_size_that_its_log_tells(frankfurt: str) -> None:
    root = Uri.parse(f"s3://{frankfurt}/lake/table")
    store = open_filesystem(root)
    for rows in (range(1000), range(10)):
        pl.DataFrame({"n": rows}).write_delta(
            store.delta_uri(root), mode="overwrite", storage_options=store.delta_options(root)
        )
    files = [ref for ref in store.list(root) if ref.uri.endswith(".parquet")]
    kept = min(files, key=lambda ref: ref.size_bytes)
    store.write(Uri.parse(f"s3://{frankfurt}/lake/notes.txt"), b"12345")

    table, lake = locate([str(root), f"s3://{frankfurt}/lake"])

    assert len(files) == 2
    assert (table.size_bytes, table.objects) == (kept.size_bytes, 1)
    assert table.detail.endswith("log of the table, version 1")
    assert (lake.size_bytes, lake.objects) == (kept.size_bytes + 5, 2)


def test_of_a_pattern_only_the_folders_that_its_steps_leave_are_listed(
    moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.new_bucket()
    for year in (2012, 2013):
        for month in (7, 8):
            moto.put(bucket, f"t/year={year}/month={month}/a.csv", b"n\n1\n")
    asked: list[str] = []

    def choose(_method: str, path: str) -> Fault:
        asked.extend(parse_qs(urlsplit(path).query).get("prefix", []))
        return Fault.NONE

    with faulty(moto.url, choose) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        (found,) = locate([f"s3://{bucket}/t/year=*/month=7/*.csv"])

    assert (found.size_bytes, found.objects) == (8, 2)
    years = ("t/year=2012/", "t/year=2013/")
    assert sorted(asked) == sorted(["t/", *years, *(f"{year}month=7/" for year in years)])


def test_what_a_run_leaves_behind_stays_where_its_inputs_may_be(frankfurt: str, moto: Moto) -> None:
    patients = {"prefix": f"s3://{frankfurt}/in", "regions": ["eu-central-1"]}
    rules = Rules.of([Policy.model_validate({"name": "dpo", "residency": [patients]})])
    ask = [declared("s3://", "ask")]
    inputs, elsewhere = [f"s3://{frankfurt}/in"], f"s3://{moto.new_bucket()}/runs"

    require_resident(rules, inputs, {"output": f"s3://{frankfurt}/out"}, declared=ask)
    require_resident(rules, [elsewhere], {"log": "s3://nobody-asks"}, declared=ask)
    with pytest.raises(InvalidRequest, match=f"the log {elsewhere} would be in aws us-east-1, and"):
        require_resident(
            rules, inputs, {"output": f"s3://{frankfurt}/out", "log": elsewhere}, declared=ask
        )
    with pytest.raises(InvalidRequest, match="the output /tmp/out would be on this machine"):
        require_resident(rules, inputs, {"output": "/tmp/out"}, declared=ask)  # noqa: S108


def test_what_is_not_there_is_named_beside_what_is(frankfurt: str) -> None:
    found = locate_each([f"s3://{frankfurt}/in", f"s3://{frankfurt}/out", "s3://no-such-one/a"])

    assert isinstance(found[0], Location)
    errors = [one.error for one in found if isinstance(one, NotLocated)]
    assert [type(error) for error in errors] == [NotFound, NotFound]
    with pytest.raises(NotFound, match=f"nothing is at s3://{frankfurt}/out"):
        locate([f"s3://{frankfurt}/in", f"s3://{frankfurt}/out"])


@pytest.fixture
def s3(cloud: Recorded, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """S3 as it is where we have few rights, for the bucket ``lake``."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return cloud


@pytest.mark.parametrize("status", [200, 301, 403])
def test_s3_says_the_region_also_where_it_refuses(s3: Recorded, status: int) -> None:
    s3.answers["HEAD /lake"] = Answer(status, headers={"x-amz-bucket-region": "ap-southeast-2"})

    assert home("s3://lake/a") == Home(frozenset({"ap-southeast-2"}), "HeadBucket")


@pytest.mark.parametrize(
    ("said", "region"), [("", "us-east-1"), ("EU", "eu-west-1"), ("sa-east-1", "sa-east-1")]
)
def test_without_that_header_s3_is_asked_for_the_location(
    s3: Recorded, said: str, region: str
) -> None:
    s3.answers["HEAD /lake"] = Answer(403)
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    s3.answers["GET /lake?location"] = Answer(
        200, f"<LocationConstraint {space}>{said}</LocationConstraint>", XML
    )

    assert home("s3://lake/a") == Home(frozenset({region}), "GetBucketLocation")


def test_where_s3_says_nothing_the_permission_and_the_lines_are_named(s3: Recorded) -> None:
    s3.answers["HEAD /lake"] = Answer(403)
    s3.answers["GET /lake"] = Answer(403, REFUSED, XML)

    with pytest.raises(AccessDenied, match="not allowed to ask for the region") as caught:
        locate(["s3://lake/a"], declared=[declared("s3://", "ask")])

    hint = "grant s3:GetBucketLocation or s3:ListBucket on arn:aws:s3:::lake"
    assert caught.value.hint.startswith(hint)
    assert 'prefix = "s3://lake/"\n       location = "REGION"' in caught.value.hint


def test_a_bucket_of_s3_that_is_not_there(s3: Recorded) -> None:
    s3.answers["HEAD /lake"] = Answer(404)

    with pytest.raises(NotFound, match="no bucket 'lake'"):
        home("s3://lake/a")


# Google Cloud Storage.


def test_gcs_says_the_region_of_a_bucket(gcs: FakeGcs) -> None:
    bucket = gcs.new_bucket()
    gcs.put(bucket, "in/year=2013/a.csv", b"n\n1\n")

    (found,) = locate([f"gs://{bucket}/in"], declared=[declared(f"gs://{bucket}", "ask")])

    assert (found.cloud, found.regions) == (Cloud.GCP, {LOCATION.lower()})
    assert (found.size_bytes, found.objects, found.found) == (4, 1, "api")


@pytest.fixture
def google(cloud: Recorded, gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
    return cloud


def bucket_row(location: str, kind: str, *placed: str) -> str:
    row: dict[str, object] = {"location": location, "locationType": kind}
    if placed:
        row["customPlacementConfig"] = {"dataLocations": placed}
    return json.dumps(row)


IN_EU = {r for r in REGIONS[Cloud.GCP] if r.startswith("europe-")}


@pytest.mark.parametrize(
    ("row", "regions", "said"),
    [
        (bucket_row("US-EAST1", "region"), {"us-east1"}, ""),
        (bucket_row("EUR4", "dual-region"), {"europe-north1", "europe-west4"}, "dual-region EUR4"),
        (
            bucket_row("US", "dual-region", "US-CENTRAL1", "US-SOUTH1"),
            {"us-central1", "us-south1"},
            "dual-region US",
        ),
        (
            bucket_row("EU", "multi-region"),
            IN_EU - {"europe-west2", "europe-west6"},
            "multi-region EU",
        ),
        (bucket_row("US-CENTRAL1-A", "zone"), {"us-central1"}, "zone US-CENTRAL1-A"),
    ],
)
def test_gcs_tells_all_regions_of_a_bucket(
    google: Recorded, row: str, regions: set[str], said: str
) -> None:
    google.answers["GET /storage/v1/b/lake?"] = Answer(200, row)

    found = home("gs://lake/a")

    assert found.regions == regions
    assert found.said_by == (f"buckets.get: {said}" if said else "buckets.get")


def test_who_may_only_list_is_told_by_the_layout(google: Recorded) -> None:
    google.answers["GET /storage/v1/b/lake?"] = Answer(403, '{"error": {"code": 403}}')
    layout = {
        "kind": "storage#storageLayout",
        "bucket": "lake",
        "location": "ASIA1",
        "locationType": "dual-region",
        "hierarchicalNamespace": {"enabled": False},
    }
    google.answers["GET /storage/v1/b/lake/storageLayout"] = Answer(200, json.dumps(layout))

    assert home("gs://lake/a") == Home(
        frozenset({"asia-northeast1", "asia-northeast2"}), "storageLayout: dual-region ASIA1"
    )


def test_where_gcs_says_nothing_the_permission_is_named(google: Recorded) -> None:
    google.answers["GET /storage/v1/b/lake"] = Answer(403, '{"error": {"code": 403}}')

    with pytest.raises(AccessDenied, match="ask for the region of gs://lake/a") as caught:
        locate(["gs://lake/a"], declared=[declared("gs://", "ask")])

    assert 'prefix = "gs://lake/"' in caught.value.hint


def test_a_group_of_regions_that_is_not_known_has_to_be_declared(google: Recorded) -> None:
    google.answers["GET /storage/v1/b/lake?"] = Answer(200, bucket_row("MOON", "multi-region"))

    with pytest.raises(UnknownLocation, match="multi-region 'MOON', whose regions") as caught:
        locate(["gs://lake/a"], declared=[declared("gs://", "ask")])

    assert 'prefix = "gs://lake/"' in caught.value.hint


# Azure.

GRAPH = "POST /providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01"


@pytest.fixture
def manager(cloud: Recorded, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The Resource Manager, and the identity of an app that Azure runs."""
    monkeypatch.setenv("HEADWATER_AZURE_MANAGER", cloud.url)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{cloud.url}/identity")
    # Of this test alone, so that no store of another test's has asked already.
    monkeypatch.setenv("IDENTITY_HEADER", f"of-the-app-{uuid4().hex}")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    token = {
        "access_token": "token-of-the-app",
        "expires_on": "4102444800",
        "resource": cloud.url,
        "token_type": "Bearer",
    }
    cloud.answers["GET /identity?"] = Answer(200, json.dumps(token))
    return cloud


def accounts(*rows: Mapping[str, str | None]) -> Answer:
    body = {"totalRecords": len(rows), "count": len(rows), "data": rows, "resultTruncated": "false"}
    return Answer(200, json.dumps(body), {"Content-Type": "application/json"})


def test_azure_tells_where_an_account_is_through_its_manager(
    manager: Recorded, azurite: Azurite
) -> None:
    row = {"name": azurite.account, "location": "westeurope", "secondary": "northeurope"}
    manager.answers[GRAPH] = accounts(row)
    container = azurite.new_container()
    azurite.put(container, "in/a.csv", b"n\n1\n")

    (found,) = locate([f"az://{container}/in"], declared=[declared("az://", "ask")])

    assert found.uri == azurite.address(container, "in")
    assert (found.cloud, found.regions, found.found) == (Cloud.AZURE, {"westeurope"}, "api")
    assert (found.size_bytes, found.objects) == (4, 1)
    assert found.detail.startswith("Resource Graph, copied to northeurope at")
    asked = manager.asked[-1]
    assert asked.headers["authorization"] == "Bearer token-of-the-app"
    assert f"name =~ '{azurite.account}'" in json.loads(asked.body)["query"]


@pytest.mark.parametrize("answer", [accounts(), Answer(403)])
def test_an_account_that_azure_does_not_show_names_the_role(
    manager: Recorded, azurite: Azurite, answer: Answer
) -> None:
    manager.answers[GRAPH] = answer

    with pytest.raises(AccessDenied) as caught:
        locate(["az://raw/in"], declared=[declared("az://", "ask")])

    hint = f"grant the role 'Reader' on the storage account {azurite.account}"
    assert caught.value.hint.startswith(hint)
    prefix = f"abfss://raw@{azurite.account}.dfs.core.windows.net/"
    assert f'prefix = "{prefix}"' in caught.value.hint


def test_azure_tells_nothing_to_a_key(
    manager: Recorded, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")

    with pytest.raises(AccessDenied, match="takes no account key or signature") as caught:
        locate(["az://raw/in"], declared=[declared("az://", "ask")])

    assert caught.value.hint.startswith("log in (az login")
    assert 'location = "REGION"' in caught.value.hint


def test_a_busy_manager_is_asked_again(manager: Recorded, azurite: Azurite) -> None:
    manager.answers[GRAPH] = accounts({"location": "uksouth", "secondary": None})
    manager.first[GRAPH] = [Answer(429), Answer(503)]

    assert home("az://raw/in") == Home(frozenset({"uksouth"}), "Resource Graph")
    assert [asked.line for asked in manager.asked].count(GRAPH) == 3


def test_azure_is_asked_once_for_all_of_an_account(manager: Recorded, azurite: Azurite) -> None:
    manager.answers[GRAPH] = accounts({"location": "uksouth", "secondary": None})
    uris = [f"az://{name}/in" for name in ("raw", "clean", "raw")]

    together = locate(uris, declared=[declared("az://", "ask")], measure=False)
    later = locate(uris[:1], declared=[declared("az://", "ask")], measure=False)

    assert {one.regions for one in (*together, *later)} == {frozenset({"uksouth"})}
    assert [asked.line for asked in manager.asked].count(GRAPH) == 1


def test_a_local_file_is_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")

    (found,) = locate([str(tmp_path)], declared=[declared("s3://", "ask")])

    assert found == Location(f"file://{tmp_path}", None, frozenset(), "local", 4, 1, "listed")
