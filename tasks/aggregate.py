"""Aggregates as three steps: a state of each part, states joined by twos or by hundreds, a result.

    states = [partial(part, plan, schema).collect() for part in parts]
    result = finalize(combine(states, plan, schema), plan, schema).collect()

``combine`` is associative and commutative, and a part without rows changes nothing, so the result
does not depend on how the rows are cut nor on the order or the tree in which states are joined:
exactly, but for roundings of floats (see ``moments.Sum``) and what sketches may err. A state has
one row for each group, however many rows the group has, and plain columns, so that it can be kept
as Parquet and joined with states from elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from headwater.infra.errors import DamagedFile, InvalidRequest
from headwater.infra.storage.types import column_of
from headwater.tasks.aggregates.plan import AggregatePlan, output_schema
from headwater.tasks.aggregates.results import cells_of, require_fitting, result_of
from headwater.tasks.aggregates.states import Cell, Fields, Types, kept, kept_type, one_zero, unkept

FORMAT = 1
"""Version of states; newer ones are refused by name."""

DIGEST_LENGTH = 16

_MARK = re.compile(r"headwater\.aggregate\.(\d+)\.([0-9a-f]+)")
"""Name of a state's first column: its format, and a digest of the plan and the input's types."""


def partial(frame: pl.LazyFrame, plan: AggregatePlan, schema: pl.Schema) -> pl.LazyFrame:
    """The state of a part: one row for each of its groups.

    Args:
        schema: Columns of ``frame``.
    """
    layout = _Layout.of(plan, schema)
    keys = [
        one_zero(kept(column_of(name), schema[name]), schema[name]).alias(layout.key(i))
        for i, name in enumerate(plan.by)
    ]
    fields = {cell: cell.partial(layout.at, schema) for cell in layout.cells}
    return layout.settled(layout.grouped(frame, keys, fields, merged=False), merged=False)


def combine(
    states: Sequence[pl.DataFrame | pl.LazyFrame], plan: AggregatePlan, schema: pl.Schema
) -> pl.LazyFrame:
    """The state of all the rows that ``states`` are of.

    Raises:
        InvalidRequest: A state is of another plan, or of a newer format.
    """
    layout = _Layout.of(plan, schema)
    if not states:
        return partial(pl.LazyFrame(schema=schema), plan, schema)
    for state in states:
        layout.require(state.collect_schema())
    keys = [pl.col(layout.key(i)) for i in range(len(plan.by))]
    fields = {cell: cell.merge(layout.at, schema) for cell in layout.cells}
    together = pl.concat([state.lazy() for state in states], how="vertical")
    return layout.settled(layout.grouped(together, keys, fields, merged=True), merged=True)


def finalize(
    state: pl.DataFrame | pl.LazyFrame, plan: AggregatePlan, schema: pl.Schema
) -> pl.LazyFrame:
    """The result, sorted by its keys; ``output_schema`` says its columns.

    Raises:
        UnsupportedData: A total does not fit its column.
        InvalidRequest: The state is of another plan, or of a newer format.
    """
    layout = _Layout.of(plan, schema)
    layout.require(state.collect_schema())
    collected = state.lazy().collect()
    keys = [
        unkept(pl.col(layout.key(i)), schema[name]).alias(name) for i, name in enumerate(plan.by)
    ]
    require_fitting(collected, keys, plan.aggregations, schema, layout.at)
    ordered = collected.lazy()
    if keys:
        ordered = ordered.sort([layout.key(i) for i in range(len(keys))], nulls_last=True)
    results = [result_of(a, schema, layout.at).alias(a.name) for a in plan.aggregations]
    return ordered.select(*keys, *results)


def aggregate(frame: pl.LazyFrame, plan: AggregatePlan, schema: pl.Schema) -> pl.LazyFrame:
    """The result over one frame that is not cut."""
    return finalize(partial(frame, plan, schema), plan, schema)


def state_schema(plan: AggregatePlan, schema: pl.Schema) -> pl.Schema:
    """Columns of a state of ``plan`` over an input of ``schema``."""
    return _Layout.of(plan, schema).schema()


def write_state(state: pl.DataFrame) -> bytes:
    """A state as Parquet, to be kept or sent."""
    buffer = io.BytesIO()
    state.write_parquet(buffer)
    return buffer.getvalue()


def read_state(data: bytes, plan: AggregatePlan, schema: pl.Schema) -> pl.DataFrame:
    """A state from Parquet.

    Raises:
        DamagedFile: It is not Parquet.
        InvalidRequest: It is of another plan, or of a newer format.
    """
    try:
        state = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as exc:
        raise DamagedFile(f"the state of an aggregate cannot be read: {exc}") from exc
    _Layout.of(plan, schema).require(state.schema)
    return state


@dataclass(frozen=True)
class _Layout:
    """Which cells a plan needs, each once, and the names of their columns."""

    plan: AggregatePlan
    input: pl.Schema
    cells: tuple[Cell, ...]
    mark: str

    @classmethod
    def of(cls, plan: AggregatePlan, schema: pl.Schema) -> _Layout:
        output_schema(plan, schema)
        cells = dict.fromkeys(c for a in plan.aggregations for c in cells_of(a))
        types = [(name, str(schema[name])) for name in plan.columns]
        said = repr((plan.by, tuple(cells), types))
        digest = hashlib.sha256(said.encode()).hexdigest()[:DIGEST_LENGTH]
        return cls(plan, schema, tuple(cells), f"headwater.aggregate.{FORMAT}.{digest}")

    def key(self, index: int) -> str:
        return f"key{index}"

    def column(self, cell: Cell, field: str) -> str:
        name = f"cell{self.cells.index(cell)}.{field}"
        # A base stands among the input's own columns, none of which is called after the digest.
        return name if field in cell.types(self.input) else f"{self.mark}.{name}"

    def at(self, cell: Cell, field: str) -> pl.Expr:
        return pl.col(self.column(cell, field))

    def schema(self) -> pl.Schema:
        columns: Types = {self.mark: pl.Boolean()}
        for index, name in enumerate(self.plan.by):
            columns[self.key(index)] = kept_type(self.input[name])
        for cell in self.cells:
            for field, dtype in cell.types(self.input).items():
                columns[self.column(cell, field)] = dtype
        return pl.Schema(columns)

    def grouped(
        self,
        frame: pl.LazyFrame,
        keys: Sequence[pl.Expr],
        cells: Mapping[Cell, Fields],
        *,
        merged: bool,
    ) -> pl.LazyFrame:
        bases = self._named(
            {cell: cell.bases(self.at, self.input, merged=merged) for cell in cells}
        )
        if bases:
            # Inside an aggregation Polars would take the groups one by one.
            frame = frame.with_columns([base.over(keys) for base in bases] if keys else bases)
        fields = self._named(cells)
        if not keys:
            return frame.select(fields)
        return frame.group_by(keys).agg(fields) if fields else frame.select(keys).unique()

    def _named(self, cells: Mapping[Cell, Fields]) -> list[pl.Expr]:
        return [
            value.alias(self.column(cell, field))
            for cell, fields in cells.items()
            for field, value in fields.items()
        ]

    def settled(self, grouped: pl.LazyFrame, *, merged: bool) -> pl.LazyFrame:
        fields = [
            cell.settle(field, self.at(cell, field), merged=merged).alias(self.column(cell, field))
            for cell in self.cells
            for field in cell.types(self.input)
        ]
        keys = [pl.col(self.key(index)) for index in range(len(self.plan.by))]
        # A literal among selected columns has their length, and none where there are none.
        return grouped.select(*keys, *fields).select(pl.lit(True).alias(self.mark), pl.all())

    def require(self, found: pl.Schema) -> None:
        name = next(iter(found), "")
        match = _MARK.fullmatch(name)
        if match is None:
            raise InvalidRequest(f"not the state of an aggregate: its first column is '{name}'")
        if int(match[1]) > FORMAT:
            raise InvalidRequest(
                f"the state of an aggregate has format {match[1]}, and this Headwater reads"
                f" up to {FORMAT}",
                hint="upgrade Headwater here, or make the state with the same version",
            )
        if name != self.mark or found != self.schema():
            raise InvalidRequest(
                "the state is of another aggregate: its columns, functions or types differ",
                hint="make all states with one plan over inputs of one schema",
            )
