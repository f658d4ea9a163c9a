"""The step that turns local times into instants, over both changes of clocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.dtypes import require_zone
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, Step, require_columns, require_type
from headwater.tasks.steps.loss import Loss, refusing


class ToUtc(Step):
    """Turn local times into instants in UTC.

    The zone is one for all rows, or stands in a column; then the zones that may occur are listed
    in `zones`, and another one makes the run fail. A row without a zone has no instant.

    When clocks go back, an hour comes twice: `ambiguous` says which of the two is meant. When they
    go forward, an hour does not exist: `non_existent` says what becomes of a time in it.

    Example:
        in:
            departure:Datetime   zone
            2013-07-01 12:00:00  America/New_York
            2013-11-03 01:30:00  America/New_York
            2013-03-10 02:30:00  America/New_York
            2013-07-01 12:00:00  Asia/Kolkata
        steps:
            kind = "to_utc"
            columns = ["departure"]
            zone_column = "zone"
            zones = ["America/New_York", "Asia/Kolkata"]
            ambiguous = "earliest"
            non_existent = "null"
        out:
            departure:Datetime(UTC)  zone
            2013-07-01 16:00:00      America/New_York
            2013-11-03 05:30:00      America/New_York
            null                     America/New_York
            2013-07-01 06:30:00      Asia/Kolkata
    """

    kind: Literal["to_utc"]
    columns: Names
    """Columns of local times (Datetime)."""
    zone: str = ""
    """Zone of all rows, as `America/New_York`."""
    zone_column: str = ""
    """Column that holds each row's zone."""
    zones: tuple[str, ...] = ()
    """Zones that the column may hold."""
    ambiguous: Literal["refuse", "earliest", "latest", "null"] = "refuse"
    """Which one a time is that comes twice."""
    non_existent: Literal["refuse", "null"] = "refuse"
    """What becomes of a time that clocks skipped."""

    @model_validator(mode="after")
    def _has_one_zone(self) -> ToUtc:
        if bool(self.zone) == bool(self.zone_column):
            raise ValueError("give either zone or zone_column")
        if bool(self.zone_column) != bool(self.zones):
            raise ValueError("zone_column and zones belong together: list the zones it may hold")
        return self

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        for zone in self._zones:
            require_zone(zone)
        for name in self.columns:
            dtype = given.schema[name]
            if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
                raise InvalidRequest(
                    f"column '{name}' is {dtype}, an instant already",
                    hint="cast it to Datetime(UTC)",
                )
        require_type(given.schema, self.columns, (pl.Datetime,), "parse or cast it first")
        if self.zone_column:
            require_columns(given.schema, [self.zone_column])
            require_type(given.schema, [self.zone_column], (pl.String,), "name a text column")

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        changed = []
        for name in self.columns:
            value = self._instant(name, self._kept)
            for loss in self._losses(name):
                value = refusing(value, loss.lost, given.number)
            changed.append(value.alias(name))
        return frame.with_columns(changed)

    @override
    def losses(self, given: Given) -> tuple[Loss, ...]:
        return tuple(loss for name in self.columns for loss in self._losses(name))

    @property
    def _zones(self) -> tuple[str, ...]:
        return self.zones or (self.zone,)

    @property
    def _kept(self) -> Literal["earliest", "latest", "null"]:
        return "null" if self.ambiguous == "refuse" else self.ambiguous

    def _instant(self, name: str, ambiguous: Literal["earliest", "latest", "null"]) -> pl.Expr:
        def of(zone: str) -> pl.Expr:
            local = column_of(name).dt.replace_time_zone(
                zone, ambiguous=ambiguous, non_existent="null"
            )
            return local.dt.convert_time_zone("UTC")

        if self.zone:
            return of(self.zone)
        # An expression converts from one zone at a time.
        return pl.coalesce(
            [pl.when(column_of(self.zone_column) == zone).then(of(zone)) for zone in self.zones]
        )

    def _losses(self, name: str) -> list[Loss]:
        local, exists = column_of(name), self._instant(name, "earliest").is_not_null()
        found = []
        is_known = pl.lit(True)
        if self.zone_column:
            zone = column_of(self.zone_column)
            is_known = zone.is_in(pl.lit(list(self.zones))).fill_null(value=False)
            found.append(
                Loss(
                    name,
                    local.is_not_null() & zone.is_not_null() & ~is_known,
                    f"have a zone in '{self.zone_column}' that is not listed",
                    "add it to zones, or filter these rows out",
                )
            )
        if self.ambiguous == "refuse":
            found.append(
                Loss(
                    name,
                    exists & self._instant(name, "null").is_null(),
                    "come twice, as clocks went back",
                    'set ambiguous = "earliest", "latest" or "null"',
                )
            )
        if self.non_existent == "refuse":
            found.append(
                Loss(
                    name,
                    local.is_not_null() & is_known & ~exists,
                    "do not exist, as clocks went forward",
                    'set non_existent = "null"',
                )
            )
        return found
