"""`headwater run etl`: refuse what cannot work, then run the flow on Prefect's server."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headwater.flows.console import Console
from headwater.flows.parameters import EtlParameters
from headwater.flows.plan_text import gather_line, placement_line
from headwater.flows.prefect_api import prefect_api
from headwater.infra.errors import HeadwaterError
from headwater.infra.models import RunReceipt, to_jsonable
from headwater.infra.storage.uris import Uri

if TYPE_CHECKING:
    from headwater.flows.etl_run import EtlRun
    from headwater.infra.storage.transfer.run import TransferProgress

QUIET_DASK = {"DASK_LOGGING__DISTRIBUTED": "critical"}
"""Dask reports each failing task and each lost connection at shutdown in many lines of its own;
what a person needs of it is in our messages and in the receipt."""

NOTES_SHOWN = 5
"""Lines about drift before the run; all of them are in its receipt."""


def run_etl(parameters: EtlParameters, console: Console) -> RunReceipt:
    """Run `etl` to its end and return its receipt.

    The server, where none is there, starts first and beside the scan: it takes seconds to answer.

    Raises:
        HeadwaterError: Refused while ``console.started`` is false, else failed.
    """
    for name, value in QUIET_DASK.items():
        os.environ.setdefault(name, value)
    with prefect_api() as api, console.display() as display, _scratch_folder():
        display.step("scan")
        with _no_garbage_collection():
            from headwater.flows.etl_run import EtlRun
            from headwater.infra.profiles import load_profile

        def copied(progress: TransferProgress) -> None:
            if not run.is_scanned:  # else the run itself has begun
                console.started = progress.objects_done < progress.objects
            display.copied(progress)

        run = EtlRun(
            parameters.to_request(),
            load_profile(parameters.profile),
            then=parameters.to_follow_ups(),
            on_progress=display.progress,
            on_copied=copied,
        )
        if run.request.gather:
            console.again = "copies that were checked are kept, finished parts are taken up"
            _gather_plan(run, console)
        try:
            run.scan()
        except BaseException as exc:
            _keep_what_was_copied(run, exc, console)
            raise
        _say_what_was_done(run, console)
        if run.is_done:
            receipt = run.receipt()
            run.keep(receipt)
            return receipt
        if not run.request.gather:
            console.say(f"plan: {placement_line(run.place(console.ask))}")
        display.step("start Prefect's server" if api.is_own else "call Prefect's server")
        with run.phase("prefect"):
            with _no_garbage_collection():
                from headwater.flows.etl import continuing, etl
            api.wait()
        with api.session(), continuing(run):
            console.started = True
            display.step("parts")
            # The parameters are a validated model already.
            return etl.with_options(validate_parameters=False)(parameters)


def _gather_plan(run: EtlRun, console: Console) -> None:
    """What a run copies first and what it costs, before a byte moves."""
    plan = run.plan_gather()
    placement = run.place(console.ask)
    console.say(f"plan: {placement_line(placement)}")
    if plan is not None and plan.gatherings:
        console.say(f"gather: {gather_line(plan)}")


def _keep_what_was_copied(run: EtlRun, error: BaseException, console: Console) -> None:
    """Keep the receipt of a run that was stopped before its scan: what has moved is billed."""
    receipt = run.receipt(error)
    if not any(one.copied_bytes for one in receipt.gathered):
        return
    try:
        run.keep(receipt)
    except (HeadwaterError, OSError) as exc:
        console.say(f"the receipt could not be kept: {exc}")


def _say_what_was_done(run: EtlRun, console: Console) -> None:
    """A short notice of how inputs that differ are read, before any part starts."""
    prepared = run.prepared
    for note in prepared.drift[:NOTES_SHOWN]:
        console.say(f"drift: {note}")
    if (more := len(prepared.drift) - NOTES_SHOWN) > 0:
        console.say(f"drift: {more} more in the receipt")
    if prepared.source.bad:
        first = prepared.source.bad[0]
        console.say(
            f"bad rows: {len(prepared.source.bad):,} are left out, the first in"
            f" {Uri.parse(first.file).display} line {first.line}: {first.reason}"
        )


@contextmanager
def _scratch_folder() -> Iterator[None]:
    """One folder for the temporary files of this process and of the workers that it starts.

    It is removed at the end, with what a part that was interrupted had no time to remove.
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="headwater-run-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Imports make hundreds of thousands of objects that stay; looking for cycles among them
    again and again takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def print_receipt(receipt: RunReceipt, console: Console) -> None:
    """The receipt, and what to do when nothing was left to do."""
    from headwater.flows.receipts import as_text
    from headwater.infra.models import Format, Mode

    console.result(to_jsonable(receipt), as_text(receipt))
    if receipt.had_nothing_to_do:
        if receipt.format is Format.PARQUET:
            console.say("nothing to do: this folder is written already; name another for a copy")
            return
        how = (
            "--again adds the rows once more"
            if receipt.mode is Mode.APPEND
            else "--fresh does the work anew"
        )
        console.say(f"nothing to do: this version is already there; {how}")
