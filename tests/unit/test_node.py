"""What is decided about a node before it takes work."""

from __future__ import annotations

import pytest

from headwater.infra.errors import MissingDependency, RunError
from headwater.infra.gpu import GpuReport
from headwater.infra.models import Cloud
from headwater.infra.node.checks import COMPARED, installed, require_gpus, require_same
from headwater.infra.node.settings import settings_for
from headwater.infra.node.user_data import user_data
from headwater.infra.storage.uris import Uri

FOLDER = Uri.parse("s3://lake/clusters/c1")


def script(**more: object) -> str:
    given = {"cloud": Cloud.GCP, "name": "c1-w0", "image": "headwater:1", "most_minutes": 90}
    return user_data(FOLDER, **{**given, **more})  # type: ignore[arg-type]


def test_versions_that_are_the_same_pass() -> None:
    found = installed()

    require_same(found, found)

    assert set(found) == {"python", *COMPARED}
    assert "missing" not in found.values()


def test_versions_that_differ_are_told_in_a_table() -> None:
    wanted = {"python": "3.12", "dask": "2026.7.1", "polars": "1.44.2"}
    found = {"python": "3.11", "dask": "2026.7.1"}

    with pytest.raises(RunError) as caught:
        require_same(wanted, found)

    assert caught.value.message.splitlines()[1:] == [
        "          driver  node",
        "  polars  1.44.2  missing",
        "  python  3.12    3.11",
    ]


def test_a_node_without_the_gpus_that_are_paid_for_is_refused() -> None:
    require_gpus(GpuReport(("L4", "L4")), 2)

    with pytest.raises(MissingDependency, match=r"2 GPUs are wanted .*: the probe found 1"):
        require_gpus(GpuReport(("L4",)), 2)
    with pytest.raises(MissingDependency, match="NVML counts no GPU"):
        require_gpus(GpuReport(reason="NVML counts no GPU"), 1)


def test_a_scheduler_has_no_scheduler_and_no_gpu() -> None:
    text = script()

    assert "--scheduler" not in text
    assert "--gpus" not in text


def test_the_machine_ends_whatever_becomes_of_the_container() -> None:
    lines = script().splitlines()

    assert lines[1] == "shutdown -h +90"
    assert lines[-1] == "shutdown -h now"


def test_words_that_a_shell_would_read_are_quoted() -> None:
    assert "'headwater:1; reboot'" in script(image="headwater:1; reboot")


def test_a_small_gpu_grows_and_spills_and_large_ones_take_a_pool() -> None:
    small = settings_for(vcpus=4, memory_gib=16, gpus=1, gpu_memory_gib=22.35)
    large = settings_for(vcpus=192, memory_gib=2048, gpus=8, gpu_memory_gib=79.6)

    assert (small.rmm_async, small.rmm_pool_share, small.cudf_spill) == (True, 0.0, True)
    assert (large.rmm_async, large.rmm_pool_share, large.cudf_spill) == (False, 0.85, True)
    assert small.memory_gib == pytest.approx(12.6)
    assert large.memory_gib == pytest.approx(230.175)
