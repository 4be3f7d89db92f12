"""Only pinned peers: a stranger's envelopes end at the relay, or at gateway-in with a reason, and never at a destination.

Replayed, truncated, bit-flipped and re-addressed envelopes need an attacker inside QUIC: the Rust tests of the crates have those.
"""

from __future__ import annotations

import os
from pathlib import Path

import tomlkit

from harness import senders
from harness.processes import run, wait_until
from harness.rawul import Acceptor
from harness.stack import Stack, binary


def impersonate(stranger: Stack, victim: Stack) -> Path:
    """The stranger's gateway-out, with an identity of its own, aims at the victim's relay, route and receiver; gives its card."""
    own = stranger.directory / "own" / "gateway-out.toml"
    own.parent.mkdir()
    run([binary("gateway-out"), "init", "--config", own, "--name", "stranger"])
    victims = tomlkit.parse(victim.config("gateway-out").read_text())
    with stranger.edit("gateway-out") as out:
        for item, file in (("key", "gateway-out"), ("log_key", "gateway-out-log")):
            out["identity"][item] = f"own/keys/{file}.key"
        out["identity"]["card"] = "own/stranger.card"
        out["relay"][0].update({**victims["relay"][0].unwrap(), "card": str(victim.card("relay"))})
        out["peer"][0].update({**victims["peer"][0].unwrap(), "card": str(victim.card("gateway-in"))})
        for key in ("id", "to", "destination"):
            out["route"][0][key] = victims["route"][0][key]
    return own.parent / "stranger.card"


def test_a_sender_that_the_relay_does_not_know(make_stack, few):
    with Acceptor() as destination:
        victim, stranger = make_stack("victim", to=destination.address), make_stack("stranger", to=destination.address)
        impersonate(stranger, victim)
        victim.start()
        stranger["gateway-out"].start()
        answers = senders.storescu(stranger.listen, stranger.ae, [one.path for one in few])
        assert set(answers.values()) <= {0, 0xA700}
        wait_until("the relay to log its refusal", lambda: refusal(victim.log_text("relay")), 20, victim.logs)
        # The real sender still works, and nothing of the stranger's is at the destination.
        assert set(senders.storescu(victim.listen, victim.ae, [few[0].path]).values()) == {0}
        victim.wait_settled()
        assert [arrival.sop_instance for arrival in destination.arrivals] == [few[0].sop_instance]
        assert stranger.receipts() == []


def test_a_sender_that_the_relay_admits_but_the_receiver_has_not_pinned(make_stack, few):
    with Acceptor() as destination:
        victim, stranger = make_stack("victim", to=destination.address), make_stack("stranger", to=destination.address)
        card = impersonate(stranger, victim)
        with victim.edit("relay") as relay:
            sender = next(tenant for tenant in relay["tenant"] if tenant.get("deposit_for"))
            added = tomlkit.table()
            added.update({**sender.unwrap(), "name": "stranger", "card": str(card)})
            relay["tenant"].append(added)
        with stranger.edit("gateway-out") as out:
            out["retry"] = {"first": "200ms", "max": "500ms", "nacks_max": 3}
        victim.start()
        stranger["gateway-out"].start()
        answers = senders.storescu(stranger.listen, stranger.ae, [one.path for one in few])
        assert set(answers.values()) == {0}
        wait_until("a reason in the log of gateway-in", lambda: refusal(victim.log_text("gateway-in")), 30, lambda: victim.logs() + stranger.logs())
        wait_until("the stranger to give up", lambda: "parked" in str(stranger.queue()), 30, stranger.logs)
        assert destination.arrivals == [] and destination.partial == [] and destination.attempts == {}
        assert stranger.receipts() == []
        assert set(senders.storescu(victim.listen, victim.ae, [few[0].path]).values()) == {0}
        victim.wait_settled()
        assert [arrival.sop_instance for arrival in destination.arrivals] == [few[0].sop_instance]


def test_a_relay_with_another_key_is_refused(make_stack, few):
    """The relay behind the address is not the pinned one: nothing is sent there, and everything waits."""
    with Acceptor() as destination:
        right, wrong = make_stack("right", to=destination.address), make_stack("wrong", to=destination.address)
        with wrong.edit("relay") as relay:
            relay["quic"]["listen"] = f"127.0.0.1:{right.relay_port}"
        wrong["relay"].start()
        right["gateway-out"].start()
        right["gateway-in"].start()
        assert set(senders.storescu(right.listen, right.ae, [one.path for one in few]).values()) == {0}
        wait_until("gateway-out to say why", lambda: refusal(right.log_text("gateway-out")), 20, right.logs)
        assert [relay["connected"] for relay in right.status("gateway-out")["relays"]] == [False]
        assert len(right.queue()) == len(few)
        wrong["relay"].stop()
        right["relay"].start()
        right.wait_settled()
        assert {arrival.sop_instance for arrival in destination.arrivals} == {one.sop_instance for one in few}


def test_keys_and_cards_are_not_readable_by_others(make_stack, tmp_path):
    stack = make_stack(folder=tmp_path / "in")
    for key in stack.directory.rglob("*.key"):
        assert os.stat(key).st_mode & 0o077 == 0, f"{key} can be read by others"


def refusal(text: str) -> bool:
    """A line that says who was refused, and why."""
    words = ("not pinned", "notpinned", "not admitted", "unknown peer", "invalid peer certificate", "is not the pinned", "does not match")
    return any(word in line.lower() for word in words for line in text.splitlines())
