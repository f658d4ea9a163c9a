"""Which plans look at one key at a time: judged, and proved by cuts that leave keys together."""

from __future__ import annotations

import functools
import math
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polars import col

from headwater.infra.errors import InvalidRequest, ScopeViolation, UnknownName
from headwater.tasks import scope, scope_names

MAIN, SIDE = Path("/placeholder/main.parquet"), Path("/placeholder/side.parquet")

SCHEMA = pl.Schema(
    {
        "k": pl.String,
        "d": pl.Int64,
        "t": pl.Int64,
        "v": pl.Int64,
        "f": pl.Float64,
        "s": pl.String,
        "b": pl.Boolean,
        "l": pl.List(pl.Int64),
    }
)
SIDE_FRAME = pl.DataFrame(
    {"k": ["a", "b", "b", None], "w": [1, 2, 3, 4], "u": [0.5, 1.5, 2.5, 3.5]},
    schema={"k": pl.String, "w": pl.Int64, "u": pl.Float64},
)

Job = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]

K = ("k",)
KD = ("k", "d")

# name -> keys, job
ALLOWED: dict[str, tuple[tuple[str, ...], Job]] = {
    # what looks at rows alone
    "row-wise": (K, lambda lf, _: lf.filter(col("v") > 0).with_columns(q=col("v") * 2)),
    "join a side": (K, lambda lf, side: lf.join(side, on="k", how="left")),
    # group_by
    "sum": (K, lambda lf, _: lf.group_by("k").agg(col("v").sum(), n=pl.len())),
    "two keys": (KD, lambda lf, _: lf.group_by("d", "k").agg(col("v").sum())),
    "more than the keys": (K, lambda lf, _: lf.group_by("k", "t").agg(col("v").max())),
    "a key and an expression": (
        K,
        lambda lf, _: lf.group_by("k", parity=col("t") % 2).agg(pl.len()),
    ),
    "all folds": (
        K,
        lambda lf, _: lf.group_by("k").agg(
            sum=col("v").sum(),
            mean=col("f").mean(),
            min=col("f").min(),
            max=col("s").max(),
            count=col("v").count(),
            len=col("v").len(),
            std=col("v").std(),
            var=col("f").var(),
            median=col("v").median(),
            quantile=col("v").quantile(0.25),
            n_unique=col("s").n_unique(),
            null_count=col("v").null_count(),
            any=col("b").any(),
            all=col("b").all(ignore_nulls=False),
            product=col("v").product(),
            bits=col("v").bitwise_xor(),
            nulls=col("v").has_nulls(),
            dot=col("v").dot("t"),
            cov=pl.cov("v", "t"),
            skew=col("v").skew(),
        ),
    ),
    "of expressions": (
        K,
        lambda lf, _: lf.group_by("k").agg(
            share=col("v").filter(col("b")).sum() / col("v").sum(),
            spread=(col("v") - col("v").mean()).abs().max(),
            late=(col("v") > 1).mean(),
            either=pl.when(col("b")).then(col("v")).otherwise(-col("t")).sum(),
            label=pl.format("{}/{}", col("v").min(), col("v").max()),
            pairs=(col("v").filter(col("b")) * col("t").filter(col("b"))).sum(),
        ),
    ),
    "sorted lists": (
        K,
        lambda lf, _: lf.group_by("k").agg(
            col("v").sort(), col("s").unique().sort(), top=col("t").top_k(2).sort()
        ),
    ),
    "joined text": (K, lambda lf, _: lf.group_by("k").agg(col("s").sort().str.join(","))),
    "first of the sorted": (
        K,
        lambda lf, _: lf.group_by("k").agg(
            first=col("v").sort_by("t", "v").first(),
            last=col("v").sort_by("t", "v", descending=[True, False]).last(),
            head=col("v").sort_by("t", "v").head(2),
            step=col("t").sort().diff().max(),
            third=col("t").sort().get(2, null_on_oob=True),
            runs=col("v").sort_by("t", "v").cum_sum(),
        ),
    ),
    "greatest by itself": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("t").top_k_by("t", 2).sum()),
    ),
    "first after a sort by all": (
        K,
        lambda lf, _: lf.drop("l").sort("t", pl.all()).group_by("k").agg(pl.all().first()),
    ),
    "first of what was sorted by": (
        K,
        lambda lf, _: lf.sort("t", "v").group_by("k").agg(col("v").first(), col("t").diff().sum()),
    ),
    "first rows of each key": (
        K,
        lambda lf, _: lf.drop("l").sort(pl.all(), nulls_last=True).group_by("k").head(2),
    ),
    "having": (
        K,
        lambda lf, _: lf.group_by("k").having(pl.len() > 1).agg(col("v").sum()),
    ),
    "sql": (
        K,
        lambda lf, _: lf.sql("SELECT k, SUM(v) AS v FROM self GROUP BY k HAVING COUNT(*) > 1"),
    ),
    "keys renamed": (
        K,
        lambda lf, _: lf.rename({"k": "key"}).group_by("key").agg(col("v").sum()),
    ),
    "keys swapped": (
        K,
        lambda lf, _: lf.rename({"k": "s", "s": "k"}).group_by("s").agg(col("v").sum()),
    ),
    "keys aliased": (
        K,
        lambda lf, _: lf.select(x=col("k"), v="v").group_by("x").agg(col("v").sum()),
    ),
    "keys by selector": (
        K,
        lambda lf, _: (
            lf.select(cs.string().name.suffix("_x"), "v").group_by(cs.string()).agg(col("v").sum())
        ),
    ),
    "keys kept in a copy": (
        K,
        lambda lf, _: lf.with_columns(own="k", k=col("s")).group_by("own").agg(col("v").sum()),
    ),
    "grouped twice": (
        K,
        lambda lf, _: (
            lf.group_by("k", "t")
            .agg(col("v").sum())
            .group_by("k")
            .agg(col("v").max(), last=col("v").sort_by("t").last())
        ),
    ),
    "window over groups": (
        K,
        lambda lf, _: (
            lf.group_by("k", "t")
            .agg(col("v").sum())
            .with_columns(run=col("v").cum_sum().over("k", order_by="t"))
        ),
    ),
    "explode and count": (
        K,
        lambda lf, _: lf.explode("l", empty_as_null=True).group_by("k", "l").agg(pl.len()),
    ),
    "unpivot and sum": (
        K,
        lambda lf, _: (
            lf.unpivot(on=["t", "v"], index="k").group_by("k", "variable").agg(col("value").sum())
        ),
    ),
    "unnest and sum": (
        K,
        lambda lf, _: (
            lf.select("k", x=pl.struct("t", "v")).unnest("x").group_by("k").agg(pl.all().sum())
        ),
    ),
    "fill_nan and sum": (
        K,
        lambda lf, _: lf.select("k", "f").fill_nan(0.0).group_by("k").agg(col("f").max()),
    ),
    "join a side, then group": (
        K,
        lambda lf, side: lf.join(side, on="k").group_by("k").agg(col("w").sum()),
    ),
    "from the side, then group": (
        K,
        lambda lf, side: side.join(lf, on="k").group_by("k").agg(col("w").sum()),
    ),
    "right join, then group": (
        K,
        lambda lf, side: side.join(lf, on="k", how="right").group_by("k").agg(col("w").sum()),
    ),
    "concat, then group": (
        K,
        lambda lf, _: pl.concat([lf, lf.filter("b")]).group_by("k").agg(col("v").sum()),
    ),
    # windows
    "share of the key": (K, lambda lf, _: lf.with_columns(q=col("v") / col("v").sum().over("k"))),
    "filter by a window": (
        K,
        lambda lf, _: lf.filter(col("v") >= col("v").mean().over("k", "d")),
    ),
    "difference in a window": (
        K,
        lambda lf, _: lf.with_columns(q=(col("v") - col("v").mean()).over("k")),
    ),
    "ranks": (
        K,
        lambda lf, _: lf.with_columns(
            a=col("v").rank("dense").over("k"),
            b=col("v").rank("min", descending=True).over("k"),
            c=col("f").is_duplicated().over("k"),
            e=col("v").fill_null(strategy="max").over("k"),
        ),
    ),
    "window over a struct of all": (
        K,
        lambda lf, _: lf.drop("l", "f").with_columns(
            n=pl.int_range(pl.len()).over("k", order_by=pl.struct(pl.all()))
        ),
    ),
    "windows in order of all columns": (
        K,
        lambda lf, _: lf.drop("l").with_columns(
            run=col("v").cum_sum().over("k", order_by=["t", "d", "v", "f", "s", "b"]),
            before=col("v").shift(1).over("k", order_by=["t", "d", "v", "f", "s", "b"]),
            mean=col("v")
            .rolling_mean(2)
            .over("k", order_by=["t", "d", "v", "f", "s", "b"], descending=True),
        ),
    ),
    "windows after a sort by all": (
        K,
        lambda lf, _: (
            lf.select("k", "t", "v")
            .sort("t", "v")
            .with_columns(
                before=col("v").shift(1).over("k"),
                filled=col("v").forward_fill().over("k"),
                row=pl.int_range(pl.len()).over("k"),
                ordinal=col("v").rank("ordinal").over("k"),
            )
        ),
    ),
    "first of a window": (
        K,
        lambda lf, _: lf.with_columns(q=col("v").first().over("k", order_by=["t", "v"])),
    ),
    "window as lists": (
        K,
        lambda lf, _: lf.with_columns(q=col("v").sort().over("k", mapping_strategy="join")),
    ),
    "windows after unique": (
        K,
        lambda lf, _: lf.unique(["k", "t"], keep="none").with_columns(
            q=col("v").shift(1).over("k", order_by="t")
        ),
    ),
    "sql window": (
        K,
        lambda lf, _: lf.sql("SELECT *, v - MAX(v) OVER (PARTITION BY k) AS q FROM self"),
    ),
    # unique
    "unique": (K, lambda lf, _: lf.drop("l").unique()),
    "unique of some": (K, lambda lf, _: lf.select("k", "v").unique(maintain_order=True)),
    "unique keeps none": (K, lambda lf, _: lf.unique(["k", "t"], keep="none")),
    "unique keeps the first after a sort": (
        K,
        lambda lf, _: (
            lf.drop("l")
            .sort(pl.all(), descending=True)
            .unique(["k", "t"], keep="first", maintain_order=True)
        ),
    ),
    "unique keeps the last after a sort by the rest": (
        K,
        lambda lf, _: lf.select("k", "t", "v").sort("v").unique(["k", "t"], keep="last"),
    ),
    # sort
    "sort": (K, lambda lf, _: lf.sort("v")),
    "stable sort": (
        K,
        lambda lf, _: (
            lf.select("k", "t", "v")
            .sort("t", "v")
            .sort("v", maintain_order=True)
            .filter(col("t") > 0)
            .with_columns(q=col("t").shift(1).over("k"))
        ),
    ),
    # joins with itself
    "join an aggregate of itself": (
        K,
        lambda lf, _: lf.join(lf.group_by("k").agg(q=col("v").sum()), on="k", how="left"),
    ),
    "join itself": (
        K,
        lambda lf, _: lf.select("k", "v").join(
            lf.select(key="k", v="t"), left_on=["k", "v"], right_on=["key", "v"]
        ),
    ),
    "join itself on a null key": (
        K,
        lambda lf, _: lf.join(
            lf.group_by("k").agg(q=pl.len()), on="k", how="left", nulls_equal=True, validate="m:1"
        ),
    ),
    "semi join with itself": (
        K,
        lambda lf, _: (
            lf.join(lf.filter("b"), on=["k", "t"], how="semi").group_by("k").agg(col("v").sum())
        ),
    ),
    "anti join with itself": (
        K,
        lambda lf, _: lf.join(lf.filter("b"), on=["k", "t"], how="anti"),
    ),
    "order kept through a join": (
        K,
        lambda lf, _: (
            lf.select("k", "t", "v")
            .sort("t", "v")
            .join(lf.group_by("k").agg(q=pl.len()), on="k", how="left", maintain_order="left")
            .with_columns(x=col("v").shift(1).over("k"))
        ),
    ),
}

_WITHOUT = "needs rows of other keys"
_ARRIVAL = scope_names.ARRIVAL.text
_TIES = scope_names.TIES.text

# name -> keys, job, the node that the refusal names, a part of the reason; each of these gives
# other rows for some cut
UNSOUND: dict[str, tuple[tuple[str, ...], Job, str, str]] = {
    "all rows": (K, lambda lf, _: lf.select(col("v").sum()), "sum", scope_names.AGGREGATE.text),
    "length": (K, lambda lf, _: lf.select(pl.len()), "len", scope_names.AGGREGATE.text),
    "filter by the mean of all": (
        K,
        lambda lf, _: lf.filter(col("t") > col("t").mean()),
        "mean",
        scope_names.AGGREGATE.text,
    ),
    "head": (K, lambda lf, _: lf.head(3), "head", scope_names.POSITION.text),
    "tail": (K, lambda lf, _: lf.tail(2), "tail", scope_names.POSITION.text),
    "slice": (K, lambda lf, _: lf.slice(1, 2), "slice", scope_names.POSITION.text),
    "top_k": (K, lambda lf, _: lf.top_k(2, by="t"), "head", scope_names.POSITION.text),
    "row index": (K, lambda lf, _: lf.with_row_index(), "with_row_index", ""),
    "row index after groups": (
        K,
        lambda lf, _: lf.group_by("k").agg(pl.len()).with_row_index(),
        "with_row_index",
        "",
    ),
    "shift without a window": (
        K,
        lambda lf, _: lf.select("k", "t", "v").sort("t", "v").with_columns(q=col("v").shift(1)),
        "shift",
        scope_names.ORDER.text,
    ),
    "sum of groups": (
        K,
        lambda lf, _: lf.group_by("k").agg(pl.len()).select(col("len").sum()),
        "sum",
        "",
    ),
    "group_by another": (
        K,
        lambda lf, _: lf.group_by("d").agg(col("v").sum(), pl.len()),
        "group_by",
        f"{_WITHOUT}: it does not go by k",
    ),
    "group_by one of two": (
        KD,
        lambda lf, _: lf.group_by("k").agg(pl.len()),
        "group_by",
        "does not go by d",
    ),
    "group_by a computed key": (
        K,
        lambda lf, _: lf.group_by(col("k").str.head(0)).agg(pl.len()),
        "group_by",
        _WITHOUT,
    ),
    "group_by an overwritten key": (
        K,
        lambda lf, _: lf.with_columns(k=col("d").cast(pl.String)).group_by("k").agg(pl.len()),
        "group_by",
        "k was dropped or computed anew before",
    ),
    "group_by a filled key": (
        K,
        lambda lf, _: lf.with_columns(col("k").fill_null("a")).group_by("k").agg(pl.len()),
        "group_by",
        "k was dropped or computed anew before",
    ),
    "group_by another under the key's name": (
        K,
        lambda lf, _: lf.drop("k").rename({"s": "k"}).group_by("k").agg(pl.len()),
        "group_by",
        "k was dropped",
    ),
    "group_by again without the key": (
        K,
        lambda lf, _: lf.group_by("k", "d").agg(n=pl.len()).group_by("d").agg(col("n").sum()),
        "group_by",
        _WITHOUT,
    ),
    "group_by a key filled by a diagonal concat": (
        K,
        lambda lf, _: pl.concat([lf, lf.drop("k")], how="diagonal").group_by("k").agg(pl.len()),
        "group_by",
        "k was dropped",
    ),
    "group_by an unnested name": (
        K,
        lambda lf, _: lf.select(x=pl.struct(k=col("d"))).unnest("x").group_by("k").agg(pl.len()),
        "group_by",
        "k was dropped",
    ),
    "first as it comes": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").first()),
        "first",
        _ARRIVAL,
    ),
    "first as it comes in groups kept in order": (
        K,
        lambda lf, _: lf.group_by("k", maintain_order=True).agg(col("v").last()),
        "last",
        _ARRIVAL,
    ),
    "list as it comes": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v")),
        "agg",
        scope_names.LISTS.text,
    ),
    "head of each key as it comes": (
        K,
        lambda lf, _: lf.group_by("k").head(1),
        "head",
        _ARRIVAL,
    ),
    "text as it comes": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("s").str.join("")),
        "str.join",
        _ARRIVAL,
    ),
    "first with ties": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").sort_by("t").first()),
        "first",
        _TIES,
    ),
    "list with ties": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").sort_by("t")),
        "agg",
        _TIES,
    ),
    "greatest by, with ties": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").top_k_by("t", 1).sum()),
        "top_k_by",
        _TIES,
    ),
    "first with ties after a sort": (
        K,
        lambda lf, _: lf.sort("t").group_by("k").agg(col("v").first()),
        "first",
        _TIES,
    ),
    "first after a sort that was undone": (
        K,
        lambda lf, _: (
            lf.select("k", "t", "v").sort("t", "v").sort("k").group_by("k").agg(col("v").first())
        ),
        "first",
        _TIES,
    ),
    "running sum as it comes": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").cum_sum().max()),
        "cum_sum",
        _ARRIVAL,
    ),
    "position of the least": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").arg_min()),
        "arg_min",
        scope_names.AGGREGATE.text,
    ),
    "values of different rows": (
        K,
        lambda lf, _: lf.group_by("k").agg((col("v").sort() * col("t")).sum()),
        "an operator",
        scope_names.PAIRS.text,
    ),
    "running sum beside an unsorted column": (
        K,
        lambda lf, _: lf.sort("t").group_by("k").agg((col("t").cum_sum() * col("v")).sum()),
        "an operator",
        _TIES,
    ),
    "window over another": (
        K,
        lambda lf, _: lf.with_columns(q=col("v").sum().over("d")),
        "over",
        _WITHOUT,
    ),
    "window over nothing": (
        K,
        lambda lf, _: lf.with_columns(q=col("t").cum_sum().over(order_by="t")),
        "over",
        _WITHOUT,
    ),
    "window as it comes": (
        K,
        lambda lf, _: lf.with_columns(q=col("v").shift(1).over("k")),
        "shift",
        _ARRIVAL,
    ),
    "row number as it comes": (
        K,
        lambda lf, _: lf.with_columns(q=pl.int_range(pl.len()).over("k")),
        "over",
        _ARRIVAL,
    ),
    "ordinal rank with ties": (
        K,
        lambda lf, _: lf.with_columns(q=col("t").rank("ordinal").over("k")),
        "rank",
        _ARRIVAL,
    ),
    "window with ties": (
        K,
        lambda lf, _: lf.with_columns(q=col("t").cum_sum().over("k", order_by="t")),
        "over",
        _TIES,
    ),
    "window of another column with ties": (
        K,
        lambda lf, _: lf.with_columns(q=col("v").shift(1).over("k", order_by="t")),
        "shift",
        _TIES,
    ),
    "window of a sorted column": (
        K,
        lambda lf, _: lf.with_columns(q=col("v").sort().over("k")),
        "over",
        _ARRIVAL,
    ),
    "window in another order": (
        K,
        lambda lf, _: lf.select(
            "k", "t", q=col("v").sort_by("t", "v").over("k", mapping_strategy="explode")
        ),
        "over",
        scope_names.EXPLODED_WINDOW.text,
    ),
    "unique of another": (
        K,
        lambda lf, _: lf.select("k", "d").unique(["d"], keep="none"),
        "unique",
        _WITHOUT,
    ),
    "unique without the key": (
        K,
        lambda lf, _: lf.select("d").unique(),
        "unique",
        "k was dropped",
    ),
    "unique keeps any": (
        K,
        lambda lf, _: lf.unique(["k"]),
        "unique",
        scope_names.KEEPS_ANY.text,
    ),
    "unique keeps the first as it comes": (
        K,
        lambda lf, _: lf.unique(["k"], keep="first"),
        "unique",
        _ARRIVAL,
    ),
    "unique keeps the first with ties": (
        K,
        lambda lf, _: lf.sort("t").unique(["k"], keep="first", maintain_order=True),
        "unique",
        _TIES,
    ),
    "join itself on another": (
        K,
        lambda lf, _: lf.join(lf.select("d", q="v"), on="d"),
        "join",
        _WITHOUT,
    ),
    "join itself by a key that was computed anew": (
        K,
        lambda lf, _: lf.join(
            lf.select(k=col("s").replace({"x": "a", "y": "b"})), on="k", how="anti"
        ),
        "join",
        _WITHOUT,
    ),
    "anti join with itself on another": (
        K,
        lambda lf, _: lf.join(lf.filter("b"), on="d", how="anti"),
        "join",
        _WITHOUT,
    ),
    "order lost in a join": (
        K,
        lambda lf, side: (
            lf.select("k", "t", "v")
            .sort("t")
            .join(side, on="k", how="left", maintain_order="left_right")
            .with_columns(q=col("v").shift(1).over("k"))
        ),
        "shift",
        _ARRIVAL,
    ),
    "add rows of the side": (
        K,
        lambda lf, side: pl.concat([lf.select("k"), side.select("k")]),
        "concat",
        scope_names.REPEATS.text,
    ),
}

# Refused besides: what may well be the same, but is not known to be.
REFUSED: dict[str, tuple[tuple[str, ...], Job, str, str]] = {
    "sample": (
        K,
        lambda lf, _: lf.select(pl.all().sample(fraction=0.5)),
        "sample",
        scope_names.RANDOM.text,
    ),
    "a function of one value": (
        K,
        lambda lf, _: lf.group_by("k").agg(pl.len().shift(1).arg_max()),
        "shift",
        scope_names.OF_ONE_VALUE.text,
    ),
    "sorting what was computed with the whole group": (
        K,
        lambda lf, _: lf.group_by("k").agg((col("v") - col("v").min()).sort_by("t", "v")),
        "sort_by",
        scope_names.MIXED_SORT.text,
    ),
    "least by another": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").min_by("v")),
        "min_by",
        scope_names.NO_ROWS.text,
    ),
    "variance of groups of nulls": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").var(ddof=0)),
        "var",
        scope_names.NO_FREEDOM.text,
    ),
    "python on groups": (
        K,
        lambda lf, _: lf.group_by("k").map_groups(lambda df: df.head(1), schema=SCHEMA),
        "map_groups",
        scope_names.OPAQUE.text,
    ),
    "python in groups": (
        K,
        lambda lf, _: lf.group_by("k").agg(
            col("v").map_batches(lambda s: s.sum(), return_dtype=pl.Int64, returns_scalar=True)
        ),
        "map_batches",
        scope_names.OPAQUE.text,
    ),
    "group_by_dynamic": (
        K,
        lambda lf, _: lf.sort("t").group_by_dynamic("t", every="2i", group_by="k").agg(pl.len()),
        "group_by_dynamic",
        "",
    ),
    "rolling": (
        K,
        lambda lf, _: lf.sort("t").rolling("t", period="2i", group_by="k").agg(pl.len()),
        "rolling",
        "",
    ),
    "pivot": (
        K,
        lambda lf, _: lf.pivot(
            "d", on_columns=[1, 2], index="k", values="v", aggregate_function="sum"
        ),
        "pivot",
        "",
    ),
    "full join with itself": (
        K,
        lambda lf, _: lf.join(lf.filter("b"), on="k", how="full"),
        "join",
        scope_names.SELF_JOIN.text,
    ),
    "categories' codes": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("s").cast(pl.Categorical).to_physical().max()),
        "to_physical",
        scope_names.PHYSICAL.text,
    ),
    "text to dates without a format": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("s").str.to_date(strict=False).max()),
        "str.strptime",
        scope_names.INFERRED.text,
    ),
    "random rank": (
        K,
        lambda lf, _: lf.with_columns(q=col("t").rank("random").over("k")),
        "rank",
        scope_names.RANDOM.text,
    ),
    "a literal of several values": (
        K,
        lambda lf, _: lf.group_by("k").agg((col("v") + pl.lit(pl.Series([1, 2]))).sum()),
        "literal series",
        scope_names.LENGTH.text,
    ),
    "rolling in a group": (
        K,
        lambda lf, _: lf.group_by("k").agg(col("v").sum().rolling("t", period="2i").max()),
        "rolling",
        "",
    ),
    "another file": (
        K,
        lambda lf, _: lf.join(pl.scan_csv(b"k\na\n"), on="k").group_by("k").agg(pl.len()),
        "scan",
        scope_names.UNPINNED.text,
    ),
    "no main": (K, lambda _lf, side: side.group_by("k").agg(pl.len()), "plan", ""),
}


def _violations(job: Job, keys: Sequence[str]) -> tuple[scope.Violation, ...]:
    main = scope.placeholder(MAIN, SCHEMA)
    side = scope.placeholder(SIDE, SIDE_FRAME.schema)
    return scope.key_scope_violations(job(main, side), MAIN, [SIDE], keys)


def _run(job: Job, frame: pl.DataFrame) -> pl.DataFrame:
    return job(frame.lazy(), SIDE_FRAME.lazy()).collect()


def _plain(value: object) -> object:
    """A value as it is compared: sums of floats up to rounding, zeros without a sign."""
    if isinstance(value, float):
        return repr(round(value, 9) + 0.0)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _multiset(frame: pl.DataFrame) -> list[str]:
    return sorted(repr(_plain(row)) for row in frame.rows())


def _cut(frame: pl.DataFrame, keys: Sequence[str], rng: random.Random) -> list[pl.DataFrame]:
    """Parts with all rows of a key in one, rows in any order, and one part without rows."""
    order = list(range(frame.height))
    rng.shuffle(order)
    shuffled = frame[order]
    homes: dict[str, int] = {}
    parts = rng.randint(1, 4)
    home = [
        homes.setdefault(repr(_plain(row)), rng.randrange(parts))
        for row in shuffled.select(keys).rows()
    ]
    return [
        shuffled.filter(pl.Series([h == part for h in home], dtype=pl.Boolean))
        for part in range(parts + 1)
    ]


def _differs(
    job: Job, keys: Sequence[str], frame: pl.DataFrame, rng: random.Random
) -> tuple[list[str], list[str]] | None:
    """The rows on the whole and on a cut, where they are not the same."""
    whole = _run(job, frame)
    cut = pl.concat([_run(job, part) for part in _cut(frame, keys, rng)])
    assert cut.schema == whole.schema
    one, other = _multiset(whole), _multiset(cut)
    return None if one == other else (one, other)


_ROW = st.tuples(
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from([1, 2, None]),
    st.integers(0, 2),
    st.one_of(st.none(), st.integers(-2, 3)),
    st.sampled_from([None, math.nan, math.inf, -math.inf, 0.0, -0.0, 0.25, -1.5]),
    st.sampled_from(["x", "y", "", None]),
    st.sampled_from([True, False, None]),
    st.one_of(st.none(), st.lists(st.sampled_from([1, 2, None]), max_size=2)),
)


def _frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


FRAMES = st.lists(_ROW, max_size=14).map(_frame)


# -- verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALLOWED)
def test_plan_that_looks_at_one_key_is_allowed(name: str) -> None:
    keys, job = ALLOWED[name]

    assert _violations(job, keys) == ()


@pytest.mark.parametrize("name", UNSOUND | REFUSED)
def test_plan_that_looks_across_keys_or_at_the_order_is_refused_by_name(name: str) -> None:
    keys, job, node, reason = (UNSOUND | REFUSED)[name]

    found = _violations(job, keys)

    assert node in [v.node for v in found]
    (violation,) = [v for v in found if v.node == node]
    assert reason in violation.reason
    assert violation.where
    assert violation.hint


@pytest.mark.parametrize("name", ALLOWED)
@settings(max_examples=25, deadline=None)
@given(frame=FRAMES, seed=st.integers(0, 2**16))
def test_allowed_plan_gives_the_same_rows_for_any_cut_that_leaves_keys_together(
    name: str, frame: pl.DataFrame, seed: int
) -> None:
    keys, job = ALLOWED[name]

    assert _differs(job, keys, frame, random.Random(seed)) is None


@functools.cache
def _samples() -> list[pl.DataFrame]:
    rng = random.Random(5)

    def row() -> tuple[object, ...]:
        lists = [None, [], [1], [1, 2]]
        return (
            rng.choice(["a", "b", "c", None]),
            rng.choice([1, 2, None]),
            rng.randint(0, 2),
            rng.choice([None, *range(-2, 4)]),
            rng.choice([None, 0.25, -1.5]),
            rng.choice(["x", "y", "", None]),
            rng.choice([True, False, None]),
            rng.choice(lists),
        )

    return [_frame([row() for _ in range(14)]) for _ in range(40)]


@pytest.mark.parametrize("name", UNSOUND)
def test_refused_plan_gives_other_rows_for_some_cut(name: str) -> None:
    keys, job, *_ = UNSOUND[name]
    rng = random.Random(9)

    assert any(_differs(job, keys, frame, rng) for frame in _samples())


# -- generated plans ---------------------------------------------------------------------------

COLUMNS = ["t", "v", "f", "d"]
SCALARS = ["t", "d", "v", "f", "s", "b"]

ONE_INPUT: list[Callable[[pl.Expr], pl.Expr]] = [
    *(
        functools.partial(lambda name, e: getattr(e, name)(), name)
        for name in sorted(
            scope_names.words(
                """sum min max count n_unique first last sort cum_sum shift diff reverse unique
                drop_nulls is_duplicated is_first_distinct forward_fill rle_id interpolate implode
                mode"""
            )
        )
    ),
    lambda e: e.sort_by(*COLUMNS),
    lambda e: e.sort_by("t"),
    lambda e: e.sort_by("t", "v"),
    lambda e: e.filter(col("b")),
    lambda e: e.head(2),
    lambda e: e.top_k(2),
    lambda e: e.top_k_by("t", 2),
    lambda e: e.get(0, null_on_oob=True),
    lambda e: e.rank("dense"),
    lambda e: e.rank("ordinal"),
    lambda e: e.fill_null(0),
    lambda e: e.fill_null(strategy="min"),
    lambda e: e.cast(pl.Float64),
]
LEAVES = st.sampled_from([*map(col, COLUMNS), pl.len(), pl.lit(2)])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda function, e: function(e), st.sampled_from(ONE_INPUT), inner),
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, b: pl.when(col("b")).then(a).otherwise(b), inner, inner),
    ),
    max_leaves=3,
)
BEFORE: list[Callable[[pl.LazyFrame], pl.LazyFrame]] = [
    lambda lf: lf,
    lambda lf: lf.sort("t", "v"),
    lambda lf: lf.sort(SCALARS),
    lambda lf: lf.sort(SCALARS).filter(col("v").is_not_null()),
    lambda lf: lf.unique(["k", "t"], keep="none"),
]
AFTER: list[Callable[[pl.LazyFrame, pl.Expr], pl.LazyFrame]] = [
    lambda lf, e: lf.group_by("k").agg(x=e),
    lambda lf, e: lf.with_columns(x=e.over("k")),
    lambda lf, e: lf.with_columns(x=e.over("k", order_by="t")),
    lambda lf, e: lf.with_columns(x=e.over("k", order_by=SCALARS, descending=True)),
]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(
    expr=EXPRESSIONS,
    before=st.sampled_from(BEFORE),
    after=st.sampled_from(AFTER),
    frame=FRAMES,
    seed=st.integers(0, 2**16),
)
def test_generated_plan_is_refused_or_gives_the_same_rows_for_any_cut(
    expr: pl.Expr,
    before: Callable[[pl.LazyFrame], pl.LazyFrame],
    after: Callable[[pl.LazyFrame, pl.Expr], pl.LazyFrame],
    frame: pl.DataFrame,
    seed: int,
) -> None:
    def job(lf: pl.LazyFrame, _: pl.LazyFrame) -> pl.LazyFrame:
        return after(before(lf.drop("l")), expr)

    try:
        _run(job, _samples()[0])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        assume(False)  # no such plan: lengths or types do not fit
    assume(_violations(job, K) == ())

    try:
        differs = _differs(job, K, frame, random.Random(seed))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        assume(False)  # lengths that fit by accident only; the run fails, whatever the cut
    assert differs is None


# -- messages ----------------------------------------------------------------------------------


def _refusal(job: Job, keys: Sequence[str]) -> ScopeViolation:
    plan = job(scope.placeholder(MAIN, SCHEMA), scope.placeholder(SIDE, SIDE_FRAME.schema))
    with pytest.raises(ScopeViolation) as caught:
        scope.require_key_scope(plan, MAIN, [SIDE], keys, "flights:daily")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert isinstance(again, ScopeViolation)
    return again


def test_refusal_names_job_keys_and_every_node() -> None:
    error = _refusal(lambda lf, _: lf.group_by("d").agg(pl.len()).head(2), ["k", "t"])

    assert "job flights:daily does not give the same rows for any cut" in error.message
    assert "all rows of a key (k, t) together" in error.message
    assert 'group_by, in group_by(col("d")): needs rows of other keys' in error.message
    assert "it does not go by k, t" in error.message
    assert "head, in head(2)" in error.message
    assert '@job(scope="whole")' in error.hint


def test_refusal_shows_the_keys_that_would_do() -> None:
    error = _refusal(lambda lf, _: lf.group_by("d", "s").agg(col("v").sum()), ["k"])

    assert '@job(scope="key", keys=["d", "s"])' in error.hint
    assert "whole" not in error.hint


def test_refusal_for_the_order_shows_how_to_sort() -> None:
    error = _refusal(lambda lf, _: lf.group_by("k").agg(col("v").first()), ["k"])

    assert "col('v').sort_by('t', 'v')" in error.hint
    assert "@job" not in error.hint


def test_plan_of_one_key_passes() -> None:
    plan = scope.placeholder(MAIN, SCHEMA).group_by("k").agg(pl.len())

    scope.require_key_scope(plan, MAIN, [], ["k"], "flights:daily")


def test_key_that_the_input_does_not_have_is_refused_with_near_ones() -> None:
    plan = scope.placeholder(MAIN, SCHEMA).group_by("k").agg(pl.len())

    with pytest.raises(UnknownName, match="'kk'"):
        scope.require_key_scope(plan, MAIN, [], ["kk"], "flights:daily")


def test_scope_key_without_keys_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="without keys"):
        scope.require_key_scope(scope.placeholder(MAIN, SCHEMA), MAIN, [], [], "flights:daily")


@pytest.mark.parametrize(
    ("job", "keys"),
    [
        (lambda lf, _: lf.group_by("k").agg(col("v").sum()), ("k",)),
        (lambda lf, _: lf.filter(col("v") > col("v").mean().over("k", "d")), ("d", "k")),
        (lambda lf, _: lf.rename({"k": "key"}).unique(["key", "t"], keep="none"), ("k", "t")),
        (
            lambda lf, _: lf.with_columns(q=col("v").sum().over("k", "d")).group_by("k").len(),
            ("k",),
        ),
        (lambda lf, _: lf.join(lf.group_by("d").len(), on="d"), ("d",)),
        (lambda lf, _: lf.group_by(col("t") % 2).len(), ()),
        (lambda lf, _: lf.group_by("k").len().group_by("len").len(), ()),
        (lambda lf, _: lf.group_by("k").len().head(1), ()),
        (lambda lf, _: lf.with_columns(q=col("v").cum_sum()), ()),
        (lambda lf, _: lf.sort("v"), ()),
    ],
)
def test_row_scope_refusal_says_which_scope_to_declare(job: Job, keys: tuple[str, ...]) -> None:
    plan = job(scope.placeholder(MAIN, SCHEMA), scope.placeholder(SIDE, SIDE_FRAME.schema))

    with pytest.raises(ScopeViolation) as caught:
        scope.require_row_scope(plan, MAIN, [SIDE], "flights:daily")

    assert scope.suggested_keys(plan, MAIN, [SIDE]) == keys
    assert scope.declaration(keys) in caught.value.hint
    other = '@job(scope="whole")' if keys else '@job(scope="key"'
    assert other not in caught.value.hint
