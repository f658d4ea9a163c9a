"""A bad network: a proxy on loopback that fails the requests it is told to fail."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.emulators.http_body import CutRequest, request_body

STOP_SECONDS = 5.0

SLOW_SECONDS = 0.3
"""How late a slow first byte comes; far more than a loopback server needs."""


class Fault(Enum):
    """What happens to one request."""

    NONE = auto()
    BUSY = auto()
    """The store answers 503 and does nothing."""
    THROTTLED = auto()
    """The store answers 429 and does nothing."""
    DENIED = auto()
    """The store answers 403 and does nothing."""
    LOST_ANSWER = auto()
    """The store does its work, and the connection is cut before the answer."""
    CUT_BODY = auto()
    """The connection is cut in the middle of the answer."""
    DROPPED = auto()
    """The connection is reset before anything is done."""
    SLOW = auto()
    """The first byte of the answer comes late."""
    HELD = auto()
    """The request goes no further until the proxy ends, and then it is dropped."""
    HELD_ANSWER = auto()
    """The store does its work, and the answer goes no further."""
    ALTERED = auto()
    """The store gets another byte in the middle of what was sent."""


STATUSES = {Fault.BUSY: 503, Fault.DENIED: 403, Fault.THROTTLED: 429}

Choose = Callable[[str, str], Fault]
"""The fault of a request, from its method and its path with the query."""

OnHeld = Callable[[], object]
"""Called when a request, or its answer, has come to where it is held."""

OnAnswer = Callable[[int], object]
"""Called with the size in bytes of what the store answers."""


class HalfOfAll:
    """Fails every second request, by chance, with one of ``faults``.

    One request is failed at most ``in_a_row`` times one after another, so that no test depends on
    its luck. How many requests were failed is ``failed``, of ``asked``.
    """

    def __init__(self, *faults: Fault, seed: int = 7, in_a_row: int = 6) -> None:
        self.asked = self.failed = 0
        self._faults = faults
        self._in_a_row = in_a_row
        self._random = random.Random(seed)
        self._failures: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Fault:
        with self._lock:
            self.asked += 1
            request = (method, path)
            if self._random.random() < 0.5 or self._failures[request] == self._in_a_row:
                self._failures[request] = 0
                return Fault.NONE
            self._failures[request] += 1
            self.failed += 1
            return self._random.choice(self._faults)


@contextmanager
def faulty(
    upstream: str,
    choose: Choose,
    on_held: OnHeld = lambda: None,
    on_answer: OnAnswer = lambda _: None,
) -> Iterator[str]:
    """The address of a proxy in front of ``upstream`` for as long as the body runs."""

    class Handler(_Handler):
        target = urlsplit(upstream).netloc
        fault = staticmethod(choose)
        held = (on_held,)
        answered = (on_answer,)
        ended = threading.Event()

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        Handler.ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join(STOP_SECONDS)


@dataclass
class Counted:
    """A proxy that lets all through.

    Attributes:
        url: Its address.
        sent_bytes: What the store has sent through it so far, without headers.
    """

    url: str = ""
    sent_bytes: int = 0


@contextmanager
def counted(upstream: str) -> Iterator[Counted]:
    """A proxy in front of ``upstream`` for as long as the body runs, and what comes through it."""
    proxy, lock = Counted(), threading.Lock()

    def count(size_bytes: int) -> None:
        with lock:
            proxy.sent_bytes += size_bytes

    with faulty(upstream, lambda _method, _path: Fault.NONE, on_answer=count) as proxy.url:
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # answers to "Expect: 100-continue"
    target: str
    fault: Choose
    held: tuple[OnHeld]
    answered: tuple[OnAnswer]
    ended: threading.Event

    def _relay(self) -> None:
        self.close_connection = True  # one request each, so that no thread outlives its answer
        try:
            body = request_body(self)
        except CutRequest:
            return  # as a store does: what was never sent whole is no object
        fault = type(self).fault(self.command, self.path)
        if fault is Fault.ALTERED:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if fault in STATUSES:
            self.send_response(STATUSES[fault])
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        if fault is Fault.DROPPED:
            # Without waiting for what is not sent yet: the other side gets a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if fault is Fault.HELD:
            self._hold()
            return
        upstream = http.client.HTTPConnection(self.target, timeout=10)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length"):
                upstream.putheader(name, value)
        if body or self.command in ("PUT", "POST"):
            upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body or None)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        self.answered[0](len(content))
        if fault is Fault.HELD_ANSWER:
            self._hold()
        if fault in (Fault.LOST_ANSWER, Fault.HELD_ANSWER):
            return
        if fault is Fault.SLOW:
            self.ended.wait(SLOW_SECONDS)
        self.send_response_only(answer.status, answer.reason)
        has_length = False
        for name, value in answer.getheaders():
            has_length = has_length or name.lower() == "content-length"
            if name.lower() not in ("connection", "transfer-encoding", "server"):
                self.send_header(name, value)
        if not has_length and self.command != "HEAD":  # else a cut would read as the end
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault is Fault.CUT_BODY else content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay  # noqa: N815  # the server's names

    def _hold(self) -> None:
        """Return when the proxy ends."""
        self.held[0]()
        self.ended.wait()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what goes wrong shows in the test."""
