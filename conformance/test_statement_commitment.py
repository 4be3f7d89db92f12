"""Storage Commitment in gateway-out's statement: every answer to an N-ACTION, and every reason for an instance that is not committed."""

from __future__ import annotations

import os
import signal
import struct

import tomlkit

from harness import generate, negotiate, senders
from harness.commitment import Asker
from harness.part10 import Instance
from harness.processes import HOST, wait_until
from harness.rawul import Acceptor, Requestor, _command, _padded, _short, pdv
from harness.stack import Stack

CLASS, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
CONTEXTS = {2: (CLASS, [negotiate.IMPLICIT])}


def with_askers(stack: Stack, *titles: str, port: int = 9, **options: object) -> Stack:
    with stack.edit("gateway-out") as out:
        out["commitment"] = tomlkit.aot()
        for title in titles:
            entry = tomlkit.table()
            entry.update({"ae": title, "address": f"{HOST}:{port}", **options})
            out["commitment"].append(entry)
    return stack


def element(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def information(transaction: str | None, *references: tuple[str, str]) -> bytes:
    """The data set of an N-ACTION, in Implicit VR Little Endian."""
    items = b""
    for sop_class, instance in references:
        item = element(0x0008, 0x1150, _padded(sop_class, b"\0")) + element(0x0008, 0x1155, _padded(instance, b"\0"))
        items += struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    named = element(0x0008, 0x1195, _padded(transaction, b"\0")) if transaction else b""
    return named + element(0x0008, 0x1199, items)


def action(link: Requestor, data: bytes | None, sop_class: str = CLASS, instance: str = WELL_KNOWN, kind: int = 1) -> tuple[str, str | None]:
    """Status and comment of the answer."""
    fields = {
        0x0003: _padded(sop_class, b"\0"),
        0x0100: _short(0x0130),
        0x0110: _short(1),
        0x0800: _short(0x0101 if data is None else 1),
        0x1001: _padded(instance, b"\0"),
        0x1008: _short(kind),
    }
    link.send_pdata(pdv(2, 3, _command(fields)))
    if data is not None:
        link.data(2, data)
    answer = link.response()
    comment = answer[0x0902].decode().strip() if 0x0902 in answer else None
    return f"{struct.unpack('<H', answer[0x0900])[0]:04X}", comment


def test_each_answer_to_a_request_for_commitment(make_stack, prove, few):
    stack = with_askers(make_stack(to=f"NOBODY@{HOST}:9"), "MODALITY", "LEAVES", open_max=1, instances_max=2).start("gateway-out")
    row = prove("out/service/storage-commitment")
    assert negotiate.accepted_pairs(stack.listen, stack.ae, [(row["sop_class"], negotiate.IMPLICIT)], "STRANGER") == {(CLASS, negotiate.IMPLICIT): 3}
    link = Requestor(stack.listen, stack.ae, CONTEXTS, calling="MODALITY")
    leaving = Requestor(stack.listen, stack.ae, CONTEXTS, calling="LEAVES")
    one, two, three = ((instance.sop_class, instance.sop_instance) for instance in few[:3])
    asked, taken, refused = "2.25.1001", "out/answer/action-taken", "out/answer/action-"

    def answer(claim: str, found: tuple[str, str | None]) -> None:
        row = prove(claim)
        assert found == (row["status"], row["comment"]), claim

    answer(refused + "this-sop-class-has-no-action-here", action(link, None, sop_class=generate.CT_IMAGE))
    answer(refused + "not-the-well-known-sop-instance", action(link, information(asked, one), instance="1.2.3"))
    answer(refused + "only-action-type-1-is-known", action(link, information(asked, one), kind=2))
    answer(refused + "action-information-is-missing", action(link, None))
    answer(refused + "action-information-cannot-be-read", action(link, b"\xff" * 60))
    answer(refused + "transaction-uid-or-a-reference-is-not-valid", action(link, information(None, one)))
    answer(refused + "an-instance-is-named-with-two-sop-classes", action(link, information(asked, one, ("1.2.840.10008.5.1.4.1.1.4", one[1]))))
    answer(refused + "too-many-instances-ask-in-several-transactions", action(link, information(asked, one, two, three)))
    answer(taken, action(link, information(asked, one, two)))
    answer(taken, action(link, information(asked, two, one)))
    answer(refused + "transaction-uid-is-in-use-for-other-instances", action(link, information(asked, one)))
    answer(refused + "too-many-open-transactions", action(link, information("2.25.1002", one)))
    with stack.edit("gateway-out") as out:
        del out["commitment"][1]
    os.kill(stack["gateway-out"].pid, signal.SIGHUP)

    def gone() -> bool:
        pair = (CLASS, negotiate.IMPLICIT)
        return negotiate.accepted_pairs(stack.listen, stack.ae, [pair], "LEAVES")[pair] == 3

    wait_until("the other peer to be gone", gone, 10, stack.logs)
    answer(refused + "this-ae-title-may-not-ask-for-commitment", action(leaving, information("2.25.1003", one)))
    link.release()
    leaving.release()


def test_a_class_that_the_destination_does_not_take_has_its_reason(make_stack, prove, few):
    one: Instance = few[0]
    with Acceptor() as destination, Asker(listens=True) as asker:
        destination.refused_classes = {one.sop_class}
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with with_askers(stack, asker.ae, port=asker.port):
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one], calling=asker.ae) == {one.sop_instance: 0}
            report = asker.wait(asker.ask(stack.listen, stack.ae, [one]), stack.logs)
            code = int(prove("out/failure-reason/0122")["name"], 16)
            assert (report.event_type, report.failed) == (2, {one.sop_instance: code})
