"""Step files: TOML with a version and a list of steps, read with errors that name the line.

The steps of a form travel as JSON of the same shape, which no TOML begins like.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from headwater.infra.errors import InvalidRequest, NotFound, UnknownName
from headwater.tasks.steps.aggregate import Aggregation
from headwater.tasks.steps.base import Step
from headwater.tasks.steps.catalog import KINDS, AnyStep
from headwater.tasks.steps.columns import Partition
from headwater.tasks.steps.join import Join

FORMAT_VERSION = 1

_HEADER = re.compile(r"\s*\[\[\s*steps\s*\]\]")
_KEY = r"\s*(?:\[\s*steps\s*\.\s*)?[\"']?{key}[\"']?\s*[=.\]]"
_QUOTES = ('"""', "'''")


@dataclass(frozen=True, slots=True)
class NumberedStep:
    """A step and where it stands.

    Attributes:
        number: From 1.
        line: Of its header in the file; ``None`` where it stands in none.
    """

    step: Step
    number: int
    file: str
    line: int | None = None

    @property
    def kind(self) -> str:
        """What the step is."""
        return str(getattr(self.step, "kind", ""))

    @property
    def label(self) -> str:
        """What messages call it."""
        return _label(self.file, self.number, self.kind, self.step.name, self.line)


@dataclass(frozen=True, slots=True)
class StepFile:
    """A job that is a list of steps.

    Attributes:
        name: What messages and receipts call it: the file's name.
        text: TOML or JSON; a digest of it is the job's.
    """

    name: str
    text: str
    steps: tuple[NumberedStep, ...]

    @property
    def sides(self) -> dict[str, str]:
        """Side tables that its joins name, with their addresses; empty where none is given.

        Raises:
            InvalidRequest: Two joins give one table two addresses.
        """
        found: dict[str, str] = {}
        for numbered in self.steps:
            if not isinstance(numbered.step, Join):
                continue
            name, uri = numbered.step.side, numbered.step.uri
            known = found.setdefault(name, uri)
            if known and uri and known != uri:
                raise InvalidRequest(
                    f"{numbered.label}: side table '{name}' is at {uri}, and at {known} before",
                    hint="give two tables two names",
                )
            found[name] = known or uri
        return found

    @property
    def partition_by(self) -> tuple[str, ...]:
        """Columns that the target is partitioned by; empty where no step says so."""
        found = (n.step.columns for n in self.steps if isinstance(n.step, Partition))
        return next(found, ())


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    steps: tuple[AnyStep, ...]


def load_steps(path: Path) -> StepFile:
    """The steps of a file.

    Raises:
        NotFound: There is no such file.
        UnknownName: A kind or key is unknown; the line and the near ones are named.
        InvalidRequest: Something else in it is wrong; the line is named.
    """
    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with a mark
    except FileNotFoundError as exc:
        near = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        hint = UnknownName.of("file", path.name, near).hint or "check the path"
        raise NotFound(f"there is no step file {path}", hint=hint) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"the step file {path} cannot be read: {exc}") from exc
    return parse_steps(text, path.name)


def parse_steps(text: str, name: str) -> StepFile:
    """The steps that ``text`` holds.

    Args:
        name: What messages call the file.
    Raises:
        UnknownName: As ``load_steps``.
        InvalidRequest: As ``load_steps``.
    """
    try:
        content = json.loads(text) if text.startswith("{") else tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequest(f"{name} is no TOML: {exc}", hint="mend that line") from exc
    _require_version(content, name)
    places = _Places(text)
    if not content.get("steps", []):
        raise InvalidRequest(f"{name} has no step", hint="add one: [[steps]]")
    try:
        document = _Document.model_validate(content)
    except ValidationError as exc:
        raise _explained(exc, content, name, places) from exc
    steps = tuple(
        NumberedStep(step, number, name, places.header(number))
        for number, step in enumerate(document.steps, 1)
    )
    return StepFile(name, text, steps)


def written_steps(steps: Sequence[Mapping[str, Any]]) -> str:
    """A list of steps, as a form gives it, as text that ``parse_steps`` reads.

    Examples:
        >>> written_steps([{"kind": "drop", "columns": ["a"]}])
        '{"version": 1, "steps": [{"kind": "drop", "columns": ["a"]}]}'
    """
    return json.dumps({"version": FORMAT_VERSION, "steps": list(steps)}, ensure_ascii=False)


def _require_version(content: Mapping[str, Any], name: str) -> None:
    version = content.get("version")
    if version == FORMAT_VERSION:
        return
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InvalidRequest(
            f"{name} has version {version}, and this Headwater reads up to {FORMAT_VERSION}",
            hint="use a newer Headwater",
        )
    said = "no version" if version is None else f"version = {version!r}"
    raise InvalidRequest(f"{name} has {said}", hint=f"begin it with version = {FORMAT_VERSION}")


class _Places:
    """Lines of a step file, which the TOML parser does not tell."""

    def __init__(self, text: str) -> None:
        self._lines = list(_outside_texts(text))
        self._headers = [n for n, line in self._lines if _HEADER.match(line)]

    def header(self, number: int) -> int | None:
        """Line of the header of a step; ``None`` where steps are not written as tables."""
        return self._headers[number - 1] if number <= len(self._headers) else None

    def key(self, number: int, key: str) -> int | None:
        """Line of a key of a step, else of the step."""
        begin = self.header(number)
        if begin is None:
            return None
        end = self.header(number + 1) or self._lines[-1][0] + 1
        pattern = re.compile(_KEY.format(key=re.escape(key)))
        inside = (n for n, line in self._lines if begin < n < end and pattern.match(line))
        return next(inside, begin)


def _outside_texts(text: str) -> Iterator[tuple[int, str]]:
    """Lines that do not begin inside of a text of several lines, with their numbers."""
    quote = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not quote:
            yield number, line
        for piece in re.findall("|".join(_QUOTES), line):
            if not quote:
                quote = piece
            elif piece == quote:
                quote = ""


def _explained(
    error: ValidationError, content: Mapping[str, Any], name: str, places: _Places
) -> InvalidRequest:
    first = error.errors()[0]
    place = list(first["loc"])
    if len(place) < 2 or place[0] != "steps" or not isinstance(place[1], int):
        if first["type"] == "extra_forbidden":
            return UnknownName.of("key", str(place[0]), ["version", "steps"], where=name)
        return InvalidRequest(
            f"{name}: {_said(first['msg'])}", hint="write each step as a [[steps]] table"
        )
    number = place[1] + 1
    raw = content["steps"][place[1]]
    step = raw if isinstance(raw, Mapping) else {}
    kind = str(step.get("kind", ""))
    keys = [k for k in place[2:] if k != kind]
    line = places.key(number, str(keys[0])) if keys else places.header(number)
    label = _label(name, number, kind if kind in KINDS else "", str(step.get("name", "")), line)
    match first["type"]:
        case "union_tag_not_found":
            return InvalidRequest(
                f"{label} has no kind", hint=f'add kind = "..."; known: {", ".join(KINDS)}'
            )
        case "union_tag_invalid":
            line = places.key(number, "kind")
            return UnknownName.of("kind", kind, KINDS, where=_label(name, number, "", "", line))
        case "extra_forbidden":
            return UnknownName.of("key", str(keys[-1]), _known(kind, keys), where=label)
        case "missing":
            return InvalidRequest(f"{label}: the key '{_spelled(keys)}' is missing", hint="add it")
        case _:
            where = f"'{_spelled(keys)}': " if keys else ""
            return InvalidRequest(f"{label}: {where}{_said(first['msg'])}", hint="mend it")


def _known(kind: str, keys: Sequence[object]) -> list[str]:
    """Keys that could stand where an unknown one does."""
    model: type[BaseModel] = Aggregation if len(keys) > 1 else KINDS[kind]
    return list(model.model_fields)


def _label(file: str, number: int, kind: str, name: str, line: int | None) -> str:
    what = " ".join(filter(None, (kind, f"'{name}'" if name else "")))
    at = f"line {line} of {file}" if line else file
    return f"step {number} ({', '.join(filter(None, (what, at)))})"


def _spelled(keys: Sequence[object]) -> str:
    """``aggs[0].column`` for a place inside a step."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.lstrip(".")


def _said(message: str) -> str:
    message = message.removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    for python, toml in (("tuple", "list"), ("dictionary", "table"), ("string", "text")):
        message = message.replace(python, toml)
    return message
