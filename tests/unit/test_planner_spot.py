"""What lost spot machines add, against formulas done by hand and against simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headwater.infra.planner.spot import (
    CHECKPOINT_HOURS,
    LOSSES_PER_HOUR,
    PART_HOURS,
    PRIOR_HOURS,
    elastic_hours,
    gang_hours,
    loss_rate,
)


def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([value])


def gang(work: float, rate: float, nodes: float, restart: float) -> float:
    return float(gang_hours(one(work), one(rate), one(nodes), one(restart))[0])


def elastic(work: float, rate: float, restart: float) -> float:
    return float(elastic_hours(one(work), one(rate), one(restart))[0])


def test_a_guess_gives_way_to_what_is_seen() -> None:
    prior = LOSSES_PER_HOUR["L4"]

    assert loss_rate("L4")[0] == pytest.approx(prior)
    # As many hours as the guess weighs, with 3 losses: (0.02 x 50 + 3) / (50 + 50)
    assert loss_rate("L4", PRIOR_HOURS, 3)[0] == pytest.approx(0.04)
    assert loss_rate("L4", 1e6, 5e4)[0] == pytest.approx(0.05, rel=1e-3)
    few_quiet_hours = loss_rate("L4", 5, 0)[0]
    assert 0.9 * prior < few_quiet_hours < prior


@pytest.mark.parametrize("shape", [1.0, 4.0, 40.0])
def test_one_kind_in_ten_is_lost_more_often_than_the_upper_end(shape: float) -> None:
    hours = shape / LOSSES_PER_HOUR["L4"] - PRIOR_HOURS
    mean, upper = loss_rate("L4", max(0.0, hours), shape - 1.0)
    drawn = np.random.default_rng(1).gamma(shape, mean / shape, 200_000)

    assert (drawn > upper).mean() == pytest.approx(0.1, abs=0.01)


def test_elastic_work_loses_the_part_under_way_and_waits_for_a_machine() -> None:
    part = (math.exp(0.5 * PART_HOURS) - 1) / (0.5 * PART_HOURS)

    assert elastic(10, 0.5, 0.1) == pytest.approx(10 * part * 1.05)
    assert elastic(10, 0.0, 0.1) == pytest.approx(10)


@pytest.mark.parametrize(("rate", "nodes"), [(0.05, 1), (0.05, 16), (0.2, 4)])
def test_a_gang_takes_as_long_as_simulated_runs_do(rate: float, nodes: int) -> None:
    work, restart = 8.0, 0.1

    expected = gang(work, rate, nodes, restart)

    assert expected == pytest.approx(simulated(work, rate * nodes, restart), rel=0.08)


def test_a_gang_never_takes_less_than_its_work_and_more_with_each_machine() -> None:
    hours = [gang(4, 0.05, nodes, 0.1) for nodes in (1, 2, 4, 8, 16, 64)]

    assert hours[0] >= 4
    assert hours == sorted(hours)
    assert gang(4, 1.0, 1e6, 0.1) == math.inf
    assert gang(0, 0.05, 4, 0.1) == 0.0


def simulated(work: float, rate: float, restart: float) -> float:
    """Mean hours of runs that go back to their last checkpoint at each loss."""
    rng = np.random.default_rng(7)
    interval = math.sqrt(2 * CHECKPOINT_HOURS / rate)
    total = 0.0
    runs = 800
    for _ in range(runs):
        done, lost_at = 0.0, rng.exponential(1 / rate)
        while done < work:
            step = min(interval, work - done)
            if lost_at >= step + CHECKPOINT_HOURS:
                total += step + CHECKPOINT_HOURS
                lost_at -= step + CHECKPOINT_HOURS
                done += step
                continue
            total += lost_at
            lost_at = rng.exponential(1 / rate)
            while lost_at < restart:  # lost again while it starts
                total += lost_at
                lost_at = rng.exponential(1 / rate)
            total += restart
            lost_at -= restart
    return total / runs
