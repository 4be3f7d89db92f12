"""`respond = "delivered"`: the PACS gets the destination's own status, and the sending side keeps neither body nor key."""

from __future__ import annotations

import time

import pytest

from harness import senders
from harness.destinations import PynetdicomScp, wait_for_arrivals
from harness.processes import free_ports
from harness.rawul import Acceptor, Behaviour
from harness.stack import Stack, one_receipt_each


def delivered(make_stack, address: str) -> Stack:
    stack = make_stack(to=address)
    stack.quick_retries()
    stack.respond_when_delivered()
    return stack


def bodies(stack: Stack) -> int:
    """Bytes of files in the outbox other than the index."""
    outbox = stack.directory / "outbox"
    candidates = [path for path in outbox.rglob("*") if path.is_file()] if outbox.exists() else []
    return sum(path.stat().st_size for path in candidates if "sqlite" not in path.name and ".db" not in path.name)


def test_success_means_the_destination_has_it(make_stack, few):
    with Acceptor() as destination, delivered(make_stack, destination.address) as stack:
        for one in few:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
            assert destination.arrivals[-1].sop_instance == one.sop_instance, "0000H before the destination had it"
            assert destination.arrivals[-1].digest == one.digest()
        one_receipt_each(stack, few)
        assert bodies(stack) == 0


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0xB000, 0x0122])
def test_the_destinations_status_is_passed_on(make_stack, few, status):
    odd = few[1].sop_instance
    with PynetdicomScp(behave=lambda name, _seen: status if name == odd else 0) as destination:
        with delivered(make_stack, destination.address) as stack:
            answers = senders.pynetdicom_send(stack.listen, stack.ae, few)
            assert answers == {one.sop_instance: status if one.sop_instance == odd else 0 for one in few}
            assert stack.queue() == [], "the PACS got the refusal itself: nothing is parked"
            assert destination.attempts[odd] == 1


@pytest.mark.parametrize("status", [0xA700, 0x0110])
def test_a_deferral_is_answered_a700_and_is_not_tried_again(make_stack, few, status):
    odd = few[1].sop_instance
    with PynetdicomScp(behave=lambda name, seen: status if name == odd and seen == 0 else 0) as destination:
        with delivered(make_stack, destination.address) as stack:
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
        assert stack.queue() == [] and bodies(stack) == 0


def test_a_silent_destination_is_answered_a700_in_time(make_stack, few):
    with Acceptor(behave=lambda _name, seen: Behaviour(silent=seen == 0)) as destination:
        stack = delivered(make_stack, destination.address)
        with stack.edit("gateway-out") as out:
            out["retry"]["delivered_timeout"] = "3s"
        with stack:
            began = time.monotonic()
            assert senders.pynetdicom_send(stack.listen, stack.ae, few[:1]) == {few[0].sop_instance: 0xA700}
            assert 2 < time.monotonic() - began < 15
