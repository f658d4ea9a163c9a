"""One way to the bytes of every store: ``open_filesystem`` picks by the address alone."""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, cast

from headwater.infra.errors import MissingDependency
from headwater.infra.storage.filesystems.local import Local
from headwater.infra.storage.uris import Scheme, Uri

if TYPE_CHECKING:
    from headwater.infra.storage.filesystems.protocol import Filesystem

STORES = {
    Scheme.S3: ("headwater.infra.storage.filesystems.aws", "S3", "s3fs"),
    Scheme.GCS: ("headwater.infra.storage.filesystems.gcp", "Gcs", "gcsfs"),
    Scheme.AZURE: ("headwater.infra.storage.filesystems.azure", "Azure", "adlfs"),
}
"""Module, class and needed package of each cloud's store; imported when it is first used."""

VARIABLES = {
    Scheme.S3: ("AWS_", "BOTO_"),
    Scheme.GCS: ("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "NO_GCE_CHECK"),
    Scheme.AZURE: ("AZURE_", "IDENTITY_", "MSI_"),
}
"""Starts of the environment variables that say where a store is and who we are."""

_opened: dict[tuple[Scheme, str, str], Filesystem] = {}
_opening = threading.Lock()


def open_filesystem(uri: Uri) -> Filesystem:
    """The store that holds ``uri``; the same object for the same endpoint and credentials.

    One client is built per process, store, account and set of environment variables, so it is
    cheap to call this wherever bytes are needed. It may be used by all threads.

    Raises:
        MissingDependency: The package that speaks to this store is not installed.
    """
    if uri.is_local:
        return _LOCAL
    key = (uri.scheme, uri.account, _settings(uri.scheme))
    with _opening:
        if key not in _opened:
            _opened[key] = _connect(uri)
        return _opened[key]


def canonical(uri: Uri) -> Uri:
    """``uri`` as the one address of its place: Azure's account added, local links resolved."""
    return open_filesystem(uri).canonical(uri)


def _settings(scheme: Scheme) -> str:
    """A digest of the environment variables that matter to ``scheme``; tells nothing of them."""
    named = sorted(item for item in os.environ.items() if item[0].startswith(VARIABLES[scheme]))
    return sha256(repr(named).encode()).hexdigest()


def _connect(uri: Uri) -> Filesystem:
    module_name, class_name, package = STORES[uri.scheme]
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            f"{uri.scheme.value}:// needs the package '{exc.name}'",
            hint=f"python -m pip install {package}",
        ) from exc
    store = getattr(module, class_name)
    return cast("Filesystem", store(uri.account) if uri.scheme is Scheme.AZURE else store())


_LOCAL = Local()
