"""Jobs over awkward rows, each with DuckDB's SQL for the same result.

DuckDB means the same by most of what a step says. Where it does not, its expression is mapped:

=====================================  ====================================  =====================
What                                   Here                                  In DuckDB
=====================================  ====================================  =====================
``sum`` of nothing                     0                                     null: ``coalesce``
``sum`` of BIGINT                      Int64, refused beyond                 a HUGEINT: cast
``mean`` of a decimal                  its exact sum, divided once           of DOUBLEs, rounded
``min``, ``max`` and NaN               passed over                           greater than all
``variance`` over an infinity          NaN                                   an error: filtered
``covariance`` of one row              null, as the sample has no spread     the same
``first`` and ``last`` of equal order  the least, the greatest value         any: ordered by both
``first``: an order that is NaN        passed over                           the greatest: filtered
``top``                                structs, ordered by their value, too  ``list`` with an order
``quantile``                           the least value of rank q or more     ``quantile_disc``
``histogram``                          below, counts, above and NaN apart    a map, by upper edges
0.0 and -0.0 as keys and values        equal; a group says 0.0               equal; either may stay
Null in ``sort``                       first unless told                     last: ``NULLS FIRST``
Rows that are equal in ``order_by``    ordered by all other columns          any: all columns named
``top``, ``deduplicate``               rows                                  ``QUALIFY`` a number
``explode`` of null or an empty list   a row with null                       no row: a left join
``to_utc`` of an hour that comes       refused, earliest, latest or null     the latest
twice
``to_utc`` of an hour that is skipped  refused or null                       moved on by an hour
``parse``                              refuses or makes null, on request     ``try_strptime``
``cast`` of 1.5 to an integer          lost                                  2: tested before
``sample``                             a hash of the key                     none: cuts alone agree
=====================================  ====================================  =====================

Expressions of ``filter`` and ``derive`` that differ are listed in docs/steps.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.contract.cut_data import BERLIN, NEW_YORK, CutJob, chain, keep, step

PLAIN = ("k", "f", "s", "b", "d", "day", "t", "z")
"""Columns of flat types that a table can hold."""
PLAIN_SQL = ", ".join(PLAIN)
EVERY_ORDER = ", ".join(f"{name} NULLS FIRST" for name in PLAIN)

# --- one row at a time ------------------------------------------------------------------------

ROW_JOBS = (
    CutJob("select", keep("s", "k", "f"), "SELECT s, k, f FROM source"),
    CutJob(
        "drop",
        step("drop", "columns = ['u', 'l', 'w', 'f']"),
        "SELECT * EXCLUDE (u, l, w, f) FROM source",
    ),
    CutJob(
        "rename: two columns change names",
        chain(keep("k", "i", "w"), step("rename", "columns = { k = 'i', i = 'k', w = 'struct' }")),
        "SELECT k AS i, i AS k, w AS struct FROM source",
    ),
    CutJob(
        "nested columns are kept",
        keep("id", "l", "w"),
        "SELECT id, l, w FROM source",
    ),
    CutJob(
        "cast: what is lost becomes null",
        chain(
            keep("id", "f", "u", "d", "said", "i"),
            step(
                "cast",
                "on_loss = 'null'\ncolumns = { f = 'Int64', u = 'Int64', d = 'Decimal(6, 1)',"
                " said = 'Int64', i = 'Int32' }",
            ),
        ),
        """SELECT id, CASE WHEN isfinite(f) AND f = trunc(f) THEN CAST(f AS BIGINT) END AS f,
          TRY_CAST(u AS BIGINT) AS u,
          CASE WHEN d = round(d, 1) THEN CAST(d AS DECIMAL(6, 1)) END AS d,
          CASE WHEN regexp_full_match(said, '[-+]?[0-9]+')
            THEN TRY_CAST(said AS BIGINT) END AS said,
          TRY_CAST(i AS INTEGER) AS i FROM source""",
    ),
    CutJob(
        "cast: unsigned 64-bit as a decimal",
        chain(keep("id", "u"), step("cast", "columns = { u = 'Decimal(20, 0)' }")),
        "SELECT id, CAST(u AS DECIMAL(20, 0)) AS u FROM source",
    ),
    CutJob(
        "cast: a value that is lost is refused",
        chain(keep("f"), step("cast", "columns = { f = 'Int64' }")),
        refused="of 'f' in part .* cannot become Int64 unchanged",
    ),
    CutJob(
        "filter: null is not true",
        chain(keep(*PLAIN), step("filter", "where = 'k > 1 OR NOT b'")),
        f"SELECT {PLAIN_SQL} FROM source WHERE k > 1 OR NOT b",
    ),
    CutJob(
        "filter: NaN and infinities",
        chain(keep("id", "f"), step("filter", "where = 'f > 1.5 OR f = 0'")),
        "SELECT id, f FROM source WHERE f > 1.5 OR f = 0",
    ),
    CutJob(
        "filter: text and decimals",
        chain(keep("id", "s", "d"), step("filter", "where = \"s LIKE 'a%' OR d >= 100.5\"")),
        "SELECT id, s, d FROM source WHERE s LIKE 'a%' OR d >= 100.5",
    ),
    CutJob(
        "filter: unsigned 64-bit",
        chain(step("filter", "where = 'u > 9223372036854775807'"), keep("id")),
        "SELECT id FROM source WHERE u > 9223372036854775807",
    ),
    CutJob(
        "filter: nothing is left",
        chain(keep(*PLAIN), step("filter", "where = 'k > 100'")),
        f"SELECT {PLAIN_SQL} FROM source WHERE k > 100",
    ),
    CutJob(
        "filter: most parts are left empty",
        chain(keep("id", "k"), step("filter", "where = 'id BETWEEN 3 AND 5'")),
        "SELECT id, k FROM source WHERE id BETWEEN 3 AND 5",
    ),
    CutJob(
        "derive",
        chain(
            keep("id", "k", "f", "s", "d", "t"),
            step(
                "derive",
                "overwrite = true\n[steps.columns]\n"
                "k = 'COALESCE(k, 0) % 3'\ntwice = 'f * 2'\nloud = 'UPPER(s) || \"s\"'\n"
                "more = 'd * 2'\nhour = 'CAST(EXTRACT(hour FROM t) AS BIGINT)'\n"
                "kind = \"CASE WHEN k > 1 THEN 'many' WHEN k = 1 THEN 'one' END\"",
            ),
        ),
        """SELECT id, ((coalesce(k, 0) % 3) + 3) % 3 AS k, f, s, d, t, f * 2 AS twice,
          upper(s) || s AS loud, CAST(d * 2 AS DECIMAL(38, 2)) AS more,
          extract(hour FROM t) AS hour,
          CASE WHEN k > 1 THEN 'many' WHEN k = 1 THEN 'one' END AS kind FROM source""",
    ),
    CutJob(
        "fill: null, NaN, and both",
        chain(
            keep("id", "k", "f", "g", "s", "day"),
            step("fill", "columns = ['f']\nmissing = 'both'\nfrom_columns = ['g']\nvalue = -1.0"),
            step("fill", "columns = ['k']\nvalue = -9"),
            step("fill", "columns = ['s']\nvalue = 'none'"),
            step("fill", "columns = ['day']\nvalue = 2000-01-01"),
        ),
        """SELECT id, coalesce(k, -9) AS k,
          coalesce(CASE WHEN NOT isnan(f) THEN f END, g, -1.0) AS f, g, coalesce(s, 'none') AS s,
          coalesce(day, DATE '2000-01-01') AS day FROM source""",
    ),
    CutJob(
        "fill: NaN becomes null",
        chain(keep("id", "f"), step("fill", "columns = ['f']\nmissing = 'nan'")),
        "SELECT id, CASE WHEN NOT isnan(f) THEN f END AS f FROM source",
    ),
    CutJob(
        "parse: dates",
        chain(
            keep("id", "said"),
            step(
                "parse",
                "columns = ['said']\nto = 'Date'\nformats = ['%Y-%m-%d']\non_loss = 'null'",
            ),
        ),
        "SELECT id, CAST(try_strptime(said, '%Y-%m-%d') AS DATE) AS said FROM source",
    ),
    CutJob(
        "parse: numbers with a comma",
        chain(
            keep("id", "said"),
            step(
                "parse",
                "columns = ['said']\nto = 'Decimal(12, 2)'\nthousands = '.'\ndecimal = ','\n"
                "nulls = ['n/a']\non_loss = 'null'",
            ),
        ),
        """SELECT id, TRY_CAST(CASE WHEN regexp_full_match(said, '-?[0-9.]+(,[0-9]+)?')
          THEN replace(replace(said, '.', ''), ',', '.') END AS DECIMAL(12, 2)) AS said
          FROM source""",
    ),
    CutJob(
        "parse: truth values",
        chain(
            keep("id", "said"),
            step(
                "parse",
                "columns = ['said']\nto = 'Boolean'\ntrue = ['yes']\nfalse = ['no']\n"
                "on_loss = 'null'",
            ),
        ),
        """SELECT id, CASE lower(said) WHEN 'yes' THEN true WHEN 'no' THEN false END AS said
          FROM source""",
    ),
    CutJob(
        "parse: text that fits no format is refused",
        chain(
            keep("said"), step("parse", "columns = ['said']\nto = 'Date'\nformats = ['%Y-%m-%d']")
        ),
        refused="of 'said' in part .* cannot be read as Date",
    ),
    *(
        CutJob(
            f"to_utc: each way in {zone}",
            chain(
                keep("id", "t"),
                step("derive", "columns = { first = 't', second = 't', neither = 't' }"),
                *(
                    step(
                        "to_utc",
                        f"columns = ['{column}']\nzone = '{zone}'\nambiguous = '{ambiguous}'\n"
                        "non_existent = 'null'",
                    )
                    for column, ambiguous in (
                        ("first", "earliest"),
                        ("second", "latest"),
                        ("neither", "null"),
                    )
                ),
            ),
            f"""WITH late AS (SELECT id, t, t AT TIME ZONE '{zone}' AS instant FROM source),
              real AS (SELECT id, t,
                CASE WHEN (instant AT TIME ZONE '{zone}') = t THEN instant END AS instant,
                ((instant - INTERVAL 1 hour) AT TIME ZONE '{zone}') = t AS twice FROM late)
              SELECT id, t, CASE WHEN twice THEN instant - INTERVAL 1 hour ELSE instant END
                AS first, instant AS second, CASE WHEN NOT twice THEN instant END AS neither
              FROM real""",
        )
        for zone in (NEW_YORK, BERLIN)
    ),
    CutJob(
        "to_utc: a zone in each row",
        chain(
            keep("id", "t", "zone"),
            step(
                "to_utc",
                f"columns = ['t']\nzone_column = 'zone'\nzones = ['{NEW_YORK}', '{BERLIN}']\n"
                "ambiguous = 'latest'\nnon_existent = 'null'",
            ),
        ),
        f"""SELECT id, CASE
          WHEN zone = '{NEW_YORK}' AND ((t AT TIME ZONE '{NEW_YORK}') AT TIME ZONE '{NEW_YORK}') = t
            THEN t AT TIME ZONE '{NEW_YORK}'
          WHEN zone = '{BERLIN}' AND ((t AT TIME ZONE '{BERLIN}') AT TIME ZONE '{BERLIN}') = t
            THEN t AT TIME ZONE '{BERLIN}'
          END AS t, zone FROM source""",
    ),
    CutJob(
        "to_utc: an hour that comes twice is refused",
        chain(
            keep("t"),
            step("to_utc", f"columns = ['t']\nzone = '{BERLIN}'\nnon_existent = 'null'"),
        ),
        refused="come twice, as clocks went back",
    ),
    CutJob(
        "to_utc: an hour that is skipped is refused",
        chain(
            keep("t"),
            step("to_utc", f"columns = ['t']\nzone = '{NEW_YORK}'\nambiguous = 'latest'"),
        ),
        refused="do not exist, as clocks went forward",
    ),
    CutJob(
        "truncate: hours and quarters of an hour",
        chain(
            keep("id", "z", "t"),
            step("truncate", "columns = { z = 'hour', t = 'quarter' }\nevery = '30m'"),
        ),
        """SELECT id, z, t, time_bucket(INTERVAL 30 minutes, z) AS hour,
          time_bucket(INTERVAL 30 minutes, t) AS quarter FROM source""",
    ),
    *(
        CutJob(
            f"truncate: days, weeks and months in {zone}",
            chain(
                keep("id", "z"),
                step("truncate", f"columns = {{ z = 'day' }}\nevery = '1d'\nzone = '{zone}'"),
                step(
                    "truncate",
                    f"columns = {{ z = 'week' }}\nevery = '1w'\nzone = '{zone}'\nas_date = true",
                ),
                step("truncate", f"columns = {{ z = 'month' }}\nevery = '1mo'\nzone = '{zone}'"),
            ),
            f"""WITH here AS (SELECT id, z, z AT TIME ZONE '{zone}' AS t FROM source)
              SELECT id, z, date_trunc('day', t) AT TIME ZONE '{zone}' AS day,
              CAST(date_trunc('week', t) AS DATE) AS week,
              date_trunc('month', t) AT TIME ZONE '{zone}' AS month FROM here""",
        )
        for zone in (NEW_YORK, BERLIN)
    ),
    CutJob(
        "replace: text, patterns, and whole values",
        chain(
            keep("id", "s", "said", "zone"),
            step("replace", "columns = ['s']\nfind = 'a'\nreplacement = 'bb'"),
            step(
                "replace",
                "columns = ['said']\nmatch = 'regex'\nfind = '([0-9])[0-9]*'\nreplacement = '<$1>'",
            ),
            step("replace", f"columns = ['zone']\nmatch = 'whole'\nfind = '{BERLIN}'"),
        ),
        f"""SELECT id, replace(s, 'a', 'bb') AS s,
          regexp_replace(said, '([0-9])[0-9]*', '<\\1>', 'g') AS said,
          nullif(zone, '{BERLIN}') AS zone FROM source""",
    ),
    CutJob(
        "explode: null and empty lists stay",
        chain(keep("id", "l"), step("explode", "columns = ['l']")),
        """SELECT id, unnest(CASE WHEN len(l) > 0 THEN l ELSE [NULL] END) AS l FROM source""",
    ),
    CutJob(
        "explode: null and empty lists are left out",
        chain(keep("id", "l"), step("explode", "columns = ['l']\nempty = 'drop'")),
        "SELECT id, unnest(l) AS l FROM source",
    ),
    CutJob(
        "unnest",
        chain(keep("id", "w"), step("unnest", "columns = ['w']\nprefix = 'w_'")),
        "SELECT id, w.a AS w_a, w.b AS w_b FROM source",
    ),
    *(
        CutJob(
            f"join: {how}",
            chain(keep("id", "k"), step("join", f"side = 'names'\non = ['k']\nhow = '{how}'")),
            f"SELECT id, source.k{name} FROM source {how} JOIN names USING (k)",
        )
        for how, name in (("inner", ", name"), ("left", ", name"), ("semi", ""), ("anti", ""))
    ),
    CutJob(
        "join: rows are multiplied on request",
        chain(
            keep("id", "k"),
            step("join", "side = 'twice'\non = ['k']\nhow = 'left'\nmultiplies = 'allow'"),
        ),
        "SELECT id, source.k, v FROM source LEFT JOIN twice USING (k)",
    ),
    CutJob(
        "join: rows that would be multiplied are refused",
        chain(keep("id", "k"), step("join", "side = 'twice'\non = ['k']\nhow = 'left'")),
        refused="k=0 \\(2 times\\)",
    ),
    CutJob(
        "join: floats as keys",
        chain(keep("id", "f"), step("join", "side = 'floats'\non = ['f']")),
        'SELECT id, source.f, "as" FROM source JOIN floats USING (f)',
    ),
    CutJob(
        "sample", chain(keep("id", "k", "s"), step("sample", "fraction = 0.5\nkey = ['id', 's']"))
    ),
    CutJob(
        "partition: by integers, null, and days",
        chain(keep("k", "day", "s", "f"), step("partition", "columns = ['k', 'day']")),
        "SELECT k, day, s, f FROM source",
    ),
)

# --- rows that have to be seen together -------------------------------------------------------


def first_of(keys: str, order: str, columns: str = PLAIN_SQL, rows: int = 1) -> str:
    """The first rows of each key in an order."""
    return (
        f"SELECT {columns} FROM source"
        f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) <= {rows}"
    )


ORDER_JOBS = (
    CutJob(
        "deduplicate: whole rows",
        chain(keep("k", "s", "b", "day"), step("deduplicate")),
        "SELECT DISTINCT k, s, b, day FROM source",
    ),
    CutJob(
        "deduplicate: whole rows with floats",
        chain(keep("k", "f", "e"), step("deduplicate")),
        "SELECT DISTINCT k, f + 0.0 AS f, e FROM source",
    ),
    CutJob(
        "deduplicate: rows with lists and structs",
        chain(keep("id", "l", "w"), step("deduplicate")),
        "SELECT DISTINCT id, l, w FROM source",
    ),
    CutJob(
        "deduplicate: the first of each key",
        chain(keep(*PLAIN), step("deduplicate", "columns = ['k', 's']\norder_by = ['t', 'd']")),
        first_of("k, s", f"t NULLS FIRST, d NULLS FIRST, {EVERY_ORDER}"),
    ),
    CutJob(
        "deduplicate: the last of each key, floats among them",
        chain(
            keep(*PLAIN),
            step("deduplicate", "columns = ['f']\norder_by = ['day', 's']\nkeep = 'last'"),
        ),
        first_of(
            "f",
            "day DESC NULLS LAST, s DESC NULLS LAST, "
            + ", ".join(f"{name} DESC NULLS LAST" for name in PLAIN),
        ),
    ),
    CutJob(
        "sort: floats, null first",
        chain(keep(*PLAIN), step("sort", "order_by = ['f']")),
        f"SELECT {PLAIN_SQL} FROM source ORDER BY f NULLS FIRST, {EVERY_ORDER}",
        ordered=True,
    ),
    CutJob(
        "sort: high to low, null last",
        chain(
            keep(*PLAIN),
            step("sort", "order_by = ['k', 'f', 's']\ndescending = ['k', 'f']\nnulls = 'last'"),
        ),
        f"""SELECT {PLAIN_SQL} FROM source ORDER BY k DESC NULLS LAST, f DESC NULLS LAST,
          s NULLS LAST, {EVERY_ORDER.replace("FIRST", "LAST")}""",
        ordered=True,
    ),
    CutJob(
        "sort: text and times",
        chain(keep(*PLAIN), step("sort", "order_by = ['s', 'z', 'd']\ndescending = ['z']")),
        f"""SELECT {PLAIN_SQL} FROM source ORDER BY s NULLS FIRST, z DESC NULLS FIRST,
          d NULLS FIRST, {EVERY_ORDER}""",
        ordered=True,
    ),
    CutJob(
        "sort: one value in all rows",
        chain(keep("k", "id"), step("sort", "order_by = ['k']")),
        "SELECT k, id FROM source ORDER BY k, id",
        data="one group",
        ordered=True,
    ),
    CutJob(
        "top: of all",
        chain(
            keep(*PLAIN),
            step("top", "n = 9\norder_by = ['f', 'd']\ndescending = ['f']\nnulls = 'last'"),
        ),
        f"""SELECT {PLAIN_SQL} FROM source ORDER BY f DESC NULLS LAST, d NULLS LAST,
          {EVERY_ORDER.replace("FIRST", "LAST")} LIMIT 9""",
    ),
    CutJob(
        "top: more than there are",
        chain(keep(*PLAIN), step("top", "n = 1000\norder_by = ['f']")),
        f"SELECT {PLAIN_SQL} FROM source",
    ),
    CutJob(
        "top: of each key, null and NaN among them",
        chain(
            keep(*PLAIN), step("top", "n = 2\norder_by = ['d']\ndescending = ['d']\nper = ['f']")
        ),
        first_of("f", f"d DESC NULLS FIRST, {EVERY_ORDER}", rows=2),
    ),
    CutJob(
        "top: of each of two keys",
        chain(keep(*PLAIN), step("top", "n = 1\norder_by = ['t']\nper = ['b', 'k']")),
        first_of("b, k", f"t NULLS FIRST, {EVERY_ORDER}"),
    ),
)

# --- aggregates -------------------------------------------------------------------------------


def aggs(*lines: str, by: Sequence[str] = ()) -> str:
    """The step that aggregates; a line is ``name function column`` and more keys as TOML."""
    made = []
    for line in lines:
        name, function, column, more = (*line.split(" ", 3), "", "", "")[:4]
        column = f', column = "{column}"' if column not in ("", "-") else ""
        made.append(f'{{ name = "{name}", function = "{function}"{column}{more} }}')
    return step("aggregate", f"by = {list(by)}\naggs = [{', '.join(made)}]")


def numbers(
    column: str, kind: str, *, mean: str = "", kept: str = "{0}"
) -> tuple[tuple[str, str], ...]:
    """Every function of a numeric column, with DuckDB's; ``kind`` is the sum's type, and
    ``kept`` makes the column's values what a table holds."""
    mean = mean or f"avg({column})"
    return tuple(
        (f"{column}_{function}", sql)
        for function, sql in (
            (f"n count {column}", f"count({column})"),
            (f"sum sum {column}", f"CAST(coalesce(sum({column}), 0) AS {kind})"),
            (f"mean mean {column}", f"CAST({mean} AS DOUBLE)"),
            (f"min min {column}", kept.format(f"min({column})")),
            (f"max max {column}", kept.format(f"max({column})")),
            (f"var variance {column}", f"var_samp({column})"),
            (f"sd standard_deviation {column} , ddof = 0", f"stddev_pop({column})"),
            (f"kinds distinct {column}", f"count(DISTINCT {column})"),
            (f"about approx_distinct {column}", f"count(DISTINCT {column})"),
        )
    )


def aggregated(
    name: str,
    functions: Sequence[tuple[str, str]],
    by: Sequence[str] = (),
    *,
    data: str = "events",
    rounded: tuple[str, ...] = (),
) -> CutJob:
    """A job of one aggregate; each function is a line for ``aggs`` and DuckDB's expression."""
    lines = [line for line, _ in functions]
    named = ((line.split(" ")[0], sql) for line, sql in functions)
    listed = [*by, *(f'{sql} AS "{name}"' for name, sql in named)]
    sql = f"SELECT {', '.join(listed)} FROM source"
    if by:
        sql += f" GROUP BY {', '.join(by)}"
    return CutJob(name, aggs(*lines, by=by), sql, data, rounded=rounded)


def picked(column: str, order: str, *, last: bool = False, where: str = "true") -> str:
    """DuckDB's ``first`` and ``last`` by an order, and by the value among equals."""
    down = " DESC" if last else ""
    return (
        f"first({column} ORDER BY {order}{down}, {column}{down} NULLS LAST)"
        f" FILTER ({order} IS NOT NULL AND {where})"
    )


PICKED = tuple(
    (
        f"{function}_{column} {function} {column} , order = '{order}'",
        picked(column, order, last=function == "last"),
    )
    for column, order in (
        ("s", "i"),
        ("day", "k"),
        ("t", "s"),
        ("b", "z"),
        ("d", "day"),
        ("k", "b"),
    )
    for function in ("first", "last")
)
OTHERS = tuple(
    (f"{function}_{column} {function} {column}", sql.format(column))
    for column in ("s", "b", "day", "t", "z", "zone")
    for function, sql in (
        ("min", "min({0})"),
        ("max", "max({0})"),
        ("count", "count({0})"),
        ("distinct", "count(DISTINCT {0})"),
        ("approx_distinct", "count(DISTINCT {0})"),
    )
)
SPECIAL = (
    ("n count f", "count(f)"),
    ("sum sum f", "coalesce(sum(f), 0)"),
    ("mean mean f", "avg(f)"),
    ("min min f", "coalesce(min(f) FILTER (NOT isnan(f)), min(f))"),
    ("max max f", "coalesce(max(f) FILTER (NOT isnan(f)), max(f))"),
    ("kinds distinct f", "count(DISTINCT f + 0.0)"),
    ("about approx_distinct f", "count(DISTINCT f + 0.0)"),
    ("first first f , order = 'k'", picked("f", "k")),
    ("last last k , order = 'f'", picked("k", "f", last=True, where="NOT isnan(f)")),
    (
        "bins histogram f , edges = [-3.0, 0.0, 1.5]",
        "{'below': count(*) FILTER (f < -3), 'counts': [count(*) FILTER (f >= -3 AND f < 0),"
        " count(*) FILTER (f >= 0 AND f < 1.5)],"
        " 'above': count(*) FILTER (f >= 1.5 AND NOT isnan(f)), 'nan': count(*) FILTER (isnan(f))}",
    ),
)
TOPS = (
    (
        "most top s , order = 'i', n = 3",
        "coalesce(list({'i': i, 's': s} ORDER BY i DESC, s DESC NULLS LAST)"
        " FILTER (i IS NOT NULL)[:3], [])",
    ),
    (
        "least top f , order = 'k', n = 4, descending = false",
        "coalesce(list({'k': k, 'f': f} ORDER BY k, f NULLS LAST) FILTER (k IS NOT NULL)[:4], [])",
    ),
    (
        "own top d , order = 'd', n = 2",
        "coalesce(list({'d': d} ORDER BY d DESC) FILTER (d IS NOT NULL)[:2], [])",
    ),
)
QUANTILES = tuple(
    (
        f"q{int(100 * q)} quantile g , q = {q}",
        f"list_sort(list(g) FILTER (g IS NOT NULL))[greatest(1, ceil({q} * count(g)))::BIGINT]",
    )
    for q in (0, 0.25, 0.5, 0.95, 1)
)
PAIRS = (
    ("cov covariance g , other = 'd'", "covar_samp(CAST(d AS DOUBLE), g)"),
    ("covp covariance g , other = 'i', ddof = 0", "covar_pop(CAST(i AS DOUBLE), g)"),
)

BY = {"all rows": (), "null keys": ("k",), "NaN keys": ("f",), "two keys": ("s", "b")}
"""How groups are made; floats in a key say 0.0 for both zeros."""


NUMBERS = (
    *numbers("i", "BIGINT"),
    *numbers("h", "BIGINT"),
    *numbers("d", "DECIMAL(38, 2)", mean="avg(CAST(d AS DOUBLE))"),
    *numbers("g", "DOUBLE"),
    *numbers("u", "DECIMAL(38, 0)", kept="CAST({0} AS DECIMAL(20, 0))"),
)
ROUNDED = ("g_sum", *(f"{c}_{f}" for c in ("i", "h", "d", "g", "u") for f in ("mean", "var", "sd")))
UNSIGNED_AS_DECIMALS = step(
    "cast", "columns = { u_min = 'Decimal(20, 0)', u_max = 'Decimal(20, 0)' }"
)


def _aggregate_jobs() -> Iterator[CutJob]:
    for said, by in BY.items():
        job = aggregated(f"aggregate: numbers, {said}", NUMBERS, by, rounded=ROUNDED)
        yield replace(job, steps=job.steps + UNSIGNED_AS_DECIMALS)
        yield aggregated(
            f"aggregate: special floats and tops, {said}",
            (*SPECIAL, *TOPS),
            by,
            rounded=("sum", "mean"),
        )
        yield aggregated(
            f"aggregate: text, times, quantiles and pairs, {said}",
            (*PICKED, *OTHERS, *QUANTILES, *PAIRS),
            by,
            rounded=("cov", "covp"),
        )


SUMS = tuple(
    (f"{c} sum {c}", f"CAST({sum_}({c}) AS {t})")
    for c, t, sum_ in (
        ("back", "BIGINT", "sum"),
        ("u", "DECIMAL(38, 0)", "sum"),
        ("d", "DECIMAL(38, 0)", "sum"),
        ("far", "DOUBLE", "fsum"),  # by Kahan: 1e16 + 1.0 is 1e16
    )
)

AGGREGATE_JOBS = (
    *_aggregate_jobs(),
    aggregated("aggregate: totals that come back into range", SUMS, data="large numbers"),
    aggregated("aggregate: totals by key", SUMS, ("k",), data="large numbers"),
    CutJob(
        "aggregate: a total beyond Int64 is refused",
        aggs("total sum beyond"),
        data="large numbers",
        refused="the sum of 'beyond' does not fit Int64 \\(all rows: about 4.6",
    ),
    CutJob(
        "aggregate: a total of one group beyond Int64 is refused",
        aggs("total sum beyond", by=["k"]),
        data="large numbers",
        refused="the sum of 'beyond' does not fit Int64 \\(k=1: about 4.6",
    ),
    CutJob(
        "aggregate: a total beyond 38 digits is refused",
        chain(
            step("filter", "where = 'k = 0 AND d > 0'"),
            aggs("total sum d"),
        ),
        data="large numbers",
        refused="the sum of 'd' does not fit Decimal",
    ),
    CutJob(
        "aggregate: keys alone",
        aggs("rows count", by=["day", "zone"]),
        "SELECT day, zone, count(*) AS rows FROM source GROUP BY day, zone",
    ),
    CutJob(
        "aggregate: no row and no key give a row",
        aggs("n count", "s sum i", "m mean i", "lo min s", "p quantile g"),
        """SELECT count(*) AS n, CAST(0 AS BIGINT) AS s, avg(i) AS m, min(s) AS lo,
          quantile_disc(g, 0.5) AS p FROM source""",
        data="nothing",
    ),
    CutJob(
        "aggregate: no row and a key give nothing",
        aggs("n count", "s sum d", by=["k"]),
        "SELECT k, count(*) AS n, CAST(sum(d) AS DECIMAL(38, 2)) AS s FROM source GROUP BY k",
        data="nothing",
    ),
    CutJob(
        "aggregate: one row",
        aggs("n count", "v variance i", "f first s , order = 'id'", by=["k"]),
        """SELECT k, count(*) AS n, var_samp(i) AS v, first(s) AS f FROM source GROUP BY k""",
        data="one row",
    ),
)

EMPTY_JOBS = tuple(
    CutJob(f"{job.name}, of no rows", job.steps, job.sql, "nothing", job.ordered)
    for job in (*ROW_JOBS, *ORDER_JOBS)
    if job.name
    in (
        "derive",
        "join: left",
        "explode: null and empty lists stay",
        "deduplicate: whole rows with floats",
        "sort: floats, null first",
        "top: of all",
        "top: of each of two keys",
        "partition: by integers, null, and days",
    )
)

# --- chains -----------------------------------------------------------------------------------

CHAINS = (
    CutJob(
        "chain: rows, aggregate, rows, sort",
        chain(
            step("filter", "where = 'd IS NOT NULL'"),
            step("derive", "columns = { half = 'd / 2', big = 'COALESCE(k, 0) > 1' }"),
            aggs("n count", "total sum d", "worst max g", by=["s", "big"]),
            step("derive", "columns = { rank = 'n * 10' }"),
            step("filter", "where = 'n > 1'"),
            step("sort", "order_by = ['n', 's']\ndescending = ['n']"),
        ),
        """SELECT * FROM (SELECT s, coalesce(k, 0) > 1 AS big, count(*) AS n,
            CAST(sum(d) AS DECIMAL(38, 2)) AS total, max(g) AS worst, count(*) * 10 AS rank
          FROM source WHERE d IS NOT NULL GROUP BY 1, 2) WHERE n > 1
          ORDER BY n DESC, s NULLS FIRST, big""",
        ordered=True,
    ),
    CutJob(
        "chain: deduplicate, aggregate",
        chain(
            keep("id", "k", "i", "s"),
            step("deduplicate"),
            aggs("n count", "total sum i", "kinds distinct s", by=["k"]),
        ),
        """SELECT k, count(*) AS n, CAST(coalesce(sum(i), 0) AS BIGINT) AS total,
          count(DISTINCT s) AS kinds FROM (SELECT DISTINCT id, k, i, s FROM source) GROUP BY k""",
    ),
    CutJob(
        "chain: join, top of each",
        chain(
            keep("id", "k", "d", "f"),
            step("join", "side = 'names'\non = ['k']\nhow = 'left'"),
            step("top", "n = 3\norder_by = ['d']\ndescending = ['d']\nper = ['name']"),
            step("drop", "columns = ['k']"),
        ),
        """SELECT id, d, f, name FROM source LEFT JOIN names USING (k) QUALIFY row_number() OVER
          (PARTITION BY name ORDER BY d DESC NULLS FIRST, id, k NULLS FIRST, f NULLS FIRST) <= 3""",
    ),
    CutJob(
        "chain: aggregate, and again with other keys",
        chain(
            aggs("n count", "total sum i", "day max day", by=["k", "s"]),
            aggs("pairs count", "rows sum n", "most max total", "texts count s", by=["day"]),
        ),
        """SELECT day, count(*) AS pairs, CAST(sum(n) AS BIGINT) AS rows, max(total) AS most,
          count(s) AS texts FROM (SELECT k, s, count(*) AS n, max(day) AS day,
            CAST(coalesce(sum(i), 0) AS BIGINT) AS total FROM source GROUP BY k, s) GROUP BY day""",
    ),
    CutJob(
        "chain: aggregate, again, and over all",
        chain(
            aggs("n count", by=["k", "s"]),
            aggs("n sum n", "pairs count", by=["k"]),
            aggs("n sum n", "keys count", "pairs sum pairs"),
        ),
        """SELECT CAST(count(*) AS BIGINT) AS n, count(DISTINCT coalesce(k, -99)) AS keys,
          count(DISTINCT {'k': k, 's': s}) AS pairs FROM source""",
    ),
    *(
        CutJob(
            f"chain: local times to hours and days in {zone}",
            chain(
                keep("id", "t", "d"),
                step(
                    "to_utc",
                    f"columns = ['t']\nzone = '{zone}'\nambiguous = 'earliest'\n"
                    "non_existent = 'null'",
                ),
                step("truncate", "columns = { t = 'hour' }\nevery = '1h'"),
                step(
                    "truncate",
                    f"columns = {{ t = 'day' }}\nevery = '1d'\nzone = '{zone}'\nas_date = true",
                ),
                aggs("n count", "total sum d", by=["day", "hour"]),
                step("sort", "order_by = ['day', 'hour']"),
            ),
            f"""WITH late AS (SELECT d, t, t AT TIME ZONE '{zone}' AS instant FROM source),
              real AS (SELECT d, CASE WHEN (instant AT TIME ZONE '{zone}') <> t THEN NULL
                WHEN ((instant - INTERVAL 1 hour) AT TIME ZONE '{zone}') = t
                THEN instant - INTERVAL 1 hour
                ELSE instant END AS instant FROM late)
              SELECT CAST(instant AT TIME ZONE '{zone}' AS DATE) AS day,
                date_trunc('hour', instant) AS hour,
                count(*) AS n, CAST(coalesce(sum(d), 0) AS DECIMAL(38, 2)) AS total
              FROM real GROUP BY ALL ORDER BY day NULLS FIRST, hour NULLS FIRST""",
            ordered=True,
        )
        for zone in (NEW_YORK, BERLIN)
    ),
    CutJob(
        "chain: text to times, over both changes of clocks",
        chain(
            step("derive", "columns = { text = 'CAST(t AS VARCHAR)' }"),
            keep("text", "zone", "g"),
            step(
                "parse",
                "columns = ['text']\nto = 'Datetime'\nformats = ['%Y-%m-%d %H:%M:%S%.f']",
            ),
            step(
                "to_utc",
                f"columns = ['text']\nzone_column = 'zone'\nzones = ['{NEW_YORK}', '{BERLIN}']\n"
                "ambiguous = 'latest'\nnon_existent = 'null'",
            ),
            step("truncate", "columns = { text = 'hour' }\nevery = '1h'"),
            aggs("n count", "last last g , order = 'text'", by=["hour", "zone"]),
        ),
        f"""WITH real AS (SELECT g, zone, CASE
              WHEN zone IS NOT NULL AND (timezone(zone, timezone(zone, t))) = t
              THEN timezone(zone, t) END AS instant FROM source)
          SELECT date_trunc('hour', instant) AS hour, zone, count(*) AS n,
            {picked("g", "instant", last=True)} AS last FROM real GROUP BY ALL""",
    ),
    CutJob(
        "chain: a filter leaves nothing to aggregate",
        chain(
            step("filter", "where = 'k > 100'"),
            aggs("n count", "total sum i", "worst max f"),
        ),
        """SELECT count(*) AS n, CAST(coalesce(sum(i), 0) AS BIGINT) AS total, max(f) AS worst
          FROM source WHERE k > 100""",
    ),
    CutJob(
        "chain: a filter leaves nothing to sort",
        chain(
            keep("k", "s"),
            step("filter", "where = 'k > 100'"),
            step("top", "n = 2\norder_by = ['s']\nper = ['k']"),
            step("sort", "order_by = ['k']"),
        ),
        "SELECT k, s FROM source WHERE k > 100",
    ),
    CutJob(
        "chain: explode, aggregate, join",
        chain(
            keep("id", "l"),
            step("explode", "columns = ['l']"),
            aggs("n count", "ids distinct id", by=["l"]),
            step("join", "side = 'names'\nleft_on = ['l']\nright_on = ['k']\nhow = 'left'"),
        ),
        """SELECT l, n, ids, name FROM (SELECT l, count(*) AS n, count(DISTINCT id) AS ids FROM
          (SELECT id, unnest(CASE WHEN len(l) > 0 THEN l ELSE [NULL] END) AS l FROM source)
          GROUP BY l) LEFT JOIN names ON l = k""",
    ),
    CutJob(
        "chain: top, sort, top",
        chain(
            keep("id", "k", "g"),
            step("top", "n = 4\norder_by = ['g']\ndescending = ['g']\nnulls = 'last'\nper = ['k']"),
            step("sort", "order_by = ['id']"),
            step("top", "n = 10\norder_by = ['g', 'id']"),
        ),
        """WITH best AS (SELECT id, k, g FROM source QUALIFY row_number() OVER
            (PARTITION BY k ORDER BY g DESC NULLS LAST, id) <= 4)
          SELECT id, k, g FROM best ORDER BY g NULLS FIRST, id, k NULLS FIRST LIMIT 10""",
    ),
    CutJob(
        "chain: a value that is lost after an aggregate is refused",
        chain(
            aggs("mean mean g", by=["k"]),
            step("cast", "columns = { mean = 'Int64' }"),
        ),
        refused="of 'mean'.* cannot become Int64 unchanged",
    ),
    CutJob(
        "chain: partitions of an aggregate",
        chain(
            aggs("n count", "total sum d", by=["k", "day"]),
            step("partition", "columns = ['day']"),
        ),
        """SELECT k, day, count(*) AS n, CAST(coalesce(sum(d), 0) AS DECIMAL(38, 2)) AS total
          FROM source GROUP BY k, day""",
    ),
    CutJob(
        "chain: sample, deduplicate",
        chain(
            keep("id", "k", "s"),
            step("sample", "fraction = 0.6\nkey = ['id']\nseed = 3"),
            step("deduplicate"),
            step("sort", "order_by = ['id']"),
        ),
        ordered=True,
    ),
)

JOBS = (*ROW_JOBS, *ORDER_JOBS, *AGGREGATE_JOBS, *EMPTY_JOBS, *CHAINS)
