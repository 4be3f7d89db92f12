"""Who is admitted changes while instances are on their way: at the relay by `admit` and `revoke`, at the gateways by SIGHUP."""

from __future__ import annotations

import os
import signal
import time

import tomlkit

from harness import generate, senders
from harness.processes import wait_until
from harness.rawul import Acceptor

# The promise of the relay: a revoked peer is out within this, also in the middle of a transfer.
SECONDS = 5.0


def hang_up(stack, role: str) -> None:
    os.kill(stack[role].pid, signal.SIGHUP)


def tenant(stack, name: str) -> dict:
    return next(one for one in stack.status("relay")["admission"] if one["name"] == name)


def test_a_revoked_sender_is_out_in_the_middle_of_a_transfer_and_keeps_its_instances(make_stack, tmp_path):
    large = generate.large(tmp_path / "large.dcm", 96 << 20, seed=31)
    study = generate.study(tmp_path / "s", 10, seed=32, side=128)
    with Acceptor("FROZEN") as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack:
            destination.freeze()
            assert senders.storescu(stack.listen, stack.ae, [large.path]) == {large.path: 0}
            wait_until(
                "the transfer to be under way", lambda: stack.status("relay")["bytes_held"] > 1 << 20, 30, stack.logs
            )
            began = time.monotonic()
            said = stack.command("relay", "revoke", "gateway-out").stdout
            assert "connections closed" in said, said
            wait_until(
                "gateway-out to be out",
                lambda: stack.status("gateway-out")["relays"][0]["connected"] is False,
                SECONDS,
                stack.logs,
                pause=0.02,
            )
            took = time.monotonic() - began
            print(f"revoked in the middle of a transfer: out after {took:.2f} s, the command included (promise {SECONDS} s)")
            assert took < SECONDS
            status = stack.status("relay")
            assert (status["blobs"], status["bytes_held"], status["bytes_reserved"]) == (0, 0, 0), status
            assert tenant(stack, "gateway-out")["revoked"]
            assert "REVOKED" in stack.command("relay", "tenants").stdout
            # What was in custody stays, what comes is taken into custody too, and everybody is told why it waits.
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in study]).values()) == {0}
            assert len(stack.queue()) == 1 + len(study)
            relay = stack.status("gateway-out")["relays"][0]
            assert "revoked" in relay["refused"] or "does not admit" in relay["refused"], relay
            assert "does not admit" in stack.log_text("gateway-out")
            told = stack.command("gateway-out", "why", large.sop_instance).stdout
            assert "does not admit" in told or "revoked" in told, told
            # Only the revoked one is out.
            assert stack.status("gateway-in")["relays"][0]["connected"] is True
            destination.thaw()
            stack.command("relay", "admit", str(stack.card("gateway-out")))
            stack.await_connected("gateway-out")
            stack.wait_settled(120)
            assert {arrival.sop_instance for arrival in destination.arrivals} == {
                large.sop_instance,
                *(one.sop_instance for one in study),
            }


def test_a_revoked_recipient_gets_nothing_more_and_its_sender_hears_why(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack:
            stack.command("relay", "revoke", "gateway-in")
            wait_until(
                "gateway-in to be out", lambda: not stack.status("gateway-in")["relays"][0]["connected"], SECONDS, stack.logs
            )
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
            time.sleep(2)
            assert destination.arrivals == []
            assert len(stack.queue()) == len(few)
            stack.command("relay", "admit", str(stack.card("gateway-in")))
            stack.await_connected("gateway-in")
            stack.wait_settled()
            assert {arrival.sop_instance for arrival in destination.arrivals} == {one.sop_instance for one in few}


def test_a_file_that_cannot_be_used_changes_nothing_on_any_role(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        with stack:
            for role in ("relay", "gateway-out", "gateway-in"):
                bad = stack.directory / "conf.d" / role / "bad.toml"
                bad.parent.mkdir(parents=True)
                bad.write_text("[nonsense\n")
                hang_up(stack, role)
                wait_until(
                    f"{role} to say that it refuses the file",
                    lambda role=role: (stack.status(role)["last_reload"] or {}).get("refused"),
                    20,
                    stack.logs,
                )
                assert "bad.toml:1:10" in stack.status(role)["last_reload"]["refused"]
                assert "bad.toml:1:10" in stack.log_text(role)
                bad.unlink()
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
            stack.wait_settled()
            assert len(destination.arrivals) == len(few)


def test_a_route_that_gateway_in_drops_is_over_at_once_and_comes_back(make_stack, few, tmp_path):
    """The sender is revoked at the receiver: its sessions and prekeys are gone, nothing of it is opened any more."""
    more = generate.study(tmp_path / "m", 5, seed=33, side=64)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
            stack.wait_settled()
            before = stack.config("gateway-in").read_text()
            with stack.edit("gateway-in") as receiving:
                receiving.remove("peer")
                receiving.remove("route")
            hang_up(stack, "gateway-in")
            wait_until("the reload", lambda: stack.status("gateway-in")["last_reload"], 20, stack.logs)
            assert stack.status("gateway-in")["last_reload"]["refused"] is None
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in more]).values()) == {0}
            time.sleep(2)
            assert len(destination.arrivals) == len(few)
            assert len(stack.queue()) == len(more)
            stack.config("gateway-in").write_text(before)
            hang_up(stack, "gateway-in")
            stack.wait_settled()
            wanted = {one.sop_instance for one in [*few, *more]}
            assert {arrival.sop_instance for arrival in destination.arrivals} == wanted


def test_gateway_out_takes_over_a_new_route_and_drops_an_old_one(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        with stack:
            with stack.edit("gateway-out") as sending:
                route = tomlkit.table()
                route.update({**sending["route"][0].unwrap(), "ae": "RENAMED"})
                sending["route"][0] = route
            hang_up(stack, "gateway-out")
            wait_until("the reload", lambda: stack.status("gateway-out")["last_reload"], 20, stack.logs)
            assert set(senders.storescu(stack.listen, "RENAMED", [one.path for one in few]).values()) == {0}
            stack.wait_settled()
            assert len(destination.arrivals) == len(few)
