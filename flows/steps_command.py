"""`headwater steps`: which kinds of step there are, and what a file of them would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from headwater.flows.console import Console
from headwater.infra.errors import InvalidRequest, UnknownName
from headwater.infra.models import ReadOptions
from headwater.infra.storage.inputs import Input, open_input
from headwater.infra.storage.types import require_partitionable, stored_schema
from headwater.tasks.steps.catalog import KINDS
from headwater.tasks.steps.compile import Compiled, Placed, Stage, compile_steps
from headwater.tasks.steps.docs import page
from headwater.tasks.steps.examples import prose_of
from headwater.tasks.steps.files import StepFile, load_steps

CHANGES_SHOWN = 6
"""Columns that one line of a plan names as added, changed or dropped; the others are counted."""


def list_kinds(console: Console) -> None:
    """Print every kind, its scope and its purpose."""
    value = [
        {"kind": kind, "scope": model.SCOPE, "purpose": prose_of(model).splitlines()[0]}
        for kind, model in KINDS.items()
    ]
    wide, scope = (max(len(row[key]) for row in value) for key in ("kind", "scope"))
    lines = [f"{r['kind']:<{wide}}  {r['scope']:<{scope}}  {r['purpose']}" for r in value]
    console.result({"kinds": value}, "\n".join(lines))


def show_kind(kind: str, console: Console) -> None:
    """Print the page of one kind; as JSON, its JSON schema.

    Raises:
        UnknownName: There is no such kind.
    """
    if kind not in KINDS:
        raise UnknownName.of("kind of step", kind, KINDS)
    console.result(KINDS[kind].model_json_schema(), page(kind).rstrip())


def check_file(
    path: Path,
    sources: Sequence[str],
    side_uris: Mapping[str, str],
    console: Console,
    *,
    read: ReadOptions,
) -> None:
    """Print the stages and the result that the steps have on these sources.

    Args:
        read: How the sources are read.

    Raises:
        HeadwaterError: The steps do not fit; nothing was written.
    """
    file = load_steps(path)
    sides = _sides(file, side_uris)
    source = open_input(sources, read=read)
    schemas = {name: side.schema for name, side in sides.items()}
    compiled = compile_steps(file.steps, source.schema, schemas)
    schema = stored_schema(compiled.schema)
    require_partitionable(schema, compiled.partition_by)
    checked = _Checked(file, source, sides, compiled, schema)
    console.result(checked.as_json(), checked.as_text())


@dataclass(frozen=True, slots=True)
class _Checked:
    """Steps that fit their source.

    Attributes:
        schema: Columns of the result as a table keeps them.
    """

    file: StepFile
    source: Input
    sides: Mapping[str, Input]
    compiled: Compiled
    schema: pl.Schema

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file.name,
            "source": self.source.uri,
            "sides": {name: side.uri for name, side in self.sides.items()},
            "stages": [
                {
                    "scope": stage.scope.kind,
                    "keys": list(stage.scope.keys),
                    "steps": [
                        {
                            "number": placed.numbered.number,
                            "kind": placed.numbered.kind,
                            "name": placed.numbered.step.name,
                            "line": placed.numbered.line,
                        }
                        for placed in stage.steps
                    ],
                }
                for stage in self.compiled.stages
            ],
            "columns": [{"name": n, "type": str(t)} for n, t in self.schema.items()],
            "partition_by": list(self.compiled.partition_by),
        }

    def as_text(self) -> str:
        files = len(self.source.files)
        said = f"{self.source.format}, {files:,} file{'' if files == 1 else 's'}"
        lines = [f"{self.file.name} on {self.source.uri} ({said})"]
        lines += [f"  + {name}  {side.uri}" for name, side in self.sides.items()]
        for number, stage in enumerate(self.compiled.stages, 1):
            lines += ["", f"stage {number}: {_scope(stage)}"]
            lines += [f"  {_line(p)}" for p in stage.steps]
        width = max(map(len, self.schema))
        lines += ["", f"result: {len(self.schema)} columns"]
        lines += [f"  {name:<{width}}  {dtype}" for name, dtype in self.schema.items()]
        if self.compiled.partition_by:
            lines += ["", f"partitioned by {', '.join(self.compiled.partition_by)}"]
        return "\n".join(lines)


def _scope(stage: Stage) -> str:
    match stage.scope.kind:
        case "rows":
            return "one row at a time"
        case "key":
            return f"all rows of a key together ({', '.join(stage.scope.keys)})"
        case "whole":
            return "all rows together"


def _line(placed: Placed) -> str:
    numbered = placed.numbered
    name = f"{numbered.step.name}: " if numbered.step.name else ""
    before, after = placed.given.schema, placed.result
    added = [c for c in after if c not in before]
    gone = [c for c in before if c not in after]
    changed = [c for c in after if c in before and after[c] != before[c]]
    notes = [
        *(f"+{c}: {after[c]}" for c in added),
        *(f"~{c}: {after[c]}" for c in changed),
        *(f"-{c}" for c in gone),
    ]
    more = [f"{len(notes) - CHANGES_SHOWN} more"] if len(notes) > CHANGES_SHOWN else []
    shown = ", ".join([*notes[:CHANGES_SHOWN], *more])
    return f"{numbered.number:>2}  {numbered.kind:<11}  {name}{shown}".rstrip()


def _sides(file: StepFile, given: Mapping[str, str]) -> dict[str, Input]:
    wanted = file.sides
    for name in given:
        if name not in wanted:
            raise UnknownName.of("side table", name, wanted, where=file.name)
    uris = {**wanted, **given}
    for name, uri in uris.items():
        if not uri:
            raise InvalidRequest(
                f"{file.name} joins a side table '{name}', and no address is given for it",
                hint=f"set uri in the step, or add --side {name}=URI",
            )
    return {name: open_input([uri]) for name, uri in uris.items()}
