"""A planted name and UIDs: in no log line at any level, nor in outbox or index, the relay's memory, or the packets."""

from __future__ import annotations

import json
import os
import random

import pytest

from harness import generate, part10, senders
from harness.destinations import PynetdicomScp, wait_for_arrivals
from harness.processes import wait_until
from harness.rawul import Acceptor, Requestor
from harness.stack import ROLES
from harness.watch import PacketWatch, needles_in_files, needles_in_memory

NAME = "Kwartelsnip^Adelheid"


@pytest.fixture
def planted(tmp_path):
    """A study that compresses well: its pixels repeat the name, so that a leak of any part of it shows."""
    source = random.Random(31)
    study_uid, series_uid = generate.uid(source), generate.uid(source)
    made = []
    for number in range(1, 41):
        name = generate.uid(source)
        head = generate.header(generate.CT_IMAGE, name, study_uid, series_uid, generate.EXPLICIT, number, 128, 128, 1, NAME, 900 + number)
        pixels = (NAME.encode() + b"...." * 4) * (32768 // (len(NAME) + 16) + 1)
        encoded = head + generate.element(0x7FE0_0010, b"OW", pixels[:32768])
        made.append(part10.write(tmp_path / "planted" / f"{number}.dcm", generate.CT_IMAGE, name, generate.EXPLICIT, encoded))
    needles = [NAME.encode(), NAME.encode("utf-16-le"), study_uid.encode(), series_uid.encode()]
    needles += [one.sop_instance.encode() for one in made]
    return made, needles


def all_logs(stack) -> bytes:
    return "".join(stack.log_text(role) for role in ROLES).encode()


def test_no_log_line_and_no_file_holds_patient_data(make_stack, planted):
    """At level trace, through success, deferral, refusal, a mismatch and a truncated data set."""
    made, needles = planted
    refused, busy = made[0].sop_instance, made[1].sop_instance

    def behave(name: str, seen: int) -> int:
        return 0xC000 if name == refused else 0xA700 if name == busy and seen == 0 else 0

    with PynetdicomScp(behave=behave) as destination:
        stack = make_stack(to=destination.address, log="trace")
        stack.quick_retries()
        with stack:
            link = Requestor(stack.listen, stack.ae, {1: (generate.CT_IMAGE, [generate.EXPLICIT])})
            first, second = made[:2]
            assert link.store(1, first.sop_class, second.sop_instance, first.data_set()) == 0xA900
            assert link.store(1, first.sop_class, first.sop_instance, first.data_set()[:-7]) >> 12 == 0xC
            link.release()
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, made).values()) == {0}
            wait_for_arrivals(destination, made[1:], 40, stack.logs)
            wait_until("the refused one to be parked", lambda: "parked" in str(stack.queue()), 20, stack.logs)
            while_held = needles_in_files(stack.directory, needles)
            stack.why(refused)
            for role in ("gateway-out", "gateway-in"):
                said = stack.command(role, "support").stdout
                bundle = json.loads(said)
                assert bundle["status"]["role"] == role and len(bundle["metrics"]) > 30 and len(bundle["configuration"]) > 20
                assert not [needle for needle in needles if needle in said.encode()], "patient data in what is sent to strangers"
            assert len(json.loads(stack.command("gateway-out", "support").stdout)["queue"]) >= 1
            path = stack.directory / "support.json"
            stack.command("gateway-in", "support", "--out", str(path))
            assert path.stat().st_mode & 0o777 == 0o600
            again = stack.command("gateway-in", "support", "--out", str(path), check=False)
            assert again.returncode == 1 and "cannot write" in again.stderr
        logs = all_logs(stack)
        assert len(logs) > 10_000, "trace wrote nothing: RUST_LOG was not read"
        assert not [needle for needle in needles if needle in logs], "patient data in a log"
        assert not while_held, f"patient data in {sorted({path.name for _, path in while_held})}"
        assert not needles_in_files(stack.directory, needles)


@pytest.mark.root
def test_the_relays_memory_and_the_packets_hold_none(make_stack, planted):
    """While the relay holds what a frozen destination does not take, and again after all has passed."""
    made, needles = planted
    with Acceptor("FROZEN") as destination:
        stack = make_stack(to=destination.address)
        try:
            watch = PacketWatch(stack.relay_port, needles)
        except PermissionError as refused:
            pytest.skip(f"no packet socket: {refused}")
        with stack, watch:
            destination.freeze()
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in made]).values()) == {0}
            wait_until("packets to the relay", lambda: watch.bytes > 500_000, 20, stack.logs)
            searched, found = needles_in_memory(stack["relay"].pid, needles)
            held = sum(one.data_set_bytes for one in made)
            print(f"searched {searched >> 20} MiB of the relay's memory, {watch.packets} packets of {watch.bytes} bytes; sent {held}")
            assert searched > 1 << 20
            assert not found, found
            destination.thaw()
            stack.wait_settled()
            _, found = needles_in_memory(stack["relay"].pid, needles)
            assert not found, found
        assert watch.bytes > held, "the watch missed packets"
        assert not watch.seen, "patient data in the packets"


def test_the_memory_search_finds_what_is_there():
    """Negative control: this process holds the needle that it looks for."""
    needle = bytes(random.Random(1).randbytes(24))
    _, found = needles_in_memory(os.getpid(), [needle])
    assert found


def test_accession_and_patient_id_are_searchable_only_as_hashes(make_stack, planted, peer):
    made, _ = planted
    destination = peer("pynetdicom")
    with make_stack(to=destination.address) as stack:
        senders.pynetdicom_send(stack.listen, stack.ae, made[:3])
        stack.wait_settled()
        assert not needles_in_files(stack.directory, [b"PID901", b"ACC901"])
        assert stack.why(made[0].sop_instance)
