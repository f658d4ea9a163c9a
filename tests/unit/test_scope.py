"""Which plans look at one row at a time: judged, and proved by cutting the input."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import pickle
import random
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest
from polars import col
from polars.exceptions import ComputeError

from headwater.infra.errors import ScopeViolation
from headwater.tasks import scope, scope_json, scope_names

ROWS = 40
CUTS = (2, 7, ROWS)
MAIN, SIDE = Path("/placeholder/main.parquet"), Path("/placeholder/side.parquet")

WORDS = ["alpha", "Beta", "gamma ray", "", "x-1", "été", "a.b.c", "delta"]


def _rows() -> pl.DataFrame:
    """``ROWS`` rows of every kind of column, with nulls and repeats, in no order."""
    rng = random.Random(7)

    def column(make: Callable[[], object], nulls: bool = True) -> list[object]:
        return [None if nulls and rng.random() < 0.15 else make() for _ in range(ROWS)]

    day = dt.date(2024, 1, 1)
    noon = dt.datetime(2024, 1, 1, 12)
    ints = lambda: rng.randint(-9, 9)  # noqa: E731
    lists = lambda: [rng.choice([None, 1, 2, 3, 5]) for _ in range(rng.randint(0, 5))]  # noqa: E731
    return pl.DataFrame(
        {
            "i": column(ints),
            "n": column(lambda: rng.randint(1, 3), nulls=False),
            "f": column(lambda: rng.choice([0.25, -1.5, 3.75, math.nan, math.inf, 0.1])),
            "g": column(lambda: rng.uniform(-1, 1), nulls=False),
            "b": column(lambda: rng.random() < 0.5),
            "s": column(lambda: rng.choice(WORDS)),
            "p": column(lambda: rng.choice("aetx")),
            "d": column(lambda: day + dt.timedelta(rng.randint(0, 90))),
            "w": column(lambda: day + dt.timedelta(7 * rng.randint(0, 20)), nulls=False),
            "t": column(lambda: noon + dt.timedelta(seconds=rng.randint(0, 10**7))),
            "z": column(lambda: dt.timedelta(seconds=rng.randint(0, 10**6))),
            "h": column(lambda: dt.time(rng.randint(0, 23), rng.randint(0, 59))),
            "l": column(lists),
            "m": column(lists),
            "ls": column(lambda: [rng.choice(WORDS) for _ in range(rng.randint(0, 3))]),
            "lb": column(lambda: [rng.random() < 0.5 for _ in range(rng.randint(0, 3))]),
            "k": column(lambda: [1, 0, -1][: rng.randint(0, 3)], nulls=False),
            "r": column(lambda: [ints(), ints(), ints()]),
            "st": column(lambda: {"x": ints(), "y": rng.choice(WORDS)}),
            "c": column(lambda: rng.choice(["red", "green", "blue"])),
            "e": column(lambda: rng.choice(["lo", "mid", "hi"])),
            "y": column(lambda: rng.choice([b"abcd", b"wxyzwxyz", b"\x00\x01\x02\x03"])),
            "dec": column(lambda: rng.choice(["1.25", "-3.50", "7.00"])),
            "ds": column(lambda: rng.choice(["2024-01-02", "02/03/2024", "2024-05-06T07:08"])),
            "js": column(lambda: rng.choice(['{"x": 1}', '{"x": 2, "y": "q"}', "{}"])),
            "num": column(lambda: rng.choice(["12", "-7", "0x1f", "zz"])),
            "hex": column(lambda: rng.choice(["6162", "00ff", "61"]), nulls=False),
            "key": [f"k{rng.randint(0, 5)}" for _ in range(ROWS)],
        },
        schema_overrides={
            "l": pl.List(pl.Int64),
            "m": pl.List(pl.Int64),
            "k": pl.List(pl.Int64),
            "r": pl.Array(pl.Int64, 3),
            "c": pl.Categorical,
            "e": pl.Enum(["lo", "mid", "hi"]),
        },
    ).with_columns(col("dec").cast(pl.Decimal(10, 2)))


FRAME = _rows()
SIDE_FRAME = pl.DataFrame(
    {"key": ["k0", "k1", "k1", "k9"], "v": [10, 20, 21, 90], "u": [1.0, 2.0, 3.0, 4.0]}
)

ELEMENT = pl.element()


def _choice(branches: int) -> pl.Expr:
    choice = pl.when(col("i") == 0).then(pl.lit("zero"))
    for value in range(1, branches):
        choice = choice.when(col("i") == value).then(pl.lit(str(value)))
    return choice.otherwise(None)


# Each is evaluated on the whole and on cuts of FRAME; the name before a space is the method's.
ALLOWED: dict[str, pl.Expr] = {
    "abs": col("i").abs(),
    "add": col("i").add(1) + col("n"),
    "alias": col("i").alias("other"),
    "and_": col("b").and_(col("i") > 0),
    "arccos": col("g").arccos(),
    "arccosh": col("n").arccosh(),
    "arcsin": col("g").arcsin(),
    "arcsinh": col("g").arcsinh(),
    "arctan": col("g").arctan(),
    "arctanh": col("g").arctanh(),
    "bitwise_count_ones": col("i").bitwise_count_ones(),
    "bitwise_count_zeros": col("i").bitwise_count_zeros(),
    "bitwise_leading_ones": col("i").bitwise_leading_ones(),
    "bitwise_leading_zeros": col("i").bitwise_leading_zeros(),
    "bitwise_trailing_ones": col("i").bitwise_trailing_ones(),
    "bitwise_trailing_zeros": col("i").bitwise_trailing_zeros(),
    "cast": col("i").cast(pl.Float32),
    "cast text to date": col("ds").cast(pl.Date, strict=False),
    "cast text to datetime": col("ds").cast(pl.Datetime, strict=False),
    "cast text to decimal": col("num").cast(pl.Decimal(10, 3), strict=False),
    "cast category to text": col("c").cast(pl.String),
    "cast enum to code": col("e").cast(pl.UInt8),
    "cast text to category": col("s").cast(pl.Categorical).cast(pl.String),
    "cast to the type of a column": col("i").cast(pl.dtype_of("g")),
    "cbrt": col("g").cbrt(),
    "ceil": col("g").ceil(),
    "clip": col("i").clip(-3, col("n")),
    "cos": col("g").cos(),
    "cosh": col("g").cosh(),
    "cot": col("g").cot(),
    "cut": col("g").cut([-0.5, 0.5]).cast(pl.String),
    "cut labels": col("g").cut([0.0], labels=["neg", "pos"]).cast(pl.String),
    "cut breaks": col("g").cut([0.0], include_breaks=True).struct.field("breakpoint"),
    "degrees": col("g").degrees(),
    "eq": col("i").eq(col("n")),
    "eq_missing": col("i").eq_missing(col("n")),
    "exp": col("g").exp(),
    "fill_nan": col("f").fill_nan(col("g")),
    "fill_null": col("i").fill_null(0),
    "fill_null by a column": col("i").fill_null(col("n")),
    "fill_null zero": col("i").fill_null(strategy="zero"),
    "fill_null one": col("i").fill_null(strategy="one"),
    "floor": col("g").floor(),
    "floordiv": col("i").floordiv(col("n")),
    "ge": col("i").ge(0),
    "gt": col("i").gt(0),
    "hash": col("s").hash(seed=3),
    "hash category": col("c").hash(),
    "categories in a list": pl.concat_list("c", col("c")).list.sort().list.first(),
    "categories as text": pl.coalesce(col("c"), pl.lit("none")).fill_null("x").is_in(["red"]),
    "deep choice": _choice(120),
    "hash struct": col("st").hash(),
    "is_between": col("i").is_between(-3, col("n")),
    "is_close": col("g").is_close(col("g") + 1e-12),
    "is_finite": col("f").is_finite(),
    "is_in": col("i").is_in([1, 2, 3]),
    "is_in a series": col("i").is_in(pl.Series([1, 2, 3]).implode()),
    "is_in own list": col("i").is_in(col("l")),
    "is_in text": col("s").is_in({"alpha", "x-1"}),
    "is_in concat": col("i").is_in(pl.concat_list("n", "i")),
    "is_infinite": col("f").is_infinite(),
    "is_nan": col("f").is_nan(),
    "is_not_nan": col("f").is_not_nan(),
    "is_not_null": col("i").is_not_null(),
    "is_null": col("i").is_null(),
    "le": col("i").le(0),
    "log": col("n").log(col("n") + 1),
    "log10": col("n").log10(),
    "log1p": col("n").log1p(),
    "lt": col("i").lt(0),
    "map_batches": col("g").map_batches(np.exp, return_dtype=pl.Float64, is_elementwise=True),
    "map_elements": col("i").map_elements(hex, return_dtype=pl.String),
    "map_elements struct": pl.struct("i", "n").map_elements(repr, return_dtype=pl.String),
    "mod": col("i").mod(3),
    "mul": col("i").mul(col("n")),
    "ne": col("i").ne(0),
    "ne_missing": col("i").ne_missing(col("n")),
    "neg": col("i").neg(),
    "not_": col("b").not_(),
    "or_": col("b").or_(col("n") > 1),
    "pipe": col("i").pipe(lambda e: e + 1),
    "pow": col("i").pow(col("n")),
    "radians": col("g").radians(),
    "reinterpret": col("i").reinterpret(signed=False),
    "repeat_by": col("s").repeat_by("n"),
    "replace": col("i").replace({1: 100, 2: 200}),
    "replace lists": col("s").replace(["alpha", "x-1"], ["A", "X"]),
    "replace_strict": col("i").replace_strict({1: "one"}, default=col("s"), return_dtype=pl.String),
    "round": col("g").round(2),
    "round_sig_figs": col("g").round_sig_figs(2),
    "shrink_dtype": col("i"),
    "sign": col("i").sign(),
    "sin": col("g").sin(),
    "sinh": col("g").sinh(),
    "sqrt": col("n").sqrt(),
    "sub": col("i").sub(col("n")),
    "tan": col("g").tan(),
    "tanh": col("g").tanh(),
    "to_physical": col("d").to_physical(),
    "to_physical enum": col("e").to_physical(),
    "truediv": col("i").truediv(col("n")),
    "truncate": col("g").truncate(1),
    "xor": col("i").xor(col("n")),
    # strings
    "str.contains": col("s").str.contains(col("p")),
    "str.contains_any": col("s").str.contains_any(["a", "t"]),
    "str.count_matches": col("s").str.count_matches(col("p")),
    "str.decode": col("hex").str.decode("hex"),
    "str.decode base64": col("s").str.encode("base64").str.decode("base64"),
    "str.encode": col("s").str.encode("hex"),
    "str.ends_with": col("s").str.ends_with(col("p")),
    "str.escape_regex": col("s").str.escape_regex(),
    "str.extract": col("s").str.extract(r"(\w)\w", 1),
    "str.extract by a column": col("s").str.extract(pl.format("({}.)", "p"), 1),
    "str.extract_all": col("s").str.extract_all(col("p")),
    "str.extract_groups": col("s").str.extract_groups(r"(?<a>\w)(?<b>\w)"),
    "str.extract_many": col("s").str.extract_many(["a", "be"]),
    "str.extract_many own list": col("s").str.extract_many(pl.concat_list("p")),
    "str.find": col("s").str.find(col("p")),
    "str.find_many": col("s").str.find_many(["a", "e"]),
    "str.head": col("s").str.head(col("n")),
    "str.json_decode": col("js").str.json_decode(pl.Struct({"x": pl.Int64, "y": pl.String})),
    "str.json_path_match": col("js").str.json_path_match(
        pl.when(col("n") > 1).then(pl.lit("$.x")).otherwise(pl.lit("$.y"))
    ),
    "str.len_bytes": col("s").str.len_bytes(),
    "str.len_chars": col("s").str.len_chars(),
    "str.normalize": col("s").str.normalize("NFD"),
    "str.pad_end": col("s").str.pad_end(9, "*"),
    "str.pad_end by a column": col("s").str.pad_end(col("n") + 5),
    "str.pad_start": col("s").str.pad_start(9, "*"),
    "str.replace": col("s").str.replace("a", col("p")),
    "str.replace_all": col("s").str.replace_all("a", col("key")),
    "str.replace_many": col("s").str.replace_many({"a": "1", "e": "2"}),
    "str.reverse": col("s").str.reverse(),
    "str.slice": col("s").str.slice(col("n"), 2),
    "str.split": col("s").str.split(col("p")),
    "str.split_exact": col("s").str.split_exact(col("p"), 2),
    "str.splitn": col("s").str.splitn(col("p"), 2),
    "str.starts_with": col("s").str.starts_with(col("p")),
    "str.strip_chars": col("s").str.strip_chars(col("p")),
    "str.strip_chars_end": col("s").str.strip_chars_end(col("p")),
    "str.strip_chars_start": col("s").str.strip_chars_start(col("p")),
    "str.strip_prefix": col("s").str.strip_prefix(col("p")),
    "str.strip_suffix": col("s").str.strip_suffix(col("p")),
    "str.strptime": col("ds").str.strptime(pl.Datetime, "%Y-%m-%dT%H:%M", strict=False),
    "str.tail": col("s").str.tail(col("n")),
    "str.to_date": col("ds").str.to_date("%d/%m/%Y", strict=False),
    "str.to_datetime": col("ds").str.to_datetime("%Y-%m-%dT%H:%M", strict=False),
    "str.to_decimal": col("num").str.to_decimal(scale=2),
    "str.to_integer": col("num").str.to_integer(strict=False),
    "str.to_integer by a column": col("num").str.to_integer(base=col("n") + 9, strict=False),
    "str.to_lowercase": col("s").str.to_lowercase(),
    "str.to_time": col("h").cast(pl.String).str.slice(0, 5).str.to_time("%H:%M"),
    "str.to_titlecase": col("s").str.to_titlecase(),
    "str.to_uppercase": col("s").str.to_uppercase(),
    "str.zfill": col("num").str.zfill(col("n") + 3),
    # times
    "dt.add_business_days": col("w").dt.add_business_days(
        col("n"), holidays=[dt.date(2024, 1, 2)], roll="forward"
    ),
    "dt.base_utc_offset": col("t").dt.replace_time_zone("Europe/Berlin").dt.base_utc_offset(),
    "dt.cast_time_unit": col("t").dt.cast_time_unit("ms"),
    "dt.century": col("d").dt.century(),
    "dt.combine": col("d").dt.combine(col("h")),
    "dt.convert_time_zone": col("t").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
    "dt.date": col("t").dt.date(),
    "dt.datetime": col("t").dt.replace_time_zone("UTC").dt.replace_time_zone(None),
    "dt.day": col("d").dt.day(),
    "dt.days_in_month": col("d").dt.days_in_month(),
    "dt.dst_offset": col("t").dt.replace_time_zone("UTC").dt.dst_offset(),
    "dt.epoch": col("t").dt.epoch("s"),
    "dt.hour": col("t").dt.hour(),
    "dt.is_business_day": col("d").dt.is_business_day(holidays=[dt.date(2024, 1, 2)]),
    "dt.is_leap_year": col("d").dt.is_leap_year(),
    "dt.iso_year": col("d").dt.iso_year(),
    "dt.microsecond": col("t").dt.microsecond(),
    "dt.millennium": col("d").dt.millennium(),
    "dt.millisecond": col("t").dt.millisecond(),
    "dt.minute": col("t").dt.minute(),
    "dt.month": col("d").dt.month(),
    "dt.month_end": col("d").dt.month_end(),
    "dt.month_start": col("d").dt.month_start(),
    "dt.nanosecond": col("t").dt.nanosecond(),
    "dt.offset_by": col("t").dt.offset_by(pl.format("{}h", "n")),
    "dt.ordinal_day": col("d").dt.ordinal_day(),
    "dt.quarter": col("d").dt.quarter(),
    "dt.replace": col("d").dt.replace(day=col("n")),
    "dt.replace_time_zone": col("t").dt.replace_time_zone(
        "Europe/Berlin",
        ambiguous=pl.when(col("n") > 1).then(pl.lit("earliest")).otherwise(pl.lit("latest")),
        non_existent="null",
    ),
    "dt.round": col("t").dt.round(pl.format("{}h", "n")),
    "dt.second": col("t").dt.second(),
    "dt.strftime": col("t").dt.strftime("%Y-%j"),
    "dt.time": col("t").dt.time(),
    "dt.timestamp": col("t").dt.timestamp("ms"),
    "dt.to_string": col("t").dt.to_string("iso"),
    "dt.total_days": col("z").dt.total_days(),
    "dt.total_hours": col("z").dt.total_hours(),
    "dt.total_microseconds": col("z").dt.total_microseconds(),
    "dt.total_milliseconds": col("z").dt.total_milliseconds(),
    "dt.total_minutes": col("z").dt.total_minutes(),
    "dt.total_nanoseconds": col("z").dt.total_nanoseconds(),
    "dt.total_seconds": col("z").dt.total_seconds(fractional=True),
    "dt.truncate": col("t").dt.truncate(pl.format("{}h", "n")),
    "dt.week": col("d").dt.week(),
    "dt.weekday": col("d").dt.weekday(),
    "dt.with_time_unit": col("t").dt.cast_time_unit("ns"),
    "dt.year": col("d").dt.year(),
    # lists
    "list.agg": col("l").list.agg(ELEMENT.sum()),
    "list.all": col("lb").list.all(),
    "list.any": col("lb").list.any(),
    "list.arg_max": col("l").list.arg_max(),
    "list.arg_min": col("l").list.arg_min(),
    "list.concat": col("l").list.concat(col("m")),
    "list.concat a literal": col("l").list.concat([7]),
    "list.contains": col("l").list.contains(col("n")),
    "list.count_matches": col("l").list.count_matches(1),
    "list.diff": col("l").list.diff(),
    "list.drop_nulls": col("l").list.drop_nulls(),
    "list.eval": col("l").list.eval(ELEMENT - ELEMENT.mean()),
    "list.eval cast": col("l").list.eval(ELEMENT.cast(pl.Float64).rank()),
    "list.filter": col("l").list.filter(ELEMENT > 1),
    "list.first": col("l").list.first(),
    "list.gather": col("l").list.gather([0, 1], null_on_oob=True),
    "list.gather own": col("l").list.gather(col("k"), null_on_oob=True),
    "list.gather_every": col("l").list.gather_every(col("n")),
    "list.get": col("l").list.get(col("n"), null_on_oob=True),
    "list.head": col("l").list.head(col("n")),
    "list.item": col("l").list.head(1).list.item(allow_empty=True),
    "list.join": col("ls").list.join(col("p")),
    "list.last": col("l").list.last(),
    "list.len": col("l").list.len(),
    "list.max": col("l").list.max(),
    "list.mean": col("l").list.mean(),
    "list.median": col("l").list.median(),
    "list.min": col("l").list.min(),
    "list.n_unique": col("l").list.n_unique(),
    "list.reverse": col("l").list.reverse(),
    "list.set_difference": col("l").list.set_difference(col("m")),
    "list.set_intersection": col("l").list.set_intersection(col("m")),
    "list.set_symmetric_difference": col("l").list.set_symmetric_difference(col("m")),
    "list.set_union": col("l").list.set_union([1, 9]),
    "list.shift": col("l").list.shift(col("n")),
    "list.slice": col("l").list.slice(col("n"), 2),
    "list.sort": col("l").list.sort(descending=True),
    "list.std": col("l").list.std(),
    "list.sum": col("l").list.sum(),
    "list.tail": col("l").list.tail(col("n")),
    "list.to_array": col("r").arr.to_list().list.to_array(3),
    "list.to_struct": col("l").list.to_struct(fields=["a", "b"]),
    "list.unique": col("l").list.unique(maintain_order=True),
    "list.var": col("l").list.var(),
    # arrays
    "arr.agg": col("r").arr.agg(ELEMENT.max()),
    "arr.all": pl.concat_arr(col("b"), col("n") > 1).arr.all(),
    "arr.any": pl.concat_arr(col("b"), col("n") > 1).arr.any(),
    "arr.arg_max": col("r").arr.arg_max(),
    "arr.arg_min": col("r").arr.arg_min(),
    "arr.contains": col("r").arr.contains(col("n")),
    "arr.count_matches": col("r").arr.count_matches(1),
    "arr.dot": pl.concat_arr("g", "g").arr.dot(pl.concat_arr("g", "g")),
    "arr.eval": col("r").arr.eval(ELEMENT.cum_sum()),
    "arr.first": col("r").arr.first(),
    "arr.get": col("r").arr.get(col("n") - 1),
    "arr.head": col("r").arr.head(2),
    "arr.join": pl.concat_arr("s", "p").arr.join(col("p")),
    "arr.last": col("r").arr.last(),
    "arr.len": col("r").arr.len(),
    "arr.max": col("r").arr.max(),
    "arr.mean": col("r").arr.mean(),
    "arr.median": col("r").arr.median(),
    "arr.min": col("r").arr.min(),
    "arr.n_unique": col("r").arr.n_unique(),
    "arr.reverse": col("r").arr.reverse(),
    "arr.shift": col("r").arr.shift(col("n")),
    "arr.slice": col("r").arr.slice(col("n") - 1, 1, as_array=False),
    "arr.sort": col("r").arr.sort(),
    "arr.std": col("r").arr.std(),
    "arr.sum": col("r").arr.sum(),
    "arr.tail": col("r").arr.tail(2),
    "arr.to_list": col("r").arr.to_list(),
    "arr.to_struct": col("r").arr.to_struct(["p", "q", "r"]),
    "arr.unique": col("r").arr.unique(maintain_order=True),
    "arr.var": col("r").arr.var(),
    # structs, bytes, categories, extensions
    "struct.drop": col("st").struct.drop(["x"]),
    "struct.field": col("st").struct.field("x"),
    "struct.json_encode": col("st").struct.json_encode(),
    "struct.rename_fields": col("st").struct.rename_fields(["u", "v"]),
    "struct.with_fields": col("st").struct.with_fields(pl.field("x").cast(pl.Float64) + col("n")),
    "bin.contains": col("y").bin.contains(col("p").cast(pl.Binary)),
    "bin.decode": col("y").bin.encode("hex").str.decode("hex").bin.encode("base64"),
    "bin.encode": col("y").bin.encode("hex"),
    "bin.ends_with": col("y").bin.ends_with(col("p").cast(pl.Binary)),
    "bin.get": col("y").bin.get(col("n"), null_on_oob=True),
    "bin.head": col("y").bin.head(col("n")),
    "bin.reinterpret": col("y").bin.slice(0, 4).bin.reinterpret(dtype=pl.UInt32),
    "bin.size": col("y").bin.size(),
    "bin.slice": col("y").bin.slice(col("n"), 2),
    "bin.starts_with": col("y").bin.starts_with(col("p").cast(pl.Binary)),
    "bin.tail": col("y").bin.tail(col("n")),
    "cat.ends_with": col("c").cat.ends_with("n"),
    "cat.len_bytes": col("c").cat.len_bytes(),
    "cat.len_chars": col("c").cat.len_chars(),
    "cat.physical": col("e").cat.physical(),
    "cat.slice": col("c").cat.slice(1, 2),
    "cat.starts_with": col("c").cat.starts_with("b"),
    "cat.to": col("e").to_physical().cat.to(pl.Enum(["lo", "mid", "hi"])),
    "ext.storage": col("i").ext.storage(),
    # names
    "name.keep": (col("i") + 1).name.keep(),
    "name.map": col("i").name.map(str.upper),
    "name.map_fields": col("st").name.map_fields(str.upper),
    "name.prefix": col("i").name.prefix("a_"),
    "name.prefix_fields": col("st").name.prefix_fields("a_"),
    "name.replace": col("i").name.replace("i", "j"),
    "name.suffix": col("i").name.suffix("_a"),
    "name.suffix_fields": col("st").name.suffix_fields("_a"),
    "name.to_lowercase": col("i").name.to_lowercase(),
    "name.to_uppercase": col("i").name.to_uppercase(),
    # functions of the package
    "pl.all_horizontal": pl.all_horizontal("b", col("n") > 1),
    "pl.any_horizontal": pl.any_horizontal("b", col("n") > 1),
    "pl.arctan2": pl.arctan2("g", "n"),
    "pl.business_day_count": pl.business_day_count("w", col("w") + pl.duration(days="n")),
    "pl.coalesce": pl.coalesce("i", "n"),
    "pl.concat_arr": pl.concat_arr("i", "n"),
    "pl.concat_list": pl.concat_list("i", "n", "l"),
    "pl.concat_str": pl.concat_str("s", "p", "n", separator="|", ignore_nulls=True),
    "pl.date": pl.date(2024, "n", 1),
    "pl.date_ranges": pl.date_ranges("w", col("w") + pl.duration(days=3)),
    "pl.datetime": pl.datetime(2024, "n", 1, "n"),
    "pl.datetime_ranges": pl.datetime_ranges(
        col("w").cast(pl.Datetime), col("w") + pl.duration(hours=20), interval="7h"
    ),
    "pl.duration": pl.duration(days="n", hours="i"),
    "pl.format": pl.format("{}-{}", "s", "i"),
    "pl.from_epoch": pl.from_epoch("n"),
    "pl.int_ranges": pl.int_ranges(0, col("n") * 3, "n"),
    "pl.linear_spaces": pl.linear_spaces("n", col("n") + 2, "n"),
    "pl.lit": pl.lit(7),
    "pl.max_horizontal": pl.max_horizontal("i", "n"),
    "pl.mean_horizontal": pl.mean_horizontal("i", "n"),
    "pl.min_horizontal": pl.min_horizontal("i", "n", 2),
    "pl.nth": pl.nth(0),
    "pl.sql_expr": pl.sql_expr("CASE WHEN n > 1 THEN upper(s) ELSE s END"),
    "pl.struct": pl.struct("i", "s"),
    "pl.sum_horizontal": pl.sum_horizontal("i", "n"),
    "pl.time": pl.time("n", 30),
    "pl.time_ranges": pl.time_ranges(pl.lit(dt.time(1)), pl.time(col("n") + 1), interval="30m"),
    "pl.when": pl.when(col("i") > 0).then("s").when(col("b")).then(pl.lit("b")).otherwise(None),
    "pl.lit series of one": col("i") + pl.lit(pl.Series([5])),
    "one literal in both branches": pl.when(col("b")).then(1).otherwise(2),
    "hash of all": pl.struct(pl.all()).hash(),
}

# Inside a list the rows are its elements, so these may look across them.
WITHIN: dict[str, pl.Expr] = {
    "any": ELEMENT.is_null().any(),
    "arg_max": ELEMENT.arg_max(),
    "arg_sort": ELEMENT.arg_sort(),
    "arg_unique": ELEMENT.arg_unique(),
    "backward_fill": ELEMENT.backward_fill(),
    "bitwise_and": ELEMENT.bitwise_and(),
    "count": ELEMENT.count(),
    "cum_count": ELEMENT.cum_count(),
    "cum_max": ELEMENT.cum_max(),
    "cum_prod": ELEMENT.cum_prod(),
    "cum_sum": ELEMENT.cum_sum(reverse=True),
    "diff": ELEMENT.diff(),
    "drop_nulls": ELEMENT.drop_nulls(),
    "drop_nans": ELEMENT.cast(pl.Float64).drop_nans(),
    "entropy": ELEMENT.entropy(),
    "fill_null mean": ELEMENT.cast(pl.Float64).fill_null(strategy="mean"),
    "filter": ELEMENT.filter(ELEMENT > 1),
    "first": ELEMENT.first(),
    "forward_fill": ELEMENT.forward_fill(),
    "gather_every": ELEMENT.gather_every(2),
    "has_nulls": ELEMENT.has_nulls(),
    "head": ELEMENT.head(2),
    "int_range": pl.int_range(pl.len()),
    "interpolate": ELEMENT.interpolate(),
    "is_duplicated": ELEMENT.is_duplicated(),
    "is_first_distinct": ELEMENT.is_first_distinct(),
    "is_in": ELEMENT.is_in([1, 2]),
    "is_last_distinct": ELEMENT.is_last_distinct(),
    "is_unique": ELEMENT.is_unique(),
    "kurtosis": ELEMENT.kurtosis(),
    "last": ELEMENT.last(),
    "len": pl.len(),
    "map_elements": ELEMENT.map_elements(hex, return_dtype=pl.String),
    "mean": ELEMENT.mean(),
    "median": ELEMENT.median(),
    "min": ELEMENT.min(),
    "mode": ELEMENT.mode().sort(),
    "n_unique": ELEMENT.n_unique(),
    "null_count": ELEMENT.null_count(),
    "pct_change": ELEMENT.pct_change(),
    "peak_max": ELEMENT.peak_max(),
    "product": ELEMENT.product(),
    "quantile": ELEMENT.quantile(0.5),
    "rank": ELEMENT.rank("dense"),
    "reverse": ELEMENT.reverse(),
    "rle": ELEMENT.rle(),
    "rle_id": ELEMENT.rle_id(),
    "shift": ELEMENT.shift(1, fill_value=0),
    "skew": ELEMENT.skew(),
    "slice": ELEMENT.slice(1, 2),
    "sort": ELEMENT.sort(),
    "sort_by": ELEMENT.sort_by(-ELEMENT),
    "std": ELEMENT.std(),
    "sum": ELEMENT.sum(),
    "tail": ELEMENT.tail(2),
    "top_k": ELEMENT.top_k(2).sort(),
    "unique": ELEMENT.unique(maintain_order=True),
    "var": ELEMENT.var(),
}

# name (before a space: the method) -> expression, and the node that the refusal must name
REFUSED: dict[str, tuple[pl.Expr, str]] = {
    "agg_groups": (col("i").sum().over("key"), "over"),
    "all": (col("b").all(), "all"),
    "any": (col("b").any(), "any"),
    "append": (col("i").append(col("n")), "append"),
    "approx_n_unique": (col("i").approx_n_unique(), "approx_n_unique"),
    "arg_max": (col("i").arg_max(), "arg_max"),
    "arg_min": (col("i").arg_min(), "arg_min"),
    "arg_sort": (col("i").arg_sort(), "arg_sort"),
    "arg_true": (col("b").arg_true(), "arg_true"),
    "arg_unique": (col("i").arg_unique(), "arg_unique"),
    "backward_fill": (col("i").backward_fill(), "fill_null(strategy='backward')"),
    "bitwise_and": (col("i").bitwise_and(), "and"),
    "bitwise_or": (col("i").bitwise_or(), "or"),
    "bitwise_xor": (col("i").bitwise_xor(), "xor"),
    "bottom_k": (col("i").bottom_k(2), "top_k"),
    "bottom_k_by": (col("i").bottom_k_by("n", 2), "top_k_by"),
    "cast category to code": (col("c").cast(pl.UInt32), "cast"),
    "cast code to category": (col("n").cast(pl.UInt32).cast(pl.Categorical), "cast"),
    "cast list of categories": (pl.concat_list("c").cast(pl.List(pl.UInt32)), "cast"),
    "cast category in a list": (pl.concat_list("c").list.eval(ELEMENT.cast(pl.UInt32)), "cast"),
    "count": (col("i").count(), "count"),
    "cum_count": (col("i").cum_count(), "cum_count"),
    "cum_max": (col("i").cum_max(), "cum_max"),
    "cum_min": (col("i").cum_min(), "cum_min"),
    "cum_prod": (col("i").cum_prod(), "cum_prod"),
    "cum_sum": (col("i").cum_sum(), "cum_sum"),
    "cumulative_eval": (col("i").cumulative_eval(ELEMENT.sum()), "cumulative_eval"),
    "diff": (col("i").diff(), "diff"),
    "dot": (col("i").dot("n"), "sum"),
    "drop_nans": (col("f").drop_nans(), "drop_nans"),
    "drop_nulls": (col("i").drop_nulls(), "drop_nulls"),
    "entropy": (col("g").entropy(), "entropy"),
    "ewm_mean": (col("g").ewm_mean(com=1), "ewm_mean"),
    "ewm_mean_by": (col("g").ewm_mean_by("t", half_life="1d"), "ewm_mean_by"),
    "ewm_std": (col("g").ewm_std(com=1), "ewm_std"),
    "ewm_var": (col("g").ewm_var(com=1), "ewm_var"),
    "explode": (col("l").explode(empty_as_null=True), "explode"),
    "extend_constant": (col("i").extend_constant(1, 2), "extend_constant"),
    "fill_null mean": (col("i").fill_null(strategy="mean"), "fill_null(strategy='mean')"),
    "fill_null by the mean": (col("i").fill_null(col("i").mean()), "mean"),
    "filter": (col("i").filter(col("b")), "filter"),
    "first": (col("i").first(), "first"),
    "forward_fill": (col("i").forward_fill(), "fill_null(strategy='forward')"),
    "gather": (col("i").gather([0, 1]), "gather"),
    "gather_every": (col("i").gather_every(2), "gather_every"),
    "get": (col("i").get(0), "gather"),
    "has_nulls": (col("i").has_nulls(), "has_nulls"),
    "head": (col("i").head(2), "head"),
    "hist": (col("g").hist([0.0, 1.0]), "hist"),
    "implode": (col("i").implode(), "implode"),
    "index_of": (col("i").index_of(1), "index_of"),
    "interpolate": (col("g").interpolate(), "interpolate"),
    "interpolate_by": (col("g").interpolate_by("n"), "interpolate_by"),
    "is_duplicated": (col("i").is_duplicated(), "is_duplicated"),
    "is_empty": (col("i").is_empty(), "is_empty"),
    "is_first_distinct": (col("i").is_first_distinct(), "is_first_distinct"),
    "is_in a column": (col("i").is_in(col("n")), "is_in"),
    "is_in an imploded column": (col("i").is_in(col("n").implode()), "implode"),
    "is_in same lists": (col("l").is_in(col("m")), "is_in"),
    "is_last_distinct": (col("i").is_last_distinct(), "is_last_distinct"),
    "is_sorted": (col("i").is_sorted(), "is_sorted"),
    "is_unique": (col("i").is_unique(), "is_unique"),
    "item": (col("i").item(), "item"),
    "kurtosis": (col("g").kurtosis(), "kurtosis"),
    "last": (col("i").last(), "last"),
    "len": (col("i").len(), "count"),
    "limit": (col("i").limit(2), "head"),
    "lower_bound": (col("i").lower_bound(), "lower_bound"),
    "map_batches": (col("i").map_batches(lambda s: s, return_dtype=pl.Int64), "map_batches"),
    "map_batches untyped": (col("g").map_batches(np.exp, is_elementwise=True), "map_batches"),
    "map_elements untyped": (col("i").map_elements(hex), "map_batches"),
    "max": (col("i").max(), "max"),
    "max_by": (col("i").max_by("n"), "max_by"),
    "mean": (col("i").mean(), "mean"),
    "median": (col("i").median(), "median"),
    "min": (col("i").min(), "min"),
    "min_by": (col("i").min_by("n"), "min_by"),
    "mode": (col("i").mode(), "mode"),
    "n_unique": (col("i").n_unique(), "n_unique"),
    "nan_max": (col("f").nan_max(), "max"),
    "nan_min": (col("f").nan_min(), "min"),
    "null_count": (col("i").null_count(), "null_count"),
    "over": (col("i").over("key"), "over"),
    "pct_change": (col("i").pct_change(), "pct_change"),
    "peak_max": (col("i").peak_max(), "peak_max"),
    "peak_min": (col("i").peak_min(), "peak_min"),
    "product": (col("i").product(), "product"),
    "qcut": (col("g").qcut([0.5]), "qcut"),
    "quantile": (col("g").quantile(0.5), "quantile"),
    "rank": (col("i").rank(), "rank"),
    "replace": (col("s").replace("alpha", col("p").first()), "replace"),
    "replace by columns": (col("s").replace(col("p"), col("s")), "replace"),
    "reshape": (col("i").reshape((-1, 1)), "reshape"),
    "reverse": (col("i").reverse(), "reverse"),
    "rle": (col("i").rle(), "rle"),
    "rle_id": (col("i").rle_id(), "rle_id"),
    "rolling": (col("i").sum().rolling("t", period="1d"), "rolling"),
    "rolling_kurtosis": (col("g").rolling_kurtosis(3), "rolling_kurtosis"),
    "rolling_map": (col("g").rolling_map(sum, 3), "rolling_map"),
    "rolling_max": (col("g").rolling_max(3), "rolling_max"),
    "rolling_max_by": (col("g").rolling_max_by("t", "1d"), "rolling_max_by"),
    "rolling_mean": (col("g").rolling_mean(3), "rolling_mean"),
    "rolling_mean_by": (col("g").rolling_mean_by("t", "1d"), "rolling_mean_by"),
    "rolling_median": (col("g").rolling_median(3), "rolling_quantile"),
    "rolling_median_by": (col("g").rolling_median_by("t", "1d"), "rolling_quantile_by"),
    "rolling_min": (col("g").rolling_min(3), "rolling_min"),
    "rolling_min_by": (col("g").rolling_min_by("t", "1d"), "rolling_min_by"),
    "rolling_quantile": (col("g").rolling_quantile(0.5, window_size=3), "rolling_quantile"),
    "rolling_quantile_by": (
        col("g").rolling_quantile_by("t", "1d", quantile=0.5),
        "rolling_quantile_by",
    ),
    "rolling_rank": (col("g").rolling_rank(3), "rolling_rank"),
    "rolling_rank_by": (col("g").rolling_rank_by("t", "1d"), "rolling_rank_by"),
    "rolling_skew": (col("g").rolling_skew(3), "rolling_skew"),
    "rolling_std": (col("g").rolling_std(3), "rolling_std"),
    "rolling_std_by": (col("g").rolling_std_by("t", "1d"), "rolling_std_by"),
    "rolling_sum": (col("g").rolling_sum(3), "rolling_sum"),
    "rolling_sum_by": (col("g").rolling_sum_by("t", "1d"), "rolling_sum_by"),
    "rolling_var": (col("g").rolling_var(3), "rolling_var"),
    "rolling_var_by": (col("g").rolling_var_by("t", "1d"), "rolling_var_by"),
    "sample": (col("i").sample(2), "sample"),
    "search_sorted": (col("i").search_sorted(1), "search_sorted"),
    "set_sorted": (col("i").set_sorted(), "set_sorted"),
    "shift": (col("i").shift(1), "shift"),
    "shuffle": (col("i").shuffle(seed=1), "shuffle"),
    "skew": (col("g").skew(), "skew"),
    "slice": (col("i").slice(1, 2), "slice"),
    "sort": (col("i").sort(), "sort"),
    "sort_by": (col("i").sort_by("n"), "sort_by"),
    "std": (col("g").std(), "std"),
    "sum": (col("i").sum(), "sum"),
    "tail": (col("i").tail(2), "tail"),
    "to_physical category": (col("c").to_physical(), "to_physical"),
    "top_k": (col("i").top_k(2), "top_k"),
    "top_k_by": (col("i").top_k_by("n", 2), "top_k_by"),
    "unique": (col("i").unique(), "unique"),
    "unique_counts": (col("i").unique_counts(), "unique_counts"),
    "upper_bound": (col("i").upper_bound(), "upper_bound"),
    "value_counts": (col("i").value_counts(), "value_counts"),
    "var": (col("g").var(), "var"),
    "inspect": (col("i").inspect(), "map_batches"),
    "ewm_sum": (col("g").ewm_sum(com=1), "ewm_sum"),
    "ewm_sum_by": (col("g").ewm_sum_by("t", half_life="1d"), "ewm_sum_by"),
    "str.explode": (col("s").str.split("a").explode(empty_as_null=True), "explode"),
    "str.join": (col("s").str.join(), "str.join"),
    "str.contains_any of a column": (col("s").str.contains_any(col("p")), "contains_any"),
    "str.strptime": (col("ds").str.strptime(pl.Date), "str.strptime"),
    "str.to_date": (col("ds").str.to_date(), "str.strptime"),
    "str.to_datetime": (col("ds").str.to_datetime(), "str.strptime"),
    "str.to_time": (col("ds").str.to_time(), "str.strptime"),
    "str.to_date in a list": (col("ls").list.eval(ELEMENT.str.to_date()), "str.strptime"),
    "list.count_matches": (col("l").list.count_matches(col("n")), "count_matches"),
    "arr.count_matches": (col("r").arr.count_matches(col("n")), "count_matches"),
    "list.explode": (col("l").list.explode(empty_as_null=True), "explode"),
    "list.sample": (col("l").list.sample(1, seed=1), "list.sample"),
    "list.eval shuffles": (col("l").list.eval(ELEMENT.shuffle()), "shuffle"),
    "list.eval ranks at random": (col("l").list.eval(ELEMENT.rank("random")), "rank"),
    "list.eval opaque": (col("l").list.eval(ELEMENT.map_batches(lambda s: s)), "map_batches"),
    "list.sum of all": (col("l").list.sum().sum(), "sum"),
    "arr.explode": (col("r").arr.explode(empty_as_null=True), "explode"),
    "greatest category of a row": (pl.max_horizontal("c", col("c")), "max_horizontal"),
    "greatest category of a list": (pl.concat_list("c").list.max(), "max"),
    "hash of a list of categories": (pl.concat_list("c").hash(), "hash"),
    "category as a number": (pl.lit("x").repeat_by("c"), "repeat_by"),
    "running category of a list": (pl.concat_list("c").list.eval(ELEMENT.cum_max()), "cum_max"),
    "cat.physical category": (col("c").cat.physical(), "cat.physical"),
    "cat.to": (col("n").cast(pl.UInt32).cat.to(pl.Categorical), "cat.to"),
    "pl.len": (pl.len() + col("i"), "len"),
    "pl.fold": (pl.fold(0, lambda a, b: a + b, ["i", "n"]), "fold"),
    "pl.reduce": (pl.reduce(lambda a, b: a + b, ["i", "n"]), "reduce"),
    "pl.cum_sum_horizontal": (pl.cum_sum_horizontal("i", "n"), "cum_fold"),
    "pl.int_range": (pl.int_range(0, 3), "int_range"),
    "pl.row_index": (pl.row_index(), "int_range"),
    "pl.linear_space": (pl.linear_space(0, 1, 5), "linear_space"),
    "pl.repeat": (pl.repeat(1, 3), "repeat"),
    "pl.ones": (pl.ones(3), "repeat"),
    "pl.date_range": (pl.date_range(dt.date(2024, 1, 1), dt.date(2024, 2, 9)), "date_range"),
    "pl.corr": (pl.corr("i", "n"), "corr or cov"),
    "pl.cov": (pl.cov("i", "n"), "corr or cov"),
    "pl.arg_where": (pl.arg_where(col("b")), "arg_true"),
    "pl.arg_sort_by": (pl.arg_sort_by("i"), "sort_by"),
    "pl.lit series": (col("i") + pl.lit(pl.Series(range(ROWS))), "literal series"),
    "pl.sql_expr window": (pl.sql_expr("ROW_NUMBER() OVER (ORDER BY i)"), "over"),
    "pl.when": (pl.when(col("i") > col("i").mean()).then(1).otherwise(0), "mean"),
    "pl.struct": (pl.struct("i", col("n").max()), "max"),
    "struct.with_fields": (col("st").struct.with_fields(pl.field("x").sum()), "sum"),
}

NO_COLUMN_FUNCTION = {
    "arr": "namespace",
    "bin": "namespace",
    "cat": "namespace",
    "dt": "namespace",
    "ext": "namespace",
    "list": "namespace",
    "meta": "namespace, of the expression itself",
    "name": "namespace",
    "str": "namespace",
    "struct": "namespace",
    "rechunk": "deprecated",
    "cat.get_categories": "deprecated; refused",
    "deserialize": "reads an expression",
    "from_json": "reads an expression",
    "exclude": "a selector",
    "register_plugin": "deprecated way to a plugin; plugins are refused as opaque",
    "flatten": "another name of explode",
    "where": "another name of filter",
    "str.concat": "deprecated name of str.join",
    "struct.unnest": "several columns; among the plans below",
    "ext.to": "needs a registered extension type",
}
"""Public names of expressions that are no function of a column by themselves."""

Job = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]

PLANS_ALLOWED: dict[str, Job] = {
    "identity": lambda lf, _: lf,
    "filter": lambda lf, _: lf.filter(col("i") > 0, b=True),
    "remove": lambda lf, _: lf.remove(col("i") > 0),
    "select": lambda lf, _: lf.select("i", two=2, three=col("n") + 1),
    "select by type": lambda lf, _: lf.select(cs.numeric(), pl.lit(1).alias("one")),
    "select struct fields": lambda lf, _: lf.select("n", col("st").struct.field("x", "y")),
    "struct.unnest": lambda lf, _: lf.select("n", col("st").struct.unnest()),
    "select_seq": lambda lf, _: lf.select_seq("i", "n"),
    "with_columns": lambda lf, _: lf.with_columns(cs.numeric() * 2, one=1),
    "with_columns_seq": lambda lf, _: lf.with_columns_seq(one=1),
    "literals alone in with_columns": lambda lf, _: lf.with_columns(pl.lit("x").alias("q")),
    "cast": lambda lf, _: lf.cast({"i": pl.Float64, cs.date(): pl.String}),
    "drop": lambda lf, _: lf.drop("i", "n"),
    "rename": lambda lf, _: lf.rename({"i": "j"}),
    "rename by function": lambda lf, _: lf.rename(str.upper),
    "drop_nulls": lambda lf, _: lf.drop_nulls(["i", "s"]),
    "drop_nulls of all": lambda lf, _: lf.drop_nulls(),
    "drop_nans": lambda lf, _: lf.drop_nans(),
    "fill_null": lambda lf, _: lf.fill_null(0),
    "fill_null zero": lambda lf, _: lf.select(cs.numeric()).fill_null(strategy="zero"),
    "fill_nan": lambda lf, _: lf.select("f", "g").fill_nan(0.0),
    "explode": lambda lf, _: lf.select("n", "l").explode("l", empty_as_null=True),
    "explode two": lambda lf, _: lf.select(
        "n", a=pl.concat_list("i", "n"), z=pl.concat_list("n", "i")
    ).explode("a", "z", empty_as_null=True),
    "unnest": lambda lf, _: lf.select("n", "st").unnest("st"),
    "unpivot": lambda lf, _: lf.unpivot(on=["i", "n"], index="key"),
    "cache": lambda lf, _: lf.with_columns(q=1).cache().filter(col("n") > 1),
    "match_to_schema": lambda lf, _: lf.select("i").match_to_schema(
        pl.Schema({"i": pl.Int64, "q": pl.String}), missing_columns="insert"
    ),
    "pipe with its schema": lambda lf, _: lf.select(list(lf.collect_schema())[:3]),
    "sql": lambda lf, _: lf.sql("SELECT i, n * 2 AS d FROM self WHERE n > 1"),
    "concat": lambda lf, _: pl.concat([lf, lf.filter(col("n") > 1)]),
    "concat diagonal": lambda lf, _: pl.concat(
        [lf.select("i"), lf.select("i", "n")], how="diagonal"
    ),
    "union": lambda lf, _: pl.union([lf, lf]),
    "join inner": lambda lf, side: lf.join(side, on="key"),
    "join inner from the side": lambda lf, side: side.join(lf, on="key"),
    "join right from the side": lambda lf, side: side.join(lf, on="key", how="right"),
    "join left": lambda lf, side: lf.join(side, on="key", how="left"),
    "join left checked": lambda lf, side: lf.join(
        side.unique("key", keep="first", maintain_order=True), on="key", how="left", validate="m:1"
    ),
    "join semi": lambda lf, side: lf.join(side, on="key", how="semi"),
    "join anti": lambda lf, side: lf.join(side, on="key", how="anti"),
    "join cross": lambda lf, side: lf.join(side, how="cross"),
    "join on expressions": lambda lf, side: lf.join(
        side, left_on=col("key").str.to_uppercase(), right_on=col("key").str.to_uppercase()
    ),
    "join_where": lambda lf, side: lf.join_where(side, col("n") * 7 < col("v"), col("i") > 0),
    "join_where from the side": lambda lf, side: side.join_where(lf, col("n") * 7 < col("v")),
    "join an aggregated side": lambda lf, side: lf.join(
        side.group_by("key").agg(col("v").sum()), on="key", how="left"
    ).with_columns(share=col("i") / col("v")),
    "join a literal frame": lambda lf, _: lf.join(
        pl.LazyFrame({"key": ["k0", "k2"], "q": [1, 2]}), on="key", how="left"
    ),
    "cross join a total": lambda lf, side: lf.join(side.select(col("v").sum()), how="cross"),
    "update": lambda lf, side: lf.update(
        side.group_by("key").agg(n=col("v").sum()), on="key", how="left"
    ),
    "two joins": lambda lf, side: (
        lf.join(side, on="key", how="left")
        .filter(col("v").is_null() | (col("v") > 10))
        .join(side.select("key", w2="u"), on="key", how="left")
    ),
    "many steps": lambda lf, _: _chain(lf, 120),
}

PLANS_REFUSED: dict[str, tuple[Job, str]] = {
    "aggregate in filter": (lambda lf, _: lf.filter(col("i") > col("i").mean()), "mean"),
    "group_by": (lambda lf, _: lf.group_by("key").agg(col("i").sum()), "group_by"),
    "group_by_dynamic": (
        lambda lf, _: lf.group_by_dynamic("t", every="1d").agg(pl.len()),
        "group_by_dynamic",
    ),
    "rolling": (lambda lf, _: lf.rolling("t", period="1d").agg(pl.len()), "rolling"),
    "pivot": (
        lambda lf, _: lf.pivot("n", on_columns=[1, 2], index="key", values="i"),
        "pivot",
    ),
    "sort": (lambda lf, _: lf.sort("i"), "sort"),
    "unique": (lambda lf, _: lf.unique(), "unique"),
    "head": (lambda lf, _: lf.head(2), "head"),
    "limit": (lambda lf, _: lf.limit(2), "head"),
    "first": (lambda lf, _: lf.first(), "head"),
    "tail": (lambda lf, _: lf.tail(2), "tail"),
    "last": (lambda lf, _: lf.last(), "tail"),
    "slice": (lambda lf, _: lf.slice(2, 3), "slice"),
    "clear": (lambda lf, _: lf.clear(), "head"),
    "top_k": (lambda lf, _: lf.top_k(2, by="i"), "sort"),
    "gather": (lambda lf, _: lf.gather([0]), "gather"),
    "gather_every": (lambda lf, _: lf.gather_every(2), "gather_every"),
    "reverse": (lambda lf, _: lf.reverse(), "reverse"),
    "shift": (lambda lf, _: lf.shift(1), "shift"),
    "interpolate": (lambda lf, _: lf.interpolate(), "interpolate"),
    "mean": (lambda lf, _: lf.mean(), "mean"),
    "sum": (lambda lf, _: lf.sum(), "sum"),
    "quantile": (lambda lf, _: lf.quantile(0.5), "quantile"),
    "count": (lambda lf, _: lf.count(), "count"),
    "null_count": (lambda lf, _: lf.null_count(), "null_count"),
    "with_row_index at the scan": (lambda lf, _: lf.with_row_index(), "with_row_index"),
    "with_row_index later": (
        lambda lf, _: lf.filter(col("b")).with_row_index(),
        "with_row_index",
    ),
    "map_batches": (lambda lf, _: lf.map_batches(lambda df: df), "map_batches"),
    "inspect": (lambda lf, _: lf.inspect(), "map_batches"),
    "pipe_with_schema": (lambda lf, _: lf.pipe_with_schema(lambda x, _: x), "pipe_with_schema"),
    "set_sorted": (lambda lf, _: lf.set_sorted("i"), "set_sorted"),
    "merge_sorted": (lambda lf, _: lf.merge_sorted(lf, key="i"), "merge_sorted"),
    "sink": (lambda lf, _: lf.sink_parquet("/placeholder/out", lazy=True), "sink"),
    "sql limit": (lambda lf, _: lf.sql("SELECT i FROM self LIMIT 3"), "head"),
    "sql aggregate": (lambda lf, _: lf.sql("SELECT SUM(i) FROM self"), "sum"),
    "select of literals": (lambda lf, _: lf.select(one=1, two=pl.lit(1) + 1), "select"),
    "select of nothing": (lambda lf, _: lf.select(), "select"),
    "select of no column": (
        lambda lf, _: lf.select(pl.all_horizontal(cs.by_dtype(pl.Float32))),
        "select",
    ),
    "select of a length": (lambda lf, _: lf.select(pl.len()), "len"),
    "explode beside a column": (
        lambda lf, _: lf.select("n", col("l").explode(empty_as_null=True)),
        "explode",
    ),
    "scan of another file": (
        lambda lf, _: lf.join(
            pl.scan_csv("/placeholder/x.csv", schema={"key": pl.String}), on="key"
        ),
        "scan",
    ),
    "scan of bytes": (lambda lf, _: lf.join(pl.scan_csv(b"key\nk0\n"), on="key"), "scan"),
    "scan of another file alone": (
        lambda _lf, _: pl.scan_ndjson("/placeholder/x.jsonl", schema={"key": pl.String}),
        "scan",
    ),
    "scan in Python": (
        lambda lf, _: lf.join(
            pl.defer(lambda: SIDE_FRAME, schema=SIDE_FRAME.schema), on="key", how="left"
        ),
        "scan in Python",
    ),
    "no main": (lambda _lf, side: side.with_columns(q=1), "plan"),
    "no main but a literal": (lambda _lf, _: pl.LazyFrame({"a": [1]}), "plan"),
    "join right": (lambda lf, side: lf.join(side, on="key", how="right"), "join"),
    "join full": (lambda lf, side: lf.join(side, on="key", how="full"), "join"),
    "join left from the side": (lambda lf, side: side.join(lf, on="key", how="left"), "join"),
    "join semi from the side": (lambda lf, side: side.join(lf, on="key", how="semi"), "join"),
    "join anti from the side": (lambda lf, side: side.join(lf, on="key", how="anti"), "join"),
    "join itself": (lambda lf, _: lf.join(lf.select("key", q="i"), on="key"), "join"),
    "join an aggregate of itself": (
        lambda lf, _: lf.join(lf.group_by("key").agg(q=pl.len()), on="key"),
        "group_by",
    ),
    "join one to one": (lambda lf, side: lf.join(side, on="key", validate="1:1"), "join"),
    "join one to many": (lambda lf, side: lf.join(side, on="key", validate="1:m"), "join"),
    "join_asof by": (
        lambda lf, side: lf.join_asof(side, left_on="g", right_on="u", by="key"),
        "join_asof",
    ),
    "join_asof unchecked": (
        lambda lf, side: lf.join_asof(side, left_on="g", right_on="u", check_sortedness=False),
        "join_asof",
    ),
    "join_asof from the side": (
        lambda lf, side: side.join_asof(lf, left_on="u", right_on="g"),
        "join_asof",
    ),
    "join_where itself": (
        lambda lf, _: lf.join_where(lf.select(q="n"), col("n") < col("q")),
        "join",
    ),
    "concat with the side": (
        lambda lf, side: pl.concat([lf.select("key"), side.select("key")]),
        "concat",
    ),
    "concat horizontal": (
        lambda lf, _: pl.concat([lf.select("i"), lf.select("n")], how="horizontal_extend"),
        "concat(how='horizontal')",
    ),
    "concat align": (
        lambda lf, _: pl.concat([lf.select("key", "i"), lf.select("key", "n")], how="align"),
        "join",
    ),
    "update by position": (lambda lf, side: lf.update(side), "with_row_index"),
}


def _chain(lf: pl.LazyFrame, steps: int) -> pl.LazyFrame:
    for step in range(steps):
        lf = lf.with_columns((col("n") + step).alias(f"x{step % 5}"))
    return lf


def _violations(job: Job, frame: pl.DataFrame = FRAME) -> tuple[scope.Violation, ...]:
    main = scope.placeholder(MAIN, frame.schema)
    side = scope.placeholder(SIDE, SIDE_FRAME.schema)
    return scope.row_scope_violations(job(main, side), MAIN, [SIDE])


def _cuts(frame: pl.DataFrame, parts: int) -> list[pl.DataFrame]:
    size = math.ceil(frame.height / parts)
    return [frame.slice(at, size) for at in range(0, frame.height, size)]


def _multiset(frame: pl.DataFrame) -> list[str]:
    return sorted(map(repr, frame.rows()))


def _run(job: Job, frame: pl.DataFrame) -> pl.DataFrame:
    return job(frame.lazy(), SIDE_FRAME.lazy()).collect()


# -- expressions -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALLOWED)
def test_row_wise_expression_is_allowed(name: str) -> None:
    assert _violations(lambda lf, _: lf.with_columns(ALLOWED[name])) == ()


@pytest.mark.parametrize("name", WITHIN)
def test_expression_that_looks_across_one_list_is_allowed(name: str) -> None:
    assert _violations(lambda lf, _: lf.with_columns(col("l").list.eval(WITHIN[name]))) == ()


@pytest.mark.parametrize("name", REFUSED)
def test_expression_that_looks_across_rows_is_refused_by_name(name: str) -> None:
    expr, node = REFUSED[name]

    found = _violations(lambda lf, _: lf.select("key", expr.alias("out")))

    assert [v.node for v in found] == [node]
    assert found[0].where.endswith("in select")
    assert found[0].reason
    assert found[0].hint


def _proved() -> dict[str, pl.Expr]:
    within = {f"within: {k}": col("l").list.eval(e) for k, e in WITHIN.items()}
    return {k: e.alias(k) for k, e in (ALLOWED | within).items()}


@pytest.fixture(scope="module")
def evaluated() -> dict[str, pl.DataFrame]:
    """Every allowed expression, on the whole and on each cut put together again."""
    exprs = list(_proved().values())
    result = {"1": FRAME.with_columns(exprs)}
    for parts in CUTS:
        result[str(parts)] = pl.concat([part.with_columns(exprs) for part in _cuts(FRAME, parts)])
    result["reversed"] = FRAME.reverse().with_columns(exprs).reverse()
    return result


@pytest.mark.parametrize("name", _proved())
def test_allowed_expression_gives_the_same_rows_for_any_cut(
    name: str, evaluated: dict[str, pl.DataFrame]
) -> None:
    whole = evaluated["1"][name]
    for cut, frame in evaluated.items():
        assert frame[name].dtype == whole.dtype, cut
        assert list(map(repr, frame[name].to_list())) == list(map(repr, whole.to_list())), cut


def _categories(order: list[str], name: str) -> pl.DataFrame:
    """Categories whose codes follow ``order``, alone, beside others, in lists and in arrays."""
    kind = pl.Categorical(pl.Categories(name))
    pl.Series(order, dtype=kind)
    rows = pl.DataFrame({"c": ["red", "blue", None, "red"], "o": ["green", "red", "blue", "red"]})
    return rows.cast(kind).with_columns(n=1, l=pl.concat_list("c", "o"), a=pl.concat_arr("c", "o"))


CATEGORY_EXPRESSIONS: dict[str, pl.Expr] = {
    **{k: col("l").list.eval(e) for k, e in WITHIN.items() if k != "map_elements"},
    "compare": (col("c") < col("o")) & (col("c") > "blue"),
    "coalesce": pl.coalesce("c", "o"),
    "is_in": col("c").is_in(["red"]),
    "is_between": col("c").is_between(col("o"), col("o")),
    "format": pl.format("{}/{}", "c", "o"),
    "hash": col("c").hash(),
    "hash struct": pl.struct("c", "o").hash(),
    "json_encode": pl.struct("c", "o").struct.json_encode(),
    "cast": col("l").cast(pl.List(pl.String)),
    "replace_strict": col("c").replace_strict({"red": 1}, default=0),
    "repeat_by": col("c").repeat_by("n"),
    "list.arg_max": col("l").list.arg_max(),
    "list.contains": col("l").list.contains(col("c")),
    "list.get": col("l").list.get(col("n")),
    "list.set_union": col("l").list.set_union(pl.concat_list("o")),
    "list.sort": col("l").list.sort(),
    "arr.arg_min": col("a").arr.arg_min(),
    "arr.sort": col("a").arr.sort(),
    "cat.len_chars": col("c").cat.len_chars(),
}


@pytest.mark.parametrize("name", CATEGORY_EXPRESSIONS)
def test_allowed_expression_on_categories_does_not_depend_on_their_codes(name: str) -> None:
    expr = CATEGORY_EXPRESSIONS[name]
    one = _categories(["red", "green", "blue"], "one")
    two = _categories(["blue", "green", "red"], "two")
    refused = _violations(lambda lf, _: lf.select(expr), one)
    if refused and name in WITHIN:
        return
    assert refused == ()
    try:
        result = one.select(expr).to_series().to_list()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        assert name in WITHIN, "Polars has no such function of categories"
        return

    assert two.select(expr).to_series().to_list() == result


# -- plans -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLANS_ALLOWED)
def test_row_wise_plan_is_allowed(name: str) -> None:
    assert _violations(PLANS_ALLOWED[name]) == ()


@pytest.mark.parametrize("name", PLANS_ALLOWED)
def test_allowed_plan_gives_the_same_rows_for_any_cut(name: str) -> None:
    job = PLANS_ALLOWED[name]
    whole = _run(job, FRAME)
    for parts in CUTS:
        cut = pl.concat([_run(job, part) for part in _cuts(FRAME, parts)])
        assert cut.schema == whole.schema
        assert _multiset(cut) == _multiset(whole)
    assert _multiset(_run(job, FRAME.reverse())) == _multiset(whole)


@pytest.mark.parametrize("name", PLANS_REFUSED)
def test_plan_that_looks_across_rows_is_refused_by_name(name: str) -> None:
    job, node = PLANS_REFUSED[name]

    found = _violations(job)

    assert node in [v.node for v in found]
    assert all(v.reason and v.where for v in found)


def test_asof_join_is_allowed_where_polars_checks_the_order() -> None:
    def job(lf: pl.LazyFrame, side: pl.LazyFrame) -> pl.LazyFrame:
        return lf.join_asof(side, left_on="g", right_on="u", strategy="nearest")

    ordered = FRAME.sort("g")
    whole = _run(job, ordered)

    assert _violations(job) == ()
    for parts in CUTS:
        cut = pl.concat([_run(job, part) for part in _cuts(ordered, parts)])
        assert _multiset(cut) == _multiset(whole)


def test_asof_join_by_a_key_is_refused_because_its_result_depends_on_the_cut() -> None:
    left = pl.DataFrame({"t": [5, 1, 3, 2], "key": ["k"] * 4})
    right = pl.DataFrame({"t": [1, 2, 3], "key": ["k"] * 3, "v": [10, 20, 30]})

    def job(lf: pl.LazyFrame) -> pl.LazyFrame:
        return lf.join_asof(right.lazy(), on="t", by="key", check_sortedness=False)

    whole = job(left.lazy()).collect()
    cut = pl.concat([job(left[i : i + 1].lazy()).collect() for i in range(4)])
    found = _violations(lambda lf, _: lf.select(t="n", key="key").pipe(job))

    assert whole["v"].to_list() == [30, 30, 30, 30]
    assert cut["v"].to_list() == [30, 10, 30, 20]
    assert [v.node for v in found] == ["join_asof"]


def test_anything_is_allowed_on_side_tables_alone() -> None:
    def job(lf: pl.LazyFrame, side: pl.LazyFrame) -> pl.LazyFrame:
        ranks = side.sort("v").with_row_index().with_columns(share=col("v") / col("v").sum())
        return lf.join(pl.concat([ranks, ranks]).unique().head(3), on="key", how="left")

    assert _violations(job) == ()


def test_a_function_that_cannot_be_written_is_refused() -> None:
    generator = (x for x in "ab")
    found = _violations(
        lambda lf, _: lf.with_columns(
            col("i").map_elements(lambda _: next(generator), return_dtype=pl.String)
        )
    )

    assert [v.node for v in found] == ["plan"]
    assert "cannot be written" in found[0].reason


def test_form_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ({"Teleport": {"input": 1}}, {"Filter": {"inputs": 1}}, [1], {"Scan": {}}):
        monkeypatch.setattr(scope_json, "written", lambda _, form=form: form)
        found = scope.row_scope_violations(pl.LazyFrame(), MAIN, [SIDE])
        assert [v.node for v in found] == ["plan"]
        assert found[0].reason == scope_names.UNKNOWN_FORM.text


# -- messages, placeholders, speed -------------------------------------------------------------


def test_violation_shows_expression_verb_and_reason() -> None:
    (found,) = _violations(lambda lf, _: lf.filter(col("i") > col("i").mean()))

    assert found == scope.Violation(
        node="mean",
        where='[(col("i")) > (col("i").mean())] in filter',
        reason="takes all rows together",
        hint=scope_names.AGGREGATE.hint,
    )


def test_refusal_names_job_and_every_node_and_the_next_act() -> None:
    plan = (
        scope.placeholder(MAIN, FRAME.schema)
        .with_columns(a=col("i").cum_sum(), z=col("ds").str.to_date())
        .sort("i")
    )

    with pytest.raises(ScopeViolation) as caught:
        scope.require_row_scope(plan, MAIN, [], "flights:clean")

    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert "flights:clean" in error.message
    assert 'cum_sum, in col("i").cum_sum().alias("a") in with_columns' in error.message
    assert "str.strptime" in error.message
    assert 'sort, in sort(col("i"))' in error.message
    assert 'say format="..."' in error.hint
    assert "side table" in error.hint


def test_row_wise_plan_passes() -> None:
    plan = scope.placeholder(MAIN, FRAME.schema).filter(col("i") > 0)

    scope.require_row_scope(plan, MAIN, [], "flights:clean")


def test_files_may_stand_for_the_inputs(tmp_path: Path) -> None:
    FRAME.clear().write_parquet(tmp_path / "main.parquet")
    SIDE_FRAME.clear().write_parquet(tmp_path / "side.parquet")
    main, side = tmp_path / "main.parquet", tmp_path / ".." / tmp_path.name / "side.parquet"
    plan = pl.scan_parquet(main).join(pl.scan_parquet(side), on="key")

    assert scope.row_scope_violations(plan, main, [tmp_path / "side.parquet"]) == ()
    assert [v.node for v in scope.row_scope_violations(plan, main, [])] == ["scan"]


def test_job_that_collects_while_its_plan_is_built_fails() -> None:
    lf = scope.placeholder(MAIN, FRAME.schema)

    assert lf.with_columns(q=col("i") + 1).collect_schema()["q"] == pl.Int64
    with pytest.raises(FileNotFoundError):
        lf.select(col("i").mean()).collect()


def test_placeholder_must_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists"):
        scope.placeholder(tmp_path, FRAME.schema)


def test_fifty_expressions_are_judged_quickly() -> None:
    exprs = [(col("i") * k).cast(pl.Float64).is_in([1.0, 2.0]).alias(f"x{k}") for k in range(25)]
    lf = scope.placeholder(MAIN, FRAME.schema).with_columns(exprs)
    for k in range(25):
        lf = lf.with_columns(pl.when(col("n") > k).then("s").alias(f"y{k}"))
    scope.row_scope_violations(lf, MAIN, [])

    started = time.perf_counter()
    assert scope.row_scope_violations(lf, MAIN, []) == ()

    assert time.perf_counter() - started < 0.25  # about 0.03 s on a quiet machine


# -- completeness ------------------------------------------------------------------------------


def _public_names() -> set[str]:
    names = {n for n in dir(pl.Expr) if not n.startswith("_")}
    for space in ("arr", "bin", "cat", "dt", "ext", "list", "name", "str", "struct"):
        members = dir(getattr(col("i"), space))
        names |= {f"{space}.{n}" for n in members if not n.startswith("_")}
    return names


def test_every_public_method_of_expressions_is_in_a_table() -> None:
    tables = {name.split(" ")[0] for name in (*ALLOWED, *REFUSED)}

    assert _public_names() - tables - set(NO_COLUMN_FUNCTION) == set()
    assert set(NO_COLUMN_FUNCTION) - _public_names() == set(), "no longer in Polars"


def _variants(*path: str) -> set[str]:
    """The variants that Polars knows at a place in a plan: it lists them when given another."""
    value: object = {"NoSuchVariant": 1}
    for key in reversed(path):
        value = {"input": [], key: value} if key == "function" else {key: value}
    text = io.StringIO(json.dumps(value))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'json' serialization format", UserWarning)
        with pytest.raises(ComputeError) as caught:
            pl.LazyFrame.deserialize(text, format="json")
    names = re.findall(r"`(\w+)`", str(caught.value))
    assert names[0] == "NoSuchVariant"
    return set(names[1:])


def test_every_function_of_the_engine_is_allowed_or_refused_with_a_reason() -> None:
    at = ("Filter", "predicate", "Function", "function")
    known = scope_names.ROW_WISE | set(scope_names.REFUSED)
    for name in _variants(*at) - scope_names.FAMILIES:
        assert name in known
    for family in scope_names.FAMILIES - {"Agg"}:
        for variant in _variants(*at, family):
            assert f"{family}.{variant}" in known


def test_every_aggregation_of_the_engine_is_refused_with_a_reason() -> None:
    for variant in _variants("Filter", "predicate", "Agg"):
        assert f"Agg.{variant}" in scope_names.REFUSED


def test_every_plan_node_of_the_engine_is_known() -> None:
    assert _variants() == set(scope_names.PLAN_INPUTS)


def test_lists_do_not_contradict_each_other() -> None:
    assert not scope_names.ROW_WISE & set(scope_names.REFUSED)
    assert not scope_names.ROW_WISE & scope_names.WITHIN_LIST
