"""Finds what looks like a secret in a file that must hold none, and never repeats it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from headwater.infra.errors import InvalidRequest

SECRET_WORDS = frozenset(
    {
        "apikey",
        "credential",
        "credentials",
        "passphrase",
        "passwd",
        "password",
        "pwd",
        "sas",
        "secret",
        "secrets",
        "token",
    }
)
"""Words in a key whose value would be a secret."""

SECRET_PAIRS = frozenset(
    {
        ("access", "key"),
        ("account", "key"),
        ("api", "key"),
        ("connection", "string"),
        ("private", "key"),
        ("shared", "key"),
        ("signing", "key"),
        ("storage", "key"),
    }
)
"""Pairs of words that make a key such a one."""

SHAPES = {
    "an AWS access key": r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b",
    "an AWS secret key": r"^(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9/+]{40}$",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a key file of a service account": r'"private_key(?:_id)?"\s*:',
    "a connection string": r"(?i)\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)\s*=",
    "a shared access signature": r"(?i)(?:^|[?&])sig=[^&\s]{8,}",
    "a storage account's key": r"(?:^|[^A-Za-z0-9+/])[A-Za-z0-9+/]{86}==",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
    "a Google access token": r"\bya29\.[A-Za-z0-9_-]{20,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a signed token (JWT)": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@",
}
"""What is looked for in values, by what messages call it."""

_SHAPES = {name: re.compile(shape) for name, shape in SHAPES.items()}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def require_no_secrets(table: Mapping[str, object], where: str) -> None:
    """Refuse a table that holds what looks like a secret; its value is not repeated.

    Raises:
        InvalidRequest: By the name of a key, or by the shape of a value.
    """
    for key, value in _leaves(table, ""):
        kind = _named_secret(key) if value not in ("", False, None) else ""
        found = kind or secret_shape(str(value))
        if found:
            raise InvalidRequest(
                f"{where}: {key} looks like {found}, and files like this one hold no secret",
                hint="remove it, and replace it where it is used: it may have been read. Machines"
                " get their rights from the identity that [identity] names, you from your cloud's"
                " own login",
            )


def secret_shape(text: str) -> str:
    """What ``text`` looks like, where that is a secret; else an empty text.

    Example:
        >>> secret_shape("postgres://me:pa55@host/db"), secret_shape("s3://lake/in")
        ('a password in an address', '')
    """
    return next((name for name, shape in _SHAPES.items() if shape.search(text)), "")


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    """Each value with its dotted key; a key may hold the secret itself."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if any(shape.search(str(name)) for shape in _SHAPES.values()):
                yield f"{key or 'a key'} (its name)", str(name)
            else:
                yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _named_secret(key: str) -> str:
    words = [word.lower() for word in _WORD.findall(key.rpartition(".")[2])]
    pairs = set(pairwise(words))
    is_secret = SECRET_WORDS & set(words) or SECRET_PAIRS & pairs
    return "a secret by its name" if is_secret else ""
