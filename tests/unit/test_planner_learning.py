"""Past runs move the guesses, and one odd run does not decide."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from headwater.infra.models import (
    Candidate,
    Device,
    Format,
    InputSummary,
    LaunchTry,
    Mode,
    Plan,
    RunReceipt,
    Status,
)
from headwater.infra.planner.learning import (
    NOTHING_LEARNED,
    OUTPUT_RATIO,
    PRIOR_RUNS,
    RATE_SPREAD,
    VCPU_BYTES_PER_SECOND,
    Observation,
    learn,
    observed,
    shrunk,
)

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def receipt(job: str = "jobs:clean", seconds: float = 10.0, **said: object) -> RunReceipt:
    fields: dict[str, object] = {
        "run_id": "r",
        "run_key": "k",
        "flow": "etl",
        "status": Status.COMMITTED,
        "started": NOW,
        "finished": NOW,
        "inputs": (InputSummary("s3://a/x", Format.PARQUET, 1, 4 * 10**9, 1, "v"),),
        "target": "out",
        "mode": Mode.OVERWRITE,
        "partition_by": (),
        "job": job,
        "dataset": None,
        "rows_in": 1,
        "rows_out": 1,
        "bytes_read": 3 * 10**9,
        "bytes_written": 10**9,
        "parts": 1,
        "resumed_parts": 0,
        "retries": 0,
        "seconds": {"process": seconds},
        "engine": "polars",
        "device": "cpu",
        "plan": Plan((Candidate("local", Device.CPU, False, 1, 4, 8.0),)),
        "tries": (LaunchTry("local", "opened", 0.1),),
        **said,
    }
    return RunReceipt(**fields)  # type: ignore[arg-type]


def test_a_receipt_tells_how_long_its_parts_took_against_the_guess() -> None:
    (found,) = observed([receipt()], "jobs:clean", cores=4)

    assert found == Observation(4e9 / (4 * VCPU_BYTES_PER_SECOND), 10.0, 4 * 10**9, 10**9)


@pytest.mark.parametrize(
    "other",
    [
        receipt("jobs:other"),
        receipt(status=Status.FAILED),
        receipt(resumed_parts=3),
        receipt(plan=None, tries=()),
        receipt(seconds=0.0),
        receipt(inputs=()),
    ],
)
def test_runs_that_did_not_do_this_whole_job_tell_nothing(other: RunReceipt) -> None:
    assert observed([other], "jobs:clean", cores=4) == ()


def test_a_gpu_run_is_compared_with_the_guess_for_its_gpu() -> None:
    gpu = receipt(plan=Plan((Candidate("local", Device.CUDA, True, 2, 1, 20.0),)))

    (found,) = observed([gpu], "jobs:clean", cores=4, gpu="A100")

    assert found.expected_seconds == pytest.approx(4e9 / (2 * 2.5e9))


def test_nothing_seen_leaves_the_guess() -> None:
    assert learn([]) == NOTHING_LEARNED
    assert learn([]).runs == 0


def test_runs_pull_the_guess_to_what_they_took() -> None:
    four_times = Observation(10, 40, 1e9, 5e8)

    few, many = learn([four_times] * 2), learn([four_times] * 200)

    # As many runs as the guess weighs: half way, in factors
    assert few.slowness.center == pytest.approx(math.sqrt(4))
    assert few.output_ratio.center == pytest.approx(math.sqrt(0.5 * OUTPUT_RATIO))
    assert many.slowness.center == pytest.approx(4, rel=0.02)
    assert many.runs == 200


def test_runs_that_agree_narrow_the_estimate_and_those_that_do_not_widen_it() -> None:
    agree = shrunk([1.0] * 20, 1.0, RATE_SPREAD)
    differ = shrunk([0.1, 10.0] * 10, 1.0, RATE_SPREAD)

    assert agree.spread < 1.5 < RATE_SPREAD < differ.spread
    assert agree.high == pytest.approx(agree.center * agree.spread)


def test_one_odd_run_moves_the_guess_by_a_third_of_its_way_at_most() -> None:
    odd = shrunk([1000.0], 1.0, RATE_SPREAD)

    assert odd.center == pytest.approx(1000 ** (1 / (PRIOR_RUNS + 1)))
    assert shrunk([1.0] * 20 + [1000.0], 1.0, RATE_SPREAD).center < 1.4
