"""Jobs that the benchmarks run."""

from __future__ import annotations

from datetime import date

import polars as pl


def ship(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rows shipped by a day, with what they were sold for."""
    price = pl.col("l_extendedprice").cast(pl.Float64)
    discount = pl.col("l_discount").cast(pl.Float64)
    return frame.filter(pl.col("l_shipdate") <= date(1998, 9, 2)).with_columns(
        sold=price * (1 - discount), year=pl.col("l_shipdate").dt.year()
    )
