"""The TPC-H queries of the benchmarks as a user of dask.dataframe on pandas writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def ship(source: Path, target: Path) -> None:
    """Rows shipped by a day, with what they were sold for, written as Parquet."""
    columns = list(pq.read_schema(next(iter(_files(source)))).names)
    rows = dd.concat([_partitions(path, columns) for path in _files(source)])
    rows = rows[rows["l_shipdate"] <= pd.Timestamp(1998, 9, 2)]
    rows["sold"] = rows["l_extendedprice"] * (1 - rows["l_discount"])
    rows["year"] = rows["l_shipdate"].dt.year
    rows.to_parquet(target)


def q1(folder: Path) -> Any:
    """Pricing summary."""
    columns = ["l_quantity", "l_extendedprice", "l_discount", "l_tax"]
    keys = ["l_returnflag", "l_linestatus"]
    rows = _table(folder, "lineitem", [*keys, "l_shipdate", *columns])
    rows = rows[rows["l_shipdate"] <= pd.Timestamp(1998, 9, 2)]
    rows["sold"] = rows["l_extendedprice"] * (1 - rows["l_discount"])
    rows["charge"] = rows["sold"] * (1 + rows["l_tax"])
    sums = rows.groupby(keys).agg(
        {
            "l_quantity": ["sum", "mean"],
            "l_extendedprice": ["sum", "mean"],
            "sold": "sum",
            "charge": "sum",
            "l_discount": ["mean", "count"],
        }
    )
    return sums.compute().sort_index()


def q3(folder: Path) -> Any:
    """The ten unshipped orders of the highest value."""
    columns = ["l_extendedprice", "l_discount"]
    rows = _table(folder, "lineitem", ["l_orderkey", "l_shipdate", *columns])
    rows = rows[rows["l_shipdate"] > pd.Timestamp(1995, 3, 15)]
    rows["revenue"] = rows["l_extendedprice"] * (1 - rows["l_discount"])
    customer = _table(folder, "customer", ["c_custkey", "c_mktsegment"])
    building = customer[customer["c_mktsegment"] == "BUILDING"][["c_custkey"]]
    named = ["o_orderkey", "o_orderdate", "o_shippriority"]
    orders = _table(folder, "orders", ["o_custkey", *named])
    orders = orders[orders["o_orderdate"] < pd.Timestamp(1995, 3, 15)]
    orders = orders.merge(building, left_on="o_custkey", right_on="c_custkey")[named]
    joined = rows.merge(orders, left_on="l_orderkey", right_on="o_orderkey")
    values = joined.groupby(["l_orderkey", "o_orderdate", "o_shippriority"])["revenue"].sum()
    found = values.compute().reset_index()
    return found.sort_values(["revenue", "o_orderdate"], ascending=[False, True]).head(10)


def q6(folder: Path) -> Any:
    """Revenue that smaller discounts would have brought."""
    columns = ["l_quantity", "l_extendedprice", "l_discount"]
    rows = _table(folder, "lineitem", ["l_shipdate", *columns])
    year = (rows["l_shipdate"] >= pd.Timestamp(1994, 1, 1)) & (
        rows["l_shipdate"] <= pd.Timestamp(1994, 12, 31)
    )
    rows = rows[year]
    discount = rows["l_discount"].round(2)
    cheap = (discount >= 0.05) & (discount <= 0.07) & (rows["l_quantity"] < 24)
    sold = rows[cheap]
    return (sold["l_extendedprice"] * sold["l_discount"]).sum().compute()


def _table(folder: Path, name: str, columns: list[str]) -> dd.DataFrame:
    return _partitions(folder / f"{name}.parquet", columns)


def _files(source: Path) -> list[Path]:
    return sorted(source.iterdir()) if source.is_dir() else [source]


def _partitions(path: Path, columns: list[str]) -> dd.DataFrame:
    """A file, one partition for each row group, in the types that pandas' users have."""
    with pq.ParquetFile(path) as file:
        groups = file.num_row_groups
    empty = _group(0, path, columns).head(0)
    frame: dd.DataFrame = dd.from_map(_group, range(groups), path=path, columns=columns, meta=empty)
    return frame


def _group(index: int, path: Path, columns: list[str]) -> pd.DataFrame:
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(index, columns)
    schema = pa.schema([field.with_type(_usual(field.type)) for field in rows.schema])
    return rows.cast(schema).to_pandas()


def _usual(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(dtype):
        return pa.float64()
    if pa.types.is_date(dtype):
        return pa.timestamp("us")
    return pa.string() if pa.types.is_string_view(dtype) else dtype
