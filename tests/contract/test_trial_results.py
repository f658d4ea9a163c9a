"""`make trials`: what a trial came to is kept, and what passed on a commit is not run again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

TRIALS = """
from pathlib import Path

import pytest

@pytest.mark.trial
@pytest.mark.parametrize("number", [1, 2, 3])
def test_number(number):
    with Path("ran").open("a") as ran:
        ran.write(str(number))
    assert number != 2 or Path("mended").exists()

def test_no_trial():
    pass
"""

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture
def repository(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_trials=TRIALS)
    pytester.makeconftest((PLUGINS / "trials.py").read_text("utf-8"))
    pytester.makeini("[pytest]\nmarkers = trial: long\naddopts = -p no:cacheprovider")
    (pytester.path / ".gitignore").write_text("__pycache__\nran\nstd*\nrunpytest-*\n")
    git(pytester.path, "init", "--quiet")
    commit(pytester.path)
    return pytester.path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, timeout=30)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Change something")


def run(pytester: pytest.Pytester, *options: str) -> tuple[int, str]:
    """The session's exit status, and the numbers whose test it ran."""
    ran = pytester.path / "ran"
    ran.unlink(missing_ok=True)
    done = pytester.runpytest_subprocess("--trial-results", "kept/results.json", *options)
    return int(done.ret), ran.read_text() if ran.exists() else ""


def kept(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "kept/results.json").read_text())
    return found


def test_only_what_has_not_passed_on_this_commit_is_run_again(
    pytester: pytest.Pytester, repository: Path
) -> None:
    assert run(pytester) == (1, "123")
    first = kept(repository)
    assert [(row["trial"], row["case"], row["outcome"]) for row in first] == [
        ("test_trials.py::test_number", "1", "passed"),
        ("test_trials.py::test_number", "2", "failed"),
        ("test_trials.py::test_number", "3", "passed"),
    ]
    assert set(first[0]) == {"trial", "case", "outcome", "seconds", "commit", "date"}

    commit(repository)  # of the results alone, which makes none of them old
    assert run(pytester, "-m", "trial") == (1, "2")
    assert kept(repository)[0] == first[0]

    (repository / "mended").touch()
    assert run(pytester, "-m", "trial") == (0, "123")  # the tree is at no commit now
    assert kept(repository)[0]["commit"] == f"{first[0]['commit']}+changes"

    commit(repository)
    assert run(pytester, "-m", "trial") == (0, "123")
    assert run(pytester, "-m", "trial") == (0, "")
    assert run(pytester, "-m", "trial", "--fresh-trials") == (0, "123")
