"""Commits new files in place of old ones: what a deletion and a compaction end with."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from headwater.infra.errors import StoreUnavailable, UnsupportedData, first_line
from headwater.infra.models import PartFile
from headwater.infra.storage.datasets import (
    METADATA_KEY,
    Dataset,
    Snapshot,
    TableFile,
    adding,
    removing,
)
from headwater.infra.storage.filesystems import open_filesystem

REWRITABLE_FEATURES = frozenset(
    {
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "domainMetadata",
        "generatedColumns",
        "identityColumns",
        "invariants",
        "timestampNtz",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Writer features that ask nothing of files whose rows were in the table before."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Files of a table, and those that take their place; none where no row is left."""

    old: tuple[TableFile, ...]
    new: tuple[PartFile, ...]


def require_rewritable(dataset: Dataset, *, changes_data: bool) -> None:
    """Refuse a table whose files may not be replaced by others with the same or fewer rows.

    Args:
        changes_data: Rows are to go.
    Raises:
        UnsupportedData: A feature or a property of the table forbids it.
    """
    table = dataset.delta_table()
    unknown = sorted(set(table.protocol().writer_features or ()) - REWRITABLE_FEATURES)
    if unknown:
        raise UnsupportedData(
            f"the table {dataset} uses {', '.join(unknown)}, which Headwater cannot write",
            hint="use the engine that made it",
        )
    if not changes_data:
        return
    properties = table.metadata().configuration
    if properties.get("delta.appendOnly") == "true":
        raise UnsupportedData(
            f"no row of the table {dataset} may be removed: its property delta.appendOnly is true",
            hint="let its owner set the property to false first",
        )
    if properties.get("delta.enableChangeDataFeed") == "true":
        raise UnsupportedData(
            f"the table {dataset} keeps a feed of its changes, which Headwater does not write",
            hint="delete with the engine that made it",
        )


def commit_rewrites(
    dataset: Dataset,
    snapshot: Snapshot,
    rewrites: Sequence[Rewrite],
    *,
    changes_data: bool,
    app_id: str,
    metadata: Mapping[str, object],
) -> int | None:
    """The version that ``rewrites`` made of ``snapshot``; ``None`` where another writer was first.

    Args:
        changes_data: False where the new files hold exactly the rows of the old ones: readers of
            changes then see none.
        app_id: Names this very commit, so that it is recognised where its answer was lost.
        metadata: What the log shall tell of it; plain JSON values.
    Raises:
        StoreUnavailable: It is not known to have been taken. The new files must be left where
            they are: a version may name them.
    """
    table = dataset.delta_table(snapshot.version)
    now_ms = int(
        (time.time() + open_filesystem(dataset.uri).clock_offset_seconds(dataset.uri)) * 1000
    )
    actions: list[AddAction | RemoveAction] = []
    for rewrite in rewrites:
        actions += [removing(old, now_ms, changes_data=changes_data) for old in rewrite.old]
        actions += [adding(new, now_ms, changes_data=changes_data) for new in rewrite.new]
    try:
        table.create_write_transaction(
            actions,
            "append",  # the only mode in which files are removed one by one
            table.schema(),
            partition_by=list(snapshot.partition_by),
            commit_properties=CommitProperties(
                custom_metadata={METADATA_KEY: json.dumps(dict(metadata))},
                app_transactions=[Transaction(app_id, 1)],
                # Another version may hold other files: the caller has to look first.
                max_commit_retries=0,
            ),
        )
    except CommitFailedError:
        return _version_of(dataset, app_id)
    except (DeltaError, OSError) as exc:
        # The store may have taken the commit and lost the answer: look before failing.
        version = _version_of(dataset, app_id)
        if version is None:
            raise StoreUnavailable(
                f"the commit to {dataset} was not accepted: {first_line(exc)}",
                hint="run the same command again",
            ) from exc
        return version
    return snapshot.version + 1


def pause(attempt: int) -> None:
    """Wait after a lost race, longer after each."""
    time.sleep(random.uniform(0.2, 1.0) * min(attempt + 1, 8))  # noqa: S311


def _version_of(dataset: Dataset, app_id: str) -> int | None:
    found = dataset.committed(app_id)
    if found is None:
        return None
    _, entry = found
    return entry.version if entry else None
