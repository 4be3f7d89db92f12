"""The Conformance Statement of gateway-out, row by row on the wire: what it accepts, refuses, answers, rejects and aborts."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time

import pytest

from harness import generate, negotiate
from harness.negotiate import EXPLICIT, IMPLICIT, VERIFICATION, answer_to, ask, request
from harness.part10 import Instance
from harness.processes import HOST, run, wait_until
from harness.proofs import ROLES, STATEMENTS, committed
from harness.rawul import Rejected, Requestor, _command, _padded, _pdu, _short, pdv, receive_pdu
from harness.stack import Stack, binary

CT, MR = generate.CT_IMAGE, "1.2.840.10008.5.1.4.1.1.4"
JPEG, J2K, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"
DEFLATED, BIG_ENDIAN, JPIP = generate.DEFLATED, generate.BIG_ENDIAN, "1.2.840.10008.1.2.4.94"
PRIVATE_CLASS, PRIVATE_SYNTAX = "2.25.98765432109876543210987654321098765", "2.25.162534567823456789012345678901234567"
STATUS, COMMENT = 0x0900, 0x0902


@pytest.fixture
def out(make_stack) -> Stack:
    """gateway-out alone: what it says to its peers needs nobody behind it."""
    return make_stack(to=f"NOBODY@{HOST}:9").start("gateway-out")


# -- the documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_program_writes_the_committed_statement(role):
    """What the other tests read is what the binary says of itself, in each of its forms."""
    for form in ("md", "html", "json"):
        said = run([binary(role), "conformance", "--without-build", "--format", form]).stdout
        file = STATEMENTS / f"{role}.{form}"
        assert said == file.read_text(), f"{file.name} is another one: run conformance/statement/refresh"


@pytest.mark.parametrize("role", ROLES)
def test_a_statement_names_the_exact_build(role):
    build = json.loads(run([binary(role), "conformance", "--format", "json"]).stdout)["build"]
    digest = run(["sha256sum", binary(role)]).stdout.split()[0]
    assert build["sha256"] == digest
    assert digest in run([binary(role), "conformance"]).stdout


def test_a_configured_statement_shows_its_values_and_no_address(make_stack):
    stack = make_stack(to=f"ARCHIVE@{HOST}:1104")
    with stack.edit("gateway-out") as out:
        out["dicom"]["max_pdu"] = 65536
        out["route"][0]["calling"] = ["SECRETCT"]
    said = stack.command("gateway-out", "conformance", "--without-build").stdout
    assert "65536" in said and f"`{stack.ae}`" in said and "1 listed" in said
    assert "SECRETCT" not in said and "outbox.key" not in said
    said = stack.command("gateway-in", "conformance", "--without-build").stdout
    assert "ARCHIVE" in said and "1104" not in said


def test_diff_names_what_a_far_end_refuses(tmp_path):
    other = tmp_path / "other.json"
    row = {"sop_class": CT, "transfer_syntaxes": [EXPLICIT, IMPLICIT]}
    other.write_text(json.dumps({"name": "ARCHIVE", "accepts": [row]}))
    done = run([binary("gateway-in"), "conformance", "diff", other], check=False)
    assert done.returncode == 1 and "MR Image Storage" in done.stdout and "in every transfer syntax" in done.stdout
    found = json.loads(run([binary("gateway-in"), "conformance", "diff", other, "--json"], check=False).stdout)
    classes = committed("gateway-in")["storage"]["sop_classes"]
    assert {one["sop_class"] for one in found["they_refuse"]} == {one["uid"] for one in classes}
    [ct] = [one for one in found["they_refuse"] if one["sop_class"] == CT]
    assert not ct["wholly"] and JPEG in ct["transfer_syntaxes"] and EXPLICIT not in ct["transfer_syntaxes"]
    # A gateway takes whatever another one carries.
    done = run([binary("gateway-in"), "conformance", "diff", STATEMENTS / "gateway-out.json"])
    assert "nothing" in done.stdout
    other.write_text("{}")
    done = run([binary("gateway-in"), "conformance", "diff", other], check=False)
    assert done.returncode == 1 and "neither a Sluis statement" in done.stderr


# -- SOP classes and transfer syntaxes ------------------------------------------------------------------------------


def test_each_class_is_accepted_in_each_syntax(out, prove):
    storage = committed("gateway-out")["storage"]
    classes = [prove(row["claim"])["uid"] for row in storage["sop_classes"]] + [PRIVATE_CLASS]
    syntaxes = [prove(row["claim"])["uid"] for row in storage["transfer_syntaxes"]] + [PRIVATE_SYNTAX]
    assert prove("out/sop-class/other")["accepted"] and prove("out/transfer-syntax/other")["accepted"]
    pairs = [(one, syntax) for one in classes for syntax in syntaxes]
    results = negotiate.accepted_pairs(out.listen, out.ae, pairs)
    refused = {pair: result for pair, result in results.items() if result != 0}
    assert len(results) == len(pairs) and not refused, f"{len(refused)} of {len(pairs)}: {list(refused.items())[:3]}"
    prove("out/context/acceptance")
    prove("out/service/storage")


def test_each_other_class_of_the_standard_is_refused(out, prove):
    refused = [prove(row["claim"])["uid"] for row in committed("gateway-out")["storage"]["refused_sop_classes"]]
    results = negotiate.accepted_pairs(out.listen, out.ae, [(one, IMPLICIT) for one in refused])
    result = prove("out/context/abstract-syntax-not-supported")["result"]
    assert len(results) == len(refused) and set(results.values()) == {result}
    assert negotiate.accepted_pairs(out.listen, out.ae, [(VERIFICATION, IMPLICIT)]) == {(VERIFICATION, IMPLICIT): 0}


def test_private_classes_are_refused_where_a_route_says_so(make_stack):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["route"][0]["private_sop_classes"] = False
    stack.start("gateway-out")
    results = negotiate.accepted_pairs(stack.listen, stack.ae, [(PRIVATE_CLASS, IMPLICIT), (CT, IMPLICIT)])
    assert results == {(PRIVATE_CLASS, IMPLICIT): 3, (CT, IMPLICIT): 0}


@pytest.mark.proves("out/choice/no-loss", "out/choice/prefer", "out/choice/rank", "out/choice/order")
def test_one_of_several_syntaxes_is_chosen_as_stated(make_stack):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    stack.add_route("PREFERS", "elsewhere", kind="folder", dir="elsewhere")
    with stack.edit("gateway-out") as out:
        out["route"][1]["prefer"] = [IMPLICIT, J2K]
    stack.start("gateway-out")
    cases = [
        (stack.ae, [IMPLICIT, EXPLICIT], EXPLICIT),
        (stack.ae, [JPEG, EXPLICIT], EXPLICIT),
        (stack.ae, [JPEG, DEFLATED], DEFLATED),
        (stack.ae, [IMPLICIT, RLE], RLE),
        (stack.ae, [DEFLATED, IMPLICIT], IMPLICIT),
        (stack.ae, [BIG_ENDIAN, DEFLATED], DEFLATED),
        (stack.ae, [PRIVATE_SYNTAX, BIG_ENDIAN], BIG_ENDIAN),
        (stack.ae, [JPIP, JPEG], JPEG),
        (stack.ae, [JPEG, J2K, PRIVATE_SYNTAX], JPEG),
        (stack.ae, [PRIVATE_SYNTAX, J2K, JPEG], PRIVATE_SYNTAX),
        ("PREFERS", [EXPLICIT, IMPLICIT], IMPLICIT),
        ("PREFERS", [JPEG, J2K], J2K),
        ("PREFERS", [J2K, EXPLICIT], EXPLICIT),
    ]
    for called, offered, wanted in cases:
        answer = answer_to(stack.listen, request(called, [(1, CT, offered)]))
        assert answer.results[1] == (0, wanted), (called, offered)


# -- the association ------------------------------------------------------------------------------------------------


def test_association_parameters_are_those_of_the_answer(out, prove):
    said = prove("out/association/async-window")["value"]
    items = negotiate.item(negotiate.ASYNC, struct.pack(">HH", 5, 5))
    items += negotiate.role_item(CT, 1, 1) + negotiate.extended_item(CT, bytes([2, 0, 3, 0, 1, 0]))
    items += negotiate.item(negotiate.COMMON_EXTENDED, _sized(CT) + _sized("1.2.840.10008.4.2") + struct.pack(">H", 0))
    items += negotiate.identity_item(2, b"user", b"secret")
    answer = answer_to(out.listen, request(out.ae, [(1, CT, [EXPLICIT]), (2, MR, [EXPLICIT])], user_items=items))
    assert answer.accepted == {1: EXPLICIT, 2: EXPLICIT}
    prove("out/association/even-context-ids")
    assert answer.application_context == prove("out/association/application-context")["value"]
    found = {kind: [value for value in values] for kind, values in answer.items.items()}
    assert found.pop(negotiate.CLASS_UID) == [prove("out/association/implementation-class-uid")["value"].encode()]
    assert found.pop(negotiate.VERSION_NAME) == [prove("out/association/implementation-version-name")["value"].encode()]
    assert found.pop(negotiate.MAX_LENGTH) == [struct.pack(">I", int(prove("out/association/max-pdu")["value"]))]
    assert prove("out/association/role-selection")["value"].startswith("SCU is confirmed, SCP is not")
    assert found.pop(negotiate.ROLE) == [_sized(CT) + bytes([1, 0])]
    if not said.startswith("1:"):
        assert found.pop(negotiate.ASYNC) == [struct.pack(">HH", min(5, int(said) or 5), 1)]
    for row, said, kind in (("extended-negotiation", "not answered", negotiate.EXTENDED), ("user-identity", "ignored", negotiate.IDENTITY_ANSWER)):
        assert prove(f"out/association/{row}")["value"] == said and kind not in found
    prove("out/association/common-extended-negotiation")
    assert not found, f"items that the statement does not have: {found}"


def _sized(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def test_contexts_that_cannot_be_decided_about(out, prove):
    contexts = [(0, CT, [EXPLICIT]), (1, CT, [EXPLICIT]), (1, MR, [EXPLICIT]), (3, CT, ["no uid"]), (5, CT, [EXPLICIT])]
    answer = answer_to(out.listen, request(out.ae, contexts))
    no_reason, no_syntax = (prove(f"out/context/{row}")["result"] for row in ("no-reason", "transfer-syntaxes-not-supported"))
    results = {number: result for number, (result, _) in answer.results.items()}
    assert results == {0: no_reason, 1: no_reason, 3: no_syntax, 5: 0}


def test_who_is_turned_away(make_stack, prove):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["route"][0].update({"calling": ["CT1"], "sources": [f"{HOST}/32"]})
        out["dicom"]["associations_max"] = 3
        out["dicom"]["associations_per_peer_max"] = 2
    stack.start("gateway-out")
    contexts, ae = [(1, CT, [EXPLICIT])], stack.ae

    def rejected(claim: str, pdu: bytes, source: str = HOST) -> None:
        row = prove(f"out/rejection/{claim}")
        assert answer_to(stack.listen, pdu, source).triple == (row["result"], row["source"], row["reason"]), claim

    rejected("called", request("OTHER", contexts, "CT1"))
    rejected("calling", request(ae, contexts, "CT2"))
    rejected("source", request(ae, contexts, "CT1"), "127.0.0.2")
    rejected("unreadable-protocol-version", request(ae, contexts, "CT1", version=2))
    rejected("unreadable-application-context", request(ae, contexts, "CT1", application_context=b"1.2.3"))
    rejected("unreadable-application-context", request(ae, contexts, "CT1", application_context=None))
    rejected("unreadable-called-title", request(bytes(16), contexts, "CT1"))
    rejected("unreadable-calling-title", request(ae, contexts, b" " * 16))
    # As many as are allowed from one address, then as many as are allowed in all.
    prove("out/association/associations-per-peer-max"), prove("out/association/associations-max")

    def admitted() -> socket.socket | None:
        """Those that were rejected above count until gateway-out has seen that their connections are closed."""
        link, answer = ask(stack.listen, request(ae, contexts, "CT1"))
        if answer.kind == 2:
            return link
        link.close()
        return None

    held = [wait_until("room for an association", admitted, 5, stack.logs) for _ in range(2)]
    rejected("crowded", request(ae, contexts, "CT1"))
    for link in held:
        link.close()
    wait_until("room for another association", admitted, 5, stack.logs).close()


def test_the_limit_of_all_associations(make_stack):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["route"][0]["sources"] = ["127.0.0.0/8"]
        out["dicom"]["associations_max"] = 3
    stack.start("gateway-out")
    pdu = request(stack.ae, [(1, CT, [EXPLICIT])])
    held = [ask(stack.listen, pdu, f"127.0.0.{number}")[0] for number in (1, 2, 3)]
    assert answer_to(stack.listen, pdu, "127.0.0.4").triple == (2, 3, 2)
    for link in held:
        link.close()


def test_what_is_aborted(make_stack, prove):
    """Also by time: all three limits are set to a second, and three associations wait for them side by side."""
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["dicom"].update({"handshake_timeout": "1s", "idle_timeout": "1s", "progress_timeout": "1s"})
    stack.start("gateway-out")
    pdu = request(stack.ae, [(1, CT, [EXPLICIT])])

    def ends(link: socket.socket, claim: str) -> None:
        kind, body = receive_pdu(link)
        link.close()
        row = prove(f"out/abort/{claim}")
        assert (kind, body[2], body[3]) == (7, row["source"], row["reason"]), claim

    def fresh(sent: bytes) -> socket.socket:
        link = socket.create_connection((HOST, stack.listen), 10)
        link.sendall(sent)
        return link

    def associated(sent: bytes) -> socket.socket:
        link, answer = ask(stack.listen, pdu, seconds=10)
        assert answer.kind == 2
        link.sendall(sent)
        return link

    ends(fresh(struct.pack(">BBI", 99, 0, 4) + bytes(4)), "unrecognized-pdu")
    ends(fresh(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)), "unrecognized-pdu")
    prove("out/security/plain-port")
    ends(fresh(_pdu(5, bytes(4))), "unexpected-pdu")
    ends(associated(_pdu(4, pdv(1, 2, b"data"))), "unexpected-pdu")
    ends(associated(_pdu(4, pdv(3, 3, b"none"))), "invalid-pdu-parameter")
    ends(associated(struct.pack(">BBI", 4, 0, (1 << 20) + 7)), "invalid-pdu-parameter")
    waiting = {"handshake": fresh(pdu[:20]), "idle": associated(b""), "progress": associated(_pdu(4, pdv(1, 3, b"x"))[:9])}
    began = time.monotonic()
    for timer, link in waiting.items():
        prove(f"out/timer/{timer}")
        ends(link, "not-specified")
    assert 0.5 < time.monotonic() - began < 8
    idle = associated(b"")
    stopping = threading.Thread(target=stack["gateway-out"].stop)
    stopping.start()
    ends(idle, "service-user")
    stopping.join()


# -- statuses -------------------------------------------------------------------------------------------------------


def answered(row: dict, response: dict[int, bytes]) -> None:
    """The response has the row's status, and its comment."""
    comment = response[COMMENT].decode().strip() if COMMENT in response else None
    status = struct.unpack("<H", response[STATUS])[0]
    assert (f"{status:04X}", comment) == (row["status"], row["comment"]), row["claim"]


def stored(link: Requestor, instance: Instance, data_set: bytes | None = None, context: int = 1, **named: str) -> dict[int, bytes]:
    link.begin(context, named.get("sop_class", instance.sop_class), named.get("sop_instance", instance.sop_instance))
    link.data(context, instance.data_set() if data_set is None else data_set)
    return link.response()


def command(link: Requestor, context: int, fields: dict[int, bytes]) -> dict[int, bytes]:
    link.send_pdata(pdv(context, 3, _command(fields)))
    return link.response()


def test_each_answer_to_what_is_sent(make_stack, prove, few):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    stack.add_route("REFUSES", "elsewhere", kind="folder", dir="elsewhere")
    with stack.edit("gateway-out") as out:
        out["route"][1]["changed_content"] = "refuse"
    stack.add_route("RULED", "nowhere", kind="folder", dir="nowhere")
    with stack.edit("gateway-out") as out:
        out["route"][2]["when"] = 'Modality == "NONE"'
    stack.start("gateway-out")
    contexts = {1: (CT, [EXPLICIT]), 3: (VERIFICATION, [IMPLICIT]), 5: (MR, [EXPLICIT])}
    link = Requestor(stack.listen, stack.ae, contexts)
    one, other = few[:2]
    whole = one.data_set()
    store = {0x0002: _padded(CT, b"\0"), 0x0100: _short(1), 0x0110: _short(99), 0x0700: _short(0)}
    without_data, with_data = {0x0800: _short(0x0101)}, {0x0800: _short(1)}
    instance = {0x1000: _padded(one.sop_instance, b"\0")}

    def answer(row: str, response: dict[int, bytes]) -> None:
        answered(prove(f"out/answer/{row}"), response)

    answer("class-mismatch", stored(link, one, context=5, sop_class=MR))
    answer("instance-mismatch", stored(link, one, sop_instance=other.sop_instance))
    answer("truncated", stored(link, one, whole[:-100]))
    answer("unreadable", stored(link, one, whole[:200] + b"\xff" * 40 + whole[240:]))
    answer("missing", command(link, 1, {**store, **instance, **without_data}))
    answer("missing", stored(link, one, b""))
    answer("unusable-sop-instance", command(link, 1, {**store, **without_data}))
    answer("unusable-sop-class", command(link, 3, {**store, **instance, **without_data}))
    find = {**store, 0x0100: _short(0x0020), **without_data}
    answer("other-operation", command(link, 1, find))
    echo = {0x0002: _padded(VERIFICATION, b"\0"), 0x0100: _short(0x0030), 0x0110: _short(7), **without_data}
    answer("echo", command(link, 3, echo))
    prove("out/service/verification")
    assert stack.queue() == [], "something that was refused is kept"
    answer("accepted", stored(link, one))
    link.release()
    assert len(stack.queue()) == 1
    link = Requestor(stack.listen, "REFUSES", contexts)
    assert struct.unpack("<H", stored(link, one)[STATUS])[0] == 0
    answer("changed-content", stored(link, one, whole[:-2] + b"\0\0"))
    link.release()
    link = Requestor(stack.listen, "RULED", contexts)
    answer("no-route", stored(link, one))
    link.release()


def test_an_outbox_that_fails_or_is_full_says_so(make_stack, prove, tmp_path):
    many = generate.study(tmp_path / "in", 24, seed=5, side=160)
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["outbox"]["bytes_max"] = "1 MiB"
    stack.start("gateway-out")
    link = Requestor(stack.listen, stack.ae, {1: (CT, [EXPLICIT])})
    objects = stack.directory / "outbox" / "objects"
    away = objects.rename(objects.with_name("away"))
    answered(prove("out/answer/outbox-failed"), stored(link, many[0]))
    away.rename(objects)
    full = prove("out/answer/outbox-full")
    accepted = 0
    for one in many:
        response = stored(link, one)
        if struct.unpack("<H", response[STATUS])[0] != 0:
            answered(full, response)
            break
        accepted += 1
    assert 0 < accepted < len(many)
    row = prove("out/rejection/outbox-full")
    with pytest.raises(Rejected) as turned_away:
        Requestor(stack.listen, stack.ae, {1: (CT, [EXPLICIT])})
    assert turned_away.value.triple == (row["result"], row["source"], row["reason"])
    link.release()
    assert len(stack.queue()) == accepted


def test_what_is_not_delivered_in_time(make_stack, prove, few):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    stack.respond_when_delivered()
    with stack.edit("gateway-out") as out:
        out.setdefault("retry", {})["delivered_timeout"] = "500ms"
    stack.start("gateway-out")
    link = Requestor(stack.listen, stack.ae, {1: (CT, [EXPLICIT])})
    answered(prove("out/answer/not-delivered"), stored(link, few[0]))
    link.release()
    assert stack.queue() == []
