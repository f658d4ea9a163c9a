"""One job over one input cut in many ways: how an input is cut, and the rows that come of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from headwater.infra.clusters import Cluster
from headwater.infra.errors import HeadwaterError
from headwater.infra.models import JobRequest, StepsText
from headwater.infra.storage.datasets import Dataset
from headwater.infra.storage.inputs import open_input
from headwater.infra.storage.scans import read_slice
from headwater.infra.storage.uris import Uri
from headwater.tasks import scan
from headwater.tasks.prepare import Prepared, prepare
from headwater.tasks.process import Processed, process


@dataclass(frozen=True, slots=True)
class Cut:
    """How an input lies in files, and how large its parts are.

    Attributes:
        files: Rows of each file but the last, which has what is left.
        row_group: Rows of each row group.
        parts: About how many parts there are; ``None`` for one.
    """

    name: str
    files: tuple[int, ...] = ()
    row_group: int = 1000
    parts: int | None = None

    def write(self, frame: pl.DataFrame, folder: Path) -> None:
        """The rows of ``frame`` as the files of this cut."""
        folder.mkdir(parents=True)
        first_row = 0
        for number, rows in enumerate((*self.files, frame.height)):
            piece = frame.slice(first_row, rows)
            piece.write_parquet(folder / f"{number:03d}.parquet", row_group_size=self.row_group)
            first_row += rows


ONE = Cut("one part")
MANY = Cut("many parts", (15,) * 6, 5, 12)
ODD = Cut("odd parts", (0, 1, 31, 0, 2, 1), 13, 5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run: rows in the order of the table's files, or a refusal.

    Attributes:
        parts: How many there were.
    """

    rows: pl.DataFrame | None = None
    refusal: HeadwaterError | None = None
    parts: int = 0

    @property
    def frame(self) -> pl.DataFrame:
        """The rows of a run that was not refused."""
        if self.rows is None:
            raise AssertionError(f"refused: {self.refusal}")
        return self.rows


@dataclass(slots=True)
class Workbench:
    """Runs jobs on a cluster, each into a folder of its own, the whole way through.

    Attributes:
        sides: Side tables by name; a job takes those that it names.
    """

    cluster: Cluster
    root: Path
    sides: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    _runs: int = 0

    def run(self, steps: str, frame: pl.DataFrame, cut: Cut) -> Outcome:
        """What ``steps`` make of ``frame``, once it is cut."""
        self._runs += 1
        folder = self.root / f"run{self._runs:05d}"
        cut.write(frame, folder / "in")
        sides = []
        for name, side in self.sides.items():
            if re.search(f"side = [\"']{name}[\"']", steps):
                side.write_parquet(folder / f"{name}.parquet")
                sides.append((name, str(folder / f"{name}.parquet")))
        text = StepsText("steps.toml", f"version = 1\n{steps}")
        request = JobRequest(
            (str(folder / "in"),), str(folder / "out"), steps=text, sides=tuple(sides)
        )
        try:
            prepared = prepare(request, folder=folder)
            done = self._processed(prepared, cut)
            _commit(prepared, done)
            rows = _table(prepared)
        except HeadwaterError as refusal:
            assert not (folder / "out" / "_delta_log").exists()  # no version of half a result
            # Parts that are still under way go on writing here, to no avail.
            return Outcome(refusal=refusal)
        shutil.rmtree(folder)
        return Outcome(rows, parts=len(done.receipts))

    def _processed(self, prepared: Prepared, cut: Cut) -> Processed:
        """The parts of a run, forced to the size that the cut asks for."""
        client, candidate = self.cluster.client, self.cluster.candidate
        cut_bytes = None
        if cut.parts is not None:
            cut_bytes = max(1, scan.input_bytes(prepared.source) // cut.parts)
        return process(client, prepared, candidate, cut_bytes=cut_bytes)


def _commit(prepared: Prepared, done: Processed) -> None:
    Dataset(prepared.target).commit(
        [file for receipt in done.receipts for file in receipt.files],
        schema=prepared.schema,
        partition_by=prepared.request.partition_by,
        mode=prepared.request.mode,
        app_id=prepared.run_key,
        revision=prepared.revision,
        metadata={},
    )


def _table(prepared: Prepared) -> pl.DataFrame:
    """The table's rows, in the order of its files' names, which is that of the parts."""
    source = open_input([str(prepared.target)])
    frames = [pl.DataFrame(schema=source.schema)]
    for file in sorted(source.files, key=lambda file: file.ref.uri):
        path = Uri.parse(file.ref.uri).path
        frames.append(read_slice(path, source, partition=file.partition).collect())
    return pl.concat(frames).select(prepared.schema.names())
