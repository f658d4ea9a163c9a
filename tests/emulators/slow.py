"""A distant store: a proxy on loopback that lets answers take their time, and counts them.

    python tests/emulators/slow.py UPSTREAM_PORT PORT DELAY_SECONDS BYTES_PER_SECOND

It forwards bytes and knows nothing of what they say, so each connection keeps its own pace: what
comes from the store is held for the delay, and given out no faster than the rate.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 256 * 1024
STOP_SECONDS = 5.0


@dataclass
class Proxy:
    """One proxy.

    Attributes:
        port: Where it listens.
        delay_seconds: How long the first byte of an answer is held.
        bytes_per_second: Of one connection; 0 is without limit.
        sent_bytes: What came from the store so far.
    """

    upstream: int
    port: int = 0
    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    sent_bytes: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Forward connections until ``stop`` is set."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            with suppress(ConnectionError):
                await asyncio.gather(
                    self._ask(reader, store_writer), self._answer(store_reader, writer)
                )
        finally:
            store_writer.close()
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def take() -> None:
            data = b"-"
            while data:
                data = await reader.read(CHUNK_BYTES)
                self.sent_bytes += len(data)
                await held.put((time.monotonic() + self.delay_seconds, data))

        async def give() -> None:
            free_at = 0.0
            while True:
                due, data = await held.get()
                if not data:
                    break
                now = time.monotonic()
                if max(due, free_at) > now:
                    await asyncio.sleep(max(due, free_at) - now)
                if self.bytes_per_second:
                    free_at = max(time.monotonic(), free_at) + len(data) / self.bytes_per_second
                writer.write(data)
                await writer.drain()
            writer.close()

        await asyncio.gather(take(), give())


if __name__ == "__main__":
    numbers = sys.argv[1:]
    main = Proxy(int(numbers[0]), int(numbers[1]), float(numbers[2]), float(numbers[3]))
    asyncio.run(main.serve(threading.Event(), asyncio.Event()))
