"""The XML interface of Cloud Storage in front of a server that has the JSON one only.

``deltalake`` and Polars list and write through XML. A call of ``/BUCKET`` or ``/BUCKET/KEY``
becomes a JSON call on the same data; JSON calls pass as they are. What is not known is refused,
so that no condition is ignored in silence.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.emulators.http_body import CutShort, request_body

JSON_PATHS = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/")
PER_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "server", "date"})
UNKNOWN_CONDITION = re.compile(r"(?i)if-|x-goog-(copy-source|if-(?!generation-match$))")
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the caller."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def xml_gateway(upstream: str) -> Iterator[str]:
    """The address that speaks both interfaces for as long as the body runs."""

    class Handler(_Handler):
        target = urlsplit(upstream).netloc

    gateway = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{gateway.server_port}"
    finally:
        gateway.shutdown()
        gateway.server_close()
        thread.join(STOP_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: str

    def _answer(self) -> None:
        self.close_connection = True  # one request each, so that no thread outlives its answer
        try:
            body = request_body(self)
        except CutShort:
            return
        if self.path.startswith(JSON_PATHS):
            # The Host header stays: the server builds the address of resumable uploads from it.
            headers = {k: v for k, v in self.headers.items() if k.lower() not in PER_CONNECTION}
            answer = self._json(self.command, self.path, body, headers)
        else:
            answer = self._xml(body)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in PER_CONNECTION | {"content-length"} or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Date", self.date_time_string())
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _answer  # noqa: N815

    def _json(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        upstream = http.client.HTTPConnection(self.target, timeout=10)
        try:
            upstream.request(method, path, body or None, dict(headers or {}))
            answer = upstream.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            upstream.close()

    def _xml(self, body: bytes) -> Answer:
        path, _, text = self.path.partition("?")
        bucket, _, key = (unquote(part) for part in path.lstrip("/").partition("/"))
        query = dict(parse_qsl(text, keep_blank_values=True))
        generation = self.headers.get("x-goog-if-generation-match")
        if any(UNKNOWN_CONDITION.match(name) for name in self.headers):
            return _error(400, "a condition that is not known here")
        place = f"/storage/v1/b/{_quoted(bucket)}/o/{_quoted(key)}"
        match self.command:
            case "GET" if not key:
                return self._list(bucket, query)
            case ("GET" | "HEAD") as method if not query:
                span = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
                return self._json(method, f"/download{place}?alt=media", headers=span)
            case "DELETE" if not query:
                found = self._json("DELETE", place)
                return Answer(204, {}, b"") if found.status < 300 else _error(found.status, key)
            case "PUT" if key and not query:
                return self._put(bucket, key, body, generation)
            case _:
                return _error(400, "a call that is not known here")

    def _put(self, bucket: str, key: str, body: bytes, generation: str | None) -> Answer:
        # Of its uploads, the server honours the condition in this one only.
        cut = uuid.uuid4().hex
        content = b"".join(
            [
                f"--{cut}\r\nContent-Type: application/json\r\n\r\n".encode(),
                json.dumps({"name": key}).encode(),
                f"\r\n--{cut}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
                body,
                f"\r\n--{cut}--\r\n".encode(),
            ]
        )
        condition = "" if generation is None else f"&ifGenerationMatch={_quoted(generation)}"
        path = f"/upload/storage/v1/b/{_quoted(bucket)}/o?uploadType=multipart{condition}"
        kind = {"Content-Type": f"multipart/related; boundary={cut}"}
        answer = self._json("POST", path, content, kind)
        if answer.status >= 300:
            return _error(answer.status, key)
        return Answer(200, _tags(json.loads(answer.body)), b"")

    def _list(self, bucket: str, query: Mapping[str, str]) -> Answer:
        arguments = {
            "prefix": query.get("prefix"),
            "delimiter": query.get("delimiter"),
            "maxResults": query.get("max-keys", "1000"),
            "pageToken": query.get("continuation-token"),
            # JSON's start is inclusive.
            "startOffset": f"{query['start-after']}\0" if "start-after" in query else None,
        }
        text = "&".join(f"{name}={_quoted(value)}" for name, value in arguments.items() if value)
        answer = self._json("GET", f"/storage/v1/b/{_quoted(bucket)}/o?{text}")
        if answer.status >= 300:
            return _error(answer.status, bucket)
        page = json.loads(answer.body)
        token = page.get("nextPageToken")
        rows = [
            f"<Contents><Key>{escape(row['name'])}</Key><Size>{row['size']}</Size>"
            f"<LastModified>{row['updated']}</LastModified>"
            f"<ETag>{escape(_tags(row)['ETag'])}</ETag></Contents>"
            for row in page.get("items") or ()
        ]
        rows += [
            f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
            for prefix in page.get("prefixes") or ()
        ]
        if token:
            rows.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
        rows.append(f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>")
        return _document(200, "ListBucketResult", "".join(rows))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what goes wrong shows in the test."""


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {"ETag": f'"{row["etag"]}"', "x-goog-generation": str(row["generation"])}


def _document(status: int, root: str, content: str) -> Answer:
    headers = {"Content-Type": "application/xml"}
    return Answer(status, headers, f"<{root}>{content}</{root}>".encode())


def _error(status: int, message: str) -> Answer:
    content = f"<Code>{status}</Code><Message>{escape(message)}</Message>"
    return _document(status, "Error", content)
