"""The relay's log read from outside, from crates/ledger/FORMAT.md and RFC 9162: HTTP, checkpoints, roots, proofs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from verify_receipt import Card, sha256, unbase64

TILE = 256


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


def get(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """Whatever is answered, refusals too."""
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, dict(refused.headers), refused.read())


@dataclass(frozen=True)
class Head:
    origin: str
    size: int
    root: bytes


class Forged(Exception):
    """The checkpoint is not what the relay's key signed."""


def head_of(note: str, relay: Card) -> Head:
    """The head in a checkpoint that both log keys on the relay's card have signed."""
    text, _, signatures = note.partition("\n\n")
    origin, size, root = text.split("\n")
    head = Head(origin, int(size), unbase64(root))
    if str(head.size) != size or len(head.root) != 32 or origin.rpartition("/")[0] != relay.name:
        raise Forged(text)
    found = {}
    for line in signatures.splitlines():
        dash, name, code = line.split(" ")
        if dash == "\u2014" and name == origin:
            found[unbase64(code)[:4]] = unbase64(code)[4:]
    ed25519, ml_dsa = relay.log
    ids = [sha256(origin.encode(), b"\n", kind, key)[:4] for kind, key in ((b"\1", ed25519), (b"\6", ml_dsa))]
    try:
        Ed25519PublicKey.from_public_bytes(ed25519).verify(found[ids[0]], text.encode() + b"\n")
        at, signature = found[ids[1]][:8], found[ids[1]][8:]
        named = bytes([len(origin)]) + origin.encode()
        signed = b"subtree/v1\n\0" + named + at + named + bytes(8) + head.size.to_bytes(8, "big") + head.root
        MLDSA44PublicKey.from_public_bytes(ml_dsa).verify(signature, signed, b"")
    except (InvalidSignature, KeyError) as reason:
        raise Forged(repr(reason)) from None
    return head


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, from leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", root(leaves[:half]), root(leaves[half:]))


def continues(old: Head, new: Head, path: Sequence[bytes]) -> bool:
    """Whether the proof shows that the new tree continues the old one (RFC 9162, section 2.1.4.2)."""
    if old.size == new.size:
        return not path and old.root == new.root
    if not 0 < old.size < new.size:
        return old.size == 0 and not path
    path = list(path)
    if old.size & (old.size - 1) == 0:
        path.insert(0, old.root)
    if not path:
        return False
    at, last = old.size - 1, new.size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = sha256(b"\1", sibling, first), sha256(b"\1", sibling, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = sha256(b"\1", second, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and (first, second) == (old.root, new.root)


def tile_paths(size: int) -> list[str]:
    """The tiles of a log of that size, as C2SP tlog-tiles names them, those of entries included; up to 256,000 entries."""
    assert size < TILE * 1000
    found, level, count = [], 0, size
    while count:
        for name in (str(level), "entries") if level == 0 else (str(level),):
            found += [f"/tile/{name}/{index:03}" for index in range(count // TILE)]
            found += [f"/tile/{name}/{count // TILE:03}.p/{count % TILE}"] if count % TILE else []
        level, count = level + 1, count // TILE
    return found


def bundled(body: bytes) -> list[bytes]:
    """The entries of an entry bundle."""
    found, at = [], 0
    while at < len(body):
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        assert end <= len(body), "the bundle ends too early"
        found.append(body[at + 2 : end])
        at = end
    return found
