"""Does a job of scope ``key`` look at the rows of one key at a time? Judged from its plan.

Rows of one key are all in one part, in the order of the source, and how the keys are spread over
the parts is an accident. So whatever is done to the groups of a ``group_by``, a ``unique`` or an
``over`` is right where those have all the keys among their columns, as the source has them. What
looks across the rows of a part is refused, as for scope ``rows``, and so is a key that the plan has
made itself: only what is known to keep the keys does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError
from typing_extensions import override

from headwater.tasks import scope_json as form
from headwater.tasks.scope import Frame, Inspector, Place, Violation, inspected, require_none
from headwater.tasks.scope_json import Json
from headwater.tasks.scope_names import Reason

_KEEPING_JOINS = frozenset({"Inner", "Left", "Semi", "Anti"})
"""Joins with a side table that leave the columns of the left as they are."""


def require_key_scope(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], keys: Sequence[str], job_name: str
) -> None:
    """Returns when ``plan`` looks at rows of one key at a time.

    Args:
        main: Path of the Parquet file that stands for the main input.
        sides: Paths of the files that stand for the side tables.
        keys: Columns of the main input whose equal values make a key.
    Raises:
        ScopeViolation: It does not; the message names each node, the hint says what to do.
    """
    said = f"job {job_name} does not look at one key ({', '.join(keys)}) at a time:"
    require_none(key_scope_violations(plan, main, sides, keys), said)


def key_scope_violations(
    plan: pl.LazyFrame, main: Path, sides: Collection[Path], keys: Sequence[str]
) -> tuple[Violation, ...]:
    """What in ``plan`` looks across the rows of several keys; empty when nothing does."""
    return inspected(plan, _KeyInspector(main, sides, keys))


class _KeyInspector(Inspector):
    """Lets pass what looks across rows inside a key.

    The walk goes from the source to the result, so that what happened to the keys is known at
    each node.
    """

    def __init__(self, main: Path, sides: Collection[Path], keys: Sequence[str]) -> None:
        super().__init__(main, sides)
        self._keys = frozenset(keys)
        self._are_own = True
        word = ", ".join(f"'{key}'" for key in keys)
        self._without = Reason(
            f"it does not have all of {word} among its columns",
            "name all keys of @job(scope='key', keys=[...]) there, or declare fewer keys, or"
            " scope='whole'",
        )
        self._made = Reason(
            f"{word} may be no more what the source has there",
            "look across rows before the keys are changed, or declare scope='whole'",
        )

    @override
    def single(self, name: str, body: Json, frame: Frame) -> None:
        if name == "GroupBy" and _is_plain_group_by(body):
            self._require_keys(_columns(body["keys"]), "group_by")
            return
        if name == "Distinct":
            subset = body["options"]["subset"]
            chosen = body["options"]["keep_strategy"] != "Any" or subset is None
            if chosen:
                columns = self._keys if subset is None else _columns(subset)
                self._require_keys(columns, "unique")
                return
        if name == "Sort" and body["slice"] is None:
            return
        super().single(name, body, frame)
        if name == "HStack":
            self._are_own &= not any(self._may_change(expr) for expr in body["exprs"])
        elif name == "Select":
            self._are_own &= self._keys <= _columns(body["expr"])
        elif name not in ("Filter", "IR", "Cache"):
            self._are_own = False

    @override
    def several(self, name: str, body: Json, frames: Sequence[Frame]) -> Frame:
        result = super().several(name, body, frames)
        if result.main:
            keeps = name == "Join" and frames[0].main and _how(body) in _KEEPING_JOINS
            self._are_own &= keeps
        return result

    @override
    def expr(self, expr: Json, place: Place) -> bool:
        name, body = form.variant(expr)
        if name != "Over" or place.within_list:
            return super().expr(expr, place)
        self._require_keys(_columns(body["partition_by"]), "over", place)
        return True

    def _may_change(self, expr: Json) -> bool:
        if form.variant(expr)[0] == "Column":
            return False
        try:
            return form.expression(expr).meta.output_name() in self._keys
        except PolarsError:  # it has several names
            return True

    def _require_keys(self, columns: Iterable[str], word: str, place: Place | None = None) -> None:
        reason = None
        if not self._keys <= frozenset(columns):
            reason = self._without
        elif not self._are_own:
            reason = self._made
        if reason is not None:
            where = f"{word}({', '.join(sorted(columns))})"
            self.add(word, f"{where} in {place.verb}" if place else where, reason)


def _is_plain_group_by(body: Json) -> bool:
    options = body["options"]
    asked = (options["dynamic"], options["rolling"], options["slice"], body["apply"])
    return all(option is None for option in asked)


def _columns(exprs: Iterable[Json]) -> frozenset[str]:
    """Those of ``exprs`` that are nothing but a column."""
    found = (form.variant(expr) for expr in exprs)
    return frozenset(body for name, body in found if name == "Column")


def _how(body: Json) -> str:
    return str(form.variant(body["options"]["args"]["how"])[0])
