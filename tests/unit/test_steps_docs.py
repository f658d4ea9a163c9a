"""The pages of the steps: every example runs, and the committed document is what they make."""

from __future__ import annotations

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from headwater.tasks.steps.catalog import KINDS
from headwater.tasks.steps.compile import compile_steps, require_unique_keys
from headwater.tasks.steps.docs import document, page
from headwater.tasks.steps.examples import example_of

pytestmark = pytest.mark.unit

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "steps.md"


@pytest.mark.parametrize("kind", KINDS)
def test_example_of_each_step_gives_what_it_shows(kind: str) -> None:
    example = example_of(KINDS[kind])
    source, file = example.source.frame(), example.file(kind)
    sides = {name: table.frame() for name, table in example.sides.items()}
    compiled = compile_steps(file.steps, source.schema, {n: s.schema for n, s in sides.items()})
    lazy = {name: side.lazy() for name, side in sides.items()}
    require_unique_keys(file.steps, lazy)
    frame = source.lazy()
    for stage in compiled.stages:
        frame = stage.apply(frame, lazy)
    is_ordered = kind == "sort"
    assert_frame_equal(frame.collect(), example.result.frame(), check_row_order=is_ordered)
    assert compiled.schema == example.result.frame().schema


def test_every_example_shows_its_own_step() -> None:
    for kind, model in KINDS.items():
        assert f'kind = "{kind}"' in example_of(model).steps


def test_every_key_is_described() -> None:
    missing = [
        f"{kind}.{name}"
        for kind, model in KINDS.items()
        for name, field in model.model_fields.items()
        if name != "kind" and not field.description
    ]
    assert missing == []


def test_committed_document_is_up_to_date() -> None:
    made = document()
    assert DOCUMENT.read_text("utf-8") == made, (
        "run: python -m headwater.tasks.steps.docs docs/steps.md"
    )


def test_page_names_scope_keys_and_defaults() -> None:
    text = page("join")
    assert "*Scope: rows.*" in text
    assert '| `multiplies` | `"refuse"`, `"allow"` | `"refuse"` |' in text
