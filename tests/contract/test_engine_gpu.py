"""The GPU engine gives what the CPU gives, and falls back where docs/gpu.md says so."""

from __future__ import annotations

import pytest
from tests.contract.engines import EngineContract
from tests.gpu.cases import Case
from tests.gpu.engines import gpu
from tests.gpu.page import PAGE, parse

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("needs_gpu")]

FORETOLD = parse(PAGE.read_text("utf-8"))


class TestGpuEngine(EngineContract):
    ENGINE = staticmethod(gpu)

    def foretold(self, case: Case) -> int:
        return 1 if FORETOLD[case.key] else 0
