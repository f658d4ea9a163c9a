"""Every plan that is tried on the GPU engine, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.gpu.aggregate_cases import aggregate_cases
from tests.gpu.cases import Case
from tests.gpu.job_cases import job_cases, reading_cases
from tests.gpu.step_cases import step_cases


def all_cases(folder: Path) -> Iterator[Case]:
    """Every case, in the order of the page.

    Args:
        folder: Where the files are written that the plans scan.
    """
    yield from step_cases()
    yield from aggregate_cases()
    yield from reading_cases(folder)
    yield from job_cases(folder)
