"""The step that brings times down to the beginning of an hour, a day or a month."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field, model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.dtypes import require_zone
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Step, require_new, require_type

DAY_GRAINS = ("d", "w", "mo", "q", "y")

_SECOND = 10**6
_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
    "d": 86_400 * _SECOND,
    "w": 604_800 * _SECOND,
}
"""How long the units are that are always equally long."""

_FIRST_MONDAY = -3 * _MICROSECONDS["d"]
"""The Monday before 1970."""

_LONGEST = 2**53
"""Beyond these microseconds a count is left to Polars to judge."""


class Truncate(Step):
    """Bring times down to the beginning of their minute, hour, day, week or year.

    `every` is a number and one of `us`, `ms`, `s`, `m` (minutes), `h`, `d`, `w` (from Monday),
    `mo`, `q` and `y`. An instant is truncated by the clocks of `zone`, over both changes of clocks,
    and stays an instant; without a zone, by those of its own, which is UTC in a table. With
    `as_date` the result is the day in that zone, as a date.

    Example:
        in:
            departure:Datetime(UTC)
            2013-11-03 05:30:00
            2013-11-03 06:30:00
            2013-11-04 04:59:00
        steps:
            kind = "truncate"
            columns = { departure = "hour" }
            every = "1h"

            [[steps]]
            kind = "truncate"
            columns = { departure = "day" }
            every = "1d"
            zone = "America/New_York"
            as_date = true
        out:
            departure:Datetime(UTC)  hour:Datetime(UTC)   day:Date
            2013-11-03 05:30:00      2013-11-03 05:00:00  2013-11-03
            2013-11-03 06:30:00      2013-11-03 06:00:00  2013-11-03
            2013-11-04 04:59:00      2013-11-04 04:00:00  2013-11-03
    """

    kind: Literal["truncate"]
    columns: dict[str, str] = Field(min_length=1)
    """Column -> column of the result; the same name changes it in place."""
    every: str = Field(pattern=r"^[1-9][0-9]*(us|ms|s|m|h|d|w|mo|q|y)$")
    """How long a step of time is, as `15m`, `1h`, `1d`, `1mo`."""
    zone: str = ""
    """Whose clocks count, for instants."""
    as_date: bool = False
    """Whether the result is a date and no longer a time; for `d` and longer."""

    @model_validator(mode="after")
    def _date_of_days(self) -> Truncate:
        if self.as_date and self._unit not in DAY_GRAINS:
            raise ValueError(f"as_date needs an every of days or longer, not {self.every}")
        return self

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return tuple(self.columns)

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_type(given.schema, self.columns, (pl.Datetime, pl.Date), "parse or cast it first")
        added = [new for old, new in self.columns.items() if new != old]
        require_new(given.schema, added)
        if self.zone:
            require_zone(self.zone)
        for name in self.columns:
            dtype = given.schema[name]
            local = not (isinstance(dtype, pl.Datetime) and dtype.time_zone)
            if local and self.zone:
                raise InvalidRequest(
                    f"column '{name}' is {dtype}, which has no zone",
                    hint="leave zone out, or use the step to_utc first",
                )
            if isinstance(dtype, pl.Date) and self._unit not in DAY_GRAINS:
                raise InvalidRequest(
                    f"column '{name}' is {dtype}, which has no {self.every}",
                    hint=f"use one of {', '.join(DAY_GRAINS)}",
                )

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.with_columns(
            [
                self._truncated(old, given.schema[old]).alias(new)
                for old, new in self.columns.items()
            ]
        )

    @property
    def _unit(self) -> str:
        return self.every.lstrip("0123456789")

    def _truncated(self, name: str, dtype: pl.DataType) -> pl.Expr:
        time, own = column_of(name), dtype.time_zone if isinstance(dtype, pl.Datetime) else None
        zone = self.zone or own
        if own is None or own == zone == "UTC":
            begun = self._begun(time, dtype)
            return begun.dt.date() if self.as_date and isinstance(dtype, pl.Datetime) else begun
        there = time.dt.convert_time_zone(zone or own)
        if self.as_date:
            # By local times: a zone's midnight may not exist, and the GPU knows no other clocks.
            return self._begun(there.dt.replace_time_zone(None), _local(dtype)).dt.date()
        return there.dt.truncate(self.every).dt.convert_time_zone(own)

    def _begun(self, time: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """``time`` brought down by a clock that never changes.

        The GPU engine truncates to one of a unit alone, and not to weeks: it is told others, and
        Polars is, as arithmetic, which gives the same.
        """
        count, unit = int(self.every.removesuffix(self._unit)), self._unit
        length = count * _MICROSECONDS.get(unit, 0)
        known = count == 1 and unit != "w"
        # Polars counts several weeks from another day than one week.
        other = unit == "w" and count > 1
        if known or other or not 0 < length < _LONGEST or getattr(dtype, "time_unit", "us") != "us":
            return time.dt.truncate(self.every)
        first = _FIRST_MONDAY if unit == "w" else 0
        if isinstance(dtype, pl.Date):
            length, first = length // _MICROSECONDS["d"], first // _MICROSECONDS["d"]
        number = time.to_physical().cast(pl.Int64)
        return (number - (number - first) % length).cast(dtype)


def _local(dtype: pl.DataType) -> pl.DataType:
    return pl.Datetime(dtype.time_unit) if isinstance(dtype, pl.Datetime) else dtype
