"""The contract of filesystems, on Azure Blob Storage; and what only that can do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.contract.filesystems import ObjectStoreContract, OtherClient, every_text
from tests.emulators.azure import KEY, Azurite
from tests.emulators.faults import counted

from headwater.infra.errors import AccessDenied
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.azure import Azure
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.uris import Uri


class TestAzure(ObjectStoreContract):
    @pytest.fixture
    def root(self, azurite: Azurite) -> Uri:
        return Uri.parse(azurite.address(azurite.new_container(), "root"))

    @pytest.fixture
    def other_client(self, azurite: Azurite) -> OtherClient:
        return lambda uri, data: azurite.put(uri.bucket, uri.key, data)

    @pytest.fixture
    def missing_place(self, azurite: Azurite) -> Uri:
        return Uri.parse(azurite.address("no-such-container", "a"))

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return [KEY]

    def test_the_account_is_added_to_an_address_without_one(
        self, fs: Filesystem, root: Uri
    ) -> None:
        short = Uri.parse(f"az://{root.bucket}/{root.key}")
        ref = open_filesystem(short).write(short / "a", b"x")

        assert ref.uri == str(root / "a")
        assert open_filesystem(short).canonical(short) == root
        assert open_filesystem(short).read(fs.stat(root / "a")) == b"x"

    def test_no_account_lists_where_it_was_looked_for(
        self, root: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")

        with pytest.raises(AccessDenied, match="no storage account is named") as caught:
            open_filesystem(Uri.parse(f"az://{root.bucket}/a"))

        assert "AZURE_STORAGE_CONNECTION_STRING" in caught.value.hint

    def test_a_wrong_key_is_refused_and_not_shown(
        self, root: Uri, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = "d3Jvbmcta2V5LXdyb25nLWtleQ=="
        text = azurite.environment["AZURE_STORAGE_CONNECTION_STRING"].replace(KEY, wrong)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)

        with pytest.raises(AccessDenied, match="not allowed to look up") as caught:
            open_filesystem(root).stat(root / "a")

        assert not [text for text in every_text(caught.value) if wrong in text]


@pytest.mark.parametrize(("spared", "is_asked"), [("", True), ("127.0.0.1", False)])
def test_requests_take_the_proxy_that_the_environment_names(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch, spared: str, is_asked: bool
) -> None:
    uri = Uri.parse(f"{azurite.address(azurite.new_container(), 'a')}")
    open_filesystem(uri).write(uri, b"x" * 1000)
    with counted(azurite.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", spared)

        # Its own, since the one at hand was opened without.
        fs = Azure()

        assert fs.read(fs.stat(uri)) == b"x" * 1000
    assert (proxy.sent_bytes >= 1000) is is_asked
