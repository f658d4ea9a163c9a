"""What a plan needs of its input: columns, and a condition that all rows it uses meet.

Both are read off the scan of the plan as Polars optimizes it, through the interface that the GPU
engine reads plans with. It has no promise beyond its version, so another version, and all that is
not understood, means that everything is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from headwater.infra.storage.conditions import (
    Both,
    Compared,
    Condition,
    Either,
    IsNull,
    OneOf,
    Operator,
    stored_value,
)

IR_VERSION = 14
"""Of Polars' interface to optimized plans; the first of its two numbers."""

NOWHERE = "/dev/null/headwater.parquet"
"""Path of the scan that plans are built on: no file can be there, so nothing can be collected."""

_OPERATORS: dict[str, Operator] = {
    "Operator.Lt": "<",
    "Operator.LtEq": "<=",
    "Operator.Eq": "==",
    "Operator.NotEq": "!=",
    "Operator.GtEq": ">=",
    "Operator.Gt": ">",
}
_BETWEEN: dict[str, tuple[Operator, Operator]] = {
    "both": (">=", "<="),
    "left": (">=", "<"),
    "right": (">", "<="),
    "none": (">", "<"),
}
_MIRRORED: dict[Operator, Operator] = {
    "<": ">",
    "<=": ">=",
    "==": "==",
    "!=": "!=",
    ">=": "<=",
    ">": "<",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What is needed of an input.

    Attributes:
        columns: Their names; ``None`` is all.
        condition: What rows meet that have a part in the result; ``None`` where any may have.
    """

    columns: frozenset[str] | None = None
    condition: Condition | None = None


EVERYTHING = Needs()


def needs_of(plan: Callable[[pl.LazyFrame], pl.LazyFrame], schema: pl.Schema) -> Needs:
    """What ``plan`` needs of an input with the columns of ``schema``.

    It is called with a scan of a file that does not exist. Where it fails on that, for example
    since it looks into its rows, everything is needed; what is wrong with it shows when it runs.
    """
    scan = pl.scan_parquet(NOWHERE, schema=schema, glob=False, hive_partitioning=False)
    try:
        nodes: Any = plan(scan)._ldf.visit()
        if nodes.version()[0] != IR_VERSION:
            return EVERYTHING
        scans = [_scanned(nodes, node) for node in _scans(nodes)]
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001  # of the user's function
        return EVERYTHING
    if not scans:
        return EVERYTHING  # Polars answers some plans without a scan
    columns: frozenset[str] | None = frozenset()
    for one in scans:
        columns = None if columns is None or one.columns is None else columns | one.columns
    condition = scans[0].condition
    for one in scans[1:]:
        condition = _either(condition, one.condition)
    return Needs(columns, condition)


def _scans(nodes: Any) -> Iterator[Any]:
    """The scans of our file in a plan; ``nodes`` stands at the one that is given."""
    stack = [nodes.get_node()]
    seen: set[int] = set()
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        nodes.set_node(index)
        inputs = nodes.get_inputs()
        stack.extend(inputs)
        try:
            node = nodes.view_current_node()
        except NotImplementedError:
            if inputs:
                continue  # a node that this interface cannot show; a scan has no inputs
            raise
        if type(node).__name__ == "Scan" and [str(path) for path in node.paths] == [NOWHERE]:
            yield node


def _scanned(nodes: Any, scan: Any) -> Needs:
    columns = scan.file_options.with_columns  # those that the predicate tests are among them
    return Needs(
        None if columns is None else frozenset(columns),
        None if scan.predicate is None else _condition(nodes, scan.predicate.node),
    )


def _condition(nodes: Any, index: int) -> Condition | None:
    """What the expression at ``index`` asks of a row, as far as it is understood."""
    try:
        expr = nodes.view_expression(index)
    except NotImplementedError:
        return None
    match type(expr).__name__:
        case "BinaryExpr":
            return _binary(nodes, expr)
        case "Function":
            return _function(nodes, expr)
        case "Column" if nodes.get_dtype(index) == pl.Boolean():
            return Compared(expr.name, pl.Boolean(), "==", True)
        case _:
            return None


def _binary(nodes: Any, expr: Any) -> Condition | None:
    operator = str(expr.op)
    if operator in ("Operator.And", "Operator.LogicalAnd"):
        return _both(_condition(nodes, expr.left), _condition(nodes, expr.right))
    if operator in ("Operator.Or", "Operator.LogicalOr"):
        return _either(_condition(nodes, expr.left), _condition(nodes, expr.right))
    if operator not in _OPERATORS:
        return None
    compared = _compared(nodes, expr.left, _OPERATORS[operator], expr.right)
    return compared or _compared(nodes, expr.right, _MIRRORED[_OPERATORS[operator]], expr.left)


def _function(nodes: Any, expr: Any) -> Condition | None:
    name, *options = expr.function_data
    match str(name), options:
        case "BooleanFunction.IsNull", _:
            column = _column(nodes, expr.input[0])
            return None if column is None else IsNull(column.name)
        case "BooleanFunction.IsNotNull", _:
            column = _column(nodes, expr.input[0])
            return None if column is None else IsNull(column.name, negated=True)
        case "BooleanFunction.IsBetween", [str(closed)] if closed in _BETWEEN:
            value, low, high = expr.input
            above, below = _BETWEEN[closed]
            return _both(_compared(nodes, value, above, low), _compared(nodes, value, below, high))
        case "BooleanFunction.IsIn", [False]:
            return _one_of(nodes, *expr.input)
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the scan as it is compared.

    Attributes:
        as_float: It is cast from whole numbers to floats.
    """

    name: str
    dtype: pl.DataType
    as_float: bool = False


def _column(nodes: Any, index: int) -> _Column | None:
    """The column at ``index``, perhaps inside a cast that keeps the order of its values."""
    expr = nodes.view_expression(index)
    dtype = nodes.get_dtype(index)
    if type(expr).__name__ == "Column":
        return _Column(expr.name, dtype)
    if type(expr).__name__ != "Cast":
        return None
    inner = nodes.view_expression(expr.expr)
    own = nodes.get_dtype(expr.expr)
    if type(inner).__name__ == "Column" and _keeps_order(own, dtype):
        return _Column(inner.name, own, as_float=own.is_integer() and dtype.is_float())
    return None


def _keeps_order(own: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether a cast from ``own`` to ``dtype`` leaves values as they are, or only rounds them."""
    if own.is_integer() and dtype.is_integer():
        narrow, wide = _digits(own), _digits(dtype)
        return own == dtype or (narrow < wide and not dtype.is_unsigned_integer())
    if isinstance(own, pl.Decimal) and isinstance(dtype, pl.Decimal):
        return own.scale == dtype.scale and (own.precision or 0) <= (dtype.precision or 0)
    return dtype == pl.Float64() and (own.is_integer() or own == pl.Float32())


def _digits(dtype: pl.DataType) -> int:
    """How many bits an integer has."""
    return int("".join(filter(str.isdigit, str(dtype))))


def _compared(nodes: Any, left: int, operator: Operator, right: int) -> Compared | None:
    column = _column(nodes, left)
    literal = nodes.view_expression(right)
    if column is None or type(literal).__name__ != "Literal":
        return None
    if nodes.get_dtype(left) != literal.dtype:
        return None  # how the engine brings them together is not ours to guess
    value = stored_value(literal.value, literal.dtype)
    if value is None:
        return None
    return Compared(column.name, column.dtype, operator, value, column.as_float)


def _one_of(nodes: Any, left: int, right: int) -> OneOf | None:
    column = _column(nodes, left)
    literal = nodes.view_expression(right)
    if column is None or column.as_float or type(literal).__name__ != "Literal":
        return None
    if literal.dtype != pl.List(nodes.get_dtype(left)):
        return None
    given = [value for value in literal.value if value is not None]
    values = [stored_value(value, nodes.get_dtype(left)) for value in given]
    known = tuple(value for value in values if value is not None)
    return OneOf(column.name, column.dtype, known) if len(known) == len(given) else None


def _both(one: Condition | None, other: Condition | None) -> Condition | None:
    if one is None or other is None:
        return one or other
    return Both(one, other)


def _either(one: Condition | None, other: Condition | None) -> Condition | None:
    if one is None or other is None:
        return None
    return Either(one, other)
