"""What ``moto`` computes CRC32C with; where it finds no such module, it answers with CRC32."""

from __future__ import annotations

import google_crc32c


def crc32c(data: bytes) -> int:
    return int(google_crc32c.value(bytes(data)))
