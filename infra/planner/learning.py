"""What past runs say about the next: how fast a job goes, and how much it writes.

Each figure begins as a guess and moves towards what was seen as runs are added (shrinkage: the
guess weighs as much as ``PRIOR_RUNS`` runs), so one odd run does not decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headwater.infra.models import Candidate, Device, RunReceipt, Status
from headwater.infra.planner.spot import Z90, SpotUse

PRIOR_RUNS = 2.0
"""Runs that the first guess weighs as much as."""

VCPU_BYTES_PER_SECOND = 50e6
"""Stored bytes that one vCPU reads, transforms and writes in a second. Judged: about half
of the speed at which a core filtered and wrote TPC-H's lineitem."""

GPU_BYTES_PER_SECOND = {
    "T4": 0.5e9,
    "L4": 0.5e9,
    "A10G": 0.9e9,
    "V100": 1.3e9,
    "L40S": 1.3e9,
    "A100": 2.5e9,
    "H100": 4.5e9,
    "H200": 6.0e9,
}
"""The same of one GPU: judged, by the bandwidth of its memory."""

OTHER_GPU_BYTES_PER_SECOND = 0.5e9

RATE_SPREAD = 3.0
"""How far the guessed speed may be off, one time in ten."""

OUTPUT_RATIO = 1.0
OUTPUT_SPREAD = 1.5
"""Bytes written for each byte of the inputs, before anything is known, and how far that may be
off."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A positive figure that a guess is multiplied by.

    Attributes:
        center: Expected.
        spread: Times ``center`` is what one run in ten exceeds.
        runs: How many runs it was learned from.
    """

    center: float
    spread: float
    runs: int = 0

    @property
    def high(self) -> float:
        """What one run in ten exceeds."""
        return self.center * self.spread


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of the work before it runs.

    Attributes:
        slowness: Time that the work takes, in units of what the guess for its machines says.
        output_ratio: Bytes written for each byte of the inputs.
        spot: How often machines were taken.
    """

    slowness: Factor = Factor(1.0, RATE_SPREAD)
    output_ratio: Factor = Factor(OUTPUT_RATIO, OUTPUT_SPREAD)
    spot: tuple[SpotUse, ...] = ()

    @property
    def runs(self) -> int:
        """How many runs of the job are known."""
        return self.slowness.runs


NOTHING_LEARNED = Learned()


@dataclass(frozen=True, slots=True)
class Observation:
    """One past run of a job.

    Attributes:
        expected_seconds: What the guess said its parts would take.
        seconds: What they took.
        input_bytes: Size of its inputs.
        output_bytes: What it wrote.
    """

    expected_seconds: float
    seconds: float
    input_bytes: float
    output_bytes: float


def gpu_bytes_per_second(gpu: str) -> float:
    """Guess for one GPU of this name."""
    return GPU_BYTES_PER_SECOND.get(gpu, OTHER_GPU_BYTES_PER_SECOND)


def shrunk(values: Sequence[float], guess: float, spread: float) -> Factor:
    """``values`` and the guess together, as runs of which the guess is ``PRIOR_RUNS``.

    Figures of speed and size are off by factors, so it is done with their logarithms.

    Example:
        >>> shrunk([], 1.0, 3.0)
        Factor(center=1.0, spread=3.0, runs=0)
        >>> round(shrunk([4.0, 4.0], 1.0, 3.0).center, 3)
        2.0
    """
    if not values:
        return Factor(guess, spread)
    logs = [math.log(value) for value in values]
    weight = PRIOR_RUNS + len(logs)
    center = (PRIOR_RUNS * math.log(guess) + math.fsum(logs)) / weight
    around = math.fsum((one - center) ** 2 for one in logs)
    guessed = (math.log(spread) / Z90) ** 2
    deviation = math.sqrt((PRIOR_RUNS * guessed + around) / weight)
    return Factor(math.exp(center), math.exp(Z90 * deviation), len(logs))


def learn(observations: Iterable[Observation], spot: Sequence[SpotUse] = ()) -> Learned:
    """What ``observations`` of one job say, with the guesses for what they do not."""
    seen = list(observations)
    return Learned(
        slowness=shrunk([one.seconds / one.expected_seconds for one in seen], 1.0, RATE_SPREAD),
        output_ratio=shrunk(
            [one.output_bytes / one.input_bytes for one in seen if one.output_bytes > 0],
            OUTPUT_RATIO,
            OUTPUT_SPREAD,
        ),
        spot=tuple(spot),
    )


def observed(
    receipts: Iterable[RunReceipt], job: str, *, cores: int, gpu: str = ""
) -> tuple[Observation, ...]:
    """What receipts of ``job`` tell.

    Only runs that did all their parts count: one that took parts up was faster than the work is.

    Args:
        cores: Of the machine that the receipts are from; Polars uses all of them.
        gpu: Name of its GPUs.
    """
    return tuple(
        found
        for run in receipts
        for receipt in (run, *run.then)
        if receipt.job == job
        and receipt.status is Status.COMMITTED
        and not receipt.resumed_parts
        and (found := _observation(receipt, cores, gpu)) is not None
    )


def _observation(receipt: RunReceipt, cores: int, gpu: str) -> Observation | None:
    seconds = receipt.seconds.get("process", 0.0)
    size = sum(one.size_bytes for one in receipt.inputs if not one.side)
    candidate = _ran_on(receipt)
    if candidate is None or seconds <= 0 or size <= 0:
        return None
    if candidate.device is Device.CUDA:
        rate = candidate.workers * gpu_bytes_per_second(gpu)
    else:
        rate = cores * VCPU_BYTES_PER_SECOND
    return Observation(size / rate, seconds, size, receipt.bytes_written)


def _ran_on(receipt: RunReceipt) -> Candidate | None:
    if receipt.plan is None or not receipt.tries:
        return None
    return receipt.plan.candidates[len(receipt.tries) - 1]
