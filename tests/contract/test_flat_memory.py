"""A whole run holds groups in memory, not rows: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

ROWS = 1_000_000
"""Rows of a file; in memory 16 MB, so that ten times the files would show."""

GROUPS = 1_000

FILES, MORE = 12, 10
"""The smaller input fills a part for each of two threads, the larger one is ``MORE`` times it."""

FLAT = 1.5
"""Parts under way and what the allocator keeps differ from run to run by so much; rows that were
held would make it four times."""

RUN = """
import resource, sys
from headwater.flows.etl_run import EtlRun
from headwater.infra.gpu import GpuReport
from headwater.infra.models import JobRequest, StepsText
from headwater.infra.profiles import load_profile

STEPS = '''
version = 1
[[steps]]
kind = "aggregate"
by = ["k"]
aggs = [
    { name = "rows", function = "count" },
    { name = "total", function = "sum", column = "x" },
    { name = "spread", function = "standard_deviation", column = "x" },
    { name = "middle", function = "quantile", column = "x", q = 0.5, size = 64 },
]
'''

if __name__ == "__main__":
    request = JobRequest((sys.argv[1],), sys.argv[2], steps=StepsText("groups.toml", STEPS))
    run = EtlRun(request, load_profile("local"), gpu_probe=lambda: GpuReport(reason="not asked"))
    run.scan()
    assert run.process().receipts
    print(run.commit().rows, run.receipt().rows_in)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.trial
def test_a_run_over_ten_times_the_rows_in_the_same_groups_takes_the_same_memory(
    tmp_path: Path,
) -> None:
    script, source = tmp_path / "run.py", tmp_path / "source"
    script.write_text(RUN, "utf-8")

    few = peak_bytes(script, grown(source, FILES), tmp_path / "few", FILES)
    many = peak_bytes(script, grown(source, FILES * MORE), tmp_path / "many", FILES * MORE)

    assert many < FLAT * few, f"{few / 2**20:.0f} MiB, then {many / 2**20:.0f} MiB"


def grown(folder: Path, files: int) -> Path:
    """The folder with ``files`` files in it."""
    folder.mkdir(exist_ok=True)
    for index in range(files):
        path, first = folder / f"{index:03d}.parquet", folder / f"{index % FILES:03d}.parquet"
        if path != first:
            path.hardlink_to(first)
        elif not path.exists():
            rows = pl.int_range(index * ROWS, (index + 1) * ROWS, eager=True)
            frame = pl.DataFrame({"k": rows % GROUPS, "x": (rows * 2654435761 % 1000003) / 7})
            frame.write_parquet(path)
    return folder


def peak_bytes(script: Path, source: Path, target: Path, files: int) -> int:
    """Peak memory of a process that makes one row of each group."""
    command = [sys.executable, str(script), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows, peak = done.stdout.splitlines()
    assert rows == f"{GROUPS} {files * ROWS}"
    return int(peak)
