"""Two relays: the first is killed in mid-study and comes back, then the second one is killed."""

from __future__ import annotations

import threading

from harness import generate, senders
from harness.processes import wait_until
from harness.rawul import Acceptor
from harness.stack import one_receipt_each

# A relay that is killed says nothing: its links end with QUIC's idle time-out of 30 s.
SETTLED_SECONDS = 120


def arrived(destination: Acceptor) -> dict[str, str]:
    return {arrival.sop_instance: arrival.digest for arrival in destination.arrivals}


def send_and_kill(stack, destination, load, relay) -> None:
    """Sends a study, and kills a relay when a third of it has arrived."""
    before = len(destination.arrivals)
    answers: dict = {}
    sender = threading.Thread(
        target=lambda: answers.update(senders.storescu(stack.listen, stack.ae, [one.path for one in load]))
    )
    sender.start()
    wait_until("a third of the study", lambda: len(destination.arrivals) - before >= len(load) // 3, 60, stack.logs, pause=0.01)
    relay.kill()
    sender.join()
    assert len(answers) == len(load) and set(answers.values()) == {0}


def test_relays_that_are_killed_take_nothing_with_them(make_stack, tmp_path):
    studies = [generate.study(tmp_path / f"study-{seed}", 60, seed=seed, side=256) for seed in (1, 2)]
    everything = [one for study in studies for one in study]
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack.edit("gateway-out") as sending:
            sending["retry"]["fail_over"] = "2s"
        second = stack.add_relay("relay-2")
        second.start()
        try:
            stack.start()
            send_and_kill(stack, destination, studies[0], stack["relay"])
            stack.wait_settled(SETTLED_SECONDS)
            assert arrived(destination) == {one.sop_instance: one.digest() for one in studies[0]}

            stack.start("relay")
            send_and_kill(stack, destination, studies[1], second)
            stack.wait_settled(SETTLED_SECONDS)
        finally:
            second.kill()
        assert arrived(destination) == {one.sop_instance: one.digest() for one in everything}
        assert set(destination.attempts.values()) == {1}, "an outcome was known and the instance sent again"
        one_receipt_each(stack, everything)
        assert stack.panics() == []
