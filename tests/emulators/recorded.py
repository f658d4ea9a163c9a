"""A server on loopback that gives recorded answers, and fails as it is told to."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.emulators.http_body import request_body

STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Request:
    """What was asked."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered; of one that is ``cut``, half is sent before the connection ends."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """``value`` as an answer."""
    return Answer(
        json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers}
    )


@dataclass
class Recorded:
    """A running server.

    Attributes:
        answer: What is answered to a request.
        first: Answers that are given before those of ``answer``, one for each request.
        asked: The requests that came.
    """

    url: str = ""
    answer: Callable[[Request], Answer] = lambda _: Answer(b"nothing is recorded", 404)
    first: deque[Answer] = field(default_factory=deque)
    asked: list[Request] = field(default_factory=list)


@contextmanager
def recorded() -> Iterator[Recorded]:
    """A server that runs until the body is left."""
    told = Recorded()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            split = urlsplit(self.path)
            request = Request(
                split.path,
                dict(parse_qsl(split.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                request_body(self),
            )
            told.asked.append(request)
            answer = told.first.popleft() if told.first else told.answer(request)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            if answer.cut:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
            self.close_connection = answer.cut

        do_GET = do_POST = _handle  # noqa: N815 - the names that the server calls

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(STOP_SECONDS)
