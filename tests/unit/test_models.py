"""The frozen values survive pickle and JSON with every field."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from headwater.infra.models import (
    Candidate,
    DataRef,
    Device,
    JobRequest,
    Mode,
    Part,
    PartFile,
    PartReceipt,
    Plan,
    Rejection,
    Slice,
    Window,
    to_jsonable,
)

REF = DataRef("s3://lake/a#1?.parquet", 2**40, '"etag-1"')

VALUES = [
    REF,
    Window(datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)),
    Slice(REF, 5, None, 10, (("p", None), ("q", "a/b"))),
    Part(3, (Slice(REF, 0, 7, 10), Slice(REF, 7, 7, 10, (("p", "007"),)))),
    PartFile("data/p=a%2Fb/part.parquet", 12, 3, "v", (("p", "a/b"), ("q", None))),
    PartReceipt(
        3, (PartFile("data/x", 1, 2, "v"),), 4, 2, 9, 1, {"stage": 0.25}, "w", Device.CUDA, 2
    ),
    JobRequest(("a", "b"), "c", "m:f", (("s", "uri"),), ("p",), Mode.REPLACE, fresh=True),
    Plan((Candidate("local", Device.CPU, True, 2, 1, 1.5),), (Rejection("local cuda", "none"),)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_survives_pickle(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_survives_json(value: object) -> None:
    text = json.dumps(to_jsonable(value))

    assert TypeAdapter(type(value)).validate_json(text) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_cannot_be_changed(value: object) -> None:
    field = next(iter(value.__dataclass_fields__))  # type: ignore[attr-defined]

    with pytest.raises(AttributeError):
        setattr(value, field, None)


def test_json_has_text_for_enums_and_times_and_lists_for_tuples() -> None:
    window = Window(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
    request = JobRequest(("a",), "b", window=window)

    found = to_jsonable(request)

    assert found["mode"] == "overwrite"
    assert found["sources"] == ["a"]
    assert found["window"]["start"] == "2026-01-02T00:00:00+00:00"
