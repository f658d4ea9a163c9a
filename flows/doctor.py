"""`headwater doctor`: what works on this machine, and what would not, before a run finds out."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from headwater.flows.console import EXIT_FAILED, Console
from headwater.infra.errors import HeadwaterError
from headwater.infra.gpu import probe
from headwater.infra.storage.filesystems import open_filesystem
from headwater.infra.storage.receipts import ReceiptStore
from headwater.infra.storage.uris import Uri
from headwater.infra.units import GIB

Outcome = Literal["ok", "note", "fail"]

PACKAGES = (
    "headwater",
    "prefect",
    "dask",
    "distributed",
    "polars",
    "deltalake",
    "s3fs",
    "gcsfs",
    "adlfs",
)
MIN_PYTHON = (3, 11)
MIN_DISK_GIB = 2.0
MAX_CLOCK_OFFSET_SECONDS = 60.0
"""S3 refuses signatures that are 15 minutes off; a minute is early enough to say so."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    outcome: Outcome
    text: str
    hint: str = ""


def examine(uris: list[str], console: Console) -> None:
    """Print every check; exit 1 where one of them failed."""
    checks: list[Check] = []
    for check in _checks(uris):
        checks.append(check)
        if not console.json:
            print(f"{check.outcome:<5} {check.name:<10} {check.text}")
            if check.hint and check.outcome != "ok":
                print(f"      {'':<10} -> {check.hint}")
    failed = [check for check in checks if check.outcome == "fail"]
    if console.json:
        console.result({"ok": not failed, "checks": [asdict(check) for check in checks]}, "")
    if failed:
        sys.exit(EXIT_FAILED)


def _checks(uris: list[str]) -> Iterator[Check]:
    yield _python()
    yield _packages()
    yield _gpu()
    yield _disk()
    yield _prefect()
    yield _guarded("receipts", lambda: f"kept in {ReceiptStore().uri.display}")
    for uri in uris:
        yield from _store(uri)
    if not uris:
        yield Check(
            "stores", "note", "none was named", "headwater doctor s3://BUCKET/FOLDER tries one"
        )


def _python() -> Check:
    said = f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"
    if sys.version_info < MIN_PYTHON:
        return Check("python", "fail", said, f"needs {'.'.join(map(str, MIN_PYTHON))} or newer")
    return Check("python", "ok", said)


def _packages() -> Check:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(
            "packages", "fail", f"missing: {', '.join(missing)}", "pip install headwater again"
        )
    return Check("packages", "ok", ", ".join(found))


def _gpu() -> Check:
    report = probe()
    if not report.usable:
        return Check("gpu", "note", f"none: {report.reason}", "work runs on the CPU")
    memory = ", ".join(
        f"{name} ({size / GIB:.1f} GiB)"
        for name, size in zip(report.names, report.memory_bytes, strict=True)
    )
    return Check("gpu", "ok", memory)


def _disk() -> Check:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / GIB
    said = f"{free:.1f} GiB free in {folder}, where inputs are staged"
    if free < MIN_DISK_GIB:
        return Check("disk", "fail", said, "free some space, or set TMPDIR to a larger disk")
    return Check("disk", "ok", said)


def _prefect() -> Check:
    from headwater.flows.prefect_api import configured_api_url, start

    url = configured_api_url()
    if not url:
        return Check("prefect", "ok", "no server is set; each run starts its own and ends it")

    def ask() -> str:
        with start() as api:
            return f"the server at {api.wait()} answers"

    return _guarded("prefect", ask)


def _store(text: str) -> Iterator[Check]:
    """A write, a read and a delete through fsspec, and a table through Delta; and the clock."""
    try:
        uri = Uri.parse(text)
        fs = open_filesystem(uri)
        folder = fs.canonical(uri) / f"headwater-doctor-{uuid.uuid4().hex[:12]}"
    except HeadwaterError as exc:
        yield Check("store", "fail", exc.message, exc.hint)
        return
    name = uri.scheme.value

    def objects() -> str:
        begun = time.perf_counter()
        probe_uri = folder / "probe"
        created = fs.create(probe_uri, b"headwater")
        try:
            whole = fs.read(fs.stat(probe_uri)) == b"headwater"
        finally:
            fs.delete(probe_uri)
        if not (created and whole):
            raise HeadwaterError("what was written did not read back")
        return f"{text}: wrote, read, deleted in {time.perf_counter() - begun:.2f} s"

    written = _guarded(name, objects)
    yield written
    if written.outcome == "fail":
        return

    def table() -> str:
        import pyarrow as pa
        from deltalake import DeltaTable

        from headwater.infra.storage.datasets import LOG_FOLDER

        begun = time.perf_counter()
        root = folder / "table"
        if root.is_local:
            root.path.mkdir(parents=True)
        try:
            DeltaTable.create(
                fs.delta_uri(root),
                pa.schema([("probe", pa.int64())]),
                storage_options=fs.delta_options(root),
            )
        finally:
            for ref in list(fs.list(root / LOG_FOLDER)):
                fs.delete(Uri.parse(ref.uri))
            if root.is_local:
                shutil.rmtree(folder.path, ignore_errors=True)
        return f"{text}: made a table and removed it in {time.perf_counter() - begun:.2f} s"

    yield _guarded("delta", table)

    def clock() -> str:
        offset = fs.clock_offset_seconds(uri)
        if abs(offset) > MAX_CLOCK_OFFSET_SECONDS:
            raise HeadwaterError(
                f"{text}: this machine's clock is {-offset:+.0f} s off the store's",
                hint="set the clock (NTP): signed requests are refused when it is far off",
            )
        return f"{text}: within {abs(offset):.0f} s of the store's"

    yield _guarded("clock", clock)


def _guarded(name: str, check: Callable[[], str]) -> Check:
    """A check whose error is its outcome; a doctor looks on after the first finding."""
    try:
        return Check(name, "ok", check())
    except HeadwaterError as exc:
        return Check(name, "fail", exc.message, exc.hint)
    except Exception as exc:  # noqa: BLE001 - whatever is wrong is what a doctor is asked for
        return Check(name, "fail", f"{type(exc).__name__}: {exc}")
