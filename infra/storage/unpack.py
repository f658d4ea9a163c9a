"""Bytes of text files as a stream: pinned, unpacked within a limit, decoded to UTF-8.

Memory stays at a few blocks, whatever a file unpacks to.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from headwater.infra.errors import (
    DamagedFile,
    HeadwaterError,
    InvalidRequest,
    UnknownName,
    UnsupportedData,
    first_line,
)
from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.protocol import Filesystem
from headwater.infra.storage.listing import display
from headwater.infra.storage.staging import CODECS, Codec
from headwater.infra.units import GIB, MIB, human_bytes

READ_BYTES = 4 * MIB
"""Taken from a store or a disk at a time."""

UNPACKED_FLOOR = 64 * MIB
"""Text of up to this size may be packed as tightly as it likes."""

CLAIMED_FLOOR = 1 * GIB
"""Rows of up to this size in memory may be claimed by a Parquet file of any size."""

_BOM = codecs.BOM_UTF8
_SOME_ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252", "shift_jis", "gb18030")


class Bytes(Protocol):
    """Something that is read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most ``size``; none at the end."""
        ...


class Ranges:
    """A pinned file of a store, in ranges from its beginning."""

    def __init__(self, fs: Filesystem, ref: DataRef) -> None:
        self._fs, self._ref, self._at = fs, ref, 0
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most ``size``."""
        if not self._rest and self._at < self._ref.size_bytes:
            end = min(self._at + READ_BYTES, self._ref.size_bytes)
            self._rest, self._at = self._fs.read(self._ref, self._at, end), end
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def require_encoding(name: str) -> str:
    """``name`` as Python spells it.

    Raises:
        UnknownName: There is no such encoding, or it is none of text.
    """
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)
    except (LookupError, TypeError) as exc:
        raise UnknownName.of("encoding", name, _SOME_ENCODINGS) from exc
    return codec.name


def require_delimiter(text: str) -> None:
    """Refuse what cannot stand between two fields.

    Raises:
        InvalidRequest: It is not one character of ASCII, or one that lines or quotes need.
    """
    if text and (len(text) != 1 or not text.isascii() or text in '"\n\r'):
        raise InvalidRequest(
            f"the delimiter {text!r} is not one character",
            hint="give one such as ',', ';', '|' or a tab",
        )


def unpacked(source: Bytes, ref: DataRef, max_expansion: int) -> Iterator[bytes]:
    """The text inside ``source`` in blocks, unpacked where the name of ``ref`` says so.

    Raises:
        UnsupportedData: It unpacks to more than ``max_expansion`` times its size.
        DamagedFile: It is not of that codec, or cut off.
    """
    codec = codec_of(ref)
    if codec is None:
        yield from iter(lambda: source.read(READ_BYTES), b"")
        return
    if ref.size_bytes == 0:
        raise _damaged(ref, codec, "it has no bytes")
    limit = max(UNPACKED_FLOOR, max_expansion * ref.size_bytes)
    size = 0
    try:
        blocks = Stream(iter(lambda: source.read(READ_BYTES), b""))
        with pa.CompressedInputStream(pa.PythonFile(blocks, mode="r"), codec) as stream:
            while block := stream.read(READ_BYTES):
                size += len(block)
                if size > limit:
                    raise _expands(ref, limit)
                yield block
    except HeadwaterError:
        raise
    except OSError as exc:
        if exc.errno is not None:  # from the disk, not from the codec
            raise
        raise _damaged(ref, codec, str(exc)) from exc


def codec_of(ref: DataRef) -> Codec | None:
    """How the file is compressed, as its name says."""
    return CODECS.get(ref.uri[ref.uri.rfind(".") :].lower())


def decoded(blocks: Iterator[bytes], ref: DataRef, encoding: str) -> Iterator[bytes]:
    """Text in ``encoding`` as UTF-8 without a mark at its beginning, ended by a line feed.

    Raises:
        DamagedFile: It is not in that encoding; the first byte that is not is named.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    at, first, last = 0, True, b""
    for block in [blocks, iter([b""])]:
        for data in block:
            final = not data
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final)
            except UnicodeDecodeError as exc:
                said = _where(exc, at - waiting + exc.start)
                raise _not_encoded(ref, encoding, said) from exc
            except UnicodeError as exc:  # UTF-16 without the mark that tells its order of bytes
                raise _not_encoded(ref, encoding, first_line(exc)) from exc
            at += len(data)
            if "\0" in text:
                raise DamagedFile(
                    f"{display(ref)} holds NUL bytes, so it is no text in {encoding}",
                    hint="say which encoding it has, for example --encoding utf-16, or leave it"
                    " out",
                )
            out = data if is_utf8 else text.encode("utf-8")
            if first and out:
                out, first = out.removeprefix(_BOM), False
            if out:
                last = out[-1:]
                yield out
    if last and last != b"\n":
        yield b"\n"


def of_path(path: Path) -> Iterator[bytes]:
    """The blocks of a local file that is not packed."""
    with path.open("rb") as file:
        yield from iter(lambda: file.read(READ_BYTES), b"")


class Stream(io.RawIOBase):
    """Blocks as a file that Arrow reads; it keeps the last of what went through."""

    def __init__(self, blocks: Iterator[bytes], keep: int = 0) -> None:
        super().__init__()
        self._blocks, self._rest, self._keep = blocks, b"", keep
        self.tail = b""

    def peek(self) -> bytes:
        """The first block, which is still to be read; empty at the end."""
        while not self._rest and (block := next(self._blocks, None)) is not None:
            self._rest = block
        return self._rest

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; fewer than ``size`` only at the end."""
        found = bytearray()
        while size < 0 or len(found) < size:
            block = self.peek()
            if not block:
                break
            wanted = len(block) if size < 0 else size - len(found)
            found += block[:wanted]
            self._rest = block[wanted:]
        data = bytes(found)
        if self._keep:
            self.tail = (self.tail + data[-self._keep :])[-self._keep :]
        return data

    def readable(self) -> bool:
        """Yes."""
        return True


def _expands(ref: DataRef, limit: int) -> UnsupportedData:
    return UnsupportedData(
        f"{display(ref)} has {human_bytes(ref.size_bytes)} and unpacks to more than"
        f" {human_bytes(limit)}",
        hint="if it is meant to, allow more with --max-expansion N: how many times its size a"
        " file may unpack to",
    )


def _damaged(ref: DataRef, codec: Codec, said: str) -> DamagedFile:
    return DamagedFile(
        f"{display(ref)} is not whole {codec} data: {said}",
        hint="get the file again from where it was made",
    )


def _where(exc: UnicodeDecodeError, offset: int) -> str:
    byte = exc.object[exc.start : exc.start + 1]
    said = f"byte 0x{byte.hex()} at offset {offset:,}" if byte else f"it ends at offset {offset:,}"
    return f"{said}: {exc.reason}"


def _not_encoded(ref: DataRef, encoding: str, said: str) -> DamagedFile:
    return DamagedFile(
        f"{display(ref)} is not {encoding} text: {said}",
        hint="say which encoding it has, for example --encoding cp1252 or utf-16",
    )
