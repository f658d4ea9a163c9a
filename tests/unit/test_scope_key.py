"""What a job of scope key may do: look across the rows of one key, and no further."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from headwater.infra.errors import ScopeViolation
from headwater.tasks.scope import placeholder
from headwater.tasks.scope_key import key_scope_violations, require_key_scope

SCHEMA = pl.Schema({"k": pl.String, "j": pl.Int64, "v": pl.Int64})
SIDE = pl.LazyFrame({"k": ["a", "b"], "name": ["A", "B"]})
KEYS = ("k",)
Plan = Callable[[pl.LazyFrame], pl.LazyFrame]

v, k = pl.col("v"), pl.col("k")

KEPT: dict[str, Plan] = {
    "rows alone": lambda f: f.filter(v > 1).with_columns(w=v * 2),
    "group_by": lambda f: f.group_by("k").agg(n=pl.len(), total=v.sum(), first=v.first()),
    "group_by more": lambda f: f.group_by("j", "k").agg(v.max()).filter(v > 3),
    "group_by twice": lambda f: f.group_by("k", "j").agg(v.sum()).group_by("k").agg(v.max()),
    "over": lambda f: f.with_columns(share=v / v.sum().over("k"), before=v.shift().over("k", "j")),
    "over in a filter": lambda f: f.filter(v == v.max().over("k")),
    "unique": lambda f: f.unique(["k", "j"], keep="first", maintain_order=True),
    "unique rows": lambda f: f.unique(),
    "sorted first": lambda f: f.sort("v", "j").group_by("k", maintain_order=True).agg(v.last()),
    "a side table": lambda f: f.join(SIDE, on="k", how="left").group_by("k", "name").agg(pl.len()),
    "selected": lambda f: f.select("k", w=v + 1).group_by("k").agg(pl.col("w").sum()),
}

REFUSED: dict[str, tuple[Plan, str]] = {
    "group_by without": (lambda f: f.group_by("j").agg(v.sum()), "group_by"),
    "group_by a made key": (lambda f: f.group_by(k.str.to_lowercase()).agg(v.sum()), "group_by"),
    "over without": (lambda f: f.with_columns(w=v.sum().over("j")), "over"),
    "unique without": (lambda f: f.unique(["j"], keep="first"), "unique"),
    "unique by chance": (lambda f: f.unique(["k"], keep="any"), "unique"),
    "a mean of all": (lambda f: f.with_columns(w=v - v.mean()), "mean"),
    "head": (lambda f: f.head(3), "head"),
    "the largest of all": (lambda f: f.sort("v").head(3), "head"),
    "changed keys": (
        lambda f: f.with_columns(k=pl.lit("x")).group_by("k").agg(v.sum()),
        "group_by",
    ),
    "renamed keys": (
        lambda f: f.rename({"k": "j", "j": "k"}).group_by("k").agg(v.sum()),
        "group_by",
    ),
    "selected keys": (
        lambda f: f.select(pl.col("j").cast(pl.String).alias("k"), "v").group_by("k").agg(v.sum()),
        "group_by",
    ),
    "all columns changed": (
        lambda f: f.with_columns(pl.col("k", "v").reverse()),
        "reverse",
    ),
    "rolling": (
        lambda f: f.rolling("j", period="2i", group_by="k").agg(v.sum()),
        "rolling",
    ),
}


def violations(plan: Plan, tmp_path: Path, keys: tuple[str, ...] = KEYS) -> list[str]:
    main = tmp_path / "main.parquet"
    found = key_scope_violations(plan(placeholder(main, SCHEMA)), main, [], keys)
    return [violation.node for violation in found]


def rows(count: int) -> pl.DataFrame:
    dice = random.Random(count)
    return pl.DataFrame(
        {
            "k": [dice.choice(["a", "b", None, "c"]) for _ in range(count)],
            "j": [dice.choice([1, 2, None]) for _ in range(count)],
            "v": [dice.randrange(20) for _ in range(count)],
        },
        schema=SCHEMA,
    )


@pytest.mark.parametrize("name", KEPT)
def test_what_stays_inside_a_key_passes_and_does_not_depend_on_the_cut(
    tmp_path: Path, name: str
) -> None:
    plan = KEPT[name]
    assert violations(plan, tmp_path) == []

    whole = rows(200)
    expected = plan(whole.lazy()).collect()
    for parts in (["a"], ["a", "c"], ["b", None]):
        inside = k.is_in(parts, nulls_equal=True)
        cut = [plan(whole.lazy().filter(where)).collect() for where in (inside, ~inside)]
        assert_frame_equal(pl.concat(cut), expected, check_row_order=False)


@pytest.mark.parametrize("name", REFUSED)
def test_what_looks_further_is_refused_by_name(tmp_path: Path, name: str) -> None:
    plan, node = REFUSED[name]

    assert node in " ".join(violations(plan, tmp_path))


def test_all_keys_have_to_be_there(tmp_path: Path) -> None:
    assert violations(KEPT["group_by"], tmp_path, ("k", "j")) == ["group_by"]
    assert violations(KEPT["group_by more"], tmp_path, ("k", "j")) == []


def test_the_refusal_says_what_to_declare(tmp_path: Path) -> None:
    main = tmp_path / "main.parquet"
    plan = placeholder(main, SCHEMA).group_by("j").agg(v.sum())

    with pytest.raises(ScopeViolation, match=r"one key \(k\) at a time") as caught:
        require_key_scope(plan, main, [], KEYS, "jobs:per_j")

    assert "group_by(j)" in caught.value.message
    assert "keys=[...]" in caught.value.hint
