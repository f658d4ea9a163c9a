"""The same run on the GPU engine, where there is a GPU."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from headwater.flows.etl_run import EtlRun
from headwater.infra.gpu import GpuReport, probe
from headwater.infra.models import Device, JobRequest
from headwater.infra.profiles import load_profile

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("needs_gpu")]

JOB = """
import polars as pl

def job(frame):
    return frame.filter(pl.col("n") % 3 != 0).with_columns(
        half=pl.col("n") / 2, text=pl.col("text").str.to_uppercase()
    )
"""


def run(tmp_path: Path, target: str, report: GpuReport) -> pl.DataFrame:
    request = JobRequest((str(tmp_path / "in.parquet"),), str(tmp_path / target), "gpu_job:job")
    etl = EtlRun(request, load_profile("local"), folder=tmp_path, gpu_probe=lambda: report)
    etl.scan()
    etl.process()
    etl.commit()
    receipt = etl.receipt()
    assert receipt.gpu_fallbacks == 0
    assert receipt.device == (Device.CUDA if report.usable else Device.CPU)
    return pl.read_delta(str(tmp_path / target)).sort("n")


def test_gpu_and_cpu_give_the_same_rows(tmp_path: Path) -> None:
    found = probe()
    assert found.usable, found.reason
    (tmp_path / "gpu_job.py").write_text(JOB)
    frame = pl.DataFrame({"n": range(100_000)}).with_columns(text=pl.format("row {}", "n"))
    frame.write_parquet(tmp_path / "in.parquet", row_group_size=10_000)

    on_gpu = run(tmp_path, "gpu", found)
    on_cpu = run(tmp_path, "cpu", GpuReport(reason="compared with"))

    assert_frame_equal(on_gpu, on_cpu)
