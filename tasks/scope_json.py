"""Plans as the JSON that Polars writes for them; all contact with that form is here.

The form is deprecated and has no promise. What does not have the expected shape raises
``LookupError`` or ``TypeError``; the caller refuses the plan then.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass
from polars.exceptions import PolarsError

from headwater.tasks.scope_names import FAMILIES, PLAN_INPUTS

Json = Any
"""Plain JSON. A variant is written ``"Name"`` or ``{"Name": content}``."""

_UDF = b"PLPYFN\x94"
"""How Polars begins a Python function: a mark, and a list of which the first is the type."""

_NO_DTYPE = b"\xc0"

_DEPENDS_ON_ROWS = frozenset(
    ("Column", "Selector", "Element", "Field", "Len", "Random", "AnonymousFunction", "SubPlan")
)
"""An expression without any of these has one value, whatever the rows."""

_MAKES_CATEGORIES = ('"Categorical"', '"Cut"', '"AnonymousFunction"', '"PythonScan"')


class UnwritablePlan(Exception):
    """Polars could not write a plan down."""


def written(plan: pl.LazyFrame) -> Json:
    """The plan as Polars writes it."""
    try:
        with warnings.catch_warnings():
            # The format is deprecated for keeping plans; here nothing is kept.
            warnings.filterwarnings("ignore", "'json' serialization format", UserWarning)
            text = plan.serialize(format="json")
    except PolarsError as exc:
        raise UnwritablePlan(str(exc).partition("\n")[0]) from exc
    return json.loads(text)


def expression(expr: Json) -> pl.Expr:
    """An expression as Polars reads it back; it refuses more than about 60 levels."""
    return pl.Expr.deserialize(io.StringIO(json.dumps(expr)), format="json")


def variant(value: Json) -> tuple[str, Json]:
    """Name and content of a variant."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict) and len(value) == 1:
        return next(iter(value.items()))
    raise TypeError(f"no variant: {str(value)[:80]}")


def inputs(name: str, body: Json) -> list[Json]:
    """The plan nodes that the node ``name`` takes its rows from."""
    found: list[Json] = []
    for field in PLAN_INPUTS[name]:
        child = body[field]
        found.extend(child if isinstance(child, list) else [child])
    return found


def function(value: Json) -> tuple[str, Json]:
    """A function's name, with its family where it has one, and its options."""
    name, content = variant(value)
    if name in FAMILIES:
        member, options = variant(content)
        return f"{name}.{member}", options
    return name, content


def aggregated(body: Json) -> Json:
    """The expression that an aggregation folds; Polars writes it in three ways."""
    _, content = variant(body)
    if isinstance(content, list):
        return content[0]
    if isinstance(content, dict) and "input" in content:
        return content["input"]
    return content


def udf_has_dtype(udf: list[int]) -> bool:
    """Whether a Python function was given a ``return_dtype``."""
    head = bytes(udf[: len(_UDF) + 1])
    if not head.startswith(_UDF):
        raise TypeError(f"no Python function: {head!r}")
    return not head.endswith(_NO_DTYPE)


def depends_on_rows(expr: Json) -> bool:
    """Whether an expression may have another value in another row or another part."""
    if isinstance(expr, str):
        return expr in _DEPENDS_ON_ROWS
    if isinstance(expr, list):
        return any(depends_on_rows(e) for e in expr)
    if isinstance(expr, dict) and "Literal" not in expr:
        return any(k in _DEPENDS_ON_ROWS or depends_on_rows(v) for k, v in expr.items())
    return False


def columns_in(expr: Json) -> set[str] | None:
    """Names of the columns that an expression reads; ``None`` where it selects some."""
    found: set[str] = set()
    stack = [expr]
    while stack:
        match stack.pop():
            case "Selector" | {"Selector": _}:
                return None
            case {"Column": str(name)}:
                found.add(name)
            case dict(inner) if "Literal" not in inner:
                stack.extend(inner.values())
            case list(inner):
                stack.extend(inner)
    return found


def may_have_categories(plan: Json) -> bool:
    """Whether any column of the plan may be a Categorical; saves looking up types if not."""
    text = json.dumps(plan)
    if any(mark in text for mark in _MAKES_CATEGORIES):
        return True
    stack = [plan]
    while stack:
        name, body = variant(stack.pop())
        children = inputs(name, body)
        stack.extend(children)
        if name == "Scan":
            schema = Columns(name, body, ()).schema()
            if schema is None or any(map(has_categories, schema.values())):
                return True
    return False


class Columns:
    """Names and types of the columns that one plan node gives, looked up when asked for.

    Args:
        name: Variant of the node.
        body: Its content.
        sources: Columns of its inputs, in the order of ``inputs``.
    """

    def __init__(self, name: str, body: Json, sources: Sequence[Columns]) -> None:
        self._name = name
        self._body = body
        self._sources = sources
        self._known = False
        self._schema: pl.Schema | None = None

    @classmethod
    def of(cls, schema: pl.Schema | None) -> Columns:
        """Columns that are known already."""
        columns = cls("", None, ())
        columns._known, columns._schema = True, schema
        return columns

    def schema(self) -> pl.Schema | None:
        """The schema; ``None`` where Polars cannot tell it."""
        stack: list[Columns] = [self]  # no recursion: plans may have hundreds of nodes
        while stack:
            unknown = [c for c in stack[-1]._sources if not c._known]
            if unknown:
                stack.extend(unknown)
            else:
                stack.pop()._resolve()
        return self._schema

    def dtypes(self, expr: Json, struct: Json = None) -> list[pl.DataType] | None:
        """Types of the columns that ``expr`` gives on these; ``None`` where they cannot be told.

        Args:
            expr: The expression.
            struct: What ``pl.field`` in it takes its fields from.
        """
        schema = self.schema()
        if schema is None:
            return None
        match expr:
            case {"Column": str(name)} if name in schema:
                return [schema[name]]
        try:
            rows = pl.LazyFrame(schema=schema)
            return rows.select(expression(_inlined(expr, struct))).collect_schema().dtypes()
        except PolarsError:
            return None

    def names(self, expr: Json) -> list[str] | None:
        """Names of the columns that ``expr`` gives on these; ``None`` where they cannot be told."""
        match expr:
            case {"Alias": [_, str(name)]} | {"Column": str(name)}:
                return [name]
        schema = self.schema()
        if schema is None:
            return None
        try:
            return pl.LazyFrame(schema=schema).select(expression(expr)).collect_schema().names()
        except PolarsError:
            return None

    def carried(self, expr: Json) -> dict[str, str | None] | None:
        """The columns that ``expr`` gives, each with the column of these that it holds unchanged;
        ``None`` where they cannot be told."""
        given = self.names(expr)
        while True:
            match expr:
                case {"Alias": [inner, str()]} | {"KeepName": inner}:
                    expr = inner
                case {"RenameAlias": {"expr": inner}}:
                    expr = inner
                case _:
                    break
        if given is None:
            return None
        held = self.names(expr) if variant(expr)[0] in ("Column", "Selector") else None
        if held is None or len(held) != len(given):
            return dict.fromkeys(given)
        return dict(zip(given, held, strict=True))

    def may_have_categories(self, expr: Json) -> bool:
        """Whether ``expr`` on these may look at a Categorical; saves looking up its types."""
        schema = self.schema()
        text = json.dumps(expr)
        if schema is None or '"Selector"' in text or '"Field"' in text:
            return True
        if any(mark in text for mark in _MAKES_CATEGORIES):
            return True
        categories = [name for name, dtype in schema.items() if has_categories(dtype)]
        return any(json.dumps(name) in text for name in categories)

    def _resolve(self) -> None:
        if not self._known:
            self._known, self._schema = True, self._looked_up()

    def _looked_up(self) -> pl.Schema | None:
        # One node on empty inputs, as Polars does not read back a plan of more than 60 nodes.
        stand_ins: list[Json] = []
        for source in self._sources:
            if source._schema is None:
                return None
            stand_ins.append(written(pl.LazyFrame(schema=source._schema)))
        body = dict(self._body)
        for field in PLAN_INPUTS[self._name]:
            if isinstance(body[field], list):
                body[field] = [stand_ins.pop(0) for _ in body[field]]
            else:
                body[field] = stand_ins.pop(0)
        text = io.StringIO(json.dumps({self._name: body}))
        with warnings.catch_warnings():
            # Of the format, as above, and what Polars already told when the job was called.
            warnings.simplefilter("ignore")
            try:
                return pl.LazyFrame.deserialize(text, format="json").collect_schema()
            except PolarsError:
                return None  # what needs it is refused as untyped


def _inlined(expr: Json, struct: Json) -> Json:
    """``expr`` with ``element()`` and ``field()``, which have no type outside of their place,
    written as ordinary columns."""
    if expr == "Element":
        return {"Column": ""}
    if isinstance(expr, list):
        return [_inlined(e, struct) for e in expr]
    if not isinstance(expr, dict) or "Literal" in expr:
        return expr
    if struct is not None and set(expr) == {"Field"}:
        field = {"StructExpr": {"FieldByName": expr["Field"][0]}}
        return {"Function": {"input": [struct], "function": field}}
    return {k: _inlined(v, struct) for k, v in expr.items()}


def _leaves(dtype: pl.DataType, *, listed: bool = False) -> Iterator[tuple[pl.DataType, bool]]:
    """The types inside a type, and whether they are inside a list."""
    if isinstance(dtype, (pl.List, pl.Array)):
        yield from _leaves(_instance(dtype.inner), listed=True)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _leaves(_instance(field.dtype), listed=listed)
    else:
        yield dtype, listed


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return pl.Series(dtype=dtype).dtype


def has_categories(dtype: pl.DataType, *, listed: bool = False) -> bool:
    """Whether there is a Categorical in ``dtype``; with ``listed``, one inside a list.

    The codes of an Enum are the positions in its type, the same everywhere, so it does not count.
    """
    return any(isinstance(d, pl.Categorical) and (i or not listed) for d, i in _leaves(dtype))


def is_text(dtype: pl.DataType) -> bool:
    """Whether all values in ``dtype`` are text or categories."""
    text = (pl.String, pl.Categorical, pl.Enum, pl.Null)
    return all(isinstance(leaf, text) for leaf, _ in _leaves(dtype))


def depth(dtype: pl.DataType) -> int:
    """How many lists are around the values."""
    levels = 0
    while isinstance(dtype, (pl.List, pl.Array)):
        levels += 1
        dtype = _instance(dtype.inner)
    return levels
