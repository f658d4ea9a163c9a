"""What stores keep of an object beside its bytes, and which of it another store cannot keep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from headwater.infra.units import KIB

HEADERS = (
    "content_type",
    "content_encoding",
    "cache_control",
    "content_disposition",
    "content_language",
)
"""Fields of a description that are headers of HTTP."""

WRITER_KEY = "headwaterwriter"
"""Name of the metadata in which an object says which call wrote it; it is of no other object."""

_TEXT = re.compile(r"(?! )[ -~]*(?<! )")
"""What a header of HTTP brings unchanged."""


@dataclass(frozen=True, slots=True)
class Description:
    """Headers and user metadata of an object; empty is what its store does not say.

    Attributes:
        content_encoding: How its bytes are compressed; they are moved as they are stored.
        metadata: Names and values that its owner gave it.
    """

    content_type: str = ""
    content_encoding: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_language: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, headers: Iterable[str | None], metadata: Mapping[str, str] | None) -> Description:
        """From the values of ``HEADERS`` in their order, and what an object's owner gave it."""
        kind, coding, caching, disposition, language = (value or "" for value in headers)
        own = {k: v for k, v in (metadata or {}).items() if k.lower() != WRITER_KEY}
        return cls(kind, coding, caching, disposition, language, own)

    def headers(self, *names: str) -> dict[str, str]:
        """The headers that are not empty, under ``names``, in the order of ``HEADERS``."""
        values = (getattr(self, name) for name in HEADERS)
        return {name: value for name, value in zip(names, values, strict=True) if value}

    def without(self, names: Iterable[str]) -> Description:
        """The same without what is called so."""
        gone = set(names)
        return replace(
            self,
            metadata={k: v for k, v in self.metadata.items() if k not in gone},
            **{name: "" for name in HEADERS if name in gone},
        )


NOTHING = Description()


@dataclass(frozen=True, slots=True)
class Holds:
    """What a store can keep.

    Attributes:
        names: What the name of metadata has to match, and how messages say that.
        headers: Values travel as headers of HTTP: plain ASCII, and names alike in any case.
        size_bytes: Of all names and values together.
    """

    size_bytes: int
    names: tuple[re.Pattern[str], str] | None = None
    headers: bool = True

    def faults(self, found: Description) -> dict[str, str]:
        """Why what is called so cannot be kept, by its name; empty where all can.

        Example:
            >>> AZURE.faults(Description(metadata={"taken-by": "me", "year": "2024"}))
            {'taken-by': 'a name has letters, digits and underscores, and no digit first'}
        """
        faults: dict[str, str] = {}
        seen: dict[str, str] = {}
        if self.headers:
            named = ((name, getattr(found, name)) for name in HEADERS)
            faults |= {n: "it is not plain text" for n, v in named if not _TEXT.fullmatch(v)}
        for name, value in found.metadata.items():
            first = seen.setdefault(name.lower() if self.headers else name, name)
            if self.names is not None and not self.names[0].fullmatch(name):
                faults[name] = self.names[1]
            elif first != name:
                faults[name] = f"'{first}' is the same name there"
            elif self.headers and not _TEXT.fullmatch(value):
                faults[name] = "its value is not plain text"
        size = sum(len(k.encode()) + len(v.encode()) for k, v in found.metadata.items())
        if not faults and size > self.size_bytes:
            why = f"all metadata together has {size:,} bytes, of which {self.size_bytes:,} are kept"
            faults = dict.fromkeys(found.metadata, why)
        return faults


S3 = Holds(
    2 * KIB,
    (re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), "a name has no spaces and no other alphabets"),
)
GCS = Holds(8 * KIB, headers=False)
AZURE = Holds(
    8 * KIB,
    (
        re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
        "a name has letters, digits and underscores, and no digit first",
    ),
)
