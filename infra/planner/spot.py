"""What machines that their cloud takes back add to a run.

A cloud takes a machine at random moments, at a rate that a run's history corrects. Rates are
losses per machine and hour of use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.infra.models import Cloud

Floats = NDArray[np.float64]

LOSSES_PER_HOUR = {
    "": 0.005,
    "T4": 0.02,
    "L4": 0.02,
    "A10G": 0.02,
    "V100": 0.02,
    "L40S": 0.03,
    "A100": 0.05,
    "H100": 0.1,
    "H200": 0.1,
}
"""Before anything is known, by GPU: judged. The scarcer a machine, the sooner it is taken."""

OTHER_LOSSES_PER_HOUR = 0.05

PRIOR_HOURS = 50.0
"""Hours of use that the first guess weighs as much as."""

Z90 = 1.2815515655446004
"""Standard deviations above the mean that one in ten exceeds, of a normal distribution."""

CHECKPOINT_HOURS = 2 / 60
"""What a gang's checkpoint takes."""

PART_HOURS = 1 / 60
"""What one part of elastic work takes; when its machine goes, it starts anew."""

MAX_EXPONENT = 700.0
"""Beyond it a run would never end, and the number would not fit."""


@dataclass(frozen=True, slots=True)
class SpotUse:
    """What is known of spot machines of one kind.

    Attributes:
        hours: Machine-hours that were used.
        losses: Machines that their cloud took in them.
    """

    cloud: Cloud
    gpu: str
    hours: float
    losses: int


def loss_rate(gpu: str, hours: float = 0.0, losses: float = 0.0) -> tuple[float, float]:
    """Losses per machine-hour: what is expected, and what one kind in ten exceeds.

    The guess for the GPU counts as ``PRIOR_HOURS`` of use (a Gamma prior on a Poisson rate), so
    a few hours without a loss do not make a machine safe. The upper end is by Wilson and
    Hilferty's formula.

    Example:
        >>> loss_rate("L4")[0], loss_rate("L4", hours=50, losses=3)[0]
        (0.02, 0.04)
    """
    prior = LOSSES_PER_HOUR.get(gpu, OTHER_LOSSES_PER_HOUR)
    shape = prior * PRIOR_HOURS + losses
    mean = shape / (PRIOR_HOURS + hours)
    upper = mean * (1 - 1 / (9 * shape) + Z90 / (3 * math.sqrt(shape))) ** 3
    return mean, max(mean, upper)


def elastic_hours(work: Floats, rate: Floats, restart: Floats) -> Floats:
    """Expected hours for ``work`` hours in small parts that start anew when their machine goes.

    A part of length p takes (e^(λp) - 1)/λ where losses come at rate λ, and a machine is away for
    ``restart`` hours after each.
    """
    share = np.maximum(rate * PART_HOURS, 1e-12)
    grown: Floats = work * (np.expm1(share) / share) * (1.0 + rate * restart)
    return grown


def gang_hours(work: Floats, rate: Floats, nodes: Floats, restart: Floats) -> Floats:
    """Expected hours for ``work`` hours that any lost machine throws back to a checkpoint.

    Daly's complete model, with his interval between checkpoints, at most the whole work; infinite
    where losses come faster than checkpoints.

    Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart
    dumps, 2006.
    """
    between = 1.0 / np.maximum(rate * nodes, 1e-12)
    delta = CHECKPOINT_HOURS
    root = np.sqrt(delta / (2.0 * between))
    interval = np.sqrt(2.0 * delta * between) * (1.0 + root / 3.0 + root**2 / 9.0) - delta
    interval = np.where(delta < 2.0 * between, interval, between)
    interval = np.maximum(np.minimum(interval, work), 1e-9)
    exponent = (interval + delta) / between
    restarts = restart / between
    fits = exponent + restarts < MAX_EXPONENT
    capped, again = np.where(fits, exponent, 0.0), np.where(fits, restarts, 0.0)
    hours = between * np.exp(again) * np.expm1(capped) * work / interval
    return np.where(fits, np.maximum(hours, work), np.inf)
