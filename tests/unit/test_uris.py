"""Addresses: every accepted form, keys kept byte for byte, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.infra.errors import InvalidUri
from headwater.infra.storage.uris import Scheme, Uri

AZURE_FORMS = (
    "abfss://raw@acct.dfs.core.windows.net/2024/x.csv",
    "abfs://raw@acct.dfs.core.windows.net/2024/x.csv",
    "az://raw@acct.blob.core.windows.net/2024/x.csv",
    "https://acct.blob.core.windows.net/raw/2024/x.csv",
    "https://acct.dfs.core.windows.net/raw/2024/x.csv",
)


@pytest.mark.parametrize("text", AZURE_FORMS)
def test_every_azure_form_names_the_same_object(text: str) -> None:
    uri = Uri.parse(text)

    assert str(uri) == "abfss://raw@acct.dfs.core.windows.net/2024/x.csv"


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n", "S3"])
def test_every_s3_form_names_the_same_object(scheme: str) -> None:
    assert Uri.parse(f"{scheme}://lake/a") == Uri(Scheme.S3, "lake", "a")


@given(
    st.sampled_from(["s3://lake/", "gs://lake/", "abfss://raw@acct.dfs.core.windows.net/"]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8")),
)
def test_keys_are_kept_byte_for_byte(root: str, key: str) -> None:
    uri = Uri.parse(root + key)

    assert uri.key == key
    assert Uri.parse(str(uri)) == uri


@given(st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1))
def test_file_addresses_name_the_same_path_again(name: str) -> None:
    uri = Uri(Scheme.FILE, "", "/data") / name
    if name not in (".", ".."):
        assert Uri.parse(str(uri)) == uri


def test_https_forms_are_decoded_as_the_urls_they_are() -> None:
    uri = Uri.parse("https://acct.blob.core.windows.net/raw/a%20b%2523.csv")

    assert uri.key == "a b%23.csv"


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    for text in (
        "https://acct.blob.core.windows.net/raw/x.csv?sv=1&sig=SECRET",
        "https://lake.s3.amazonaws.com/x.csv?X-Amz-Signature=SECRET",
        "ftp://user:SECRET@example.org/x.csv",
    ):
        with pytest.raises(InvalidUri) as caught:
            Uri.parse(text)
        assert "SECRET" not in str(caught.value)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(InvalidUri, match="no scheme 's4'") as caught:
        Uri.parse("s4://lake/a")

    assert "s3" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["", "  ", "a\0b", "s3://", "s3:///", "file://host/a", "abfss://raw@elsewhere.example/a"],
)
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidUri):
        Uri.parse(text)


def test_plain_paths_are_absolute_and_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)

    assert Uri.parse("link/a.csv").path == tmp_path.resolve() / "real" / "a.csv"
    assert Uri.parse("link/").key == f"{tmp_path.resolve()}/real/"


def test_file_addresses_keep_their_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert Uri.parse(f"file://{tmp_path}/link/a.csv").key == f"{tmp_path}/link/a.csv"


def test_a_folder_contains_what_is_below_it_and_nothing_else() -> None:
    lake = Uri.parse("s3://lake/raw")

    inside = [lake, lake / "a", Uri.parse("s3://lake/raw/")]
    outside = [Uri.parse(text) for text in ("s3://lake/raw2", "s3://pond/raw/a", "gs://lake/raw/a")]

    assert [lake.contains(uri) for uri in inside] == [True] * 3
    assert [lake.contains(uri) for uri in outside] == [False] * 3


def test_relative_is_the_rest_of_the_key() -> None:
    folder = Uri.parse("s3://lake/raw/")

    assert folder.relative(folder / "a" / "b") == "a/b"


def test_a_pattern_starts_below_its_root() -> None:
    root = Uri.parse("s3://lake/raw/2024-*/x?.csv").glob_root

    assert root == Uri.parse("s3://lake/raw")


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("", "names a folder"),
        ("a/", "names a folder"),
        ("a\nb", "control character"),
        ("a\\b", "backslash"),
        ("a/../b", "path segment"),
        ("a./b", "ends in a dot, which Azure drops"),
        ("a/b...", "ends in a dot, which Azure drops"),
        ("a\uffffb", "control character"),
        (".well-known/acme-challenge/a", "Google Cloud Storage keeps no key"),
        ("é" * 513, "1026 bytes, 1024 are allowed"),
        ("\ud800", "not Unicode"),
    ],
)
def test_keys_that_some_store_would_change_are_not_for_writing(key: str, fault: str) -> None:
    with pytest.raises(InvalidUri, match=fault):
        Uri(Scheme.S3, "lake", key).checked_for_write()
