"""What is owed stays owed: roles that are off, keys that do not fit, a second process, senders that give up half-way."""

from __future__ import annotations

import contextlib
import shutil

import pytest

from harness import generate, senders
from harness.processes import tail, wait_until
from harness.rawul import Acceptor, Closed, Requestor
from harness.stack import ROLES, one_receipt_each

CT = {1: (generate.CT_IMAGE, [generate.EXPLICIT])}


def arrived(destination: Acceptor) -> dict[str, str]:
    return {arrival.sop_instance: arrival.digest for arrival in destination.arrivals}


@pytest.mark.parametrize("absent", ["relay", "gateway-in"])
def test_what_is_accepted_waits_for_a_role_that_is_off(make_stack, few, absent):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        for role in ROLES:
            if role != absent:
                stack[role].start()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        # kill -9 of all that runs, twice: only the outbox remembers.
        for _ in range(2):
            stack["gateway-out"].kill()
            stack["gateway-out"].start()
        assert len(stack.queue()) == len(few) and destination.arrivals == []
        stack.start(absent)
        stack.wait_settled()
        assert arrived(destination) == {one.sop_instance: one.digest() for one in few}
        assert set(destination.attempts.values()) == {1}
        one_receipt_each(stack, few)


def test_a_relay_killed_with_bodies_in_memory(make_stack, small_study):
    """What the relay held is gone, and comes again from the outbox."""
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack:
            destination.freeze()
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study]).values()) == {0}
            stack.restart("relay")
            stack.restart("relay")
            destination.thaw()
            stack.wait_settled()
            assert arrived(destination) == {one.sop_instance: one.digest() for one in small_study}
            one_receipt_each(stack, small_study)


def test_an_outbox_with_another_key_is_refused_and_kept(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        out = stack["gateway-out"]
        out.start()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        out.stop()
        key, other = stack.directory / "keys" / "outbox.key", make_stack("other", to=destination.address).directory / "keys"
        saved = key.read_bytes()
        for wrong in (lambda: shutil.copyfile(other / "outbox.key", key), key.unlink):
            wrong()
            out.launch()
            wait_until("it to refuse the key", lambda: not out.alive(), 15, lambda: tail(out.log))
            assert out.stop() in (1, 64)
            assert "key" in tail(out.log, 3), tail(out.log, 3)
        assert not key.exists(), "a new key was made in silence"
        key.write_bytes(saved)
        key.chmod(0o600)
        stack.start()
        stack.wait_settled()
        assert arrived(destination) == {one.sop_instance: one.digest() for one in few}


@pytest.mark.parametrize("role", ["gateway-out", "gateway-in"])
def test_a_second_process_on_the_same_state_refuses_to_start(make_stack, few, role):
    """One active process per outbox and per ledger: else a key is used twice and repeats are not seen."""
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        second = make_stack("second", to=destination.address)
        # Its own ports, the first one's state and keys.
        with second.edit("gateway-out") as out:
            out["outbox"]["dir"] = str(stack.directory / "outbox")
            for table, key in (("identity", "key"), ("outbox", "key"), ("outbox", "index_key")):
                out[table][key] = str(stack.directory / str(out[table][key]))
        with second.edit("gateway-in") as receiving:
            receiving["ledger"]["dir"] = str(stack.directory / "ledger")
            receiving["identity"]["key"] = str(stack.directory / str(receiving["identity"]["key"]))
        second[role].launch()
        wait_until("the second one to end", lambda: not second[role].alive(), 15, lambda: tail(second[role].log))
        assert second[role].stop() in (1, 64)
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        stack.wait_settled()
        assert len(destination.arrivals) == len(few)


@pytest.mark.parametrize("ending", ["close", "abort", "mismatch", "truncated"])
@pytest.mark.proves("in/failure/incomplete")
def test_a_large_instance_that_is_not_accepted_never_ends_at_the_destination(make_stack, tmp_path, few, ending):
    """It streams through while it arrives; the last fragment does not leave before every check has passed."""
    large = generate.large(tmp_path / "large.dcm", 40 << 20, seed=61)
    data_set = large.data_set()
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        contexts = {1: (large.sop_class, [large.transfer_syntax])}
        link = Requestor(stack.listen, stack.ae, contexts)
        if ending == "mismatch":
            assert link.store(1, large.sop_class, "1.2.3.4", data_set) == 0xA900
            link.release()
        elif ending == "truncated":
            assert link.store(1, large.sop_class, large.sop_instance, data_set[:-2]) >> 12 == 0xC
            link.release()
        else:
            link.begin(1, large.sop_class, large.sop_instance)
            link.data(1, data_set[: 30 << 20], last=False)
            with contextlib.suppress(Closed, OSError):
                getattr(link, ending)()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        stack.wait_settled()
        wait_until("the few to arrive", lambda: len(destination.arrivals) >= len(few), 10, stack.logs)
        assert arrived(destination) == {one.sop_instance: one.digest() for one in few}
        assert stack.body_bytes() == 0, "the unfinished body was kept"
        # The same instance, whole, passes afterwards.
        assert senders.storescu(stack.listen, stack.ae, [large.path]) == {large.path: 0}
        stack.wait_settled()
        assert arrived(destination)[large.sop_instance] == large.digest()


def test_an_outbox_restored_from_an_older_copy_sends_nothing_twice(make_stack, few):
    """What it owes by its copy was stored long ago: the far side opens none of it, and counts each as a replay."""
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        stack.start("relay", "gateway-out")
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        stack["gateway-out"].stop()
        shutil.copytree(stack.directory / "outbox", stack.directory / "older")
        stack.start("gateway-out", "gateway-in")
        stack.wait_settled()
        stack["gateway-out"].stop()
        shutil.rmtree(stack.directory / "outbox")
        (stack.directory / "older").rename(stack.directory / "outbox")
        stack.start("gateway-out")
        replays = lambda: stack.status("gateway-in")["nacks"].get("replay", 0)  # noqa: E731
        wait_until("each of them to be turned away", lambda: replays() >= len(few), 60, stack.logs)
        parked = lambda: [row["state"] for row in stack.queue()] == ["parked"] * len(few)  # noqa: E731
        wait_until("all of them to be parked", parked, 120, stack.logs)
        assert arrived(destination) == {one.sop_instance: one.digest() for one in few}
        assert set(destination.attempts.values()) == {1}
