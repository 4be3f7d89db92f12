"""`reencode = "syntax-only"`: Implicit, Explicit and Deflated Little Endian become each other where a destination takes only one of them;
never pixels, never silently. The receipt has both syntaxes and both digests."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import tomlkit
import verify_receipt
from verify_receipt import Card

from harness import generate, part10, senders
from harness.generate import CT_IMAGE, DEFLATED, EXPLICIT, IMPLICIT
from harness.part10 import Instance
from harness.picky import Picky
from harness.processes import HOST, wait_until
from harness.rawul import Acceptor, Requestor
from harness.stack import Stack, delivery_id

MIB = 1 << 20
GATEWAY_RSS_MAX = 96 * MIB
SYNTAX_ONLY = {"reencode": "syntax-only"}
BASELINE = "1.2.840.10008.1.2.4.50"


def choosy(make_stack, tmp_path: Path, takes: dict[str, list[str]], **destination: object) -> tuple[Stack, dict[str, Picky]]:
    """A route to a storescp for each AE title, which takes CT images in these transfer syntaxes only."""
    for title in takes:
        (tmp_path / title).mkdir()
    destinations = {title: Picky(tmp_path / title, {CT_IMAGE: syntaxes}, title) for title, syntaxes in takes.items()}
    [first, *_] = destinations.values()
    stack = make_stack(to=first.address)
    for title, one in destinations.items():
        stack.add_route(title, title.lower(), kind="dicom", ae=title, address=f"{HOST}:{one.port}", calling="SLUISIN", **{**SYNTAX_ONLY, **destination})
    stack.quick_retries()
    for one in destinations.values():
        one.start()
    return stack, destinations


@pytest.fixture
def ended(request):
    """Ends the destinations of a test."""
    ending: list = []
    yield ending
    for one in ending:
        one.stop()


def arrived(destination, one: Instance, stack: Stack) -> Instance:
    """The file of an instance once the sender owes nothing."""
    stack.wait_settled()
    found = wait_until("the instance", lambda: {i.sop_instance: i for i in part10.find(destination.out)}.get(one.sop_instance), 30, stack.logs)
    wait_until("all of it", lambda: one.sop_instance in destination.arrived(), 30, stack.logs)
    return found


def receipt_of(stack: Stack, one: Instance) -> dict:
    """What the receipt says, after both verifiers have taken it, on both sides."""
    [row] = [row for row in stack.why(one.sop_instance)][-1:]
    path = stack.receipt_file(delivery_id(row))
    done = stack.verify_receipt(path)
    assert done.returncode == 0, done.stdout + done.stderr
    says = json.loads(path.read_text())["says"]
    theirs = verify_receipt.verify(path.read_text(), Card(stack.card("gateway-in")), Card(stack.card("gateway-out")))
    assert {key: theirs[key] for key in says} == says
    for key in ("received_syntax", "stored_syntax"):
        assert key not in says or says[key] in done.stdout
    return says


def with_a_sequence(directory: Path, syntax: str, seed: int, private: bytes = b"") -> Instance:
    """A slice with a sequence of undefined length before its pixels, and perhaps a private element."""
    [made] = generate.study(directory, 1, seed, syntax=syntax)
    data = made.data_set()
    at = data.index(b"\x20\x00\x0d\x00")
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + generate.element(0x0008_0100, b"SH", b"A1", syntax) + b"\xfe\xff\x0d\xe0" + bytes(4)
    head = generate.element(0x0018_0012, b"SQ", item + b"\xfe\xff\xdd\xe0" + bytes(4), syntax, undefined=True)
    return part10.write(directory / f"with-{seed}.dcm", made.sop_class, made.sop_instance, syntax, data[:at] + head + private + data[at:])


@pytest.mark.proves("in/storage/reencoding", "in/choice/reencoded")
def test_out_as_explicit_and_home_as_implicit_is_byte_identical(make_stack, tmp_path, ended):
    stack, to = choosy(make_stack, tmp_path, {"EXPLICIT": [EXPLICIT], "IMPLICIT": [IMPLICIT], "BOTH": [IMPLICIT, EXPLICIT]})
    ended += to.values()
    one = with_a_sequence(tmp_path / "sent", IMPLICIT, 1)
    with stack:
        assert senders.pynetdicom_send(stack.listen, "EXPLICIT", [one]) == {one.sop_instance: 0}
        there = arrived(to["EXPLICIT"], one, stack)
        assert there.transfer_syntax == EXPLICIT and there.data_set() != one.data_set()
        says = receipt_of(stack, one)
        assert (says["received_syntax"], says["stored_syntax"]) == (IMPLICIT, EXPLICIT)
        assert (says["received_sha256"], says["data_sha256"]) == (one.digest(), there.digest())
        assert (says["received_bytes"], says["data_bytes"]) == (str(one.data_set_bytes), str(there.data_set_bytes))
        assert (says["outcome"], says["coercion"]) == ("stored", "none")
        assert senders.pynetdicom_send(stack.listen, "IMPLICIT", [there]) == {one.sop_instance: 0}
        home = arrived(to["IMPLICIT"], there, stack)
        assert home.transfer_syntax == IMPLICIT and home.data_set() == one.data_set()
        # Where it is taken as it is, it goes as it is, and the receipt says nothing of a change.
        other = with_a_sequence(tmp_path / "other", IMPLICIT, 2)
        assert senders.pynetdicom_send(stack.listen, "BOTH", [other]) == {other.sop_instance: 0}
        same = arrived(to["BOTH"], other, stack)
        assert (same.transfer_syntax, same.digest()) == (IMPLICIT, other.digest())
        assert "received_syntax" not in receipt_of(stack, other)


def test_deflated_becomes_explicit_and_explicit_deflated(make_stack, tmp_path, ended):
    stack, to = choosy(make_stack, tmp_path, {"EXPLICIT": [EXPLICIT], "DEFLATED": [DEFLATED, IMPLICIT], "IMPLICIT": [IMPLICIT]})
    ended += to.values()
    [deflated] = generate.study(tmp_path / "deflated", 1, 3, syntax=DEFLATED)
    [explicit] = generate.study(tmp_path / "explicit", 1, 4)
    with stack:
        assert senders.pynetdicom_send(stack.listen, "EXPLICIT", [deflated]) == {deflated.sop_instance: 0}
        inflated = arrived(to["EXPLICIT"], deflated, stack)
        assert inflated.transfer_syntax == EXPLICIT and inflated.data_set() == zlib.decompress(deflated.data_set(), wbits=-15)
        # Deflated keeps every byte, implicit VR does not: so it is preferred where both are taken.
        assert senders.pynetdicom_send(stack.listen, "DEFLATED", [explicit]) == {explicit.sop_instance: 0}
        packed = arrived(to["DEFLATED"], explicit, stack)
        assert packed.transfer_syntax == DEFLATED and zlib.decompress(packed.data_set(), wbits=-15) == explicit.data_set()
        [again] = generate.study(tmp_path / "again", 1, 5, syntax=DEFLATED)
        assert senders.pynetdicom_send(stack.listen, "IMPLICIT", [again]) == {again.sop_instance: 0}
        assert arrived(to["IMPLICIT"], again, stack).transfer_syntax == IMPLICIT


@pytest.mark.proves("in/failure/not-reencoded", "in/storage/private-vr")
def test_a_private_element_that_would_lose_its_value_representation_is_refused(make_stack, tmp_path, ended):
    """`[destination.status]` cannot make "stored" of it: the destination has not said it."""
    stack, to = choosy(make_stack, tmp_path, {"KEEP": [IMPLICIT], "LOSE": [IMPLICIT]}, status={"C010": "stored", "Cxxx": "deferred"})
    ended += to.values()
    with stack.edit("gateway-in") as receiving:
        stack.destination(receiving, "lose")["private_vr"] = "lose"
    private = generate.element(0x0019_0010, b"LO", b"SLUIS TEST") + generate.element(0x0019_1001, b"DS", b"1.5")
    one = with_a_sequence(tmp_path / "sent", EXPLICIT, 6, private)
    good = with_a_sequence(tmp_path / "good", EXPLICIT, 7)
    with stack:
        assert senders.pynetdicom_send(stack.listen, "KEEP", [one, good]) == {one.sop_instance: 0, good.sop_instance: 0}
        arrived_good = wait_until("the good one", lambda: to["KEEP"].arrived().get(good.sop_instance), 30, stack.logs)
        assert arrived_good[0] == IMPLICIT
        [row] = wait_until("it to be parked", lambda: [row for row in stack.why(one.sop_instance) if row["state"] == "parked"], 30, stack.logs)
        assert not [i for i in part10.find(to["KEEP"].out) if i.sop_instance == one.sop_instance and i.data_set_bytes >= one.data_set_bytes // 2]
        says = receipt_of(stack, one)
        assert (says["outcome"], says["status"]) == ("refused", "0xC010") and "could not re-encode it" in says["remark"], says
        assert says["data_sha256"] == one.digest() and "received_syntax" not in says
        assert "(0019,1001) would lose its value representation DS" in stack.log_text("gateway-in")
        assert senders.pynetdicom_send(stack.listen, "LOSE", [one]) == {one.sop_instance: 0}
        there = wait_until("it without them", lambda: {i.sop_instance: i for i in part10.find(to["LOSE"].out)}.get(one.sop_instance), 30, stack.logs)
        assert there.transfer_syntax == IMPLICIT and generate.element(0x0019_1001, b"DS", b"1.5", IMPLICIT) in there.data_set()


def test_the_pacs_gets_the_status_where_it_waits_for_it(make_stack, tmp_path, ended):
    stack, to = choosy(make_stack, tmp_path, {"KEEP": [IMPLICIT]})
    ended += to.values()
    with stack.edit("gateway-out") as sending:
        for route in sending["route"]:
            route["respond"] = "delivered"
    private = generate.element(0x0019_0010, b"LO", b"SLUIS TEST") + generate.element(0x0019_1001, b"DS", b"1.5")
    one = with_a_sequence(tmp_path / "sent", EXPLICIT, 8, private)
    with stack:
        assert senders.pynetdicom_send(stack.listen, "KEEP", [one]) == {one.sop_instance: 0xC010}


def test_pixels_are_never_touched(make_stack, tmp_path, ended):
    stack, to = choosy(make_stack, tmp_path, {"EXPLICIT": [EXPLICIT, IMPLICIT]})
    ended += to.values()
    [one] = generate.study(tmp_path / "jpeg", 1, 9, syntax=BASELINE)
    with stack:
        assert senders.pynetdicom_send(stack.listen, "EXPLICIT", [one]) == {one.sop_instance: 0}
        [row] = wait_until("it to be parked", lambda: [row for row in stack.why(one.sop_instance) if row["state"] == "parked"], 30, stack.logs)
        assert receipt_of(stack, one)["status"] == "0x0122" and not to["EXPLICIT"].arrived()


def test_150_mb_pass_in_constant_memory(make_stack, tmp_path):
    one = generate.large(tmp_path / "large.dcm", 150 * MIB, 10)
    with Acceptor(refuses=frozenset({EXPLICIT, DEFLATED})) as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-in") as receiving:
            receiving["destination"][0].update(SYNTAX_ONLY)
        with stack:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
            stack.wait_settled(120)
            [arrival] = destination.arrivals
            says = receipt_of(stack, one)
            assert arrival.transfer_syntax == IMPLICIT and says["data_sha256"] == arrival.digest and says["received_sha256"] == one.digest()
            peak = stack.measure()["gateway-in"][0]
            print(f"peak RSS of gateway-in for 150 MiB: {peak / MIB:.0f} MiB")
            assert peak < GATEWAY_RSS_MAX


def test_the_pacs_is_offered_what_can_be_re_encoded(make_stack, tmp_path, ended):
    """`negotiate = "mirror"`: the destination takes Explicit only, and the PACS may send Implicit all the same."""
    stack, to = choosy(make_stack, tmp_path, {"EXPLICIT": [EXPLICIT], "PLAIN": [EXPLICIT]}, probe_syntaxes=[IMPLICIT, EXPLICIT, DEFLATED, BASELINE])
    ended += to.values()
    with stack.edit("gateway-in") as receiving:
        del stack.destination(receiving, "plain")["reencode"]
    with stack.edit("gateway-out") as sending:
        for route in sending["route"]:
            route["negotiate"] = "mirror"
    proposed = {1: (CT_IMAGE, [IMPLICIT]), 3: (CT_IMAGE, [EXPLICIT]), 5: (CT_IMAGE, [DEFLATED]), 7: (CT_IMAGE, [BASELINE])}

    def accepted(title: str) -> set[int]:
        link = Requestor(stack.listen, title, proposed)
        link.release()
        return set(link.accepted)

    with stack:
        known = lambda: all(one["accepted"] for one in stack.status("gateway-out")["mirror"] if one["destination"] in ("explicit", "plain"))
        wait_until("both tables", known, 60, stack.logs, pause=0.2)
        assert accepted("EXPLICIT") == {1, 3, 5}
        assert accepted("PLAIN") == {3}


def test_check_refuses_what_makes_no_sense(make_stack, tmp_path):
    stack = make_stack(to=f"ANY@{HOST}:104")
    cases = [({"reencode": "pixels"}, "reencode"), ({"private_vr": "lose"}, "nothing is re-encoded for this destination"), ({"reencode": "syntax-only", "private_vr": "drop"}, "private_vr")]
    for table, what in cases:
        with stack.edit("gateway-in") as receiving:
            for key in ("reencode", "private_vr"):
                receiving["destination"][0].pop(key, None)
            receiving["destination"][0].update(table)
        said = stack.command("gateway-in", "check", check=False)
        assert said.returncode == 64 and what in said.stderr and "gateway-in.toml:" in said.stderr, (table, said)
    with stack.edit("gateway-in") as receiving:
        folder = tomlkit.table()
        folder.update({"name": "folder", "kind": "folder", "dir": str(tmp_path / "f"), "reencode": "syntax-only"})
        receiving["destination"][0].pop("reencode", None)
        receiving["destination"][0].pop("private_vr", None)
        receiving["destination"].append(folder)
    said = stack.command("gateway-in", "check", check=False)
    assert said.returncode == 64 and "a folder takes every transfer syntax" in said.stderr, said
