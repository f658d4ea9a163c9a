"""GPUs that are not there: a mock NVML and CUDA driver, compiled here, over which Dask-CUDA starts.

They count, and tell what a test says of memory and utilisation; nothing can be computed on them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).with_name("mock_nvml")
LIBRARIES = {"nvml.c": "libnvidia-ml.so.1", "cuda.c": "libcuda.so.1"}
COMPILE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class MockGpus:
    """The mock, for the processes that are started with its environment.

    Attributes:
        libraries: Folder of the two shared libraries.
        state: Folder by which a test says how the GPUs are.
        count: Number of GPUs.
    """

    libraries: Path
    state: Path
    count: int = 2

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a process, and its children, finds these GPUs."""
        path = os.pathsep.join(
            filter(None, [str(self.libraries), os.environ.get("LD_LIBRARY_PATH", "")])
        )
        return {
            "LD_LIBRARY_PATH": path,
            "MOCK_GPU_COUNT": str(self.count),
            "MOCK_GPU_STATE": str(self.state),
        }

    def set(self, index: int, *, utilization_percent: int, used_bytes: int) -> None:
        """Say how busy and how full a GPU is, from now on."""
        for name, value in (("util", utilization_percent), ("used", used_bytes)):
            draft = self.state / f"gpu{index}.{name}.tmp"
            draft.write_text(str(value))
            draft.replace(self.state / f"gpu{index}.{name}")


def compiler() -> str | None:
    """The system's C compiler on Linux; None where there is none."""
    named = os.environ.get("CC") or "cc"
    return shutil.which(named) if sys.platform == "linux" else None


def build(cache: Path, cc: str) -> Path:
    """The folder in ``cache`` with the two libraries, compiled once for these sources."""
    sources = b"".join((SOURCES / name).read_bytes() for name in LIBRARIES)
    folder = cache / hashlib.sha256(sources + cc.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for source, library in LIBRARIES.items():
        if (folder / library).exists():
            continue
        draft = folder / f"{library}.{os.getpid()}"
        flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command = [cc, *flags, f"-Wl,-soname,{library}", "-o", str(draft), str(SOURCES / source)]
        subprocess.run([*command, "-ldl"], check=True, timeout=COMPILE_SECONDS)
        draft.replace(folder / library)
    return folder
