"""The GPU engine gives what the CPU gives, and falls back where docs/gpu.md says so."""

from __future__ import annotations

import polars as pl
import pytest
from tests.contract.engines import EngineContract
from tests.gpu.cases import Case
from tests.gpu.engines import gpu
from tests.gpu.page import PAGE, parse

from headwater.tasks.gpu import on_gpu
from headwater.tasks.steps.base import Given
from headwater.tasks.steps.cast import Cast
from headwater.tasks.steps.loss import lost_at

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("needs_gpu")]

FORETOLD = parse(PAGE.read_text("utf-8"))


class TestGpuEngine(EngineContract):
    ENGINE = staticmethod(gpu)

    def foretold(self, case: Case) -> int:
        return 1 if FORETOLD[case.key] else 0


def test_a_value_that_a_step_would_lose_is_refused_in_the_steps_name() -> None:
    frame = pl.LazyFrame({"n": [1.0, 1.5, None]})
    step = Cast(kind="cast", columns={"n": "Int64"})
    plan = step.apply(frame, Given(frame.collect_schema(), number=3), {})

    with pytest.raises(pl.exceptions.PolarsError) as refused:
        on_gpu(plan, "refuse")

    assert lost_at(refused.value) == 3
