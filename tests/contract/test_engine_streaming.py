"""Polars' streaming engine, with which parts run on a CPU, gives what the in-memory one gives."""

from __future__ import annotations

from tests.contract.engines import EngineContract
from tests.gpu.cases import Case
from tests.gpu.engines import streaming


class TestStreamingEngine(EngineContract):
    ENGINE = staticmethod(streaming)

    def foretold(self, case: Case) -> int:
        return 0
