"""Every kind of step, as one type: what a step file and a form may hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from headwater.tasks.steps.aggregate import AggregateStep
from headwater.tasks.steps.base import Step
from headwater.tasks.steps.cast import Cast
from headwater.tasks.steps.columns import Drop, Partition, Rename, Select
from headwater.tasks.steps.conditions import Derive, Filter
from headwater.tasks.steps.fill import Fill
from headwater.tasks.steps.join import Join
from headwater.tasks.steps.nested import Explode, Unnest
from headwater.tasks.steps.order import Deduplicate, Sort, Top
from headwater.tasks.steps.parse import Parse
from headwater.tasks.steps.replace import Replace
from headwater.tasks.steps.sample import Sample
from headwater.tasks.steps.to_utc import ToUtc
from headwater.tasks.steps.truncate import Truncate

AnyStep = Annotated[
    Select
    | Drop
    | Rename
    | Cast
    | Filter
    | Derive
    | Fill
    | Parse
    | ToUtc
    | Truncate
    | Replace
    | Explode
    | Unnest
    | Join
    | Deduplicate
    | Sort
    | AggregateStep
    | Top
    | Sample
    | Partition,
    Field(discriminator="kind"),
]
"""One step of any kind."""

KINDS: dict[str, type[Step]] = {
    "select": Select,
    "drop": Drop,
    "rename": Rename,
    "cast": Cast,
    "filter": Filter,
    "derive": Derive,
    "fill": Fill,
    "parse": Parse,
    "to_utc": ToUtc,
    "truncate": Truncate,
    "replace": Replace,
    "explode": Explode,
    "unnest": Unnest,
    "join": Join,
    "deduplicate": Deduplicate,
    "sort": Sort,
    "aggregate": AggregateStep,
    "top": Top,
    "sample": Sample,
    "partition": Partition,
}
"""Kind -> its model, in the order of the documentation."""


def json_schema() -> dict[str, Any]:
    """JSON schema of a list of steps, for forms and editors."""
    return TypeAdapter(tuple[AnyStep, ...]).json_schema()
