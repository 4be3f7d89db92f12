"""Destinations that speak STOW-RS: Orthanc with its DICOMweb plugin, and a server of our own that can be as bad as it is told to be."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import part10
from .destinations import Absent, Orthanc
from .processes import HOST, free_ports
from .stack import Stack

# Where Debian puts it, whatever its version.
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def to_web(stack: Stack, url: str, **table: object) -> Stack:
    """Makes the first destination of gateway-in a DICOM web service."""
    with stack.edit("gateway-in") as receiving:
        destination = stack.destination(receiving)
        for key in ("dir", "ae", "address", "calling"):
            destination.pop(key, None)
        destination.update({"kind": "stow", "url": url, "probe_every": "500ms", **table})
    stack.quick_retries()
    return stack


def secret(path: Path, text: str) -> str:
    """A file that only its owner may read."""
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


class OrthancWeb(Orthanc):
    """Orthanc, asked over its REST interface for what came in by STOW-RS."""

    name = "orthanc"

    def __init__(self, directory: Path, users: dict[str, str] | None = None, **settings: object) -> None:
        """`users` have to be known to it."""
        if not PLUGIN.exists():
            raise Absent("orthanc-dicomweb is not installed")
        more: dict[str, object] = {"Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
        if users:
            more |= {"AuthenticationEnabled": True, "RegisteredUsers": users}
        super().__init__(directory, **more, **settings)
        self._users = users or {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http}/dicom-web"

    @property
    def http(self) -> int:
        """The port of its web services."""
        return self._http

    def _open(self, path: str):
        request = urllib.request.Request(f"{self.url.removesuffix('/dicom-web')}{path}")
        for user, password in self._users.items():
            request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
        return urllib.request.urlopen(request, timeout=300)


def listen(port: int, serve: Callable[[socket.socket], None]) -> socket.socket:
    """Takes connections until `close`, each in a thread of its own."""
    listener = socket.create_server((HOST, port))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                threading.Thread(target=serve, args=(link,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def close(listener: socket.socket | None) -> None:
    """Also wakes the thread that waits for the next connection."""
    if listener:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


class TlsFront:
    """What many put before a server that has no TLS, or a poor one: takes HTTPS and passes it on without."""

    def __init__(self, behind: int, context: ssl.SSLContext) -> None:
        self.port, self._behind, self._context = free_ports(), behind, context
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}/dicom-web"

    def __enter__(self) -> "TlsFront":
        self._listener = listen(self.port, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        close(self._listener)

    def _pass_on(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(link, server_side=True) as outside:
            with socket.create_connection((HOST, self._behind)) as inside:
                back = threading.Thread(target=self._pump, args=(inside, outside), daemon=True)
                back.start()
                self._pump(outside, inside)
                back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(1 << 16):
                sink.sendall(some)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@dataclass
class Post:
    """One request as it came."""

    line: str
    fields: list[tuple[str, str]]
    connection: int
    body: bytearray = field(default_factory=bytearray)
    # All of it came, by its own account of its length.
    whole: bool = False
    # How it ended instead: `reset` or `closed`.
    ended: str | None = None
    at: float = field(default_factory=time.monotonic)
    sop_instance: str | None = None
    sop_class: str | None = None
    transfer_syntax: str | None = None
    digest: str | None = None
    chunks: list[int] = field(default_factory=list)

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    @property
    def boundary(self) -> bytes:
        found = re.search(r'boundary="?([^";]+)', self.field("Content-Type") or "")
        return found.group(1).encode() if found else b""

    def parts(self) -> list[tuple[bytes, bytes]]:
        """(head, content) of each complete part (RFC 2046)."""
        mark = b"--" + self.boundary
        pieces = (b"\r\n" + bytes(self.body)).split(b"\r\n" + mark)
        if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
            return []
        return [tuple(piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)) for piece in pieces[1:-1]]  # type: ignore[misc]


def response(status: int, body: bytes | dict = b"", *fields: str) -> bytes:
    """An HTTP response with a length."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(content)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def stored(post: Post, warning: int | None = None, status: int = 200) -> bytes:
    """Referenced SOP Sequence."""
    item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [post.sop_instance]}}
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return response(status, {"00081199": {"vr": "SQ", "Value": [item]}}, "Content-Type: application/dicom+json")


def failed(post: Post, reason: int | None, status: int = 409) -> bytes:
    """Failed SOP Sequence, with a comment that names a patient."""
    item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [post.sop_instance]}, "00000902": {"vr": "LO", "Value": ["Test^Conformance"]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return response(status, {"00081198": {"vr": "SQ", "Value": [item]}})


CUT = "cut"
SILENT = "silent"
# What a script gives: bytes that are written (and then the connection goes on as it was asked to), or one of the two words.
Deed = bytes | str | None


class WebServer:
    """A Studies Service of our own. By default everything is stored; `behave` is asked for each whole instance, `at_head` as soon as
    a head is there, and `within` after each 64 KiB of its body."""

    name = "web"

    def __init__(
        self,
        behave: Callable[[Post, int], Deed] | None = None,
        at_head: Callable[[Post], Deed] | None = None,
        within: Callable[[Post], Deed] | None = None,
        nothing: Callable[[Post], Deed] | None = None,
        tls: ssl.SSLContext | None = None,
        port: int | None = None,
    ) -> None:
        self.behave = behave or (lambda post, _seen: stored(post))
        self.at_head = at_head or (lambda _post: None)
        self.within = within or (lambda _post: None)
        self.nothing = nothing or (lambda _post: response(400, b"no part"))
        self.tls = tls
        self.port = port or free_ports()
        self.posts: list[Post] = []
        self.attempts: dict[str, int] = defaultdict(int)
        self.most = 0
        self._busy = 0
        self._connections = 0
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}/dicom-web"

    def start(self) -> "WebServer":
        self._closing.clear()
        self._listener = listen(self.port, self._serve)
        return self

    def stop(self) -> None:
        self._closing.set()
        close(self._listener)
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what came ------------------------------------------------------------------------------------------------

    def whole(self) -> list[Post]:
        return [post for post in self.posts if post.whole and post.sop_instance]

    def partial(self) -> list[Post]:
        return [post for post in self.posts if not post.whole]

    def asked(self) -> list[Post]:
        """Bodies without a part."""
        return [post for post in self.posts if post.whole and not post.sop_instance]

    def arrived(self) -> dict[str, tuple[str, str]]:
        return {post.sop_instance: (post.transfer_syntax, post.digest) for post in self.whole()}

    def logs(self) -> str:
        return f"web server {self.port}: {[(post.line, post.whole, post.sop_instance) for post in self.posts][-10:]}"

    # -- serving --------------------------------------------------------------------------------------------------

    def _serve(self, link: socket.socket) -> None:
        with self._lock:
            self._connections += 1
            number = self._connections
            self._open.add(link)
        try:
            if self.tls:
                link = self.tls.wrap_socket(link, server_side=True)
            buffer = bytearray()
            while self._one(link, buffer, number):
                pass
        except (OSError, ValueError, EOFError):
            """The gateway has cut it, or we have."""
        finally:
            with contextlib.suppress(OSError):
                link.close()
            self._open.discard(link)

    def _one(self, link: socket.socket, buffer: bytearray, number: int) -> bool:
        while b"\r\n\r\n" not in buffer:
            self._more(link, buffer)
        end = buffer.index(b"\r\n\r\n") + 4
        line, *fields = buffer[: end - 4].decode().split("\r\n")
        del buffer[:end]
        post = Post(line, [tuple(one.split(": ", 1)) for one in fields], number)  # type: ignore[misc]
        with self._lock:
            self.posts.append(post)
            self._busy += 1
            self.most = max(self.most, self._busy)
        try:
            if not self._does(link, self.at_head(post)):
                return False
            try:
                self._body(link, buffer, post)
            except (ConnectionResetError, EOFError) as end:
                post.ended = "closed" if isinstance(end, EOFError) else "reset"
                raise
            deed = self._judge(post)
        finally:
            with self._lock:
                self._busy -= 1
        return self._does(link, deed)

    def _body(self, link: socket.socket, buffer: bytearray, post: Post) -> None:
        length, looked = post.field("Content-Length"), 0
        if length is not None:
            assert post.field("Transfer-Encoding") is None
            while len(post.body) < int(length):
                looked = self._look(link, post, looked)
                self._need(link, buffer, 1)
                part = min(len(buffer), int(length) - len(post.body))
                post.body += buffer[:part]
                del buffer[:part]
        else:
            assert post.field("Transfer-Encoding") == "chunked"
            while True:
                while b"\r\n" not in buffer:
                    self._more(link, buffer)
                end = buffer.index(b"\r\n")
                size = int(buffer[:end], 16)
                del buffer[: end + 2]
                self._need(link, buffer, size + 2)
                post.body += buffer[:size]
                assert buffer[size : size + 2] == b"\r\n"
                del buffer[: size + 2]
                if not size:
                    break
                post.chunks.append(size)
                looked = self._look(link, post, looked)
        post.whole = True

    def _look(self, link: socket.socket, post: Post, looked: int) -> int:
        if len(post.body) - looked < 1 << 16:
            return looked
        if not self._does(link, self.within(post)):
            raise EOFError
        return len(post.body)

    def _judge(self, post: Post) -> Deed:
        parts = post.parts()
        if not parts:
            return self.nothing(post)
        assert len(parts) == 1
        with tempfile.NamedTemporaryFile() as file:
            file.write(parts[0][1])
            file.flush()
            one = part10.read(Path(file.name))
            post.sop_instance, post.sop_class = one.sop_instance, one.sop_class
            post.transfer_syntax, post.digest = one.transfer_syntax, one.digest()
        with self._lock:
            seen = self.attempts[one.sop_instance]
            self.attempts[one.sop_instance] += 1
        return self.behave(post, seen)

    def _does(self, link: socket.socket, deed: Deed) -> bool:
        """False: the connection is over."""
        if deed == CUT:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if deed == SILENT:
            self._closing.wait(60)
            return False
        if isinstance(deed, bytes):
            link.sendall(deed)
            return b"connection: close" not in deed.lower()
        return True

    def _need(self, link: socket.socket, buffer: bytearray, count: int) -> None:
        while len(buffer) < count:
            self._more(link, buffer)

    @staticmethod
    def _more(link: socket.socket, buffer: bytearray) -> None:
        some = link.recv(1 << 18)
        if not some:
            raise EOFError
        buffer += some

