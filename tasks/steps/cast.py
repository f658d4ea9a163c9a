"""The step that changes the type of columns, and which values survive that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.dtypes import dtype_of
from headwater.infra.storage.types import MAX_DECIMAL_DIGITS, column_of
from headwater.tasks.steps.base import Given, OnLoss, Step
from headwater.tasks.steps.loss import Loss, refusing

Family = Literal[
    "integer",
    "truth",
    "float",
    "decimal",
    "text",
    "bytes",
    "date",
    "local time",
    "instant",
    "time of day",
]

_TARGETS: Mapping[Family, tuple[Family, ...]] = {
    "integer": ("integer", "truth", "float", "decimal", "text"),
    "truth": ("integer", "truth", "float", "text"),
    "float": ("integer", "float", "decimal", "text"),
    "decimal": ("integer", "float", "decimal", "text"),
    "text": ("integer", "float", "decimal", "text", "bytes"),
    "bytes": ("bytes",),
    "date": ("date", "local time", "text"),
    "local time": ("date", "local time", "text"),
    "instant": ("instant", "text"),
    "time of day": ("time of day", "text"),
}
"""Which types a cast leads to; other ways need to be told more than a type."""


class Cast(Step):
    """Change the type of columns without changing a value.

    A value that the new type cannot hold (`x` as Int64, 300 as Int8, 1.5 as Int64, a time of day
    as Date, more digits than a decimal has, an integer that Float64 rounds) is lost: the run fails
    and shows how many there are in the part and the first rows, or they become null with
    `on_loss = "null"`. Text and decimals that become Float64, and Float64 that becomes Float32,
    take the nearest number; only what is too large for it counts as lost.

    Types: Int8 to Int64, UInt8 to UInt64, Float32, Float64, Decimal(18, 2), Boolean, String,
    Binary, Date, Time, Datetime (a local time), Datetime(UTC) (an instant, in any zone) and
    List(Int64). An integer becomes Boolean if it is 0 or 1. Text becomes a date, a time or a
    Boolean through the step parse, and a local time an instant through the step to_utc.

    Example:
        in:
            flight:Float64  delay  cents:Int64
            1545.0          2      7
            1714.0          NA     null
        steps:
            kind = "cast"
            columns = { flight = "Int64", delay = "Float64", cents = "Decimal(10, 2)" }
            on_loss = "null"
        out:
            flight:Int64  delay:Float64  cents:Decimal(10, 2)
            1545          2.0            7.00
            1714          null           null
    """

    kind: Literal["cast"]
    columns: dict[str, str] = Field(min_length=1)
    """Column -> type."""
    on_loss: OnLoss = "refuse"
    """What becomes of a value that the new type cannot hold."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return tuple(self.columns)

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        for name, want in self._wanted():
            _require_castable(given.schema[name], want, name)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        changed = []
        for name, want in self._wanted():
            old, have = _plain(name, given.schema[name])
            value = old.cast(want, strict=False)
            lost = _lost(old, have, want)
            if lost is not None and self.on_loss == "refuse":
                value = refusing(value, lost, given.number)
            elif lost is not None:
                value = pl.when(~lost).then(value)
            changed.append(value.alias(name))
        return frame.with_columns(changed)

    @override
    def losses(self, given: Given) -> tuple[Loss, ...]:
        found = []
        for name, want in self._wanted():
            old, have = _plain(name, given.schema[name])
            lost = _lost(old, have, want)
            if lost is not None:
                reason = f"cannot become {want} unchanged"
                hint = 'mend them, or set on_loss = "null"'
                if isinstance(have, pl.String):
                    hint += "; the step parse knows texts for a missing value"
                found.append(Loss(name, lost, reason, hint))
        return tuple(found)

    def _wanted(self) -> list[tuple[str, pl.DataType]]:
        return [(name, dtype_of(text)) for name, text in self.columns.items()]


def _plain(name: str, dtype: pl.DataType) -> tuple[pl.Expr, pl.DataType]:
    """The column and its type; of categories, their text, as a number would be their code."""
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return column_of(name).cast(pl.String), pl.String()
    return column_of(name), dtype


def _require_castable(have: pl.DataType, want: pl.DataType, name: str) -> None:
    if have == want or isinstance(have, pl.Null):
        return
    if isinstance(have, pl.List) and isinstance(want, pl.List):
        inner, wanted = pl.Series(dtype=have.inner).dtype, pl.Series(dtype=want.inner).dtype
        if not isinstance(inner, pl.String):
            _require_castable(inner, wanted, f"{name}[]")
            return
    source, target = _family(have), _family(want)
    if source is None or target is None or target not in _TARGETS[source]:
        raise InvalidRequest(
            f"column '{name}' of type {have} cannot be cast to {want}", hint=_advice(have, want)
        )


def _advice(have: pl.DataType, want: pl.DataType) -> str:
    source, target = _family(have), _family(want)
    if isinstance(have, pl.List):
        return "use the step explode first"
    if isinstance(have, pl.Struct):
        return "use the step unnest first"
    if source == "text" or (source == "integer" and target in ("date", "local time", "instant")):
        return "use the step parse, with a format"
    if target == "instant":
        return "use the step to_utc, which asks for the zone"
    if source == "instant":
        return "use the step truncate, with as_date = true and the zone that the date is of"
    if target is None:
        return "cast its parts"
    return f"allowed: {', '.join(_TARGETS[source]) if source else 'none'}"


def _family(dtype: pl.DataType) -> Family | None:
    match dtype:
        case pl.Float32() | pl.Float64():
            return "float"
        case pl.Decimal():
            return "decimal"
        case pl.Boolean():
            return "truth"
        case pl.String() | pl.Categorical() | pl.Enum():
            return "text"
        case pl.Binary():
            return "bytes"
        case pl.Date():
            return "date"
        case pl.Datetime(time_zone=None):
            return "local time"
        case pl.Datetime():
            return "instant"
        case pl.Time():
            return "time of day"
        case _:
            return "integer" if dtype.is_integer() else None


def _lost(old: pl.Expr, have: pl.DataType, want: pl.DataType) -> pl.Expr | None:
    """Which values do not survive; ``None`` where all do, by their types."""
    if have == want or isinstance(have, pl.Null):
        return None
    source, target = _family(have), _family(want)
    new = old.cast(want, strict=False)
    unreadable = new.is_null() & old.is_not_null()
    match source, target:
        case (("bytes" | "text"), "text"):
            return unreadable if source == "bytes" else None
        case _, "text":
            return None
        case "text", "decimal":
            return unreadable | _rounded(old, new, want)
        case "text", _:
            return unreadable
        case (("float" | "decimal"), "float"):
            return new.is_infinite() & (old.is_finite() if source == "float" else True)
        case ("integer", "decimal") | ("date", "local time"):
            return unreadable
        case _:
            # Back again, or it was another value. Null is not, and NaN is, equal to itself here.
            return new.cast(have, strict=False).ne_missing(old)


def _rounded(text: pl.Expr, new: pl.Expr, want: pl.DataType) -> pl.Expr:
    """Whether a decimal has fewer digits after the point than its text."""
    if not isinstance(want, pl.Decimal):
        raise TypeError(f"no decimal: {want}")
    digits = want.precision or MAX_DECIMAL_DIGITS
    exact = pl.Decimal(MAX_DECIMAL_DIGITS, MAX_DECIMAL_DIGITS - (digits - want.scale))
    return (text.cast(exact, strict=False) != new.cast(exact)).fill_null(value=False)
