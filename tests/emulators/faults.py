"""A bad network: a proxy on loopback that fails the requests it is told to fail."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

STOP_SECONDS = 5.0


class Fault(Enum):
    """What happens to one request."""

    NONE = auto()
    BUSY = auto()
    """The store answers 503 and does nothing."""
    DENIED = auto()
    """The store answers 403 and does nothing."""
    LOST_ANSWER = auto()
    """The store does its work, and the connection is cut before the answer."""
    CUT_BODY = auto()
    """The connection is cut in the middle of the answer."""
    HELD = auto()
    """The request goes no further until the proxy ends, and then it is dropped."""
    HELD_ANSWER = auto()
    """The store does its work, and the answer goes no further."""


Choose = Callable[[str, str], Fault]
"""The fault of a request, from its method and its path with the query."""


@contextmanager
def faulty(
    upstream: str, choose: Choose, on_held: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """The address of a proxy in front of ``upstream`` for as long as the body runs.

    Args:
        on_held: Called when a request, or its answer, has come to where it is held.
    """

    ended = threading.Event()

    class Handler(_Handler):
        target = urlsplit(upstream).netloc
        fault = staticmethod(choose)

        def _hold(self) -> None:
            on_held()
            ended.wait()

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join(STOP_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # answers to "Expect: 100-continue"
    target: str
    fault: Choose

    def _relay(self) -> None:
        self.close_connection = True  # one request each, so that no thread outlives its answer
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = type(self).fault(self.command, self.path)
        if fault in (Fault.BUSY, Fault.DENIED):
            self.send_response(503 if fault is Fault.BUSY else 403)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        if fault is Fault.HELD:
            self._hold()
            return
        upstream = http.client.HTTPConnection(self.target, timeout=10)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                upstream.putheader(name, value)
        upstream.endheaders(body or None)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault is Fault.HELD_ANSWER:
            self._hold()
        if fault in (Fault.LOST_ANSWER, Fault.HELD_ANSWER):
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "server"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault is Fault.CUT_BODY else content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay  # noqa: N815  # the server's names

    def _hold(self) -> None:
        """Return when the proxy ends."""
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what goes wrong shows in the test."""
