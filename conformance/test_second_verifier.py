"""`receipt verify` and a verifier written from the format's text alone (`verify_receipt.py`) agree: on what both
gateways hold, and on files in which one byte was changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import verify_receipt
from verify_receipt import Card

from harness import senders
from harness.destinations import PynetdicomScp
from harness.processes import run
from harness.stack import TOP, Stack, binary, delivery_id, wait_until

# Every 7th byte of what is base64 in the first file, fewer in the others; all bytes around it.
STEPS = (7, 211, 211)


def without_log(path: Path) -> dict:
    """A receipt file without the proof of its place in the relay's log, which each gateway gets by itself and in its own time."""
    document = json.loads(path.read_text())
    document.pop("log")
    return document


def test_both_verifiers_give_the_same_verdict(make_stack, few):
    with PynetdicomScp() as destination, make_stack(to=destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        stack.wait_settled()
        wait_until("countersignatures", lambda: all(one["countersigned"] for one in stack.receipts("gateway-in")), 30, stack.logs)
        ids = [delivery_id(one) for one in stack.receipts()][:2]
        files = [stack.receipt_file(one) for one in ids] + [stack.receipt_file(ids[0], "gateway-in")]
    assert without_log(files[0]) == without_log(files[2]), "both gateways hold the same receipt"
    cards = Card(stack.card("gateway-in")), Card(stack.card("gateway-out"))
    for path, step in zip(files, STEPS, strict=True):
        # The proof says nothing to who has no card of the relay; that test is the one below.
        text = re.sub(rb'"log": "[^"]*"', b'"log": null', path.read_bytes())
        path.write_bytes(text)
        assert ours(stack, path) and theirs(text, cards), path
        for at in places(text, step):
            changed = bytearray(text)
            changed[at] ^= 1
            path.write_bytes(changed)
            said = ours(stack, path), theirs(changed, cards)
            assert said == (False, False), f"byte {at} of {path.name}, {chr(text[at])!r}: {said}"
        path.write_bytes(text)


def test_the_second_verifier_runs_alone(make_stack, few):
    with PynetdicomScp() as destination, make_stack(to=destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few[:1]).values()) == {0}
        stack.wait_settled()
        path = stack.receipt_file(delivery_id(stack.receipts()[0]))
    command = [sys.executable, "-I", verify_receipt.__file__, path, "--peer", stack.card("gateway-in")]
    cases = (
        ([], 0, "no card of the sender was given"),
        (["--sender", stack.card("gateway-out")], 0, "sent by          gateway-out"),
        (["--sender", stack.card("gateway-in")], 1, "not that of the sender"),
    )
    for more, code, says in cases:
        done = subprocess.run([*map(str, command + more)], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and says in done.stdout + done.stderr, done.stdout + done.stderr


def test_they_agree_on_a_receipt_that_is_in_a_log(tmp_path):
    vectors = TOP / "crates" / "ledger" / "tests" / "receipts" / "complete"
    names = ("receiver", "sender", "relay")
    cards = tuple(Card(vectors / f"{name}.card") for name in names)
    text, path = (vectors / "receipt.json").read_bytes(), tmp_path / "receipt.json"
    command = [binary("gateway-in"), "receipt", "verify", path, "--peer", vectors / "receiver.card"]
    command += ["--sender", vectors / "sender.card", "--relay", vectors / "relay.card"]

    def both(changed: bytes) -> tuple[bool, bool]:
        path.write_bytes(changed)
        return run(command, 60, check=False).returncode == 0, theirs(changed, cards)

    assert both(text) == (True, True)
    for at in places(text, 19):
        changed = bytearray(text)
        changed[at] ^= 1
        assert both(changed) == (False, False), f"byte {at}, {chr(text[at])!r}"


def places(text: bytes, step: int) -> list[int]:
    """Where a byte is changed."""
    coded = [found.span() for found in re.finditer(rb"[A-Za-z0-9+/]{200,}", text)]
    inside = [at for begin, end in coded for at in range(begin, end)]
    return sorted(set(range(len(text))) - set(inside)) + inside[::step]


def ours(stack: Stack, path) -> bool:
    return stack.verify_receipt(path).returncode == 0


def theirs(text: bytes, cards: tuple[Card, ...]) -> bool:
    try:
        verify_receipt.verify(bytes(text).decode(), *cards)
    except Exception:  # as the script itself does: whatever fails is a refusal
        return False
    return True
