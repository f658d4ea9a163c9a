"""A file of steps as the job of a run: prepared, done part by part, and as the command shows it."""

from __future__ import annotations

import json
import pickle
import tomllib
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from headwater.flows.cli import app
from headwater.flows.parameters import EtlParameters
from headwater.infra.errors import InvalidRequest, Overlap, UnknownName, ValueLost
from headwater.infra.models import JobRequest, PartReceipt, StepsText
from headwater.infra.storage.inputs import open_input
from headwater.tasks.prepare import Prepared, prepare
from headwater.tasks.scan import cut
from headwater.tasks.sides import release_sides
from headwater.tasks.steps.catalog import KINDS
from headwater.tasks.transform import PartSpec, run_part

pytestmark = pytest.mark.unit

STEPS = """\
version = 1

[[steps]]
kind = "parse"
name = "delays"
columns = ["delay"]
to = "Int64"
nulls = ["NA"]

[[steps]]
kind = "join"
side = "airlines"
uri = "{airlines}"
on = ["carrier"]
how = "left"
columns = {{ airline = "name" }}

[[steps]]
kind = "partition"
columns = ["origin"]
"""


class Lake:
    """A folder with flights, airlines, and a file of steps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source, self.target = root / "flights.csv", root / "out"
        self.airlines, self.steps = root / "airlines.csv", root / "flights.toml"
        self.source.write_text("origin,carrier,delay\nEWR,UA,5\nLGA,B6,NA\nEWR,XX,7\n")
        self.airlines.write_text("carrier,name\nUA,United\nB6,JetBlue\n")
        self.steps.write_text(STEPS.format(airlines=self.airlines))

    def prepare(self, **request: object) -> Prepared:
        parameters = EtlParameters.model_validate(
            {
                "sources": [str(self.source)],
                "target": str(self.target),
                "steps_file": self.steps,
                **request,
            }
        )
        return prepare(parameters.to_request(), folder=self.root)

    def run(self, prepared: Prepared) -> PartReceipt:
        spec = pickle.loads(  # noqa: S301 - as it travels to a worker
            pickle.dumps(
                PartSpec(
                    run_key=prepared.run_key,
                    attempt_key=prepared.attempt_key,
                    target=str(prepared.target),
                    source=prepared.source,
                    sides=prepared.sides,
                    job=prepared.job,
                    result=prepared.result,
                    schema=prepared.schema,
                    partition_by=prepared.request.partition_by,
                )
            )
        )
        (part,) = cut(prepared.source, 2**30)
        try:
            return run_part(part, spec)
        finally:
            release_sides(spec.attempt_key)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_steps_run_as_the_job_of_a_part(lake: Lake) -> None:
    prepared = lake.prepare()
    assert prepared.request.partition_by == ("origin",)
    assert [name for name, _ in prepared.sides] == ["airlines"]
    assert prepared.job.name == "flights.toml"
    receipt = lake.run(prepared)
    assert (receipt.rows_in, receipt.rows_out) == (3, 3)
    assert sorted(dict(file.partition)["origin"] or "" for file in receipt.files) == ["EWR", "LGA"]
    rows = [
        row
        for file in receipt.files
        for row in pl.read_parquet(lake.target / file.path, hive_partitioning=False).rows()
    ]
    assert sorted(rows, key=repr) == [("B6", None, "JetBlue"), ("UA", 5, "United"), ("XX", 7, None)]


def test_a_value_that_would_be_lost_fails_the_part_and_is_shown(lake: Lake) -> None:
    lake.steps.write_text(lake.steps.read_text().replace('nulls = ["NA"]\n', ""))
    with pytest.raises(ValueLost) as lost:
        lake.run(lake.prepare())
    assert lost.value.message == (
        "step 1 (parse 'delays', line 3 of flights.toml): 1 value of 'delay' in part 0"
        " (flights.csv) cannot be read as Int64; the first rows:\n"
        '  {"delay":"NA","origin":"LGA","carrier":"B6"}'
    )


def test_a_side_table_that_would_multiply_rows_fails_the_part(lake: Lake) -> None:
    lake.airlines.write_text("carrier,name\nUA,United\nUA,Ununited\n")
    with pytest.raises(ValueLost, match=r"step 2 \(join, .*carrier='UA' \(2 times\)"):
        lake.run(lake.prepare())


def test_an_edited_file_is_another_run(lake: Lake) -> None:
    key = lake.prepare().run_key
    assert lake.prepare().run_key == key
    lake.steps.write_text(lake.steps.read_text() + "\n# edited\n")
    assert lake.prepare().run_key != key


def test_an_address_of_the_request_wins_over_the_steps_own(lake: Lake, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("carrier,name\nXX,Mine\n")
    prepared = lake.prepare(sides={"airlines": str(other)})
    assert dict(prepared.sides)["airlines"].uri.endswith("other.csv")


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        (
            '["carrier"]',
            '["carier"]',
            UnknownName,
            "step 2 (join, line 10 of flights.toml): no col",
        ),
    ],
)
def test_a_run_refuses_before_it_starts(
    lake: Lake, old: str, new: str, error: type[Exception], said: str
) -> None:
    lake.steps.write_text(lake.steps.read_text().replace(old, new))
    with pytest.raises(error) as refused:
        lake.prepare()
    assert str(refused.value).startswith(said)


def test_requests_that_contradict_the_file_are_refused(lake: Lake) -> None:
    with pytest.raises(InvalidRequest, match="both a function"):
        lake.prepare(job="a:b")
    with pytest.raises(InvalidRequest, match="partitions the target by origin"):
        lake.prepare(partition_by=["carrier"])
    with pytest.raises(UnknownName, match="no side table 'airline'"):
        lake.prepare(sides={"airline": "x.csv"})
    lake.steps.write_text(STEPS.format(airlines=lake.target / "airlines.csv"))
    with pytest.raises(Overlap):
        lake.prepare()


def test_a_side_table_without_an_address_says_how_to_give_one(lake: Lake) -> None:
    text = "\n".join(x for x in lake.steps.read_text().splitlines() if not x.startswith("uri"))
    request = JobRequest((str(lake.source),), str(lake.target), steps=StepsText("x.toml", text))
    with pytest.raises(InvalidRequest) as refused:
        prepare(request, folder=lake.root)
    assert refused.value.hint == "add --side airlines=URI"


def test_steps_of_a_form_are_the_same_job(lake: Lake) -> None:
    listed = tomllib.loads(lake.steps.read_text())["steps"]
    prepared = lake.prepare(steps=listed, steps_file=None)
    assert prepared.schema == lake.prepare().schema
    assert lake.run(prepared).rows_out == 3
    listed[0]["columns"] = ["dely"]
    with pytest.raises(UnknownName, match=r"step 1 \(parse 'delays', steps\): no column 'dely'"):
        lake.prepare(steps=listed, steps_file=None)
    with pytest.raises(InvalidRequest, match="both steps and a file of steps"):
        lake.prepare(steps=listed)


def test_the_form_describes_every_kind_of_step() -> None:
    schema = EtlParameters.model_json_schema()
    assert set(schema["properties"]["steps"]["items"]["discriminator"]["mapping"]) == set(KINDS)
    assert "multiplies" in schema["$defs"]["Join"]["properties"]


# --- the command ------------------------------------------------------------------------------


def call(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["steps", *args])
    return result.exit_code, result.output


def test_list_names_every_kind() -> None:
    code, text = call("list")
    assert code == 0
    assert "cast         rows                 Change the type of columns" in text
    code, text = call("list", "--json")
    assert {"kind": "sort", "scope": "whole", "purpose": "Put all rows in an order."} in json.loads(
        text
    )["kinds"]


def test_show_prints_the_page_or_the_json_schema() -> None:
    code, text = call("show", "join")
    assert code == 0
    assert text.startswith("## join\n")
    code, text = call("show", "join", "--json")
    assert json.loads(text)["properties"]["how"]["enum"] == ["inner", "left", "semi", "anti"]
    code, text = call("show", "jion")
    assert code == 2
    assert "did you mean 'join'" in text


def test_check_prints_stages_and_result(lake: Lake) -> None:
    lake.steps.write_text(
        f'{lake.steps.read_text()}\n[[steps]]\nkind = "sort"\norder_by = ["delay"]'
    )
    code, text = call("check", str(lake.steps), "--source", str(lake.source))
    assert (code, text.splitlines()) == (
        0,
        [
            f"flights.toml on {open_input([str(lake.source)]).uri} (csv, 1 file)",
            f"  + airlines  {open_input([str(lake.airlines)]).uri}",
            "",
            "stage 1: one row at a time",
            "   1  parse        delays: ~delay: Int64",
            "   2  join         +airline: String",
            "   3  partition",
            "",
            "stage 2: all rows together",
            "   4  sort",
            "",
            "result: 4 columns",
            "  origin   String",
            "  carrier  String",
            "  delay    Int64",
            "  airline  String",
            "",
            "partitioned by origin",
        ],
    )


def test_check_as_json(lake: Lake) -> None:
    code, text = call("check", str(lake.steps), "--source", str(lake.source), "--json")
    assert code == 0
    assert json.loads(text) == {
        "file": "flights.toml",
        "source": open_input([str(lake.source)]).uri,
        "sides": {"airlines": open_input([str(lake.airlines)]).uri},
        "stages": [
            {
                "scope": "rows",
                "keys": [],
                "steps": [
                    {"number": 1, "kind": "parse", "name": "delays", "line": 3},
                    {"number": 2, "kind": "join", "name": "", "line": 10},
                    {"number": 3, "kind": "partition", "name": "", "line": 18},
                ],
            }
        ],
        "columns": [
            {"name": "origin", "type": "String"},
            {"name": "carrier", "type": "String"},
            {"name": "delay", "type": "Int64"},
            {"name": "airline", "type": "String"},
        ],
        "partition_by": ["origin"],
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('"delay"', '"dely"'),
            "error: step 1 (parse 'delays', line 3 of flights.toml): no column",
        ),
        (('"parse"', '"prse"'), "error: no kind 'prse' in step 1 (line 4 of flights.toml)"),
        (('to = "Int64"', 'to = "UInt64"'), "error: column 'delay' has type UInt64"),
    ],
)
def test_check_refuses_with_exit_2(lake: Lake, change: tuple[str, str], said: str) -> None:
    lake.steps.write_text(lake.steps.read_text().replace(*change))
    code, text = call("check", str(lake.steps), "--source", str(lake.source))
    assert code == 2
    assert said in text


def test_check_refuses_unknown_and_missing_sides(lake: Lake) -> None:
    source = ["--source", str(lake.source)]
    code, text = call("check", str(lake.steps), *source, "--side", "airline=x.csv")
    assert (code, "no side table 'airline' in flights.toml" in text) == (2, True)
    lake.steps.write_text(lake.steps.read_text().replace("uri", "# uri"))
    code, text = call("check", str(lake.steps), *source)
    assert (code, "add --side airlines=URI" in text) == (2, True)
