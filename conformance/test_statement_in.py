"""The Conformance Statement of gateway-in, row by row on the wire: what it proposes, sends, and makes of each answer."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from harness import generate, negotiate, part10
from harness.part10 import Instance
from harness.processes import HOST, free_ports, wait_until
from harness.proofs import committed
from harness.rawul import Acceptor, Behaviour, Requestor
from harness.stack import Stack

CT, EXPLICIT = generate.CT_IMAGE, generate.EXPLICIT
PRIVATE_CLASS, PRIVATE_SYNTAX = "2.25.98765432109876543210987654321098765", "2.25.162534567823456789012345678901234567"


def quick(make_stack, address: str, **destination: object) -> Stack:
    stack = make_stack(to=address)
    stack.quick_retries()
    with stack.edit("gateway-in") as receiving:
        stack.destination(receiving).update(destination)
    return stack


def send(stack: Stack, instances: list[Instance]) -> None:
    """Raw, 128 contexts in an association; each must be answered 0000."""
    for at in range(0, len(instances), negotiate.CONTEXTS_MAX):
        part = instances[at : at + negotiate.CONTEXTS_MAX]
        contexts = {2 * number + 1: (one.sop_class, [one.transfer_syntax]) for number, one in enumerate(part)}
        link = Requestor(stack.listen, stack.ae, contexts)
        for number, one in enumerate(part):
            assert link.store(2 * number + 1, one.sop_class, one.sop_instance, one.data_set()) == 0, one
        link.release()


def one_study(directory: Path, classes: list[tuple[str, str]], seed: int) -> list[Instance]:
    """An instance of each (SOP class, transfer syntax), all of one study."""
    source = random.Random(seed)
    study, series, made = generate.uid(source), generate.uid(source), []
    for number, (sop_class, syntax) in enumerate(classes, 1):
        name = generate.uid(source)
        encoded = generate.data_set(sop_class, name, study, series, syntax, number, side=8, seed=seed * 1000 + number)
        made.append(part10.write(directory / f"{number:05}.dcm", sop_class, name, syntax, encoded))
    return made


def parked(stack: Stack) -> dict[str, dict]:
    return {row["delivery"]: row for row in stack.queue() if "parked" in str(row).lower()}


# -- what is proposed -----------------------------------------------------------------------------------------------


def test_each_class_and_each_syntax_is_proposed_and_delivered(make_stack, prove, tmp_path):
    """Every class once and every syntax at least once, as one study: one association after another, more contexts in each."""
    storage = committed("gateway-in")["storage"]
    classes = [prove(row["claim"])["uid"] for row in storage["sop_classes"]] + [PRIVATE_CLASS]
    syntaxes = [prove(row["claim"])["uid"] for row in storage["transfer_syntaxes"]] + [PRIVATE_SYNTAX]
    assert prove("in/sop-class/other")["accepted"] and prove("in/transfer-syntax/other")["accepted"]
    assert len(classes) > len(syntaxes)
    pairs = [(one, syntaxes[number % len(syntaxes)]) for number, one in enumerate(classes)]
    sent = one_study(tmp_path / "in", pairs, 81)
    with Acceptor() as destination, quick(make_stack, destination.address) as stack:
        send(stack, sent)
        stack.wait_settled()
        arrived = {one.sop_instance: (one.sop_class, one.transfer_syntax, one.digest) for one in destination.arrivals}
        assert arrived == {one.sop_instance: (one.sop_class, one.transfer_syntax, one.digest()) for one in sent}
        assert len(destination.arrivals) == len(sent)
        proposed = destination.proposed
    assert {pair for request in proposed for pair in [(one, syntaxes[0]) for one, syntaxes in request]} == set(pairs)
    assert all(len(syntaxes) == int(prove("in/association/syntaxes")["value"]) for request in proposed for _, syntaxes in request)
    most = int(prove("in/association/contexts-max")["value"].removeprefix("up to "))
    assert max(len(request) for request in proposed) == most
    for row in ("in/choice/as-received", "in/service/storage", "in/storage/coercion", "in/storage/transcoding"):
        prove(row)
    for body in destination.requests:
        asks_for_nothing_else(negotiate.parse(1, body), prove)


def asks_for_nothing_else(asked: negotiate.Answer, prove) -> None:
    found = dict(asked.items)
    assert asked.application_context == prove("in/association/application-context")["value"]
    assert found.pop(negotiate.CLASS_UID) == [prove("in/association/implementation-class-uid")["value"].encode()]
    assert found.pop(negotiate.VERSION_NAME) == [prove("in/association/implementation-version-name")["value"].encode()]
    assert found.pop(negotiate.MAX_LENGTH) == [struct.pack(">I", int(prove("in/association/max-pdu")["value"]))]
    for row in ("async-window", "role-selection", "extended-negotiation", "user-identity"):
        assert prove(f"in/association/{row}")["value"] == "not proposed"
    # Plain by default: the first byte was that of an A-ASSOCIATE-RQ, not of a TLS record.
    prove("in/security/plain")
    assert not found, f"items that the statement does not have: {found}"


@pytest.mark.proves("in/storage/move-originator")
def test_priority_and_move_originator_are_passed_on(make_stack, few):
    one = few[0]
    with Acceptor() as destination, quick(make_stack, destination.address) as stack:
        link = Requestor(stack.listen, stack.ae, {1: (one.sop_class, [one.transfer_syntax])})
        assert link.store(1, one.sop_class, one.sop_instance, one.data_set(), originator=("MOVER", 9)) == 0
        link.release()
        stack.wait_settled()
        [arrival] = destination.arrivals
        assert arrival.command[0x1030].decode().strip() == "MOVER"
        assert struct.unpack("<H", arrival.command[0x1031])[0] == 9
        assert struct.unpack("<H", arrival.command[0x0700])[0] == 2  # as rawul sends it: LOW


def test_pdus_and_associations_stay_within_their_limits(make_stack, prove, tmp_path):
    """Eight studies for a slow destination that would take any PDU."""
    limit, most = (int(prove(f"in/association/{row}")["value"]) for row in ("max-pdu-sent", "associations-max"))
    studies = [generate.study(tmp_path / f"{seed}", 2, seed, side=512) for seed in range(90, 98)]

    def behave(_uid: str, _seen: int) -> Behaviour:
        return Behaviour(delay_seconds=0.15)

    with Acceptor(behave=behave, max_pdu=0) as destination, quick(make_stack, destination.address, linger="1s") as stack:
        send(stack, [one for study in studies for one in study])
        stack.wait_settled()
        assert destination.longest_pdu == limit
        assert destination.open_most == most
        last = max(arrival.at for arrival in destination.arrivals)
        prove("in/timer/linger")
        wait_until("the last association to be released", lambda: destination.releases and destination.releases[-1] > last, 5, stack.logs)


# -- what follows from an answer ------------------------------------------------------------------------------------


def test_what_follows_from_each_status(make_stack, prove, tmp_path):
    """One instance for each row of the table, all at once; the destination answers its status first, and 0000 if it is asked again."""
    rows = [row for row in committed("gateway-in")["outcomes"] if row["operation"] == "C-STORE"]
    sent = generate.study(tmp_path / "in", len(rows), seed=82, side=8)
    codes = {one.sop_instance: status_of(row["status"]) for one, row in zip(sent, rows, strict=True)}
    again = next(one.sop_instance for one, row in zip(sent, rows, strict=True) if row["claim"].endswith("0111-again"))

    def behave(uid: str, seen: int) -> Behaviour:
        if uid == again and seen == 0:
            return Behaviour(silent=True)
        return Behaviour(status=codes[uid] if seen == 0 or uid == again else 0)

    with Acceptor(behave=behave) as destination, quick(make_stack, destination.address, response_timeout="1s") as stack:
        send(stack, sent)
        refused = [row for row in rows if row["follows"].startswith("refused")]
        wait_until("only what was refused in the queue", lambda: len(parked(stack)) == len(stack.queue()) == len(refused), 30, stack.logs, 0.3)
        receipts = {receipt["delivery"]: receipt for receipt in stack.receipts()}
        for one, row in zip(sent, rows, strict=True):
            prove(row["claim"])
            [delivery] = stack.why(one.sop_instance)
            code, attempts = f"{codes[one.sop_instance]:04X}", destination.attempts[one.sop_instance]
            match row["follows"].split(":")[0]:
                case "stored":
                    assert attempts == (2 if one.sop_instance == again else 1), row
                    assert code in str(receipts[delivery["delivery"]]).upper(), row
                case "refused":
                    assert attempts == 1 and code in str(parked(stack)[delivery["delivery"]]).upper(), row
                case "deferred":
                    assert attempts == 2 and delivery["delivery"] in receipts, row


def status_of(pattern: str) -> int:
    """A status that the row's pattern stands for; of a range not its first, of everything else one that no table has."""
    return 0xFE00 if pattern == "any other" else int(pattern.replace("x", "7"), 16)


@pytest.mark.proves(
    "in/failure/unreachable", "in/timer/probe", "in/service/verification", "in/outcome/echo", "in/failure/rejected-permanent",
    "in/failure/rejected-transient", "in/failure/interrupted", "in/failure/unknown", "in/failure/context-not-accepted",
    "in/timer/response",
)  # fmt: skip
def test_what_follows_where_no_status_comes(make_stack, tmp_path):
    """Off at first, then it rejects, aborts within a data set, is silent after another, and refuses one SOP class."""
    sent = generate.study(tmp_path / "in", 3, seed=83, side=128)
    # So large that its last fragment has not left when the abort comes.
    sent += generate.study(tmp_path / "large", 1, seed=86, side=2048)
    odd = generate.study(tmp_path / "odd", 1, seed=84, side=8, sop_class=PRIVATE_CLASS)
    at_the_end, in_the_middle = sent[1].sop_instance, sent[3].sop_instance

    def behave(uid: str, seen: int) -> Behaviour:
        if uid == in_the_middle and seen == 0:
            return Behaviour(abort_after_bytes=5000)
        return Behaviour(silent=uid == at_the_end and seen == 0)

    port = free_ports()
    with quick(make_stack, f"LATE@{HOST}:{port}", response_timeout="1s") as stack:
        send(stack, sent + odd)
        wait_until("the destination to be known as down", lambda: "destination is down" in stack.log_text("gateway-in"), 15, stack.logs)
        assert stack.receipts() == []
        with Acceptor("LATE", behave, port) as destination:
            destination.refused_classes = {PRIVATE_CLASS}
            # While it counts as down nothing but C-ECHO comes; then what is to be stored.
            destination.rejections = [None, (1, 1, 3), (2, 3, 2)]
            wait_until("all but one to be settled", lambda: len(stack.queue()) == len(parked(stack)) == 1, 40, stack.logs, 0.3)
            assert destination.rejections == []
            [row] = parked(stack).values()
            assert "0122" in str(row)
            arrived = {arrival.sop_instance: arrival.digest for arrival in destination.arrivals}
            assert arrived == {one.sop_instance: one.digest() for one in sent}
            assert destination.attempts[in_the_middle] == 2 and destination.attempts[at_the_end] == 2
            assert destination.echoes and destination.echoes[0] < min(arrival.at for arrival in destination.arrivals)
            said = stack.log_text("gateway-in")
            for words in ("rejected for good", "rejected for now", "ended before the instance was sent", "no answer after the instance"):
                assert words in said, words


@pytest.mark.proves("in/timer/connect")
def test_a_destination_that_never_answers_the_association(make_stack, few):
    """It takes connections and says nothing: each is given up after `connect_timeout`."""
    ended: list[float] = []
    with socket.create_server((HOST, 0)) as silent:

        def serve() -> None:
            while True:
                try:
                    link, _ = silent.accept()
                except OSError:
                    return
                began = time.monotonic()
                with link:
                    while link.recv(65536):
                        pass
                ended.append(time.monotonic() - began)

        threading.Thread(target=serve, daemon=True).start()
        address = f"MUTE@{HOST}:{silent.getsockname()[1]}"
        with quick(make_stack, address, connect_timeout="500ms") as stack:
            send(stack, few[:1])
            wait_until("an association to be given up", lambda: ended, 15, stack.logs)
            assert 0.3 < ended[0] < 5
            assert len(stack.queue()) == 1 and not parked(stack)
