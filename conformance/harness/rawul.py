"""A small upper layer (PS3.8) written by hand: does on purpose what toolkits never do.

`Requestor` lays PDVs out at will and stops wherever a test wants; `Acceptor` freezes, aborts, answers any status or none,
and counts what arrives. Both pass data sets on as bytes.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .processes import HOST

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS = b"2.25.311117774251520712394427521341"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
COMMAND_LAST, DATA, DATA_LAST = 3, 0, 2


class Closed(Exception):
    """The peer closed the connection or aborted the association."""


class Rejected(Exception):
    """A-ASSOCIATE-RJ."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"rejected {result}/{source}/{reason}")
        self.triple = (result, source, reason)


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _title(title: str) -> bytes:
    return title.encode().ljust(16)


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(body):
        kind, length = body[at], struct.unpack_from(">H", body, at + 2)[0]
        yield kind, body[at + 4 : at + 4 + length]
        at += 4 + length


def _user_information(max_pdu: int) -> bytes:
    return _item(0x50, _item(0x51, struct.pack(">I", max_pdu)) + _item(0x52, IMPLEMENTATION_CLASS))


def _receive_exactly(link: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = link.recv(min(1 << 18, count - len(parts)))
        if not piece:
            raise Closed(f"closed with {len(parts)} of {count} bytes read")
        parts += piece
    return bytes(parts)


def receive_pdu(link: socket.socket) -> tuple[int, bytes]:
    kind, _, length = struct.unpack(">BBI", _receive_exactly(link, 6))
    return kind, _receive_exactly(link, length)


def pdv(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, control) + data


def _command(elements: dict[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in sorted(elements.items()))
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _padded(text: str, fill: bytes) -> bytes:
    return text.encode() + (fill if len(text) % 2 else b"")


def _short(value: int) -> bytes:
    return struct.pack("<H", value)


def parse_command(body: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 8 <= len(body):
        _, tag, length = struct.unpack_from("<HHI", body, at)
        found[tag] = body[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def store_command(message: int, sop_class: str, sop_instance: str, originator: tuple[str, int] | None = None) -> bytes:
    elements = {
        0x0002: _padded(sop_class, b"\0"),
        0x0100: _short(0x0001),
        0x0110: _short(message),
        0x0700: _short(2),
        0x0800: _short(0x0001),
        0x1000: _padded(sop_instance, b"\0"),
    }
    if originator:
        elements[0x1030], elements[0x1031] = _padded(originator[0], b" "), _short(originator[1])
    return _command(elements)


class Requestor:
    """An association that we open; contexts are {id: (abstract syntax, [transfer syntaxes])}."""

    def __init__(
        self,
        port: int,
        called: str,
        contexts: dict[int, tuple[str, list[str]]],
        calling: str = "RAWSCU",
        max_pdu: int = 65536,
        source: str = HOST,
        seconds: float = 30.0,
    ) -> None:
        self.link = socket.create_connection((HOST, port), seconds, source_address=(source, 0))
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = struct.pack(">HH", 1, 0) + _title(called) + _title(calling) + bytes(32)
        body += _item(0x10, APPLICATION_CONTEXT)
        for number, (abstract, syntaxes) in contexts.items():
            offered = b"".join(_item(0x40, syntax.encode()) for syntax in syntaxes)
            body += _item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + _item(0x30, abstract.encode()) + offered)
        self.link.sendall(_pdu(1, body + _user_information(max_pdu)))
        kind, answer = receive_pdu(self.link)
        if kind == 3:
            raise Rejected(*answer[1:4])
        if kind != 2:
            raise Closed(f"PDU type {kind} instead of A-ASSOCIATE-AC")
        self.accepted: dict[int, str] = {}
        self.max_pdu = 0
        for item, value in _items(answer[68:]):
            if item == 0x21 and value[2] == 0:
                self.accepted[value[0]] = dict(_items(value[4:]))[0x40].decode().rstrip("\0 ")
            elif item == 0x50:
                self.max_pdu = struct.unpack(">I", dict(_items(value))[0x51])[0]
        self._message = 0

    def send_pdata(self, *pdvs: bytes) -> None:
        self.link.sendall(_pdu(4, b"".join(pdvs)))

    def begin(self, context: int, sop_class: str, sop_instance: str, **extra: object) -> None:
        """Only the C-STORE-RQ command."""
        self._message += 1
        command = store_command(self._message, sop_class, sop_instance, **extra)
        self.send_pdata(pdv(context, COMMAND_LAST, command))

    def store_packed(self, context: int, sop_class: str, sop_instance: str, data_set: bytes) -> int:
        """Command and all of the data set in one P-DATA-TF, as dcm4che does by default."""
        self._message += 1
        command = store_command(self._message, sop_class, sop_instance)
        self.send_pdata(pdv(context, COMMAND_LAST, command), pdv(context, DATA_LAST, data_set))
        return self.answer()

    def store_split(
        self, context: int, sop_class: str, sop_instance: str, data_set: bytes, pdv_bytes: int, empty: bool = False
    ) -> int:
        """Command in two PDVs, data in many, three in a PDU; with `empty` also a PDV without data before, and the last one empty."""
        self._message += 1
        command = store_command(self._message, sop_class, sop_instance)
        self.send_pdata(pdv(context, 1, command[:20]), pdv(context, COMMAND_LAST, command[20:]))
        pieces = [data_set[at : at + pdv_bytes] for at in range(0, len(data_set), pdv_bytes)]
        if empty:
            pieces = [b"", *pieces, b""]
        pdvs = [pdv(context, DATA, piece) for piece in pieces[:-1]] + [pdv(context, DATA_LAST, pieces[-1])]
        for at in range(0, len(pdvs), 3):
            self.send_pdata(*pdvs[at : at + 3])
        return self.answer()

    def store(self, context: int, sop_class: str, sop_instance: str, data_set: bytes, **extra: object) -> int:
        self.begin(context, sop_class, sop_instance, **extra)
        self.data(context, data_set)
        return self.answer()

    def data(self, context: int, data_set: bytes, last: bool = True) -> None:
        limit = min(self.max_pdu or 1 << 20, 1 << 20) - 6
        for at in range(0, max(1, len(data_set)), limit):
            piece = data_set[at : at + limit]
            ends = last and at + limit >= len(data_set)
            self.send_pdata(pdv(context, DATA_LAST if ends else DATA, piece))

    def answer(self) -> int:
        """The status of the response."""
        return struct.unpack("<H", self.response()[0x0900])[0]

    def response(self) -> dict[int, bytes]:
        kind, body = receive_pdu(self.link)
        if kind == 7:
            raise Closed(f"aborted {body[2]}/{body[3]}")
        if kind != 4:
            raise Closed(f"PDU type {kind} instead of P-DATA-TF")
        length = struct.unpack_from(">I", body)[0]
        return parse_command(body[6 : 4 + length])

    def echo(self, context: int) -> int:
        self._message += 1
        elements = {
            0x0002: _padded(VERIFICATION, b"\0"),
            0x0100: _short(0x0030),
            0x0110: _short(self._message),
            0x0800: _short(0x0101),
        }
        self.send_pdata(pdv(context, COMMAND_LAST, _command(elements)))
        return self.answer()

    def release(self) -> None:
        self.link.sendall(_pdu(5, bytes(4)))
        kind, _ = receive_pdu(self.link)
        if kind != 6:
            raise Closed(f"PDU type {kind} instead of A-RELEASE-RP")
        self.link.close()

    def abort(self) -> None:
        self.link.sendall(_pdu(7, bytes(4)))
        self.link.close()

    def close(self) -> None:
        self.link.close()


@dataclass
class Arrival:
    """One complete C-STORE at the acceptor."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    digest: str
    data_set_bytes: int
    calling: str
    at: float
    command: dict[int, bytes] = field(repr=False, default_factory=dict)


@dataclass
class Behaviour:
    """What to do with one C-STORE."""

    status: int = 0x0000
    delay_seconds: float = 0.0
    abort_after_bytes: int | None = None
    silent: bool = False


class Acceptor:
    """A storage SCP in a thread per association: accepts every context with its first syntax.

    `behave(sop_instance, times_seen)` says what to do with each C-STORE; `frozen` stops reading while it is set.
    """

    def __init__(
        self,
        ae: str = "RAWSCP",
        behave: Callable[[str, int], Behaviour] | None = None,
        port: int = 0,
        max_pdu: int = 131072,
        refuses: frozenset[str] = frozenset(),
    ) -> None:
        """`refuses`: transfer syntaxes; a context that offers nothing else is rejected."""
        self.ae = ae
        self._max_pdu = max_pdu
        self._refuses = refuses
        self._behave = behave or (lambda _uid, _seen: Behaviour())
        self._lock = threading.Lock()
        self.arrivals: list[Arrival] = []
        self.attempts: dict[str, int] = defaultdict(int)
        self.partial: list[int] = []
        """Bytes received of data sets that never ended."""
        self.proposed: list[list[tuple[str, list[str]]]] = []
        self.calling: list[str] = []
        self.requests: list[bytes] = []
        """Bodies of the A-ASSOCIATE-RQ PDUs."""
        self.rejections: list[tuple[int, int, int] | None] = []
        """Result, source and reason for the next associations, one each; None accepts one."""
        self.refused_classes: set[str] = set()
        """SOP classes whose contexts are rejected."""
        self.echoes: list[float] = []
        self.releases: list[float] = []
        self.open_most = 0
        """Associations at one time."""
        self.longest_pdu = 0
        self.bytes_received = 0
        self.thawed = threading.Event()
        self.thawed.set()
        self._ended = False
        self._links: set[socket.socket] = set()
        self._server = socket.create_server((HOST, port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{self.ae}@{HOST}:{self.port}"

    def freeze(self) -> None:
        self.thawed.clear()

    def thaw(self) -> None:
        self.thawed.set()

    def close(self) -> None:
        self._ended = True
        self.thawed.set()
        try:
            # Wakes the thread that accepts: closing alone leaves the port open until the next connection.
            self._server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._server.close()
        with self._lock:
            for link in self._links:
                try:
                    link.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self) -> "Acceptor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._links.add(link)
            self.open_most = max(self.open_most, len(self._links))
        try:
            conversation = _Conversation(self, link, *self._associate(link))
            try:
                conversation.run()
            finally:
                if conversation.open:
                    with self._lock:
                        self.partial.append(conversation.received)
        except (Closed, OSError, struct.error):
            pass
        finally:
            with self._lock:
                self._links.discard(link)
            link.close()

    def _associate(self, link: socket.socket) -> tuple[dict[int, str], str]:
        kind, body = receive_pdu(link)
        if kind != 1:
            raise Closed("no A-ASSOCIATE-RQ")
        with self._lock:
            self.requests.append(body)
            rejection = self.rejections.pop(0) if self.rejections else None
        if rejection:
            link.sendall(_pdu(3, bytes([0, *rejection])))
            raise Closed("rejected")
        answers, offered = b"", []
        chosen: dict[int, str] = {}
        for item, value in _items(body[68:]):
            if item != 0x20:
                continue
            inner = list(_items(value[4:]))
            abstract = next(text for code, text in inner if code == 0x30).decode().rstrip("\0 ")
            syntaxes = [text.decode().rstrip("\0 ") for code, text in inner if code == 0x40]
            offered.append((abstract, syntaxes))
            taken = [syntax for syntax in syntaxes if syntax not in self._refuses]
            result = 3 if abstract in self.refused_classes else 0 if taken else 4
            chosen[value[0]] = (taken or syntaxes)[0]
            answers += _item(0x21, struct.pack(">BBBB", value[0], 0, result, 0) + _item(0x40, chosen[value[0]].encode()))
        with self._lock:
            self.proposed.append(offered)
            calling = body[20:36].decode().strip()
            self.calling.append(calling)
        answer = struct.pack(">HH", 1, 0) + body[4:68] + _item(0x10, APPLICATION_CONTEXT) + answers
        link.sendall(_pdu(2, answer + _user_information(self._max_pdu)))
        return chosen, calling


class _Conversation:
    """The messages of one accepted association."""

    def __init__(self, owner: Acceptor, link: socket.socket, syntaxes: dict[int, str], calling: str) -> None:
        self._owner = owner
        self._link = link
        self._syntaxes = syntaxes
        self._calling = calling
        self._command = bytearray()
        self._fields: dict[int, bytes] = {}
        self._hash = hashlib.sha256()
        self.received = 0
        self.open = False
        """A C-STORE has begun and its data set has not ended."""

    def run(self) -> None:
        while True:
            self._owner.thawed.wait()
            kind, body = receive_pdu(self._link)
            if kind == 5:
                self._owner.releases.append(time.monotonic())
                self._link.sendall(_pdu(6, bytes(4)))
                return
            if kind != 4:
                return
            self._owner.longest_pdu = max(self._owner.longest_pdu, len(body))
            at = 0
            while at < len(body):
                length, context, control = struct.unpack_from(">IBB", body, at)
                if not self._take(context, control, body[at + 6 : at + 4 + length]):
                    return
                at += 4 + length

    def _take(self, context: int, control: int, piece: bytes) -> bool:
        """One PDV; false when the association is to end."""
        if control & 1:
            self._command += piece
            if not control & 2:
                return True
            self._fields, self._command = parse_command(bytes(self._command)), bytearray()
            self._hash, self.received = hashlib.sha256(), 0
            if struct.unpack("<H", self._fields[0x0100])[0] == 0x0030:
                self._owner.echoes.append(time.monotonic())
                self._respond(context, 0x8030, 0)
                return True
            uid = self._uid()
            with self._owner._lock:
                seen = self._owner.attempts[uid]
                self._owner.attempts[uid] += 1
            self._now = self._owner._behave(uid, seen)
            self.open = True
            return True
        self._hash.update(piece)
        self.received += len(piece)
        with self._owner._lock:
            self._owner.bytes_received += len(piece)
        limit = self._now.abort_after_bytes
        if limit is not None and self.received >= limit:
            self._link.sendall(_pdu(7, bytes(4)))
            return False
        return self._finish(context) if control & 2 else True

    def _finish(self, context: int) -> bool:
        self.open = False
        arrival = Arrival(
            self._fields[0x0002].decode().rstrip("\0 "),
            self._uid(),
            self._syntaxes[context],
            self._hash.hexdigest(),
            self.received,
            self._calling,
            time.monotonic(),
            self._fields,
        )
        with self._owner._lock:
            self._owner.arrivals.append(arrival)
        if self._now.delay_seconds:
            time.sleep(self._now.delay_seconds)
        if self._now.silent:
            # Reads on without ever answering: the peer's own time-out has to end it.
            while self._link.recv(65536):
                pass
            return False
        self._respond(context, 0x8001, self._now.status)
        return True

    def _uid(self) -> str:
        return self._fields[0x1000].decode().rstrip("\0 ")

    def _respond(self, context: int, command_field: int, status: int) -> None:
        elements = {
            0x0002: self._fields[0x0002],
            0x0100: _short(command_field),
            0x0120: self._fields[0x0110],
            0x0800: _short(0x0101),
            0x0900: _short(status),
        }
        if 0x1000 in self._fields:
            elements[0x1000] = self._fields[0x1000]
        self._link.sendall(_pdu(4, pdv(context, COMMAND_LAST, _command(elements))))
