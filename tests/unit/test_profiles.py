"""Cluster profiles are validated, found in order, and refused with the key that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headwater.infra.errors import (
    InvalidRequest,
    MissingDependency,
    NotFound,
    UnknownName,
    UnsupportedData,
)
from headwater.infra.gpu import GpuReport
from headwater.infra.launchers.local import MAX_THREADS, local_plan
from headwater.infra.models import Candidate, Device
from headwater.infra.profiles import ClusterProfile, ClusterSettings, load_profile
from headwater.infra.units import GIB


@pytest.fixture(autouse=True)
def no_profiles_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work" / "profiles").mkdir(parents=True)
    return tmp_path / "work"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "profiles" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(("name", "processes"), [("local", False), ("local-processes", True)])
def test_the_packaged_profiles_are_valid(folder: Path, name: str, processes: bool) -> None:
    profile = load_profile(name, folder=folder)

    assert (profile.name, profile.cluster.processes) == (name, processes)
    assert profile.description


def test_a_profile_here_wins_over_the_users_and_the_packaged(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "config" / "headwater", "local", "description = 'users'")
    assert load_profile("local", folder=folder).description == "users"

    write(folder, "local", "description = 'here'")
    assert load_profile("local", folder=folder).description == "here"


def test_a_profile_may_be_named_by_its_path(folder: Path) -> None:
    path = write(folder, "odd", "[cluster]\nworkers = 3")

    assert load_profile(str(path)).cluster.workers == 3
    with pytest.raises(NotFound, match=r"no cluster profile at .*none\.toml"):
        load_profile(str(folder / "none.toml"))


def test_an_unknown_profile_lists_the_near_ones_and_the_places(folder: Path) -> None:
    with pytest.raises(UnknownName, match="no cluster profile 'locl'") as caught:
        load_profile("locl", folder=folder)

    assert "did you mean 'local'" in caught.value.hint
    assert str(folder / "profiles") in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cluster\n", "is no valid TOML"),
        ("[cluster]\nworkers = -1", "cluster.workers: Input should be greater than or equal to 0"),
        ("[cluster]\nworkers = 'many'", "cluster.workers: Input should be a valid integer"),
        ("[cluster]\ngpu = 'maybe'", "cluster.gpu: Input should be 'auto', 'never' or 'require'"),
        ("cluster = 3", "cluster: Input should be"),
        ("version = 'one'", "version: Input should be a valid integer"),
    ],
)
def test_a_wrong_value_names_its_key(folder: Path, text: str, said: str) -> None:
    write(folder, "wrong", text)

    with pytest.raises(InvalidRequest, match="cluster profile wrong") as caught:
        load_profile("wrong", folder=folder)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "setting", "near"),
    [
        ("[cluster]\nworker = 3", "cluster.worker", "cluster.workers"),
        ("descripton = 'x'", "descripton", "description"),
    ],
)
def test_an_unknown_setting_lists_the_near_ones(
    folder: Path, text: str, setting: str, near: str
) -> None:
    write(folder, "wrong", text)

    with pytest.raises(UnknownName, match=f"no setting '{setting}' in cluster profile") as caught:
        load_profile("wrong", folder=folder)

    assert f"'{near}'" in caught.value.hint


def test_a_newer_format_is_refused_by_name(folder: Path) -> None:
    write(folder, "newer", "version = 99\nunheard_of = 1")

    with pytest.raises(UnsupportedData, match="cluster profile newer has format 99"):
        load_profile("newer", folder=folder)


# What a profile becomes on this machine.

NO_GPU = GpuReport(reason="NVML counts no GPU")
TWO_GPUS = GpuReport(("T4", "L4"), (15 * GIB, 22 * GIB))


def profile(**settings: object) -> ClusterProfile:
    return ClusterProfile(name="mine", cluster=ClusterSettings.model_validate(settings))


def test_without_a_gpu_the_cpu_is_taken_and_the_reason_kept() -> None:
    plan = local_plan(profile(workers=2, threads_per_worker=3, memory_gib_per_worker=1.5), no_gpu)

    (candidate,) = plan.candidates
    assert replace(candidate, process_memory_gib=0) == Candidate(
        "local", Device.CPU, False, 2, 3, 1.5
    )
    assert [r.reason for r in plan.rejected] == ["NVML counts no GPU"]


def no_gpu() -> GpuReport:
    return NO_GPU


def two_gpus() -> GpuReport:
    return TWO_GPUS


def never_asked() -> GpuReport:
    raise AssertionError("the GPU was asked for")


def test_each_gpu_gets_a_worker_with_the_memory_of_the_smallest() -> None:
    plan = local_plan(profile(), two_gpus)

    assert plan.candidates == (Candidate("local", Device.CUDA, True, 2, 1, 15.0),)


def test_a_profile_without_gpus_asks_for_none() -> None:
    plan = local_plan(profile(gpu="never"), never_asked)

    assert plan.candidates[0].device is Device.CPU
    assert plan.rejected == ()


def test_a_required_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MissingDependency, match="'mine' requires a GPU: NVML counts no GPU"):
        local_plan(profile(gpu="require"), no_gpu)


@pytest.mark.parametrize("processes", [False, True])
def test_workers_threads_and_memory_are_chosen_where_they_are_not_given(processes: bool) -> None:
    (candidate,) = local_plan(profile(processes=processes, gpu="never"), never_asked).candidates

    assert candidate.processes is processes
    assert candidate.workers >= 1
    assert processes or candidate.workers == 1
    assert 1 <= candidate.threads_per_worker <= MAX_THREADS
    assert candidate.memory_gib_per_worker > 0
    assert (candidate.process_memory_gib > 0) is not processes


def test_the_bound_of_this_process_is_what_the_profile_says() -> None:
    (candidate,) = local_plan(profile(process_memory_gib=1.5, gpu="never"), never_asked).candidates

    assert candidate.process_memory_gib == 1.5
