"""Plans that are tried on the GPU engine: which of them it takes, and whether it gives the same.

Each step with its documented example and the variants that make another plan, each aggregate
function in its three phases, the reading of each format, and whole jobs. Nothing here needs a GPU
or the GPU engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

SECTIONS = ("steps", "aggregates", "reading", "jobs")

PHASES = ("partial", "combine", "finalize")
"""Plans that an aggregate is made of, in their order."""


def as_it_is(result: pl.DataFrame) -> pl.DataFrame:
    """A result that is compared as it is."""
    return result


@dataclass(frozen=True, slots=True)
class Case:
    """One plan.

    Attributes:
        section: Which part of the page it stands in, one of ``SECTIONS``.
        subject: The step's kind, the aggregate function, the format or the job.
        variant: What tells it from others of its subject.
        phase: Of an aggregate, one of ``PHASES``; empty for others.
        plan: Makes the plan. What it collects while it does so is the CPU's.
        is_ordered: Whether the order of the rows is part of the result.
        view: The result as it is compared, where the plan's own columns are not told apart by
            their meaning, as a set in no order.
    """

    section: str
    subject: str
    variant: str
    plan: Callable[[], pl.LazyFrame]
    phase: str = ""
    is_ordered: bool = False
    view: Callable[[pl.DataFrame], pl.DataFrame] = as_it_is

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the case."""
        return (self.section, self.subject, self.variant, self.phase)

    @property
    def label(self) -> str:
        """The same as one text."""
        return " / ".join(filter(None, self.key))
