"""The documentation of the steps, made from their docstrings: ``docs/steps.md``.

``python -m headwater.tasks.steps.docs docs/steps.md`` writes it anew.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headwater.tasks.steps.aggregate import Aggregation
from headwater.tasks.steps.base import Step
from headwater.tasks.steps.catalog import KINDS
from headwater.tasks.steps.dialect import DIFFERENCES, MISSING
from headwater.tasks.steps.examples import Table, example_of, prose_of

INTRODUCTION = """\
# Steps

A job can be a list of steps in a TOML file. `headwater run etl --steps FILE` runs it, and
`headwater steps check FILE --source URI` shows what it would do. This page is made from the steps'
own documentation, and every example in it is run by a test.

```toml
version = 1

[[steps]]
kind = "filter"
name = "only late ones"
where = "dep_delay >= 15"

[[steps]]
kind = "select"
columns = ["origin", "carrier", "dep_delay"]
```

Steps run one after the other, each on the columns that the one before gives. `name` is optional;
messages show it beside the number, the kind and the line. A name that two steps would produce, a
column that is not there and a type that does not fit are refused before anything starts.

Each step has a scope: the rows that it has to see together. `rows`: one at a time, so the input
may be cut anywhere. `key`: all rows of a key. `whole`: all rows. The result never depends on how
the input happened to be cut.
"""

EXPRESSIONS = """\
## Expressions

`filter` and `derive` take SQL expressions, which Polars reads. They have columns (quoted as
`"odd name"`; case matters), numbers, `'text'`, `DATE '2013-01-31'`, `TIMESTAMP '2013-01-31
12:00:00'`, `INTERVAL '1 day'`, `+ - * / %`, `//`, comparisons, `AND`, `OR`, `NOT`, `IS NULL`,
`IS NOT DISTINCT FROM`, `IN`, `BETWEEN`, `LIKE`, `~` (a regular expression), `||`, `CASE WHEN`,
`CAST`, `TRY_CAST`, `COALESCE`, `NULLIF`, `GREATEST`, `LEAST`, `EXTRACT(hour FROM t)`, and functions
of numbers and text such as `ROUND`, `ABS`, `UPPER`, `SUBSTR`, `LENGTH`.

They look at one row. What looks at others (`SUM`, `LAG`, `OVER`, a query in parentheses) is
refused by name.
"""

_INSIDE = {"aggregate": Aggregation}
"""Models that stand inside a step, and are shown below it."""


def page(kind: str) -> str:
    """The page of one step, in Markdown."""
    model = KINDS[kind]
    example = example_of(model)
    lines = [f"## {kind}", "", f"*Scope: {model.SCOPE}.* {prose_of(model)}", "", *_keys(model)]
    if kind in _INSIDE:
        lines += ["", "Each of `aggs` has:", "", *_keys(_INSIDE[kind])]
    for name, side in example.sides.items():
        lines += ["", f"Side table `{name}`:", "", *_table(side)]
    lines += ["", "From", "", *_table(example.source), "", "```toml", example.toml.rstrip(), "```"]
    lines += ["", "makes", "", *_table(example.result), ""]
    return "\n".join(lines)


def document() -> str:
    """All pages."""
    listed = [f"- [{kind}](#{kind}): {prose_of(KINDS[kind]).splitlines()[0]}" for kind in KINDS]
    parts = [INTRODUCTION, "\n".join([*listed, ""]), EXPRESSIONS, _dialect(), *map(page, KINDS)]
    return "\n".join(parts)


def _dialect() -> str:
    rows = [(f"`{d.expression}`", d.here, d.duckdb, d.why) for d in DIFFERENCES]
    lines = [
        "What is not there, and what takes its place:",
        "",
        "| not there | instead |",
        "|---|---|",
    ]
    lines += [f"| `{sql}` | {instead} |" for sql, instead in MISSING.items()]
    lines += [
        "",
        "Where it means something else than in DuckDB (`n` is -7, `zero` 0, `x` 1.5, `half` 2.5,",
        "`big` the greatest Int64, `day` 2024-01-31):",
        "",
        "| expression | here | DuckDB | |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def _keys(model: type[BaseModel]) -> Iterable[str]:
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if name in ("kind", "name") and issubclass(model, Step):
            continue
        default = "" if field.is_required() else f"`{_default(field)}`"
        yield f"| `{name}` | {_type(field.annotation)} | {default} | {field.description or ''} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple():
            return "[" + ", ".join(f'"{v}"' for v in value) + "]"
        case _:
            return str(value)


def _type(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0])
    if origin is Literal:
        return ", ".join(f"`{a!r}`".replace("'", '"') for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in args if a is not type(None)))
    if origin is tuple:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return f"table of {_type(args[1])}"
    plain = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    name = str(getattr(annotation, "__name__", annotation))
    return plain.get(name, "aggregation" if name == "Aggregation" else name)


def _table(table: Table) -> Iterable[str]:
    yield "| " + " | ".join(table.header) + " |"
    yield "|" + "---|" * len(table.header)
    yield "| " + " | ".join(f"*{t.replace('|', chr(92) + '|')}*" for t in table.types) + " |"
    for row in table.rows:
        yield "| " + " | ".join(row) + " |"


def main() -> None:
    """Write the document to the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m headwater.tasks.steps.docs FILE")
    Path(sys.argv[1]).write_text(document(), "utf-8")


if __name__ == "__main__":
    main()
