"""TPC-H queries written as jobs give DuckDB's answers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from headwater.flows.etl_run import EtlRun
from headwater.infra.gpu import GpuReport
from headwater.infra.models import JobRequest
from headwater.infra.profiles import load_profile

ROOT = Path(__file__).parent.parent.parent

Q1 = """
select l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice),
  sum(l_extendedprice * (1 - l_discount)), sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)),
  avg(l_quantity), avg(l_extendedprice), avg(l_discount), count(*)
from lineitem where l_shipdate <= date '1998-09-02'
group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus
"""
Q3 = """
select l_orderkey, o_orderdate, o_shippriority, sum(l_extendedprice * (1 - l_discount)) as revenue
from customer, orders, lineitem
where c_mktsegment = 'BUILDING' and c_custkey = o_custkey and l_orderkey = o_orderkey
  and o_orderdate < date '1995-03-15' and l_shipdate > date '1995-03-15'
group by l_orderkey, o_orderdate, o_shippriority order by revenue desc, o_orderdate limit 10
"""
Q6 = """
select sum(l_extendedprice * l_discount) from lineitem
where l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01'
  and l_discount between 0.05 and 0.07 and l_quantity < 24
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TPC-H at a hundredth of its first size; lineitem in four files."""
    folder = tmp_path_factory.mktemp("tpch")
    command = [str(Path(sys.executable).with_name("tpchgen-cli")), "parquet", "-s", "0.01"]
    where = ["--output-dir", str(folder)]
    subprocess.run([*command, "--tables", "orders,customer", *where], check=True, timeout=60)
    subprocess.run(
        [*command, "--tables", "lineitem", "--parts", "4", *where], check=True, timeout=60
    )
    return folder


@pytest.mark.parametrize(
    ("name", "sql", "sides"),
    [("q1", Q1, ()), ("q3", Q3, ("orders", "customer")), ("q6", Q6, ())],
)
def test_a_query_gives_duckdbs_answer(
    tables: Path, tmp_path: Path, name: str, sql: str, sides: tuple[str, ...]
) -> None:
    run = EtlRun(
        JobRequest(
            (str(tables / "lineitem"),),
            str(tmp_path / "out"),
            f"tests.benchmarks.jobs:{name}",
            tuple((side, str(tables / f"{side}.parquet")) for side in sides),
        ),
        load_profile("local"),
        folder=ROOT,
        gpu_probe=lambda: GpuReport(reason="not asked"),
    )
    run.scan()
    run.process()
    run.commit()

    found = pl.read_delta(str(tmp_path / "out")).rows()
    with duckdb.connect() as database:
        database.read_parquet(f"{tables}/lineitem/*.parquet").create_view("lineitem")
        for side in ("orders", "customer"):
            database.read_parquet(f"{tables}/{side}.parquet").create_view(side)
        expected = database.sql(sql).fetchall()

    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for value, other in zip(ours, theirs, strict=True):
            if isinstance(value, float):
                assert math.isclose(value, other, rel_tol=1e-9)
            else:
                assert value == other
