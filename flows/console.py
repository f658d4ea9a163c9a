"""What a person sees: results on stdout, everything else on stderr, and the exit code.

Exit codes: 0 done, 1 the run failed, 2 refused before anything started, 130 interrupted.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol, Self

from headwater.infra.errors import HeadwaterError
from headwater.infra.models import Status
from headwater.infra.units import human_bytes

if TYPE_CHECKING:
    from headwater.infra.storage.transfer.run import TransferProgress
    from headwater.tasks.progress import Progress

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130

PLAIN_SECONDS = 2.0
"""Seconds between two lines of progress where there is no terminal to draw on."""


class Display(Protocol):
    """Where a command is, for the person who waits."""

    def step(self, text: str) -> None:
        """The next step has begun."""
        ...

    def progress(self, progress: Progress) -> None:
        """Some more parts are done."""
        ...

    def count(self, done: int, total: int) -> None:
        """So many files are done."""
        ...

    def copied(self, progress: TransferProgress) -> None:
        """Some more bytes are copied."""
        ...


@dataclass(slots=True)
class Console:
    """One command's output.

    Attributes:
        json: Results are one JSON object on stdout.
        debug: An error shows its whole trace.
        started: Work has begun, so an error is a failed run and not a refused request.
        again: What the same command does after it was interrupted.
    """

    json: bool = False
    debug: bool = False
    started: bool = False
    again: str = "finished parts are taken up"

    def result(self, value: object, text: str) -> None:
        """Print ``text``, or ``value`` as JSON."""
        print(json.dumps(value, indent=2, ensure_ascii=False) if self.json else text)

    def say(self, text: str) -> None:
        """Print ``text`` beside the results."""
        print(text, file=sys.stderr, flush=True)

    def ask(self, text: str) -> bool:
        """Whether the person at the terminal says yes; no where nobody is asked."""
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        sys.stderr.write(f"{text}; go on? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def display(self) -> Iterator[Display]:
        """Shows how far the work is: a bar on a terminal, else a line now and then."""
        if sys.stderr.isatty():
            with _Bar() as bar:
                yield bar
        else:
            yield _Lines(self.say)

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
        hint = f"run the same command again: {self.again}" if self.started else ""
        self.say("interrupted" + (f"\n  -> {hint}" if hint else ""))
        if self.json:
            said = {"status": Status.INTERRUPTED, "error": "interrupted", "hint": hint}
            print(json.dumps(said, indent=2))
        sys.exit(EXIT_INTERRUPTED)


def leave(code: int) -> NoReturn:
    """End this process, and wait for no thread.

    A part that was interrupted in this process, or ran beside one that failed, may still compute:
    nothing stops such a thread in native code, and under it the end of the interpreter itself
    would crash.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _terminable() -> Iterator[None]:
    """In the block SIGTERM does what Ctrl-C does."""

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Bar:
    """One line on a terminal that is drawn again and again, and gone at the end."""

    def __enter__(self) -> Self:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=Terminal(stderr=True),
            transient=True,
        )
        self._task = self._bars.add_task("start", total=None, said="")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step(self, text: str) -> None:
        self._bars.update(self._task, description=text)

    def progress(self, progress: Progress) -> None:
        said = f"parts {progress.rows_out:>11,} rows"
        self._bars.update(
            self._task, total=progress.parts, completed=progress.parts_done, said=said
        )

    def count(self, done: int, total: int) -> None:
        self._bars.update(self._task, total=total, completed=done, said="files")

    def copied(self, progress: TransferProgress) -> None:
        said = f"objects, {_of_bytes(progress)}"
        self._bars.update(
            self._task, total=progress.objects, completed=progress.objects_done, said=said
        )


class _Lines:
    """A line for each step, and one every few seconds while parts are done."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = time.monotonic()

    def step(self, text: str) -> None:
        self._say(text)

    def progress(self, progress: Progress) -> None:
        if progress.parts_done == progress.parts or self._is_time():
            self._say(
                f"{progress.parts_done} of {progress.parts} parts done, {progress.rows_out:,} rows"
            )

    def count(self, done: int, total: int) -> None:
        if self._is_time():
            self._say(f"{done:,} of {total:,} files done")

    def copied(self, progress: TransferProgress) -> None:
        if self._is_time():
            self._say(
                f"{progress.objects_done:,} of {progress.objects:,} objects copied,"
                f" {_of_bytes(progress)}"
            )

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last < PLAIN_SECONDS:
            return False
        self._last = now
        return True


def _of_bytes(progress: TransferProgress) -> str:
    return f"{human_bytes(progress.done_bytes)} of {human_bytes(progress.size_bytes)}"
