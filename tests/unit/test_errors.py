"""Errors cross processes: every one survives pickle with its type, message, hint and retry."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from headwater.infra.errors import HeadwaterError, UnknownName


def every_class(base: type[HeadwaterError] = HeadwaterError) -> Iterator[type[HeadwaterError]]:
    yield base
    for below in base.__subclasses__():
        if below.__module__ == HeadwaterError.__module__:
            yield from every_class(below)


@pytest.mark.parametrize("kind", list(every_class()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("hint", ["", "do the next thing"])
def test_an_error_survives_pickle(kind: type[HeadwaterError], hint: str) -> None:
    error = kind("what happened: 3 of 5", hint=hint)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes

        assert type(back) is kind
        assert (back.message, back.hint, back.retry) == (error.message, hint, kind.retry)
        assert str(back) == str(error)
        assert back.args == error.args


@pytest.mark.parametrize("kind", list(every_class()), ids=lambda kind: kind.__name__)
def test_every_error_is_drawn_in_the_tree(kind: type[HeadwaterError]) -> None:
    import headwater.infra.errors

    assert f" {kind.__name__} " in f" {headwater.infra.errors.__doc__} ".replace("\n", " ")


def test_the_hint_is_on_a_line_of_its_own() -> None:
    assert str(HeadwaterError("a", hint="b")) == "a\n  -> b"
    assert str(HeadwaterError("a")) == "a"


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (["dep_time", "arr_time", "origin"], "did you mean 'dep_time'?"),
        (["x", "y"], "known: x, y"),
        ([f"column_{i:02d}" for i in range(25)], "and 5 more"),
        ([], ""),
    ],
)
def test_an_unknown_name_lists_the_near_or_the_known_ones(known: list[str], hint: str) -> None:
    error = UnknownName.of("column", "dep_tme", known, where="the input")

    assert error.message == "no column 'dep_tme' in the input"
    assert hint in error.hint
    assert bool(error.hint) == bool(hint)
