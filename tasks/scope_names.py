"""What Polars' plans are made of, by the names they carry there: which part is row-wise.

``ROW_WISE`` and ``WITHIN_LIST`` are the allow-lists; what stands in neither is refused. The
``REFUSED`` tables only say why, so that a person learns more than "not known".

A name is the variant that a plan carries (``CumSum``), after its family where it has one
(``StringExpr.Contains``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not row-wise, and what to do instead."""

    text: str
    hint: str


def declaration(keys: Sequence[str]) -> str:
    """How a job declares that it looks at all rows of one key, or, without keys, at all rows.

    Examples:
        >>> declaration(["origin", "flight"])
        '@job(scope="key", keys=["origin", "flight"])'
        >>> declaration([])
        '@job(scope="whole")'
    """
    if not keys:
        return '@job(scope="whole")'
    return f'@job(scope="key", keys=[{", ".join(json.dumps(k, ensure_ascii=False) for k in keys)}])'


def elsewhere(keys: Sequence[str]) -> str:
    """What to do about a job that looks at more rows than its scope has.

    Args:
        keys: Columns of the input that would do as its keys; none where nothing would.
    """
    seen = "sees all rows of one key together" if keys else "runs over all rows on one worker"
    return (
        f"declare it with {declaration(keys)} from headwater.tasks.jobs, and it {seen}; or hand "
        "the value in as a column of a side table and join it"
    )


ELSEWHERE = elsewhere(())
"""The hint of what another scope would allow; where keys would do, they are named instead."""

AGGREGATE = Reason("takes all rows together", ELSEWHERE)
ORDER = Reason("depends on the rows before or after", ELSEWHERE)
COMPARES = Reason("compares a row with all others", ELSEWHERE)
POSITION = Reason("picks rows by their position, and every part has a first row", ELSEWHERE)
RANDOM = Reason("draws at random, each part anew", "derive the choice from the row: hash a key")
OPAQUE = Reason(
    "runs Python on whole columns, which cannot be inspected",
    "write it with Polars expressions, or promise that it is row-wise: map_elements(f, "
    "return_dtype=...) or map_batches(f, return_dtype=..., is_elementwise=True)",
)
UNTYPED_UDF = Reason(
    "has no return_dtype, so its type would be guessed from the first values of each part",
    "say return_dtype=...",
)
INFERRED = Reason(
    "has no format, so it would be guessed from the first values of each part",
    'say format="..."; for several formats, coalesce one parse of each with strict=False',
)
LENGTH = Reason(
    "has a length of its own, whatever the number of rows",
    "use a scalar, or a column of a side table",
)
LITERALS = Reason(
    "selects no column, so every part would give one row",
    "select at least one column, or use with_columns",
)
PHYSICAL = Reason(
    "shows codes of categories, which are numbered in the order in which they were seen",
    "cast to String or to an Enum first",
)
SORTED = Reason(
    "claims an order of the rows, which a part cannot check and Polars then trusts",
    "leave it out: no row-wise step needs it",
)
EXPLODES = Reason(
    "gives another number of rows inside an expression",
    "explode with LazyFrame.explode, filter with LazyFrame.filter or drop_nulls",
)
SET_OF_ROWS = Reason(
    "takes the whole column as a set of values",
    "give literal values or a column of lists, or join a side table",
)
ONE_VALUE = Reason(
    "takes one value for all rows, so a column works for a part of one row alone",
    "give a literal, or compare inside list.eval",
)
UNTYPED = Reason(
    "has an argument whose type could not be resolved",
    "split it: Polars reads back no more than about 60 levels of one expression",
)
UNPINNED = Reason(
    "reads data that the run does not know, so it is not pinned to a version",
    "name it as a side table: job(lf, *, name: pl.LazyFrame)",
)
NO_MAIN = Reason(
    "does not use the rows of the main input, so every part would give the same",
    "build the result from the job's first argument",
)
REPEATS = Reason(
    "adds rows of the side table, which would come again with every part",
    "start from the main input: lf.join(side, how='left')",
)
SELF_JOIN = Reason("joins the main input with itself, which pairs rows of other parts", ELSEWHERE)
ASOF = Reason(
    "trusts that the main input is in order: with by=, or check_sortedness=False, Polars does "
    "not check it, and rows out of order get values that depend on the rows before",
    "drop by= and check_sortedness=False, or join on equal keys, or use join_where",
)
VALIDATES = Reason(
    "asks that keys of the main input are unique, which no part can tell",
    "validate='m:1' checks the side table's keys",
)
ARRIVAL = Reason(
    "depends on the order in which the rows of a key come, which is chance",
    "sort by columns that tell the rows apart: lf.sort(...), over(..., order_by=...) or "
    "col('v').sort_by('t', 'v')",
)
TIES = Reason(
    "depends on the order of rows that are equal in the columns sorted by, which is chance",
    "sort by further columns: by all that an aggregate reads, as col('v').sort_by('t', 'v'), "
    "or for a window by columns in which no two rows are equal, as order_by=['t', 'id']",
)
LISTS = Reason(
    "lists the values in the order in which the rows of a key come, which is chance",
    "sort them: col('v').sort()",
)
PAIRS = Reason(
    "brings values of different rows together, and which ones is chance",
    "compute row by row first, then filter, sort or aggregate the result",
)
KEEPS_ANY = Reason(
    "keeps one of several rows, and which one is chance",
    "sort by all columns and say keep='first', or say keep='none', or compare all columns",
)
OF_ONE_VALUE = Reason(
    "is taken of one value and not of the rows of a group, where Polars gives now this, now that",
    "take it of a column",
)
MIXED_SORT = Reason(
    "sorts what was computed with values of the whole group, which Polars puts to other rows",
    "compute it before, with .over(...) and the keys, or sort the columns that it is made of",
)
NO_ROWS = Reason(
    "fails on a part without rows",
    "sort and take the first: col('v').sort_by('t', 'v').first()",
)
NO_FREEDOM = Reason(
    "gives null or 0.0 for a group of nulls, by how Polars happens to hold it",
    "leave ddof=0 out, or compute it: ((col('v') - col('v').mean()) ** 2).mean()",
)
EXPLODED_WINDOW = Reason(
    "puts the rows of a key in another order than the other columns have",
    "use group_by, or leave mapping_strategy out",
)


def without_keys(missing: Sequence[str], lost: Sequence[str]) -> Reason:
    """Why something that does not group by all keys is refused.

    Args:
        missing: Keys that it does not group by.
        lost: Those of them that no column holds any more.
    """
    text = f"needs rows of other keys: it does not go by {', '.join(missing)}"
    if lost:
        text += f" ({', '.join(lost)} was dropped or computed anew before)"
    return Reason(text, ELSEWHERE)


SINK = Reason("writes by itself", "return the LazyFrame; the run writes and commits it")
UNKNOWN = Reason("is not known to look at one row at a time", ELSEWHERE)
UNKNOWN_FORM = Reason(
    "has a form that this version of Headwater does not know", "see the supported Polars versions"
)
TOO_DEEP = Reason(
    "is nested too deeply to be inspected",
    "replace_strict instead of a long when-then, one with_columns instead of many",
)
UNWRITABLE = Reason(
    "holds something that cannot be written down",
    "let its functions close over plain values only",
)


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def _of(family: str, variants: str) -> frozenset[str]:
    return frozenset(f"{family}.{variant}" for variant in variants.split())


FAMILIES = words(
    """Agg ArrayExpr BinaryExpr Categorical Extension ListExpr StringExpr StructExpr TemporalExpr
    Bitwise Boolean Business Pow Range Trigonometry FillNullWithStrategy"""
)
"""Functions whose payload is again a named variant."""

ROW_WISE: frozenset[str] = frozenset().union(
    words(
        """Abs Negate Sign Log Log1p Exp Round RoundSF Truncate Floor Ceil Clip Atan2
        Hash Reinterpret Rechunk Cut FillNull Coalesce AsList AsStruct RepeatBy
        MaxHorizontal MinHorizontal SumHorizontal MeanHorizontal"""
    ),
    # Their further arguments are sets of values, see SET_ARGUMENTS.
    ["Replace", "ReplaceStrict", "Boolean.IsIn"],
    # Not of a Categorical: checked where it is met, as are casts.
    ["ToPhysical", "Categorical.Physical", "Categorical.To"],
    _of("Pow", "Generic Sqrt Cbrt"),
    _of(
        "Trigonometry",
        """Cos Cot Sin Tan ArcCos ArcSin ArcTan Cosh Sinh Tanh ArcCosh ArcSinh ArcTanh
        Degrees Radians""",
    ),
    # And, Or and Xor of this family fold the column; a & b is no function but an operator.
    _of("Bitwise", "CountOnes CountZeros LeadingOnes LeadingZeros TrailingOnes TrailingZeros"),
    _of(
        "Boolean",
        """IsNull IsNotNull IsFinite IsInfinite IsNan IsNotNan IsBetween IsClose
        AllHorizontal AnyHorizontal Not""",
    ),
    _of("Business", "BusinessDayCount AddBusinessDay IsBusinessDay"),
    # The plural ones give a list in each row.
    _of("Range", "IntRanges LinearSpaces DateRanges DatetimeRanges TimeRanges"),
    _of("FillNullWithStrategy", "Zero One"),
    _of("Extension", "To Storage"),
    _of("Categorical", "LenBytes LenChars StartsWith EndsWith Slice"),
    _of(
        "BinaryExpr",
        """Contains StartsWith EndsWith HexDecode HexEncode Base64Decode Base64Encode Size
        Reinterpret Slice Head Tail Get""",
    ),
    _of(
        "StringExpr",
        """Format ConcatHorizontal Contains CountMatches EndsWith Extract ExtractAll
        ExtractGroups Find ToInteger LenBytes LenChars Lowercase JsonDecode JsonPathMatch
        Replace Normalize Reverse PadStart PadEnd Slice Head Tail HexEncode HexDecode
        Base64Encode Base64Decode StartsWith StripChars StripCharsStart StripCharsEnd
        StripPrefix StripSuffix SplitExact SplitN Split SplitRegex ToDecimal Titlecase
        Uppercase ZFill ContainsAny ReplaceMany ExtractMany FindMany EscapeRegex""",
    ),
    # Only with a format, see INFERRED.
    ["StringExpr.Strptime"],
    _of(
        "StructExpr",
        """FieldByName RenameFields Drop PrefixFields SuffixFields JsonEncode SelectFields
        MapFieldNames""",
    ),
    _of(
        "TemporalExpr",
        """Millennium Century Year IsLeapYear IsoYear Quarter Month DaysInMonth Week WeekDay
        Day OrdinalDay Time Date Datetime Duration Hour Minute Second Millisecond Microsecond
        Nanosecond TotalDays TotalHours TotalMinutes TotalSeconds TotalMilliseconds
        TotalMicroseconds TotalNanoseconds ToString CastTimeUnit WithTimeUnit ConvertTimeZone
        TimeStamp Truncate OffsetBy MonthStart MonthEnd BaseUtcOffset DSTOffset Round Replace
        ReplaceTimeZone Combine DatetimeFunction""",
    ),
    # Inside one row's list; Sample is not here.
    _of(
        "ListExpr",
        """Concat Contains DropNulls Slice Shift Get Gather GatherEvery CountMatches Sum Length
        Max Min Mean Median Std Var ArgMin ArgMax Diff Sort SetOperation Join ToArray
        ToStruct""",
    ),
    _of(
        "ArrayExpr",
        """Length Slice Min Max Sum Dot ToList Std Var Mean Median Sort ArgMin ArgMax Get Join
        Contains CountMatches Shift Concat ToStruct""",
    ),
)
"""Functions whose result in a row depends on that row alone."""

WITHIN_LIST: frozenset[str] = frozenset().union(
    words("Len Sort SortBy Gather Filter Slice"),
    _of("Agg", "Min Max Median NUnique First Last Item Mean Count Sum Std Var"),
    _of("Agg", "FirstNonNull LastNonNull"),
    _of("Bitwise", "And Or Xor"),
    _of("Boolean", "Any All IsFirstDistinct IsLastDistinct IsUnique IsDuplicated HasNulls"),
    _of("Range", "IntRange"),
    _of("FillNullWithStrategy", "Backward Forward Mean Min Max"),
    words(
        """NullCount ShiftAndFill Shift DropNans DropNulls Quantile Mode Skew Kurtosis ArgUnique
        ArgMin ArgMax ArgSort Product Rank TopK CumCount CumSum CumProd CumMin CumMax Reverse Diff
        PctChange Interpolate Entropy Unique PeakMin PeakMax RLE RLEID GatherEvery"""
    ),
)
"""Allowed besides ``ROW_WISE`` inside ``list.eval``, ``list.agg`` and ``arr.eval``: there the
whole of a column is one row's list."""

SET_ARGUMENTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "Boolean.IsIn": (1,),
        "Replace": (1, 2),
        "ReplaceStrict": (1, 2),
        "StringExpr.ContainsAny": (1,),
        "StringExpr.ReplaceMany": (1, 2),
        "StringExpr.ExtractMany": (1,),
        "StringExpr.FindMany": (1,),
        "Business.BusinessDayCount": (2,),
        "Business.AddBusinessDay": (2,),
        "Business.IsBusinessDay": (1,),
    }
)
"""Which arguments are read as a set of values and not row by row."""

FIRST_CATEGORY_AS_TEXT: frozenset[str] = frozenset().union(
    words("RepeatBy Shift GatherEvery TopK"),
    _of("Categorical", "LenBytes LenChars StartsWith EndsWith Slice"),
    _of("ListExpr", "Slice Shift Get Gather GatherEvery Join"),
    _of("ArrayExpr", "Slice Shift Get Join"),
)
"""Functions that take categories as text in their first argument; further ones are numbers."""

CATEGORIES_AS_TEXT: frozenset[str] = frozenset().union(
    words("FillNull Coalesce AsList AsStruct Replace ReplaceStrict Rechunk"),
    _of("Boolean", "IsNull IsNotNull IsIn IsBetween AllHorizontal AnyHorizontal Not"),
    _of("Extension", "To Storage"),
    _of("StringExpr", "Format ConcatHorizontal"),
    _of(
        "StructExpr",
        """FieldByName RenameFields Drop PrefixFields SuffixFields JsonEncode SelectFields
        MapFieldNames""",
    ),
    # Max and Min of these two compare codes.
    _of(
        "ListExpr",
        """Concat Contains DropNulls CountMatches Length ArgMin ArgMax Sort SetOperation ToArray
        ToStruct""",
    ),
    _of("ArrayExpr", "Length ToList Sort ArgMin ArgMax Contains CountMatches Concat ToStruct"),
    # Within a list.
    _of("Boolean", "Any All IsFirstDistinct IsLastDistinct IsUnique IsDuplicated HasNulls"),
    _of("FillNullWithStrategy", "Backward Forward"),
    words("NullCount DropNulls ArgUnique ArgMin ArgMax ArgSort Rank Reverse Unique"),
)
"""Functions that take a Categorical as its text, measured in processes that saw the categories
in other orders. Any other is refused on a Categorical; hashes are those of the text, except in
lists."""

ONE_VALUE_ARGUMENTS: Mapping[str, int] = MappingProxyType(
    {"ListExpr.CountMatches": 1, "ArrayExpr.CountMatches": 1}
)
"""Which argument must have one value: a column is taken only by a part of a single row."""

REFUSED: Mapping[str, Reason] = MappingProxyType(
    {
        name: reason
        for reason, names in (
            (
                AGGREGATE,
                """Len NullCount Product Quantile Mode Skew Kurtosis Entropy ApproxNUnique
                ArgMin ArgMax MinBy MaxBy Correlation Hist ValueCounts UniqueCounts QCut
                Agg.Min Agg.Max Agg.Median Agg.NUnique Agg.First Agg.FirstNonNull Agg.Last
                Agg.LastNonNull Agg.Item Agg.Mean Agg.Implode Agg.Count Agg.Sum Agg.AggGroups
                Agg.Std Agg.Var Bitwise.And Bitwise.Or Bitwise.Xor Boolean.Any Boolean.All
                Boolean.IsEmpty Boolean.HasNulls Boolean.IsSorted StringExpr.ConcatVertical
                FillNullWithStrategy.Mean FillNullWithStrategy.Min FillNullWithStrategy.Max
                Categorical.GetCategories""",
            ),
            (
                ORDER,
                """Over Rolling RollingExpr RollingExprBy Shift ShiftAndFill Diff PctChange
                CumCount CumSum CumProd CumMin CumMax Interpolate InterpolateBy EwmMean
                EwmMeanBy EwmSum EwmSumBy EwmStd EwmVar PeakMin PeakMax RLE RLEID Reverse Sort
                SortBy ArgSort Rank TopK TopKBy SearchSorted FillNullWithStrategy.Backward
                FillNullWithStrategy.Forward Eval.Cumulative""",
            ),
            (
                COMPARES,
                """Unique ArgUnique Boolean.IsFirstDistinct Boolean.IsLastDistinct
                Boolean.IsUnique Boolean.IsDuplicated""",
            ),
            (POSITION, "Slice Gather GatherEvery ArgWhere IndexOf"),
            (RANDOM, "Random ListExpr.Sample"),
            (
                OPAQUE,
                """FoldHorizontal ReduceHorizontal CumReduceHorizontal CumFoldHorizontal
                FfiPlugin Display""",
            ),
            (
                LENGTH,
                """Range.IntRange Range.LinearSpace Range.DateRange Range.DatetimeRange
                Range.TimeRange Repeat UpperBound LowerBound Append ExtendConstant ConcatExpr
                Reshape""",
            ),
            (EXPLODES, "Explode ArrayExpr.Explode Filter DropNans DropNulls"),
            (SORTED, "SetSortedFlag"),
            # Encoded rows follow the physical codes of categories, and are internal to Polars.
            (UNKNOWN, "RowEncode RowDecode SubPlan"),
        )
        for name in names.split()
    }
)
"""Expressions and functions that are known not to be row-wise."""

PLAN_REFUSED: Mapping[str, Reason] = MappingProxyType(
    {
        "GroupBy": AGGREGATE,
        "Pivot": AGGREGATE,
        "Stats": AGGREGATE,
        "Distinct": COMPARES,
        "Sort": ORDER,
        "Slice": POSITION,
        "Gather": POSITION,
        "RowIndex": POSITION,
        "HConcat": POSITION,
        "ExtContext": POSITION,
        "MergeSorted": ORDER,
        "OpaquePython": Reason(OPAQUE.text, "write it with Polars expressions"),
        "PipeWithSchema": Reason(
            "is called only while the plan runs, so it cannot be inspected",
            "use lf.pipe(f), and lf.collect_schema() inside it",
        ),
        "Hint": SORTED,
        "Sink": SINK,
        "SinkMultiple": SINK,
    }
)
"""Plan nodes that are known not to be row-wise."""

PLAN_INPUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Scan": (),
        "DataFrameScan": (),
        "PythonScan": (),
        "Join": ("input_left", "input_right"),
        "MergeSorted": ("input_left", "input_right"),
        "Gather": ("input", "idxs"),
        "ExtContext": ("input", "contexts"),
        "Union": ("inputs",),
        "HConcat": ("inputs",),
        "SinkMultiple": ("inputs",),
        "IR": ("dsl",),
        **dict.fromkeys(
            words(
                """Filter Cache Select GroupBy HStack MatchToSchema PipeWithSchema Pivot Distinct
                Sort Slice MapFunction Sink"""
            ),
            ("input",),
        ),
    }
)
"""Every plan node, with the fields that hold its inputs (a node or a list of nodes)."""

_SPELLED: Mapping[str, str] = MappingProxyType(
    {
        "AnonymousFunction": "map_batches",
        "BinaryExpr": "an operator",
        "Ternary": "when",
        "OpaquePython": "map_batches",
        "FoldHorizontal": "fold",
        "ReduceHorizontal": "reduce",
        "CumFoldHorizontal": "cum_fold",
        "CumReduceHorizontal": "cum_reduce",
        "FfiPlugin": "register_plugin",
        "Distinct": "unique",
        "RowIndex": "with_row_index",
        "HConcat": "concat(how='horizontal')",
        "ExtContext": "with_context",
        "Hint": "set_sorted",
        "SetSortedFlag": "set_sorted",
        "HStack": "with_columns",
        "PythonScan": "scan in Python",
        "QCut": "qcut",
        "RLE": "rle",
        "RLEID": "rle_id",
        "ArgWhere": "arg_true",
        "Correlation": "corr or cov",
        "ConcatExpr": "concat",
        "Eval.Cumulative": "cumulative_eval",
        "StringExpr.ConcatVertical": "str.join",
        "StringExpr.Strptime": "str.strptime",
        "ListExpr.Sample": "list.sample",
        "Categorical.GetCategories": "cat.get_categories",
        "Categorical.Physical": "cat.physical",
        "Categorical.To": "cat.to",
    }
)


def spelled(name: str) -> str:
    """How Polars' users write the thing that a plan calls ``name``.

    Examples:
        >>> spelled("CumSum"), spelled("Agg.Mean"), spelled("Distinct")
        ('cum_sum', 'mean', 'unique')
        >>> spelled("FillNullWithStrategy.Forward")
        "fill_null(strategy='forward')"
    """
    if name in _SPELLED:
        return _SPELLED[name]
    family, _, variant = name.rpartition(".")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", variant).lower()
    if family == "FillNullWithStrategy":
        return f"fill_null(strategy='{words}')"
    return words
