"""Rights that are missing on Azure, each left out of a shared access signature."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from tests.contract.datasets import table_log, write_log
from tests.emulators.azure import ACCOUNT, KEY, Azurite

from headwater.infra.errors import AccessDenied
from headwater.infra.models import JobRequest
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.uris import Uri
from headwater.tasks.prepare import prepare


@dataclass(frozen=True)
class Guarded:
    """A container of which a user has some rights only."""

    server: Azurite
    container: str
    patch: pytest.MonkeyPatch

    @property
    def root(self) -> Uri:
        return Uri.parse(self.server.address(self.container, "lake"))

    def allow(self, letters: str) -> None:
        """From now on, only these; see ``sp`` of a shared access signature."""
        signature = generate_container_sas(
            ACCOUNT,
            self.container,
            account_key=KEY,
            permission=ContainerSasPermissions.from_string(letters),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        access = f"BlobEndpoint={self.server.url};SharedAccessSignature={signature}"
        self.patch.setenv("AZURE_STORAGE_CONNECTION_STRING", access)


@pytest.fixture
def guarded(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    container = azurite.new_container()
    azurite.put(container, "lake/in/a.csv", b"n\n1\n2\n")
    return Guarded(azurite, container, monkeypatch)


def role(error: pytest.ExceptionInfo[AccessDenied]) -> str:
    """The role and the letters that the error says to grant."""
    found = re.match(r"grant the role '(.+?)' \(in a SAS: sp=(\w+)\)", error.value.hint)
    assert found is not None, error.value.hint
    return f"{found[1]}, {found[2]}"


def test_a_container_that_may_be_read_but_not_listed(guarded: Guarded) -> None:
    guarded.allow("r")

    assert list(open_input([str(guarded.root / "in/a.csv")]).schema) == ["n"]
    with pytest.raises(AccessDenied, match=f"not allowed to list {guarded.root}/in") as caught:
        open_input([str(guarded.root / "in")])

    assert role(caught) == "Storage Blob Data Reader, l"


def test_a_container_that_may_be_listed_but_not_read(guarded: Guarded) -> None:
    guarded.allow("l")

    with pytest.raises(AccessDenied, match="not allowed to") as caught:
        open_input([str(guarded.root / "in/a.csv")])

    assert role(caught) == "Storage Blob Data Reader, r"


def test_a_target_that_may_not_be_written_is_refused_before_anything_starts(
    guarded: Guarded, tmp_path: Path
) -> None:
    guarded.allow("rl")
    request = JobRequest((str(guarded.root / "in"),), str(guarded.root / "out"))

    with pytest.raises(AccessDenied, match=f"not allowed to write {guarded.root}/out") as caught:
        prepare(request, folder=tmp_path)

    assert role(caught) == "Storage Blob Data Contributor, cw"


def test_a_run_needs_no_right_to_delete(guarded: Guarded, tmp_path: Path) -> None:
    guarded.allow("rlcw")
    request = JobRequest((str(guarded.root / "in"),), str(guarded.root / "out"))

    assert list(prepare(request, folder=tmp_path).schema) == ["n"]


def test_a_log_that_may_not_be_read_is_not_called_damaged(guarded: Guarded) -> None:
    table = guarded.root / "out"
    write_log(table, table_log([], {}))
    guarded.allow("l")

    with pytest.raises(AccessDenied, match=f"not allowed to read the log of {table}"):
        Dataset(table).snapshot()
