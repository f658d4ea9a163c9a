"""Bad input: exit 2, a message that names the thing and the next act, nothing written.

Most of it runs in this process, where a refusal takes a moment; some through the command itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from tests.e2e.conftest import Cli, Prefect, require_golden
from tests.emulators.s3 import Moto
from typer.testing import CliRunner

from headwater.flows.cli import app

JOBS = """
import polars as pl

def tidy(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(pl.col("fare") * 2)

def unknown_column(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.filter(pl.col("faer") > 1)

def looks_across_rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(pl.col("fare") - pl.col("fare").mean())

def collects(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.collect().lazy()

def joins(frame: pl.LazyFrame, *, zones: pl.LazyFrame) -> pl.LazyFrame:
    return frame.join(zones, on="zone", how="left")
"""


@dataclass(frozen=True)
class Refused:
    """What a refused command said."""

    code: int
    out: str
    err: str


Refuse = Callable[..., Refused]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: Prefect) -> Path:
    """The working folder, with good input and jobs; and a Prefect server, so that none starts."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.url)
    monkeypatch.setenv("HEADWATER_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DASK_LOGGING__DISTRIBUTED", "critical")  # kept from this process
    pl.DataFrame({"fare": [1.5, 2.5], "zone": ["a", "b"]}).write_parquet(folder / "in.parquet")
    (folder / "jobs.py").write_text(JOBS)
    return folder


@pytest.fixture
def refuse(folder: Path) -> Refuse:
    """Run `headwater run etl` here and check what holds for every refusal."""

    def run(*arguments: str, target: str = "out", json: bool = False) -> Refused:
        before = tree(folder)
        command = ["run", "etl", "--target", target, *arguments, *(["--json"] if json else [])]
        done = CliRunner().invoke(app, command)
        refused = Refused(done.exit_code, done.stdout, done.stderr)
        assert refused.code == 2, refused
        assert re.search(r"^error: ", refused.err, re.MULTILINE), refused
        assert re.search(r"^  -> \S", refused.err, re.MULTILINE), refused
        assert "Traceback" not in refused.err
        assert "unexpected" not in refused.err
        assert json or refused.out == ""
        assert tree(folder) == before, "something was written"
        assert not (folder.parent / "receipts").exists()
        return refused

    return run


def tree(folder: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def require_said(refused: Refused, *texts: str) -> None:
    for text in texts:
        assert text in refused.err, f"'{text}' is not in:\n{refused.err}"


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "ftp://host/in.parquet"), ("ftp", "s3", "gs", "abfss", "file")),
        (("--source", "s4://bucket/in.parquet"), ("s4", "s3")),
        (("--source", "im.parquet"), ("im.parquet", "did you mean 'in.parquet'")),
        (("--source", "nowhere/in.parquet"), ("nowhere", "no folder")),
        (("--source", "*.csv"), ("*.csv",)),
        (("--source", "in.parquet", "--profile", "locl"), ("locl", "did you mean 'local'")),
        (("--source", "in.parquet", "--profile", "my/own.toml"), ("my/own.toml",)),
        (("--source", "in.parquet", "--job", "jbos:tidy"), ("jbos", "did you mean 'jobs'")),
        (("--source", "in.parquet", "--job", "jobs:tidi"), ("tidi", "did you mean 'tidy'")),
        (("--source", "in.parquet", "--job", "jobs"), ("'jobs'", "MODULE:FUNCTION")),
        (
            ("--source", "in.parquet", "--job", "jobs:unknown_column"),
            ("faer", "did you mean 'fare'"),
        ),
        (("--source", "in.parquet", "--partition-by", "zoen"), ("zoen", "did you mean 'zone'")),
        (("--source", "in.parquet", "--job", "jobs:joins"), ("zones", "--side zones=URI")),
        (
            ("--source", "in.parquet", "--job", "jobs:joins", "--side", "zone=in.parquet"),
            ("zone", "did you mean 'zones'"),
        ),
        (("--source", "in.parquet", "--side", "zones"), ("zones", "NAME=URI")),
        (("--source", "in.parquet", "--job", "jobs:looks_across_rows"), ("mean",)),
        (("--source", "in.parquet", "--job", "jobs:collects"), ("collecting",)),
        (("--source", "in.parquet", "--mode", "replace"), ("replace", "--partition-by")),
        (("--source", ""), ("empty address",)),
    ],
)
def test_unknown_name_is_refused_with_the_near_ones(
    refuse: Refuse, arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    require_said(refuse(*arguments), *said)


@pytest.mark.parametrize("target", ["ftp://host/out", "s3://bucket", "/", "out*", ""])
def test_target_that_is_no_folder_is_refused(refuse: Refuse, target: str) -> None:
    require_said(refuse("--source", "in.parquet", target=target), target)


def test_missing_bucket_is_named(refuse: Refuse, moto: Moto) -> None:
    require_said(refuse("--source", "s3://no-such-lake/in.parquet"), "no-such-lake")
    require_said(refuse("--source", "in.parquet", target="s3://no-such-lake/t"), "no-such-lake")
    bucket = moto.new_bucket()
    require_said(refuse("--source", f"s3://{bucket}/in.parquet"), f"s3://{bucket}/in.parquet")


def test_missing_credentials_name_where_was_looked(
    refuse: Refuse, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    refused = refuse("--source", "s3://lake/in.parquet")
    require_said(refused, "credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")


# --- what the bytes say ----------------------------------------------------------------------


def test_empty_source_is_refused(refuse: Refuse, folder: Path) -> None:
    (folder / "empty").mkdir()
    require_said(refuse("--source", "empty"), "empty")
    (folder / "empty" / "_SUCCESS").touch()
    require_said(refuse("--source", "empty"), "empty", "markers")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("zero.parquet", lambda data: b"", "zero.parquet is empty"),
        ("text.parquet", lambda data: b"fare,zone\n1.5,a\n" * 40, "text.parquet is no Parquet"),
        ("head.parquet", lambda data: b"XXXX" + data[4:], "head.parquet is no Parquet"),
        ("cut.parquet", lambda data: data[: len(data) // 2], "cut.parquet is cut short"),
        ("foot.parquet", lambda data: data[:-40] + b"\0" * 32 + data[-8:], "foot.parquet has a"),
        ("long.parquet", lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1", "long.parquet has a"),
        ("zero.csv", lambda data: b"", "zero.csv is empty"),
        ("binary.csv", lambda data: data, "binary.csv"),
        ("text.jsonl", lambda data: b"fare,zone\n1.5,a\n", "text.jsonl"),
        ("notes.txt", lambda data: b"hello", "notes.txt"),
    ],
)
def test_broken_file_is_named(
    refuse: Refuse, folder: Path, name: str, spoil: Callable[[bytes], bytes], said: str
) -> None:
    data = (folder / "in.parquet").read_bytes()
    (folder / "data").mkdir()
    (folder / "data" / name).write_bytes(spoil(data))
    require_said(refuse("--source", "data"), said)
    require_said(refuse("--source", f"data/{name}"), said)


def test_files_that_differ_are_told_apart(refuse: Refuse, folder: Path) -> None:
    (folder / "data").mkdir()
    for name, column in {"a": "fare", "b": "fares"}.items():
        pl.DataFrame({column: [1]}).write_parquet(folder / "data" / f"{name}.parquet")
    strict = refuse("--source", "data", "--drift", "strict")
    require_said(strict, "b.parquet", "fares", "--drift widen")
    pl.DataFrame({"fare": ["x"]}).write_parquet(folder / "data" / "c.parquet")
    refused = refuse("--source", "data")
    require_said(refused, "fare: Int64 in", "a.parquet, String in", "c.parquet", "--drift 'fare: ")
    refused = refuse("--source", "in.parquet", "--source", "in.parquet")
    require_said(refused, "in.parquet", "named by two sources")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--drift", "wide"), ("wide", "strict, widen")),
        (("--drift", "fare: flaot64"), ("flaot64",)),
        (("--drift", "fares: Float64"), ("fares", "did you mean 'fare'")),
        (("--drift", "fare: Date"), ("Float64 in", "Date in the schema")),
        (("--drift", "schema.toml"), ("schema.toml", "no schema file")),
        (("--encoding", "uft-8"), ("uft-8", "did you mean 'utf-8'")),
        (("--delimiter", '"'), ("not one character",)),
    ],
)
def test_options_of_reading_that_make_no_sense_are_refused(
    refuse: Refuse, arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    require_said(refuse("--source", "in.parquet", *arguments), *said)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("ragged.csv", b"a,b\n1,2\n3\n", ("ragged.csv", "line 3", "--bad-rows skip")),
        ("open.csv", b'a,b\n1,"2\n3,4\n', ("open.csv", "quote")),
        ("latin.csv", "a,b\n1,\xe9\n".encode("latin-1"), ("0xe9 at offset 6", "--encoding")),
        ("wide.csv", "a,b\n1,2\n".encode("utf-16"), ("0xff at offset 0", "utf-16")),
        ("twice.csv", b"a,b,a\n1,2,3\n", ("twice.csv", "'a' 2 times")),
        ("case.csv", b"a,A\n1,2\n", ("case.csv", "'a' and 'A'", "--drift strict")),
        ("bad.jsonl", b'{"a": 1}\nx\n', ("bad.jsonl", "line 2", "--bad-rows")),
        (
            "bomb.csv.zst",
            bytes(pa.compress(b"a,b\n" + b"0,0\n" * 2**25, codec="zstd", asbytes=True)),
            ("bomb.csv.zst has", "unpacks to more than 64.0 MiB", "--max-expansion"),
        ),
    ],
)
def test_text_that_cannot_be_read_exactly_is_refused(
    refuse: Refuse, folder: Path, name: str, data: bytes, said: tuple[str, ...]
) -> None:
    (folder / name).write_bytes(data)
    require_said(refuse("--source", name), *said)


def test_files_inside_a_table_are_refused(refuse: Refuse, folder: Path) -> None:
    pl.DataFrame({"fare": [1]}).write_delta(str(folder / "table"))
    part = next((folder / "table").glob("*.parquet"))
    require_said(refuse("--source", str(part)), "lies in the table", str(folder / "table"))
    require_said(refuse("--source", "table/*.parquet"), "holds tables", "table")


def test_table_with_features_that_cannot_be_read_is_refused(refuse: Refuse, folder: Path) -> None:
    pl.DataFrame({"fare": [1]}).write_delta(str(folder / "table"))
    log = folder / "table" / "_delta_log" / f"{0:020d}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    features = ["deletionVectors"]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    require_said(refuse("--source", "table"), "deletionVectors", "cannot read")


# --- source and target -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("lake", "lake"),
        ("lake", "lake/"),
        ("lake/", "lake"),
        ("lake", "lake/clean"),
        ("lake/raw", "lake"),
        ("lake/raw/in.parquet", "lake"),
        ("lake/*.parquet", "lake"),
        ("lake/**/*.parquet", "lake/raw"),
        ("lake/raw", "lake/../lake/raw"),
        ("lake/raw", "./lake/raw/."),
        ("link", "lake/raw"),
        ("lake/raw", "link"),
        ("lake/raw", "link/deeper"),
        ("lake/raw", "{cwd}/lake/raw"),
        ("lake/raw", "file://{cwd}/lake/raw"),
    ],
)
def test_source_and_target_must_be_apart(
    refuse: Refuse, folder: Path, source: str, target: str
) -> None:
    (folder / "lake" / "raw").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "lake" / "raw")
    data = (folder / "in.parquet").read_bytes()
    (folder / "lake" / "raw" / "in.parquet").write_bytes(data)
    refused = refuse("--source", source, target=target.format(cwd=folder))
    if "*" in source:  # the glob may or may not reach into the target; what lies there decides
        require_said(refused, "target", str(folder / "lake"))
    else:
        require_said(refused, "overlap", "of its own")


def test_side_table_in_the_target_is_an_overlap_too(refuse: Refuse, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "zones.csv").write_text("zone,name\na,north\n")
    run = ("--source", "in.parquet", "--job", "jobs:joins", "--side", "zones=out/zones.csv")
    require_said(refuse(*run), "overlap")


def test_target_of_foreign_files_is_left_alone(refuse: Refuse, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.docx").write_text("years of work")
    require_said(refuse("--source", "in.parquet"), "not empty", "thesis.docx")


def test_target_that_is_a_file_is_left_alone(refuse: Refuse, folder: Path) -> None:
    (folder / "out").write_text("a file")
    require_said(refuse("--source", "in.parquet"), "out")


def test_table_of_other_columns_takes_no_append(refuse: Refuse, folder: Path) -> None:
    pl.DataFrame({"fare": [1], "area": ["x"]}).write_delta(str(folder / "out"))
    refused = refuse("--source", "in.parquet", "--mode", "append")
    require_said(refused, "area", "zone", "--mode overwrite")
    require_said(refuse("--source", "in.parquet", "--partition-by", "zone"), "partitioned")


# --- the command itself ----------------------------------------------------------------------


def test_refusal_as_json_is_one_object(refuse: Refuse) -> None:
    refused = refuse("--source", "in.parquet", "--partition-by", "zoen", json=True)
    require_golden("refused.json", json.loads(refused.out))


def test_command_refuses_within_a_moment(headwater: Cli) -> None:
    done = headwater("run", "etl", "--source", "nothing.parquet", "--target", "out")
    assert (done.code, done.out) == (2, "")
    assert "nothing.parquet does not exist" in done.err
    assert "Traceback" not in done.err
    assert list(headwater.folder.iterdir()) == []


def test_debug_shows_the_trace(headwater: Cli) -> None:
    done = headwater("run", "etl", "--source", "nothing.parquet", "--target", "out", "--debug")
    assert done.code == 2
    assert done.err.index("Traceback") < done.err.index("error: ")


def test_refusal_without_a_server_leaves_no_process(alone: Cli) -> None:
    done = alone("run", "etl", "--source", "nothing.parquet", "--target", "out")
    assert done.code == 2
    assert "nothing.parquet does not exist" in done.err


def test_unreachable_prefect_server_is_named(headwater: Cli) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(headwater.folder / "in.parquet")
    done = headwater(
        *("run", "etl", "--source", "in.parquet", "--target", "out"),
        env={"PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )
    assert (done.code, done.out) == (2, "")
    assert "http://127.0.0.1:9/api is not reachable" in done.err
    assert "  -> " in done.err
    assert not (headwater.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "etl", "--source", "in"), "--target"),
        (("run", "etl", "--target", "out"), "--source"),
        (("run", "elt"), "elt"),
        (("run", "etl", "--source", "in", "--target", "out", "--mode", "upsert"), "append"),
        (("data", "read", "in", "--format", "xml"), "jsonl"),
        (("data", "read", "in", "--limit", "-1"), "--limit"),
    ],
)
def test_wrong_usage_names_the_option(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
