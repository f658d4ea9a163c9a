"""The step that reads dates, times, numbers and truth values from text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.dtypes import dtype_of
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, OnLoss, Step, require_type
from headwater.tasks.steps.loss import Loss, refusing

_TEMPORAL = ("Date", "Time", "Datetime", "Datetime(UTC)")
_OFFSETS = ("%z", "%:z", "%#z", "%+")
_FINER_THAN_KEPT = r"\.\d{6}\d*[1-9]"
"""Fractions of a second that microseconds do not hold."""


class Parse(Step):
    """Read dates, times, numbers or truth values from text, in formats that are told.

    Nothing is guessed. Dates and times need `formats`, tried one after the other; they are written
    with `%Y-%m-%d %H:%M:%S`, `%d/%m/%y`, `%b`, `%p`, `%.f` (a fraction) and the other signs of
    `strftime`. `%z` reads an offset and gives an instant in UTC, as does a format that ends in a
    literal `Z` with `to = "Datetime(UTC)"`. Numbers may have a separator of thousands and another
    decimal sign. Truth values are the texts in `true` and `false`, whatever their case.

    Text in `nulls` becomes null. Other text that fits no format makes the run fail and is shown,
    or becomes null with `on_loss = "null"`.

    Example:
        in:
            day         gross     paid
            31/12/2013  1.234,50  yes
            2014-01-01  NA        no
        steps:
            kind = "parse"
            columns = ["day"]
            to = "Date"
            formats = ["%d/%m/%Y", "%Y-%m-%d"]

            [[steps]]
            kind = "parse"
            columns = ["gross"]
            to = "Decimal(12, 2)"
            thousands = "."
            decimal = ","
            nulls = ["NA"]

            [[steps]]
            kind = "parse"
            columns = ["paid"]
            to = "Boolean"
            true = ["yes"]
            false = ["no"]
        out:
            day:Date    gross:Decimal(12, 2)  paid:Boolean
            2013-12-31  1234.50               true
            2014-01-01  null                  false
    """

    kind: Literal["parse"]
    columns: Names
    """Text columns."""
    to: str
    """Date, Time, Datetime, Datetime(UTC), Boolean, or a type of numbers, as in the step cast."""
    formats: tuple[str, ...] = ()
    """How dates and times are written."""
    thousands: str = ""
    """Separator of thousands in numbers."""
    decimal: str = "."
    """Decimal sign in numbers."""
    true: tuple[str, ...] = ("true",)
    """Texts that are true."""
    false: tuple[str, ...] = ("false",)
    """Texts that are false."""
    nulls: tuple[str, ...] = ()
    """Texts for a missing value, as `NA`."""
    on_loss: OnLoss = "refuse"
    """What becomes of other text that cannot be read."""

    @model_validator(mode="after")
    def _has_a_format(self) -> Parse:
        if self.to in _TEMPORAL and not self.formats:
            raise ValueError(f'{self.to} needs formats, for example formats = ["%Y-%m-%d"]')
        if self.to not in _TEMPORAL and self.formats:
            raise ValueError(f"formats are for dates and times, not for {self.to}")
        if not self.decimal or self.thousands == self.decimal:
            raise ValueError("thousands and decimal must be two different signs")
        return self

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_type(given.schema, self.columns, (pl.String,), "only text is parsed")
        dtype = dtype_of(self.to)
        if self.to not in _TEMPORAL and not dtype.is_numeric() and dtype != pl.Boolean():
            raise InvalidRequest(
                f"text cannot be parsed to {self.to}",
                hint=f"allowed: {', '.join(_TEMPORAL)}, Boolean and numbers",
            )
        for format_ in self.formats:
            self._require_format(format_)

    def _require_format(self, format_: str) -> None:
        offset = any(sign in format_ for sign in _OFFSETS)
        if self.to == "Datetime" and offset:
            raise InvalidRequest(
                f"the format '{format_}' reads an offset, so it gives an instant",
                hint='set to = "Datetime(UTC)"',
            )
        if self.to == "Datetime(UTC)" and not offset and not format_.endswith("Z"):
            raise InvalidRequest(
                f"the format '{format_}' reads no offset, so it gives a local time",
                hint='read it with to = "Datetime", then use the step to_utc',
            )
        needed = {"Time": ("%H", "%I", "%T", "%R", "%r", "%k", "%l", "%X")}
        if self.to in needed and not any(sign in format_ for sign in needed[self.to]):
            raise InvalidRequest(f"the format '{format_}' has no hour", hint="write it as %H:%M:%S")
        if self.to != "Time" and "%" not in format_:
            raise InvalidRequest(
                f"the format '{format_}' has no sign of a date", hint="write it as %Y-%m-%d"
            )

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        changed = []
        for name in self.columns:
            value, lost = self._value(name), self._lost(name)
            if self.on_loss == "refuse":
                value = refusing(value, lost, given.number)
            else:
                value = pl.when(~lost).then(value)
            changed.append(value.alias(name))
        return frame.with_columns(changed)

    @override
    def losses(self, given: Given) -> tuple[Loss, ...]:
        how = f" as {' or '.join(self.formats)}" if self.formats else ""
        return tuple(
            Loss(
                name,
                self._lost(name),
                f"cannot be read as {self.to}{how}",
                'name texts for a missing value in nulls, or set on_loss = "null"',
            )
            for name in self.columns
        )

    def _text(self, name: str) -> pl.Expr:
        text = column_of(name)
        if not self.nulls:
            return text
        return pl.when(~text.is_in(pl.lit(list(self.nulls)))).then(text)

    def _lost(self, name: str) -> pl.Expr:
        text, value = self._text(name), self._value(name)
        lost = value.is_null() & text.is_not_null()
        dtype = dtype_of(self.to)
        if any("f" in part for f in self.formats for part in f.split("%")[1:]):
            lost |= text.str.contains(_FINER_THAN_KEPT)
        if isinstance(dtype, pl.Decimal):
            exact = pl.Decimal(38, 38 - ((dtype.precision or 38) - dtype.scale))
            lost |= self._number(name).cast(exact, strict=False) != value.cast(exact)
        return lost.fill_null(value=False)

    def _value(self, name: str) -> pl.Expr:
        text, dtype = self._text(name), dtype_of(self.to)
        if self.formats:
            return pl.coalesce([self._temporal(text, dtype, f) for f in self.formats])
        if dtype == pl.Boolean():
            lower = text.str.to_lowercase()
            is_true = lower.is_in(pl.lit([t.lower() for t in self.true]))
            is_false = lower.is_in(pl.lit([t.lower() for t in self.false]))
            return pl.when(is_true).then(pl.lit(True)).when(is_false).then(pl.lit(False))
        return self._number(name).cast(dtype, strict=False)

    def _temporal(self, text: pl.Expr, dtype: pl.DataType, format_: str) -> pl.Expr:
        match dtype:
            case pl.Date():
                return text.str.to_date(format_, strict=False)
            case pl.Time():
                return text.str.to_time(format_, strict=False)
            case pl.Datetime(time_zone=zone):
                return text.str.to_datetime(format_, time_unit="us", time_zone=zone, strict=False)
            case _:
                raise TypeError(f"no date or time: {dtype}")

    def _number(self, name: str) -> pl.Expr:
        number = self._text(name)
        if self.decimal != ".":
            # A point would be read as the decimal sign, so it must be the separator or nothing.
            number = pl.when(
                ~number.str.contains(".", literal=True) | pl.lit(self.thousands == ".")
            ).then(number)
        if self.thousands:
            number = number.str.replace_all(self.thousands, "", literal=True)
        if self.decimal != ".":
            number = number.str.replace_all(self.decimal, ".", literal=True)
        return number
