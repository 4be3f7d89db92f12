"""Seeded synthetic instances of any SOP class and transfer syntax, encoded here element by element."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

from . import part10
from .part10 import Instance

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
# Data sets of these are deflated as a whole: Deflated Explicit VR, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate.
DEFLATING = {DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
# What this file knows to be native; everything else, private ones too, is written as encapsulated explicit little endian.
NATIVE = {IMPLICIT, EXPLICIT, BIG_ENDIAN, *DEFLATING}
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT"}


def uid(source: random.Random) -> str:
    """A UID under 2.25 from 122 bits of the seed."""
    return f"2.25.{source.getrandbits(122) | 1 << 121}"


def element(tag: int, vr: bytes, value: bytes, syntax: str = EXPLICIT, undefined: bool = False) -> bytes:
    """One data element in a native encoding."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB", b"UN") else b" "
    group, element = tag >> 16, tag & 0xFFFF
    length = 0xFFFF_FFFF if undefined else len(value)
    order = ">" if syntax == BIG_ENDIAN else "<"
    if syntax == IMPLICIT:
        return struct.pack("<HHI", group, element, length) + value
    if vr in _LONG:
        return struct.pack(order + "HH2sHI", group, element, vr, 0, length) + value
    return struct.pack(order + "HH2sH", group, element, vr, length) + value


def _number(value: int, syntax: str) -> bytes:
    return struct.pack(">H" if syntax == BIG_ENDIAN else "<H", value)


def _encapsulated(pixels: bytes) -> bytes:
    """An empty offset table, one fragment and the sequence delimiter."""
    pixels += b"\0" * (len(pixels) % 2)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(pixels)) + pixels
    return item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def header(
    sop_class: str,
    sop_instance: str,
    study: str,
    series: str,
    encoding: str,
    number: int = 1,
    rows: int = 64,
    columns: int = 64,
    frames: int = 1,
    patient: str = "Test^Conformance",
    seed: int = 0,
    modality: str = "OT",
    description: str = "",
) -> bytes:
    """Everything before the pixel data, with private elements between."""

    def text(tag: int, vr: bytes, value: str) -> bytes:
        return element(tag, vr, value.encode(), encoding)

    def short(tag: int, value: int) -> bytes:
        return element(tag, b"US", _number(value, encoding), encoding)

    elements = [
        text(0x0008_0016, b"UI", sop_class),
        text(0x0008_0018, b"UI", sop_instance),
        text(0x0008_0020, b"DA", "20260102"),
        text(0x0008_0050, b"SH", f"ACC{seed & 0xFFFF}"),
        text(0x0008_0060, b"CS", modality),
        *([text(0x0008_1030, b"LO", description)] if description else []),
        text(0x0009_0010, b"LO", "SLUIS CONFORMANCE"),
        element(0x0009_1001, b"UN", random.Random(seed).randbytes(33), encoding),
        text(0x0010_0010, b"PN", patient),
        text(0x0010_0020, b"LO", f"PID{seed & 0xFFFF}"),
        text(0x0020_000D, b"UI", study),
        text(0x0020_000E, b"UI", series),
        text(0x0020_0013, b"IS", str(number)),
        short(0x0028_0002, 1),
        text(0x0028_0004, b"CS", "MONOCHROME2"),
    ]
    if frames > 1:
        elements.append(text(0x0028_0008, b"IS", str(frames)))
    for tag, value in ((0x0010, rows), (0x0011, columns), (0x0100, 16), (0x0101, 16), (0x0102, 15), (0x0103, 0)):
        elements.append(short(0x0028_0000 | tag, value))
    return b"".join(elements)


def data_set(
    sop_class: str,
    sop_instance: str,
    study: str,
    series: str,
    syntax: str = EXPLICIT,
    number: int = 1,
    side: int = 64,
    patient: str = "Test^Conformance",
    seed: int = 0,
    modality: str = "OT",
    description: str = "",
) -> bytes:
    """A 16 bit grey image of side x side with noise for pixels."""
    encapsulated = syntax not in NATIVE
    encoding = EXPLICIT if encapsulated or syntax in DEFLATING else syntax
    encoded = header(sop_class, sop_instance, study, series, encoding, number, side, side, 1, patient, seed, modality, description)
    pixels = random.Random(seed + 1).randbytes(side * side * 2)
    if encapsulated:
        encoded += element(0x7FE0_0010, b"OB", _encapsulated(pixels), encoding, undefined=True)
    else:
        encoded += element(0x7FE0_0010, b"OW", pixels, encoding)
    if syntax in DEFLATING:
        packer = zlib.compressobj(wbits=-15)
        encoded = packer.compress(encoded) + packer.flush()
        encoded += b"\0" * (len(encoded) % 2)
    return encoded


def study(
    directory: Path,
    count: int,
    seed: int,
    side: int = 64,
    syntax: str = EXPLICIT,
    sop_class: str = CT_IMAGE,
    patient: str = "Test^Conformance",
    modality: str = "OT",
    description: str = "",
) -> list[Instance]:
    """One study of one series with `count` instances as files."""
    source = random.Random(seed)
    study_uid, series_uid = uid(source), uid(source)
    made = []
    for number in range(1, count + 1):
        name = uid(source)
        content = seed * 100_000 + number
        encoded = data_set(
            sop_class, name, study_uid, series_uid, syntax, number, side, patient, content, modality, description
        )
        made.append(part10.write(directory / f"{number:05}.dcm", sop_class, name, syntax, encoded))
    return made


def large(path: Path, data_set_bytes: int, seed: int, syntax: str = EXPLICIT) -> Instance:
    """A multi-frame of about `data_set_bytes`, written in constant memory; one frame is a mebibyte."""
    source = random.Random(seed)
    sop_class, name = "1.2.840.10008.5.1.4.1.1.7.3", uid(source)
    frame = source.randbytes(1 << 20)
    frames = max(1, data_set_bytes >> 20)
    if syntax != EXPLICIT or frames << 20 >= 0xFFFF_FFFF:
        raise ValueError("explicit little endian only, and a native pixel element holds less than 4 GiB")
    head = header(
        sop_class, name, uid(source), uid(source), syntax, rows=512, columns=1024, frames=frames, seed=seed
    ) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames << 20)
    meta = part10.file_meta(sop_class, name, syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(meta + head)
        for number in range(frames):
            # Each frame differs, so that a swapped or repeated chunk changes the digest.
            file.write(struct.pack("<Q", number) + frame[8:])
    return Instance(sop_class, name, syntax, path, len(meta))
