"""A receipt stands alone: one file, one card, no daemon, no network; anything changed in it is refused."""

from __future__ import annotations

import random

import pytest

from harness import senders
from harness.destinations import PynetdicomScp
from harness.stack import delivery_id


@pytest.fixture
def receipt(make_stack, few):
    """A stack that has ended, and one of its receipt files."""
    with PynetdicomScp() as destination, make_stack(to=destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        stack.wait_settled()
        stack.wait_logged("gateway-out", len(few))
        listed = stack.receipts()
        assert len(listed) == len(few)
        path = stack.receipt_file(delivery_id(listed[0]))
    return stack, path


def test_a_receipt_verifies_offline(receipt):
    stack, path = receipt
    checked = stack.verify_receipt(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0000" in checked.stdout + path.read_text()


def test_any_change_is_refused_with_a_reason(receipt):
    stack, path = receipt
    original = path.read_bytes()
    source, relay = random.Random(41), stack.card("relay")
    places = [at for at, byte in enumerate(original) if chr(byte).isalnum()]
    for at in source.sample(places, 60):
        changed = bytearray(original)
        changed[at] = ord("A") if changed[at] != ord("A") else ord("B")
        path.write_bytes(changed)
        checked = stack.verify_receipt(path, relay=relay)
        assert checked.returncode == 1, f"byte {at} changed from {chr(original[at])!r}: exit code {checked.returncode}\n{changed.decode()[max(0, at - 60) : at + 60]}"
        assert (checked.stdout + checked.stderr).strip(), "refused without a reason"
    for length in (0, 10, len(original) // 2, len(original) - 20):
        path.write_bytes(original[:length])
        assert stack.verify_receipt(path, relay=relay).returncode == 1, f"cut to {length} bytes"
    path.write_bytes(original)
    assert stack.verify_receipt(path, relay=relay).returncode == 0


def test_another_peers_card_does_not_verify(receipt):
    stack, path = receipt
    assert stack.verify_receipt(path, stack.card("gateway-out")).returncode == 1
    assert stack.verify_receipt(path, stack.card("relay")).returncode == 1


def test_commands_of_the_roles(receipt):
    """check, key show, key fingerprint, and the exit codes that scripts rely on."""
    stack, _ = receipt
    for role in ("gateway-out", "relay", "gateway-in"):
        assert stack.command(role, "check").returncode == 0
        card = stack.command(role, "key", "show").stdout.strip()
        assert len(card.splitlines()) == 1 and card == stack.card(role).read_text().strip()
        assert len(stack.command(role, "key", "fingerprint").stdout.split()) >= 8
        good = stack.config(role).read_text()
        stack.config(role).write_text(good + "\n[admn]\nlisten = 1\n")
        wrong = stack.command(role, "check", check=False)
        assert wrong.returncode == 64, wrong.returncode
        said = wrong.stdout + wrong.stderr
        assert "admn" in said and f"{role}.toml:" in said and "admin" in said, said
        stack.config(role).write_text(good)
        assert stack.command(role, "frobnicate", check=False).returncode == 2
