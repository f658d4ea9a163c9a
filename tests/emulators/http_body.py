"""The body of a request, whichever way it was sent."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler


def request_body(handler: BaseHTTPRequestHandler) -> bytes:
    """All of it: as long as its length says, or in chunks up to the empty one."""
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        chunks.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(chunks)
