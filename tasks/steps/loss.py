"""Values that a step would lose: how a plan refuses them, and how they are named afterwards.

An expression cannot raise by itself, and an error of the engine names a few values of one batch.
So a plan that must not lose values fails with a mark of its step, and only then the step's input
is read once more, to count the lost values and to show the first rows. A run that loses nothing
pays for one comparison a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent

import polars as pl
import polars.selectors as cs

from headwater.infra.errors import ValueLost
from headwater.infra.storage.types import column_of

SHOWN_ROWS = 5
SHOWN_COLUMNS = 6
"""Of a row, the column that lost its value and some plain ones beside it."""

_MARK = re.compile(r"headwater-step-(\d+)-lost")


@dataclass(frozen=True, slots=True)
class Loss:
    """Values that do not survive a step.

    Attributes:
        column: Where they are.
        lost: Which rows lose one; a condition on the step's input.
        reason: What they are, as in "3 values of 'n' ...".
        hint: What to do.
    """

    column: str
    lost: pl.Expr
    reason: str
    hint: str


def refusing(value: pl.Expr, lost: pl.Expr, number: int) -> pl.Expr:
    """``value``, in a plan that fails where ``lost`` holds for a row.

    Args:
        number: Of the step; ``lost_at`` finds it in the failure.
    """
    # Parsing this text as a number fails; no other row has a text.
    mark = pl.when(lost).then(pl.lit(f"headwater-step-{number}-lost")).otherwise(None)
    return pl.when(mark.str.to_integer().is_null()).then(value)


def lost_at(error: BaseException) -> int | None:
    """Number of the step whose plan failed with ``error``; ``None`` where it was another error."""
    found = _MARK.search(str(error))
    return int(found[1]) if found else None


def lost_values(
    frames: Sequence[pl.LazyFrame], losses: Sequence[Loss], label: str, where: str
) -> ValueLost:
    """An error that counts the values that a step loses, and shows the first rows.

    Args:
        frames: The step's input, one after the other.
        label: Names the step.
        where: Names the input.
    """
    for loss in losses:
        counts = [_count(frame.filter(loss.lost)) for frame in frames]
        if sum(counts):
            guilty = next(f for f, count in zip(frames, counts, strict=True) if count)
            rows = guilty.filter(loss.lost).head(SHOWN_ROWS).collect(engine="streaming")
            return _error(label, loss, sum(counts), rows, where)
    # Which rows fail is a function of the rows, so the ones that failed are found again.
    raise AssertionError(f"{label} lost values that cannot be found again")


def _count(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())


def _error(label: str, loss: Loss, count: int, rows: pl.DataFrame, where: str) -> ValueLost:
    others = [n for n, t in rows.schema.items() if n != loss.column and _is_plain(t)]
    shown = rows.select([column_of(n) for n in (loss.column, *others[: SHOWN_COLUMNS - 1])])
    # JSON shows instants that Python's own types cannot hold, but no NaN and no bytes.
    said = shown.with_columns(cs.float().cast(pl.String)).write_ndjson().rstrip()
    values = "1 value" if count == 1 else f"{count:,} values"
    place = f" in {where}" if where else ""
    return ValueLost(
        f"{label}: {values} of '{loss.column}'{place} {loss.reason}; the first rows:\n"
        + indent(said, "  "),
        hint=loss.hint,
    )


def _is_plain(dtype: pl.DataType) -> bool:
    return not (dtype.is_nested() or isinstance(dtype, (pl.Binary, pl.Object)))
