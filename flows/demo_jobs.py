"""The jobs of the demo: a year of flights out of New York, cleaned, and how planes go round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headwater.tasks.jobs import job

if TYPE_CHECKING:  # long to import, and only jobs in the pandas style need them
    import dask.dataframe as dd
    import pandas as pd

ZONES = (
    "America/Anchorage",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/New_York",
    "America/Phoenix",
    "Pacific/Honolulu",
)
"""Time zones of the airports that are flown to. An expression converts from one zone at a time."""

LATE_MINUTES = 15
"""From this much delay on a flight counts as late, as the US Department of Transportation does."""


def flights(
    frame: pl.LazyFrame,
    *,
    weather: pl.LazyFrame,
    planes: pl.LazyFrame,
    airports: pl.LazyFrame,
    airlines: pl.LazyFrame,
) -> pl.LazyFrame:
    """One row for each flight, with UTC times, its plane, its airports and its hour's weather."""
    zones = airports.select("faa", zone="tzone")
    local_departure = pl.datetime("year", "month", "day", "hour", "minute")
    local_arrival = pl.datetime("year", "month", "day") + _clock("sched_arr_time")
    departure = _to_utc(local_departure, "origin_zone")
    arrival = _to_utc(local_arrival, "dest_zone")
    return (
        frame.join(
            zones.rename({"zone": "origin_zone"}), left_on="origin", right_on="faa", how="left"
        )
        .join(zones.rename({"zone": "dest_zone"}), left_on="dest", right_on="faa", how="left")
        .with_columns(
            scheduled_departure_utc=departure,
            dep_delay_minutes=_number("dep_delay"),
            arr_delay_minutes=_number("arr_delay"),
            air_time_minutes=_number("air_time"),
            tailnum=_text("tailnum"),
            cancelled=_number("dep_time").is_null(),
        )
        .with_columns(
            scheduled_arrival_utc=pl.when(arrival < pl.col("scheduled_departure_utc"))
            .then(arrival + pl.duration(days=1))
            .otherwise(arrival),
            departure_utc=pl.col("scheduled_departure_utc")
            + pl.duration(minutes="dep_delay_minutes"),
            hour_utc=pl.col("scheduled_departure_utc").dt.truncate("1h"),
            late=pl.col("arr_delay_minutes") >= LATE_MINUTES,
            minutes_made_up=pl.col("dep_delay_minutes") - pl.col("arr_delay_minutes"),
        )
        .join(_weather(weather), on=["origin", "hour_utc"], how="left")
        .join(_planes(planes), on="tailnum", how="left")
        .join(airlines.select("carrier", airline="name"), on="carrier", how="left")
        .join(airports.select("faa", dest_name="name"), left_on="dest", right_on="faa", how="left")
        .select(
            "origin",
            "dest",
            "dest_name",
            "carrier",
            "airline",
            "flight",
            "tailnum",
            "manufacturer",
            "model",
            "plane_year",
            "seats",
            "scheduled_departure_utc",
            "departure_utc",
            "scheduled_arrival_utc",
            "cancelled",
            "late",
            "dep_delay_minutes",
            "arr_delay_minutes",
            "minutes_made_up",
            "air_time_minutes",
            distance_miles="distance",
            temperature_f="temp",
            wind_mph="wind_speed",
            rain_inches="precip",
            visibility_miles="visib",
        )
    )


@job(frames="dask")
def rotations(flights: dd.DataFrame) -> dd.DataFrame:
    """For each airline and destination, how many hours its planes are away from New York.

    That is from one departure of a plane to its next. All flights of a plane have to come
    together for it, so Dask exchanges them between the parts.
    """
    flown = flights[~flights["cancelled"] & flights["tailnum"].notnull()]
    used = flown[["tailnum", "airline", "dest", "flight", "departure_utc"]]
    away = used.shuffle("tailnum").map_partitions(_until_next_departure)
    routes = away.groupby(["airline", "dest"]).agg({"hours": ["count", "mean", "min"]})
    routes.columns = ["rotations", "mean_hours", "shortest_hours"]
    seen: dd.DataFrame = routes[routes["rotations"] > 0].reset_index()
    return seen


def _until_next_departure(planes: pd.DataFrame) -> pd.DataFrame:
    ordered = planes.sort_values(["tailnum", "departure_utc", "flight"])
    following = ordered.groupby("tailnum")["departure_utc"].shift(-1)
    hours = (following - ordered["departure_utc"]).dt.total_seconds() / 3600
    return ordered.assign(hours=hours)[["airline", "dest", "hours"]]


def _weather(weather: pl.LazyFrame) -> pl.LazyFrame:
    return weather.select(
        "origin",
        _decimal("temp"),
        _decimal("wind_speed"),
        _decimal("precip"),
        _decimal("visib"),
        hour_utc=pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"),
    )


def _planes(planes: pl.LazyFrame) -> pl.LazyFrame:
    return planes.select("tailnum", "manufacturer", "model", "seats", plane_year=_number("year"))


def _text(column: str) -> pl.Expr:
    """The files write a missing value as NA."""
    text = pl.col(column).cast(pl.String)
    return pl.when(text != "NA").then(text).alias(column)


def _number(column: str) -> pl.Expr:
    return _text(column).cast(pl.Int64)


def _decimal(column: str) -> pl.Expr:
    return _text(column).cast(pl.Float64)


def _clock(column: str) -> pl.Expr:
    """Time since midnight from a number like 1745; 2400 is the next midnight."""
    return pl.duration(hours=pl.col(column) // 100, minutes=pl.col(column) % 100)


def _to_utc(local: pl.Expr, zone_column: str) -> pl.Expr:
    """A local time in the zone that its row names, as UTC; null where there is no zone.

    A time that a clock change skips is null; one that it repeats is the first of the two.
    """
    return pl.coalesce(
        pl.when(pl.col(zone_column) == zone).then(
            local.dt.replace_time_zone(
                zone, ambiguous="earliest", non_existent="null"
            ).dt.convert_time_zone("UTC")
        )
        for zone in ZONES
    )
