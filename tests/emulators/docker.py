"""What an emulated machine has for ``docker``: the node's program without a container around it.

The machine's loopback address is given to it, since it cannot be told from those of others.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

METADATA = (
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "GCE_METADATA_HOST",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
)
"""Variables with the address of the machine's metadata service, which is on its own address."""

PROGRAM = "headwater-node"


def main(words: list[str]) -> None:
    """Become the program that the container would run."""
    if not words or words[0] != "run" or PROGRAM not in words:
        sys.exit(f"not emulated: docker {' '.join(words)}")
    given = words[words.index(PROGRAM) + 1 :]
    command = [sys.executable, "-m", "headwater.infra.node.run", *given, "--host", own_address()]
    os.execv(command[0], command)  # noqa: S606 - no shell, as in a container


def own_address() -> str:
    """Of the machine."""
    url = next(os.environ[name] for name in METADATA if name in os.environ)
    return urlsplit(url if "//" in url else f"//{url}").hostname or ""


if __name__ == "__main__":
    main(sys.argv[1:])
