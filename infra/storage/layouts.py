"""Where the columns of a Parquet file lie, and which of its bytes a read of some needs.

Around a column chunk that is wanted, all comes along that no other chunk claims: dictionaries and
headers that a writer forgot to count. So does what lies before the first chunk and after the last
one: the magic, page indexes, the footer. Claims that contradict each other are not trusted at all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.infra.units import KIB

MERGE_BYTES = 128 * KIB
"""A hole smaller than this is read over: asking for two ranges would take longer."""

MAGIC_BYTES = 4

Range = tuple[int, int]
"""Bytes ``[start, end)``."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The column chunks of one Parquet file, in the order in which they lie in it.

    Attributes:
        size_bytes: Size of the file.
        names: Columns at the top; a nested one is several leaves.
        leaves: For each leaf the position of its column in ``names``.
        starts: Where each chunk begins.
        ends: Where each chunk ends.
        places: Which chunk it is: its row group times the number of leaves, plus its leaf.
        filters: Where the Bloom filter of a chunk begins, by the place of the chunk.
    """

    size_bytes: int
    names: tuple[str, ...]
    leaves: tuple[int, ...]
    starts: array[int]
    ends: array[int]
    places: array[int]
    filters: Mapping[int, int]

    def ranges(
        self, columns: Collection[str] | None, row_groups: Collection[int] | None
    ) -> tuple[Range, ...]:
        """The ranges to read for these columns of these row groups, in order, near ones merged.

        Args:
            columns: Names of columns at the top; ``None`` is all.
            row_groups: Their indexes; ``None`` is all.
        """
        wanted = [columns is None or self.names[column] in columns for column in self.leaves]
        first = self.starts[0] if self.starts else self.size_bytes
        last = self.ends[-1] if self.ends else 0
        keep: list[Range] = [(0, first), (last, self.size_bytes)]
        for index, place in enumerate(self.places):
            group, leaf = divmod(place, len(self.leaves))
            if wanted[leaf] and (row_groups is None or group in row_groups):
                is_last = index + 1 == len(self.starts)
                start = self.ends[index - 1] if index else 0
                keep.append((start, self.size_bytes if is_last else self.starts[index + 1]))
                if (begin := self.filters.get(place)) is not None:
                    # Old writers do not say where it ends: before the next chunk.
                    after = bisect_left(self.starts, begin)
                    end = self.starts[after] if after < len(self.starts) else self.size_bytes
                    keep.append((begin, end))
        return tuple(_merged(sorted(keep)))


def layout_of(metadata: pq.FileMetaData, size_bytes: int, footer_bytes: int) -> Layout | None:
    """Where the chunks lie; ``None`` where the footer's claims cannot be relied on.

    Args:
        footer_bytes: Length of the footer with its magic.
    """
    try:
        fields = list(metadata.schema.to_arrow_schema())
    except (pa.ArrowException, NotImplementedError):
        return None  # a type that Arrow does not know: its leaves cannot be counted
    leaves = [column for column, field in enumerate(fields) for _ in range(_leaves(field.type))]
    if len(leaves) != metadata.num_columns:
        return None
    chunks: list[tuple[int, int, int]] = []
    filters: dict[int, int] = {}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.file_path:
                return None  # the bytes are in another file
            start = chunk.data_page_offset
            dictionary = chunk.dictionary_page_offset
            if dictionary is not None and 0 < dictionary < start:
                start = dictionary
            place = len(chunks)
            chunks.append((start, start + chunk.total_compressed_size, place))
            # Arrow tells of filters since version 22; engines read without them, too.
            if begin := getattr(chunk, "bloom_filter_offset", None):
                filters[place] = begin
    chunks.sort()
    layout = Layout(
        size_bytes,
        tuple(f.name for f in fields),
        tuple(leaves),
        array("q", [start for start, _, _ in chunks]),
        array("q", [end for _, end, _ in chunks]),
        array("q", [place for _, _, place in chunks]),
        filters,
    )
    return layout if _is_consistent(layout, size_bytes - footer_bytes) else None


def _is_consistent(layout: Layout, footer_start: int) -> bool:
    """Whether all chunks lie between the magic and the footer, and none in another."""
    reached = MAGIC_BYTES
    for start, end in zip(layout.starts, layout.ends, strict=True):
        if start < reached or end < start:
            return False
        reached = end
    return reached <= footer_start and all(
        MAGIC_BYTES <= begin < footer_start for begin in layout.filters.values()
    )


def _leaves(type_: pa.DataType) -> int:
    """How many column chunks a row group has for a column of that type."""
    if isinstance(type_, pa.BaseExtensionType):
        return _leaves(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return _leaves(type_.value_type)
    if pa.types.is_nested(type_):
        return sum(_leaves(type_.field(i).type) for i in range(type_.num_fields))
    return 1


def _merged(ranges: Iterable[Range]) -> Iterator[Range]:
    """The ranges, which are in order; those with a small hole between them as one."""
    first, reached = 0, 0
    for start, end in ranges:
        if start - reached > MERGE_BYTES:
            yield first, reached
            first = start
        reached = max(reached, end)
    yield first, reached
