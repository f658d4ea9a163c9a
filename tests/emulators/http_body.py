"""The body of a request, whichever way it was sent."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler


class CutRequest(ConnectionError):
    """The other side left before it had sent the whole body."""


def request_body(handler: BaseHTTPRequestHandler) -> bytes:
    """All of it: as long as its length says, or in chunks up to the empty one.

    Raises:
        CutRequest: It ends before; what came may not be taken for the whole.
    """
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return _exactly(handler, int(handler.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(_line(handler).split(b";")[0], 16):
        chunks.append(_exactly(handler, size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(chunks)


def _line(handler: BaseHTTPRequestHandler) -> bytes:
    line = handler.rfile.readline()
    if not line.endswith(b"\n"):
        raise CutRequest("no whole line")
    return line


def _exactly(handler: BaseHTTPRequestHandler, size_bytes: int) -> bytes:
    data = handler.rfile.read(size_bytes)
    if len(data) < size_bytes:
        raise CutRequest(f"{len(data)} of {size_bytes} bytes")
    return data
