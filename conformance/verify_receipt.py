#!/usr/bin/env python3
"""Verifies a Sluis receipt file offline, from crates/ledger/FORMAT.md alone: a second opinion on `receipt verify`.

verify_receipt.py FILE --peer CARD [--sender CARD] [--relay CARD]; exit code 1 and the reason where it is not genuine.
Needs Python 3.9 and `cryptography` 48 or newer, built on OpenSSL 3.5 or newer (for ML-DSA), and nothing of Sluis.
"""

import argparse
import base64
import datetime
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey


class Refused(Exception):
    """Why the file proves nothing."""


def need(condition, reason):
    if not condition:
        raise Refused(reason)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def field(data):
    return len(data).to_bytes(8, "big") + data


# CBOR, in its one form


def item(data, at):
    """The item at an offset, and where the next one begins."""
    major, short = data[at] >> 5, data[at] & 31
    at += 1
    if (major, short) == (7, 22):
        return None, at
    need(major in (0, 2, 3, 4) and short <= 27, "CBOR of another form")
    size = 0 if short < 24 else 1 << (short - 24)
    number = int.from_bytes(data[at : at + size], "big") if size else short
    need(size == 0 or number >= (24 if size == 1 else 1 << (4 * size)), "CBOR not in its shortest form")
    at += size
    if major == 0:
        return number, at
    if major == 4:
        items = []
        for _ in range(number):
            one, at = item(data, at)
            items.append(one)
        return items, at
    need(at + number <= len(data), "CBOR ends too early")
    value = bytes(data[at : at + number])
    return (value.decode() if major == 3 else value), at + number


def decode(data, what):
    value, end = item(data, 0)
    need(end == len(data), f"bytes behind the {what}")
    return value


def record(data, what, *lengths):
    version, value = decode(data, what)
    need(version == 1 and len(value) in lengths, f"{what} of another format")
    return value


def encoded(value):
    """Encodes what a leaf or a statement is made of."""
    if value is None:
        return b"\xf6"
    major, body = {int: (0, b""), bytes: (2, value), str: (3, b""), list: (4, b"")}[type(value)]
    body = value.encode() if isinstance(value, str) else body
    if isinstance(value, list):
        body = b"".join(map(encoded, value))
    number = value if isinstance(value, int) else len(value if isinstance(value, list) else body)
    if number < 24:
        return bytes([major << 5 | number]) + body
    size = next(size for size in (1, 2, 4, 8) if number < 1 << (8 * size))
    return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big") + body


# Keys and signatures


class Identity:
    """Two keys, both of which sign."""

    def __init__(self, keys, name):
        (self.ed25519, self.ml_dsa), self.name = keys, name
        self.fingerprint = sha256(field(b"sluis/1 identity"), field(self.ed25519), field(self.ml_dsa))

    def verify(self, context, data, signature, what):
        ed25519, ml_dsa = signature
        context = context.encode()
        try:
            Ed25519PublicKey.from_public_bytes(self.ed25519).verify(ed25519, context.ljust(32, b"\0") + data)
            MLDSA65PublicKey.from_public_bytes(self.ml_dsa).verify(ml_dsa, data, context)
        except InvalidSignature:
            raise Refused(f"{what} is not signed by {self.name}") from None


class Card:
    """One line: sluis-card-N:NAME:BASE64URL of [body, signature, endorsement], as crates/identity/FORMAT.md says."""

    def __init__(self, path):
        mark, shown, text = pathlib.Path(path).read_text().strip().split(":", 2)
        body, signature, *endorsement = decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "card")
        version, self.name, keys, _tls, _suites, _serial, *rest = decode(body, "card")
        self.log, _end, origin, earlier = rest + [None] * (4 - len(rest))
        need(mark == f"sluis-card-{version}" and shown == self.name, "the card says one name and signs another")
        need(version == (3 if origin or earlier else 2), "a card of another format")
        own = Identity(keys, self.name)
        self.identities, self.until, self.logs = [own], 0, [(self.log, None)]
        own.verify("sluis/1 card", body, signature, "the card")
        need(bool(earlier) == bool(endorsement), "the card's endorsement is missing, or of nothing")
        if earlier:
            keys, _tls, log, _switch, self.until = earlier
            self.identities.append(Identity(keys, self.name))
            self.logs.append((log, self.until))
            self.identities[1].verify("sluis/1 succession", body, endorsement[0], "the card's endorsement")
        self.fingerprint, self.id = own.fingerprint, origin or own.fingerprint

    def at(self, time):
        """The identities that count at a time: of keys that were rotated, the earlier ones until their end."""
        return self.identities if time < self.until else self.identities[:1]


def signed_by_any(signers, *what):
    """Whether one of them has signed; if not, what is wrong with the first."""
    refused = None
    for signer in signers:
        try:
            return signer.verify(*what)
        except Refused as error:
            refused = refused or error
    raise refused


def root_of(leaf, index, size, path):
    """Where an audit path leads (RFC 9162, section 2.1.3.2)."""
    need(0 <= index < size, "the leaf is not in the tree")
    last, at = size - 1, index
    for sibling in path:
        need(last > 0, "the path is too long")
        if at % 2 or at == last:
            leaf = sha256(b"\1", sibling, leaf)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            leaf = sha256(b"\1", leaf, sibling)
        at, last = at // 2, last // 2
    need(last == 0, "the path is too short")
    return leaf


def verify_batch(signers, context, core, proof, what):
    index, leaves, root, path, heads, signature = proof
    need(0 < leaves <= 256 and len(heads) <= 4, f"{what} of a batch that nobody signs")
    need(isinstance(path, list) and all(isinstance(one, bytes) for one in path), f"{what} has no path")
    need(root_of(sha256(b"\0", encoded([1, core])), index, leaves, path) == root, f"{what} is not in its batch")
    signed_by_any(signers, context, encoded([1, [leaves, root, heads]]), signature, what)


def verify_log(text, relay, delivery, digest):
    """A C2SP tlog-proof of the settlement; without the relay's card, only that it leads to the head it names."""
    proof, signed, signatures = text.split("\n\n")
    kind, extra, index, *path = proof.split("\n")
    need(kind == "c2sp.org/tlog-proof@v1" and extra[:6] + index[:6] == "extra index ", "not a proof of a log")
    salt, path = unbase64(extra[6:]), [unbase64(one) for one in path]
    origin, size, root, *more = signed.split("\n")
    lines = signatures.split("\n")
    need(not more and len(lines) == 3 and lines[2] == "", "not a checkpoint with two signatures")
    for number in (index[6:], size):
        need(number == str(int(number)), "a number in another form")
    need(len(salt) == 16 and len(unbase64(root)) == 32, "the proof has parts of other lengths")
    commitment = sha256(b"sluis/1 log\n\2", salt, delivery, digest)
    leaf = sha256(b"\0", b"\2", commitment)
    need(root_of(leaf, int(index[6:]), int(size), path) == unbase64(root), "the proof is not of this receipt")
    place = f"entry {index[6:]} of {size} in {origin}"
    if relay is None:
        return place + ", not checked without the relay's card"
    need(origin.rsplit("/", 1)[0] == relay.name and relay.log, "the card is not that of the log's relay")
    text = signed.encode() + b"\n"
    found = {}
    for line in lines[:2]:
        dash, name, code = line.split(" ")
        need(dash == "\u2014" and name == origin, "a signature of somebody else")
        found[unbase64(code)[:4]] = unbase64(code)[4:]
    for keys, until in relay.logs:
        kinds = zip((b"\1", b"\6"), keys or ())
        ids = [sha256(origin.encode(), b"\n", kind, key)[:4] for kind, key in kinds]
        if set(ids) == set(found):
            break
    else:
        raise Refused("the log's signatures are missing")
    ed25519, ml_dsa = keys
    at, signature = found[ids[1]][:8], found[ids[1]][8:]
    early = until is None or 1000 * int.from_bytes(at, "big") < until
    need(early, "the head of the log is signed after the end of that key")
    named = bytes([len(origin)]) + origin.encode()
    head = b"subtree/v1\n\0" + named + at + named + bytes(8) + int(size).to_bytes(8, "big") + unbase64(root)
    try:
        Ed25519PublicKey.from_public_bytes(ed25519).verify(found[ids[0]], text)
        MLDSA44PublicKey.from_public_bytes(ml_dsa).verify(signature, head, b"")
    except InvalidSignature:
        raise Refused("the head of the log is not signed by its relay") from None
    return place + f", signed by {relay.name}"


def unbase64(text):
    """Base64 in its one form."""
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 of another form")
    return data


# The file


def time(ms):
    at = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return at + f".{ms % 1000:03}".rstrip("0").rstrip(".") + "Z"


REMARKS = {
    None: "none",
    1: "an identical file was there already",
    2: "another file of this instance was there; this one is numbered",
    3: "an earlier attempt had an unknown outcome",
    4: "refused by the receiver, which could not re-encode it",
    5: "refused by the receiver, which could not coerce it",
    6: "the destination did not say in time whether it commits",
}
LEVELS = {
    (1, 1): "1 (the destination answered)",
    (1, 2): "1 (the destination answered)",
    (2, 1): "2 (the destination committed)",
    (2, 2): "2 (the destination does not commit)",
    (3, 1): "1 (the destination answered; it is asked to commit)",
    (3, 2): "1 (the destination answered; it is asked to commit)",
}


def says(receipt):
    """What a receipt says to people."""
    (delivery, attempt, obj, body, data, length, sender, receiver, destination, (kind, of)) = receipt[:10]
    of = ''.join(of)
    sop_class, uid_hash, status, outcome, level, remark, received, answered, *changed = receipt[10:]
    return {
        "outcome": {1: "stored", 2: "refused"}[outcome],
        "status": f"0x{status:04X}",
        "destination": f"{destination} ({['AE ' + of, 'folder', 'STOW-RS ' + of][kind]})",
        "sender": f"{sender[0]} {sender[1].hex()}",
        "receiver": f"{receiver[0]} {receiver[1].hex()}",
        "received_at": time(received),
        "answered_at": time(answered),
        "level": LEVELS[level, outcome],
        "remark": REMARKS[remark],
        "sop_class": sop_class,
        "uid_hash": uid_hash.hex(),
        "delivery": delivery.hex(),
        "attempt": str(attempt),
        "object": obj.hex(),
        "data_bytes": str(length),
        "data_sha256": data.hex(),
        "body_sha256": body.hex(),
    } | (says_changed(*changed[0]) if changed else {})


def says_changed(received_syntax, stored_syntax, digest, length, rules=None):
    """What the receiver changed; `rules` is left out where none were applied."""
    return {
        "received_syntax": received_syntax,
        "stored_syntax": stored_syntax,
        "received_bytes": str(length),
        "received_sha256": digest.hex(),
        "coercion": f"rules {rules.hex()}" if rules else "none",
    }


def says_sent(delivery, attempt, obj, body, sender, receiver, receipt, report=b""):
    """What the sender says beside it: `report` is left out where its route does not pseudonymize."""
    need(report == b"" or len(report or ()) == 32, "a manifest of another format")
    return {"pseudonymized": f"report {report.hex()}"} if report else {}


def verify(text, peer, sender=None, relay=None):
    """What is proven, field by field."""
    file = json.loads(text)
    need(file.get("format") == "sluis receipt 2", "not a receipt file of format 2")
    raw = {key: file[key] and base64.b64decode(file[key]) for key in ("receipt", "settlement", "manifest")}
    receipt = record(raw["receipt"], "receipt", 18, 19)
    sent = raw["manifest"] and record(raw["manifest"], "manifest", 2)
    ordered = {"format": file["format"], "says": says(receipt) | (says_sent(*sent[0]) if sent else {})}
    ordered |= {key: data and base64.b64encode(data).decode() for key, data in raw.items()}
    ordered["log"] = file["log"]
    rebuilt = json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"
    need(rebuilt == text.replace("\r\n", "\n"), "the text differs from what is signed, or from its form")

    digest = sha256(field(b"sluis/1 receipt"), field(raw["receipt"]))
    core, proof = record(raw["settlement"], "settlement", 2)
    need(core == [receipt[0], receipt[1], [1, [digest]]], "the settlement does not commit to this receipt")
    need(receipt[7] == [peer.name, peer.id], "the card is not that of the receiver")
    answered = receipt[17]
    verify_batch(peer.at(answered), "sluis/1 batch", core, proof, "the settlement")
    need(relay is None or file["log"], "the file has no proof: it is not in a log")
    log = file["log"] and verify_log(file["log"], relay, receipt[0], digest)
    proven = ordered["says"] | {"received by": peer.name, "log": log or "not in a log"}

    if raw["manifest"] is None:
        need(sender is None, "the file has no manifest of the sender")
        return proven | {"sent by": "by the receiver's word: not signed by the sender"}
    core, proof = sent
    agrees = core[:4] == receipt[:4] and core[5:7] == [receipt[7][1], digest]
    need(agrees, "the sender's manifest is about another receipt")
    if sender is None:
        return proven | {"sent by": "by the receiver's word: no card of the sender was given"}
    signers = [one for one in sender.at(answered) if one.fingerprint == core[4]]
    need(receipt[6][0] == sender.name and signers, "the card is not that of the sender")
    verify_batch(signers, "sluis/1 manifest", core, proof, "the manifest")
    return proven | {"sent by": sender.name}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--peer", required=True, help="card of the receiving gateway")
    parser.add_argument("--sender", help="card of the sending gateway")
    parser.add_argument("--relay", help="card of the relay whose log it is in")
    arguments = parser.parse_args()
    try:
        cards = [path and Card(path) for path in (arguments.peer, arguments.sender, arguments.relay)]
        proven = verify(pathlib.Path(arguments.file).read_bytes().decode(), *cards)
    except Exception as reason:  # whatever a changed file makes fail in here, it is refused
        sys.exit(f"refused: {type(reason).__name__}: {reason}")
    for key, value in proven.items():
        print(f"{key:<16} {value}")
    print("genuine")


if __name__ == "__main__":
    main()
