"""Where ``HEADWATER_NO_SKIPS`` is set, a skipped test fails: there, everything can run.

Tests marked ``gpu`` or ``cloud`` are deselected by expression, which is no skip.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

VARIABLE = "HEADWATER_NO_SKIPS"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure; an expected failure stays one."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure."""
    report = yield
    if report.skipped:
        _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get(VARIABLE):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {VARIABLE} is set, and this was skipped. {reason}"
