"""Does a job look at one row at a time? Judged from its plan, before anything starts.

A part is an accident of size, so a job of scope ``rows`` must give the same rows for any cut of
its input. Only what is known to be row-wise passes (``scope_names``); all else is refused by name.

The plan is read as the JSON that Polars writes for it: the plan as the user wrote it, with every
option. The optimised plan that Polars shows to other engines would be typed, but it leaves out
most list and category functions, and pushes row numbers and slices into other nodes. The JSON is
deprecated and has no promised form, so every form that is not known is refused, and all contact
with it is in ``scope_json``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from headwater.infra.errors import ScopeViolation
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


def placeholder(path: Path, schema: pl.Schema) -> pl.LazyFrame:
    """A frame of ``schema`` to build a plan on; whoever collects it gets ``FileNotFoundError``.

    A job that collects while its plan is built looks at all rows without a trace in the plan:
    ``lf.filter(col("a") > lf.select(col("a").mean()).collect().item())``. On a file that does
    not exist it fails instead.

    Args:
        path: A path where no file is; ``row_scope_violations`` knows the input by it.
        schema: Columns of the input.
    """
    if path.exists():
        raise ValueError(f"{path} exists, so a job could read it while its plan is built")
    return pl.scan_parquet(path, schema=schema, glob=False)


def row_scope_violations(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path]
) -> tuple[Violation, ...]:
    """What in ``plan`` does not look at one row of ``main`` at a time; empty when it all does.

    Frames made inside the job (``pl.DataFrame(...).lazy()``) count as side tables. A subtree of
    side tables alone may do anything, as each worker holds them whole.

    Args:
        plan: What the job returned; its columns resolve (``collect_schema`` passes).
        main: Path of the Parquet file that stands for the main input.
        sides: Paths of the files that stand for the side tables.
    """
    return inspected(plan, Inspector(main, sides))


def inspected(plan: pl.LazyFrame, inspector: Inspector) -> tuple[Violation, ...]:
    """What ``inspector`` finds in ``plan``."""
    try:
        root = inspector.whole(form.written(plan))
    except form.UnwritablePlan as exc:
        inspector.add("plan", str(exc), names.UNWRITABLE)
    except _Refused as exc:
        inspector.add("plan", str(exc), exc.reason)
    except RecursionError:
        inspector.add("plan", "plan", names.TOO_DEEP)
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        where = f"Polars {pl.__version__}, {type(exc).__name__}: {exc}"
        inspector.add("plan", where, names.UNKNOWN_FORM)
    else:
        if not root.main and not inspector.found:
            inspector.add("plan", "result", names.NO_MAIN)
    return tuple(inspector.found)


def require_row_scope(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], job_name: str
) -> None:
    """Returns when ``plan`` looks at one row at a time.

    Raises:
        ScopeViolation: It does not; the message names each node, the hint says what to do.
    """
    require_none(
        row_scope_violations(plan, main, sides),
        f"job {job_name} does not give the same rows for any cut of its input:",
    )


def require_none(violations: Sequence[Violation], said: str) -> None:
    """Returns when there are no violations.

    Args:
        said: What is wrong where there are some.
    Raises:
        ScopeViolation: The message names each node, the hint says what to do.
    """
    if violations:
        lines = [f"\n  - {v.node}, in {v.where}: {v.reason}" for v in violations]
        hints = dict.fromkeys(v.hint for v in violations if v.hint)
        raise ScopeViolation(f"{said}{''.join(lines)}", hint="; ".join(hints))


def require_known_sources(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], job_name: str
) -> None:
    """Returns when a plan over all rows reads its input and side tables and nothing else.

    Raises:
        ScopeViolation: It scans another file, whose version nobody pinned, or not its input.
    """
    wrong = (names.UNPINNED.text, names.NO_MAIN.text)
    require_none(
        [v for v in row_scope_violations(plan, main, sides) if v.reason in wrong],
        f"job {job_name} does not read what it was given:",
    )


class _Refused(Exception):
    """The plan as a whole cannot be judged."""

    def __init__(self, where: str, reason: Reason) -> None:
        super().__init__(where)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """What one plan node gives: whether from rows of the main input, and its columns."""

    main: bool
    columns: Columns


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression stands.

    Attributes:
        verb: Of the plan, as ``with_columns``.
        whole: The expression that the verb was given.
        columns: Of the rows it is evaluated on.
        within_list: Those rows are the values of one row's list.
        struct: What ``pl.field`` takes its fields from.
    """

    verb: str
    whole: Json
    columns: Columns
    within_list: bool = False
    struct: Json = None


class Inspector:
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
                raise _Refused(f"plan node {name}", names.UNKNOWN_FORM)
            inputs = form.inputs(name, body)
            if len(inputs) != 1 or name == "Union":
                break
            spine.append((name, body))
            node = inputs[0]
        if inputs:
            frame = self.several(name, body, [self.plan(child) for child in inputs])
        else:
            frame = self._source(name, body)
        for name, body in reversed(spine):
            if frame.main:
                self.single(name, body, frame)
            if name not in ("IR", "Cache", "Filter"):
                frame = replace(frame, columns=Columns(name, body, [frame.columns]))
        return frame

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

    def several(self, name: str, body: Json, frames: Sequence[Frame]) -> Frame:
        """Judges a node with several inputs."""
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
            raise _Refused(f"join on {kind}", names.UNKNOWN_FORM)

    def single(self, name: str, body: Json, frame: Frame) -> None:
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
            word, text = _described(name, body)
            self.add(word, text, names.PLAN_REFUSED.get(name, names.UNKNOWN))

    def _exprs(self, exprs: Sequence[Json], verb: str, frame: Frame) -> list[bool]:
        """Judges the expressions of one verb; says of each whether it spans the rows."""
        return [self.expr(e, Place(verb, e, frame.columns)) for e in exprs]

    def refuse(
        self, key: str, place: Place, reason: Reason | None = None, *, word: str = ""
    ) -> bool:
        """Records one violation of an expression."""
        why = reason or names.REFUSED.get(key, names.UNKNOWN)
        self.add(word or spelled(key), f"{shown(place.whole)} in {place.verb}", why)
        return True  # whether it spans the rows no longer matters

    def _all(self, exprs: Sequence[Json], place: Place) -> bool:
        spans_rows = [self.expr(e, place) for e in exprs]  # all of them, to report each
        return any(spans_rows)

    def expr(self, expr: Json, place: Place) -> bool:
        """Judges one expression; whether it gives one value for each row, and not one in all."""
        name, body = form.variant(expr)
        if name in ("Column", "Field") or (name == "Element" and place.within_list):
            return True
        if name == "Selector":
            return bool(_dtypes(expr, place))
        if name == "DataTypeFunction":  # a property of the schema
            return False
        if name == "Literal":
            return self._literal(expr, body, place)
        if name == "Alias":
            return self.expr(body[0], place)
        if name == "KeepName":
            return self.expr(body, place)
        if name == "Function":
            return self._function(expr, body, place)
        if name == "AnonymousFunction":
            return self._udf(body, place)
        if name == "Eval":
            return self._eval(body, place)
        if name == "StructEval":
            spans = self.expr(body["expr"], place)
            self._all(body["evaluation"], replace(place, struct=body["expr"]))
            return spans
        if name == "Agg":
            key = f"Agg.{form.variant(body)[0]}"
            if place.within_list and key in names.WITHIN_LIST:
                return self.expr(form.aggregated(body), place)
            return self.refuse(key, place)
        allowed = name in _ROW_WISE_NODES or (place.within_list and name in names.WITHIN_LIST)
        if not allowed:
            word = _slice_word(body) if name == "Slice" else ""
            return self.refuse(name, place, word=word)
        if name == "Len":
            return True
        if name == "Cast" and self._may_have_categories(expr, place):
            self._cast(expr, body, place)
        return self._all(list(_parts(name, body)), place)

    def _literal(self, expr: Json, body: Json, place: Place) -> bool:
        kind, _ = form.variant(body)
        if kind in ("Dyn", "Scalar"):
            return False
        # A Series of one value acts as a scalar; any other fits only parts of its own length.
        if kind == "Series" and pl.select(form.expression(expr)).height == 1:
            return False
        return self.refuse(f"literal {kind}", place, names.LENGTH)

    def _function(self, expr: Json, body: Json, place: Place) -> bool:
        key, payload = form.function(body["function"])
        inputs = body["input"]
        within = place.within_list and key in names.WITHIN_LIST
        if key not in names.ROW_WISE and not within:
            return self.refuse(key, place, word=_function_word(key, payload))
        inferred = key == "StringExpr.Strptime" and payload[1]["format"] is None
        if inferred and form.depends_on_rows(inputs[0]):  # one text has one format everywhere
            return self.refuse(key, place, names.INFERRED)
        if key == "Rank" and payload["options"]["method"] == "Random":
            return self.refuse(key, place, names.RANDOM)
        if self._may_have_categories(expr, place) and not self._treats_categories_as_text(
            key, expr, inputs, place
        ):
            return True
        one = names.ONE_VALUE_ARGUMENTS.get(key)
        if one is not None and form.depends_on_rows(inputs[one]):
            return self.refuse(key, place, names.ONE_VALUE)
        as_set = names.SET_ARGUMENTS.get(key, ())
        for index in as_set:
            if index < len(inputs) and not self._set_is_fixed(inputs[0], inputs[index], place):
                return self.refuse(key, place, names.SET_OF_ROWS)
        return self._all([e for i, e in enumerate(inputs) if i not in as_set], place)

    def _set_is_fixed(self, value: Json, values: Json, place: Place) -> bool:
        """Whether a set of values is the same for all rows, or each row brings its own list."""
        if not form.depends_on_rows(values):
            return True
        types, own = _dtypes(values, place), _dtypes(value, place)
        if not types or not own:
            return False
        # A column of lists looked up in a column of the same lists is a set of rows again.
        each_brings_its_list = all(
            isinstance(t, (pl.List, pl.Array)) and form.depth(t) == form.depth(o) + 1
            for t in types
            for o in own
        )
        if each_brings_its_list:
            self.expr(values, place)  # a list for each row, if this finds nothing
        return each_brings_its_list

    def _udf(self, body: Json, place: Place) -> bool:
        flags = body["options"]["flags"].split(" | ")
        row_wise = {"ROW_SEPARABLE", "LENGTH_PRESERVING"}.issubset(flags)
        if not row_wise or "RETURNS_SCALAR" in flags:
            return self.refuse("AnonymousFunction", place, names.OPAQUE)
        if not form.udf_has_dtype(body["function"]):
            return self.refuse("AnonymousFunction", place, names.UNTYPED_UDF)
        return self._all(body["input"], place)

    def _eval(self, body: Json, place: Place) -> bool:
        variant, _ = form.variant(body["variant"])
        if variant not in ("List", "ListAgg", "Array", "ArrayAgg"):
            return self.refuse(f"Eval.{variant}", place)
        types = _dtypes(body["expr"], place)
        inner = [t.inner for t in types or () if isinstance(t, (pl.List, pl.Array))]
        if inner and all(t == inner[0] for t in inner):
            columns = Columns.of(pl.Schema({"": inner[0]}))
        else:
            columns = Columns.of(None)
        within = replace(place, columns=columns, within_list=True, struct=None)
        self.expr(body["evaluation"], within)
        return self.expr(body["expr"], place)

    def _may_have_categories(self, expr: Json, place: Place) -> bool:
        # Inside a list the values are no named column.
        return self._categories and (place.within_list or place.columns.may_have_categories(expr))

    def _cast(self, expr: Json, body: Json, place: Place) -> None:
        """Refuses a cast that turns categories into their codes, or codes into categories."""
        before, after = _dtypes(body["expr"], place), _dtypes(expr, place)
        if before is None or after is None:
            self.refuse("Cast", place, names.UNTYPED)
            return
        for old, new in zip(before, after, strict=True):
            coded = form.has_categories(old) and not form.is_text(new)
            if coded or (form.has_categories(new) and not form.is_text(old)):
                self.refuse("Cast", place, names.PHYSICAL)

    def _treats_categories_as_text(
        self, key: str, expr: Json, inputs: list[Json], place: Place
    ) -> bool:
        """Whether a function is known not to look at codes of categories; refused if not.

        Codes differ between workers. Many functions read them without saying so: the greatest
        of a row, and every argument that is a number of things.
        """
        if key in names.CATEGORIES_AS_TEXT:
            return True
        if key == "Categorical.To":
            looked_at = [expr]
        else:
            looked_at = inputs[1:] if key in names.FIRST_CATEGORY_AS_TEXT else inputs
        for value in looked_at:
            types = _dtypes(value, place)
            if types is None:
                self.refuse(key, place, names.UNTYPED)
                return False
            if any(form.has_categories(t, listed=key == "Hash") for t in types):
                self.refuse(key, place, names.PHYSICAL)
                return False
        return True


def _dtypes(expr: Json, place: Place) -> list[pl.DataType] | None:
    return place.columns.dtypes(expr, place.struct)


def _function_word(key: str, options: Json) -> str:
    """How users write a function whose options say more than its name; empty for others."""
    if key == "Random":
        return form.variant(options["method"])[0].lower()
    if key == "RollingExpr":
        return f"rolling_{spelled(form.variant(options['function'])[0])}"
    if key == "RollingExprBy":
        return f"rolling_{spelled(options['function_by'])}"
    return ""


def _parts(name: str, body: Json) -> Iterator[Json]:
    for field in _PARTS[name]:
        part = body[field]
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


def _slice_word(body: Json) -> str:
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


def _described(name: str, body: Json) -> tuple[str, str]:
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
