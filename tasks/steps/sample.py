"""The step that keeps a share of the rows, chosen by a hash of a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, Step

BUCKETS = 2**32
"""A hash falls into one of so many; the share is exact to that."""


class Sample(Step):
    """Keep about this share of the rows, the same ones however the input is cut.

    Which rows stay is decided by a hash of their key: all rows of a key stay, or none. So the
    share is met in the number of keys, not exactly and not in the number of rows. Another `seed`
    chooses other keys; another version of Polars may, too.

    Example:
        in:
            tailnum  flight:Int64
            N14228   1545
            N24211   1714
            N619AA   1141
            N14228   1696
            N804JB   725
        steps:
            kind = "sample"
            fraction = 0.5
            key = ["tailnum"]
            seed = 6
        out:
            tailnum  flight:Int64
            N14228   1545
            N24211   1714
            N14228   1696
    """

    kind: Literal["sample"]
    fraction: float = Field(gt=0, lt=1)
    """Share of the keys that stay."""
    key: Names
    """Columns that choose."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Chooses other keys."""

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.key

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        for name in self.key:
            if given.schema[name].is_nested():
                raise InvalidRequest(
                    f"key '{name}' is {given.schema[name]}", hint="choose by plain columns"
                )

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        # Joined as text, the hash of a null counts, and (a, b) is another key than (b, a).
        text = pl.concat_str(
            [column_of(name).hash(self.seed).cast(pl.String) for name in self.key], separator="/"
        )
        return frame.filter(text.hash(self.seed) % BUCKETS < int(self.fraction * BUCKETS))
