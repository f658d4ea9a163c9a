"""A pattern finds the same files whether folders are left out first or all are listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fsspec.utils import glob_translate

from headwater.infra.errors import NotFound, UnsupportedData
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.local import Local
from headwater.infra.storage.listing import is_marker, matching
from headwater.infra.storage.uris import Uri

FILES = [
    *(f"year={y}/month={m}/part-{n}.csv" for y in (2012, 2013, 2014) for m in (7, 8) for n in "ab"),
    "year=2013/late.csv",
    "year=2013/month=7/deep/er/x.csv",
    "year=2013/_tmp/a.csv",
    "other/month=7/a.csv",
    "a.csv",
]

PATTERNS = {
    "*.csv": [],
    "*/*.csv": [],
    "**/*.csv": [],
    "year=*/month=*/*.csv": [],
    "year=2013/month=*/*.csv": [],
    "year=*/month=7/*.csv": ["", "year=2012", "year=2013", "year=2014"],
    "year=201[34]/*/*.csv": [""],
    "year=201?/month=[7]/part-a.csv": ["", "year=2012", "year=2013", "year=2014"],
    "*/month=8/*": ["", "other", "year=2012", "year=2013", "year=2014"],
    "y*3/**/*.csv": [""],
    "**/month=7/*.csv": [],
    "year=*/_tmp/*.csv": ["", "year=2012", "year=2013", "year=2014"],
    "year=2013/month=7/*/*/x.csv": [],
}
"""Each with the folders whose names are asked for before anything is listed."""


class Watched(Local):
    """Keeps what is asked of it."""

    def __init__(self) -> None:
        self.named: list[str] = []
        self.listed: list[str] = []

    def folders(self, folder: Uri) -> Sequence[str]:
        self.named.append(folder.key)
        return super().folders(folder)

    def list(self, folder: Uri) -> Iterator[DataRef]:
        self.listed.append(folder.key)
        return super().list(folder)


@pytest.fixture
def root(tmp_path: Path) -> Uri:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("n\n")
    return Uri.parse(str(tmp_path))


@pytest.mark.parametrize(("pattern", "named"), PATTERNS.items())
def test_the_same_files_are_found_as_in_one_listing(
    root: Uri, pattern: str, named: list[str]
) -> None:
    uri = root / pattern
    assert uri.glob_root is not None
    wanted = re.compile(glob_translate(uri.key))
    spelt = any(step.startswith("_") for step in pattern.split("/"))
    every = [r for r in Local().list(root) if wanted.match(Uri.parse(r.uri).key)]
    flat = [r for r in every if spelt or not is_marker(uri.glob_root, r)]
    assert flat

    fs = Watched()
    found = matching(fs, uri, uri.glob_root)

    assert found == flat
    assert sorted(fs.named) == [f"{root.key}/{name}".rstrip("/") for name in named]


def test_only_what_the_steps_leave_is_listed(root: Uri) -> None:
    fs = Watched()

    matching(fs, root / "year=201[34]/month=7/*.csv", root)

    assert sorted(fs.listed) == [f"{root.key}/year={y}/month=7" for y in (2013, 2014)]


def test_a_table_above_what_is_listed_is_seen(root: Uri) -> None:
    (root.path / "year=2013/_delta_log").mkdir()

    with pytest.raises(UnsupportedData, match=r"holds tables, .*/year=2013\n"):
        matching(Local(), root / "year=*/month=7/*.csv", root)


def test_steps_that_leave_no_folder_find_nothing(root: Uri) -> None:
    with pytest.raises(NotFound, match="no file matches"):
        matching(Local(), root / "year=1999*/month=7/*.csv", root)
