"""Plans that the GPU engine does not take: counted and run on the CPU, or refused by name.

The engine says so before it looks for a GPU, so these run where cudf-polars is installed.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.gpu.catalog import all_cases
from tests.gpu.engines import failures, gpu
from tests.gpu.page import PAGE, parse

from headwater.infra.errors import PartFailed
from headwater.tasks.gpu import on_gpu

pytestmark = pytest.mark.rapids

UNKNOWN = pl.LazyFrame({"n": [1, 2], "s": ["a", "b"]}).select(
    pl.col("s").str.replace_all("[a-b]", "x"), pair=pl.concat_list("n", "n")
)


def test_every_fallback_of_the_page_is_counted_and_gives_the_result(tmp_path: Path) -> None:
    page = parse(PAGE.read_text("utf-8"))
    back = [case for case in all_cases(tmp_path) if page[case.key]]

    assert len(back) > 100
    assert failures(back, gpu, foretold=lambda _: 1) == ""


def test_a_plan_is_left_to_the_streaming_engine_and_not_collected() -> None:
    frame, fallbacks = on_gpu(UNKNOWN, "allow")

    assert fallbacks == 1
    assert frame is UNKNOWN


def test_a_refusal_names_all_that_the_engine_does_not_know() -> None:
    with pytest.raises(PartFailed) as refused:
        on_gpu(UNKNOWN, "refuse")

    message = str(refused.value)
    assert "literal=False is not supported for replace" in message
    assert "ListFunction.Concat" in message
    assert "\\n" not in message
    assert "gpu_fallback" in refused.value.hint


def test_a_plan_that_fails_by_itself_is_no_fallback() -> None:
    text = pl.LazyFrame({"s": ["x"]}).select(
        pl.col("s").str.to_integer(), wide=pl.lit(1, dtype=pl.Int128)
    )
    frame, fallbacks = on_gpu(text, "allow")

    assert fallbacks == 1
    with pytest.raises(pl.exceptions.PolarsError, match="x"):
        frame.collect()
