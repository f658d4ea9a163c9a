"""Jobs are found by name, carried as text, and refused with a message that says what to mend."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from headwater.infra.errors import InvalidRequest, NotFound, ScopeViolation, UnknownName
from headwater.infra.models import JobRequest
from headwater.tasks.jobs import COPY, Job, find_job
from headwater.tasks.prepare import Prepared, prepare

Write = Callable[..., None]


@pytest.fixture(autouse=True)
def imports_as_before() -> Iterator[None]:
    """Forget what a test's jobs have left in this process's imports."""
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "users"
    folder.mkdir()
    return folder


@pytest.fixture
def write(folder: Path) -> Write:
    def write(name: str, text: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    return write


def elsewhere(job: Job) -> Job:
    """``job`` as a process without the user's folder has it."""
    carried = pickle.loads(pickle.dumps(job))  # noqa: S301 - our own bytes
    for module in job.modules:
        sys.modules.pop(module.name, None)
    sys.path[:] = [p for p in sys.path if "users" not in p]
    assert isinstance(carried, Job)
    return carried


def numbers(job: Job) -> list[int]:
    return job.load()(pl.LazyFrame({"n": [1, 2]})).collect()["n"].to_list()


PLUS = "import polars as pl\ndef job(frame):\n    return frame.with_columns(pl.col('n') + {})\n"


def test_a_copy_changes_nothing() -> None:
    assert numbers(COPY) == [1, 2]
    assert COPY.name == "copy"


def test_a_job_runs_where_its_folder_is_not(write: Write, folder: Path) -> None:
    write("alone.py", PLUS.format(10))

    job = elsewhere(find_job("alone:job", folder=folder))
    (folder / "alone.py").unlink()

    assert numbers(job) == [11, 12]
    assert [m.name for m in job.modules] == ["alone"]


def test_helpers_packages_and_relative_imports_come_along(write: Write, folder: Path) -> None:
    write("pack/__init__.py", "from .base import TEN\n")
    write("pack/base.py", "TEN = 10\n")
    write("pack/inner/jobs.py", "from pack import TEN\nfrom ..more import add\nimport helper\n")
    write("pack/more.py", "def add(frame, n):\n    return frame.with_columns(frame_n(n))\n")
    write("helper.py", "ONE = 1\n")
    write("unused.py", "raise RuntimeError\n")
    more = (
        "import polars as pl\ndef add(frame, n):\n    return frame.with_columns(pl.col('n') + n)\n"
    )
    write("pack/more.py", more)
    with (folder / "pack/inner/jobs.py").open("a") as file:
        file.write("def job(frame):\n    return add(frame, TEN + helper.ONE)\n")

    job = elsewhere(find_job("pack.inner.jobs:job", folder=folder))

    assert numbers(job) == [12, 13]
    names = {m.name for m in job.modules}
    assert names == {"helper", "pack", "pack.base", "pack.inner", "pack.inner.jobs", "pack.more"}


def test_an_import_inside_the_function_comes_along(write: Write, folder: Path) -> None:
    write("late.py", "def job(frame):\n    import later\n    return later.job(frame)\n")
    write("later.py", PLUS.format(5))

    job = elsewhere(find_job("late:job", folder=folder))

    assert numbers(job) == [6, 7]
    first = sys.modules["late"]
    assert numbers(job) == [6, 7]
    assert sys.modules["late"] is first  # not made anew for each part


def test_an_edited_job_has_another_digest_and_runs_the_new_text(write: Write, folder: Path) -> None:
    write("edited.py", PLUS.format(1))
    old = find_job("edited:job", folder=folder)
    assert numbers(old) == [2, 3]
    write("edited.py", PLUS.format(1000))

    new = find_job("edited:job", folder=folder)

    assert new.digest != old.digest
    assert numbers(new) == [1001, 1002]
    assert numbers(old) == [2, 3]  # what was found first is still what it was
    assert numbers(elsewhere(new)) == [1001, 1002]


def test_an_edited_helper_changes_the_job_too(write: Write, folder: Path) -> None:
    write("main_job.py", "import side_help\ndef job(frame):\n    return side_help.job(frame)\n")
    write("side_help.py", PLUS.format(1))
    old = find_job("main_job:job", folder=folder)
    write("side_help.py", PLUS.format(2))

    new = find_job("main_job:job", folder=folder)

    assert new.digest != old.digest
    assert (numbers(new), numbers(old)) == ([3, 4], [2, 3])


def test_the_same_text_has_the_same_digest(write: Write, folder: Path) -> None:
    write("same.py", PLUS.format(1))

    first, second = (find_job("same:job", folder=folder) for _ in range(2))

    assert first == second


def test_another_function_of_the_same_text_has_another_digest(write: Write, folder: Path) -> None:
    write("two.py", PLUS.format(1) + "other = job\n")

    one, two = (find_job(f"two:{name}", folder=folder) for name in ("job", "other"))

    assert one.digest != two.digest


def test_a_job_tells_which_other_ways_give_the_same_result(write: Write, folder: Path) -> None:
    text = (
        "from headwater.tasks.jobs import job\n\n"
        "@job(scope='whole', strategies={ways})\n"
        "def total(frame):\n    return frame.sum()\n"
    )
    write("sums.py", text.format(ways=["federate", "semi-join"]))
    write("odd.py", text.format(ways=["federated"]))

    assert find_job("sums:total", folder=folder).strategies == ("federate", "semi-join")
    assert COPY.strategies == ()
    with pytest.raises(InvalidRequest, match="no strategy 'federated'"):
        find_job("odd:total", folder=folder)


def test_an_installed_module_is_not_carried(folder: Path) -> None:
    job = find_job("headwater.tasks.jobs:copy", folder=folder)

    assert job.modules == ()
    assert job.digest
    assert numbers(job) == [1, 2]


@pytest.mark.parametrize("spec", ["jobs", "jobs:", ":job", ""])
def test_a_spec_without_module_or_function_is_refused(folder: Path, spec: str) -> None:
    with pytest.raises(InvalidRequest, match="names no job") as caught:
        find_job(spec, folder=folder)

    assert "MODULE:FUNCTION" in caught.value.hint


def test_a_missing_module_names_the_near_ones(write: Write, folder: Path) -> None:
    write("flights.py", PLUS.format(1))

    with pytest.raises(UnknownName, match="no module 'fligths'") as caught:
        find_job("fligths:job", folder=folder)

    assert "did you mean 'flights'?" in caught.value.hint
    assert "run from the folder that holds it" in caught.value.hint


def test_a_missing_module_of_a_package_is_named(write: Write, folder: Path) -> None:
    write("somepack/__init__.py", "")
    write("somepack/trips.py", PLUS.format(1))

    with pytest.raises(UnknownName, match=r"no module 'somepack\.tripz'"):
        find_job("somepack.tripz:job", folder=folder)


def test_a_missing_function_names_the_near_ones(write: Write, folder: Path) -> None:
    write("funcs.py", "def clean(frame):\n    return frame\nNUMBER = 3\n")

    for name in ("claen", "NUMBER"):
        with pytest.raises(UnknownName, match=f"no function '{name}' in module 'funcs'") as caught:
            find_job(f"funcs:{name}", folder=folder)
        assert "clean" in caught.value.hint


def test_a_missing_dependency_is_named(write: Write, folder: Path) -> None:
    write("needs.py", "import surely_not_installed\ndef job(frame):\n    return frame\n")

    with pytest.raises(InvalidRequest, match="imports 'surely_not_installed'") as caught:
        find_job("needs:job", folder=folder)

    assert "install it into" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\ndef job(frame:\n    return frame\n", 2, "SyntaxError"),
        ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_fails_is_named_with_its_line(
    write: Write, folder: Path, text: str, line: int, said: str
) -> None:
    write("broken.py", text)

    with pytest.raises(InvalidRequest, match="'broken' fails when it is imported") as caught:
        find_job("broken:job", folder=folder)

    assert f"broken.py:{line}" in str(caught.value)
    assert said in str(caught.value)


def test_a_helper_that_is_imported_late_and_no_python_is_named(write: Write, folder: Path) -> None:
    write("latebad.py", "def job(frame):\n    import notpython\n    return frame\n")
    write("notpython.py", "def (:\n")

    with pytest.raises(InvalidRequest, match=r"notpython\.py:1"):
        find_job("latebad:job", folder=folder)


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("()", "takes no frame"),
        ("(*, frame)", "takes no frame"),
        ("(*frames)", "takes no frame"),
        ("(frame, *sides)", r"takes '\*sides'"),
        ("(frame, **sides)", r"takes '\*sides'"),
    ],
)
def test_a_signature_that_is_no_job_is_refused(
    write: Write, folder: Path, signature: str, said: str
) -> None:
    write("signs.py", f"def job{signature}:\n    return None\n")

    with pytest.raises(InvalidRequest, match=said):
        find_job("signs:job", folder=folder)


def test_side_tables_are_the_parameters_without_a_default(write: Write, folder: Path) -> None:
    write("joins.py", "def job(frame, planes, *, weather, limit=3):\n    return frame\n")

    assert find_job("joins:job", folder=folder).sides == ("planes", "weather")


# Planned on the input's columns, before anything starts.


@pytest.fixture
def prepared(folder: Path, write: Write, tmp_path: Path) -> Callable[..., Prepared]:
    def prepared(body: str, *, signature: str = "frame", sides: object = ()) -> Prepared:
        pl.DataFrame({"dep_time": [1, 2], "origin": ["a", "b"]}).write_parquet(
            tmp_path / "a.parquet"
        )
        pl.DataFrame({"origin": ["a"], "name": ["A"]}).write_parquet(tmp_path / "side.parquet")
        text = f"import polars as pl\ndef job({signature}):\n    {body}\n"
        write("planned.py", text)
        request = JobRequest(
            (str(tmp_path / "a.parquet"),),
            str(tmp_path / "out"),
            "planned:job",
            tuple((name, str(tmp_path / file)) for name, file in dict(sides).items()),  # type: ignore[call-overload]
        )
        return prepare(request, folder=folder)

    return prepared


def test_the_results_columns_are_known_before_the_start(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    found = prepared("return frame.select(pl.col('dep_time').cast(pl.UInt8).alias('t'))")

    assert found.result == {"t": pl.UInt8}
    assert found.schema == {"t": pl.Int16}
    assert not (tmp_path / "out").exists()


def test_a_joined_side_table_is_planned_too(prepared: Callable[..., Prepared]) -> None:
    found = prepared(
        "return frame.join(planes, on='origin', how='left')",
        signature="frame, planes",
        sides={"planes": "side.parquet"},
    )

    assert list(found.schema) == ["dep_time", "origin", "name"]


def test_an_unknown_column_names_the_near_ones(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(UnknownName, match="no column 'dep_tme' in the input of job") as caught:
        prepared("return frame.select('dep_tme')")

    assert caught.value.hint == "did you mean 'dep_time'?"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return pl.DataFrame({'n': [1]})", "returned a DataFrame, not a LazyFrame"),
        ("return None", "returned a NoneType, not a LazyFrame"),
        ("raise KeyError('boom')", r"planned\.py:3: KeyError: 'boom'"),
        ("return frame.select(pl.col('origin').dt.year())", "cannot be planned"),
    ],
)
def test_a_job_that_cannot_be_planned_says_where(
    prepared: Callable[..., Prepared], body: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        prepared(body)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "body",
    [
        "return frame.with_columns(pl.col('dep_time') - pl.col('dep_time').mean())",
        "return frame.sort('dep_time')",
        "return frame.unique()",
        "return frame.head(1)",
        "return frame.group_by('origin').agg(pl.len())",
        "return frame.with_row_index()",
        "return frame.with_columns(pl.col('dep_time').shift())",
        "return frame.with_columns(pl.len().over('origin'))",
    ],
)
def test_a_job_that_looks_across_rows_is_refused(
    prepared: Callable[..., Prepared], body: str
) -> None:
    with pytest.raises(ScopeViolation, match="planned:job"):
        prepared(body)


def test_side_tables_must_be_given(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(InvalidRequest, match="joins a side table 'planes'") as caught:
        prepared("return frame", signature="frame, planes")

    assert "--side planes=URI" in caught.value.hint


def test_side_tables_must_be_known(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(UnknownName, match="no side table 'plains'") as caught:
        prepared("return frame", signature="frame, planes", sides={"plains": "side.parquet"})
    assert "did you mean 'planes'?" in caught.value.hint

    with pytest.raises(UnknownName, match="the job takes none"):
        prepared("return frame", sides={"plains": "side.parquet"})


def test_a_side_table_must_exist(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(NotFound, match=r"sides\.parquet does not exist"):
        prepared("return frame", signature="frame, planes", sides={"planes": "sides.parquet"})
