"""Copying between stores on loopback, beside rclone with its checks on."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from tests.benchmarks.measure import ROUNDS, Result, ratio, run, seconds_of

PAIRS = (("s3", "gcs"), ("s3", "azure"), ("gcs", "s3"))

SIZES = {"large": (1, 100_000_000), "small": (1_000, 10_000)}
"""How many objects of how many bytes."""

MOST = 1 / 0.75
"""The target: 0.75 times as fast as rclone, which computes one hash where we compute two."""

RCLONE = "HEADWATER_RCLONE"
"""Variable that names the command; without it, the one beside Python or in ``PATH`` is taken."""

IN_PARTS = ("--s3-upload-cutoff", "32M", "--s3-chunk-size", "32M", "--s3-upload-concurrency", "4")
"""With these rclone sends to S3 as we do. By itself it sends up to 200 MiB in one request, which
spares moto the putting together of parts: about half a second for 100 MB."""

AT_ONCE = 16
"""Objects that rclone has under way; as many as we have."""


@dataclass(frozen=True)
class Stores:
    """The running stores.

    Attributes:
        roots: Of a new bucket of each, for us and for rclone.
        variables: With which rclone reaches them.
    """

    roots: dict[str, tuple[str, str]]
    variables: dict[str, str]


def rclone_command() -> str | None:
    """The peer's command, or ``None`` where it is not installed."""
    beside = Path(sys.executable).with_name("rclone")
    named = os.environ.get(RCLONE) or (str(beside) if beside.exists() else "rclone")
    return shutil.which(named)


def transfer(one: str, other: str, size: str) -> Result | tuple[()]:
    """A folder of one store to another, against ``rclone copy``; nothing where that is missing."""
    from headwater.infra.storage.transfer import TransferRequest, plan_transfer, run_transfer

    name = f"transfer_{one}_{other}_{size}"
    rclone = rclone_command()
    if rclone is None:
        print(f"{name}: skipped, since rclone is not installed: {RCLONE} can name it")
        return ()
    count, size_bytes = SIZES[size]
    seconds: dict[str, list[float]] = {"headwater": [], "rclone": []}
    if (other, size) == ("s3", "large"):
        seconds["rclone in parts"] = []
    with _stores() as stores:
        ours, theirs = stores.roots[one]
        _fill(f"{ours}/source", count, size_bytes)

        def copy(peer: str) -> None:
            target = f"{peer.replace(' ', '-')}-{uuid4().hex[:8]}"
            if peer == "headwater":
                request = TransferRequest(f"{ours}/source", f"{stores.roots[other][0]}/{target}")
                receipt = run_transfer(plan_transfer(request))
                assert receipt.copied == count
                return
            at_once = ["--transfers", str(AT_ONCE), "--checkers", str(AT_ONCE)]
            ends = [f"{theirs}/source", f"{stores.roots[other][1]}/{target}"]
            parts = IN_PARTS if peer == "rclone in parts" else ()
            run([rclone, "copy", *ends, *at_once, *parts], stores.variables)

        for i in range(ROUNDS + 1):
            for peer in seconds:
                spent = seconds_of(partial(copy, peer))
                if i:  # the first is to warm up
                    seconds[peer].append(spent)
    what = f"{count:,} object{'s' if count > 1 else ''} of {size_bytes / 1e6:g} MB"
    return Result(
        name,
        f"{what} from {one} to {other} on loopback, planned, copied, with crc32c and sha256 on the"
        " way, checked by the target's store; rclone checks by its own",
        ratio(seconds["headwater"], seconds["rclone"]),
        "x rclone",
        MOST,
        {peer: statistics.median(times) for peer, times in seconds.items()},
    )


def _fill(root: str, count: int, size_bytes: int) -> None:
    from headwater.infra.storage.filesystems import open_filesystem
    from headwater.infra.storage.uris import Uri

    uri = Uri.parse(root)
    fs = open_filesystem(uri)
    with TemporaryDirectory() as tmp:
        path = Path(tmp, "object")
        for n in range(count):
            path.write_bytes(os.urandom(size_bytes))
            fs.upload(path, uri / f"{n:04}.bin")


@contextmanager
def _stores() -> Iterator[Stores]:
    from tests.emulators.azure import ACCOUNT, KEY, azurite
    from tests.emulators.gcs import fake_gcs
    from tests.emulators.s3 import REGION, moto

    with ExitStack() as stack:
        tmp = Path(stack.enter_context(TemporaryDirectory()))
        (tmp / "azure").mkdir()
        s3 = stack.enter_context(moto(tmp / "s3.txt"))
        gcs = stack.enter_context(fake_gcs(tmp / "gcs.txt", xml=False))
        azure = stack.enter_context(azurite(tmp / "azure"))
        environment = {**s3.environment, **gcs.environment, **azure.environment}
        os.environ.update(environment)
        buckets = s3.new_bucket(), gcs.new_bucket(), azure.new_container()
        settings = {
            "S3_TYPE": "s3",
            "S3_PROVIDER": "Other",
            "S3_ENDPOINT": s3.url,
            "S3_REGION": REGION,
            "S3_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
            "S3_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
            "GCS_TYPE": "google cloud storage",
            "GCS_ENDPOINT": f"{gcs.url}/storage/v1/",
            "GCS_ANONYMOUS": "true",
            "GCS_NO_CHECK_BUCKET": "true",
            "AZURE_TYPE": "azureblob",
            "AZURE_ACCOUNT": ACCOUNT,
            "AZURE_KEY": KEY,
            "AZURE_ENDPOINT": azure.url,
        }
        yield Stores(
            {
                "s3": (f"s3://{buckets[0]}", f"s3:{buckets[0]}"),
                "gcs": (f"gs://{buckets[1]}", f"gcs:{buckets[1]}"),
                "azure": (azure.address(buckets[2], "t"), f"azure:{buckets[2]}/t"),
            },
            {
                **{f"RCLONE_CONFIG_{name}": value for name, value in settings.items()},
                "RCLONE_CONFIG": os.devnull,
            },
        )
