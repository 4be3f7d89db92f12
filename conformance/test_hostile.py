"""Whatever comes to the DICOM port: it ends within its limits, memory stays flat, and the next association is served."""

from __future__ import annotations

import random
import socket
import struct
import time

import pytest

from harness import generate, senders
from harness.processes import HOST, rss_bytes, wait_until
from harness.rawul import Acceptor, Closed, Requestor, pdv

CT = {1: (generate.CT_IMAGE, [generate.EXPLICIT])}
MIB = 1 << 20


@pytest.fixture(scope="module")
def garbage() -> dict[str, bytes]:
    source = random.Random(51)
    return {
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(500),
        "noise": source.randbytes(4096),
        "data first": struct.pack(">BBI", 4, 0, 10) + pdv(1, 3, b"abcd"),
        "release first": struct.pack(">BBI", 5, 0, 4) + bytes(4),
        "unknown type": struct.pack(">BBI", 99, 0, 4) + bytes(4),
        "length 0": struct.pack(">BBI", 1, 0, 0),
        "4 GiB announced": struct.pack(">BBI", 1, 0, 0xFFFF_FFFF) + bytes(2 * MIB),
    }


@pytest.fixture
def stack(make_stack):
    stack = make_stack(to=f"NOBODY@{HOST}:9")
    with stack.edit("gateway-out") as out:
        out["dicom"].update({"handshake_timeout": "2s", "idle_timeout": "2s", "progress_timeout": "2s"})
    return stack.start("gateway-out")


def ends(link: socket.socket, seconds: float) -> bool:
    """Whether the other side closes within so many seconds."""
    link.settimeout(seconds)
    try:
        while link.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def alive(stack) -> None:
    Requestor(stack.listen, stack.ae, {1: ("1.2.840.10008.1.1", [generate.IMPLICIT])}).release()


def test_garbage_ends_and_costs_nothing(stack, garbage):
    alive(stack)
    before = rss_bytes(stack["gateway-out"].pid)
    for name, sent in garbage.items():
        link = socket.create_connection((HOST, stack.listen), 5)
        try:
            link.sendall(sent)
        except OSError:
            pass  # It was refused before all of it was sent.
        assert ends(link, 6), f"{name}: the connection is still open"
        link.close()
        alive(stack)
    assert rss_bytes(stack["gateway-out"].pid) - before < 16 * MIB


@pytest.mark.parametrize("how", ["silent", "drip"])
def test_a_slow_handshake_ends(stack, how):
    link = socket.create_connection((HOST, stack.listen), 5)
    request = struct.pack(">BBI", 1, 0, 300)
    began = time.monotonic()
    if how == "drip":
        for at in range(60):
            try:
                link.sendall((request + bytes(300))[at : at + 1])
            except OSError:
                break
            time.sleep(0.1)
    assert ends(link, 6), "a handshake without an end is kept open"
    assert time.monotonic() - began < 10
    alive(stack)


def test_an_association_that_stalls_in_a_data_set_ends(stack, few):
    one = few[0]
    link = Requestor(stack.listen, stack.ae, CT)
    link.begin(1, one.sop_class, one.sop_instance)
    link.data(1, one.data_set()[:9000], last=False)
    link.link.sendall(struct.pack(">BBI", 4, 0, 1000) + b"only this")
    assert ends(link.link, 8), "a stalled PDU is waited for without end"
    alive(stack)
    assert stack.queue() == []


def test_a_pdu_above_the_announced_maximum_is_refused(stack, few):
    one = few[0]
    link = Requestor(stack.listen, stack.ae, CT)
    assert 4096 <= link.max_pdu <= MIB
    link.begin(1, one.sop_class, one.sop_instance)
    with pytest.raises((Closed, OSError)):
        link.send_pdata(pdv(1, 2, bytes(8 * MIB)))
        link.answer()
    alive(stack)
    assert stack.queue() == []


def test_many_idle_associations_leave_room_for_an_answer(make_stack):
    """200 connections that say nothing: an echo is answered, or rejected at once."""
    stack = make_stack(to=f"NOBODY@{HOST}:9").start("gateway-out")
    idle = [socket.create_connection((HOST, stack.listen), 5) for _ in range(200)]
    began = time.monotonic()
    done = senders.echoscu(stack.listen, stack.ae)
    assert time.monotonic() - began < 5, done.stdout + done.stderr
    for link in idle:
        link.close()
    wait_until("an association", lambda: senders.echoscu(stack.listen, stack.ae).returncode == 0, 10, stack.logs)


def test_a_full_outbox_says_so_and_loses_nothing(make_stack, small_study):
    """Above its limit A700 (or no association); what was accepted arrives, and then there is room again."""
    with Acceptor("LATE") as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack.edit("gateway-out") as out:
            out["outbox"]["bytes_max"] = "1 MiB"
        with stack:
            destination.freeze()
            answers = senders.storescu(stack.listen, stack.ae, [one.path for one in small_study])
            accepted = [one for one in small_study if answers[one.path] == 0]
            refused = [one for one in small_study if answers[one.path] != 0]
            assert accepted and refused
            assert {answers[one.path] for one in refused} <= {0xA700, senders.NOT_SENT, senders.NO_ANSWER}
            destination.thaw()
            stack.wait_settled()
            assert {arrival.sop_instance for arrival in destination.arrivals} == {one.sop_instance for one in accepted}
            assert senders.storescu(stack.listen, stack.ae, [refused[0].path]) == {refused[0].path: 0}
            stack.wait_settled()
