"""One way from the text of a TOML file to a validated value, with the fault named."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headwater.infra.errors import InvalidRequest, UnknownName, UnsupportedData
from headwater.infra.profiles.no_secrets import require_no_secrets

Model = TypeVar("Model", bound=BaseModel)


def parse_table(text: str, where: str, *, version: int) -> dict[str, Any]:
    """The table in ``text``.

    Args:
        where: What messages call the file.
        version: The newest format that is known.
    Raises:
        InvalidRequest: It is no TOML, or holds what looks like a secret.
        UnsupportedData: Its format is newer.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequest(f"{where} is no valid TOML: {exc}") from exc
    said = table.get("version", version)
    if isinstance(said, int) and said > version:
        raise UnsupportedData(
            f"{where} has format {said}, newer than {version}", hint="upgrade Headwater"
        )
    require_no_secrets(table, where)
    return table


def validated(
    model: type[Model], table: Mapping[str, Any], where: str, *, ours: Mapping[str, Any]
) -> Model:
    """``table`` as a ``model``.

    Args:
        ours: Fields that say where it came from, which the file may not set.
    Raises:
        UnknownName: A key is unknown; the near ones are listed.
        InvalidRequest: A value is wrong; its key is named.
    """
    known = sorted(set(_keys(model, ours)))
    for key in table.keys() & ours.keys():
        raise UnknownName.of("setting", key, known, where=where)
    try:
        return model.model_validate({**table, **ours})
    except ValidationError as exc:
        error = exc.errors()[0]
        key = _dotted(error)
        if error["type"] == "extra_forbidden":
            raise UnknownName.of("setting", key, known, where=where) from exc
        said = "Input should be a list" if error["type"] == "tuple_type" else error["msg"]
        said = said.removeprefix("Value error, ")
        raise InvalidRequest(f"{where}: {key}: {said}", hint="mend the file") from exc


def _dotted(error: ErrorDetails) -> str:
    return ".".join(str(step) for step in error["loc"] if isinstance(step, str))


def _keys(model: type[BaseModel], ours: Iterable[str], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a file may set."""
    for name, field in model.model_fields.items():
        if not prefix and name in ours:
            continue
        yield f"{prefix}{name}"
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _keys(inner, (), f"{prefix}{name}.")
