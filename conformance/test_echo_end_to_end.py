"""C-ECHO end to end: it succeeds only if the destination answers one now, and fails in time, with the leg named."""

from __future__ import annotations

import json
import time

import pytest

from harness import generate
from harness.processes import wait_until
from harness.rawul import Acceptor, Requestor

ECHO = {1: ("1.2.840.10008.1.1", [generate.IMPLICIT])}
PROCESSING_FAILURE = 0x0110
# echo_timeout of the tests, and what a PACS would see at most.
SECONDS, SEEN = 3, 5.5


def echo(stack, calling: str = "MODALITY") -> tuple[int, float]:
    """Status and seconds."""
    link = Requestor(stack.listen, stack.ae, ECHO, calling=calling)
    began = time.monotonic()
    status = link.echo(1)
    took = time.monotonic() - began
    link.release()
    return status, took


def fails(stack, leg: str, word: str) -> None:
    """Within the limit, and the log says where; an answer of the last second may still be told, so it is waited for."""
    before = stack.log_text("gateway-out").count("echo end to end failed")

    def failed() -> bool:
        status, took = echo(stack)
        assert took < SEEN, took
        return status == PROCESSING_FAILURE

    wait_until(f"the echo to fail at {leg}", failed, 20, stack.logs, pause=0.3)
    lines = [line for line in stack.log_text("gateway-out").splitlines() if "echo end to end failed" in line]
    assert len(lines) > before, lines
    assert leg in lines[-1] and word in lines[-1], lines[-1]


def end_to_end(make_stack, address: str):
    stack = make_stack(to=address)
    with stack.edit("gateway-out") as sending:
        sending["route"][0]["echo"] = "end-to-end"
        sending["route"][0]["echo_timeout"] = f"{SECONDS}s"
    return stack


def answers(stack) -> None:
    wait_until("the echo to be answered", lambda: echo(stack)[0] == 0, 20, stack.logs, pause=0.3)


@pytest.mark.proves("out/answer/echo-failed")
def test_an_echo_is_answered_by_the_destination_or_not_at_all(make_stack):
    destination = Acceptor()
    stack = end_to_end(make_stack, destination.address)
    with stack:
        # Just started, the receiver's prekeys may still be on their way to the relay.
        answers(stack)
        status, took = echo(stack)
        assert (status, took < SECONDS) == (0, True)
        assert destination.calling, "the destination was asked itself"
        shown = json.loads(stack.command("gateway-out", "echo", stack.ae, "--json").stdout)
        [one] = shown["destinations"]
        assert shown["answered"] and one["failed_leg"] is None and one["total_ms"] < SECONDS * 1000, shown
        assert set(one["legs_ms"]) == {"relay", "gateway-in", "destination"} and None not in one["legs_ms"].values()
        # Nobody can have the destination hammered.
        before, began = len(destination.calling), time.monotonic()
        assert {echo(stack)[0] for _ in range(40)} == {0}
        assert len(destination.calling) - before <= 2 + (time.monotonic() - began)

        destination.close()
        fails(stack, "destination", "cannot be reached")
        text = stack.command("gateway-out", "echo", stack.ae, check=False)
        assert text.returncode == 1 and "failed at destination" in text.stdout, text.stdout
        name = str(json.loads(json.dumps(stack.status("gateway-in")))["destinations"][0]["name"])
        assert stack.command("gateway-in", "echo", name, check=False).returncode == 1

        again = Acceptor(port=destination.port)
        with again:
            answers(stack)
            assert "answered" in stack.command("gateway-in", "echo", name).stdout
            # It takes the connection and says nothing.
            again.freeze()
            fails(stack, "destination", "in time")
            again.thaw()
            answers(stack)
            stack["gateway-in"].kill()
            # Until the relay has noticed, it is no answer; then it is no connection.
            fails(stack, "gateway-in", "the receiving gateway")
            stack.start("gateway-in")
            answers(stack)
            stack["gateway-in"].suspend()
            fails(stack, "gateway-in", "no answer in time")
            stack["gateway-in"].resume()
            answers(stack)
            stack["relay"].kill()
            fails(stack, "relay", "")
            stack.start("relay")
            stack.await_connected("gateway-out")
            stack.await_connected("gateway-in")
            answers(stack)


def test_a_local_echo_asks_nobody(make_stack):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.start("gateway-out")
        assert echo(stack)[0] == 0
        assert destination.calling == []
