"""What SQL expressions lack here, and where they mean something else than in DuckDB."""

from __future__ import annotations

from dataclasses import dataclass

MISSING = {
    "DATE_TRUNC('hour', t)": "the step `truncate`",
    "t AT TIME ZONE 'Europe/Paris'": "the step `to_utc`, or `truncate` with a zone",
    "REGEXP_REPLACE(s, 'a', 'b')": "the step `replace`",
    "ISNAN(x)": 'the step `fill` with `missing = "nan"`, then `IS NULL`',
    "CAST(s AS DATE)": "the step `parse`",
    "n ^ 2": "`POWER(n, 2)`",
    "t > '2013-01-31'": "`t > DATE '2013-01-31'`",
}
"""What is refused -> what takes its place; ``s`` is text, ``n`` and ``x`` numbers, ``t`` a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An expression that has another value in DuckDB.

    Attributes:
        expression: On the columns ``n`` = -7, ``zero`` = 0, ``x`` = 1.5, ``half`` = 2.5,
            ``big`` = 2^63 - 1, ``nan`` and ``day`` = 2024-01-31.
        here: Its value as text.
        duckdb: Its value there, or ``an error``.
        why: The rule, where it is not plain.
    """

    expression: str
    here: str
    duckdb: str
    why: str = ""


DIFFERENCES = (
    Difference("n // 2", "-4", "-3", "down, not toward zero"),
    Difference("n % 2", "1", "-1", "the sign of the divisor, not of the dividend"),
    Difference("n // zero", "null", "an error"),
    Difference("n % zero", "null", "an error"),
    Difference("CAST(x AS INT)", "1", "2", "toward zero, not to the nearest"),
    Difference("ROUND(half)", "2.0", "3.0", "halves to the even number, not away from zero"),
    Difference("TRY_CAST('1.5' AS INT)", "null", "2"),
    Difference("big + 1", "-9223372036854775808", "an error", "integers wrap around"),
    Difference("POWER(n, 2)", "49", "49.0", "keeps integers"),
    Difference("GREATEST(nan, 3)", "3.0", "nan", "NaN is passed over, yet `nan > 3` is true"),
    Difference("0.1 + 0.2", "0.30000000000000004", "0.3", "numbers with a point are Float64"),
    Difference(
        "day + INTERVAL '1 month'", "2024-02-29", "2024-02-29 00:00:00", "a date stays a date"
    ),
)
