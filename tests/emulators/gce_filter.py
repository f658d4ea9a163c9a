"""Filters of the Compute Engine API: ``(labels.hw_run = "r1") AND (status != TERMINATED)``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Matches = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(r'\s*(\(|\)|!=|<=|>=|=|<|>|:|"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\s()!=<>:"\']+)')


def compile_filter(text: str) -> Matches:
    """Whether a resource passes ``text``; an empty filter lets all pass.

    Terms side by side are joined by AND, as the API does. ``eq`` and ``ne`` take regular
    expressions that match the whole value.

    Raises:
        ValueError: The text is no filter.
    """
    if not text.strip():
        return lambda _: True
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"Invalid list filter expression: {text}")
        tokens.append(found.group(1))
        at = found.end()
    parser = _Parser(tokens, text)
    matches = parser.any_of()
    parser.expect_end()
    return matches


class _Parser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self._tokens = tokens
        self._text = text

    def any_of(self) -> Matches:
        terms = [self._all_of()]
        while self._peek() == "OR":
            self._next()
            terms.append(self._all_of())
        return lambda item: any(term(item) for term in terms)

    def expect_end(self) -> None:
        if self._tokens:
            raise self._wrong()

    def _all_of(self) -> Matches:
        terms = [self._term()]
        while self._peek() not in ("", ")", "OR"):
            if self._peek() == "AND":
                self._next()
            terms.append(self._term())
        return lambda item: all(term(item) for term in terms)

    def _term(self) -> Matches:
        if self._peek() in ("NOT", "-"):
            self._next()
            inner = self._term()
            return lambda item: not inner(item)
        if self._peek() == "(":
            self._next()
            inner = self.any_of()
            if self._next() != ")":
                raise self._wrong()
            return inner
        field, operator = self._next(), self._next()
        if operator not in ("=", "!=", "<", ">", "<=", ">=", ":", "eq", "ne"):
            raise self._wrong()
        wanted = self._next()
        if wanted in ("", "(", ")"):
            raise self._wrong()
        if wanted[0] in "\"'":
            wanted = wanted[1:-1].replace('\\"', '"')
        return lambda item: _holds(_value(item, field), operator, wanted)

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _next(self) -> str:
        return self._tokens.pop(0) if self._tokens else ""

    def _wrong(self) -> ValueError:
        return ValueError(f"Invalid list filter expression: {self._text}")


def _value(item: Mapping[str, Any], field: str) -> str | None:
    value: Any = item
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _holds(value: str | None, operator: str, wanted: str) -> bool:
    if operator == ":":
        return value is not None and (wanted == "*" or wanted.lower() in value.lower())
    if operator in ("eq", "ne"):
        matches = value is not None and re.fullmatch(wanted, value) is not None
        return matches == (operator == "eq")
    if operator in ("=", "!="):
        same = value is not None and _like(wanted).fullmatch(value) is not None
        return same == (operator == "=")
    if value is None:
        return False
    left, right = (float(value), float(wanted)) if _numbers(value, wanted) else (value, wanted)
    return {
        "<": left < right,  # type: ignore[operator]
        ">": left > right,  # type: ignore[operator]
        "<=": left <= right,  # type: ignore[operator]
        ">=": left >= right,  # type: ignore[operator]
    }[operator]


def _like(wanted: str) -> re.Pattern[str]:
    """``a*`` matches by its beginning."""
    return re.compile(".*".join(re.escape(part) for part in wanted.split("*")), re.DOTALL)


def _numbers(*values: str) -> bool:
    return all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values)
