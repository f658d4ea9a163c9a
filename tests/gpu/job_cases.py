"""How each format is read, and whole jobs on top of it: the demo's, the README's, TPC-H queries.

The plans are those of a part: scan, job, and the types that the table keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
from tests.benchmarks import jobs as benchmarks
from tests.gpu.cases import Case
from tests.gpu.step_cases import ROWS, stage_cases

from headwater.flows.demo import DAILY as DEMO_DAILY
from headwater.flows.demo_jobs import flights
from headwater.infra.models import Format
from headwater.infra.storage.casts import conform
from headwater.infra.storage.inputs import Input, open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.types import stored_schema
from headwater.infra.storage.uris import Uri
from headwater.tasks.jobs import Transform
from headwater.tasks.steps.files import parse_steps

README = Path(__file__).resolve().parents[2] / "README.md"
DAILY = "daily.toml"

ORDERS = 40
LINES = 240
"""Rows of the small TPC-H tables."""

_CSV = {
    "flights": """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,3,10,NA,230,NA,NA,530,NA,B6,1714,NA,LGA,PHX,NA,1416,2,30,2013-03-10T07:00:00Z
2013,11,3,120,130,-10,2359,2400,-1,AA,1141,N619AA,JFK,HNL,600,4983,1,30,2013-11-03T05:00:00Z
2013,7,4,2301,2245,16,210,155,15,UA,27,N24211,EWR,XXX,150,1089,22,45,2013-07-05T02:00:00Z
""",
    "weather": """\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,5,39.02,26.06,59.37,270,10.357019999999999,NA,0,1012,10,2013-01-01T10:00:00Z
JFK,2013,11,3,1,NA,26.96,61.63,250,8.05546,NA,0.01,NA,10,2013-11-03T05:00:00Z
""",
    "planes": """\
tailnum,year,type,manufacturer,model,engines,seats,speed,engine
N14228,1999,Fixed wing multi engine,BOEING,737-824,2,149,NA,Turbo-fan
N619AA,NA,Fixed wing multi engine,BOEING,757-223,2,178,NA,Turbo-fan
""",
    "airports": """\
faa,name,lat,lon,alt,tz,dst,tzone
EWR,Newark Liberty Intl,40.6925,-74.168667,18,-5,A,America/New_York
JFK,John F Kennedy Intl,40.639751,-73.778925,13,-5,A,America/New_York
LGA,La Guardia,40.777245,-73.872608,22,-5,A,America/New_York
IAH,George Bush Intercontinental,29.984433,-95.341442,97,-6,A,America/Chicago
PHX,Phoenix Sky Harbor Intl,33.434278,-112.011583,1135,-7,N,America/Phoenix
HNL,Honolulu Intl,21.318681,-157.922428,13,-10,N,Pacific/Honolulu
""",
    "airlines": "carrier,name\nUA,United Air Lines Inc.\nB6,JetBlue Airways\n",
}
"""First lines of the demo's files, and rows that are awkward: clock changes, midnight, NA."""

_READ = ("k", "u", "f", "s", "d", "b", "t", "z", "day")
"""Columns of types that tables and files have."""


def reading_cases(folder: Path) -> Iterator[Case]:
    """A scan of each format, and of each way a part takes rows and columns from a file."""
    rows = ROWS.select(_READ)
    plain, hive = folder / "rows.parquet", folder / "hive" / "site=a" / "rows.parquet"
    hive.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(plain, row_group_size=3)
    rows.write_parquet(hive)
    rows.drop("u").write_csv(folder / "rows.csv")  # numbers beyond Int64 are read as Int128
    rows.select("k", "f", "s", "b").with_columns(pl.col("f").fill_nan(None)).write_ndjson(
        folder / "rows.jsonl"
    )
    parquet = open_input([str(plain)])
    more = replace(parquet, schema=pl.Schema({**parquet.schema, "added": pl.Int64()}))
    columns = parquet.schema
    wider = replace(parquet, schema=pl.Schema({**columns, "d": pl.Decimal(38, 2)}))
    checked = replace(parquet, schema=pl.Schema({**columns, "day": pl.Datetime("us")}))
    scans: Mapping[tuple[str, str], Callable[[], pl.LazyFrame]] = {
        ("Parquet", "a whole file"): partial(_scan, parquet),
        ("Parquet", "some rows of a file"): partial(_scan, parquet, 2, 5),
        ("Parquet", "a column that the file lacks"): partial(_scan, more),
        ("Parquet", "a narrower column"): partial(_scan, wider),
        ("Parquet", "a column whose values are checked"): partial(_scan, checked),
        ("Parquet", "a partition column"): partial(_scan, open_input([str(folder / "hive")])),
        ("Parquet", "two files"): lambda: pl.concat([_scan(parquet), _scan(parquet)]),
        ("CSV", "a whole file"): partial(_scan, open_input([str(folder / "rows.csv")])),
        ("JSON lines", "a whole file"): partial(_scan, open_input([str(folder / "rows.jsonl")])),
    }
    for (format_, variant), scan in scans.items():
        yield Case("reading", format_, variant, scan)


def job_cases(folder: Path) -> Iterator[Case]:
    """Whole jobs over files, as a part of a run has them."""
    for name, text in _CSV.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
    demo = {name: open_input([str(folder / f"{name}.csv")]) for name in _CSV}
    # Workers hold the side tables of a job of scope rows as frames; a whole job scans them.
    held = {n: _scan(source).collect() for n, source in demo.items() if n != "flights"}

    def demo_job() -> pl.LazyFrame:
        return _kept(flights, _scan(demo["flights"]), {n: f.lazy() for n, f in held.items()})

    yield Case("jobs", "headwater.flows.demo_jobs:flights", "over CSV", demo_job)
    made = _collected(demo_job)
    for subject, text in (
        ("the demo's daily.toml", DEMO_DAILY.read_text("utf-8")),
        ("the README's daily.toml", _readme_steps()),
    ):
        yield from stage_cases("jobs", subject, "", parse_steps(text, DAILY), made, {})

    tables = {name: folder / f"{name}.parquet" for name in ("lineitem", "orders", "customer")}
    for name, frame in _tpch().items():
        frame.write_parquet(tables[name])
    tpch = {name: open_input([str(path)]) for name, path in tables.items()}
    for function, sides in (
        (benchmarks.ship, ()),
        (benchmarks.q1, ()),
        (benchmarks.q3, ("orders", "customer")),
        (benchmarks.q6, ()),
    ):

        def job(function: Transform = function, sides: tuple[str, ...] = sides) -> pl.LazyFrame:
            return _kept(function, _scan(tpch["lineitem"]), {n: _scan(tpch[n]) for n in sides})

        ordered = function in (benchmarks.q1, benchmarks.q3)
        subject = f"tests.benchmarks.jobs:{function.__name__}"
        yield Case("jobs", subject, "over Parquet", job, is_ordered=ordered)


def _scan(source: Input, first_row: int = 0, rows: int | None = None) -> pl.LazyFrame:
    """The first file of ``source``, as a part reads it once it is staged."""
    file = source.files[0]
    path = Path(Uri.parse(file.ref.uri).key)
    frame = read_slice(path, source, partition=file.partition, first_row=first_row, rows=rows)
    # A GPU worker reads text before its engine has it.
    is_text = source.format in (Format.CSV, Format.JSONL)
    return frame.collect().lazy() if is_text else frame


def _kept(job: Transform, frame: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    result = job(frame, **sides)
    schema = result.collect_schema()
    return conform(result, schema, stored_schema(schema))


def _collected(plan: Callable[[], pl.LazyFrame]) -> pl.LazyFrame:
    return plan().collect().lazy()


def _readme_steps() -> str:
    text = README.read_text("utf-8")
    found = re.search(rf"```toml\n# {re.escape(DAILY)}\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise LookupError(f"the README shows no {DAILY}")
    return found[1]


def _tpch() -> dict[str, pl.DataFrame]:
    """Tables with the types of TPC-H, and rows that each of the queries finds."""
    n = pl.int_range(LINES, eager=True)
    money = pl.Decimal(15, 2)
    first = pl.lit(date(1994, 1, 1))
    lineitem = pl.DataFrame({"n": n}).select(
        l_orderkey=pl.col("n") % ORDERS,
        l_quantity=(pl.col("n") % 50 + 1).cast(money),
        l_extendedprice=((pl.col("n") * 7919 % 90_001 + 100) / 100 * 100).cast(money),
        l_discount=((pl.col("n") % 11) / 100).cast(money),
        l_tax=((pl.col("n") % 9) / 100).cast(money),
        l_returnflag=pl.lit(pl.Series(["A", "N", "R"])).gather(pl.col("n") % 3),
        l_linestatus=pl.lit(pl.Series(["F", "O"])).gather(pl.col("n") % 2),
        l_shipdate=first + pl.duration(days=pl.col("n") * 37 % 2000),
    )
    orders = pl.DataFrame({"n": n[:ORDERS]}).select(
        o_orderkey="n",
        o_custkey=pl.col("n") % 8,
        o_orderdate=first + pl.duration(days=pl.col("n") * 11),
        o_shippriority=pl.lit(0, dtype=pl.Int32()),
    )
    segments = pl.lit(pl.Series(["BUILDING", "MACHINERY"]))
    customer = pl.DataFrame({"n": n[:8]}).select(
        c_custkey="n", c_mktsegment=segments.gather(pl.col("n") % 2)
    )
    return {"lineitem": lineitem, "orders": orders, "customer": customer}
