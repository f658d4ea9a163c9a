"""Awkward rows for jobs, and what a job in the catalogue is."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl

ROWS = 120
DUPLICATES = 15

SCHEMA = pl.Schema(
    {
        "id": pl.Int64(),
        "k": pl.Int64(),
        "i": pl.Int64(),
        "h": pl.Int16(),
        "u": pl.UInt64(),
        "f": pl.Float64(),
        "g": pl.Float64(),
        "e": pl.Float32(),
        "s": pl.String(),
        "b": pl.Boolean(),
        "d": pl.Decimal(12, 2),
        "day": pl.Date(),
        "t": pl.Datetime("us"),
        "z": pl.Datetime("us", "UTC"),
        "zone": pl.String(),
        "said": pl.String(),
        "l": pl.List(pl.Int64()),
        "w": pl.Struct({"a": pl.Int64(), "b": pl.String()}),
    }
)
"""``f`` has NaN, infinities and both zeros; ``g`` is plain; ``t`` and ``z`` lie around the changes
of clocks in New York and Berlin; ``said`` is text to be parsed."""

NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"
CLOCK_CHANGES = (
    dt.datetime(2024, 3, 10, 2),
    dt.datetime(2024, 11, 3, 1),
    dt.datetime(2024, 3, 31, 2),
    dt.datetime(2024, 10, 27, 2),
)
"""Local times: spring and autumn in New York, then in Berlin."""

FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 0.1, 1.5, -2.25, 1e9 + 0.1)
UNSIGNED = (0, 7, 2**53 + 1, 2**63, 2**64 - 1)
TEXTS = ("", "a", "A", "a%b", "été", "7", "zz top")
SAID = ("2024-02-29", "2024-02-30", "1.234,50", "-7", "yes", "NO", "n/a", "")
LISTS = ([], [1], [2, None], [3, 1, 3])


def events(rows: int = ROWS, seed: int = 7) -> pl.DataFrame:
    """Rows with nulls everywhere, some of them more than once."""
    dice = random.Random(seed)

    def maybe(value: object, share: float = 0.15) -> Any:
        return None if dice.random() < share else value

    def near(instants: Sequence[dt.datetime]) -> dt.datetime:
        return dice.choice(instants) + dt.timedelta(minutes=15 * dice.randint(-8, 12))

    def row(number: int) -> tuple[object, ...]:
        return (
            number,
            maybe(dice.randint(-1, 4)),
            maybe(dice.randint(-(10**12), 10**12)),
            maybe(dice.choice([-(2**15), -1, 0, 1, 2**15 - 1])),
            maybe(dice.choice(UNSIGNED)),
            maybe(dice.choice(FLOATS)),
            maybe(round(dice.uniform(-100, 100), 3)),
            maybe(dice.choice([0.5, -1.25, 3.0, 1e6])),
            maybe(dice.choice(TEXTS)),
            maybe(dice.random() < 0.5),
            maybe(Decimal(dice.randint(-99999, 99999)).scaleb(-2)),
            maybe(dt.date(2024, 1, 30) + dt.timedelta(dice.randrange(4))),
            maybe(near(CLOCK_CHANGES)),
            maybe(near(CLOCK_CHANGES).replace(tzinfo=dt.UTC)),
            maybe(dice.choice([NEW_YORK, BERLIN])),
            maybe(dice.choice(SAID)),
            maybe(dice.choice(LISTS)),
            maybe({"a": maybe(dice.randint(0, 3)), "b": maybe(dice.choice(TEXTS))}),
        )

    made = [row(number) for number in range(rows - DUPLICATES)]
    made += [dice.choice(made) for _ in range(DUPLICATES)]
    dice.shuffle(made)
    return pl.DataFrame(made, schema=SCHEMA, orient="row")


def large_numbers() -> pl.DataFrame:
    """Numbers whose sums pass the ends of their types on the way, or at the end."""
    top, low = 2**63 - 1, -(2**63)
    return pl.DataFrame(
        {
            "k": [0, 1] * 20,
            # 0: back to a small total. 1: beyond the type.
            "back": [top, 5, top, 6, low, 7, low, 8] * 5,
            "beyond": [1, top, 2, 3, 3, 4, 4, 1] * 5,
            "u": [2**64 - 1, 2**63] * 20,
            "d": [Decimal(10**37), Decimal(1), Decimal(-(10**37)), Decimal(2)] * 10,
            "far": [1e16, 1.0, -1e16, 2.0] * 10,
        },
        schema={
            "k": pl.Int64,
            "back": pl.Int64,
            "beyond": pl.Int64,
            "u": pl.UInt64,
            "d": pl.Decimal(38, 0),
            "far": pl.Float64,
        },
    )


DATA: dict[str, Callable[[], pl.DataFrame]] = {
    "events": events,
    "nothing": lambda: pl.DataFrame(schema=SCHEMA),
    "one row": lambda: events().head(1),
    "one group": lambda: events().with_columns(k=pl.lit(7, pl.Int64)),
    "large numbers": large_numbers,
}
"""Inputs by name."""

SIDES = {
    "names": pl.DataFrame({"k": [0, 1, 2, 9, None], "name": ["zero", "one", None, "nine", "null"]}),
    "twice": pl.DataFrame({"k": [0, 0, 1, None, None], "v": [1.5, 2.5, math.nan, 3.5, 4.5]}),
    "floats": pl.DataFrame({"f": [0.0, 1.5, math.inf, None], "as": ["0", "1.5", "inf", "null"]}),
}
"""Side tables by name."""


@dataclass(frozen=True, slots=True)
class CutJob:
    """A job, and what DuckDB calls the same.

    Attributes:
        steps: TOML.
        sql: Over ``source`` and the side tables; empty where DuckDB has nothing like it.
        data: Name of the input.
        ordered: Whether the order of the rows is part of the result.
        rounded: Columns of floats that are not exact: the same but for ``ROUNDING``.
        refused: Instead of a result: part of the message.
    """

    name: str
    steps: str
    sql: str = ""
    data: str = "events"
    ordered: bool = False
    rounded: tuple[str, ...] = ()
    refused: str = ""


def step(kind: str, body: str = "") -> str:
    """One step as TOML."""
    return f'[[steps]]\nkind = "{kind}"\n{body}\n'


def chain(*steps: str) -> str:
    """Steps one after the other."""
    return "".join(steps)


def keep(*columns: str) -> str:
    """The step that selects ``columns``."""
    return step("select", f"columns = {list(columns)}")
