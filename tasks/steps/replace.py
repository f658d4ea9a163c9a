"""The step that replaces text in text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from polars.exceptions import PolarsError
from pydantic import model_validator
from typing_extensions import override

from headwater.infra.errors import InvalidRequest
from headwater.infra.storage.types import column_of
from headwater.tasks.steps.base import Given, Names, Step, require_type


class Replace(Step):
    """Replace text in text: every occurrence, every match of a pattern, or a whole value.

    A pattern is a regular expression in the syntax of Rust's `regex` (no look-around, no back
    references inside it); `$1` or `${name}` in the replacement is what a group matched, and `$$`
    is a dollar sign. Whole values can also become null: leave `replacement` out.

    Example:
        in:
            tailnum  plane
            NA       BOEING 737-800
            N14228   null
        steps:
            kind = "replace"
            columns = ["plane"]
            match = "regex"
            find = "([A-Z]+) +([0-9]+)-[0-9]+"
            replacement = "$2 by $1"

            [[steps]]
            kind = "replace"
            columns = ["tailnum"]
            match = "whole"
            find = "NA"
        out:
            tailnum  plane
            null     737 by BOEING
            N14228   null
    """

    kind: Literal["replace"]
    columns: Names
    """Text columns."""
    find: str
    """What is looked for."""
    replacement: str | None = None
    """What takes its place; without it, whole values become null."""
    match: Literal["text", "regex", "whole"] = "text"
    """`text`: every occurrence. `regex`: every match. `whole`: the value as it is."""

    @model_validator(mode="after")
    def _is_whole(self) -> Replace:
        if self.replacement is None and self.match != "whole":
            raise ValueError('say what takes its place: replacement (only match = "whole" may not)')
        if not self.find and self.match != "whole":
            raise ValueError("find is empty, so it would match between all letters")
        return self

    @property
    @override
    def own_columns(self) -> tuple[str, ...]:
        return self.columns

    @override
    def check(self, given: Given) -> None:
        super().check(given)
        require_type(given.schema, self.columns, (pl.String,), "cast it to String first")
        try:
            pl.Series(["", None]).str.contains(self.find, literal=self.match != "regex")
        except PolarsError as exc:
            said = " ".join(str(exc).split())
            raise InvalidRequest(
                f"'{self.find}' is no regular expression: {said}",
                hint='mend it, or set match = "text"',
            ) from exc

    @override
    def apply(
        self, frame: pl.LazyFrame, given: Given, sides: Mapping[str, pl.LazyFrame]
    ) -> pl.LazyFrame:
        return frame.with_columns(
            [self._replaced(column_of(name)).alias(name) for name in self.columns]
        )

    def _replaced(self, text: pl.Expr) -> pl.Expr:
        if self.match == "whole":
            new = pl.lit(self.replacement, dtype=pl.String)
            return pl.when(text == pl.lit(self.find)).then(new).otherwise(text)
        return text.str.replace_all(self.find, self.replacement or "", literal=self.match == "text")
