"""What an engine must give: for every plan of docs/gpu.md, what Polars' in-memory engine gives."""

from __future__ import annotations

from typing import ClassVar

import pytest
from tests.gpu.cases import Case
from tests.gpu.catalog import all_cases
from tests.gpu.engines import Engine, failures

from headwater.tasks.aggregates.plan import AggregateFunction
from headwater.tasks.steps.catalog import KINDS


class EngineContract:
    """The suite; a subclass names the engine and the fallbacks that it has."""

    ENGINE: ClassVar[Engine]

    def foretold(self, case: Case) -> int:
        """How many fallbacks the plan has."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def cases(cls, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
        return list(all_cases(tmp_path_factory.mktemp("plans")))

    @pytest.mark.parametrize("kind", KINDS)
    def test_step_gives_the_same(self, kind: str, cases: list[Case]) -> None:
        self._compare([c for c in cases if c.section == "steps" and c.subject == kind])

    @pytest.mark.parametrize("function", AggregateFunction)
    def test_aggregate_gives_the_same(self, function: str, cases: list[Case]) -> None:
        self._compare([c for c in cases if c.section == "aggregates" and c.subject == function])

    @pytest.mark.parametrize("section", ["reading", "jobs"])
    def test_scans_and_jobs_give_the_same(self, section: str, cases: list[Case]) -> None:
        self._compare([c for c in cases if c.section == section])

    def _compare(self, cases: list[Case]) -> None:
        assert cases
        wrong = failures(cases, type(self).ENGINE, foretold=self.foretold)
        assert not wrong, wrong
