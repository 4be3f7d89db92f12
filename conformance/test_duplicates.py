"""The same instance twice, the same UID with other content, and a loop that is noticed."""

from __future__ import annotations

import json

import pytest

from harness import part10, senders
from harness.destinations import PynetdicomScp, Storescp, wait_for_arrivals
from harness.processes import free_ports, wait_until


@pytest.fixture
def changed(few):
    one = few[0]
    encoded = bytearray(one.data_set())
    encoded[-1] ^= 0xFF
    return part10.write(one.path.with_name("changed.dcm"), one.sop_class, one.sop_instance, one.transfer_syntax, bytes(encoded))


def send(stack, *instances) -> None:
    assert set(senders.pynetdicom_send(stack.listen, stack.ae, instances).values()) == {0}


def test_a_repeat_joins_what_is_not_settled_yet(make_stack, tmp_path, few):
    port = free_ports()
    stack = make_stack(to=f"LATE@127.0.0.1:{port}")
    stack.quick_retries()
    with stack:
        send(stack, *few)
        send(stack, *few)
        send(stack, few[0], few[0])
        assert len(stack.queue()) == len(few)
        with PynetdicomScp("LATE", port) as destination:
            wait_for_arrivals(destination, few, 30, stack.logs)
            stack.wait_settled()
            assert set(destination.attempts.values()) == {1}
            assert len(stack.receipts()) == len(few)


def test_a_repeat_of_what_is_settled_is_really_sent(make_stack, few):
    """The far side lost a study: sending it again must send it."""
    with PynetdicomScp() as destination, make_stack(to=destination.address) as stack:
        for times in (1, 2, 3):
            send(stack, *few)
            stack.wait_settled()
            assert set(destination.attempts.values()) == {times}
        assert len(stack.receipts()) == 3 * len(few)
        assert len(stack.why(few[0].sop_instance)) == 3


def test_other_content_follows_the_earlier_version(make_stack, tmp_path, few, changed):
    port = free_ports()
    stack = make_stack(to=f"LATE@127.0.0.1:{port}")
    stack.quick_retries()
    with stack:
        send(stack, few[0])
        send(stack, changed)
        assert len(stack.queue()) == 2
        with PynetdicomScp("LATE", port) as destination:
            wait_until("both versions", lambda: len(destination.stored[few[0].sop_instance]) == 2, 30, stack.logs)
            digests = [digest for _, digest in destination.stored[few[0].sop_instance]]
            assert digests == [few[0].digest(), changed.digest()], "the versions arrived in another order"
            stack.wait_settled()
            assert len(stack.receipts()) == 2


def test_other_content_is_refused_where_the_route_says_so(make_stack, few, changed):
    stack = make_stack(to=f"LATE@127.0.0.1:{free_ports()}")
    with stack.edit("gateway-out") as out:
        out["route"][0]["changed_content"] = "refuse"
    with stack:
        send(stack, few[0])
        (status,) = senders.pynetdicom_send(stack.listen, stack.ae, [changed]).values()
        assert status >> 12 == 0xC, f"{status:04X}"
        assert len(stack.queue()) == 1


def test_a_loop_is_held_with_an_alarm(make_stack, few):
    with PynetdicomScp() as destination, make_stack(to=destination.address) as stack:
        for _ in range(6):
            send(stack, few[0])
            if not any("held" in json.dumps(row) for row in stack.queue()):
                stack.wait_settled()
        (row,) = stack.queue()
        assert "held" in json.dumps(row).lower(), row
        assert destination.attempts[few[0].sop_instance] == 5
        assert "loop" in stack.log_text("gateway-out").lower()
        send(stack, few[1])
        wait_until("another instance to pass", lambda: destination.attempts[few[1].sop_instance] == 1, 20, stack.logs)


def test_a_receiver_that_lost_its_answer_is_told_again(make_stack, tmp_path, small_study):
    """gateway-in killed in the middle of a study: every repeat at the destination is one whose outcome was unknown."""
    with Storescp(tmp_path, "DEST") as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack:
            half = len(small_study) // 2
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study[:half]]).values()) == {0}
            stack.restart("gateway-in")
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study[half:]]).values()) == {0}
            wait_for_arrivals(destination, small_study, 60, stack.logs)
            stack.wait_settled()
            assert len(stack.receipts()) == len(small_study)
