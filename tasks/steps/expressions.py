"""SQL expressions over one row: read by Polars, and checked to look at that row alone."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError, StructFieldNotFoundError

from headwater.infra.errors import InvalidRequest, ScopeViolation, UnknownName, first_line
from headwater.tasks import scope_json as form
from headwater.tasks import scope_names as names
from headwater.tasks.scope import (
    Violation,
    declaration,
    placeholder,
    row_scope_violations,
    suggested_keys,
)

_ADVICE = {
    "date_trunc": "use the step truncate",
    "attimezone": "use the step to_utc, or truncate with a zone",
    "regexp_replace": 'use the step replace, with match = "regex"',
    "isnan": "use the step fill with missing = 'nan', then IS NULL",
    "is_nan": "use the step fill with missing = 'nan', then IS NULL",
    "cannot compare 'date/datetime/time' to a string": "write DATE '2024-01-31' or TIMESTAMP"
    " '2024-01-31 12:00:00'",
    "unit: '": "write INTERVAL '1 hour', with a unit from microsecond to year",
    "bitwisexor": "write POWER(a, b); ^ is no operator here",
}
"""What to do about SQL that Polars does not have, by a piece of its message."""

_INSTEAD = {
    names.INFERRED.text: "use the step parse",
    names.EXPLODES.text: "use the step explode",
}
"""What to do in steps, by the scope check's reason; its own hints are for functions."""

_DATE = re.compile(
    r"""\bDATE\s+('(?:[^']|'')*')|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", flags=re.IGNORECASE
)
"""A date, or a quoted text or name, in which there is none."""

_TEXT_LENGTH = 160
"""Longer expressions are cut in messages."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that is fit for these columns.

    Attributes:
        dtype: Of its values.
    """

    expr: pl.Expr
    dtype: pl.DataType


def read_sql(text: str) -> pl.Expr:
    """The expression that ``text`` is, not yet checked.

    Polars takes ``DATE '2024-02-30'`` for null; a date whose format is told is refused.
    """
    return pl.sql_expr(_DATE.sub(lambda m: f"DATE({m[1]}, '%Y-%m-%d')" if m[1] else m[0], text))


def expression(text: str, schema: pl.Schema) -> Expression:
    """The expression that ``text`` is on columns of ``schema``.

    Raises:
        UnknownName: It names a column that is not there.
        ScopeViolation: It looks at more than one row.
        InvalidRequest: It is no expression, or its types do not fit.
    """
    shown = text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 1]}…"
    try:
        expr = read_sql(text)
    except (PolarsError, PanicException) as exc:
        raise _refused(shown, exc) from exc
    if expr.meta.has_multiple_outputs():
        raise InvalidRequest(f"'{shown}' gives several columns", hint="write one expression each")
    for name in expr.meta.root_names():
        if name.startswith("_POLARS_"):  # how a subquery shows
            raise InvalidRequest(f"'{shown}' holds a query", hint="use the step join")
        if name not in schema:
            raise UnknownName.of("column", name, schema, where=f"'{shown}'")
    _require_one_row(shown, expr, schema)
    try:
        # Some types are only checked where rows would be, even when there is none.
        result = pl.DataFrame(schema=schema).lazy().select(expr.alias("value")).collect()
    except (PolarsError, PanicException) as exc:
        raise _refused(shown, exc) from exc
    return Expression(expr, result["value"].dtype)


def _require_one_row(text: str, expr: pl.Expr, schema: pl.Schema) -> None:
    nowhere = Path(tempfile.gettempdir()) / f"headwater-nothing-{uuid.uuid4().hex}.parquet"
    plan = placeholder(nowhere, schema).with_columns(expr.alias("value"))
    violations = row_scope_violations(plan, nowhere, ())
    if violations:
        said = "".join(f"\n  - {v.node}: {v.reason}" for v in violations)
        keys = suggested_keys(plan, nowhere, ())
        hint = "; ".join(dict.fromkeys(_instead(v, keys) for v in violations))
        raise ScopeViolation(f"'{text}' does not look at one row at a time:{said}", hint=hint)
    if any(_casts_text_to_time(node, schema) for node in _nodes(form.written(plan))):
        raise InvalidRequest(
            f"'{text}' casts text to a date or a time, without a format",
            hint="use the step parse; a date is written DATE '2024-01-31'",
        )


def _instead(violation: Violation, keys: Sequence[str]) -> str:
    """What to do about something that looks across rows, or is not known not to."""
    if violation.hint != names.elsewhere(keys):
        return _INSTEAD.get(violation.reason, violation.hint)
    return (
        "use the steps aggregate, top or deduplicate for what looks across rows; or hand the value"
        f" in through a join; or write a function and declare its scope: {declaration(keys)}"
    )


def _nodes(plan: object) -> Iterator[object]:
    yield plan
    inner = plan.values() if isinstance(plan, dict) else plan if isinstance(plan, list) else ()
    for node in inner:
        yield from _nodes(node)


def _casts_text_to_time(node: object, schema: pl.Schema) -> bool:
    """Whether this is a cast in which Polars drops offsets and makes null of what it cannot read;
    it means to forbid it."""
    match node:
        case {"Cast": {"expr": value}}:
            columns = form.Columns.of(schema)
            before, after = columns.dtypes(value), columns.dtypes(node)
            return any(isinstance(t, pl.String) for t in before or ()) and any(
                t.is_temporal() for t in after or ()
            )
        case _:
            return False


def _refused(text: str, exc: BaseException) -> InvalidRequest:
    said = first_line(exc)
    if isinstance(exc, StructFieldNotFoundError):
        said = f"no field '{said}'"
    lower = said.lower()
    advice = next((a for piece, a in _ADVICE.items() if piece in lower), "mend the expression")
    if len(said) > _TEXT_LENGTH:  # Polars shows how its parser holds what it does not support
        said = f"{said[: _TEXT_LENGTH - 1]}…"
    return InvalidRequest(f"'{text}' is no expression here: {said}", hint=advice)
