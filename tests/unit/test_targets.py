"""Targets whose parts some store would not keep are refused before any store is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.infra.errors import InvalidUri
from headwater.infra.models import JobRequest
from headwater.tasks.prepare import prepare

STORES = ("s3://lake", "gs://lake", "abfss://lake@account.dfs.core.windows.net")


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("back\\slash", "backslash"),
        ("version.", "ends in a dot"),
        ("up/../down", "path segment"),
        ("line\nfeed", "control character"),
        ("x" * 1000, "1024 are allowed"),
    ],
)
def test_a_key_that_all_three_stores_cannot_hold_is_refused_alike(
    store: str, key: str, fault: str, tmp_path: Path
) -> None:
    request = JobRequest((str(tmp_path / "in.csv"),), f"{store}/{key}")

    with pytest.raises(InvalidUri, match=fault) as caught:
        prepare(request, folder=tmp_path)

    assert caught.value.hint == "use another name"
