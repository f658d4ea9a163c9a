"""What a machine is told at boot. Whoever can run code on it can read it, so it holds no secret."""

from __future__ import annotations

import re

from headwater.infra.errors import InvalidLaunch
from headwater.infra.profiles.no_secrets import secret_shape

MAX_BYTES = 1024
"""Far below every cloud's limit (EC2: 16,384): what does not fit belongs in the object store."""

_WORDS = re.compile(r"[^\s\"'`,;(){}\[\]<>|&]+")


def require_user_data(text: str) -> str:
    """``text``, where it is short and holds nothing that looks like a secret.

    Raises:
        InvalidLaunch: It is longer, or something in it looks like one; it is not repeated.
    """
    size = len(text.encode())
    if size > MAX_BYTES:
        raise InvalidLaunch(
            f"the machine's user-data has {size:,} bytes, and {MAX_BYTES:,} are allowed",
            hint="keep what is long in the object store, and give its address",
        )
    found = secret_shape(text)
    for word in _WORDS.findall(text):
        # Some shapes are those of a whole value: it may follow a name and '='.
        found = found or secret_shape(word) or secret_shape(word.partition("=")[2])
    if found:
        raise InvalidLaunch(
            f"the machine's user-data holds what looks like {found}",
            hint="machines get their rights from the identity that [identity] names",
        )
    return text
