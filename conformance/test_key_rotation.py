"""Keys of all three roles are exchanged while instances pass: nobody loses or doubles one, what was signed stays proven, and
whoever does not take a new card is told what to do.

Overlaps are seconds here and weeks in a hospital; nothing else differs.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tomlkit

import verify_receipt
from harness import generate, senders
from harness.binaries import binary
from harness.committing import Committer, ask_destination
from harness.destinations import Storescp, program, wait_for_arrivals
from harness.processes import run, wait_until
from harness.rawul import Acceptor
from harness.stack import ROLES, delivery_id

GATEWAYS = ("gateway-out", "gateway-in")


def pins_of_their_own(stack) -> None:
    """Each role keeps the cards that it has pinned in a folder of its own, as on machines of their own."""
    for role in ROLES:
        folder = stack.directory / "pins" / role
        folder.mkdir(parents=True)
        with stack.edit(role) as config:
            for table in [*config.get("peer", []), *config.get("relay", []), *config.get("tenant", [])]:
                pinned = stack.directory / str(table["card"])
                table["card"] = str(shutil.copy(pinned, folder / f"{table['name']}.card"))


def own_card(stack, role: str) -> Path:
    return stack.directory / str(tomlkit.parse(stack.config(role).read_text())["identity"]["card"])


def key_file(stack, role: str) -> Path:
    return stack.directory / str(tomlkit.parse(stack.config(role).read_text())["identity"]["key"])


def beside(stack, role: str) -> list[str]:
    """What a rotation has put beside the keys and the card of a role, by name."""
    folders = {key_file(stack, role).parent, own_card(stack, role).parent}
    return sorted(path.name for folder in folders for path in folder.iterdir() if role in path.name and ".next" in path.name)


def rotate(stack, role: str, overlap: str, *words: str) -> Path:
    """Begins a rotation; gives the new card."""
    said = stack.command(role, "key", "rotate", "--overlap", overlap, *words).stdout
    assert "vouched for by" in said and "count until" in said, said
    card = stack.directory / f"new-{role}.card"
    card.write_text(stack.command(role, "key", "show").stdout)
    return card


def take(stack, role: str, card: Path, *words: str, check: bool = True):
    """A role takes another's card."""
    command = ["admit"] if role == "relay" else ["peer", "update"]
    return stack.command(role, *command, str(card), *words, check=check)


def hand_out(stack, role: str, card: Path) -> None:
    for other in ROLES:
        if other != role:
            take(stack, other, card)


def send(stack, instances) -> None:
    assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in instances]).values()) == {0}


def fingerprints(stack) -> dict[str, str]:
    return {role: stack.status(role)["fingerprint"] for role in ROLES}


def both_verifiers(stack, path: Path, receiver: Path, sender: Path, relay: Path) -> bool:
    """What both verifiers say of a receipt file; they have to agree."""
    cards = ["--peer", receiver, "--sender", sender, "--relay", relay]
    ours = run([binary("gateway-out"), "receipt", "verify", path, *cards], 60, check=False)
    theirs = subprocess.run(
        [str(word) for word in [sys.executable, "-I", verify_receipt.__file__, path, *cards]], capture_output=True, text=True, timeout=60
    )
    said = f"{path.name}: {ours.stdout}{ours.stderr}{theirs.stdout}{theirs.stderr}"
    assert ours.returncode in (0, 1) and ours.returncode == theirs.returncode, said
    return ours.returncode == 0


def test_all_keys_are_rotated_under_way_and_everything_stays_proven(make_stack, tmp_path):
    batches = [generate.study(tmp_path / f"s{n}", 10, seed=200 + n, side=64) for n in range(7)]
    with Storescp(tmp_path / "archive") as destination:
        stack = make_stack(to=destination.address)
        pins_of_their_own(stack)
        stack.quick_retries()
        with stack.edit("relay") as relay:
            relay["transparency"] = {"dir": "log"}
        old = {role: tmp_path / f"old-{role}.card" for role in ROLES}
        for role in ROLES:
            shutil.copy(own_card(stack, role), old[role])
        with stack:
            before = fingerprints(stack)
            send(stack, batches[0])
            stack.wait_settled()
            early = {delivery_id(one) for one in stack.receipts()}
            assert len(early) == len(batches[0])

            failed: list[BaseException] = []

            def flow() -> None:
                try:
                    for batch in batches[1:6]:
                        send(stack, batch)
                        time.sleep(4)
                except BaseException as error:  # said by the test itself
                    failed.append(error)

            sending = threading.Thread(target=flow)
            sending.start()
            began = time.monotonic()
            new = {role: rotate(stack, role, "24s") for role in ROLES}
            for role in ROLES:
                hand_out(stack, role, new[role])
            assert time.monotonic() - began < 12, "too slow for its own overlap"
            assert fingerprints(stack) == before, "the earlier keys are used until half of the overlap"
            assert "gateway disconnected" not in stack.log_text("relay"), "a successor's card closes no connection"
            for role in ROLES:
                assert any("rotated" in alarm for alarm in stack.status(role)["alarms"]), stack.status(role)["alarms"]

            def switched() -> bool:
                now = fingerprints(stack)
                return all(now[role] != before[role] for role in ROLES)

            wait_until("the switch of all three", switched, 30, stack.logs)
            print(f"switched {time.monotonic() - began:.1f} s after the first rotation, of 24 s")
            sending.join(120)
            assert not failed, failed
            # Until the earlier keys are over everywhere, and then some more.
            time.sleep(max(0.0, 30 - (time.monotonic() - began)))
            send(stack, batches[6])
            stack.wait_settled(120)
            everything = [one for batch in batches for one in batch]
            wait_for_arrivals(destination, everything, 20, stack.logs)
            assert len(destination.arrived()) == len(everything)
            receipts = stack.receipts()
            assert len(receipts) == len(everything)
            assert {len(stack.why(one.sop_instance)) for one in everything} == {1}, "none is doubled"
            wait_until(
                "a place in the log for all",
                lambda: all(one["logged"] for one in stack.receipts()) and all(one["countersigned"] for one in stack.receipts("gateway-in")),
                60,
                stack.logs,
            )
            last = {delivery_id(one) for one in stack.receipts()[-len(batches[6]) :]}
            files = {delivery_id(one): stack.receipt_file(delivery_id(one)) for one in stack.receipts()}
            news, olds = [[cards[role] for role in ("gateway-in", "gateway-out", "relay")] for cards in (new, old)]
            for path in files.values():
                assert both_verifiers(stack, path, *news), path
            for delivery in early:
                assert both_verifiers(stack, files[delivery], *olds), "what the earlier keys signed stays proven by the earlier cards"
            for delivery in last:
                assert not both_verifiers(stack, files[delivery], *olds), "the earlier cards know nothing of the new keys"
            # Finished, killed and started: the new keys only.
            for role in ROLES:
                assert "removed" in stack.command(role, "key", "rotate", "--finish").stdout
                assert beside(stack, role) == []
            for role in ROLES:
                stack[role].kill()
            stack.start()
            more = generate.study(tmp_path / "more", 5, seed=250, side=64)
            send(stack, more)
            stack.wait_settled(60)
            wait_for_arrivals(destination, [*everything, *more], 20, stack.logs)
            assert len(destination.arrived()) == len(everything) + len(more)
            assert not any("rotated" in alarm for role in ROLES for alarm in stack.status(role)["alarms"])


def killed(stack, role: str, call: str, number: int, *words: str) -> bool:
    """Runs `key rotate` and kills it at its n-th system call of that name. False where it had fewer."""
    command = [program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    done = run([*command, binary(role), "key", "rotate", *words, "--config", stack.config(role)], 60, check=False)
    assert done.returncode in (0, -9, 137), done.stdout + done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("role", ROLES)
def test_a_rotation_killed_at_any_step_leaves_a_daemon_that_starts(make_stack, role):
    stack = make_stack(folder=None)
    at = 0
    committed = False
    while killed(stack, role, "fsync", at + 1, "--overlap", "1h"):
        at += 1
        card = own_card(stack, role)
        committed = card.with_name(card.name + ".next").exists()
        assert stack.command(role, "check").returncode == 0, f"killed at fsync {at}"
        if at == 3:
            stack.start(role)
            stack[role].kill()
        if committed:
            break
    assert at >= 4 and committed, f"{at} steps"
    # The card was there: the rotation counts, and its keys are whole.
    again = stack.command(role, "key", "rotate", check=False)
    assert again.returncode == 1 and "under way" in again.stderr, again.stderr
    assert len([name for name in beside(stack, role) if name.endswith(".next")]) == 3
    switched = stack.command(role, "key", "rotate", "--switch").stdout
    assert "from now on" in switched, switched
    stack.start(role)
    new = stack.status(role)["fingerprint"]
    stack[role].stop()
    assert new == shown(stack, role)


def shown(stack, role: str) -> str:
    """The fingerprint as the role's status shows it."""
    said = stack.command(role, "key", "fingerprint").stdout
    digits = next(word for word in said.split() if word.count("-") == 7)
    return digits if role != "relay" else full_fingerprint(stack, role)


def full_fingerprint(stack, role: str) -> str:
    path = stack.directory / "shown.card"
    path.write_text(stack.command(role, "key", "show").stdout)
    return verify_receipt.Card(path).identities[0].fingerprint.hex()


@pytest.mark.parametrize("step", (1, 2, 3))
def test_a_rotation_killed_while_it_is_finished_is_finished_later(make_stack, step):
    role = "gateway-out"
    stack = make_stack(folder=None)
    new = rotate(stack, role, "1s", "--switch")
    early = stack.command(role, "key", "rotate", "--finish", check=False)
    assert early.returncode in (0, 1)
    if early.returncode == 1:
        assert "count until" in early.stderr, early.stderr
        time.sleep(1.2)
        assert killed(stack, role, "rename", step, "--finish")
        assert stack.command(role, "check").returncode == 0, f"killed at rename {step}"
        stack.start(role)
        stack[role].stop()
        stack.command(role, "key", "rotate", "--finish", check=False)
    assert beside(stack, role) == []
    assert own_card(stack, role).read_text() == new.read_text()
    nothing = stack.command(role, "key", "rotate", "--finish", check=False)
    assert nothing.returncode == 1 and "no rotation is under way" in nothing.stderr, nothing.stderr


def forged(card: Path) -> str:
    """The card with another endorsement: its last signature is what the earlier keys have signed."""
    mark, name, text = card.read_text().strip().split(":")
    body = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    body[-20] ^= 1
    return f"{mark}:{name}:{base64.urlsafe_b64encode(bytes(body)).decode().rstrip('=')}\n"


def test_no_card_is_taken_that_the_pinned_one_does_not_vouch_for(make_stack, few, tmp_path):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        pins_of_their_own(stack)
        with stack:
            genuine = rotate(stack, "gateway-out", "1h")
            bad = tmp_path / "forged.card"
            bad.write_text(forged(genuine))
            # Somebody else who calls himself the same.
            thief = tmp_path / "thief"
            thief.mkdir()
            made = run([binary("gateway-out"), "init", "--name", "gateway-out", "--config", thief / "gateway-out.toml"], 60).stdout
            [words] = [line.split(maxsplit=2)[2] for line in made.splitlines() if line.startswith("in words")]
            stranger = thief / "gateway-out.card"
            pinned = {role: (stack.directory / "pins" / role / "gateway-out.card") for role in ("relay", "gateway-in")}
            kept = {role: path.read_text() for role, path in pinned.items()}
            for role in pinned:
                for card, reason in ((bad, "endorsed"), (stranger, "do not vouch")):
                    refused = take(stack, role, card, check=False)
                    assert refused.returncode == 1 and reason in refused.stderr, refused.stderr
                    assert pinned[role].read_text() == kept[role]
                # Of a peer that is not pinned at all.
                if role == "gateway-in":
                    other = take(stack, role, own_card(stack, role), check=False)
                    assert other.returncode == 1 and "no [[peer]] or [[relay]]" in other.stderr, other.stderr
                said = take(stack, role, stranger, check=False).stderr
                assert words in said and "--replace" in said, said
                take(stack, role, genuine)
                assert pinned[role].read_text() == genuine.read_text()
                older = tmp_path / "older.card"
                older.write_text(kept[role])
                back = take(stack, role, older, check=False)
                assert back.returncode == 1, back.stdout
            send(stack, few)
            stack.wait_settled()
            assert len(destination.arrivals) == len(few)
            # An operator's decision all the same: the sender that is pinned now is another one.
            take(stack, "gateway-in", stranger, "--replace")
            assert pinned["gateway-in"].read_text() == stranger.read_text()


def test_whoever_does_not_take_a_card_works_until_the_switch_and_is_told_the_remedy(make_stack, tmp_path):
    batches = [generate.study(tmp_path / f"s{n}", 4, seed=300 + n, side=64) for n in range(4)]
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        pins_of_their_own(stack)
        stack.quick_retries()
        with stack:
            card = rotate(stack, "gateway-out", "12s")
            take(stack, "relay", card)
            send(stack, batches[0])
            stack.wait_settled()
            assert len(destination.arrivals) == 4, "gateway-in has not taken the card, and need not yet"
            before = fingerprints(stack)["gateway-out"]
            wait_until("the switch", lambda: fingerprints(stack)["gateway-out"] != before, 20, stack.logs)
            send(stack, batches[1])
            wait_until(
                "the remedy in the sender's log",
                lambda: "gateway-in peer update CARD" in stack.log_text("gateway-out"),
                30,
                stack.logs,
            )
            assert len(destination.arrivals) == 4 and len(stack.queue()) == 4
            take(stack, "gateway-in", card)
            stack.wait_settled(60)
            assert len(destination.arrivals) == 8

            # The relay's: gateways that have not taken it do not speak to it after the switch.
            card = rotate(stack, "relay", "2s", "--switch")
            stack["relay"].kill()
            stack["relay"].launch()
            stack["relay"].await_ready()
            for role in GATEWAYS:
                wait_until(
                    f"{role} to say what to do",
                    lambda role=role: "peer update CARD" in (stack.status(role)["relays"][0]["refused"] or ""),
                    # Well below the 30 s after which silence ends a link: the relay's next run can still tell them.
                    15,
                    stack.logs,
                )
            send(stack, batches[2])
            assert len(stack.queue()) == 4
            time.sleep(2)
            for role in GATEWAYS:
                # Also after the end of the earlier keys: they have vouched for it while they were good.
                take(stack, role, card)
                stack.await_connected(role)
            stack.wait_settled(60)
            assert len(destination.arrivals) == 12

            # And a gateway whose card the relay has not taken.
            card = rotate(stack, "gateway-in", "1h", "--switch")
            take(stack, "gateway-out", card)
            wait_until(
                "gateway-in to say what to do",
                lambda: "relay admit CARD" in (stack.status("gateway-in")["relays"][0]["refused"] or ""),
                60,
                stack.logs,
            )
            send(stack, batches[3])
            take(stack, "relay", card)
            stack.await_connected("gateway-in")
            stack.wait_settled(60)
            assert len(destination.arrivals) == 16


def test_keys_that_were_rotated_open_nothing_after_their_end(make_stack, few, tmp_path):
    """Whoever has stolen them is in until then, where the far side has taken the card, and out after it."""
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        pins_of_their_own(stack)
        stack.quick_retries()
        stolen = {}
        for path in (stack.directory / "keys").iterdir():
            stolen[path] = path.read_bytes()
        stolen[own_card(stack, "gateway-out")] = own_card(stack, "gateway-out").read_bytes()
        with stack:
            card = rotate(stack, "gateway-out", "14s", "--switch")
            began = time.monotonic()
            hand_out(stack, "gateway-out", card)
            send(stack, few)
            stack.wait_settled()
            # The thief: the same configuration with the earlier keys. While they count, he is the peer.
            stack["gateway-out"].stop()
            for name in beside(stack, "gateway-out"):
                for folder in (stack.directory, stack.directory / "keys"):
                    (folder / name).unlink(missing_ok=True)
            for path, content in stolen.items():
                path.write_bytes(content)
            stack.start("gateway-out")
            assert time.monotonic() - began < 14, "too slow for its own overlap"
            assert stack.status("gateway-out")["relays"][0]["connected"] is True
            wait_until(
                "the relay to close the connection that the earlier key made",
                lambda: stack.status("gateway-out")["relays"][0]["connected"] is False,
                20,
                stack.logs,
                pause=0.2,
            )
            took = time.monotonic() - began
            print(f"a connection of keys that ended after 14 s was closed after {took:.1f} s")
            wait_until(
                "the refusal", lambda: "does not admit" in (stack.status("gateway-out")["relays"][0]["refused"] or ""), 30, stack.logs
            )
            assert len(destination.arrivals) == len(few)


def test_receipts_that_were_not_acknowledged_are_signed_anew(make_stack, few):
    """The sender was away when the receiver's keys were rotated, and comes back when the earlier ones are over."""
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        pins_of_their_own(stack)
        stack.quick_retries()
        with stack:
            destination.freeze()
            send(stack, few)
            wait_until("all of them at the relay", lambda: stack.status("relay")["counters"]["deposited"] == len(few), 30, stack.logs)
            stack["gateway-out"].kill()
            destination.thaw()
            wait_until("the answers", lambda: stack.status("gateway-in")["ledger"]["stored"] == len(few), 30, stack.logs)
            card = rotate(stack, "gateway-in", "3s", "--switch")
            take(stack, "relay", card)
            take(stack, "gateway-out", card)
            stack.await_connected("gateway-in")
            time.sleep(3.5)
            # The relay forgets what it has of the earlier signatures, too.
            stack.restart("relay")
            stack.start("gateway-out")
            stack.wait_settled(60)
            assert len(destination.arrivals) == len(few), "stored once"
            new = stack.directory / "new-gateway-in.card"
            for one in stack.receipts():
                checked = stack.verify_receipt(stack.receipt_file(delivery_id(one)), new)
                assert checked.returncode == 0, checked.stdout + checked.stderr


def test_second_receipts_that_were_not_acknowledged_are_signed_anew(make_stack, few):
    """As above, where the destination had committed while the sender was away."""
    with Committer() as destination:
        stack = make_stack(to=destination.address)
        pins_of_their_own(stack)
        stack.quick_retries()
        destination.report_port = ask_destination(stack)
        with stack:
            send(stack, few)
            stack.wait_settled()
            wait_until("the question", lambda: destination.asked, 20, stack.logs)
            stack["gateway-out"].kill()
            destination.gate.set()
            wait_until("second receipts", lambda: stack.status("gateway-in")["commitment"] == {"signed": len(few)}, 30, stack.logs)
            card = rotate(stack, "gateway-in", "3s", "--switch")
            take(stack, "relay", card)
            take(stack, "gateway-out", card)
            stack.await_connected("gateway-in")
            time.sleep(3.5)
            stack.restart("relay")
            stack.start("gateway-out")
            wait_until("acknowledgements", lambda: stack.status("gateway-in")["commitment"] == {}, 30, stack.logs)
            levels = sorted(receipt["level"] for receipt in stack.receipts())
            assert levels == [1] * len(few) + [2] * len(few)
            new = stack.directory / "new-gateway-in.card"
            for one in few:
                [row] = stack.why(one.sop_instance)
                checked = stack.verify_receipt(stack.receipt_file(delivery_id(row)), new)
                assert checked.returncode == 0 and "2 (the destination committed)" in checked.stdout, checked.stdout + checked.stderr


def test_the_relays_metrics_say_when_cards_end(make_stack, few):
    stack = make_stack(folder=None)
    with stack:
        import urllib.request

        port = stack._admin_ports["relay"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        ends = [line for line in text.splitlines() if line.startswith("sluis_relay_card_end_timestamp_seconds{")]
        assert {line.split('"')[1] for line in ends} == {"relay", *GATEWAYS}, text
        year = 365 * 24 * 3600
        assert all(time.time() + year < int(line.split()[1]) < time.time() + 3 * year for line in ends), ends
