"""Associations at the level of their bytes: any item in the A-ASSOCIATE-RQ, every item of the answer."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from .processes import HOST
from .rawul import APPLICATION_CONTEXT, IMPLEMENTATION_CLASS, _item, _items, _pdu, _title, receive_pdu

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
CONTEXTS_MAX = 128
MAX_LENGTH, CLASS_UID, ASYNC, ROLE, VERSION_NAME = 0x51, 0x52, 0x53, 0x54, 0x55
EXTENDED, COMMON_EXTENDED, IDENTITY, IDENTITY_ANSWER = 0x56, 0x57, 0x58, 0x59

item = _item


def role_item(sop_class: str, scu: int, scp: int) -> bytes:
    return _item(ROLE, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes([scu, scp]))


def extended_item(sop_class: str, information: bytes) -> bytes:
    return _item(EXTENDED, struct.pack(">H", len(sop_class)) + sop_class.encode() + information)


def identity_item(kind: int, primary: bytes, secondary: bytes = b"", answer: bool = True) -> bytes:
    body = bytes([kind, answer]) + struct.pack(">H", len(primary)) + primary
    return _item(IDENTITY, body + struct.pack(">H", len(secondary)) + secondary)


def request(
    called: str | bytes,
    contexts: list[tuple[int, str, list[str]]],
    calling: str | bytes = "RAWSCU",
    user_items: bytes = b"",
    version: int = 1,
    application_context: bytes | None = APPLICATION_CONTEXT,
) -> bytes:
    """An A-ASSOCIATE-RQ; contexts are (id, abstract syntax, transfer syntaxes)."""

    def title(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else _title(text)

    body = struct.pack(">HH", version, 0) + title(called) + title(calling) + bytes(32)
    if application_context is not None:
        body += _item(0x10, application_context)
    for number, abstract, syntaxes in contexts:
        offered = b"".join(_item(0x40, syntax.encode()) for syntax in syntaxes)
        body += _item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + _item(0x30, abstract.encode()) + offered)
    plain = _item(MAX_LENGTH, struct.pack(">I", 65536)) + _item(CLASS_UID, IMPLEMENTATION_CLASS)
    return _pdu(1, body + _item(0x50, plain + user_items))


@dataclass
class Answer:
    """The PDU that came: its type and body, and what is in it if it is an A-ASSOCIATE-AC."""

    kind: int
    body: bytes
    application_context: str = ""
    results: dict[int, tuple[int, str]] = field(default_factory=dict)
    """{context id: (result, transfer syntax)}"""
    items: dict[int, list[bytes]] = field(default_factory=dict)
    """User information, by item type."""

    @property
    def accepted(self) -> dict[int, str]:
        return {number: syntax for number, (result, syntax) in self.results.items() if result == 0}

    @property
    def triple(self) -> tuple[int, ...]:
        """Result, source and reason of a rejection."""
        assert self.kind == 3, f"PDU type {self.kind} instead of A-ASSOCIATE-RJ"
        return tuple(self.body[1:4])

    @property
    def abort(self) -> tuple[int, ...]:
        """Source and reason of an abort."""
        assert self.kind == 7, f"PDU type {self.kind} instead of A-ABORT"
        return tuple(self.body[2:4])


def parse(kind: int, body: bytes) -> Answer:
    """An A-ASSOCIATE-RQ is read as well: its contexts have no result, and only their first transfer syntax."""
    answer = Answer(kind, body)
    if kind not in (1, 2):
        return answer
    for code, value in _items(body[68:]):
        if code == 0x10:
            answer.application_context = value.decode()
        elif code == 0x21:
            syntaxes = dict(_items(value[4:]))
            answer.results[value[0]] = (value[2], syntaxes.get(0x40, b"").decode().rstrip("\0 "))
        elif code == 0x50:
            for inner, content in _items(value):
                answer.items.setdefault(inner, []).append(content)
    return answer


def ask(port: int, pdu: bytes, source: str = HOST, seconds: float = 15.0) -> tuple[socket.socket, Answer]:
    """Sends an A-ASSOCIATE-RQ; the connection stays open."""
    link = socket.create_connection((HOST, port), seconds, source_address=(source, 0))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(pdu)
    return link, parse(*receive_pdu(link))


def answer_to(port: int, pdu: bytes, source: str = HOST, seconds: float = 15.0) -> Answer:
    """The same, and the association is aborted."""
    link, answer = ask(port, pdu, source, seconds)
    with link:
        if answer.kind == 2:
            link.sendall(_pdu(7, bytes(4)))
    return answer


def accepted_pairs(port: int, called: str, pairs: list[tuple[str, str]], calling: str = "RAWSCU") -> dict[tuple[str, str], int]:
    """{(SOP class, transfer syntax): result}, each pair in a context of its own, 128 in an association."""
    results: dict[tuple[str, str], int] = {}
    for at in range(0, len(pairs), CONTEXTS_MAX):
        part = pairs[at : at + CONTEXTS_MAX]
        contexts = [(2 * number + 1, abstract, [syntax]) for number, (abstract, syntax) in enumerate(part)]
        answer = answer_to(port, request(called, contexts, calling))
        assert answer.kind == 2, f"PDU type {answer.kind} instead of A-ASSOCIATE-AC"
        for number, abstract, (syntax,) in contexts:
            result, taken = answer.results[number]
            assert result != 0 or taken == syntax, f"{syntax} was proposed, {taken} accepted"
            results[abstract, syntax] = result
    return results
