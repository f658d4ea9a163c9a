"""Walks the plan of a job of scope ``rows`` and collects what does not look at one row at a time.

The plan is read as the JSON that Polars writes for it: the plan as the user wrote it, with every
option. The optimised plan that Polars shows to other engines would be typed, but it leaves out
most list and category functions, and pushes row numbers and slices into other nodes. The JSON is
deprecated and has no promised form, so every form that is not known is refused, and all contact
with it is in ``scope_json``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from headwater.tasks import scope_json as form
from headwater.tasks import scope_names as names
from headwater.tasks.scope_json import Columns, Json
from headwater.tasks.scope_names import Reason, spelled

_TEXT_LENGTH = 160
"""Longer expressions are cut in messages."""

_PARTS = {
    "RenameAlias": ("expr",),
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Ternary": ("predicate", "truthy", "falsy"),
    "Sort": ("expr",),
    "SortBy": ("expr", "by"),
    "Gather": ("expr", "idx"),
    "Filter": ("input", "by"),
    "Slice": ("input", "offset", "length"),
}
"""Expression nodes with nothing but sub-expressions in these fields to judge."""

_ROW_WISE_NODES = frozenset({"RenameAlias", "BinaryExpr", "Cast", "Ternary"})


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in a plan that does not look at one row at a time.

    Attributes:
        node: What Polars' users call it, as ``mean`` or ``group_by``.
        where: The expression and the verb it stands in, or the plan's node.
        reason: Why its result would depend on the cut.
        hint: What to do instead.
    """

    node: str
    where: str
    reason: str
    hint: str = ""


class RefusedPlan(Exception):
    """The plan as a whole cannot be judged."""

    def __init__(self, where: str, reason: Reason) -> None:
        super().__init__(where)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """What one plan node gives; all but the first two is for the scope ``key``.

    Attributes:
        main: Whether its rows come from the main input.
        columns: Names and types.
        own: Its columns that hold a column of the main input unchanged, with that one's name.
        order: Within a key, the values of these columns come in an order that only data decide.
        settled: Within a key, whole rows do, but for rows that are equal throughout.
        unique: No two rows are equal in these; ``None`` where nothing is known.
    """

    main: bool
    columns: Columns
    own: Mapping[str, str] = field(default_factory=dict)
    order: frozenset[str] = frozenset()
    settled: bool = False
    unique: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression stands.

    Attributes:
        verb: Of the plan, as ``with_columns``.
        whole: The expression that the verb was given.
        columns: Of the rows it is evaluated on.
        within_list: Those rows are the values of one row's list.
        struct: What ``pl.field`` takes its fields from.
        frame: Those rows.
    """

    verb: str
    whole: Json
    columns: Columns
    within_list: bool = False
    struct: Json = None
    frame: Frame | None = None


class RowInspector:
    """Walks one plan and collects what is not row-wise."""

    def __init__(self, main: Path, sides: Collection[Path]) -> None:
        self._main = main.resolve()
        self._sides = frozenset(side.resolve() for side in sides)
        self._categories = True
        self.found: list[Violation] = []

    def add(self, node: str, where: str, reason: Reason) -> None:
        """Records one violation, once."""
        violation = Violation(node, where, reason.text, reason.hint)
        if violation not in self.found:
            self.found.append(violation)

    def whole(self, plan: Json) -> Frame:
        """Judges a whole plan."""
        self._categories = form.may_have_categories(plan)
        return self.plan(plan)

    def plan(self, node: Json) -> Frame:
        """Judges a plan from its sources up, and returns what its top node gives."""
        # A loop, not a recursion, down to the first node with several inputs: plans of hundreds
        # of with_columns are common.
        spine: list[tuple[str, Json]] = []
        while True:
            name, body = form.variant(node)
            if name not in names.PLAN_INPUTS:
                raise RefusedPlan(f"plan node {name}", names.UNKNOWN_FORM)
            inputs = form.inputs(name, body)
            if len(inputs) != 1 or name == "Union":
                break
            spine.append((name, body))
            node = inputs[0]
        if inputs:
            frame = self._several(name, body, [self.plan(child) for child in inputs])
        else:
            frame = self._source(name, body)
        for name, body in reversed(spine):
            if frame.main:
                self._single(name, body, frame)
            frame = self._after(name, body, frame)
        return frame

    def _after(self, name: str, body: Json, frame: Frame) -> Frame:
        """What a node with the one input ``frame`` gives."""
        if name in ("IR", "Cache", "Filter"):
            return frame
        return Frame(frame.main, Columns(name, body, [frame.columns]))

    def _source(self, name: str, body: Json) -> Frame:
        if name == "PythonScan":
            self.add(spelled(name), "source", names.UNPINNED)
            return Frame(main=False, columns=Columns(name, body, ()))
        if name == "DataFrameScan":
            return Frame(main=False, columns=Columns(name, body, ()))
        sources = body["sources"]
        paths = [Path(p["inner"]).resolve() for p in sources.get("Paths", ())]
        main = paths == [self._main]
        if not main and not (paths and self._sides.issuperset(paths)):
            where = ", ".join(map(str, paths)) or "bytes or open files"
            self.add("scan", where[:_TEXT_LENGTH], names.UNPINNED)
        if main:
            # Polars moves these two into the scan while the plan is being written.
            if body["unified_scan_args"]["row_index"] is not None:
                self.add("with_row_index", "with_row_index()", names.POSITION)
            if body["unified_scan_args"]["pre_slice"] is not None:
                self.add("slice", "slice()", names.POSITION)
        return Frame(main, Columns(name, body, ()))

    def _several(self, name: str, body: Json, frames: Sequence[Frame]) -> Frame:
        result = Frame(
            any(f.main for f in frames), Columns(name, body, [f.columns for f in frames])
        )
        if not result.main:
            return result
        if name == "Join":
            self._join(body, frames[0], frames[1], result)
        elif name == "Union":
            if not all(f.main for f in frames):
                self.add("concat", "concat()", names.REPEATS)
        else:
            self.add(spelled(name), f"{spelled(name)}()", names.PLAN_REFUSED[name])
        return result

    def _join(self, body: Json, left: Frame, right: Frame, result: Frame) -> None:
        args = body["options"]["args"]
        how, options = form.variant(args["how"])
        text = "join_asof()" if how == "AsOf" else f"join(how='{how.lower()}')"
        node = text.partition("(")[0]
        if left.main and right.main:
            self.add(node, text, names.SELF_JOIN)
            return
        one_sided = ("Left", "Semi", "Anti", "AsOf") if left.main else ("Right",)
        if how not in ("Inner", "Cross", *one_sided):
            self.add(node, text, names.REPEATS)
        if how == "AsOf" and (options["left_by"] or not options["check_sortedness"]):
            self.add(node, text, names.ASOF)
        if args["validation"] not in ("ManyToMany", "ManyToOne" if left.main else "OneToMany"):
            self.add(node, f"join(validate='{_validate(args['validation'])}')", names.VALIDATES)
        if args["slice"] is not None:
            self.add("slice", text, names.POSITION)
        kind, condition = form.variant(body["condition"])
        if kind == "Equi":
            keys = [pair[0 if left.main else 1] for pair in condition["on"]]
            self._exprs(keys, "join key", left if left.main else right)
        elif kind == "NonEqui":
            self._exprs(condition["predicates"], "join_where", result)
        else:
            raise RefusedPlan(f"join on {kind}", names.UNKNOWN_FORM)

    def _single(self, name: str, body: Json, frame: Frame) -> None:
        """Judges a node with one input that holds rows of the main input."""
        if name in ("IR", "Cache"):
            return
        if name == "Filter":
            self._exprs([body["predicate"]], "filter", frame)
        elif name == "HStack":
            self._exprs(body["exprs"], "with_columns", frame)
        elif name == "Select":
            known = len(self.found)
            spans_rows = self._exprs(body["expr"], "select", frame)
            if not any(spans_rows) and len(self.found) == known:
                texts = ", ".join(shown(e) for e in body["expr"])
                self.add("select", f"select({texts})"[:_TEXT_LENGTH], names.LITERALS)
        elif name == "MatchToSchema":
            for column in body["per_column"]:
                action, value = form.variant(column["missing_columns"])
                if action == "InsertWith":
                    self._exprs([value], "match_to_schema", frame)
        elif name == "MapFunction":
            function, payload = form.variant(body["function"])
            if function == "FillNan":
                self._exprs([payload], "fill_nan", frame)
            elif function == "Stats":
                statistic = form.variant(payload)[0].lower()
                self.add(statistic, f"{statistic}()", names.AGGREGATE)
            elif function not in ("Explode", "Unpivot", "Rename", "Unnest"):
                word = spelled(function)
                self.add(word, f"{word}()", names.PLAN_REFUSED.get(function, names.UNKNOWN))
        else:
            word, text = described(name, body)
            self.add(word, text, names.PLAN_REFUSED.get(name, names.UNKNOWN))

    def _exprs(self, exprs: Sequence[Json], verb: str, frame: Frame) -> list[bool]:
        """Judges the expressions of one verb; says of each whether it spans the rows."""
        return [self._expr(e, Place(verb, e, frame.columns, frame=frame)) for e in exprs]

    def refuse(
        self, key: str, place: Place, reason: Reason | None = None, *, word: str = ""
    ) -> bool:
        """Records that the expression of ``place`` holds what plans call ``key``."""
        why = reason or names.REFUSED.get(key, names.UNKNOWN)
        self.add(word or spelled(key), f"{shown(place.whole)} in {place.verb}", why)
        return True  # whether it spans the rows no longer matters

    def _all(self, exprs: Sequence[Json], place: Place) -> bool:
        spans_rows = [self._expr(e, place) for e in exprs]  # all of them, to report each
        return any(spans_rows)

    def _expr(self, expr: Json, place: Place) -> bool:
        """Judges one expression; whether it gives one value for each row, and not one in all."""
        name, body = form.variant(expr)
        if name in ("Column", "Field") or (name == "Element" and place.within_list):
            return True
        if name == "Selector":
            return bool(_dtypes(expr, place))
        if name == "DataTypeFunction":  # a property of the schema
            return False
        if name == "Literal":
            self.judge_literal(expr, body, place)
            return False
        if name == "Alias":
            return self._expr(body[0], place)
        if name == "KeepName":
            return self._expr(body, place)
        if name == "Function":
            return self._function(expr, body, place)
        if name == "AnonymousFunction":
            return self._all(body["input"], place) if self.judge_udf(body, place) else True
        if name in ("Eval", "StructEval"):
            self.judge_evaluation(name, body, place)
            return self._expr(body["expr"], place)
        if name == "Over":
            return self._over(body, place)
        if name == "Agg":
            key = f"Agg.{form.variant(body)[0]}"
            if place.within_list and key in names.WITHIN_LIST:
                return self._expr(form.aggregated(body), place)
            return self.refuse(key, place)
        allowed = name in _ROW_WISE_NODES or (place.within_list and name in names.WITHIN_LIST)
        if not allowed:
            word = slice_word(body) if name == "Slice" else ""
            return self.refuse(name, place, word=word)
        if name == "Len":
            return True
        if name == "Cast":
            self.judge_cast(expr, body, place)
        return self._all(list(parts(name, body)), place)

    def _over(self, body: Json, place: Place) -> bool:  # noqa: ARG002 - for other scopes
        return self.refuse("Over", place)

    def judge_literal(self, expr: Json, body: Json, place: Place) -> None:
        """Refuses a literal of several values."""
        kind, _ = form.variant(body)
        if kind in ("Dyn", "Scalar"):
            return
        # A Series of one value acts as a scalar; any other fits only parts of its own length.
        if kind == "Series" and pl.select(form.expression(expr)).height == 1:
            return
        self.refuse(f"literal {kind}", place, names.LENGTH)

    def _function(self, expr: Json, body: Json, place: Place) -> bool:
        key, payload = form.function(body["function"])
        within = place.within_list and key in names.WITHIN_LIST
        if key not in names.ROW_WISE and not within:
            return self.refuse(key, place, word=function_word(key, payload))
        inputs = self.judge_function(expr, body, place)
        return True if inputs is None else self._all(inputs, place)

    def judge_function(self, expr: Json, body: Json, place: Place) -> list[Json] | None:
        """The inputs left to judge of a function whose name is allowed; ``None`` if refused."""
        key, payload = form.function(body["function"])
        inputs: list[Json] = body["input"]
        inferred = key == "StringExpr.Strptime" and payload[1]["format"] is None
        one = names.ONE_VALUE_ARGUMENTS.get(key)
        as_set = names.SET_ARGUMENTS.get(key, ())
        why: Reason | None = None
        if inferred and form.depends_on_rows(inputs[0]):  # one text has one format everywhere
            why = names.INFERRED
        elif key == "Rank" and payload["options"]["method"] == "Random":
            why = names.RANDOM
        elif self._may_have_categories(expr, place):
            why = self._reads_codes(key, expr, inputs, place)
        if why is None and one is not None and form.depends_on_rows(inputs[one]):
            why = names.ONE_VALUE
        sets = [inputs[index] for index in as_set if index < len(inputs)]
        if why is None and not all(self._set_is_fixed(inputs[0], s, place) for s in sets):
            why = names.SET_OF_ROWS
        if why is not None:
            self.refuse(key, place, why)
            return None
        return [e for i, e in enumerate(inputs) if i not in as_set or form.depends_on_rows(e)]

    def _set_is_fixed(self, value: Json, values: Json, place: Place) -> bool:
        """Whether a set of values is the same for all rows, or each row brings its own list."""
        if not form.depends_on_rows(values):
            return True
        types, own = _dtypes(values, place), _dtypes(value, place)
        if not types or not own:
            return False
        # A column of lists looked up in a column of the same lists is a set of rows again.
        return all(
            isinstance(t, (pl.List, pl.Array)) and form.depth(t) == form.depth(o) + 1
            for t in types
            for o in own
        )

    def judge_udf(self, body: Json, place: Place) -> bool:
        """Whether a Python function promises to look at one row at a time; refused if not."""
        flags = body["options"]["flags"].split(" | ")
        row_wise = {"ROW_SEPARABLE", "LENGTH_PRESERVING"}.issubset(flags)
        why: Reason | None = None
        if not row_wise or "RETURNS_SCALAR" in flags:
            why = names.OPAQUE
        elif not form.udf_has_dtype(body["function"]):
            why = names.UNTYPED_UDF
        if why is not None:
            self.refuse("AnonymousFunction", place, why)
        return why is None

    def judge_evaluation(self, name: str, body: Json, place: Place) -> None:
        """Judges what is evaluated inside each list or struct."""
        if name == "StructEval":
            self._all(body["evaluation"], replace(place, struct=body["expr"]))
            return
        variant, _ = form.variant(body["variant"])
        if variant not in ("List", "ListAgg", "Array", "ArrayAgg"):
            self.refuse(f"Eval.{variant}", place)
            return
        types = _dtypes(body["expr"], place)
        inner = [t.inner for t in types or () if isinstance(t, (pl.List, pl.Array))]
        if inner and all(t == inner[0] for t in inner):
            columns = Columns.of(pl.Schema({"": inner[0]}))
        else:
            columns = Columns.of(None)
        within = replace(place, columns=columns, within_list=True, struct=None)
        self._expr(body["evaluation"], within)

    def _may_have_categories(self, expr: Json, place: Place) -> bool:
        # Inside a list the values are no named column.
        return self._categories and (place.within_list or place.columns.may_have_categories(expr))

    def judge_cast(self, expr: Json, body: Json, place: Place) -> None:
        """Refuses a cast that turns categories into their codes, or codes into categories."""
        if not self._may_have_categories(expr, place):
            return
        before, after = _dtypes(body["expr"], place), _dtypes(expr, place)
        if before is None or after is None:
            self.refuse("Cast", place, names.UNTYPED)
            return
        for old, new in zip(before, after, strict=True):
            coded = form.has_categories(old) and not form.is_text(new)
            if coded or (form.has_categories(new) and not form.is_text(old)):
                self.refuse("Cast", place, names.PHYSICAL)

    def _reads_codes(self, key: str, expr: Json, inputs: list[Json], place: Place) -> Reason | None:
        """Why a function may look at codes of categories; ``None`` where it is known not to.

        Codes differ between workers. Many functions read them without saying so: the greatest
        of a row, and every argument that is a number of things.
        """
        if key in names.CATEGORIES_AS_TEXT:
            return None
        if key == "Categorical.To":
            looked_at = [expr]
        else:
            looked_at = inputs[1:] if key in names.FIRST_CATEGORY_AS_TEXT else inputs
        for value in looked_at:
            types = _dtypes(value, place)
            if types is None:
                return names.UNTYPED
            if any(form.has_categories(t, listed=key == "Hash") for t in types):
                return names.PHYSICAL
        return None


def _dtypes(expr: Json, place: Place) -> list[pl.DataType] | None:
    return place.columns.dtypes(expr, place.struct)


def function_word(key: str, options: Json) -> str:
    """How users write a function whose options say more than its name; empty for others."""
    if key == "Random":
        return form.variant(options["method"])[0].lower()
    if key == "RollingExpr":
        return f"rolling_{spelled(form.variant(options['function'])[0])}"
    if key == "RollingExprBy":
        return f"rolling_{spelled(options['function_by'])}"
    return ""


def parts(name: str, body: Json) -> Iterator[Json]:
    """The sub-expressions of a node that is made of nothing else."""
    for part_name in _PARTS[name]:
        part = body[part_name]
        if isinstance(part, list):
            yield from part
        else:
            yield part


def shown(expr: Json) -> str:
    """An expression as messages show it."""
    try:
        text = " ".join(str(form.expression(expr)).split())
    except PolarsError:
        text = json.dumps(expr)  # nested more deeply than Polars reads back
    return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 1] + "…"


def slice_word(body: Json) -> str:
    """How users write a slice inside an expression."""
    return _cut_word(_int(body["offset"]), _int(body["length"]))


def _int(expr: Json) -> int | None:
    """The whole number that an expression is, when it is one."""
    match expr:
        case {"Literal": {"Dyn": {"Int": int(value)}}}:
            return value
    return None


def _cut_word(offset: int | None, length: int | None) -> str:
    if offset == 0:
        return "head"
    return "tail" if offset is not None and length == -offset else "slice"


def described(name: str, body: Json) -> tuple[str, str]:
    """Word and text of a plan node: ``group_by``, ``group_by(col("a"))``."""
    if name == "Slice":
        offset, length = body["offset"], body["len"]
        word = _cut_word(offset, length)
        return word, f"{word}({length})" if word != "slice" else f"slice({offset}, {length})"
    if name == "GroupBy":
        options = body["options"]
        word = "rolling" if options["rolling"] else "group_by"
        if options["dynamic"]:
            word = "group_by_dynamic"
        return word, f"{word}({', '.join(shown(e) for e in body['keys'])})"
    if name == "Sort":
        return "sort", f"sort({', '.join(shown(e) for e in body['by_column'])})"
    return spelled(name), f"{spelled(name)}()"


def _validate(validation: str) -> str:
    return {"OneToOne": "1:1", "OneToMany": "1:m", "ManyToOne": "m:1"}.get(validation, validation)
