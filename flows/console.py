"""What a person sees: results on stdout, everything else on stderr, and the exit code.

Exit codes: 0 done, 1 the run failed, 2 refused before anything started, 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from headwater.infra.errors import HeadwaterError
from headwater.infra.models import Status

if TYPE_CHECKING:
    from headwater.tasks.process import Progress

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130

PLAIN_SECONDS = 2.0
"""Seconds between two lines of progress where there is no terminal to draw on."""


@dataclass(slots=True)
class Console:
    """One command's output.

    Attributes:
        json: Results are one JSON object on stdout.
        debug: An error shows its whole trace.
        started: Work has begun, so an error is a failed run and not a refused request.
    """

    json: bool = False
    debug: bool = False
    started: bool = False

    def result(self, value: object, text: str) -> None:
        """Print ``text``, or ``value`` as JSON."""
        print(json.dumps(value, indent=2, ensure_ascii=False) if self.json else text)

    def say(self, text: str) -> None:
        """Print ``text`` beside the results."""
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[Progress], None]]:
        """A bar on a terminal, else a line now and then."""
        if sys.stderr.isatty():
            with _bar(label) as tell:
                yield tell
        else:
            yield _lines(label, self.say)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Turn every error of the block into a message and an exit code."""
        try:
            with _terminable():
                yield
        except HeadwaterError as exc:
            self._fail(exc, exc.message, exc.hint)
        except KeyboardInterrupt as exc:
            self._interrupted(exc)
        except BrokenPipeError:
            # The reader (head, less) has seen enough. What is buffered would fail once more.
            sys.stdout = open("/dev/null", "w")  # noqa: PTH123, SIM115
            sys.exit(EXIT_DONE)
        except Exception as exc:  # noqa: BLE001 - the last resort of the whole command
            self._fail(
                exc,
                f"unexpected {type(exc).__name__}: {exc}",
                "" if self.debug else "run with --debug for the whole trace, and report it",
            )

    def _fail(self, exc: Exception, message: str, hint: str) -> NoReturn:
        if self.debug:
            traceback.print_exception(exc)
        status = Status.FAILED if self.started else Status.REFUSED
        self.say(f"error: {message}" + (f"\n  -> {hint}" if hint else ""))
        if self.json:
            print(json.dumps({"status": status, "error": message, "hint": hint}, indent=2))
        sys.exit(EXIT_FAILED if self.started else EXIT_REFUSED)

    def _interrupted(self, exc: KeyboardInterrupt) -> NoReturn:
        if self.debug:
            traceback.print_exception(exc)
        hint = "run the same command again: finished parts are taken up" if self.started else ""
        self.say("interrupted" + (f"\n  -> {hint}" if hint else ""))
        if self.json:
            said = {"status": Status.INTERRUPTED, "error": "interrupted", "hint": hint}
            print(json.dumps(said, indent=2))
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def _terminable() -> Iterator[None]:
    """In the block SIGTERM does what Ctrl-C does."""

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console as Terminal
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("parts  {task.fields[rows]:>12,} rows"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Terminal(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None, rows=0)

        def tell(progress: Progress) -> None:
            bars.update(
                task, total=progress.parts, completed=progress.parts_done, rows=progress.rows_out
            )

        yield tell


def _lines(label: str, say: Callable[[str], None]) -> Callable[[Progress], None]:
    last = time.monotonic() - PLAIN_SECONDS

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.parts_done < progress.parts and now - last < PLAIN_SECONDS:
            return
        last = now
        say(
            f"{label}: {progress.parts_done} of {progress.parts} parts,"
            f" {progress.rows_out:,} rows"
        )

    return tell
