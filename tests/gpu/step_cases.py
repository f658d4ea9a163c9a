"""Each step: its documented example, and the variants that make another plan."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl
from tests.gpu.aggregate_cases import phases_of
from tests.gpu.cases import Case

from headwater.tasks.steps.aggregate import AggregateStep
from headwater.tasks.steps.catalog import KINDS
from headwater.tasks.steps.compile import Stage, compile_steps
from headwater.tasks.steps.examples import example_of
from headwater.tasks.steps.files import FORMAT_VERSION, StepFile, parse_steps

HOURS = (dt.datetime(2024, 3, 10), dt.datetime(2024, 11, 3))
"""Days on which clocks change in New York."""

TIMES = [
    None,
    dt.datetime(1969, 12, 30, 23, 59, 59, 999_999),
    *(day + dt.timedelta(minutes=30 * n) for day in HOURS for n in (0, 3, 5, 9)),
][:9]
CLEAR = [t if t is None or t.hour in (0, 23) else t + dt.timedelta(hours=8) for t in TIMES]
"""Local times that exist once."""

ROWS = pl.DataFrame(
    {
        "k": pl.Series([0, 1, 2, 3, None, -7, 1, 2**40, -7], dtype=pl.Int64()),
        "u": pl.Series([0, 1, 2**53 + 1, 2**63, None, 2**64 - 1, 7, 7, 0], dtype=pl.UInt64()),
        "f": pl.Series(
            [0.5, math.nan, math.inf, -1.5, None, 2.5, -0.0, 1e300, 0.5], dtype=pl.Float64()
        ),
        "g": pl.Series([1.5, None, 3.0, math.nan, 2.0, 0.0, 1.0, 1.0, 1.5], dtype=pl.Float64()),
        "s": ["alpha", "beta", None, "", "a%b", "7", "été", "x", "alpha"],
        "zone": ["America/New_York", "Asia/Kolkata", None, *["America/New_York"] * 6],
        "d": pl.Series(
            ["1.20", "2.00", "-3.50", None, "0.10", "9.99", "0.00", "1.20", "1.25"]
        ).cast(pl.Decimal(12, 2)),
        "b": [True, False, None, True, True, False, None, True, True],
        "t": pl.Series(TIMES, dtype=pl.Datetime("us")),
        "z": pl.Series(TIMES, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
        "day": pl.Series([None if t is None else t.date() for t in TIMES], dtype=pl.Date()),
        "l": pl.Series([[1, 2], [], None, [3], [None], [4, 5], [6], [7], [1, 2]]),
        "m": pl.Series([["a", "b"], [], None, ["c"], [None], ["d", "e"], ["f"], ["g"], ["h", "i"]]),
        "st": pl.Series([{"id": n, "city": f"c{n}"} if n else None for n in range(9)]),
        "time": pl.Series([dt.time(n) if n else None for n in range(9)], dtype=pl.Time()),
        # Values that survive the casts they are for.
        "small": pl.Series([0, 1, None, 1, 0, 1, 0, 1, 0], dtype=pl.Int64()),
        "ulow": pl.Series([0, 1, None, 7, 8, 9, 10, 11, 12], dtype=pl.UInt64()),
        "whole": pl.Series([1.0, -2.0, None, 3.0, 0.0, 5.0, 6.0, 7.0, 1.0], dtype=pl.Float64()),
        "money": pl.Series(["1.00", None, "-3.00", "4.00", *["2.00"] * 5]).cast(pl.Decimal(12, 2)),
        "clear": pl.Series(CLEAR, dtype=pl.Datetime("us")),
        "midnight": pl.Series([HOURS[0], None, HOURS[1], *[HOURS[0]] * 6], dtype=pl.Datetime("us")),
        "number": ["1", "-2", None, "30", "4", "5", "6", "7", "1"],
        "cents": ["1.20", "-2.00", None, "30.05", "4", "5.5", "6", "7", "1.20"],
        "grouped": ["1.234,50", "2,00", None, "NA", "4", "5", "6", "7", "1"],
        "truth": ["yes", "no", None, "YES", "no", "no", "no", "no", "yes"],
        "date": ["2024-01-31", "2023-12-01", None, *["2024-02-29"] * 6],
        "moment": ["2024-01-31 10:20:30", None, *["2024-02-29 00:00:00"] * 7],
        "fraction": ["2024-01-31 10:20:30.123456", None, *["2024-02-29 00:00:00.5"] * 7],
        "offset": ["2024-01-31T10:20:30+0100", None, *["2024-02-29T00:00:00-0500"] * 7],
        "zulu": ["2024-01-31T10:20:30Z", None, *["2024-02-29T00:00:00Z"] * 7],
        "clock": ["10:20:30", None, *["00:00:01"] * 7],
    }
)
"""Rows that the variants choose their columns from."""

SIDE = pl.DataFrame({"k": [0, 1, 2, None], "s": ["alpha", "beta", None, "7"], "v": [1, 2, 3, None]})


@dataclass(frozen=True, slots=True)
class Variant:
    """A step on some columns of ``ROWS``.

    Attributes:
        columns: Their names, with spaces between.
        body: The step's keys in TOML, without its kind.
    """

    label: str
    columns: str
    body: str


def _casts() -> Iterator[Variant]:
    pairs = [
        *(("k", to) for to in ("Int8", "UInt64", "Float64", "Decimal(18, 2)", "Boolean", "String")),
        *(("u", to) for to in ("Int64", "Float64", "Decimal(20, 0)")),
        *(("b", to) for to in ("Int64", "Float64", "String")),
        *(("f", to) for to in ("Int64", "Float32", "Decimal(12, 2)", "String")),
        *(("d", to) for to in ("Int64", "Float64", "Decimal(12, 1)", "String")),
        *(("s", to) for to in ("Int64", "Float64", "Decimal(12, 2)", "Binary")),
        *(("day", to) for to in ("Datetime", "String")),
        *(("t", to) for to in ("Date", "String")),
        ("z", "String"),
        ("time", "String"),
        ("l", "List(Float64)"),
    ]
    for name, to in pairs:
        body = f'columns = {{ {name} = "{to}" }}\non_loss = "null"'
        yield Variant(f"{_type(name)} to {to}, loss is null", name, body)
    clean = [
        *(("small", to) for to in ("Int8", "Float64", "Decimal(18, 2)", "Boolean")),
        ("ulow", "Int64"),
        *(("whole", to) for to in ("Int64", "Float32", "Decimal(12, 2)")),
        *(("money", to) for to in ("Int64", "Decimal(12, 1)")),
        *(("number", to) for to in ("Int64", "Float64", "Decimal(12, 2)")),
        ("midnight", "Date"),
    ]
    for name, to in clean:
        body = f'columns = {{ {name} = "{to}" }}'
        yield Variant(f"{_type(name)} to {to}, loss is refused", name, body)


_CONDITIONS = {
    "comparisons": ("k u f", "k > 1 OR f > 0.5 OR u = 7"),
    "IN": ("k s", "k IN (1, 2) OR s IN ('x', 'beta')"),
    "BETWEEN": ("k", "k BETWEEN 1 AND 3"),
    "IS NULL": ("s", "s IS NOT NULL"),
    "IS NOT DISTINCT FROM": ("f g", "f IS NOT DISTINCT FROM g"),
    "LIKE": ("s", "s LIKE 'a%'"),
    "ILIKE": ("s", "s ILIKE 'A%'"),
    "~ (a regular expression)": ("s", "s ~ '^[a-b]'"),
    "decimals": ("d", "d * 2 > 2.39"),
    "dates": ("day", "day >= DATE '2024-03-10'"),
    "time stamps": ("t", "t > TIMESTAMP '2024-03-10 01:00:00'"),
    "truth values": ("b k", "NOT b AND k > 0"),
}

_EXPRESSIONS = {
    "+ - *": ("k f", "k * 2 + 1 - f"),
    "/": ("k", "k / 2"),
    "//": ("k", "k // 2"),
    "%": ("k", "k % 3"),
    "decimals": ("d", "d * d + d"),
    "||": ("s", "s || '!'"),
    "CONCAT": ("s k", "CONCAT(s, '-', k)"),
    "CASE": ("k", "CASE WHEN k > 1 THEN 'many' WHEN k = 1 THEN 'one' END"),
    "COALESCE": ("s", "COALESCE(s, 'none')"),
    "NULLIF": ("k", "NULLIF(k, 1)"),
    "GREATEST, LEAST": ("k", "GREATEST(k, 1) - LEAST(k, 2)"),
    "CAST": ("k", "CAST(k AS DOUBLE)"),
    "TRY_CAST": ("s", "TRY_CAST(s AS BIGINT)"),
    "UPPER, LOWER": ("s", "UPPER(s) || LOWER(s)"),
    "LENGTH": ("s", "LENGTH(s)"),
    "SUBSTR": ("s", "SUBSTR(s, 2, 2)"),
    "REPLACE": ("s", "REPLACE(s, 'a', 'b')"),
    "TRIM": ("s", "TRIM(s)"),
    "STARTS_WITH": ("s", "STARTS_WITH(s, 'a')"),
    "ROUND": ("f", "ROUND(f)"),
    "ABS": ("k", "ABS(k)"),
    "FLOOR, CEIL": ("f", "FLOOR(f) + CEIL(f)"),
    "SQRT": ("g", "SQRT(g)"),
    "EXTRACT year, month, day": (
        "t",
        "EXTRACT(year FROM t) + EXTRACT(month FROM t) + EXTRACT(day FROM t)",
    ),
    "EXTRACT hour": ("t", "EXTRACT(hour FROM t)"),
    "EXTRACT isodow": ("t", "EXTRACT(isodow FROM t)"),
    "INTERVAL": ("t", "t + INTERVAL '1 day'"),
    "differences of times": ("t clear", "clear - t"),
    "comparisons": ("k f s", "k = 1 OR f <> 0.5 OR s < 'b'"),
}

_TO_UTC = 'zone = "America/New_York"'
_TO_UTC_BY_ROW = 'zone_column = "zone"\nzones = ["America/New_York", "Asia/Kolkata"]'


def _to_utc() -> Iterator[Variant]:
    for where, keys, columns in (
        ("one zone", _TO_UTC, ""),
        ("a zone of each row", _TO_UTC_BY_ROW, " zone"),
    ):
        for ambiguous in ("refuse", "earliest", "latest", "null"):
            for missing in ("refuse", "null"):
                refuses = "refuse" in (ambiguous, missing)
                name = "clear" if refuses else "t"
                body = (
                    f'columns = ["{name}"]\n{keys}\nambiguous = "{ambiguous}"\n'
                    f'non_existent = "{missing}"'
                )
                label = f"{where}, ambiguous {ambiguous}, non-existent {missing}"
                yield Variant(label, name + columns, body)


def _truncates() -> Iterator[Variant]:
    for every in ("1us", "1ms", "1s", "15m", "1h", "1d", "1w", "1mo", "1q", "1y"):
        keys = f'every = "{every}"'
        yield Variant(f"Datetime, {every}", "t", f'columns = {{ t = "x" }}\n{keys}')
        yield Variant(f"Datetime(UTC), {every}", "z", f'columns = {{ z = "x" }}\n{keys}')
        zone = f'columns = {{ z = "x" }}\n{keys}\nzone = "America/New_York"'
        yield Variant(f"Datetime(UTC), {every}, in a zone", "z", zone)
        if every[-1] in "dwoqy":
            yield Variant(f"Date, {every}", "day", f'columns = {{ day = "x" }}\n{keys}')
            as_date = "as_date = true"
            local = f'columns = {{ t = "x" }}\n{keys}\n{as_date}'
            yield Variant(f"Datetime, {every}, as a date", "t", local)
            yield Variant(
                f"Datetime(UTC), {every}, in a zone, as a date", "z", f"{zone}\n{as_date}"
            )


def _parses() -> Iterator[Variant]:
    wanted = [
        ("Date", "date", 'formats = ["%Y-%m-%d"]'),
        ("Date in two formats", "date", 'formats = ["%d/%m/%Y", "%Y-%m-%d"]'),
        ("Datetime", "moment", 'formats = ["%Y-%m-%d %H:%M:%S"]'),
        ("Datetime with a fraction", "fraction", 'formats = ["%Y-%m-%d %H:%M:%S%.f"]'),
        ("Datetime(UTC) with an offset", "offset", 'formats = ["%Y-%m-%dT%H:%M:%S%z"]'),
        ("Datetime(UTC) with a Z", "zulu", 'formats = ["%Y-%m-%dT%H:%M:%SZ"]'),
        ("Time", "clock", 'formats = ["%H:%M:%S"]'),
        ("Boolean", "truth", 'true = ["yes"]\nfalse = ["no"]'),
        ("Int64", "number", ""),
        ("Int64 with texts for null", "number", 'nulls = ["NA", "-"]'),
        ("Float64", "cents", ""),
        ("Decimal(12, 2)", "cents", ""),
        (
            "Decimal(12, 2) with a separator",
            "grouped",
            'thousands = "."\ndecimal = ","\nnulls = ["NA"]',
        ),
    ]
    for label, name, keys in wanted:
        to = label.split(" with")[0].split(" in")[0]
        body = f'columns = ["{name}"]\nto = "{to}"\n{keys}'
        yield Variant(f"{label}, loss is refused", name, body)
        yield Variant(f"{label}, loss is null", name, f'{body}\non_loss = "null"')


def _derives() -> Iterator[Variant]:
    for label, (columns, sql) in _EXPRESSIONS.items():
        yield Variant(label, columns, f'[steps.columns]\nx = """{sql}"""')


def _filters() -> Iterator[Variant]:
    for label, (columns, sql) in _CONDITIONS.items():
        yield Variant(label, columns, f'where = """{sql}"""')


_JOIN = 'side = "side"\non = ["k"]\nmultiplies = "allow"'


def step_cases() -> Iterator[Case]:
    """Each step's example and variants, in the order of its documentation."""
    sides = {"side": SIDE, "narrow": SIDE.select(pl.col("k").cast(pl.Int16), "v")}
    of_kind = variants()
    for kind, model in KINDS.items():
        example = example_of(model)
        tables = {name: table.frame() for name, table in example.sides.items()}
        yield from _cases(kind, "example", example.file(kind), example.source.frame(), tables)
        for variant in of_kind[kind]:
            # The rows are cut, as a column of another type could stop the whole plan.
            source = ROWS.select(variant.columns.split())
            yield from _cases(kind, variant.label, _file(kind, variant.body), source, sides)


def variants() -> Mapping[str, tuple[Variant, ...]]:
    """Kind -> its variants, beside the example of its documentation."""
    return {
        "select": (),
        "drop": (),
        "rename": (),
        "cast": tuple(_casts()),
        "filter": tuple(_filters()),
        "derive": tuple(_derives()),
        "fill": (
            Variant("null by a value", "k", 'columns = ["k"]\nvalue = 0'),
            Variant("null by a column", "f g", 'columns = ["f"]\nfrom_columns = ["g"]'),
            Variant("NaN by null", "f", 'columns = ["f"]\nmissing = "nan"'),
            Variant("NaN by a value", "f", 'columns = ["f"]\nmissing = "nan"\nvalue = -1.0'),
            Variant(
                "NaN and null", "f g", 'columns = ["f"]\nmissing = "both"\nfrom_columns = ["g"]'
            ),
            Variant("text", "s", 'columns = ["s"]\nvalue = "none"'),
            Variant("a decimal", "d", 'columns = ["d"]\nvalue = 0'),
            Variant("a date", "day", 'columns = ["day"]\nvalue = 2024-01-01'),
        ),
        "parse": tuple(_parses()),
        "to_utc": tuple(_to_utc()),
        "truncate": tuple(_truncates()),
        "replace": (
            Variant("text", "s", 'columns = ["s"]\nfind = "a"\nreplacement = "b"'),
            Variant(
                "a pattern",
                "s",
                'columns = ["s"]\nmatch = "regex"\nfind = "[a-c]+"\nreplacement = "#"',
            ),
            Variant(
                "a pattern with a group",
                "s",
                'columns = ["s"]\nmatch = "regex"\nfind = "([a-c])l"\nreplacement = "$1"',
            ),
            Variant("a whole value", "s", 'columns = ["s"]\nmatch = "whole"\nfind = ""'),
        ),
        "explode": (
            Variant("keeps empty lists", "k l", 'columns = ["l"]'),
            Variant("drops empty lists", "k l", 'columns = ["l"]\nempty = "drop"'),
            Variant("two columns", "k l m", 'columns = ["l", "m"]'),
        ),
        "unnest": (Variant("with other columns", "k st", 'columns = ["st"]'),),
        "join": (
            *(Variant(how, "k f", f'{_JOIN}\nhow = "{how}"') for how in ("semi", "anti")),
            *(
                Variant(how, "k f", f'{_JOIN}\nhow = "{how}"\ncolumns = {{ v = "v" }}')
                for how in ("inner", "left")
            ),
            Variant(
                "two keys of other names",
                "k zone s",
                'side = "side"\nleft_on = ["k", "s"]\nright_on = ["k", "s"]\nhow = "left"',
            ),
            Variant("narrower keys", "b k", 'side = "narrow"\non = ["k"]\nhow = "left"'),
        ),
        "deduplicate": (
            Variant("whole rows", "k s", ""),
            Variant("whole rows with floats", "k f", ""),
            Variant("first of a key", "k s", 'columns = ["k"]\norder_by = ["s"]'),
            Variant(
                "last of a key, with floats",
                "k f s",
                'columns = ["k", "s"]\norder_by = ["f"]\nkeep = "last"',
            ),
        ),
        "sort": (
            Variant("ascending", "k s", 'order_by = ["k", "s"]'),
            Variant("nulls last", "k s", 'order_by = ["s"]\nnulls = "last"'),
            Variant("with floats", "f k", 'order_by = ["f"]\ndescending = ["f"]'),
        ),
        "aggregate": (),
        "top": (
            Variant("of all", "k s", 'n = 3\norder_by = ["k"]'),
            Variant("of each group", "k s", 'n = 1\norder_by = ["s"]\nper = ["k"]'),
            Variant("of each group, with floats", "k f", 'n = 1\norder_by = ["f"]\nper = ["k"]'),
        ),
        "sample": (
            Variant("one key", "k", 'fraction = 0.5\nkey = ["k"]'),
            Variant("two keys", "k s", 'fraction = 0.5\nkey = ["k", "s"]'),
            Variant("a float", "f", 'fraction = 0.5\nkey = ["f"]'),
        ),
        "partition": (),
    }


def stage_cases(
    section: str,
    subject: str,
    variant: str,
    file: StepFile,
    source: pl.LazyFrame,
    sides: Mapping[str, pl.DataFrame],
) -> Iterator[Case]:
    """The plan of each stage of ``file``, one after the other; an aggregate's are three."""
    schema = source.collect_schema()
    compiled = compile_steps(file.steps, schema, {n: s.schema for n, s in sides.items()})
    lazy = {name: side.lazy() for name, side in sides.items()}
    for number, stage in enumerate(compiled.stages, 1):
        several = len(compiled.stages) > 1
        label = ", ".join(filter(None, (variant, f"stage {number}" if several else "")))
        step = stage.steps[0].numbered.step
        if isinstance(step, AggregateStep):
            given = stage.steps[0].given.schema
            yield from phases_of(section, subject, label, source, step.to_engine(), given)
        else:
            is_ordered = subject in ("sort", "jobs") and stage.scope.kind == "whole"
            plan = partial(_applied, stage, source, lazy)
            yield Case(section, subject, label, plan, is_ordered=is_ordered)
        source = stage.apply(source, lazy).collect().lazy()


def _applied(stage: Stage, source: pl.LazyFrame, sides: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return stage.apply(source, sides)


def _cases(
    kind: str, label: str, file: StepFile, source: pl.DataFrame, sides: Mapping[str, pl.DataFrame]
) -> Iterator[Case]:
    return stage_cases("steps", kind, label, file, source.lazy(), sides)


def _file(kind: str, body: str) -> StepFile:
    return parse_steps(f'version = {FORMAT_VERSION}\n\n[[steps]]\nkind = "{kind}"\n{body}\n', kind)


def _type(name: str) -> str:
    dtype = ROWS.schema[name]
    if isinstance(dtype, pl.Datetime):
        return "Datetime(UTC)" if dtype.time_zone else "Datetime"
    if isinstance(dtype, pl.Decimal):
        return f"Decimal({dtype.precision}, {dtype.scale})"
    return str(dtype)
