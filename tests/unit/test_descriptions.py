"""What of an object's description each store can keep, by the rules of its documentation."""

from __future__ import annotations

import pytest

from headwater.infra.storage.filesystems.descriptions import AZURE, GCS, S3, Description, Holds


@pytest.mark.parametrize(
    ("store", "name", "value", "why"),
    [
        (S3, "taken-by", "me", ""),
        (S3, "two words", "me", "a name has no spaces"),
        (S3, "note", "Köln", "its value is not plain text"),
        (S3, "note", " me", "its value is not plain text"),
        (S3, "note", "a\nb", "its value is not plain text"),
        (S3, "note", "x" * 2044, ""),
        (S3, "note", "x" * 2045, "2,049 bytes, of which 2,048"),
        (GCS, "städte", " Köln\n", ""),
        (GCS, "n", "x" * 8192, "8,193 bytes, of which 8,192"),
        (AZURE, "taken_by", "me", ""),
        (AZURE, "taken-by", "me", "letters, digits and underscores"),
        (AZURE, "2024", "me", "no digit first"),
        (AZURE, "note", "", ""),
    ],
)
def test_metadata_that_a_store_cannot_keep_is_told_with_the_reason(
    store: Holds, name: str, value: str, why: str
) -> None:
    faults = store.faults(Description(metadata={name: value}))

    assert list(faults) == ([name] if why else [])
    assert why in faults.get(name, "")


def test_names_that_differ_by_case_alone_are_one_where_they_are_headers() -> None:
    both = Description(metadata={"Owner": "a", "owner": "b"})

    assert list(AZURE.faults(both)) == list(S3.faults(both)) == ["owner"]
    assert GCS.faults(both) == {}


def test_what_is_left_out_leaves_the_rest() -> None:
    found = Description("text/csv", cache_control="é", metadata={"a-b": "1", "ab": "2"})

    faults = AZURE.faults(found)

    assert list(faults) == ["cache_control", "a-b"]
    assert found.without(faults) == Description("text/csv", metadata={"ab": "2"})


def test_the_mark_of_the_writer_is_of_no_other_object() -> None:
    said = Description.of(["text/csv", None, "", None, None], {"headwaterWriter": "x", "a": "1"})

    assert said == Description("text/csv", metadata={"a": "1"})
