"""Jobs that the benchmarks run."""

from __future__ import annotations

from datetime import date

import polars as pl

from headwater.tasks.jobs import job

GRINDS = 400
"""Hashes of each row in ``grind``."""


def ship(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rows shipped by a day, with what they were sold for."""
    price = pl.col("l_extendedprice").cast(pl.Float64)
    discount = pl.col("l_discount").cast(pl.Float64)
    return frame.filter(pl.col("l_shipdate") <= date(1998, 9, 2)).with_columns(
        sold=price * (1 - discount), year=pl.col("l_shipdate").dt.year()
    )


def grind(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Much work for each row, and few bytes: what a run of a minute takes."""
    hashes = (pl.col("n").hash(seed) % 1_009 for seed in range(GRINDS))
    return frame.with_columns(mixed=pl.sum_horizontal(*hashes).cast(pl.Int64))


@job(scope="whole")
def q1(frame: pl.LazyFrame) -> pl.LazyFrame:
    """TPC-H q1: pricing summary."""
    price = pl.col("l_extendedprice").cast(pl.Float64)
    discounted = price * (1 - pl.col("l_discount").cast(pl.Float64))
    return (
        frame.filter(pl.col("l_shipdate") <= date(1998, 9, 2))
        .group_by("l_returnflag", "l_linestatus")
        .agg(
            sum_qty=pl.col("l_quantity").cast(pl.Float64).sum(),
            sum_base_price=price.sum(),
            sum_disc_price=discounted.sum(),
            sum_charge=(discounted * (1 + pl.col("l_tax").cast(pl.Float64))).sum(),
            avg_qty=pl.col("l_quantity").cast(pl.Float64).mean(),
            avg_price=price.mean(),
            avg_disc=pl.col("l_discount").cast(pl.Float64).mean(),
            count_order=pl.len(),
        )
        .sort("l_returnflag", "l_linestatus")
    )


@job(scope="whole")
def q3(frame: pl.LazyFrame, *, orders: pl.LazyFrame, customer: pl.LazyFrame) -> pl.LazyFrame:
    """TPC-H q3: the ten unshipped orders of the highest value."""
    revenue = pl.col("l_extendedprice").cast(pl.Float64) * (
        1 - pl.col("l_discount").cast(pl.Float64)
    )
    building = customer.filter(pl.col("c_mktsegment") == "BUILDING").select("c_custkey")
    open_orders = (
        orders.filter(pl.col("o_orderdate") < date(1995, 3, 15))
        .join(building, left_on="o_custkey", right_on="c_custkey", how="semi")
        .select("o_orderkey", "o_orderdate", "o_shippriority")
    )
    return (
        frame.filter(pl.col("l_shipdate") > date(1995, 3, 15))
        .join(open_orders, left_on="l_orderkey", right_on="o_orderkey")
        .group_by("l_orderkey", "o_orderdate", "o_shippriority")
        .agg(revenue=revenue.sum())
        .sort(["revenue", "o_orderdate"], descending=[True, False])
        .head(10)
    )


@job(scope="whole")
def q6(frame: pl.LazyFrame) -> pl.LazyFrame:
    """TPC-H q6: revenue that smaller discounts would have brought."""
    discount = pl.col("l_discount").cast(pl.Float64)
    return frame.filter(
        pl.col("l_shipdate").is_between(date(1994, 1, 1), date(1994, 12, 31)),
        discount.round(2).is_between(0.05, 0.07),
        pl.col("l_quantity").cast(pl.Float64) < 24,
    ).select(revenue=(pl.col("l_extendedprice").cast(pl.Float64) * discount).sum())
