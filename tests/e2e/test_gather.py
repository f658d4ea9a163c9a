"""`headwater run etl --gather` as a person runs it: what it says, copies, and goes on from."""

from __future__ import annotations

import io
import signal
import time
from threading import Event

import polars as pl
import pytest
from tests.e2e.conftest import Cli
from tests.emulators.faults import Fault, faulty
from tests.emulators.gcs import FakeGcs
from tests.emulators.s3 import Moto

FILES = 6
ROWS = 1000


def parquet(number: int) -> bytes:
    data = io.BytesIO()
    pl.DataFrame({"file": [number] * ROWS, "n": range(ROWS)}).write_parquet(data)
    return data.getvalue()


@pytest.fixture
def source(alone: Cli, moto_process: Moto) -> str:
    bucket = moto_process.new_bucket()
    for number in range(FILES):
        moto_process.put(bucket, f"in/{number}.parquet", parquet(number))
    alone.environment |= moto_process.environment
    return f"s3://{bucket}/in"


def test_what_is_copied_is_said_before_and_kept_in_the_receipt(headwater: Cli, source: str) -> None:
    command = ("run", "etl", "--source", source, "--gather", "near")
    first = headwater(*command, "--target", "out")
    other = headwater(*command, "--target", "other", "--json")

    assert first.code == 0, first.err
    assert f"gather: {FILES} objects, " in first.err
    assert f"gathered     {FILES} objects, " in first.out
    assert other.code == 0, other.err
    assert f"nothing to copy to {headwater.folder}/near; {FILES} there already" in other.err
    assert other.json["gathered"][0]["copied"] == 0
    assert headwater.rows().height == FILES * ROWS
    assert headwater.rows().equals(headwater.rows("other"))


@pytest.mark.trial
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_and_the_same_command_copy_each_file_once(
    headwater: Cli, gcs_process: FakeGcs, moto_process: Moto, end: signal.Signals
) -> None:
    bucket = gcs_process.new_bucket()
    for number in range(FILES):
        gcs_process.put(bucket, f"in/{number}.parquet", parquet(number))
    headwater.environment |= gcs_process.environment | moto_process.environment
    gather = f"s3://{moto_process.new_bucket()}/near"
    command = ("run", "etl", "--source", f"gs://{bucket}/in", "--target", "out")
    command = (*command, "--gather", gather)
    reached = Event()

    def choose(method: str, path: str) -> Fault:
        return Fault.HELD if method == "PUT" and "/5.parquet" in path else Fault.NONE

    with faulty(moto_process.url, choose, reached.set) as url:
        process = headwater.start(*command, env=Moto(url).environment)
        assert reached.wait(60), process.poll() or "the copy was not reached"
        time.sleep(3)  # so that what was checked before is told of
        process.send_signal(end)
        process.communicate(timeout=60)

    again = headwater(*command, "--json")

    assert again.code == 0, again.err
    (one,) = again.json["gathered"]
    assert (one["objects"], one["copied"]) == (FILES, 1)
    assert headwater.rows().height == FILES * ROWS
