"""Choosing a store: nothing of a cloud is imported before its first address is opened."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.filesystems.objects import safe_endpoint
from headwater.infra.storage.uris import Uri


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_no_cloud_is_imported_for_local_files() -> None:
    loaded = run(
        "import sys\n"
        "from headwater.infra.storage.filesystems import open_filesystem\n"
        "from headwater.infra.storage.staging import stage\n"
        "from headwater.infra.storage.uris import Uri\n"
        "list(open_filesystem(Uri.parse('.')).list(Uri.parse('/nothing')))\n"
        "heavy = {'s3fs', 'gcsfs', 'adlfs', 'fsspec', 'botocore', 'aiohttp', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )

    assert loaded == "[]"


@pytest.mark.parametrize(
    ("address", "package"),
    [("s3://lake/a", "s3fs"), ("gs://lake/a", "gcsfs"), ("az://lake/a", "adlfs")],
)
def test_a_missing_package_comes_with_its_install_command(address: str, package: str) -> None:
    said = run(
        "import sys\n"
        f"sys.modules['{package}'] = None\n"
        f"sys.modules['{package}.core'] = None\n"
        "from headwater.infra.errors import MissingDependency\n"
        "from headwater.infra.storage.filesystems import open_filesystem\n"
        "from headwater.infra.storage.uris import Uri\n"
        "try:\n"
        f"    open_filesystem(Uri.parse('{address}'))\n"
        "except MissingDependency as exc:\n"
        "    print(exc)\n"
    )

    assert f"python -m pip install {package}" in said


def test_local_files_share_one_store() -> None:
    assert open_filesystem(Uri.parse("/a")) is open_filesystem(Uri.parse("/b"))


def test_an_endpoint_is_shown_without_its_password() -> None:
    shown = safe_endpoint("http://user:secret@127.0.0.1:9000/?key=secret")

    assert shown == "http://127.0.0.1:9000"
