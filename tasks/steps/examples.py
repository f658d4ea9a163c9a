"""The example in a step's docstring: tables in, steps, table out; read so that it can be run."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass

import polars as pl

from headwater.infra.storage.dtypes import dtype_of
from headwater.tasks.steps.base import Step
from headwater.tasks.steps.files import FORMAT_VERSION, StepFile, parse_steps

_HEADING = re.compile(r"(in|out|steps|side (\w+)):")
_GAP = re.compile(r" {2,}")
_STRUCT = re.compile(r"Struct\((\{.*\})\)")
_FIELD = re.compile(r"'(\w+)': (\w+)")


@dataclass(frozen=True, slots=True)
class Table:
    """A small table as text: columns are two spaces apart, ``name:Type`` is String without a type.

    ``null`` is null, and values of lists and structs are JSON.
    """

    header: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Table:
        """The table that ``text`` shows."""
        lines = [_GAP.split(line.strip()) for line in text.splitlines() if line.strip()]
        names = tuple(cell.partition(":")[0] for cell in lines[0])
        types = tuple(cell.partition(":")[2] or "String" for cell in lines[0])
        return cls(names, types, tuple(tuple(row) for row in lines[1:]))

    def frame(self) -> pl.DataFrame:
        """The same as a frame."""
        columns = zip(*self.rows, strict=True)
        return pl.DataFrame(
            [
                _typed(pl.Series(name, list(cells)), _dtype(type_))
                for name, type_, cells in zip(self.header, self.types, columns, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True)
class Example:
    """What a docstring shows.

    Attributes:
        steps: TOML, without the first header.
    """

    source: Table
    steps: str
    result: Table
    sides: dict[str, Table]

    @property
    def toml(self) -> str:
        """The steps as they stand in a file."""
        return f"[[steps]]\n{self.steps}"

    def file(self, kind: str) -> StepFile:
        """The example as a whole step file."""
        return parse_steps(f"version = {FORMAT_VERSION}\n\n{self.toml}", f"{kind}.toml")


def prose_of(model: type[Step]) -> str:
    """The docstring of a step without its example."""
    return inspect.cleandoc(model.__doc__ or "").partition("\nExample:")[0].strip()


def example_of(model: type[Step]) -> Example:
    """The example in the docstring of a step.

    Raises:
        ValueError: There is none, or a part of it is missing.
    """
    text = inspect.cleandoc(model.__doc__ or "").partition("\nExample:")[2]
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in textwrap.dedent(text).splitlines():
        heading = _HEADING.fullmatch(line.rstrip())
        if heading:
            lines = parts.setdefault(heading[1], [])
        else:
            lines.append(line)
    if not {"in", "out", "steps"} <= set(parts):
        raise ValueError(f"the docstring of {model.__name__} has no whole example")
    texts = {name: textwrap.dedent("\n".join(found)).strip("\n") for name, found in parts.items()}
    sides = {n.removeprefix("side "): Table.parse(t) for n, t in texts.items() if n[:5] == "side "}
    return Example(
        Table.parse(texts["in"]), texts["steps"] + "\n", Table.parse(texts["out"]), sides
    )


def _dtype(text: str) -> pl.DataType:
    struct = _STRUCT.fullmatch(text)
    if struct:
        return pl.Struct({name: dtype_of(inner) for name, inner in _FIELD.findall(struct[1])})
    return dtype_of(text)


def _typed(cells: pl.Series, dtype: pl.DataType) -> pl.Series:
    texts = cells.replace("null", None)
    match dtype:
        case pl.Datetime(time_zone=zone):
            local = texts.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us")
            return local.dt.replace_time_zone(zone)
        case pl.Date():
            return texts.str.to_date("%Y-%m-%d")
        case pl.Boolean():
            return texts == "true"
        case pl.List() | pl.Struct():
            return texts.str.json_decode(dtype)
        case _:
            return texts.cast(dtype)
