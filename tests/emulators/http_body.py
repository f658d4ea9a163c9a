"""The body of a request, whichever way it was sent."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler


class CutShort(ConnectionError):
    """The caller was gone before all had come: a store keeps nothing of that."""


def request_body(handler: BaseHTTPRequestHandler) -> bytes:
    """All of it: as long as its length says, or in chunks up to the empty one.

    Raises:
        CutShort: The connection ended in its middle.
    """
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return _exactly(handler, int(handler.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(_line(handler).split(b";")[0], 16):
        chunks.append(_exactly(handler, size))
        _line(handler)
    _line(handler)
    return b"".join(chunks)


def _exactly(handler: BaseHTTPRequestHandler, size: int) -> bytes:
    data = handler.rfile.read(size)
    if len(data) < size:
        raise CutShort(f"{len(data)} of {size} bytes came")
    return data


def _line(handler: BaseHTTPRequestHandler) -> bytes:
    line = handler.rfile.readline()
    if not line.endswith(b"\n"):
        raise CutShort("the connection ended between two chunks")
    return line
