"""What every source of prices does, whoever it asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import ClassVar

import pytest
from tests.emulators.recorded import Answer, Recorded, Request, recorded

from headwater.infra.catalog.checks import check_offers
from headwater.infra.catalog.files import packaged_areas, read_offers
from headwater.infra.catalog.models import Offer
from headwater.infra.catalog.refresh import refresh
from headwater.infra.catalog.sources.base import PriceSource
from headwater.infra.catalog.tables import load_catalog
from headwater.infra.errors import AccessDenied, PriceListFailed
from headwater.infra.models import Cloud, Market

TODAY = date(2026, 11, 25)


class PriceSourceContract(ABC):
    """The suite; a subclass records the answers of one source."""

    cloud: Cloud

    expected: ClassVar[dict[tuple[str, str, str, Market], float]]
    """Region, zone, machine type and market: the price that the recorded answers hold."""

    @pytest.fixture
    def server(self) -> Iterator[Recorded]:
        with recorded() as server:
            server.answer = self.answers(server)
            yield server

    @abstractmethod
    def answers(self, server: Recorded) -> Callable[[Request], Answer]:
        """What is recorded; it has more than one page."""

    @abstractmethod
    def source(self, server: Recorded) -> PriceSource:
        """The source that asks ``server``, with three tries at most and no long waits."""

    @abstractmethod
    def throttled(self) -> Answer:
        """The server asks to come back later."""

    @abstractmethod
    def denied(self) -> Answer:
        """The server wants other credentials."""

    def found(self, source: PriceSource) -> dict[tuple[str, str, str, Market], float]:
        """What the source fetches, in the form of ``expected``."""
        offers = source.fetch(self.cloud, today=TODAY).offers
        return {(o.region, o.zone, o.instance_type, o.market): o.usd_per_hour for o in offers}

    def table(self, folder: Path) -> list[Offer]:
        """What is in the table of the cloud."""
        return read_offers(folder / f"offers-{self.cloud}.csv")

    def test_all_pages_are_read(self, server: Recorded) -> None:
        assert self.found(self.source(server)) == pytest.approx(self.expected)

    def test_offers_can_be_true_and_say_where_and_when_they_were_read(
        self, server: Recorded
    ) -> None:
        offers = self.source(server).fetch(self.cloud, today=TODAY).offers

        assert check_offers(offers, packaged_areas(), today=TODAY) == []
        assert {o.as_of for o in offers} == {TODAY}
        assert all(o.source for o in offers)

    def test_what_is_no_offer_is_counted(self, server: Recorded) -> None:
        assert self.source(server).fetch(self.cloud, today=TODAY).skipped > 0

    def test_a_refresh_writes_a_table_that_wins(self, server: Recorded, tmp_path: Path) -> None:
        done = refresh(self.source(server), self.cloud, tmp_path, today=TODAY)

        assert (done.offers, done.as_of) == (len(self.expected), TODAY)
        assert len(self.table(tmp_path)) == len(self.expected)
        offers = load_catalog(refreshed=tmp_path).offers
        prices = {
            (o.region, o.zone, o.instance_type, o.market): o.usd_per_hour
            for o in offers
            if o.cloud is self.cloud
        }
        assert self.expected.items() <= prices.items()

    def test_a_throttled_call_is_made_again(self, server: Recorded) -> None:
        server.first.append(self.throttled())

        assert self.found(self.source(server)) == pytest.approx(self.expected)

    def test_an_answer_that_was_cut_is_asked_for_again(self, server: Recorded) -> None:
        server.first.append(Answer(b'{"Items": [{"a": 1}, {"b": 2}]}', cut=True))

        assert self.found(self.source(server)) == pytest.approx(self.expected)

    @pytest.mark.parametrize(
        "how", ["throttled", "cut", pytest.param("broken", marks=pytest.mark.trial)]
    )
    def test_a_refresh_that_fails_leaves_what_was_there(
        self, server: Recorded, tmp_path: Path, how: str
    ) -> None:
        refresh(self.source(server), self.cloud, tmp_path, today=TODAY)
        before = (tmp_path / f"offers-{self.cloud}.csv").read_bytes()
        answer = {
            "throttled": self.throttled(),
            "cut": Answer(b'{"Items": [{"a": 1}, {"b": 2}]}', cut=True),
            "broken": Answer(b"<html>we are sorry</html>", 500),
        }[how]
        server.answer = lambda _: answer

        with pytest.raises(PriceListFailed) as caught:
            refresh(self.source(server), self.cloud, tmp_path, today=TODAY)

        assert "as they were" in caught.value.hint
        assert (tmp_path / f"offers-{self.cloud}.csv").read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == [f"offers-{self.cloud}.csv"]

    def test_credentials_that_do_not_suffice_say_what_to_do(self, server: Recorded) -> None:
        server.answer = lambda _: self.denied()

        with pytest.raises(AccessDenied) as caught:
            self.source(server).fetch(self.cloud, today=TODAY)

        assert caught.value.hint
