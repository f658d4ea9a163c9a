"""Frames as bytes, for the way from one task to another."""

from __future__ import annotations

import io

import polars as pl


def pack(frame: pl.DataFrame) -> bytes:
    """``frame`` as an Arrow stream.

    Frames themselves must not be left to Dask: it pickles what it sends in the thread of its event
    loop, and Polars pickles with Python's lock held while it waits for its own threads. One of
    those that runs a Python function of a plan waits for that lock, and both wait for ever.
    """
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def unpack(data: bytes) -> pl.DataFrame:
    """The frame that ``pack`` was given."""
    return pl.read_ipc_stream(io.BytesIO(data))
