"""The mock NVML: counted by a plain process, and by Dask-CUDA's workers over it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.emulators.mock_gpu import MockGpus

GIB = 2**30

COUNT = """
import ctypes
nvml, cuda = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.CDLL("libcuda.so.1")
handle, name, context = ctypes.c_void_p(), ctypes.create_string_buffer(96), ctypes.c_void_p()
found, count, processes = ctypes.c_uint(), ctypes.c_uint(), (ctypes.c_char * 4096)()
assert nvml.nvmlInit_v2() == 0 and cuda.cuInit(0) == 0
assert nvml.nvmlDeviceGetCount_v2(ctypes.byref(found)) == 0
assert nvml.nvmlDeviceGetHandleByIndex_v2(1, ctypes.byref(handle)) == 0
assert nvml.nvmlDeviceGetUUID(handle, name, 96) == 0
rates = (ctypes.c_uint * 2)()
assert nvml.nvmlDeviceGetUtilizationRates(handle, rates) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
count.value = 8
running = nvml.nvmlDeviceGetComputeRunningProcesses_v3
assert running(handle, ctypes.byref(count), processes) == 0
print(found.value, name.value.decode(), rates[0], count.value)
"""


def test_process_finds_the_gpus_and_its_context_is_on_the_one_it_sees(mock_gpus: MockGpus) -> None:
    mock_gpus.set(1, utilization_percent=42, used_bytes=GIB)
    environment = {**os.environ, **mock_gpus.environment, "CUDA_VISIBLE_DEVICES": "1,0"}
    told = subprocess.run(
        [sys.executable, "-S", "-c", COUNT],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert told.stdout.split() == ["2", "GPU-00000000-0000-0000-0000-000000000001", "42", "1"]


@pytest.mark.trial
def test_dask_cuda_starts_a_worker_for_each_gpu_and_sends_its_metrics(
    mock_gpus: MockGpus, tmp_path: Path
) -> None:
    pytest.importorskip("dask_cuda", exc_type=ImportError)
    import distributed

    dask: Any = distributed  # its types are of coroutines, which these are not

    mock_gpus.set(0, utilization_percent=87, used_bytes=5 * GIB)
    mock_gpus.set(1, utilization_percent=3, used_bytes=GIB)
    with (
        dask.LocalCluster(
            n_workers=0, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
        ) as cluster,
        dask.Client(cluster) as client,
        (tmp_path / "worker.txt").open("wb") as log,
    ):
        command = f"-m dask cuda worker {cluster.scheduler_address} --name n1 --no-dashboard"
        command += " --device-memory-limit 0 --memory-limit 1GiB --resources GPU=1"
        worker = subprocess.Popen(
            [sys.executable, *command.split(), "--local-directory", str(tmp_path)],
            env={**os.environ, **mock_gpus.environment},
            stdout=log,
            stderr=log,
        )
        try:
            client.wait_for_workers(2, timeout=90)
            end = time.monotonic() + 20
            while not all("gpu_utilization" in seen["metrics"] for seen in workers(client)):
                assert time.monotonic() < end, "no GPU metrics came"
                time.sleep(0.1)
            assert {seen["name"]: seen["resources"] for seen in workers(client)} == {
                "n1-0": {"GPU": 1.0},
                "n1-1": {"GPU": 1.0},
            }
            metrics = [seen["metrics"] for seen in workers(client)]
            assert sorted(metric["gpu_utilization"] for metric in metrics) == [3, 87]
            assert sorted(metric["gpu_memory_used"] for metric in metrics) == [GIB, 5 * GIB]
            pinned = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
            assert sorted(pinned.values()) == ["0,1", "1,0"]
        finally:
            worker.terminate()
            worker.wait(30)


def workers(client: Any) -> list[dict[str, Any]]:
    """What the scheduler knows of each worker."""
    return list(client.scheduler_info(n_workers=-1)["workers"].values())
