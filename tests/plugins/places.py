"""A test's folder decides its kind, and its kind decides which sockets it may open."""

from __future__ import annotations

from pathlib import Path

import pytest

KINDS = {
    "unit": "unit",
    "contract": "contract",
    "emulated": "emulated",
    "e2e": "e2e",
    "trials": "trial",
    "benchmarks": "trial",
}
"""Folder under ``tests/`` to the marker that its tests get."""

LOOPBACK = ["127.0.0.0/8", "::1"]
"""All of it: each instance of an emulated cloud has an address of its own."""

TESTS = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the one marker of its folder, and the sockets that go with it."""
    for item in items:
        kind = kind_of(item.path)
        # A long test of any folder may be left to the trials.
        kinds = set(KINDS.values()) - {kind, "trial"}
        wrong = sorted({mark.name for mark in item.iter_markers()} & kinds)
        if wrong:
            raise pytest.UsageError(
                f"{item.nodeid}: marked {', '.join(wrong)}, but its folder makes it {kind}"
            )
        item.add_marker(kind)
        if kind == "emulated" and item.get_closest_marker("content"):
            item.add_marker("trial")  # each store gives the same bytes, as other tests show
        if kind == "unit":
            item.add_marker("disable_socket")
        elif not any(item.iter_markers("cloud")):
            item.add_marker(pytest.mark.allow_hosts(LOOPBACK))


def kind_of(path: Path) -> str:
    """The marker for the tests in ``path``.

    Raises:
        pytest.UsageError: The file lies in none of the folders of ``KINDS``.
    """
    inside = path.resolve().relative_to(TESTS)
    if inside.parts[0] not in KINDS:
        raise pytest.UsageError(
            f"tests/{inside}: tests live in one of {', '.join(f'tests/{name}' for name in KINDS)}"
        )
    return KINDS[inside.parts[0]]
