"""Looking for planted patient data where none may be: packets on loopback, another process's memory, files, logs."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

ETH_P_ALL = 3
_IPPROTO_UDP = 17


class PacketWatch:
    """Counts UDP packets of one port on `lo` and remembers which needles were seen in them; needs CAP_NET_RAW."""

    def __init__(self, port: int, needles: list[bytes]) -> None:
        self._port = port
        self._needles = needles
        self.packets = 0
        self.bytes = 0
        self.seen: set[bytes] = set()
        self._ended = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "PacketWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                packet = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            except OSError:
                return
            payload = self._payload(packet[14:])
            if payload is None:
                continue
            self.packets += 1
            self.bytes += len(payload)
            for needle in self._needles:
                if needle in payload:
                    self.seen.add(needle)

    def _payload(self, packet: bytes) -> bytes | None:
        if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != _IPPROTO_UDP:
            return None
        header = (packet[0] & 15) * 4
        source, target = struct.unpack_from(">HH", packet, header)
        return packet[header + 8 :] if self._port in (source, target) else None


def memory_regions(pid: int) -> Iterator[tuple[str, bytes]]:
    """Every readable, writable mapping of a process: heap, stacks, anonymous memory, data segments."""
    pattern = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$")
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = pattern.match(line)
            if not found or not found[3].startswith("rw"):
                continue
            at, end = int(found[1], 16), int(found[2], 16)
            while at < end:
                # A mapping may be reserved, larger than what it holds, or gone by now.
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(at)
                    piece = memory.read(min(end - at, 8 << 20))
                    if piece:
                        yield f"{found[4] or 'anonymous'}+{at:x}", piece
                # The overlap finds a needle that lies across two pieces.
                at += (8 << 20) - 64


def needles_in_memory(pid: int, needles: list[bytes]) -> tuple[int, set[tuple[bytes, str]]]:
    """(bytes searched, {(needle, where)})"""
    searched, found = 0, set()
    for where, piece in memory_regions(pid):
        searched += len(piece)
        found.update((needle, where) for needle in needles if needle in piece)
    return searched, found


def needles_in_files(directory: Path, needles: list[bytes]) -> set[tuple[bytes, Path]]:
    found = set()
    for root, _, names in os.walk(directory):
        for name in names:
            path = Path(root) / name
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                found.update((needle, path) for needle in needles if needle in content)
    return found
