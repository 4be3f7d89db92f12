"""What the two gateways do together about a relay's log: a split view, a relay that keeps silent, proofs that never came."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import tomlkit

from harness import generate, senders
from harness.processes import HOST, Daemon, free_ports, run, wait_until
from harness.rawul import Acceptor
from harness.stack import Stack, binary

GATEWAYS = ("gateway-in", "gateway-out")
STORES = {"gateway-out": "outbox", "gateway-in": "ledger"}


def quick(stack: Stack, resubmit_after: str = "1s", **table: str) -> None:
    for role in GATEWAYS:
        with stack.edit(role) as gateway:
            gateway["transparency"] = {"resubmit_after": resubmit_after, **table}


def send(stack: Stack, instances) -> None:
    assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in instances]).values()) == {0}
    stack.wait_settled()


def log_of(stack: Stack, role: str, relay: str = "relay") -> dict:
    return next(one["log"] for one in stack.status(role)["relays"] if one["name"] == relay)


def store(stack: Stack, role: str) -> Path:
    return stack.directory / STORES[role] / "index.db"


def forget_proofs(stack: Stack, *roles: str) -> None:
    """As if no proof had ever come; the gateways are stopped."""
    for role in roles:
        with closing(sqlite3.connect(store(stack, role))) as connection, connection:
            assert connection.execute("DELETE FROM logged").rowcount > 0, role


def test_each_gateway_asks_for_the_proof_that_never_came(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        quick(stack)
        with stack:
            send(stack, few)
            for role in GATEWAYS:
                stack.wait_logged(role, len(few))
            # One alone, then the other alone: neither needs the other to ask.
            for role in GATEWAYS:
                other = next(one for one in GATEWAYS if one != role)
                stack[role].stop()
                stack[other].stop()
                forget_proofs(stack, role)
                before = stack.status("relay")["log"]["size"]
                stack.start(role)
                stack.wait_logged(role, len(few))
                wait_until("the settlements to be logged again", lambda: stack.status("relay")["log"]["size"] >= before + len(few), 10, stack.logs)
                stack.start(other)
            # After a relay that began another log, too: these proofs lead there.
            stack.stop()
            forget_proofs(stack, *GATEWAYS)
            stack.start()
            for role in GATEWAYS:
                stack.wait_logged(role, len(few))
            file = stack.receipt_file(stack.receipts()[0]["id"])
            assert stack.status("relay")["log"]["origin"] in file.read_text()
            cards = ["--peer", stack.card("gateway-in"), "--sender", stack.card("gateway-out"), "--relay", stack.card("relay")]
            checked = run([binary("gateway-out"), "receipt", "verify", file, *cards], 60)
            assert checked.stdout.endswith("genuine\n"), checked.stdout
    assert len(destination.arrivals) == len(few)


def test_a_relay_that_shows_no_new_head_is_alarmed_and_ends_nothing(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        quick(stack, silent_after="5s")
        with stack.edit("relay") as relay:
            relay["transparency"] = {"interval": "1h"}
        with stack:
            assert [log_of(stack, role)["silent_since"] for role in GATEWAYS] == [None, None]
            send(stack, few)
            for role in GATEWAYS:
                wait_until(f"the alarm of {role}", lambda role=role: log_of(stack, role)["silent_since"], 60, stack.logs, 0.2)
                assert any("shows no new head of its log since" in alarm for alarm in stack.status(role)["alarms"])
                wait_until("a line", lambda role=role: "shows no new head of its log" in stack.log_text(role), 5, stack.logs)
                assert "WARN" in next(line for line in stack.log_text(role).splitlines() if "shows no new head" in line)
                assert stack.answers(role, "/readyz")
            # Nothing ends: instances go on.
            send(stack, few[:1])
            with stack.edit("relay") as relay:
                relay["transparency"] = {"interval": "100ms"}
            stack.restart("relay")
            for role in GATEWAYS:
                wait_until(f"the alarm of {role} to end", lambda role=role: not log_of(stack, role)["silent_since"], 30, stack.logs, 0.2)


def twin(stack: Stack, log: Path) -> tuple[Daemon, int]:
    """The same relay, with the same keys, elsewhere and with a log of its own."""
    port, admin = free_ports(), free_ports()
    document = tomlkit.parse(stack.config("relay").read_text())
    document["quic"]["listen"], document["admin"]["listen"] = f"{HOST}:{port}", f"{HOST}:{admin}"
    document["transparency"]["dir"] = str(log)
    config = stack.directory / "twin.toml"
    config.write_text(tomlkit.dumps(document))
    command = [binary("relay"), "run", "--config", config]
    return Daemon("twin", command, stack.directory / "twin.log", None, {"RUST_LOG": "info"}, piped=True), port


def test_two_gateways_that_are_shown_two_logs_find_out_and_stop_using_the_relay(make_stack, tmp_path):
    """The relay runs twice from one state: each gateway is shown another continuation of one log. What they tell each other on the
    way of an instance gives it away."""
    study = generate.study(tmp_path / "study", 6, seed=51, side=64)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        # Long enough for each proof to come before it is asked for twice: the halves must have the same size.
        quick(stack, resubmit_after="5s")
        stack.quick_retries()
        log = stack.directory / "relay-log"
        with stack.edit("relay") as relay:
            relay["transparency"] = {"dir": str(log), "interval": "50ms"}
        with stack:
            send(stack, study[:5])
            for role in GATEWAYS:
                stack.wait_logged(role, 5)
            known = stack.status("relay")["log"]["size"]
        shutil.copytree(log, stack.directory / "twin-log")
        forget_proofs(stack, *GATEWAYS)
        liar, port = twin(stack, stack.directory / "twin-log")
        honest = stack.add_relay("relay-2")
        with stack.edit("gateway-in") as gateway:
            gateway["relay"][0]["address"] = f"{HOST}:{port}"
        with stack.edit("gateway-out") as gateway:
            # Instances take the honest one.
            tables = [table.unwrap() for table in gateway["relay"]]
            gateway["relay"] = tomlkit.aot()
            for table in reversed(tables):
                gateway["relay"].append(tomlkit.item(table))
        liar.launch()
        try:
            for role in ("relay", *GATEWAYS):
                stack[role].launch()
            # Each submits its five settlements again, to its own half: two logs of the same size, with other entries.
            for role in GATEWAYS:
                stack.wait_logged(role, 5)
            heads = [wait_until(f"{role} to believe a head", lambda role=role: (log_of(stack, role)["head"] or {}).get("size") == known + 5 and log_of(stack, role)["head"], 20, stack.logs) for role in GATEWAYS]
            assert heads[0]["origin"] == heads[1]["origin"] and heads[0]["root"] != heads[1]["root"]
            assert [log_of(stack, role)["distrust"] for role in GATEWAYS] == [None, None]
            honest.start()
            for role in GATEWAYS:
                stack.await_connected(role)
            send(stack, study[5:])
            for role in GATEWAYS:
                distrust = wait_until(f"{role} to find out", lambda role=role: log_of(stack, role)["distrust"], 60, stack.logs, 0.2)
                assert "showed another gateway another log" in distrust, distrust
                assert "THIS RELAY IS NOT USED ANY MORE" in stack.log_text(role)
                assert not stack.answers(role, "/readyz")
                assert log_of(stack, role, "relay-2")["distrust"] is None
                said = stack.command(role, "relay", "trust", "relay", "--reason", "it was a test").stdout
                wait_until(f"{role} to use it again", lambda role=role: stack.answers(role, "/readyz"), 20, lambda said=said: said + stack.logs())
                assert "an operator has decided to use this relay again" in stack.log_text(role)
        finally:
            liar.stop()
            honest.stop()
    assert len(destination.arrivals) == 6


def test_instances_of_a_relay_that_is_not_trusted_any_more_take_another_way(make_stack, few, tmp_path):
    more = generate.study(tmp_path / "more", 5, seed=52, side=64)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        quick(stack)
        stack.quick_retries()
        log = stack.directory / "relay-log"
        with stack.edit("relay") as relay:
            relay["transparency"] = {"dir": str(log), "interval": "50ms"}
        with stack.edit("gateway-out") as sending:
            sending["retry"]["fail_over"] = "2s"
        second = stack.add_relay("relay-2")
        second.start()
        try:
            stack.start()
            backup = tmp_path / "backup"
            shutil.copytree(log, backup)
            send(stack, few)
            for role in GATEWAYS:
                wait_until("a head", lambda role=role: log_of(stack, role)["head"]["size"] >= 2 * len(few), 20, stack.logs)
            stack["relay"].kill()
            shutil.rmtree(log)
            shutil.copytree(backup, log)
            stack["relay"].launch()
            for role in GATEWAYS:
                wait_until(f"{role} to find out", lambda role=role: "rolled its log back" in (log_of(stack, role)["distrust"] or ""), 40, stack.logs, 0.2)
            send(stack, more)
            assert len(destination.arrivals) == len(few) + len(more)
            wait_until("a head of the other relay: they went there", lambda: log_of(stack, "gateway-out", "relay-2")["head"]["size"] >= 2 * len(more), 10, stack.logs)
            assert json.loads(stack.command("gateway-out", "status", "--json").stdout)["relays"][0]["log"]["distrust"]
        finally:
            second.stop()
