"""What trials came to, in a file that is committed; what passed on this commit is not run again.

With ``--trial-results FILE`` each trial's outcome goes there as soon as it is known, so that a
run that is cut off goes on where it stopped. A file is a list of objects with the fields of
``Result``. The commit is the last one that changed anything else than that file, so that committing
the results makes none of them old; of a tree with changes that no commit holds, nothing counts as
passed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

CHANGED = "+changes"
"""Follows the commit of a tree that differs from it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one case of a trial came to.

    Attributes:
        trial: File and name of the test.
        case: Its parameters; empty where it has none.
        outcome: ``passed``, ``failed`` or ``skipped``.
        seconds: With what its fixtures took.
        date: When it ended, in UTC.
    """

    trial: str
    case: str
    outcome: str
    seconds: float
    commit: str
    date: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the results are, and whether to run what has passed already."""
    group = parser.getgroup("trials")
    group.addoption("--trial-results", type=Path, metavar="FILE", help="keep the trials' results")
    group.addoption("--fresh-trials", action="store_true", help="also run trials that have passed")


def pytest_configure(config: pytest.Config) -> None:
    """Keep results where there is a file for them."""
    path = config.getoption("--trial-results")
    if path is not None:
        fresh = bool(config.getoption("--fresh-trials"))
        config.pluginmanager.register(Trials(config.rootpath / path, fresh=fresh), "kept-trials")


class Trials:
    """The results in one file, and those that this session adds.

    Args:
        path: Of the file; one that is not there has no results.
        fresh: Nothing counts as passed.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        self._commit = commit_of(path)
        kept = json.loads(path.read_text("utf-8")) if path.exists() else []
        self._results = {(row["trial"], row["case"]): Result(**row) for row in kept}
        self._fresh = fresh
        self._passed: list[pytest.Item] = []
        self._reports: list[pytest.TestReport] = []

    @pytest.hookimpl(trylast=True)  # after pytest has deselected by marker
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out the trials that have passed on this commit."""
        self._passed = [item for item in items if self._has_passed(item)]
        if self._passed:
            config.hook.pytest_deselected(items=self._passed)
            items[:] = [item for item in items if item not in self._passed]

    def pytest_report_collectionfinish(self) -> str:
        """How many were left out."""
        number = len(self._passed)
        return f"trials that passed on {self._commit} already, and are not run again: {number}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keep the result of a trial when it is over."""
        self._reports = []
        done = yield
        if item.get_closest_marker("trial"):
            trial, case = name_of(item)
            self._results[trial, case] = Result(
                trial,
                case,
                outcome_of(self._reports),
                round(sum(report.duration for report in self._reports), 1),
                self._commit,
                f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            )
            self._write()
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a phase of the test that is under way."""
        self._reports.append(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Nothing left to run is a success."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._passed:
            session.exitstatus = pytest.ExitCode.OK

    def _has_passed(self, item: pytest.Item) -> bool:
        found = self._results.get(name_of(item))
        if self._fresh or found is None or self._commit.endswith(CHANGED):
            return False
        return (found.outcome, found.commit) == ("passed", self._commit)

    def _write(self) -> None:
        rows = [asdict(self._results[name]) for name in sorted(self._results)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(self._path)


def name_of(item: pytest.Item) -> tuple[str, str]:
    """The trial that ``item`` is a case of, and which case."""
    trial, bracket, case = item.nodeid.partition("[")
    return trial, case.removesuffix("]") if bracket else ""


def outcome_of(reports: Iterable[pytest.TestReport]) -> str:
    """The worst outcome of a test's phases."""
    outcomes = {report.outcome for report in reports}
    return next((worst for worst in ("failed", "skipped") if worst in outcomes), "passed")


def commit_of(path: Path) -> str:
    """The last commit that changed something else than ``path``, and whether the tree has changed.

    Outside of a repository nothing is known, which counts as changed.
    """
    folder = next(parent for parent in path.parents if parent.exists())
    root = _git(folder, "rev-parse", "--show-toplevel")
    if not root:
        return CHANGED
    others = (".", f":(exclude){os.path.relpath(path, root)}")
    commit = _git(Path(root), "log", "-1", "--format=%h", "--abbrev=12", "--", *others)
    is_changed = _git(Path(root), "status", "--porcelain", "--", *others)
    return f"{commit}{CHANGED if is_changed else ''}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
