"""A small HTTP server on loopback, in a thread of this process: requests in, replies out."""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.emulators.http_body import request_body

STOP_SECONDS = 5.0
BACKLOG = 256
"""Connections that may wait: a hundred nodes ask at once."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came.

    Attributes:
        path: Decoded, without the query.
        target: As it was sent, with the query.
        headers: By lower-case name.
    """

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body's object; empty where there is no body."""
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            raise ValueError(f"{self.method} {self.path}: the body is no JSON object")
        return value


LOST = 0
"""Status of a reply that is never sent: the connection is cut."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent: an object goes as JSON, text and bytes as they are."""

    status: int = 200
    body: object = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Handle = Callable[[Request], Reply]


@contextmanager
def serve(handle: Handle, *, address: str = "127.0.0.1") -> Iterator[str]:
    """The address of a server that answers with ``handle`` for as long as the body runs.

    What ``handle`` raises is answered as 500 with its text, so that it shows in the test.
    """

    class Handler(_Handler):
        answer = staticmethod(handle)

    server = _Server((address, 0), Handler)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.stop()
        thread.join(STOP_SECONDS)
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Waits without polling: a hundred of them idle for nothing, and stop at once."""

    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._stopped, self._stop = socket.socketpair()

    def serve(self) -> None:
        """Answer until ``stop`` is called."""
        self.socket.setblocking(False)  # a caller that has gone again must not hold us
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while self._stopped not in [key.fileobj for key, _ in selector.select()]:
                self.handle_request()

    def stop(self) -> None:
        """Let ``serve`` return."""
        self._stop.send(b".")

    def server_close(self) -> None:
        super().server_close()
        self._stop.close()
        self._stopped.close()

    def server_bind(self) -> None:
        """Bind, without asking a name server who we are, as the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Handle

    def _send(self) -> None:
        self.close_connection = True  # one request each, so that no thread outlives its answer
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            target=self.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=request_body(self),
        )
        try:
            reply = type(self).answer(request)
        except Exception as error:  # noqa: BLE001 - a client is waiting: it gets to know
            reply = Reply(500, f"the emulator failed: {type(error).__name__}: {error}")
        if reply.status != LOST:
            self._write(reply)

    def _write(self, reply: Reply) -> None:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        if isinstance(reply.body, bytes):
            content = reply.body
        elif isinstance(reply.body, str):
            content = reply.body.encode()
            headers.setdefault("content-type", "text/plain; charset=utf-8")
        else:
            content = json.dumps(reply.body).encode()
            headers.setdefault("content-type", "application/json")
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("content-length", str(len(content)))
        self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD" and reply.status != 204:
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = _send  # noqa: N815 - its names

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what goes wrong shows in the test."""
