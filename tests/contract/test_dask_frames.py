"""A dask.dataframe gives what pandas gives, on pandas' own backend and on cuDF's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.config
import dask.dataframe as dd
import pandas as pd
import pytest

FLIGHTS = pd.DataFrame(
    {
        "origin": ["EWR", "JFK", "EWR", None, "LGA", "JFK"] * 20,
        "carrier": ["UA", "B6", "AA", "UA", "XX", "UA"] * 20,
        "delay": [11.0, None, 33.5, -2.25, 0.0, 90.0] * 20,
        "seats": [149, 150, 2**40, 0, 5, 7] * 20,
    }
)
AIRLINES = pd.DataFrame({"carrier": ["UA", "B6", "AA"], "name": ["United", "JetBlue", None]})


@pytest.fixture(params=["pandas", pytest.param("cudf", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "cudf":
        request.getfixturevalue("needs_gpu")
    with dask.config.set({"dataframe.backend": request.param, "scheduler": "synchronous"}):
        yield request.param


def per_origin(flights: Any, airlines: Any) -> Any:
    """A merge and a group-by, of either library's frames."""
    joined = flights.merge(airlines, on="carrier", how="left")
    groups = joined.groupby(["origin", "carrier"], dropna=True)
    return groups.agg({"delay": ["mean", "count"], "seats": ["sum", "max"], "name": ["count"]})


def test_group_by_and_merge_give_what_pandas_gives(backend: str) -> None:
    flights = dd.from_pandas(FLIGHTS, npartitions=5).to_backend(backend)
    airlines = dd.from_pandas(AIRLINES, npartitions=1).to_backend(backend)

    result = per_origin(flights, airlines)
    found = result.to_backend("pandas").compute().sort_index()

    expected = per_origin(FLIGHTS, AIRLINES).sort_index()
    assert type(result._meta).__module__.partition(".")[0] == backend
    pd.testing.assert_frame_equal(found, expected, check_index_type=False)
