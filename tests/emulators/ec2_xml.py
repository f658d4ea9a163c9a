"""What EC2's forms and XML say."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.emulators.http_service import Reply
from tests.emulators.script import Refused

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
HEADERS = {"content-type": "text/xml;charset=UTF-8"}

_TERMINATED = "<code>48</code><name>terminated</name>"


@dataclass(frozen=True, slots=True)
class Launched:
    """An instance, as ``RunInstances`` answers it.

    Attributes:
        cards: Ids of its network interfaces.
    """

    id: str
    address: str
    zone: str
    kind: str
    cards: tuple[str, ...]


def refusal(refused: Refused) -> Reply:
    """An error in EC2's shape."""
    body = (
        f"<Response><Errors><Error><Code>{escape(refused.code)}</Code>"
        f"<Message>{escape(refused.message)}</Message></Error></Errors>"
        f"<RequestID>{uuid.uuid4()}</RequestID></Response>"
    )
    return Reply(refused.status, body, HEADERS)


def tags(form: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags that a form asks for, by type of resource."""
    found: dict[str, dict[str, str]] = {}
    for key, kind in form.items():
        if spec := re.fullmatch(r"TagSpecification\.(\d+)\.ResourceType", key):
            begin = rf"TagSpecification\.{spec[1]}\.Tag\.(\d+)\.Key"
            numbers = [
                (match[1], name) for k, name in form.items() if (match := re.match(begin, k))
            ]
            found[kind] = {
                name: form.get(f"TagSpecification.{spec[1]}.Tag.{number}.Value", "")
                for number, name in numbers
            }
    return found


def instances(body: object) -> Iterator[Launched]:
    """The instances in an answer."""
    for item in _items(_parse(body)):
        cards = item.findall(_path("networkInterfaceSet/item/networkInterfaceId"))
        yield Launched(
            id=_text(item, "instanceId"),
            address=_text(item, "privateIpAddress"),
            zone=_text(item, "placement/availabilityZone"),
            kind=_text(item, "instanceType"),
            cards=tuple(card.text or "" for card in cards),
        )


def with_reasons(body: object, reasons: Mapping[str, tuple[str, str]]) -> bytes:
    """An answer in which the instances in ``reasons`` have these codes and messages."""
    root = _parse(body)
    for item in _items(root):
        if reason := reasons.get(_text(item, "instanceId")):
            for old in item.findall(_path("stateReason")):
                item.remove(old)
            space = item.tag.removesuffix("item")
            state = ElementTree.SubElement(item, f"{space}stateReason")
            for name, text in zip(("code", "message"), reason, strict=True):
                ElementTree.SubElement(state, f"{space}{name}").text = text
    return ElementTree.tostring(root)


def terminated(gone: Sequence[str], body: object = b"") -> str:
    """An answer that also names the instances which were terminated before."""
    text = body.decode() if isinstance(body, bytes) else ""
    if not text:
        text = (
            f'<TerminateInstancesResponse xmlns="{NAMESPACE}"><requestId>{uuid.uuid4()}'
            "</requestId><instancesSet></instancesSet></TerminateInstancesResponse>"
        )
    items = "".join(
        f"<item><instanceId>{identity}</instanceId><currentState>{_TERMINATED}</currentState>"
        f"<previousState>{_TERMINATED}</previousState></item>"
        for identity in gone
    )
    return text.replace("</instancesSet>", f"{items}</instancesSet>")


def _parse(body: object) -> ElementTree.Element:
    if not isinstance(body, bytes):
        raise TypeError(f"an answer of EC2 is bytes, not {type(body).__name__}")
    return ElementTree.fromstring(body)  # noqa: S314 - our own server wrote it


def _items(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for instances_set in root.findall(".//{*}instancesSet"):
        yield from instances_set.findall(_path("item"))


def _text(item: ElementTree.Element, path: str) -> str:
    return item.findtext(_path(path)) or ""


def _path(path: str) -> str:
    """``moto`` does not give all its answers the same namespace."""
    return "/".join(f"{{*}}{part}" for part in path.split("/"))
