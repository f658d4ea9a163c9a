"""Integers of any length in two columns of 38 digits: ``high * LIMB + low``.

Polars adds 128-bit integers and decimals and wraps silently where the total does not fit. A total
in two limbs cannot wrap, so that only the last total is judged, and no order of additions makes
the difference between an answer and a refusal.
"""

from __future__ import annotations

import polars as pl

from headwater.infra.storage.types import MAX_DECIMAL_DIGITS
from headwater.tasks.aggregates.plan import WIDE_DECIMAL

LIMB = 10**18
HIGH_LIMIT = 10**20
"""``high`` up to here, times ``LIMB``, fits 128 bits."""

EXACT_FLOAT = 2**53
"""Integers up to here are floats exactly."""

_I128 = pl.Int128()


def integer(value: int) -> pl.Expr:
    """A literal of 128 bits."""
    return pl.lit(value, dtype=_I128)


def split(values: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """The high and low limb of each 128-bit integer; 0 <= low < ``LIMB``."""
    high = values.floordiv(integer(LIMB))
    return high, values - high * integer(LIMB)


def carried(high: pl.Expr, low: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """The same totals with what ``low`` exceeds a limb by moved to ``high``."""
    more, rest = split(low.cast(_I128))
    return high.cast(_I128) + more, rest


def stored(limb: pl.Expr) -> pl.Expr:
    """A limb as a state keeps it: a decimal, which every reader of Parquet knows."""
    return limb.cast(_I128).cast(WIDE_DECIMAL)


def total(high: pl.Expr, low: pl.Expr) -> pl.Expr:
    """The total as a 128-bit integer; null where it has more than 38 digits."""
    high, low = carried(high, low)
    value = pl.when(high.abs() <= integer(HIGH_LIMIT)).then(high * integer(LIMB) + low)
    limit = integer(10**MAX_DECIMAL_DIGITS)
    return pl.when(value.is_between(-limit, limit, closed="none")).then(value)


def as_float(high: pl.Expr, low: pl.Expr) -> pl.Expr:
    """The total as the nearest float, or next to it beyond 38 digits."""
    above = high.cast(_I128).cast(pl.Float64) * float(LIMB) + low.cast(_I128).cast(pl.Float64)
    return pl.coalesce(total(high, low).cast(pl.Float64), above)


def mean(high: pl.Expr, low: pl.Expr, count: pl.Expr) -> pl.Expr:
    """The total divided by ``count`` as a float, right to the last place or next to it."""
    value, divisor = total(high, low), count.cast(_I128)
    whole = value.floordiv(divisor)
    part = (value - whole * divisor).cast(pl.Float64) / count
    small = value.abs() <= integer(EXACT_FLOAT)
    exact = pl.when(small).then(value.cast(pl.Float64) / count)
    return pl.coalesce(exact, whole.cast(pl.Float64) + part, as_float(high, low) / count)


def as_decimal(values: pl.Expr, scale: int) -> pl.Expr:
    """128-bit integers as decimals that have ``scale`` of their digits behind the point."""
    if not scale:
        return values.cast(WIDE_DECIMAL)
    # Multiplying by a decimal gives null where the product before rounding has 39 digits.
    digits = values.abs().cast(pl.String).str.zfill(scale + 1)
    sign = pl.when(values < integer(0)).then(pl.lit("-")).otherwise(pl.lit(""))
    cut = digits.str.len_bytes() - scale
    head, tail = digits.str.slice(0, cut), digits.str.slice(cut)
    text = pl.concat_str(sign, head, pl.lit("."), tail)
    return text.cast(pl.Decimal(MAX_DECIMAL_DIGITS, scale))
