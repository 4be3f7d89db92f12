"""`respond = "delivered"`: the PACS gets the destination's own status, and the sending side keeps neither body nor key."""

from __future__ import annotations

import time

import pytest

from harness import generate, senders
from harness.destinations import PynetdicomScp, wait_for_arrivals
from harness.part10 import Instance
from harness.processes import free_ports, wait_until
from harness.rawul import Acceptor, Behaviour
from harness.stack import Stack


def delivered(make_stack, address: str) -> Stack:
    stack = make_stack(to=address)
    stack.quick_retries()
    stack.respond_when_delivered()
    return stack


def warm(stack: Stack, directory) -> Instance:
    """A first instance, sent until it passes: the receiver publishes its prekeys a moment after it has connected."""
    first = generate.study(directory / "warm", 1, seed=99)[0]
    wait_until("a first instance to pass", lambda: 0 in senders.pynetdicom_send(stack.listen, stack.ae, [first]).values(), 10, stack.logs)
    return first


def test_success_means_the_destination_has_it(make_stack, tmp_path, few):
    with Acceptor() as destination, delivered(make_stack, destination.address) as stack:
        first = warm(stack, tmp_path)
        for one in few:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
            assert destination.arrivals[-1].sop_instance == one.sop_instance, "0000H before the destination had it"
            assert destination.arrivals[-1].digest == one.digest()
        receipts = [row for row in stack.receipts() if row["outcome"] == "stored"]
        assert len(receipts) == len(few) + 1
        for row in receipts:
            assert stack.verify_receipt(stack.receipt_file(row["delivery"])).returncode == 0
        assert stack.why(first.sop_instance)
        assert stack.body_bytes() == 0


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0xB000, 0x0122])
@pytest.mark.proves("out/answer/passed-on")
def test_the_destinations_status_is_passed_on(make_stack, tmp_path, few, status):
    odd = few[1].sop_instance
    with PynetdicomScp(behave=lambda name, _seen: status if name == odd else 0) as destination:
        with delivered(make_stack, destination.address) as stack:
            warm(stack, tmp_path)
            answers = senders.pynetdicom_send(stack.listen, stack.ae, few)
            assert answers == {one.sop_instance: status if one.sop_instance == odd else 0 for one in few}
            assert stack.queue() == [], "the PACS got the refusal itself: nothing is parked"
            assert destination.attempts[odd] == 1


@pytest.mark.parametrize("status", [0xA700, 0x0110])
def test_a_deferral_is_answered_a700_and_is_not_tried_again(make_stack, tmp_path, few, status):
    odd = few[1].sop_instance
    with PynetdicomScp(behave=lambda name, seen: status if name == odd and seen == 0 else 0) as destination:
        with delivered(make_stack, destination.address) as stack:
            warm(stack, tmp_path)
            answers = senders.pynetdicom_send(stack.listen, stack.ae, few)
            assert answers == {one.sop_instance: 0xA700 if one.sop_instance == odd else 0 for one in few}
            assert stack.queue() == []
            assert destination.attempts[odd] == 1
            assert senders.pynetdicom_send(stack.listen, stack.ae, [few[1]]) == {odd: 0}
            wait_for_arrivals(destination, few, 10, stack.logs)


def test_a_destination_that_is_off_is_answered_a700_in_time(make_stack, few):
    stack = delivered(make_stack, f"NOBODY@127.0.0.1:{free_ports()}")
    with stack.edit("gateway-out") as out:
        out["retry"]["delivered_timeout"] = "3s"
    with stack:
        began = time.monotonic()
        assert senders.pynetdicom_send(stack.listen, stack.ae, few[:1]) == {few[0].sop_instance: 0xA700}
        assert time.monotonic() - began < 10
        assert stack.queue() == [] and stack.body_bytes() == 0


def test_a_silent_destination_is_answered_a700_in_time(make_stack, tmp_path, few):
    silent = few[0].sop_instance
    with Acceptor(behave=lambda name, seen: Behaviour(silent=name == silent and seen == 0)) as destination:
        stack = delivered(make_stack, destination.address)
        with stack.edit("gateway-out") as out:
            out["retry"]["delivered_timeout"] = "3s"
        with stack:
            warm(stack, tmp_path)
            began = time.monotonic()
            assert senders.pynetdicom_send(stack.listen, stack.ae, few[:1]) == {few[0].sop_instance: 0xA700}
            assert 2 < time.monotonic() - began < 15
            destination.close()  # Or gateway-in waits for its answer before it stops.


def test_the_first_instance_after_a_start_waits_for_the_link(make_stack, few):
    """Only a deferral, a nack, `gone` or the time-out may be answered A700: a link that comes a moment later is none of them."""
    with Acceptor() as destination:
        stack = delivered(make_stack, destination.address)
        for role in ("gateway-in", "gateway-out", "relay"):
            stack[role].start()
        assert senders.pynetdicom_send(stack.listen, stack.ae, few[:1]) == {few[0].sop_instance: 0}
