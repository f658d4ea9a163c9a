"""The step that joins a small table, which each worker holds whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest, ValueLost
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Step, require_columns, require_new

SHOWN_KEYS = 5
"""Keys that come twice, in a message."""


class Join(Step):
    """Join a small table by equal keys.

    The table is read from `uri` (CSV, Parquet, JSON lines or a Delta table, from any store; a
    relative path starts at the working folder), or from what the run is given as
    `--side NAME=URI`, which wins. Null keys equal nothing. `left` keeps rows without a partner,
    with null; `semi` keeps rows with one, and `anti` those without, and neither takes columns.

    A key that the table has twice would multiply rows: it is refused and shown, unless
    `multiplies = "allow"`. A column of the table whose name is there already is refused as well:
    choose in `columns` which ones come along, and under which names.

    Example:
        side airlines:
            carrier  name
            UA       United Air Lines Inc.
            B6       JetBlue Airways
        in:
            flight:Int64  carrier
            1545          UA
            27            XX
            31            null
        steps:
            kind = "join"
            side = "airlines"
            uri = "s3://lake/airlines.csv"
            on = ["carrier"]
            how = "left"
            columns = { airline = "name" }
        out:
            flight:Int64  carrier  airline
            1545          UA       United Air Lines Inc.
            27            XX       null
            31            null     null
    """

    kind: Literal["join"]
    side: str
    """Name of the table; two joins may use the same."""
    uri: str = ""
    """Where it is."""
    on: tuple[str, ...] = ()
    """Key columns, if they have the same names on both sides."""
    left_on: tuple[str, ...] = ()
    """Key columns of the rows, if the names differ."""
    right_on: tuple[str, ...] = ()
    """Key columns of the table, in the same order."""
    how: Literal["inner", "left", "semi", "anti"] = "inner"
    """Which rows stay."""
    columns: dict[str, str] | None = None
    """New name -> the table's column; all but its keys where it is left out."""
    multiplies: Literal["refuse", "allow"] = "refuse"
    """What becomes of a key that the table has twice."""

    @model_validator(mode="after")
    def _has_keys(self) -> Join:
        if bool(self.on) == bool(self.left_on or self.right_on):
            raise ValueError("give the keys as on, or as left_on and right_on")
        if len(self.left_on) != len(self.right_on):
            raise ValueError("left_on and right_on must have as many columns")
        if not self.side.isidentifier():
            raise ValueError("side must be a plain name: letters, digits and _")
        if self.columns is not None and not self.takes_columns:
            raise ValueError(f'how = "{self.how}" takes no columns')
        return self

    @property
    def takes_columns(self) -> bool:
        """Whether rows get columns of the table."""
        return self.how in ("inner", "left")

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a column of the rows and one of the table."""
        return tuple(zip(self.on or self.left_on, self.on or self.right_on, strict=True))

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.on or self.left_on

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        side = given.sides[self.side]
        where = f"side table '{self.side}'"
        require_columns(side, [right for _, right in self.keys], where)
        for left, right in self.keys:
            if _key_type(given.schema[left]) != _key_type(side[right]):
                raise InvalidRequest(
                    f"key '{left}' is {given.schema[left]}, and '{right}' of {where} is"
                    f" {side[right]}",
                    hint="cast or parse the rows' key first",
                )
        if self.takes_columns:
            taken = self._taken(side)
            for column in taken.values():
                require_columns(side, [column], where)
            require_new(given.schema, taken)

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        taken = self._taken(given.sides[self.side]) if self.takes_columns else {}
        # Keys get names of their own, so that no name is there twice; and a join takes no
        # selector, which is what keeps a column named "*" from being a pattern.
        keys = [f"__headwater_key_{n}" for n in range(len(self.keys))]
        types = [_key_type(given.schema[left]) for left, _ in self.keys]
        lefts, rights = (
            [
                column_of(pair[which]).cast(dtype).alias(key)
                for key, dtype, pair in zip(keys, types, self.keys, strict=True)
            ]
            for which in (0, 1)
        )
        right = sides[self.side].select(
            [*rights, *(column_of(column).alias(new) for new, column in taken.items())]
        )
        joined = frame.with_columns(lefts).join(right, on=keys, how=self.how)
        return joined.select([column_of(n) for n in (*given.schema, *taken)])

    def require_unique(self, side: pl.LazyFrame) -> None:
        """Returns when no key of the table comes twice, or that is allowed or does not matter.

        Raises:
            ValueLost: Rows would be multiplied; the first such keys are named.
        """
        if self.multiplies == "allow" or not self.takes_columns:
            return
        keys = [right for _, right in self.keys]
        twice = (
            side.select([column_of(key) for key in keys])
            .drop_nulls()  # null equals nothing
            .group_by([column_of(key) for key in keys])
            .agg(pl.len().alias("__headwater_times"))
            .filter(pl.col("__headwater_times") > 1)
            .sort([column_of(key) for key in keys])
            .collect()
        )
        if twice.is_empty():
            return
        named = [
            ", ".join(f"{k}={row[k]!r}" for k in keys) + f" ({row['__headwater_times']:,} times)"
            for row in twice.head(SHOWN_KEYS).iter_rows(named=True)
        ]
        more = f" and {twice.height - SHOWN_KEYS:,} more" if twice.height > SHOWN_KEYS else ""
        raise ValueLost(
            f"the side table '{self.side}' has keys that come more than once, so the join would"
            f" multiply rows: {'; '.join(named)}{more}",
            hint='mend the table, join on more columns, or set multiplies = "allow"',
        )

    def _taken(self, side: pl.Schema) -> dict[str, str]:
        if self.columns is not None:
            return self.columns
        keys = {right for _, right in self.keys}
        return {name: name for name in side if name not in keys}


def _key_type(dtype: pl.DataType) -> pl.DataType:
    """The type that keys are compared in: integers of any width equal each other.

    But not the largest ones: no type that a key can have holds Int64 and UInt64.
    """
    small = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
    return pl.Int64() if isinstance(dtype, small) else dtype
