"""DICOM files as bytes: the data set is what follows the file meta information, and nothing here parses it.

Written for this suite instead of borrowed from a toolkit, so that a toolkit's repairs cannot hide a changed byte.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}


@dataclass(frozen=True)
class Instance:
    """One instance: what a C-STORE names, and where its data set lies."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    path: Path
    offset: int

    def data_set(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read()

    @property
    def data_set_bytes(self) -> int:
        return self.path.stat().st_size - self.offset

    def digest(self) -> str:
        return file_digest(self.path, self.offset)


def file_digest(path: Path, offset: int = 0) -> str:
    """SHA-256 of a file from an offset on, in constant memory."""
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_set_digest(data_set: bytes) -> str:
    return hashlib.sha256(data_set).hexdigest()


def read(path: Path) -> Instance:
    """Reads preamble, prefix and group 2 (PS3.10 section 7.1); the data set begins where group 2 ends."""
    with path.open("rb") as file:
        head = file.read(128 * 1024)
    if head[128:132] != b"DICM":
        raise ValueError(f"{path} has no DICM prefix")
    found: dict[int, str] = {}
    at = 132
    while at + 8 <= len(head):
        group, element = struct.unpack_from("<HH", head, at)
        if group != 2:
            break
        vr = head[at + 4 : at + 6]
        if vr in _LONG:
            length, value_at = struct.unpack_from("<I", head, at + 8)[0], at + 12
        else:
            length, value_at = struct.unpack_from("<H", head, at + 6)[0], at + 8
        found[element] = head[value_at : value_at + length].decode("ascii", "replace").rstrip("\0 ")
        at = value_at + length
    try:
        return Instance(found[0x0002], found[0x0003], found[0x0010], path, at)
    except KeyError as missing:
        raise ValueError(f"{path} has no element (0002,{missing.args[0]:04x})") from None


def _meta_element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHI", 2, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and group 2."""
    rest = b"".join(
        (
            _meta_element(0x0001, b"OB", b"\0\1"),
            _meta_element(0x0002, b"UI", sop_class.encode()),
            _meta_element(0x0003, b"UI", sop_instance.encode()),
            _meta_element(0x0010, b"UI", transfer_syntax.encode()),
            _meta_element(0x0012, b"UI", b"2.25.311117774251520712394427521341"),
        )
    )
    return bytes(128) + b"DICM" + _meta_element(0x0000, b"UL", struct.pack("<I", len(rest))) + rest


def write(path: Path, sop_class: str, sop_instance: str, transfer_syntax: str, data_set: bytes) -> Instance:
    meta = file_meta(sop_class, sop_instance, transfer_syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(meta + data_set)
    return Instance(sop_class, sop_instance, transfer_syntax, path, len(meta))


def find(directory: Path) -> list[Instance]:
    """Every DICOM file below a directory, in the order of their names."""
    found = []
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                found.append(read(Path(root) / name))
            except (ValueError, OSError):
                continue
    return sorted(found, key=lambda instance: instance.path)
