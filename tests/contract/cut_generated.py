"""Generated jobs: chains of steps that fit each other, as TOML and as SQL for DuckDB.

Numbers are small, and floats lie on a grid of quarters, so that their sums are exact and no
rounding decides what a later step does.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import strategies as st
from tests.contract.cut_data import CutJob
from tests.contract.cuts import Cut

MAX_ROWS = 25

KINDS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "int": (pl.Int64(), st.integers(-3, 5)),
    "unsigned": (pl.UInt64(), st.sampled_from([0, 7, 2**63, 2**64 - 1])),
    "float": (
        pl.Float64(),
        st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 0.25, -1.5, 100.0]),
    ),
    "text": (pl.String(), st.sampled_from(["", "a", "A", "ab", "é"])),
    "truth": (pl.Boolean(), st.booleans()),
    "decimal": (pl.Decimal(9, 2), st.integers(-500, 500).map(lambda n: Decimal(n).scaleb(-2))),
    "instant": (
        pl.Datetime("us", "UTC"),
        st.integers(0, 9).map(lambda n: dt.datetime(2024, 3, 10, 4 + n, 30, tzinfo=dt.UTC)),
    ),
}
"""What is in a column. Results have two more: ``ratio``, a float that is not on the grid, and
``total``, a decimal whose sums are not taken again."""

CONDITIONS = {
    "int": (
        ("{0} > 1", "{0} > 1"),
        ("{0} % 3 = 1", "(({0} % 3) + 3) % 3 = 1"),
        ("{0} IS NULL", "{0} IS NULL"),
    ),
    "unsigned": (("{0} > 9223372036854775807", "{0} > 9223372036854775807"),),
    "float": (("{0} > 0.25", "{0} > 0.25"), ("{0} < 1.0", "{0} < 1.0"), ("{0} = 0", "{0} = 0")),
    "text": (("{0} LIKE 'a%'", "{0} LIKE 'a%'"), ("{0} <> ''", "{0} <> ''")),
    "truth": (("NOT {0}", "NOT {0}"), ("{0}", "{0}")),
    "decimal": (("{0} >= 1.5", "{0} >= 1.5"),),
    "instant": (
        ("{0} IS NOT NULL", "{0} IS NOT NULL"),
        ("{0} < {1}", "{0} < {1}"),
    ),
}
"""Conditions on a column as they are written here, and for DuckDB."""

DERIVED = {
    "int": (("{0} * 2", "{0} * 2", "int"), ("{0} > 0", "{0} > 0", "truth")),
    "float": (("{0} * 2", "{0} * 2", "float"),),
    "text": (("UPPER({0})", "upper({0})", "text"), ("{0} || '!'", "{0} || '!'", "text")),
    "truth": (("COALESCE({0}, FALSE)", "coalesce({0}, false)", "truth"),),
}
"""Expressions here and for DuckDB, and what they give."""

ORDERED = ("int", "text", "truth", "decimal", "instant")
"""What ``first`` and ``last`` may be ordered by; NaN would be passed over."""


@dataclass(slots=True)
class Draft:
    """A chain so far.

    Attributes:
        columns: Name -> what is in it.
        queries: For DuckDB, each on the one before; ``None`` once a step has no SQL.
    """

    columns: dict[str, str]
    steps: list[str] = field(default_factory=list)
    queries: list[str] | None = field(default_factory=list)
    ordered: bool = False
    _names: int = 0

    def add(self, kind: str, keys: dict[str, Any], sql: str | None) -> None:
        """One more step; ``{0}`` in its SQL is what it is applied to."""
        lines = [f"{name} = {_toml(value)}" for name, value in keys.items()]
        self.steps.append("\n".join(["[[steps]]", f'kind = "{kind}"', *lines, ""]))
        self.ordered = kind == "sort"
        if sql is None or self.queries is None:
            self.queries = None
            return
        self.queries.append(sql.replace("{0}", f"s{len(self.queries)}"))

    def new_name(self) -> str:
        self._names += 1
        return f"c{self._names}"

    def of(self, *kinds: str) -> list[str]:
        """Columns of these kinds."""
        return [name for name, kind in self.columns.items() if kind in kinds]

    def all_columns(self, *, down: bool = False) -> str:
        """An order by every column, which leaves no ties but between equal rows."""
        return ", ".join(_order(name, down=down) for name in self.columns)

    def job(self) -> CutJob:
        """The chain as a job; unsigned columns become what a table can hold."""
        for name in self.of("unsigned"):
            cast = f"SELECT * REPLACE (CAST({name} AS DECIMAL(20, 0)) AS {name}) FROM {{0}}"
            ordered = self.ordered
            self.add("cast", {"columns": {name: "Decimal(20, 0)"}}, cast)
            self.ordered = ordered
        sql = ""
        if self.queries is not None:
            tables = ["s0 AS (SELECT * FROM source)"]
            tables += [f"s{n} AS ({query})" for n, query in enumerate(self.queries, 1)]
            # The last one is not put behind a name, which would forget its order.
            *tables, _ = tables
            last = self.queries[-1] if self.queries else "SELECT * FROM source"
            with_ = f"WITH {', '.join(tables)} " if tables else ""
            sql = f"{with_}{last}"
        return CutJob("generated", "".join(self.steps), sql, ordered=self.ordered)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _order(name: str, *, down: bool, nulls: str = "first") -> str:
    return f"{name}{' DESC' if down else ''} NULLS {nulls.upper()}"


# --- steps ------------------------------------------------------------------------------------

Draw = Callable[[st.SearchStrategy[Any]], Any]


def _filter(draw: Draw, draft: Draft) -> None:
    names = draft.of(*CONDITIONS)
    if not names:
        return
    name = draw(st.sampled_from(names))
    here, there = draw(st.sampled_from(CONDITIONS[draft.columns[name]]))
    other = draw(st.sampled_from(draft.of(draft.columns[name])))
    where = here.format(name, other)
    draft.add("filter", {"where": where}, f"SELECT * FROM {{0}} WHERE {there.format(name, other)}")


def _derive(draw: Draw, draft: Draft) -> None:
    names = draft.of(*DERIVED)
    if not names:
        return
    name = draw(st.sampled_from(names))
    here, there, kind = draw(st.sampled_from(DERIVED[draft.columns[name]]))
    new = draft.new_name()
    sql = f"SELECT *, {there.format(name)} AS {new} FROM {{0}}"
    draft.add("derive", {"columns": {new: here.format(name)}}, sql)
    draft.columns[new] = kind


def _fill(draw: Draw, draft: Draft) -> None:
    names = draft.of("int", "text")
    if not names:
        return
    name = draw(st.sampled_from(names))
    value, literal = (-9, "-9") if draft.columns[name] == "int" else ("none", "'none'")
    sql = f"SELECT * REPLACE (coalesce({name}, {literal}) AS {name}) FROM {{0}}"
    draft.add("fill", {"columns": [name], "value": value}, sql)


def _select(draw: Draw, draft: Draft) -> None:
    names = draw(_some(list(draft.columns), least=1))
    draft.columns = {name: draft.columns[name] for name in names}
    draft.add("select", {"columns": names}, f"SELECT {', '.join(names)} FROM {{0}}")


def _join(draw: Draw, draft: Draft) -> None:
    keys = draft.of("int")
    if not keys or "name" in draft.columns:
        return
    key, how = draw(st.sampled_from(keys)), draw(st.sampled_from(["inner", "left", "semi", "anti"]))
    takes = how in ("inner", "left")
    extra = ", names.name" if takes else ""
    sql = f"SELECT {{0}}.*{extra} FROM {{0}} {how} JOIN names ON {{0}}.{key} = names.k"
    draft.add("join", {"side": "names", "left_on": [key], "right_on": ["k"], "how": how}, sql)
    if takes:
        draft.columns["name"] = "text"


def _sample(draw: Draw, draft: Draft) -> None:
    keys = draw(_some(list(draft.columns), least=1, most=2))
    draft.add("sample", {"fraction": 0.6, "key": keys}, None)


def _sort(draw: Draw, draft: Draft) -> None:
    keys, order = _ordering(draw, draft)
    draft.add("sort", keys, f"SELECT * FROM {{0}} ORDER BY {order}")


def _top(draw: Draw, draft: Draft) -> None:
    keys, order = _ordering(draw, draft)
    per = draw(_some(list(draft.columns), most=2))
    rows = draw(st.integers(1, 4))
    groups = f"PARTITION BY {', '.join(per)} " if per else ""
    sql = f"SELECT * FROM {{0}} QUALIFY row_number() OVER ({groups}ORDER BY {order}) <= {rows}"
    draft.add("top", {**keys, "n": rows, "per": per}, sql)


def _ordering(draw: Draw, draft: Draft) -> tuple[dict[str, Any], str]:
    names = draw(_some(list(draft.columns), least=1, most=2))
    descending = draw(_some(names))
    nulls = draw(st.sampled_from(["first", "last"]))
    order = [
        _order(name, down=name in descending, nulls=nulls)
        for name in dict.fromkeys([*names, *draft.columns])
    ]
    return {"order_by": names, "descending": descending, "nulls": nulls}, ", ".join(order)


def _deduplicate(draw: Draw, draft: Draft) -> None:
    keys = draw(_some(list(draft.columns), most=2))
    if not keys:
        draft.add("deduplicate", {}, "SELECT DISTINCT * FROM {0}")
        return
    order, last = draw(_some(list(draft.columns), least=1, most=2)), draw(st.booleans())
    # From the end, every order is the other way round.
    said = [
        _order(name, down=last, nulls="last" if last else "first")
        for name in dict.fromkeys([*order, *draft.columns])
    ]
    sql = (
        f"SELECT * FROM {{0}} QUALIFY row_number() OVER"
        f" (PARTITION BY {', '.join(keys)} ORDER BY {', '.join(said)}) = 1"
    )
    keep = "last" if last else "first"
    draft.add("deduplicate", {"columns": keys, "order_by": order, "keep": keep}, sql)


SUMS = {
    "int": ("BIGINT", "int"),
    "unsigned": ("DECIMAL(38, 0)", "total"),
    "float": ("DOUBLE", "float"),
    "decimal": ("DECIMAL(38, 2)", "total"),
}
"""What is summed: DuckDB's type of the sum, and what it is."""


def _aggregate(draw: Draw, draft: Draft) -> None:
    by = draw(_some(list(draft.columns), most=2))
    made, listed, columns = [], list(by), {name: draft.columns[name] for name in by}
    for _ in range(draw(st.integers(1, 3))):
        function, column, keys, sql, kind = _function(draw, draft)
        name = draft.new_name()
        made.append({"name": name, "function": function, **column, **keys})
        listed.append(f"{sql} AS {name}")
        columns[name] = kind
    groups = f" GROUP BY {', '.join(by)}" if by else ""
    draft.add(
        "aggregate", {"by": by, "aggs": made}, f"SELECT {', '.join(listed)} FROM {{0}}{groups}"
    )
    draft.columns = columns


def _function(draw: Draw, draft: Draft) -> tuple[str, dict[str, str], dict[str, str], str, str]:
    """A function, its column, its other keys, DuckDB's, and what it gives."""
    name = draw(st.sampled_from(list(draft.columns)))
    kind = draft.columns[name]
    column = {"column": name}
    possible = ["rows", "count", "distinct", "min", "max"]
    possible += ["sum"] if kind in SUMS else []
    possible += ["mean"] if kind in ("int", "float") else []
    orders = draft.of(*ORDERED)
    possible += ["first", "last"] if orders else []
    function = draw(st.sampled_from(possible))
    floats = kind in ("float", "ratio")
    match function:
        case "rows":
            return "count", {}, {}, "count(*)", "int"
        case "count":
            return function, column, {}, f"count({name})", "int"
        case "distinct":
            return function, column, {}, f"count(DISTINCT {name})", "int"
        case "min" | "max" if floats:
            sql = f"coalesce({function}({name}) FILTER (NOT isnan({name})), {function}({name}))"
            return function, column, {}, sql, kind
        case "min" | "max":
            return function, column, {}, f"{function}({name})", kind
        case "sum":
            of, total = SUMS[kind]
            return function, column, {}, f"CAST(coalesce(sum({name}), 0) AS {of})", total
        case "mean":
            return function, column, {}, f"avg({name})", "ratio"
        case _:
            order, down = draw(st.sampled_from(orders)), " DESC" if function == "last" else ""
            sql = (
                f"first({name} ORDER BY {order}{down}, {name}{down} NULLS LAST)"
                f" FILTER ({order} IS NOT NULL)"
            )
            return function, column, {"order": order}, sql, kind


STEPS = (_filter, _derive, _fill, _select, _join, _sample, _sort, _top, _deduplicate, _aggregate)
WEIGHTED = (*STEPS, _aggregate, _aggregate, _deduplicate, _top, _sort, _filter)
"""More often what looks across rows."""


def _some(
    names: list[str], *, least: int = 0, most: int | None = None
) -> st.SearchStrategy[list[str]]:
    most = len(names) if most is None else min(most, len(names))
    return (
        st.lists(st.sampled_from(names), min_size=least, max_size=most, unique=True)
        if names
        else st.just([])
    )


# --- examples ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """A generated job, its input, and a cut of that."""

    job: CutJob
    frame: pl.DataFrame
    cut: Cut


@st.composite
def examples(draw: Draw) -> Example:
    """Chains of one to five steps over a few rows."""
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=6))
    columns = {f"{kind[0]}{number}": kind for number, kind in enumerate(kinds)}
    values = [st.none() | KINDS[kind][1] for kind in kinds]
    rows = draw(st.lists(st.tuples(*values), max_size=MAX_ROWS))
    rows += draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    schema = {name: KINDS[kind][0] for name, kind in columns.items()}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    draft = Draft(dict(columns))
    for add in draw(st.lists(st.sampled_from(WEIGHTED), min_size=1, max_size=5)):
        add(draw, draft)
    files = draw(st.lists(st.sampled_from([0, 1, 2, 5, 11]), max_size=4))
    cut = Cut("generated", tuple(files), draw(st.sampled_from([1, 3, 50])), draw(st.integers(1, 9)))
    return Example(draft.job(), frame, cut)
