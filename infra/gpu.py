"""Whether this machine can run GPU work: checked, not guessed.

``import cudf`` succeeds without a driver, and a driver without a working GPU is not rare, so a
child process counts the devices through NVML and runs one cuDF operation. A child, since a failed
CUDA initialisation cannot be undone in the process that tried it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

PROBE_TIMEOUT_SECONDS = 60
"""The first CUDA context on a machine with many GPUs takes tens of seconds."""

_CHILD = """
import json, sys
import pynvml
pynvml.nvmlInit()
count = pynvml.nvmlDeviceGetCount()
names = [pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)]
memory = [pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(i)).total
          for i in range(count)]
import cudf
total = int(cudf.Series([1, 2, 3]).sum())
json.dump({"names": names, "memory": memory, "total": total}, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class GpuReport:
    """What a probe found.

    Attributes:
        names: One for each usable GPU; empty when there is none.
        memory_bytes: Memory of each, as measured.
        reason: Why there is none; empty when there is one.
    """

    names: tuple[str, ...] = ()
    memory_bytes: tuple[int, ...] = ()
    reason: str = ""

    @property
    def usable(self) -> bool:
        """Whether at least one GPU ran an operation."""
        return bool(self.names)


class GpuProbe(Protocol):
    """Tells what GPUs can be used here; passed in, so that a caller decides what is asked."""

    def __call__(self) -> GpuReport:
        """Look now."""
        ...


def probe() -> GpuReport:
    """The GPUs of this machine that ran a cuDF operation just now.

    ``CUDA_VISIBLE_DEVICES`` is honoured; empty or ``-1`` hides all.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return GpuReport(reason=f"CUDA_VISIBLE_DEVICES='{visible}' hides every GPU")
    for package in ("cudf", "pynvml", "cudf_polars", "dask_cuda"):
        if importlib.util.find_spec(package) is None:
            return GpuReport(
                reason=f"{package} is not installed (pip install 'headwater[cuda13]', or cuda12)"
            )
    try:
        child = subprocess.run(
            [sys.executable, "-c", _CHILD],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return GpuReport(reason=f"the GPU did not answer within {PROBE_TIMEOUT_SECONDS} s")
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return GpuReport(reason=f"the GPU probe failed: {lines[-1]}")
    found = json.loads(child.stdout)
    if not found["names"]:
        return GpuReport(reason="NVML counts no GPU")
    return GpuReport(tuple(found["names"]), tuple(found["memory"]))
