"""Every command of README.md's console blocks works, and prints what the README says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import Cli, Prefect

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"

SKIPPED = {
    r"git clone\b": "the checkout is here",
    r"cd\b": "commands run in one folder",
    r"source \.venv/bin/activate": "the environment is this one",
    r"make clouds|source build/clouds\.env": "it runs until Ctrl-C; test_demo_clouds starts it",
    r"headwater demo --clouds": "test_demo_clouds runs it, with the stores that it needs",
    r"make (test|check|trials|bench|clean|lock)\b": "a test cannot run all tests, and is in one",
    r"(python -m )?pip install\b": "it would change the environment that runs this",
}
"""Commands that are not run, each with the reason."""

RUN = r"headwater|make demo"
"""Beginnings of the commands that are run; any other command is a mistake in the README."""

VARYING = {
    r"\d+(\.\d+)?( ?)(m?s|min)\b": "TIME",
    r"\d+(\.\d+)? ([KMGT]i?)?B\b": "SIZE",
    r"\b[0-9a-f]{32}\b": "ID",
    r"\b\d+\.\d+\.\d+\b": "VERSION",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d": "MOMENT",
    r"\d+ (thread|core|process)(es|s)?\b": r"N \1s",
    r"\s+": " ",
}
"""What differs from run to run and from machine to machine, and what stands for it."""


@dataclass(frozen=True)
class Shown:
    """One command of a block and the lines that the block shows below it."""

    command: str
    output: tuple[str, ...]


def blocks(language: str) -> list[str]:
    fenced = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return fenced.findall(README.read_text("utf-8"))


def shown() -> list[Shown]:
    found = []
    for block in blocks("console"):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = piece.partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command = f"{command[:-1]} {more.removeprefix('>').strip()}"
            found.append(Shown(command.strip(), tuple(filter(str.strip, output.splitlines()))))
    return found


def normal(line: str) -> str:
    for pattern, stand_in in VARYING.items():
        line = re.sub(pattern, stand_in, line)
    return line.strip()


def lay_out_files(folder: Path) -> None:
    """Blocks that begin with a comment of their file's name, as files."""
    for language in ("python", "toml"):
        for block in blocks(language):
            named = re.match(r"# ([\w./-]+\.(py|toml))\n", block)
            if named:
                path = folder / named[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block, encoding="utf-8")


def as_run(command: str) -> str:
    """The command itself, or what make would run, in another folder than the checkout."""
    if not command.startswith("make "):
        return command
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *command.split()[1:]],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.splitlines()[-1].replace(".venv/bin/", "")


def require_shown(one: Shown, said: str) -> None:
    """Every line that the README shows is there, in its order; others may be between them."""
    lines = iter([normal(line) for line in said.splitlines()])
    for line in one.output:
        if line.strip() in ("…", "..."):
            continue
        assert normal(line) in lines, f"$ {one.command}\nno line {line!r} in order in:\n{said}"


def test_commands_of_the_readme(alone: Cli, prefect_server: Prefect) -> None:
    lay_out_files(alone.folder)
    environment = alone.environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    }
    ran: list[str] = []
    for one in shown():
        if any(re.match(pattern, one.command) for pattern in SKIPPED):
            continue
        assert re.match(RUN, one.command), f"README.md has the command: {one.command}"
        if ran:  # the first shows how it is without a server
            environment["PREFECT_API_URL"] = prefect_server.url
        done = subprocess.run(
            ["bash", "-c", as_run(one.command)],
            cwd=alone.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"$ {one.command}\n{done.stdout}"
        require_shown(one, done.stdout)
        ran.append(one.command)
    assert any(re.match(r"make demo|headwater demo", command) for command in ran), ran
    assert any(command.startswith("headwater run etl") for command in ran), ran
