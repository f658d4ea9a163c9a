"""Where the demo's data lies: on this machine, or spread over the stores of three clouds."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from headwater.infra.errors import InvalidRequest, NotFound
from headwater.infra.storage.filesystems import canonical, open_filesystem
from headwater.infra.storage.uris import Scheme, Uri

AIRPORTS = {"EWR": Scheme.S3, "JFK": Scheme.GCS, "LGA": Scheme.AZURE}
"""Which store has the flights of which airport."""

OPTIONS = {
    Scheme.S3: ("--s3", "HEADWATER_DEMO_S3", "s3://BUCKET/FOLDER"),
    Scheme.GCS: ("--gcs", "HEADWATER_DEMO_GCS", "gs://BUCKET/FOLDER"),
    Scheme.AZURE: (
        "--azure",
        "HEADWATER_DEMO_AZURE",
        "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER",
    ),
}
"""Option and variable that name the folder in each store, and what they hold."""

TABLES_IN = Scheme.S3
"""The store that has the small tables, and gets the results."""

SENDERS = 4
"""Files that are sent together."""


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses of one demo.

    Attributes:
        flights: Sources of the run.
        sides: Addresses of the small tables, by name.
        results: Folder of the tables that are made.
        said: What was laid out, for a person.
    """

    flights: tuple[str, ...]
    sides: Mapping[str, str]
    results: str
    said: str

    def table(self, name: str) -> str:
        """Address of one of the tables that are made."""
        return f"{self.results}/{name}"


def folders_from(options: Mapping[Scheme, str | None]) -> dict[Scheme, Uri]:
    """The demo's folder in each store.

    Args:
        options: Address for each store, from the command's options or the environment.
    Raises:
        InvalidRequest: One is missing, or names another kind of store.
    """
    missing = [scheme for scheme in OPTIONS if not options.get(scheme)]
    if missing:
        names = ", ".join(" or ".join(OPTIONS[scheme][:2]) for scheme in missing)
        raise InvalidRequest(
            f"the demo on three clouds needs a folder in each; missing: {names}",
            hint="run `make clouds` in another terminal and `source build/clouds.env` in this"
            " one, which needs no account; or name folders of your own accounts: "
            + " ".join(f"{OPTIONS[scheme][0]} {OPTIONS[scheme][2]}" for scheme in missing),
        )
    folders = {}
    for scheme, (option, variable, form) in OPTIONS.items():
        uri = Uri.parse(str(options[scheme]))
        if uri.scheme is not scheme or uri.glob_root is not None or not uri.key.strip("/"):
            raise InvalidRequest(
                f"{option} (or {variable}) is {uri.display}, which is no {form}",
                hint=f"give {option} {form}",
            )
        folders[scheme] = canonical(uri)
    return folders


def spread(source: Path, folders: Mapping[Scheme, Uri]) -> Places:
    """Send the demo's input to the stores, each airport's flights to its own.

    What is there already, byte for byte, is left as it is: the same demo again reads the same
    versions, and so has nothing to do.

    Args:
        source: The folder with the flights by airport and the small tables.
    Raises:
        StorageError: A store cannot be reached, or may not be written to.
    """
    flights = {
        source / "flights" / f"{airport}.csv": folders[scheme] / f"source/flights/{airport}.csv"
        for airport, scheme in AIRPORTS.items()
    }
    sides = {
        path: folders[TABLES_IN] / f"source/{path.name}" for path in sorted(source.glob("*.csv"))
    }
    with ThreadPoolExecutor(SENDERS) as pool:
        sent = list(pool.map(_send, [*flights, *sides], [*flights.values(), *sides.values()]))
    return Places(
        flights=tuple(str(uri) for uri in flights.values()),
        sides={path.stem: str(uri) for path, uri in sides.items()},
        results=str(folders[TABLES_IN]),
        said=", ".join(str(uri) for uri in flights.values())
        + f" ({sum(sent) / 1e6:.0f} MB sent, {len(sent) - sum(map(bool, sent))} of {len(sent)}"
        " files were there)",
    )


def _send(path: Path, uri: Uri) -> int:
    """Bytes that were sent; none where the very same are there."""
    fs = open_filesystem(uri)
    data = path.read_bytes()
    try:
        there = fs.stat(uri)
        if there.size_bytes == len(data) and fs.read(there) == data:
            return 0
    except NotFound:
        pass  # it is sent now
    return fs.upload(path, uri).size_bytes
