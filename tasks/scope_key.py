"""Walks the plan of a job of scope ``key`` and collects what looks at rows of other keys.

All rows that are equal in the keys (null is equal to null, and NaN to NaN) lie in one part, in
any order, beside rows of other keys. So grouping is fine where it goes by all keys, as long as
they are the input's own: a key that was computed anew may join rows of several parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from headwater.infra.errors import UnknownName
from headwater.tasks import scope_json as form
from headwater.tasks import scope_names as names
from headwater.tasks.scope_groups import Group, Groups, pins
from headwater.tasks.scope_json import Columns, Json
from headwater.tasks.scope_names import Reason
from headwater.tasks.scope_rows import Frame, Place, RefusedPlan, RowInspector, described, shown

_PAIRED = ("Inner", "Left", "Semi", "Anti")
"""Joins of the main input with itself whose rows follow from the rows of one key."""


class KeyInspector(RowInspector):
    """Walks one plan and collects what looks across keys.

    Args:
        keys: Columns of the main input.

    Attributes:
        groupings: For each thing that groups, the columns of the input that it goes by.
    """

    def __init__(self, main: Path, sides: Collection[Path], keys: Sequence[str]) -> None:
        super().__init__(main, sides)
        self._keys = tuple(keys)
        self.groupings: list[frozenset[str]] = []

    def _without(self, columns: Iterable[str], frame: Frame) -> Reason | None:
        """Why grouping by ``columns`` of ``frame`` is refused."""
        return self._ungrouped({frame.own[c] for c in columns if c in frame.own}, frame)

    def _ungrouped(self, inputs: Collection[str], frame: Frame) -> Reason | None:
        self.groupings.append(frozenset(inputs))
        missing = [key for key in self._keys if key not in inputs]
        if not missing:
            return None
        held = set(frame.own.values())
        return names.without_keys(missing, [key for key in missing if key not in held])

    def _source(self, name: str, body: Json) -> Frame:
        frame = super()._source(name, body)
        if not frame.main:
            return frame
        schema = frame.columns.schema()
        if schema is None:
            raise RefusedPlan("scan of the main input", names.UNKNOWN_FORM)
        for key in self._keys:
            if key not in schema:
                raise UnknownName.of("column", key, schema, where="the input, as a key")
        return replace(frame, own={column: column for column in schema})

    # -- nodes with one input ------------------------------------------------------------------

    def _single(self, name: str, body: Json, frame: Frame) -> None:
        if name == "GroupBy":
            self._group_by(body, frame)
        elif name == "Distinct":
            self._unique(body, frame)
        elif name == "Sort":
            self._exprs(body["by_column"], "sort", frame)
            if body["slice"] is not None or body["sort_options"]["limit"] is not None:
                self.add("top_k", described(name, body)[1], names.POSITION)
        else:
            super()._single(name, body, frame)

    def _group_by(self, body: Json, frame: Frame) -> None:
        word, text = described("GroupBy", body)
        if body["options"]["dynamic"] or body["options"]["rolling"]:
            self.add(word, text, names.ORDER)
            return
        if body["options"]["slice"] is not None:
            self.add("slice", text, names.POSITION)
        self._exprs(body["keys"], "group_by", frame)
        by = _held(body["keys"], frame)
        why = self._without(by, frame)
        if why is not None:
            self.add(word, text, why)
        elif body["apply"] is not None:
            self.add("map_groups", text, names.OPAQUE)
        else:
            groups = Groups(self, self._group(frame, by))
            for verb, exprs in (("having", body["predicates"]), ("agg", body["aggs"])):
                for expr in exprs:
                    groups.aggregate(expr, Place(verb, expr, frame.columns, frame=frame))

    def _unique(self, body: Json, frame: Frame) -> None:
        subset, keep = body["options"]["subset"], body["options"]["keep_strategy"]
        if subset is None:
            by, text = frozenset(frame.columns.schema() or ()), "unique()"
        else:
            self._exprs(subset, "unique", frame)
            by, text = _held(subset, frame), f"unique({', '.join(map(shown, subset))})"
        why = self._without(by, frame)
        group = self._group(frame, by)
        schema = frame.columns.schema()
        alike = schema is not None and group.decides((), schema)
        if why is None and keep != "None" and not alike:
            if keep == "Any":
                why = names.KEEPS_ANY
            elif not frame.settled and not (schema and group.decides(frame.order, schema)):
                why = group.why
        if why is not None:
            self.add("unique", text, why)

    def _over(self, body: Json, place: Place) -> bool:
        frame = place.frame
        if frame is None or place.within_list:
            return super()._over(body, place)
        self._all(body["partition_by"], place)
        by = _held(body["partition_by"], frame)
        why = self._without(by, frame)
        if why is not None:
            return self.refuse("Over", place, why)
        group = self._group(frame, by)
        if body["order_by"] is not None:
            order, _ = body["order_by"]
            self._expr(order, place)
            columns = pins(order, frame.columns)
            lone = form.variant(order)[0] == "Selector" and len(columns) != 1
            group = group.sorted_by(frozenset() if lone else columns)
        Groups(self, group).window(body["function"], form.variant(body["mapping"])[0], place)
        return True

    def _group(self, frame: Frame, constant: frozenset[str]) -> Group:
        why = names.TIES if frame.order else names.ARRIVAL
        return Group(frame.columns, constant, frame.order, frame.settled, frame.unique, why)

    def _after(self, name: str, body: Json, frame: Frame) -> Frame:
        after = super()._after(name, body, frame)
        schema = frame.columns.schema() if frame.main else None
        if after is frame or schema is None:
            return after
        same: dict[str, str] = {column: column for column in schema}
        if name == "Sort":
            return self._sorted(body, frame, after)
        if name == "HStack":
            return _carrying(frame, after, _carried(body["exprs"], frame, same))
        if name == "Select":
            return _carrying(frame, after, _carried(body["expr"], frame, {}))
        if name == "GroupBy":
            unordered = replace(frame, order=frozenset(), settled=False, unique=None)
            grouped = _carrying(unordered, after, _carried(body["keys"], frame, {}))
            outputs = [frame.columns.names(e) for e in body["keys"]]
            if any(o is None for o in outputs):
                return grouped
            return replace(grouped, unique=frozenset(n for o in outputs for n in o or ()))
        if name == "Distinct":
            return _distinct(body, frame, after)
        if name == "MatchToSchema":
            given = _types(after.columns)
            alike = {c: c for c in same if given.get(c) == schema[c]}
            return _carrying(frame, after, alike)
        if name == "MapFunction":
            return _mapped(body, frame, after, same)
        return after

    def _sorted(self, body: Json, frame: Frame, after: Frame) -> Frame:
        in_key = frozenset(c for c, source in frame.own.items() if source in self._keys)
        by = frozenset[str]().union(*(pins(e, frame.columns) for e in body["by_column"]))
        stable = body["sort_options"]["maintain_order"]
        group = self._group(frame, in_key).sorted_by(by, stable=stable)
        return replace(frame, columns=after.columns, order=group.order, settled=group.settled)

    # -- nodes with several inputs -------------------------------------------------------------

    def _several(self, name: str, body: Json, frames: Sequence[Frame]) -> Frame:
        result = super()._several(name, body, frames)
        if name == "Union" and all(f.main for f in frames):
            given = _types(result.columns)
            own = {
                column: source
                for column, source in frames[0].own.items()
                if all(f.own.get(column) == source for f in frames)
                and all(_types(f.columns).get(column) == given.get(column) for f in frames)
            }
            return replace(result, own=own)
        if name == "Join" and result.main:
            left, right = frames
            return _joined(body, left, right, result)
        return result

    def _join(self, body: Json, left: Frame, right: Frame, result: Frame) -> None:
        args = body["options"]["args"]
        how, _ = form.variant(args["how"])
        kind, condition = form.variant(body["condition"])
        if not (left.main and right.main and how in _PAIRED and kind == "Equi"):
            super()._join(body, left, right, result)
            return
        text = f"join(how='{how.lower()}')"
        if args["slice"] is not None:
            self.add("slice", text, names.POSITION)
        self._exprs([pair[0] for pair in condition["on"]], "join key", left)
        self._exprs([pair[1] for pair in condition["on"]], "join key", right)
        shared = set[str]()
        for one, other in condition["on"]:
            sources = [
                {f.own[c] for c in _held([e], f) if c in f.own}
                for e, f in ((one, left), (other, right))
            ]
            shared |= sources[0] & sources[1]
        why = self._ungrouped(shared, left)
        if why is not None:
            self.add("join", text, why)


def _types(columns: Columns) -> Mapping[str, pl.DataType]:
    return columns.schema() or pl.Schema()


def _held(exprs: Iterable[Json], frame: Frame) -> frozenset[str]:
    """Columns of ``frame`` that are among the expressions as they are."""
    carried = [frame.columns.carried(e) or {} for e in exprs]
    return frozenset(c for one in carried for c in one.values() if c is not None)


def _carried(exprs: Iterable[Json], frame: Frame, kept: Mapping[str, str]) -> dict[str, str]:
    """The columns after a verb, each with the one that it held before; only those that did.

    Args:
        kept: Columns that stay where the expressions give no other.
    """
    result = dict(kept)
    for expr in exprs:
        carried = frame.columns.carried(expr)
        if carried is None:
            return {}
        for column, source in carried.items():
            result.pop(column, None)
            if source is not None:
                result[column] = source
    return result


def _carrying(frame: Frame, after: Frame, carried: Mapping[str, str]) -> Frame:
    """``after`` with what is known of the columns that it took over from ``frame``."""
    now: dict[str, str] = {}
    for column, source in carried.items():
        now.setdefault(source, column)
    unique = frame.unique
    if unique is not None:
        unique = frozenset(now[c] for c in unique) if unique <= now.keys() else None
    return replace(
        after,
        own={c: frame.own[source] for c, source in carried.items() if source in frame.own},
        order=frozenset(c for c, source in carried.items() if source in frame.order),
        settled=frame.settled,
        unique=unique,
    )


def _all_held(subset: Sequence[Json] | None, frame: Frame) -> frozenset[str] | None:
    """The columns that a subset is, ``None`` for all; ``None`` where it computes any."""
    if subset is None:
        return frozenset(frame.columns.schema() or ())
    carried = [frame.columns.carried(e) for e in subset]
    if any(one is None or None in one.values() for one in carried):
        return None
    return _held(subset, frame)


def _distinct(body: Json, frame: Frame, after: Frame) -> Frame:
    options = body["options"]
    unique = frame.unique
    if unique is None:
        unique = _all_held(options["subset"], frame)
    if not options["maintain_order"]:
        frame = replace(frame, order=frozenset(), settled=False)
    return replace(frame, columns=after.columns, unique=unique)


def _mapped(body: Json, frame: Frame, after: Frame, same: Mapping[str, str]) -> Frame:
    function, payload = form.variant(body["function"])
    schema = _types(frame.columns)
    if function == "Rename":
        new = dict(zip(payload["existing"], payload["new"], strict=True))
        return _carrying(frame, after, {new.get(c, c): c for c in same})
    if function == "FillNan":
        return _carrying(frame, after, {c: c for c in same if not schema[c].is_float()})
    if function in ("Explode", "Unnest"):
        changed = _selected(payload["columns"], frame.columns)
        if changed is None:
            return after
        rest = _carrying(frame, after, {c: c for c in same if c not in changed})
        return replace(rest, unique=None) if function == "Explode" else rest
    if function == "Unpivot":
        index = _selected(payload["args"]["index"], frame.columns) or []
        unordered = replace(frame, order=frozenset(), settled=False, unique=None)
        return _carrying(unordered, after, {c: c for c in index})
    return after


def _selected(selector: Json, columns: Columns) -> list[str] | None:
    return columns.names({"Selector": selector})


def _joined(body: Json, left: Frame, right: Frame, result: Frame) -> Frame:
    """What is known of the columns of a join, at least one side of which holds main rows."""
    args = body["options"]["args"]
    how, _ = form.variant(args["how"])
    kind, condition = form.variant(body["condition"])
    pairs = condition["on"] if kind == "Equi" else []
    if not left.main:
        if how not in ("Inner", "Right", "Cross") or args["coalesce"] == "KeepColumns":
            return result
        return replace(result, own=_own_from_right(how, pairs, left, right))
    on = frozenset(c for _, e in pairs for c in _held([e], right))
    single = (
        how in ("Semi", "Anti")
        or args["validation"] in ("ManyToOne", "OneToOne")
        or (right.main and right.unique is not None and right.unique <= on)
    )
    same = {column: column for column in left.columns.schema() or ()}
    if how not in (*_PAIRED, "Cross", "AsOf"):
        return result
    if not single:
        left = replace(left, unique=None)
    if not single or args["maintain_order"] not in ("Left", "LeftRight"):
        left = replace(left, order=frozenset(), settled=False)
    return _carrying(left, result, same)


def _own_from_right(
    how: str, pairs: Sequence[Sequence[Json]], left: Frame, right: Frame
) -> dict[str, str]:
    """Columns of the main input after a side table was joined with it."""
    taken = frozenset(left.columns.schema() or ())
    found: dict[str, str] = {}
    for column, source in right.own.items():
        ends = [one for one, other in pairs if _held([other], right) == {column}]
        if not ends and column not in taken:
            found[column] = source
        for one in ends:
            if how == "Inner" and len(held := _held([one], left)) == 1:
                found[next(iter(held))] = source  # equal in both, kept under the left name
            elif how == "Right" and _plain_name(one) == column:
                found[column] = source
    return found


def _plain_name(expr: Json) -> str:
    """The column that a plain expression is; empty for others."""
    match expr:
        case {"Column": str(name)}:
            return name
    return ""
