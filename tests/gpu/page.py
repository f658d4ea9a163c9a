"""``docs/gpu.md``: which plans the GPU engine takes, made from what its translator says of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.gpu.cases import SECTIONS, Case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"

Key = tuple[str, str, str, str]
Findings = Mapping[Key, tuple[str, ...]]
"""Key of a case -> why the engine does not take it; nothing where it does."""

INTRODUCTION = """\
# What runs on the GPU

On a GPU worker each part's plan is handed to RAPIDS' Polars engine (`cudf-polars`, in-memory
executor). It takes a plan whole or not at all: one expression that it does not know sends the whole
plan of the part to Polars on the CPU. That is a *fallback*; receipts count them, one for a part at
most, and `gpu_fallback = "refuse"` in a cluster profile makes the run stop instead and name the
expressions.

This page lists plans and what becomes of each. `make check-gpu` translates every one of them with
the engine's own translator, which needs no GPU, and fails where this page says something else;
`make docs-gpu` writes it anew. Made with {versions}.

## What this page shows, and what it does not

- **No GPU has run these plans yet.** "GPU" means that the translator takes the plan. Whether the
  results are equal is for the `gpu` tests (`pytest -m gpu` on a machine with a GPU): they run every
  plan of this page on both engines and compare data and fallbacks.
- **A failure at run time is no fallback.** What the translator takes and the GPU then cannot do
  (a form of data that only shows in the values, too little memory) fails the part, and the run says
  why: there is no second try on the CPU. Only the `gpu` tests can find these.
- A plan is translated with the types shown here; another type may fall back. An input column of a
  type that the engine lacks (Time, Binary, Categorical, Int128) sends every plan that reads it to
  the CPU.
- The plan of a part is its scan, its steps and the table's types together, so one step that falls
  back takes the others along. Writing is always Polars' on the CPU.
- Reading starts from staged local files, which is why no plan here names an object store.
- The step `aggregate` collects its states while the plan is built, on the CPU; the three plans of
  each function are listed for what they are.
- **What the GPU would compute otherwise is kept from it.** From the engine's source two things are
  known: `hash` gives other numbers (so a sample would have other rows), and times are kept as UTC,
  so a function of the clock (`dt.truncate`, `dt.date`, `dt.hour`) reads UTC's clock where Polars
  reads the zone's. Plans with either are left to the CPU before the engine is asked. The second is
  seen where the function directly follows `dt.convert_time_zone`; on a *column* of another zone
  than UTC, as a `cast` makes it, it is not seen: make such a time local with
  `dt.replace_time_zone(None)` first.
- The step `parse` stays with Polars for dates and times: the engine takes formats only as
  `cache=False` hands them over, and reads text by rules of its own that no test here can see.
"""

_HEADINGS = {
    "steps": ("Steps", "step", "variants"),
    "aggregates": ("Aggregates", "function and plan", "of"),
    "reading": ("Reading", "format", "what is read"),
    "jobs": ("Jobs", "job", "plan"),
}

_GPU = "GPU"
_CPU = "CPU: "
_SEPARATOR = "; "
_ROW = re.compile(r"\| (.*?) \| (.*) \| (GPU|CPU: .*) \|")


def render(cases: Sequence[Case], findings: Findings, versions: str) -> str:
    """The page as Markdown.

    Args:
        versions: Names the packages that it was made with.
    """
    parts = [INTRODUCTION.format(versions=versions), *_summary(cases, findings)]
    for section in SECTIONS:
        title, *columns = _HEADINGS[section]
        parts += [f"\n## {title}\n", f"| {columns[0]} | {columns[1]} | runs on |", "|---|---|---|"]
        verdicts: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for case in (case for case in cases if case.section == section):
            variants = verdicts.setdefault((_subject(case), findings[case.key]), [])
            variants.append(case.variant or "-")
        order = list(dict.fromkeys(subject for subject, _ in verdicts))
        for subject, reasons in sorted(verdicts, key=lambda row: order.index(row[0])):
            variants = verdicts[subject, reasons]
            runs = _CPU + _cell(_SEPARATOR.join(reasons)) if reasons else _GPU
            parts.append(f"| {subject} | {_cell(_SEPARATOR.join(variants))} | {runs} |")
    return "\n".join(parts) + "\n"


def parse(text: str) -> dict[Key, tuple[str, ...]]:
    """What a page says of each case, the inverse of ``render``."""
    found: dict[Key, tuple[str, ...]] = {}
    sections = {title: section for section, (title, *_) in _HEADINGS.items()}
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = sections.get(line[3:], "")
        row = _ROW.fullmatch(line)
        if not section or row is None:
            continue
        subject, _, phase = row[1].partition(": ")
        runs = row[3].replace("\\|", "|").removeprefix(_CPU)
        reasons = () if runs == _GPU else tuple(runs.split(_SEPARATOR))
        for variant in row[2].replace("\\|", "|").split(_SEPARATOR):
            found[section, subject, "" if variant == "-" else variant, phase] = reasons
    return found


def differences(page: Findings, found: Findings) -> Iterator[str]:
    """Where the page says something else than what was found, a line for each case."""
    for key in {**found, **page}:
        name = " / ".join(filter(None, key))
        if key not in page:
            yield f"{name}: not on the page; found: {_said(found[key])}"
        elif key not in found:
            yield f"{name}: on the page, and no such plan any more"
        elif page[key] != found[key]:
            yield f"{name}: the page says {_said(page[key])}; found: {_said(found[key])}"


def _said(reasons: Sequence[str]) -> str:
    return f"CPU ({_SEPARATOR.join(reasons)})" if reasons else _GPU


def _summary(cases: Sequence[Case], findings: Findings) -> Iterator[str]:
    yield "\n| | plans | on the GPU | fall back |"
    yield "|---|---|---|---|"
    for section in SECTIONS:
        reasons = [findings[case.key] for case in cases if case.section == section]
        back = sum(map(bool, reasons))
        title = _HEADINGS[section][0]
        yield f"| [{title}](#{section}) | {len(reasons)} | {len(reasons) - back} | {back} |"


def _subject(case: Case) -> str:
    return f"{case.subject}: {case.phase}" if case.phase else case.subject


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
