"""What is checked on a node before it takes work: versions, and its GPUs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from headwater.infra.errors import MissingDependency, RunError
from headwater.infra.gpu import GpuReport

COMPARED = ("dask", "distributed", "headwater", "polars", "pyarrow", "cloudpickle", "msgpack")
"""Packages whose versions must be the same where a job is made and where it runs: what travels
between them is pickled or packed by these."""

MISSING = "missing"


def installed() -> dict[str, str]:
    """The versions here of what must be the same on all sides; of Python, major and minor."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: _version(name) for name in COMPARED}}


def require_same(wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Refuse a node whose versions differ from those of the driver.

    Raises:
        RunError: The message is a table of the differences.
    """
    names = [name for name in wanted if found.get(name, MISSING) != wanted[name]]
    if not names:
        return
    rows = [("", "driver", "node")]
    rows += [(name, wanted[name], found.get(name, MISSING)) for name in sorted(names)]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    table = "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)
    raise RunError(
        f"the versions of the driver and of the node differ:\n{table}",
        hint="name in the cluster profile's [image] a container that was built from the driver's"
        " versions, or install those of the container",
    )


def require_gpus(report: GpuReport, wanted: int) -> None:
    """Refuse a node that does not have the GPUs that are paid for.

    Raises:
        MissingDependency: Fewer passed the probe.
    """
    if len(report.names) >= wanted:
        return
    said = report.reason or f"the probe found {len(report.names)}"
    raise MissingDependency(
        f"{wanted} GPUs are wanted of this node, and not all can be used: {said}",
        hint="see whether the image's driver fits the GPU, or name another image in the profile",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return MISSING
