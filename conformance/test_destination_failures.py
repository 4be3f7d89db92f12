"""A destination that is off, busy, refusing, aborting or silent: what waits, what is parked, and that the others go on."""

from __future__ import annotations

import json
import time

import pytest

from harness import generate, senders
from harness.destinations import PynetdicomScp, Storescp, wait_for_arrivals
from harness.processes import free_ports, wait_until
from harness.rawul import Acceptor, Behaviour
from harness.stack import Stack, delivery_id, one_receipt_each


def quick(make_stack, address: str, **options) -> Stack:
    stack = make_stack(to=address, **options)
    stack.quick_retries()
    return stack


def wait_for_parked(stack: Stack, count: int, seconds: float = 30) -> list[dict]:
    def parked() -> list[dict]:
        found = [row for row in stack.queue() if "parked" in json.dumps(row).lower()]
        return found if len(found) == count else []

    return wait_until(f"{count} parked deliveries", parked, seconds, lambda: f"{stack.queue()}\n{stack.logs()}", pause=0.3)


def test_a_destination_that_is_off_gets_everything_when_it_is_back(make_stack, tmp_path, small_study):
    port = free_ports()
    with quick(make_stack, f"LATE@127.0.0.1:{port}") as stack:
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study]).values()) == {0}
        wait_until("all of them in the queue", lambda: len(stack.queue()) == len(small_study), 10, stack.logs)
        assert stack.receipts() == []
        assert stack.body_bytes() >= sum(one.data_set_bytes for one in small_study)
        with Storescp(tmp_path, "LATE", port) as destination:
            wait_for_arrivals(destination, small_study, 60, stack.logs)
            stack.wait_settled()
            one_receipt_each(stack, small_study)
            assert stack.body_bytes() == 0


def test_a_destination_that_goes_away_in_the_middle(make_stack, tmp_path, small_study):
    destination = Storescp(tmp_path, "GONE")
    destination.start()
    try:
        with quick(make_stack, destination.address) as stack:
            paths = [one.path for one in small_study]
            assert set(senders.storescu(stack.listen, stack.ae, paths[:50]).values()) == {0}
            destination.process.kill()
            assert set(senders.storescu(stack.listen, stack.ae, paths[50:]).values()) == {0}
            destination.start()
            wait_for_arrivals(destination, small_study, 60, stack.logs)
            stack.wait_settled()
            one_receipt_each(stack, small_study)
    finally:
        destination.stop()


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0213])
def test_a_busy_destination_is_asked_again(make_stack, few, status):
    """Twice busy for one instance, then success: one receipt, and the others are not held up by it."""
    held = few[1].sop_instance

    def behave(name: str, seen: int) -> int:
        return status if name == held and seen < 2 else 0

    with PynetdicomScp(behave=behave) as destination, quick(make_stack, destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        wait_for_arrivals(destination, few, 30, stack.logs)
        stack.wait_settled()
        assert destination.attempts[held] == 3
        assert all(destination.attempts[one.sop_instance] == 1 for one in few if one.sop_instance != held)
        order = [name for _, name, _ in destination.events]
        assert order.index(few[4].sop_instance) < len(order) - 1 - order[::-1].index(held), "the others waited for the busy one"
        one_receipt_each(stack, few)


@pytest.mark.parametrize("status", [0xA900, 0xA9FE, 0xC000, 0xC123, 0x0122, 0x0124])
def test_a_refused_instance_is_parked_with_its_status_and_kept(make_stack, few, status):
    """After 0000H a refusal erases nothing: the operator sees it, the others arrive, a retry delivers it."""
    refused, answer = few[2], {"now": status}

    def behave(name: str, _seen: int) -> int:
        return answer["now"] if name == refused.sop_instance else 0

    with PynetdicomScp(behave=behave) as destination, quick(make_stack, destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        others = [one for one in few if one is not refused]
        wait_for_arrivals(destination, others, 30, stack.logs)
        (row,) = wait_for_parked(stack, 1)
        assert f"{status:04X}" in json.dumps(row).upper(), row
        assert "parked" in json.dumps(stack.why(refused.sop_instance)).lower()
        shown = stack.command("gateway-out", "queue", "ls").stdout
        assert f"{status:04X}" in shown.upper(), shown
        said = json.dumps(stack.status("gateway-out"))
        assert "parked" in said, said
        assert refused.sop_instance not in shown + stack.log_text("gateway-out"), "a UID is shown in clear"
        # Across a restart it is still there, and still has its bytes.
        stack.restart("gateway-out")
        wait_for_parked(stack, 1)
        assert destination.attempts[refused.sop_instance] == 1, "a refused instance was sent again by itself"
        answer["now"] = 0
        stack.command("gateway-out", "queue", "retry", delivery_id(row))
        wait_for_arrivals(destination, few, 30, stack.logs)
        stack.wait_settled()


def test_a_destination_that_serves_one_association_is_not_down(make_stack, tmp_path):
    """DCMTK's storescp takes one at a time and lets the others wait: the studies take turns, and nothing is deferred."""
    studies = [generate.study(tmp_path / f"study{number}", 6, seed=number, side=64) for number in range(5)]
    sent = [one for study in zip(*studies, strict=True) for one in study]
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-in") as receiving:
            receiving["destination"][0].update({"connect_timeout": "4s", "linger": "2s"})
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, sent).values()) == {0}
            wait_for_arrivals(destination, sent, 90, stack.logs)
            stack.wait_settled()
        said = stack.log_text("gateway-in")
        assert "destination is down" not in said and "deferred" not in said, said
        assert "serves no more at one time" in said


def test_an_operator_holds_a_study_and_lets_it_go(make_stack, few):
    """While its relay is away, everything waits at the sender: there it can be held, by the UID that the PACS knows."""
    with PynetdicomScp() as destination, quick(make_stack, destination.address) as stack:
        stack["relay"].stop()
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        kept = few[0].sop_instance
        rows = lambda state: json.loads(stack.command("gateway-out", "queue", "ls", "--json", "--state", state).stdout)  # noqa: E731
        wait_until("all of it waits", lambda: len(rows("sealed") + rows("deferred")) == len(few), 30, stack.logs)
        unnamed = stack.command("gateway-out", "queue", "hold", kept, check=False)
        assert unnamed.returncode == 2, "held without a reason"
        stack.command("gateway-out", "queue", "hold", kept, "--reason", "the radiologist asked")
        [held] = rows("held")
        stack.start("relay")
        wait_for_arrivals(destination, few[1:], 60, stack.logs)
        assert kept not in destination.attempts and [held["delivery"]] == [row["delivery"] for row in rows("held")]
        told = json.dumps(stack.why(kept))
        assert "held" in told and "the radiologist asked" in told
        stack.command("gateway-out", "queue", "release", kept, "--reason", "it was the right patient")
        wait_for_arrivals(destination, few, 30, stack.logs)
        stack.wait_settled()
        gone = stack.command("gateway-out", "queue", "hold", kept, "--reason", "too late", check=False)
        assert gone.returncode == 1 and "nothing that has not ended" in gone.stderr


def test_discarding_a_parked_instance_is_a_named_act(make_stack, few):
    refused = few[0]
    with PynetdicomScp(behave=lambda name, _seen: 0xC001 if name == refused.sop_instance else 0) as destination:
        with quick(make_stack, destination.address) as stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
            (row,) = wait_for_parked(stack, 1)
            unnamed = stack.command("gateway-out", "queue", "discard", delivery_id(row), check=False)
            assert unnamed.returncode != 0, "discarded without a reason"
            wait_for_parked(stack, 1)
            stack.command("gateway-out", "queue", "discard", delivery_id(row), "--reason", "sent by courier")
            stack.wait_settled()
            told = json.dumps(stack.why(refused.sop_instance))
            assert "discarded" in told.lower() and "sent by courier" in told, told
            assert destination.attempts[refused.sop_instance] == 1


def test_the_table_of_a_destination_can_be_changed(make_stack, few):
    """A PACS that answers C000 while its database is down: `[destination.status]` turns that into a deferral."""
    busy = few[0].sop_instance
    with PynetdicomScp(behave=lambda name, seen: 0xC000 if name == busy and seen == 0 else 0) as destination:
        stack = quick(make_stack, destination.address)
        with stack.edit("gateway-in") as receiving:
            stack.destination(receiving)["status"] = {"C000": "deferred", "B0xx": "stored"}
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
            wait_for_arrivals(destination, few, 30, stack.logs)
            stack.wait_settled()
            assert destination.attempts[busy] == 2


@pytest.mark.parametrize("status", [0xB000, 0xB007, 0x0107])
def test_a_warning_is_success(make_stack, few, status):
    def behave(_uid: str, _seen: int) -> Behaviour:
        return Behaviour(status=status)

    with Acceptor(behave=behave) as destination, quick(make_stack, destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        stack.wait_settled()
        one_receipt_each(stack, few)
        assert set(destination.attempts.values()) == {1}


def test_an_aborting_destination_is_asked_again(make_stack, few):
    """It aborts in the data set of one instance, and after the data set of another without answering."""
    in_the_middle, at_the_end = few[1].sop_instance, few[3].sop_instance

    def behave(name: str, seen: int) -> Behaviour:
        if seen == 0 and name == in_the_middle:
            return Behaviour(abort_after_bytes=5000)
        if seen == 0 and name == at_the_end:
            return Behaviour(abort_after_bytes=few[3].data_set_bytes)
        return Behaviour()

    with Acceptor(behave=behave) as destination, quick(make_stack, destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        stack.wait_settled()
        stored = {arrival.sop_instance: arrival.digest for arrival in destination.arrivals}
        assert stored == {one.sop_instance: one.digest() for one in few}
        assert destination.attempts[in_the_middle] >= 2 and destination.attempts[at_the_end] >= 2
        one_receipt_each(stack, few)


def test_a_silent_destination_is_timed_out_and_asked_again(make_stack, few):
    silent = few[0].sop_instance
    with Acceptor(behave=lambda name, seen: Behaviour(silent=name == silent and seen == 0)) as destination:
        stack = quick(make_stack, destination.address)
        with stack.edit("gateway-in") as receiving:
            stack.destination(receiving)["response_timeout"] = "2s"
        with stack:
            began = time.monotonic()
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
            stack.wait_settled()
            assert time.monotonic() - began >= 2
            assert destination.attempts[silent] == 2
            assert {arrival.sop_instance for arrival in destination.arrivals} == {one.sop_instance for one in few}
            one_receipt_each(stack, few)


def test_a_class_that_the_destination_does_not_take_is_parked(make_stack, tmp_path, few):
    """storescp without promiscuous mode refuses a private class's context: that instance alone is parked."""
    private = generate.study(tmp_path / "private", 1, seed=77, sop_class="2.25.98765432109876543210987654321098765")
    with Storescp(tmp_path, "STRICT", any_class=False) as destination, quick(make_stack, destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, [*few[:2], *private, *few[2:]]).values()) == {0}
        wait_for_arrivals(destination, few, 30, stack.logs)
        wait_for_parked(stack, 1)


def test_a_rejected_association_is_deferred(make_stack, tmp_path, few):
    """Somebody forgot to add our AE title: nothing is lost, and all arrive once it is there."""
    port = free_ports()
    with quick(make_stack, f"SHY@127.0.0.1:{port}") as stack:
        with Storescp(tmp_path / "refusing", "SHY", port, "--refuse"):
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
            wait_until("a word about the rejection in the log", lambda: "reject" in stack.log_text("gateway-in").lower(), 20, stack.logs)
            assert len(stack.queue()) == len(few)
        with Storescp(tmp_path, "SHY", port) as destination:
            if any("parked" in json.dumps(row) for row in stack.queue()):
                pytest.fail("a rejection is not a refusal: nothing may be parked")
            for row in stack.queue():
                stack.command("gateway-out", "queue", "retry", delivery_id(row), check=False)
            wait_for_arrivals(destination, few, 60, stack.logs)
            stack.wait_settled()
            one_receipt_each(stack, few)
