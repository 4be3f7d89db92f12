"""Negotiation beside presentation contexts, read from the bytes of the A-ASSOCIATE: each row of the tables, as configured."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest

from harness import negotiate, senders
from harness.negotiate import answer_to, request
from harness.processes import HOST
from harness.rawul import Acceptor

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
NAME, NAME_AND_PASSCODE, KERBEROS, SAML, TOKEN = range(1, 6)
# What is offered, for each column of the table.
OFFERED = {
    "known": [(NAME, b"ct1", b""), (NAME_AND_PASSCODE, b"ct2", b"over there")],
    "unknown": [(NAME, b"nobody", b""), (NAME, b"ct2", b""), (NAME_AND_PASSCODE, b"ct2", b"elsewhere")],
    "unverifiable": [(KERBEROS, b"ct1", b""), (SAML, b"ct1", b""), (TOKEN, b"ct1", b"")],
}
# Rejected permanent, by the service user, without a reason: PS3.8 has none for a user.
REJECTED = (1, 1, 1)


def installed(stack, role: str) -> dict:
    """The statement of this installation."""
    return json.loads(stack.command(role, "conformance", "--format", "json").stdout)


def fact(statement: dict, claim: str) -> dict:
    [row] = [row for row in statement["negotiation"] if row["claim"] == claim]
    return row


def users(stack) -> None:
    file = stack.directory / "users"
    file.write_text("# who may send\nct1\nct2:over there\n")
    file.chmod(0o600)
    with stack.edit("gateway-out") as out:
        out["dicom"]["users"] = str(file)


@pytest.mark.parametrize("setting", ["ignored", "accepted", "refused"])
def test_a_user_identity_is_answered_as_configured(make_stack, prove, setting):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["dicom"]["user_identity"] = setting
    if setting == "accepted":
        users(stack)
    stack.start("gateway-out")
    assert fact(installed(stack, "gateway-out"), "out/association/user-identity")["value"] == setting
    for offered, identities in OFFERED.items():
        row = prove(f"out/association/user-identity-{setting}-{offered}")
        for kind, name, passcode in identities:
            for wants_answer in (False, True):
                item = negotiate.identity_item(kind, name, passcode, wants_answer)
                answer = answer_to(stack.listen, request(stack.ae, [(1, CT, [EXPLICIT])], user_items=item))
                case = (row["claim"], kind, name, wants_answer)
                if row["value"].startswith("rejected"):
                    assert answer.triple == REJECTED, case
                    continue
                assert answer.kind == 2 and answer.accepted == {1: EXPLICIT}, case
                confirmed = answer.items.get(negotiate.IDENTITY_ANSWER)
                expected = [struct.pack(">H", 0)] if wants_answer and row["value"].startswith("accepted") else None
                assert confirmed == expected, case
    if setting == "accepted":
        taken = lambda name: answer_to(stack.listen, request(stack.ae, [(1, CT, [EXPLICIT])], user_items=negotiate.identity_item(NAME, name, b"", False))).kind == 2  # noqa: E731
        assert not taken(b"mr1")
        (stack.directory / "users").write_text("mr1\n")
        assert "count from the next start" not in stack.command("gateway-out", "reload").stdout
        assert taken(b"mr1") and not taken(b"ct1")
    # Who offers none is admitted by titles and addresses.
    assert answer_to(stack.listen, request(stack.ae, [(1, CT, [EXPLICIT])])).accepted == {1: EXPLICIT}
    if setting == "refused":
        row = prove("out/rejection/identity")
        assert (row["result"], row["source"], row["reason"]) == REJECTED
        rejections = stack.command("gateway-out", "rejections").stdout
        assert "user identity is not accepted" in rejections
    log = stack.log_text("gateway-out")
    assert "over there" not in log and "ct2" not in log, "nothing of an identity goes to a log"


def test_a_file_of_users_is_checked_before_a_port_opens(make_stack):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    users(stack)
    checked = stack.command("gateway-out", "check", check=False)
    assert checked.returncode == 64 and "gateway-out.toml:" in checked.stderr and "user_identity" in checked.stderr
    with stack.edit("gateway-out") as out:
        out["dicom"]["user_identity"] = "accepted"
        file = Path(str(out["dicom"]["users"]))
    file.chmod(0o644)
    checked = stack.command("gateway-out", "check", check=False)
    assert checked.returncode == 64 and "chmod 600" in checked.stderr
    file.chmod(0o600)
    assert stack.command("gateway-out", "check").returncode == 0


@pytest.mark.parametrize(("configured", "proposed", "granted"), [(1, 5, None), (8, 5, 5), (8, 20, 8), (8, 0, 8), (0, 5, 5), (0, 0, 0)])
@pytest.mark.proves("out/association/async-window")
def test_the_window_of_asynchronous_operations_is_the_least_of_both(make_stack, configured, proposed, granted):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["dicom"]["async_operations"] = configured
    stack.start("gateway-out")
    said = fact(installed(stack, "gateway-out"), "out/association/async-window")["value"]
    assert said.split(":")[0] == {0: "any number"}.get(configured, str(configured))
    item = negotiate.item(negotiate.ASYNC, struct.pack(">HH", proposed, 3))
    answer = answer_to(stack.listen, request(stack.ae, [(1, CT, [EXPLICIT])], user_items=item))
    # We ask nothing of a peer while an answer is outstanding.
    assert answer.items.get(negotiate.ASYNC) == (None if granted is None else [struct.pack(">HH", granted, 1)])
    # Not answered where it was not proposed.
    assert negotiate.ASYNC not in answer_to(stack.listen, request(stack.ae, [(1, CT, [EXPLICIT])])).items


@pytest.mark.parametrize("passcode", [b"over there", None], ids=["name and passcode", "name"])
@pytest.mark.proves("in/association/user-identity", "in/association/async-window")
def test_what_is_configured_is_proposed_to_a_destination(make_stack, few, passcode):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-in") as receiving:
            table = stack.destination(receiving)
            table["async_operations"] = 4
            table["user"], table["linger"] = {"name": "sluis"}, "200ms"
            if passcode:
                file = stack.directory / "passcode"
                file.write_bytes(passcode + b"\n")
                file.chmod(0o600)
                table["user"]["passcode"] = str(file)
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
            stack.wait_settled()
            proposals = [negotiate.parse(1, body) for body in destination.requests]
            kind = NAME_AND_PASSCODE if passcode else NAME
            identity = bytes([kind, 0]) + sized(b"sluis") + sized(passcode or b"")
            assert proposals
            for proposal in proposals:
                assert proposal.items[negotiate.IDENTITY] == [identity]
                assert proposal.items[negotiate.ASYNC] == [struct.pack(">HH", 4, 1)]
            if passcode:
                before = len(destination.requests)
                file.write_bytes(b"changed\n")
                assert "count from the next start" not in stack.command("gateway-in", "reload").stdout
                time.sleep(1)
                assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
                stack.wait_settled()
                renewed = bytes([kind, 0]) + sized(b"sluis") + sized(b"changed")
                later = [negotiate.parse(1, body).items[negotiate.IDENTITY] for body in destination.requests[before:]]
                assert later and all(one == [renewed] for one in later), later
                # For a table that is another one by then it is not taken over: it may be meant for TLS, or for another node.
                file.write_bytes(b"next time\n")
                with stack.edit("gateway-in") as receiving:
                    stack.destination(receiving)["linger"] = "300ms"
                assert "count from the next start: destination" in stack.command("gateway-in", "reload").stdout
                before = len(destination.requests)
                time.sleep(1)
                assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
                stack.wait_settled()
                later = [negotiate.parse(1, body).items[negotiate.IDENTITY] for body in destination.requests[before:]]
                assert later and all(one == [renewed] for one in later), later
            assert "over there" not in stack.log_text("gateway-in")
        if passcode:
            file.chmod(0o644)
            checked = stack.command("gateway-in", "check", check=False)
            assert checked.returncode == 64 and "chmod 600" in checked.stderr


def sized(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def test_common_extended_negotiation_has_no_answer_and_changes_nothing(make_stack, prove):
    """A private class that says it belongs to the storage service is taken, as one that does not say so is."""
    stack = make_stack(to=f"NOBODY@{HOST}:9").start("gateway-out")
    private, storage, query = b"1.2.826.0.1.3680043.9.9999.1", b"1.2.840.10008.4.2", b"1.2.840.10008.4.1"
    row = prove("out/association/common-extended-negotiation")
    assert row["value"] == "tolerated"
    for service, related in [(storage, b""), (storage, sized(CT.encode())), (query, b"")]:
        item = negotiate.item(negotiate.COMMON_EXTENDED, sized(private) + sized(service) + sized(related))
        contexts = [(1, private.decode(), [EXPLICIT]), (3, CT, [EXPLICIT])]
        answer = answer_to(stack.listen, request(stack.ae, contexts, user_items=item))
        assert answer.accepted == {1: EXPLICIT, 3: EXPLICIT}
        assert negotiate.COMMON_EXTENDED not in answer.items
