"""Answers that no emulator gives, as the clouds' documentation shows them, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.emulators.http_body import request_body

STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent for one request."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came: a request line, its headers by lower-case name, and its body."""

    line: str
    headers: Mapping[str, str]
    body: str


@dataclass
class Recorded:
    """A running server.

    Attributes:
        url: Its address.
        answers: By method and path; the longest that a request line begins with is sent.
        first: By whole request line, what is sent before that, once each.
        asked: Every request so far.
    """

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    first: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, line: str) -> Answer:
        """What is sent for the request ``line``; a line that was not foreseen is an error."""
        if self.first.get(line):
            return self.first[line].pop(0)
        known = [begin for begin in self.answers if line.startswith(begin)]
        return self.answers[max(known, key=len)] if known else Answer(418, f"not foreseen: {line}")


@contextmanager
def recorded() -> Iterator[Recorded]:
    """A server for as long as the body runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self) -> None:
            self.close_connection = True  # one request each, so that no thread outlives its answer
            line = f"{self.command} {self.path}"
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append(Asked(line, headers, request_body(self).decode()))
            answer = server.answer(line)
            body = answer.body.encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _send  # noqa: N815 - as the base class names them

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what goes wrong shows in the test."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Recorded(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(STOP_SECONDS)
