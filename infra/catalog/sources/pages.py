"""JSON pages over HTTP: tried again when they are throttled, lost or cut, and never half read."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx

from headwater.infra.errors import AccessDenied, PriceListFailed, first_line

TRIES = 5
"""How often one page is asked for."""

FIRST_WAIT_SECONDS = 1.0
"""Before the second try; each later wait is twice as long, with jitter."""

MAX_WAIT_SECONDS = 60.0
"""The longest wait, also where the server asks for more."""

TIMEOUT_SECONDS = 60.0

Wait = Callable[[float], None]


@dataclass(slots=True)
class Pages:
    """Asks one server for pages.

    Attributes:
        name: What errors call it.
        wait: Sleeps between tries.
    """

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: Wait = time.sleep
    jitter: Callable[[], float] = random.random

    def get(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The object that ``url`` answers.

        Raises:
            AccessDenied: It wants credentials, or others.
            PriceListFailed: No whole answer came within ``TRIES`` tries.
        """
        said = ""
        for attempt in range(TRIES):
            asked = 0.0
            try:
                answer = httpx.get(
                    url,
                    params=params,
                    headers=dict(self.headers),
                    timeout=TIMEOUT_SECONDS,
                    verify=_trusted(),
                )
                if answer.status_code in (401, 403):
                    raise AccessDenied(
                        f"{self.name} answered {answer.status_code}: {_told(answer)}",
                        hint="check the credentials, or name another --source",
                    )
                if answer.is_success:
                    page = answer.json()
                    if not isinstance(page, dict):
                        raise PriceListFailed(f"{self.name} answered {type(page).__name__}")
                    return page
                said = f"answered {answer.status_code}: {_told(answer)}"
                if answer.status_code != 429 and answer.status_code < 500:
                    break
                asked = _seconds(answer.headers.get("Retry-After", ""))
            except httpx.TransportError as exc:
                said = f"did not answer: {first_line(exc)}"
            except ValueError as exc:
                said = f"sent an answer that was cut: {first_line(exc)}"
            if attempt < TRIES - 1:
                backoff = FIRST_WAIT_SECONDS * 2**attempt * (0.5 + self.jitter() / 2)
                self.wait(min(MAX_WAIT_SECONDS, max(asked, backoff)))
        raise PriceListFailed(
            f"{self.name} {said}", hint="the tables are as they were; run it again later"
        )


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted; reading them takes longer than a page."""
    return httpx.create_ssl_context()


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0


def _told(answer: httpx.Response) -> str:
    return " ".join(answer.text.split())[:200] or answer.reason_phrase
