"""What is installed, and from what: the lock, the pins, and the wheel's content."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

RAPIDS_PINS = {
    "dask": "==2026.7.1",
    "distributed": "==2026.7.1",
    "pandas": "<3.1,>=3.0",
    "polars": "<1.45,>=1.40",
}
"""What RAPIDS 26.10 asks for: the base install keeps to it, so that CPU and GPU run one stack."""


def test_lock_holds_names_versions_and_hashes_only() -> None:
    lines = LOCK.splitlines()
    pin = re.compile(r"[a-z0-9][a-z0-9-]*==[A-Za-z0-9.+!]+( ; [^\\]+)? \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not (pin.fullmatch(line) or digest.fullmatch(line))] == []


def test_every_locked_requirement_has_a_hash() -> None:
    lines = LOCK.splitlines()
    pins = [number for number, line in enumerate(lines) if "==" in line and line[0] != " "]
    assert pins
    assert [lines[n] for n in pins if "--hash=sha256:" not in lines[n + 1]] == []


@pytest.mark.parametrize("address", ["http:", "https:", "://", "index-url", "find-links", " @ "])
def test_lock_names_no_place(address: str) -> None:
    assert address not in LOCK


def test_lock_satisfies_every_requirement_it_was_made_from() -> None:
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["demo"],
        *PROJECT["project"]["optional-dependencies"]["aws"],
        *PROJECT["dependency-groups"]["dev"],
    ]
    locked: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, flags=re.MULTILINE):
        locked.setdefault(name, []).append(version)
    unmet = [
        text
        for text in wanted
        if not any(
            Requirement(text).specifier.contains(version, prereleases=True)
            for version in locked.get(Requirement(text).name.lower(), [])
        )
    ]
    assert unmet == []


def test_base_install_keeps_to_the_pins_of_rapids() -> None:
    base = {r.name: r for r in map(Requirement, PROJECT["project"]["dependencies"])}
    assert {name: str(base[name].specifier) for name in RAPIDS_PINS} == RAPIDS_PINS


def test_s3fs_has_a_floor_and_boto3_none() -> None:
    # With a bound on boto3 and none on s3fs, resolvers go back to an s3fs of years ago.
    base = {r.name: r for r in map(Requirement, PROJECT["project"]["dependencies"])}
    aws = {r.name: r for r in map(Requirement, PROJECT["project"]["optional-dependencies"]["aws"])}
    assert not base["s3fs"].specifier.contains("0.4.2")
    assert "boto3" not in base
    assert str(aws["boto3"].specifier) == ""


@pytest.mark.parametrize("extra", ["dask-cuda", "cuda12", "cuda13"])
def test_gpu_extras_name_one_release_of_rapids(extra: str) -> None:
    # Without bounds, resolvers take dask-cuda 0.18 of 2021.
    names = [Requirement(text) for text in PROJECT["project"]["optional-dependencies"][extra]]
    rapids = [r for r in names if r.name.startswith(("dask-cu", "cudf"))]
    assert all(str(r.specifier) == "<26.11,>=26.10" for r in rapids)
    assert rapids


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_every_source_file(wheel_files: set[str]) -> None:
    sources = {
        f"headwater/{path.relative_to(ROOT)}"
        for folder in ("flows", "tasks", "infra")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sources - wheel_files == set()


def test_wheel_holds_profiles_and_type_markers(wheel_files: set[str]) -> None:
    profiles = {f"headwater/profiles/{path.name}" for path in (ROOT / "profiles").glob("*.toml")}
    markers = {f"headwater/{folder}/py.typed" for folder in ("flows", "tasks", "infra")}
    assert (profiles | markers) - wheel_files == set()
    assert "headwater/profiles/local.toml" in wheel_files


def test_wheel_holds_the_tables_of_prices(wheel_files: set[str]) -> None:
    tables = {f"headwater/{p.relative_to(ROOT)}" for p in ROOT.glob("infra/catalog/data/*.csv")}
    assert len(tables) == 5
    assert tables - wheel_files == set()


def test_wheel_installs_headwater_and_nothing_else(wheel_files: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel_files}
    assert {name for name in top if not name.endswith(".dist-info")} == {"headwater"}
