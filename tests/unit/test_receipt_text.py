"""A receipt as a person reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from headwater.flows.receipts import as_markdown, as_text, receipt_rows
from headwater.infra.models import (
    DatasetVersion,
    Format,
    InputSummary,
    LaunchTry,
    Mode,
    RunReceipt,
    Status,
)

BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)

RECEIPT = RunReceipt(
    run_id="ab12",
    run_key="0" * 32,
    flow="etl",
    status=Status.COMMITTED,
    started=BEGUN,
    finished=BEGUN + timedelta(seconds=3.25),
    inputs=(InputSummary("s3://lake/raw", Format.PARQUET, 1234, 3 * 2**20, 1_000_000, ""),),
    target="s3://lake/clean",
    mode=Mode.OVERWRITE,
    partition_by=(),
    job="jobs:clean",
    dataset=DatasetVersion("s3://lake/clean", 4, 900_000, 2, 5 * 2**20),
    rows_in=1_000_000,
    rows_out=900_000,
    bytes_read=3 * 2**20,
    bytes_written=5 * 2**20,
    parts=8,
    resumed_parts=0,
    retries=0,
    seconds={"scan": 0.25, "process": 2.0},
    engine="polars 1.44.2",
    device="cpu",
    tries=(LaunchTry("local cpu, in process, 2 threads", "opened", 0.1),),
)


def text_of(receipt: RunReceipt) -> dict[str, str]:
    return dict(receipt_rows(receipt))


def test_receipt_tells_rows_bytes_parts_and_version() -> None:
    rows = text_of(RECEIPT)
    assert rows["status"] == "committed"
    assert rows["source"] == "s3://lake/raw (parquet, 1,234 files, 3.0 MiB, 1,000,000 rows)"
    assert rows["version"] == "4: 900,000 rows in 2 files, 5.0 MiB"
    assert rows["rows"] == "1,000,000 in, 900,000 out"
    assert rows["bytes"] == "3.0 MiB read, 5.0 MiB written"
    assert rows["parts"] == "8, no retry"
    assert "local cpu, in process, 2 threads" in rows["engine"]
    assert rows["run"] == "ab12"
    assert "cost" not in rows


def test_one_of_a_kind_is_singular() -> None:
    source = replace(RECEIPT.inputs[0], files=1, rows=None)
    assert text_of(replace(RECEIPT, inputs=(source,)))["source"] == (
        "s3://lake/raw (parquet, 1 file, 3.0 MiB)"
    )


def test_taken_up_parts_retries_and_fallbacks_are_told() -> None:
    rows = text_of(replace(RECEIPT, resumed_parts=3, retries=2, gpu_fallbacks=5, cost_usd=0.5))
    assert rows["parts"].startswith("8, 3 taken up, 2 retries")
    assert "5 plans fell back to the CPU" in rows["engine"]
    assert rows["cost"] == "$0.50"


def test_store_calls_that_were_made_again_are_told() -> None:
    assert text_of(replace(RECEIPT, store_retries=1234))["store calls"] == "1,234 made again"
    assert "store calls" not in text_of(RECEIPT)


def test_sources_of_several_stores_stand_one_below_the_other() -> None:
    uri = "s3://lake/a.csv, gs://lake/b.csv"
    receipt = replace(RECEIPT, inputs=(replace(RECEIPT.inputs[0], uri=uri),))

    first, second = as_text(receipt).splitlines()[1:3]

    assert first == "source       s3://lake/a.csv,"
    assert second.startswith("             gs://lake/b.csv (parquet")


def test_run_without_a_version_leaves_the_target_unchanged() -> None:
    rows = text_of(replace(RECEIPT, status=Status.FAILED, dataset=None))
    assert rows["target"] == "s3://lake/clean (unchanged)"
    assert "version" not in rows


def test_version_that_was_there_tells_nothing_of_parts() -> None:
    rows = text_of(replace(RECEIPT, status=Status.ALREADY_COMMITTED))
    assert rows["status"] == "already committed"
    assert not {"rows", "bytes", "parts", "engine"} & set(rows)


def test_text_is_one_fact_a_line_in_two_columns() -> None:
    lines = as_text(RECEIPT).splitlines()
    assert len(lines) == len(receipt_rows(RECEIPT))
    starts = {len(line) - len(line.split(maxsplit=1)[1]) for line in lines}
    assert len(starts) == 1


def test_markdown_escapes_what_would_end_a_cell() -> None:
    table = as_markdown(replace(RECEIPT, job="jobs:a|b"))
    assert "| **job** | jobs:a\\|b |" in table.splitlines()
    assert len(table.splitlines()) == len(receipt_rows(RECEIPT)) + 2
