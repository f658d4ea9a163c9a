"""Step files: what is read, and which line and near name a mistake is answered with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headwater.infra.errors import InvalidRequest, NotFound, UnknownName
from headwater.tasks.steps.catalog import KINDS, json_schema
from headwater.tasks.steps.columns import Select
from headwater.tasks.steps.conditions import Filter
from headwater.tasks.steps.files import load_steps, parse_steps

pytestmark = pytest.mark.unit

GOOD = """\
version = 1

# a comment
[[steps]]
kind = "filter"
name = "late"
where = '''
[[steps]] is text here'''

[[ steps ]]
kind = "select"
columns = ["a"]
"""


def test_steps_are_models_with_number_and_line() -> None:
    file = parse_steps(GOOD, "good.toml")
    assert [type(n.step) for n in file.steps] == [Filter, Select]
    assert [n.label for n in file.steps] == [
        "step 1 (filter 'late', line 4 of good.toml)",
        "step 2 (select, line 10 of good.toml)",
    ]


def test_steps_written_inline_have_no_line() -> None:
    text = 'version = 1\nsteps = [{ kind = "drop", columns = ["a"] }]\n'
    assert parse_steps(text, "x.toml").steps[0].label == "step 1 (drop, x.toml)"


def step(body: str) -> str:
    return f'version = 1\n\n[[steps]]\nkind = "select"\ncolumns = ["a"]\n\n[[steps]]\n{body}\n'


@pytest.mark.parametrize(
    ("body", "said", "hint"),
    [
        (
            'kind = "filtr"\nwhere = "a > 1"',
            "no kind 'filtr' in step 2 (line 8 of x.toml)",
            "did you mean 'filter'",
        ),
        (
            'kind = "filter"\nwhere = "a > 1"\nwhen = 3',
            "no key 'when' in step 2 (filter, line 10 of x.toml)",
            "did you mean 'where'?",
        ),
        (
            'kind = "filter"\nname = "late"',
            "step 2 (filter 'late', line 7 of x.toml): the key 'where' is missing",
            "add it",
        ),
        ("where = 3", "step 2 (line 7 of x.toml) has no kind", "known: select, drop"),
        (
            'kind = "select"\ncolumns = "a"',
            "step 2 (select, line 9 of x.toml): 'columns': input should be a valid list",
            "mend it",
        ),
        (
            'kind = "select"\ncolumns = ["a", 3]',
            "step 2 (select, line 9 of x.toml): 'columns[1]': input should be a valid text",
            "mend it",
        ),
        (
            'kind = "select"\ncolumns = []',
            "step 2 (select, line 9 of x.toml): 'columns': list should have at least 1 item",
            "mend it",
        ),
        (
            'kind = "aggregate"\naggs = [{ name = "n", functon = "count" }]',
            "step 2 (aggregate, line 9 of x.toml)",
            "",
        ),
        (
            'kind = "aggregate"\naggs = [{ name = "n", function = "count", q = 0.5 }]',
            "step 2 (aggregate, line 9 of x.toml): 'aggs[0]': count takes no q",
            "mend it",
        ),
        (
            'kind = "join"\nside = "s"',
            "step 2 (join, line 7 of x.toml): give the keys as on, or as left_on and right_on",
            "mend it",
        ),
        (
            'kind = "to_utc"\ncolumns = ["t"]\nzone_column = "z"',
            "step 2 (to_utc, line 7 of x.toml): zone_column and zones belong together",
            "mend it",
        ),
        (
            'kind = "truncate"\ncolumns = { t = "t" }\nevery = "1 hour"',
            "step 2 (truncate, line 10 of x.toml): 'every': text should match pattern",
            "mend it",
        ),
    ],
)
def test_a_mistake_is_answered_with_its_line(body: str, said: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_steps(step(body), "x.toml")
    assert refused.value.message.startswith(said)
    assert hint in refused.value.hint


def test_a_key_of_a_table_of_its_own_has_its_line() -> None:
    text = 'version = 1\n[[steps]]\nkind = "derive"\n[steps.columns]\nx = "a + 1"\ny = 2\n'
    with pytest.raises(InvalidRequest, match=r"step 1 \(derive, line 4 of x.toml\): 'columns.y'"):
        parse_steps(text, "x.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[steps]]", "x.toml has no version"),
        ("version = 2", "x.toml has version 2, and this Headwater reads up to 1"),
        ('version = "1"', "x.toml has version = '1'"),
        ("version = 1", "x.toml has no step"),
        ("version = 1\nsteps = []", "x.toml has no step"),
        ("version = 1\nsteps = 3", "x.toml: input should be a valid list"),
        ("version = 1\nstps = []", "x.toml has no step"),
        ("version = 1\n[[steps]\n", "x.toml is no TOML: Expected ']]' at the end of an array"),
        ("version = 1\nsteps = [3]", "step 1 (x.toml): input should be a valid table"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_says_why(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_steps(text, "x.toml")
    assert refused.value.message.startswith(said)


def test_unknown_key_of_the_file_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"no key 'sides' in x\.toml"):
        parse_steps(GOOD.replace("# a comment", "sides = 3"), "x.toml")


def test_missing_file_names_the_near_ones(tmp_path: Path) -> None:
    (tmp_path / "flights.toml").write_text(GOOD)
    with pytest.raises(NotFound, match=r"there is no step file .*flight.toml") as refused:
        load_steps(tmp_path / "flight.toml")
    assert "did you mean 'flights.toml'?" in refused.value.hint


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_steps(path)


def test_sides_are_those_of_the_joins() -> None:
    join = '[[steps]]\nkind = "join"\nside = "s"\non = ["a"]\n'
    text = f'version = 1\n{join}\n{join}uri = "s3://lake/s.csv"\n{join}uri = "s3://lake/s.csv"\n'
    assert parse_steps(text, "x.toml").sides == {"s": "s3://lake/s.csv"}
    with pytest.raises(
        InvalidRequest, match=r"side table 's' is at t\.csv, and at s3://lake/s\.csv"
    ):
        _ = parse_steps(f'{text}{join}uri = "t.csv"', "x.toml").sides


def test_one_json_schema_describes_every_kind() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["items"]["discriminator"]["mapping"]) == set(KINDS)
    assert "description" in schema["$defs"]["Join"]["properties"]["multiplies"]
