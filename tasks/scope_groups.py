"""Expressions over the rows of one group: do they give the same, in whatever order the rows come?

A group is complete, as all rows of a key lie in one part, but the order in which its rows come is
chance. So a sum is fine and a running sum is not, unless the rows were sorted, and by enough:
rows that are equal in the columns sorted by still come in any order.

Sums and means of floating-point numbers count as the same up to rounding, and -0.0 as 0.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from headwater.tasks import scope_json as form
from headwater.tasks import scope_names as names
from headwater.tasks.scope_json import Columns, Json
from headwater.tasks.scope_names import Reason
from headwater.tasks.scope_rows import Place, RowInspector, function_word, parts, slice_word

_FOLDS = names.words(
    """Len NullCount Product Quantile Skew Kurtosis Entropy ApproxNUnique Correlation
    Agg.Min Agg.Max Agg.Median Agg.NUnique Agg.Mean Agg.Item Agg.Count Agg.Sum Agg.Std Agg.Var
    Bitwise.And Bitwise.Or Bitwise.Xor Boolean.Any Boolean.All Boolean.IsEmpty
    Boolean.HasNulls"""
)
"""One value, the same for any order."""

_OWN_VALUES = names.words(
    """Boolean.IsUnique Boolean.IsDuplicated FillNullWithStrategy.Mean FillNullWithStrategy.Min
    FillNullWithStrategy.Max"""
)
"""A value for each row, which follows from the row's own and from all values together. ``Rank``
is one of these, but for the ordinal one."""

_FREE_ORDER = names.words("Mode TopK ValueCounts UniqueCounts")
"""Some number of values, the same ones for any order, but in no order that is promised."""

_LEAVES_OUT = names.words("DropNulls DropNans ArrayExpr.Explode")
"""Some number of values, in the order of the rows."""

_RUNNING = names.words(
    """Shift ShiftAndFill Diff PctChange CumCount CumSum CumProd CumMin CumMax Interpolate
    EwmMean EwmSum EwmStd EwmVar PeakMin PeakMax RLEID Reverse RollingExpr RollingExprBy ArgSort
    FillNullWithStrategy.Backward FillNullWithStrategy.Forward Boolean.IsFirstDistinct
    Boolean.IsLastDistinct Rank"""
)
"""A value for each row, which follows from where the row stands."""

_FIRST_OF_ALL = names.words(
    """Agg.First Agg.FirstNonNull Agg.Last Agg.LastNonNull Agg.Implode
    StringExpr.ConcatVertical Boolean.IsSorted"""
)
"""One value, which follows from the order."""

_BY_POSITION = names.words("RLE GatherEvery ArgUnique ArgWhere")
"""Some number of values, which follow from the order."""


@dataclass(frozen=True, slots=True)
class Group:
    """What is known of the rows of one group.

    Attributes:
        columns: Names and types.
        constant: Columns with one value in a group.
        order: The values of these come in an order that only data decide.
        settled: Whole rows do, but for rows that are equal throughout.
        unique: No two rows are equal in these and the constant ones; ``None`` if not known.
        why: What to say of an expression that needs another order.
    """

    columns: Columns
    constant: frozenset[str] = frozenset()
    order: frozenset[str] = frozenset()
    settled: bool = False
    unique: frozenset[str] | None = None
    why: Reason = names.ARRIVAL

    def decides(self, by: Iterable[str], reads: Iterable[str]) -> bool:
        """Whether rows that are equal in ``by`` are equal in ``reads``."""
        known = self.constant.union(by)
        return known.issuperset(reads) or (self.unique is not None and known >= self.unique)

    def sorted_by(self, by: frozenset[str], *, stable: bool = False) -> Group:
        """The group after it was sorted."""
        schema = self.columns.schema()
        told_apart = schema is not None and self.decides(by, schema)
        settled = told_apart or (stable and self.settled)
        return replace(self, order=by, settled=settled, why=names.TIES)


def pins(expr: Json, columns: Columns) -> frozenset[str]:
    """Columns in which rows are equal when they are equal in ``expr``; a selector counts for all
    that it selects."""
    match expr:
        case {"Function": {"function": "AsStruct", "input": list(inputs)}}:
            return frozenset().union(*(pins(e, columns) for e in inputs))
    return frozenset(c for c in (columns.carried(expr) or {}).values() if c is not None)


@dataclass(frozen=True, slots=True)
class Values:
    """What an expression gives in one group.

    Attributes:
        one: One value for the group, the same for any order of its rows.
        rows: Which rows the values belong to, and in which order they stand: all as they came
            (empty), or a name for something else.
        ordered: The sequence is the same for any order in which the rows came.
        fixed: It is a literal.
        mixed: Values of rows were computed with values of the whole group.
        placed: A value follows from where its row stands.
        reads: Columns that a value follows from, besides from all values together.
        pins: Columns in which rows are equal where their values are.
        why: What to say when it should be ordered, and is not.
    """

    one: bool = False
    rows: str = ""
    ordered: bool = False
    fixed: bool = False
    mixed: bool = False
    placed: bool = False
    reads: frozenset[str] = frozenset()
    pins: frozenset[str] = frozenset()
    why: Reason = names.ARRIVAL


_ONE = Values(one=True, ordered=True)
_FIXED = replace(_ONE, fixed=True)


class Groups:
    """Judges expressions over groups that are alike in what is known of them."""

    def __init__(self, inspector: RowInspector, group: Group) -> None:
        self._inspector = inspector
        self._group = group
        self._numbers = count()

    def aggregate(self, expr: Json, place: Place) -> None:
        """Judges an expression that gives one row, or a list, for each group."""
        values = self._values(expr, place)
        if not values.ordered:
            why = names.TIES if values.why is names.TIES else names.LISTS
            self._inspector.refuse("Agg.Implode", place, why, word="agg")

    def window(self, expr: Json, mapping: str, place: Place) -> None:
        """Judges the function of a window, whose values go back to the rows of the group."""
        values = self._values(expr, place)
        if mapping == "Explode":
            self._inspector.refuse("Over", place, names.EXPLODED_WINDOW)
        elif mapping == "Join":  # a list for each row
            if not values.ordered:
                self._inspector.refuse("Over", place, names.LISTS)
        elif not (values.one or (values.ordered and self._group.settled)) and (
            values.rows or values.placed
        ):
            # The n-th value goes to the n-th row, whichever of those that are equal it is.
            self._inspector.refuse("Over", place, self._group.why)

    def _values(self, expr: Json, place: Place) -> Values:
        name, body = form.variant(expr)
        if name in ("Column", "Selector"):
            return self._columns(self._group.columns.names(expr))
        if name == "Len":
            return _ONE
        if name == "Literal":
            self._inspector.judge_literal(expr, body, place)
            return _FIXED
        if name == "DataTypeFunction":
            return _FIXED
        if name == "Alias":
            return self._values(body[0], place)
        if name == "KeepName":
            return self._values(body, place)
        if name == "RenameAlias":
            return self._values(body["expr"], place)
        if name in ("BinaryExpr", "Ternary", "Cast"):
            if name == "Cast":
                self._inspector.judge_cast(expr, body, place)
            return self._together(name, self._each(list(parts(name, body)), place), place)
        if name in ("Eval", "StructEval"):
            self._inspector.judge_evaluation(name, body, place)
            beside = [self._columns(form.columns_in(body["evaluation"]))]
            return self._together(name, [self._values(body["expr"], place), *beside], place)
        if name == "AnonymousFunction":
            if not self._inspector.judge_udf(body, place):
                return _ONE
            return self._together(name, self._each(body["input"], place), place)
        if name == "Function":
            return self._function(expr, body, place)
        if name == "Agg":
            key = f"Agg.{form.variant(body)[0]}"
            if key in ("Agg.Var", "Agg.Std") and form.variant(body)[1][1] == 0:
                return self._refused(key, place, names.NO_FREEDOM)
            return self._named(key, [self._values(form.aggregated(body), place)], place, "")
        return self._rearranged(name, body, place)

    def _each(self, exprs: Sequence[Json], place: Place) -> list[Values]:
        return [self._values(e, place) for e in exprs]

    def _columns(self, read: Iterable[str] | None) -> Values:
        group = self._group
        if read is None:  # names that cannot be told are in no order
            return Values(rows=self._new(), why=group.why, placed=True)
        reads = frozenset(read)
        if not reads:
            return _ONE
        ordered = group.settled or reads <= group.order | group.constant
        # A selector sorts one column by another, and not by all that it selects.
        pinned = reads if len(reads) == 1 else frozenset[str]()
        return Values(ordered=ordered, reads=reads, pins=pinned, why=group.why)

    def _new(self) -> str:
        return f"#{next(self._numbers)}"

    def _together(self, key: str, values: Sequence[Values], place: Place) -> Values:
        """What a function of the values of each row gives."""
        many = [v for v in values if not v.one]
        if not many:
            return _FIXED if all(v.fixed for v in values) else _ONE
        ordered = all(v.ordered for v in many)
        placed = any(v.placed for v in many)
        same_rows = all(v.rows == many[0].rows for v in many)
        why = next((v.why for v in many if not v.ordered), many[0].why)
        if len(many) > 1 and not ordered and (placed or not same_rows):
            return self._refused(key, place, why if same_rows else names.PAIRS)
        return Values(
            rows=many[0].rows if same_rows else self._new(),
            ordered=ordered,
            mixed=any(v.mixed or (v.one and not v.fixed) for v in values),
            placed=placed,
            reads=frozenset().union(*(v.reads for v in many)),
            why=why,
        )

    def _function(self, expr: Json, body: Json, place: Place) -> Values:
        key, options = form.function(body["function"])
        inputs = self._inspector.judge_function(expr, body, place)
        if inputs is None:
            return _ONE
        values = self._each(inputs, place)
        if key in names.ROW_WISE:
            together = self._together(key, values, place)
            if key == "AsStruct":
                return replace(together, pins=pins(expr, self._group.columns))
            return together
        if key == "Range.IntRange" and all(v.one for v in values):
            return Values(rows=self._new(), ordered=True, placed=True)
        if key in ("MinBy", "MaxBy"):
            return self._refused(key, place, names.NO_ROWS)
        if values[0].one:
            return self._refused(key, place, names.OF_ONE_VALUE, function_word(key, options))
        if key == "TopKBy":
            return self._greatest(values, place)
        if key == "Rank" and options["options"]["method"] != "Ordinal":
            return replace(values[0], mixed=True, pins=frozenset())
        if key == "Unique":
            together = self._together(key, values, place)
            return replace(self._apart(together), ordered=together.ordered and options)
        return self._named(key, values, place, function_word(key, options))

    def _named(self, key: str, values: list[Values], place: Place, word: str) -> Values:
        if values[0].one:
            return self._refused(key, place, names.OF_ONE_VALUE, word)
        together = self._together(key, values, place)
        if key in _FOLDS:
            return _ONE
        if key in _OWN_VALUES:
            return replace(together, mixed=True)
        if key in _FREE_ORDER:
            return replace(self._apart(together), ordered=False)
        if key in _LEAVES_OUT:
            return self._apart(together)
        if key not in _RUNNING | _FIRST_OF_ALL | _BY_POSITION:
            return self._refused(key, place, None, word)
        if not together.ordered:
            return self._refused(key, place, together.why, word)
        if key in _FIRST_OF_ALL:
            return _ONE
        return (
            replace(together, mixed=True, placed=True) if key in _RUNNING else self._apart(together)
        )

    def _rearranged(self, name: str, body: Json, place: Place) -> Values:
        """Judges what gives other rows, or the same in another order."""
        if name not in ("Filter", "Sort", "SortBy", "Explode", "Slice", "Gather"):
            return self._refused(name, place)
        given = [body["input"]] if name == "Explode" else _picked(name, body)
        values = self._each(given, place)
        together = self._together(name, values, place)
        word = slice_word(body) if name == "Slice" else ""
        if values[0].one:
            return self._refused(name, place, names.OF_ONE_VALUE, word)
        if name == "Filter":
            return self._filtered(values, together, body["by"])
        if name == "Sort":
            return replace(self._apart(together), ordered=True)
        if name == "SortBy":
            if values[0].mixed:
                return self._refused(name, place, names.MIXED_SORT)
            stable = body["sort_options"]["maintain_order"] and together.ordered
            ordered = stable or self._decided(values[0], values[1:])
            return replace(self._apart(together), ordered=ordered, why=names.TIES)
        if name == "Explode":
            return self._apart(together)
        if not together.ordered:
            return self._refused(name, place, together.why, word)
        return _ONE if body.get("returns_scalar") else self._apart(together)

    def _filtered(self, values: list[Values], together: Values, by: Json) -> Values:
        if values[1].one or together.rows.startswith("#"):
            return self._apart(together)
        # Two columns that are filtered alike still stand side by side.
        rows = f"{together.rows} {json.dumps(by)}"
        value = values[0]
        return replace(together, rows=rows, mixed=value.mixed, reads=value.reads, pins=value.pins)

    def _greatest(self, values: list[Values], place: Place) -> Values:
        value, _, *by = values
        together = self._together("TopKBy", values, place)
        if not self._decided(value, by):
            return self._refused("TopKBy", place, names.TIES)
        return replace(self._apart(together), ordered=False)

    def _decided(self, value: Values, by: Sequence[Values]) -> bool:
        """Whether values of rows that are equal in ``by`` are equal."""
        known: frozenset[str] = frozenset().union(*(b.pins for b in by))
        return not value.placed and self._group.decides(known, value.reads)

    def _apart(self, values: Values) -> Values:
        """Values that stand beside no row any more."""
        return replace(values, one=False, rows=self._new(), placed=True, pins=frozenset())

    def _refused(
        self, key: str, place: Place, reason: Reason | None = None, word: str = ""
    ) -> Values:
        self._inspector.refuse(key, place, reason, word=word)
        return _ONE  # reported once


def _picked(name: str, body: Json) -> list[Json]:
    """What is rearranged and what by, without a fixed set of positions."""
    taken = list(parts(name, body))
    if name == "Gather" and not form.depends_on_rows(body["idx"]):
        return taken[:1]
    return taken
