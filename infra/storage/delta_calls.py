"""Calls of ``deltalake``, made again where the network and not the table is what failed them.

Its own client tries again what a store refuses or drops (``delta_tries`` says how often, and
nobody can count those), but not an answer that is cut in its middle.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from deltalake.exceptions import DeltaError

from headwater.infra.errors import AccessDenied, StoreUnavailable, first_line
from headwater.infra.storage.filesystems.objects import MAX_PAUSE_SECONDS, PAUSE_SECONDS
from headwater.infra.storage.retries import count_retry

ASK_SECONDS = 60.0
"""After this time no further call is made; one that is under way may take longer."""

_PASSING = re.compile(r"HTTP error|Error getting list response|after [1-9]\d* retries")
"""What it says of a connection that failed, and of a store that stayed busy."""

_DENIED = re.compile(r"lacked the necessary privileges|lacked valid authentication credentials")
"""What it says of a store that refuses a call for want of a right."""

T = TypeVar("T")


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later, as far as deltalake's words tell."""
    return _PASSING.search(str(error)) is not None


def denied(what: str, error: Exception) -> AccessDenied | None:
    """Our error where deltalake's words tell that a right is missing.

    Args:
        what: What was tried, for the message: "read the log of …".
    """
    if _DENIED.search(str(error)) is None:
        return None
    return AccessDenied(
        f"not allowed to {what}: {first_line(error)}",
        hint="grant the credentials in use to list, read and write objects below the table's"
        " address, _delta_log/ included",
    )


def ask_again(what: str, call: Callable[[], T]) -> T:
    """The answer to ``call``, which is made again for up to ``ASK_SECONDS`` while it may pass.

    Args:
        what: What the call does, for the message: "read the log of …".
    Raises:
        AccessDenied: The store does not allow it.
        StoreUnavailable: It has failed all that time.
        DeltaError, OSError: It failed otherwise.
    """
    end = time.monotonic() + ASK_SECONDS
    tried = 0
    while True:
        tried += 1
        try:
            return call()
        except (DeltaError, OSError) as exc:
            if not may_pass(exc):
                if (ours := denied(what, exc)) is not None:
                    raise ours from exc
                raise
            if time.monotonic() > end:
                raise StoreUnavailable(
                    f"could not {what} in {tried} tries: {first_line(exc)}", hint="try again later"
                ) from exc
        count_retry()
        pause = min(PAUSE_SECONDS * 2 ** min(tried - 1, 10), MAX_PAUSE_SECONDS / 5)
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
