"""``moto``'s EC2 behind a server that refuses what it is told to, in the words of the real one."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.emulators.recorded import Answer, Request, recorded
from tests.emulators.s3 import Moto


@dataclass
class ScriptedEc2:
    """A running server.

    Attributes:
        refusals: What is answered to the next calls of an action, in place of carrying them out:
            codes, an empty one to let a call through, ``LOST`` to carry it out and lose the answer.
        asked: How often each action came.
    """

    url: str = ""
    refusals: dict[str, list[str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def refuse(self, action: str, *codes: str) -> None:
        """Answer the next calls of ``action`` with ``codes``."""
        self.refusals.setdefault(action, []).extend(codes)


LOST = "lost"

STATUSES = {"RequestLimitExceeded": 503, "InternalError": 500, "InsufficientInstanceCapacity": 500}
"""HTTP status of a code; 400 of all others."""


@contextmanager
def scripted_ec2(moto: Moto) -> Iterator[ScriptedEc2]:
    """A server for as long as the body runs."""
    with recorded() as server:
        told = ScriptedEc2(server.url)

        def answer(request: Request) -> Answer:
            action = parse_qs(request.body.decode())["Action"][0]
            told.asked[action] += 1
            code = told.refusals[action].pop(0) if told.refusals.get(action) else ""
            if code and code != LOST:
                return Answer(fault(code), STATUSES.get(code, 400), {"Content-Type": "text/xml"})
            done = _forwarded(moto.url, request)
            return Answer(done.body, cut=True) if code == LOST else done

        server.answer = answer
        yield told


def fault(code: str) -> bytes:
    """An error as EC2 writes it."""
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>as it is told</Message></Error>"
        "</Errors><RequestID>1</RequestID></Response>"
    ).encode()


def _forwarded(url: str, request: Request) -> Answer:
    kept = ("content-type", "authorization", "x-amz-date")
    headers = {name: value for name, value in request.headers.items() if name in kept}
    asked = urllib.request.Request(f"{url}/", data=request.body, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=20) as done:  # noqa: S310
            return Answer(done.read(), done.status, {"Content-Type": "text/xml"})
    except urllib.error.HTTPError as exc:
        with exc:
            return Answer(exc.read(), exc.code, {"Content-Type": "text/xml"})
