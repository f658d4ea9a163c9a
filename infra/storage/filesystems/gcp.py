"""Google Cloud Storage, over ``gcsfs``.

Requests go through ``_call``, which takes the bucket and key apart from the address: the calls of
``gcsfs`` that take a path cut keys at ``#``, ask a cache, and put uploads together with a fixed
boundary that the data itself may contain.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import aiohttp
import fsspec.asyn
import requests
from google.auth import exceptions as auth

from headwater.infra.models import DataRef
from headwater.infra.storage.filesystems.objects import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    PART_BYTES,
    WRITER_KEY,
    Action,
    Failure,
    Kind,
    ObjectStore,
)
from headwater.infra.storage.uris import Scheme, Uri

# Without this, the first use of a bucket asks another service for its layout and waits up to a
# minute for that answer. It is read when gcsfs is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from gcsfs.core import GCSFileSystem  # noqa: E402
from gcsfs.retry import HttpError  # noqa: E402

GOOGLE_ENDPOINT = "https://storage.googleapis.com"

STATUSES = {
    400: Kind.INVALID,
    401: Kind.DENIED,
    403: Kind.DENIED,
    404: Kind.NO_KEY,
    408: Kind.BUSY,
    412: Kind.CHANGED,
    416: Kind.BEYOND_END,
    429: Kind.BUSY,
}
